//! Keys of rows, and sums by which many of them are compared.

use std::fmt;

/// The key of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A number.
    Number(i64),
    /// A text.
    Text(Box<[u8]>),
}

impl Key {
    /// A number that depends on nothing but the key, evenly spread.
    pub(super) fn spread(&self) -> u64 {
        let seed = match self {
            Key::Number(number) => *number as u64,
            Key::Text(text) => text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            }),
        };
        let mixed = (seed ^ seed >> 30).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Bytes that it takes beside its own place.
    pub fn len(&self) -> usize {
        match self {
            Key::Number(_) => 8,
            Key::Text(text) => text.len(),
        }
    }

    /// Whether it is the empty text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Number(number) => number.fmt(f),
            Key::Text(text) => String::from_utf8_lossy(text).fmt(f),
        }
    }
}

/// Many keys in any order, as one sum: equal keys, equally often, give equal sums, and others hardly ever do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeySum {
    /// How many.
    pub keys: u64,
    sum: u64,
}

impl KeySum {
    /// One key more.
    pub fn add(&mut self, key: &Key) {
        self.keys += 1;
        self.sum = self.sum.wrapping_add(key.spread());
    }

    /// All of another sum.
    pub fn and(&mut self, other: KeySum) {
        self.keys += other.keys;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}
