//! Reads requests: what a client asks a watch stream for, checked, in etcd's order of checks.

use bytes::Bytes;
use eyrie_api::pb;
use eyrie_state::watch::{Filters, Interest};
use eyrie_state::{KeyRange, Revision};

use crate::convert;

/// A watcher to create.
#[derive(Debug)]
pub(super) struct Create {
    pub(super) interest: Interest,
    /// The first revision to see; `None` for the next one.
    pub(super) start: Option<Revision>,
    /// The id the client chose; `None` leaves it to the stream.
    pub(super) watch_id: Option<i64>,
    pub(super) progress_notify: bool,
    pub(super) fragment: bool,
}

/// etcd's words for a watcher that cannot be.
pub(super) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
pub(super) const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
pub(super) const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// The keys that a create request is about: these, and no others, are asked about and watched.
pub(super) fn keys(request: &pb::WatchCreateRequest) -> KeyRange {
    // An empty key stands for the smallest one.
    let key = if request.key.is_empty() { Bytes::from_static(&[0]) } else { request.key.clone() };
    convert::key_range(key, request.range_end.clone())
}

/// Reads a create request.
///
/// # Errors
/// The cancel reason.
pub(super) fn create(request: pb::WatchCreateRequest) -> Result<Create, &'static str> {
    if request.start_revision < 0 {
        return Err(COMPACTED);
    }
    let mut filters = Filters::default();
    for filter in &request.filters {
        match pb::watch_create_request::FilterType::try_from(*filter) {
            Ok(pb::watch_create_request::FilterType::Noput) => filters.no_put = true,
            Ok(pb::watch_create_request::FilterType::Nodelete) => filters.no_delete = true,
            Err(_) => {}
        }
    }
    Ok(Create {
        interest: Interest::new(keys(&request), filters, request.prev_kv).map_err(|_| EMPTY_RANGE)?,
        start: (request.start_revision > 0).then_some(Revision(request.start_revision)),
        watch_id: (request.watch_id != 0).then_some(request.watch_id),
        progress_notify: request.progress_notify,
        fragment: request.fragment,
    })
}
