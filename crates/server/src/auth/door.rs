//! The door: every call of every service comes through here.

use http::{Extensions, HeaderMap};

use super::access::{Need, need};
use crate::errors::ServeError;
use crate::store::Store;

/// Lets a call in, or not. Returns the store handle that speaks for the caller; `None` while users are not enforced, or
/// where the call needs nobody.
///
/// # Errors
/// Why not.
pub(crate) async fn admit(
    store: &Store,
    path: &str,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Option<Store>, ServeError> {
    let need = need(path);
    if need == Need::Nothing || !store.read(|state| state.auth().enabled()) {
        return Ok(None);
    }
    let credentials = store.shared().guard.credentials(store, headers, extensions).await;
    let caller = store.speaking_for(credentials);
    match need {
        Need::Nothing | Need::EachMessage => {}
        Need::Known => {
            caller.read(|state| state.auth().grant(&caller.author(state)?).map(drop).map_err(ServeError::from))?
        }
        Need::Root => caller.read(|state| Ok::<_, ServeError>(state.auth().grant(&caller.author(state)?)?.root()?))?,
    }
    Ok(Some(caller))
}
