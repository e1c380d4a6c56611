//! Which short pieces of tail one longer piece should stand in for.
//!
//! A tail that is cut every second loses at most a second, and makes 86,400 files a day; a restore should fetch a few
//! hundred. So pieces of the same span of time are merged once that span is over.

use crate::{
    catalog::Catalog,
    ids::Revision,
    limits::{INDEX_PIECES_MAX, MERGE_BYTES_MAX, MERGE_SPAN_MS},
    record::Segment,
};

/// Pieces to read and write again as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The first revision.
    pub first: Revision,
    /// The last.
    pub last: Revision,
    /// The pieces, in order.
    pub pieces: Vec<Segment>,
    /// Their plain bytes together.
    pub bytes: u64,
}

impl Catalog {
    /// What to merge in the current history, oldest first. Neighbours only, of one span of time, none of them damaged;
    /// what may still grow is left alone.
    pub fn merges(&self) -> Vec<Merge> {
        let mut merges: Vec<Merge> = Vec::new();
        let mut open: Option<Merge> = None;
        for piece in self.current().tail.values() {
            let segment = &piece.segment;
            let fits = open.as_ref().is_some_and(|open| fits(open, segment));
            if self.is_damaged(&segment.stored.path) || segment.plain.len >= MERGE_BYTES_MAX {
                merges.extend(open.take());
            } else if fits {
                if let Some(open) = &mut open {
                    open.last = segment.last;
                    open.bytes += segment.plain.len;
                    open.pieces.push(segment.clone());
                }
            } else {
                let (first, last, bytes) = (segment.first, segment.last, segment.plain.len);
                merges.extend(open.replace(Merge { first, last, pieces: vec![segment.clone()], bytes }));
            }
        }
        merges.retain(|merge| merge.pieces.len() > 1);
        merges
    }

    /// Whether the index has so many pieces that it should be merged into one.
    pub fn index_merge_due(&self) -> bool {
        self.pieces.len() > INDEX_PIECES_MAX
    }
}

fn fits(open: &Merge, next: &Segment) -> bool {
    let span = |segment: &Segment| segment.first_at_ms.0.div_euclid(MERGE_SPAN_MS);
    open.last.next() == next.first
        && open.pieces.last().is_some_and(|last| span(last) == span(next))
        && open.bytes.saturating_add(next.plain.len) <= MERGE_BYTES_MAX
}
