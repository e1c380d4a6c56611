//! Broken input from whole input: everything follows from one seed, so any input can be made again.

/// A small generator of numbers (splitmix64): the same seed, the same numbers.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The generator of one iteration of one target.
    pub fn new(seed: u64, target: &str, iteration: u64) -> Self {
        let name = target.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut chance = Self(name ^ iteration.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        chance.next();
        chance
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// An input grows by at most so much.
const GROWTH_MAX: usize = 64 * 1024;

/// One whole input with one to eight things done to it.
pub fn mutate(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = corpus[chance.below(corpus.len())].clone();
    let limit = input.len() + GROWTH_MAX;
    for _ in 0..1 + chance.below(8) {
        once(&mut input, corpus, chance);
        input.truncate(limit);
    }
    input
}

fn once(input: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut Chance) {
    if input.is_empty() {
        input.extend_from_slice(&chance.next().to_le_bytes());
        return;
    }
    let at = chance.below(input.len());
    match chance.below(10) {
        0 | 1 => input[at] ^= 1 << chance.below(8),
        2 => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'['][chance.below(8)],
        3 => input.truncate(at),
        4 => {
            let end = at + 1 + chance.below((input.len() - at).min(64));
            input.drain(at..end);
        }
        5 => {
            let end = at + 1 + chance.below((input.len() - at).min(256));
            let piece = input[at..end].to_vec();
            let times = 1 + chance.below(16);
            input.splice(at..at, piece.repeat(times));
        }
        6 => {
            let other = &corpus[chance.below(corpus.len())];
            if !other.is_empty() {
                let from = chance.below(other.len());
                let to = from + 1 + chance.below(other.len() - from);
                input.splice(at..at, other[from..to].iter().copied());
            }
        }
        7 => inflate(input, at, chance),
        8 => {
            let count = 1 + chance.below(16);
            let noise: Vec<u8> = (0..count).map(|_| chance.next() as u8).collect();
            input.splice(at..at, noise);
        }
        _ => {
            let other = chance.below(input.len());
            input.swap(at, other);
        }
    }
}

/// Writes a large or odd number over what may be a length.
fn inflate(input: &mut Vec<u8>, at: usize, chance: &mut Chance) {
    let number = match chance.below(6) {
        0 => u64::MAX,
        1 => i64::MAX as u64,
        2 => u64::from(u32::MAX),
        3 => i32::MAX as u64,
        4 => 1 << chance.below(64),
        _ => input.len() as u64 + chance.below(3) as u64,
    };
    let bytes: Vec<u8> = match chance.below(5) {
        0 => number.to_le_bytes().to_vec(),
        1 => number.to_be_bytes().to_vec(),
        2 => (number as u32).to_le_bytes().to_vec(),
        3 => (number as u16).to_le_bytes().to_vec(),
        _ => varint(number),
    };
    for (place, byte) in bytes.into_iter().enumerate() {
        match input.get_mut(at + place) {
            Some(target) => *target = byte,
            None => input.push(byte),
        }
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_input() {
        let corpus = [b"one whole input".to_vec(), b"another".to_vec()];
        let make = |seed| -> Vec<Vec<u8>> {
            (0..100).map(|iteration| mutate(&corpus, &mut Chance::new(seed, "t", iteration))).collect()
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }
}
