//! What an export reads: one consistent view of all buckets.

use eyrie_state::{Bucket, LogIndex, Position, TableFault, Term};

use crate::bbolt::Extent;

/// A view of all tables as of one moment. Writes that come later are not in it.
pub trait Source {
    /// Number and bytes of the records of bucket `key`, counted as etcd stores them (its position key and the record's
    /// bytes). May be more than there is, never less; must be cheap compared to reading the records.
    ///
    /// # Errors
    /// [`TableFault`] when damaged.
    fn history_extent(&self) -> Result<Extent, TableFault>;

    /// Visits all records in order, until `visit` says `false`.
    ///
    /// # Errors
    /// [`TableFault`] when damaged.
    fn history(&self, visit: &mut dyn FnMut(Position, bool, &[u8]) -> bool) -> Result<(), TableFault>;

    /// Visits a small bucket in key order.
    ///
    /// # Errors
    /// [`TableFault`] when damaged.
    fn small(&self, bucket: Bucket, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), TableFault>;

    /// The last log entry whose effect the view holds.
    fn applied(&self) -> (LogIndex, Term);
}
