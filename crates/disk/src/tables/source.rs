//! The tables as the source of a snapshot.

use std::ops::Bound;

use eyrie_state::record::POSITION_KEY_LEN;
use eyrie_state::{Bucket, LogIndex, Position, Records, TableFault, Term};

use super::store::POSITION_MAX;
use super::view::View;
use crate::bbolt::Extent;
use crate::snapshot::Source;

/// A tombstone's key has one byte more than a record's.
const KEY_LEN_MAX: usize = POSITION_KEY_LEN + 1;

impl Source for View {
    fn history_extent(&self) -> Result<Extent, TableFault> {
        let sheet = self.base.sheet();
        let mut extent = Extent {
            records: sheet.records,
            // Ours count a key without its tombstone mark, and all buckets; too much is allowed.
            bytes: sheet.bytes + sheet.records * KEY_LEN_MAX as u64,
            key_len_max: KEY_LEN_MAX,
        };
        for (buffer, mark) in self.oldest_first() {
            for staged in buffer.records(Bound::Unbounded, POSITION_MAX, mark, usize::MAX) {
                extent.records += 1;
                extent.bytes += (KEY_LEN_MAX + staged.record.len()) as u64;
            }
        }
        Ok(extent)
    }

    fn history(&self, visit: &mut dyn FnMut(Position, bool, &[u8]) -> bool) -> Result<(), TableFault> {
        self.scan(Position::default(), POSITION_MAX, &mut |at, tombstone, record| visit(at, tombstone, record))
    }

    fn small(&self, bucket: Bucket, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), TableFault> {
        self.bucket(bucket, visit)
    }

    fn applied(&self) -> (LogIndex, Term) {
        View::applied(self)
    }
}
