//! Logging in: a name and a password are changed for a token.

use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;

use eyrie_api::etcdserverpb::AuthenticateRequest;
use eyrie_api::etcdserverpb::auth_client::AuthClient;

use super::{CallError, Client, Repeat};

/// What a server says whose authentication is off; then no login is needed.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

/// Gets a token for the configured user, if one is configured and the server wants one.
pub(super) async fn token(client: &Client) -> Result<Option<AsciiMetadataValue>, CallError> {
    let Some((name, password)) =
        client.config.user.clone().filter(|(name, password)| !name.is_empty() && !password.is_empty())
    else {
        return Ok(None);
    };
    let deadline = Some(Instant::now() + client.config.dial_timeout);
    let request = AuthenticateRequest { name, password };
    let reply = client
        .call(deadline, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).authenticate(request).await
        })
        .await;
    match reply {
        Ok(reply) => AsciiMetadataValue::try_from(reply.token).map(Some).map_err(|_| {
            CallError::Local("the server's login token is not printable; check that the endpoint is etcd".into())
        }),
        Err(error) if error.message() == NOT_ENABLED => Ok(None),
        Err(error) => Err(error),
    }
}
