//! What watching reads of the store: history, and what the state is now.

use bytes::Bytes;
use eyrie_api::pb;
use eyrie_state::{KeyRange, KeyValue, Range, RangePlan, Records, Revision, TableFault};
use tonic::Status;

use super::limits::LOOKUPS_PER_LOCK_MAX;
use crate::store::Store;

/// The store at one moment.
#[derive(Debug)]
pub struct View<R> {
    /// Its revision.
    pub revision: Revision,
    /// History before this revision is gone; 0 when nothing is.
    pub compacted: Revision,
    /// Reads history up to `revision`, and stays readable.
    pub records: R,
}

/// A store that can be watched.
pub trait Source: Clone + Send + Sync + Unpin + 'static {
    /// How history is read.
    type Records: Records;

    /// The store now. All that was published is in it.
    fn view(&self) -> View<Self::Records>;

    /// The store's revision now.
    fn revision(&self) -> Revision;

    /// For each key and revision the pair just before that revision; `None` where there was none, or where it is
    /// compacted.
    ///
    /// # Errors
    /// [`TableFault`] when a record is damaged.
    fn before(&self, wanted: &[(Bytes, Revision)]) -> Result<Vec<Option<KeyValue>>, TableFault>;

    /// Whether these keys may be watched by whoever has the stream, now.
    ///
    /// # Errors
    /// Why not, as clients are told.
    fn permit(&self, keys: &KeyRange) -> Result<(), Status>;

    /// The head of an answer.
    fn header(&self, revision: Revision) -> pb::ResponseHeader;
}

impl Source for Store {
    type Records = <eyrie_disk::tables::RedbTables as eyrie_state::Tables>::Records;

    fn view(&self) -> View<Self::Records> {
        self.read(|state| View {
            revision: state.revision(),
            compacted: state.compacted().unwrap_or_default(),
            records: state.records(),
        })
    }

    fn revision(&self) -> Revision {
        Store::revision(self)
    }

    fn before(&self, wanted: &[(Bytes, Revision)]) -> Result<Vec<Option<KeyValue>>, TableFault> {
        before(wanted, |ranges| self.read(|state| ranges.iter().map(|range| state.plan_range(range).ok()).collect()))
    }

    fn permit(&self, keys: &KeyRange) -> Result<(), Status> {
        Ok(self.read(|state| self.permit_read(state, keys))?)
    }

    fn header(&self, revision: Revision) -> pb::ResponseHeader {
        Store::header(self, revision)
    }
}

/// Looks up the pairs before these changes: plans under the state's lock, a few at a time, and reads outside.
pub(super) fn before<R: Records>(
    wanted: &[(Bytes, Revision)],
    plan: impl Fn(&[Range]) -> Vec<Option<RangePlan<R>>>,
) -> Result<Vec<Option<KeyValue>>, TableFault> {
    let mut found = Vec::with_capacity(wanted.len());
    for some in wanted.chunks(LOOKUPS_PER_LOCK_MAX) {
        let ranges: Vec<_> = some.iter().map(|(key, revision)| one_before(key, *revision)).collect();
        for plan in plan(&ranges) {
            found.push(match plan {
                Some(plan) => plan.run()?.kvs.pop(),
                None => None,
            });
        }
    }
    Ok(found)
}

fn one_before(key: &Bytes, revision: Revision) -> Range {
    Range { revision: Some(Revision(revision.0 - 1)), ..Range::one(key.clone()) }
}
