//! The ids of Milvus, each its own type, and its hybrid clock.

use std::fmt;

use serde::Serialize;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A database; 1 is the default one, 0 stands for it in old values.
    DatabaseId;
    /// A collection.
    CollectionId;
    /// A partition; -1 in a level-zero segment means all partitions.
    PartitionId;
    /// A segment.
    SegmentId;
    /// A field of a collection, or a group of columns (storage version 2).
    FieldId;
    /// One log file of a segment; 1 is the merged statistics.
    LogId;
    /// An index as the user defined it.
    IndexId;
    /// One build of an index on one segment; its files are named by it.
    BuildId;
    /// A task or job: import, compaction, statistics.
    TaskId;
}

/// A segment with all that stands above it: as keys and paths have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SegmentPath {
    /// Its collection.
    pub collection: CollectionId,
    /// Its partition.
    pub partition: PartitionId,
    /// The segment.
    pub segment: SegmentId,
}

impl SegmentPath {
    /// Not after any other: where a range begins.
    pub const MIN: SegmentPath = SegmentPath {
        collection: CollectionId(i64::MIN),
        partition: PartitionId(i64::MIN),
        segment: SegmentId(i64::MIN),
    };
}

impl fmt::Display for SegmentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.collection, self.partition, self.segment)
    }
}

/// A moment of Milvus's clock: milliseconds since 1970 in the upper 46 bits, a counter in the lower 18.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct HybridTs(pub u64);

impl HybridTs {
    const COUNTER_BITS: u32 = 18;

    /// The first moment of a millisecond since 1970.
    pub fn from_unix_ms(ms: u64) -> HybridTs {
        HybridTs(ms << HybridTs::COUNTER_BITS)
    }

    /// Its millisecond since 1970.
    pub fn unix_ms(self) -> u64 {
        self.0 >> HybridTs::COUNTER_BITS
    }
}

/// Reads a number as Milvus prints it. Other spellings of the same number are refused, so that a key that is read
/// and printed is the same key.
pub(crate) fn canonical_number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = match digits.as_bytes() {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', ..] => digits.bytes().all(|b| b.is_ascii_digit()),
        _ => false,
    };
    if canonical { text.parse().ok() } else { None }
}
