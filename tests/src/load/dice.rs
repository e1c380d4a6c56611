//! Chance from a seed, so that a failure can be thrown again.

/// A stream of numbers (xorshift64*).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// The seed of `EYRIE_SEED`, or of the clock; printed, so that it is in the report of a failure.
    pub fn from_env() -> Dice {
        let clock =
            || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
        let seed = std::env::var("EYRIE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(clock);
        println!("EYRIE_SEED={seed}");
        Dice::new(seed)
    }

    /// The stream of one seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}
