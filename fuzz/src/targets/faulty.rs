//! Decoders with every kind of fault, so that a test can see each one found.

use super::Target;

const fn faulty(name: &'static str, run: fn(&[u8]) -> bool) -> Target {
    Target { name, what: "a decoder with a fault", corpus: || vec![b"ok".to_vec()], reseal: None, run }
}

/// Not among the real ones, but found by name.
pub(super) const TARGETS: &[Target] = &[
    faulty("faulty-panic", |input| {
        assert!(input.len() < 8, "too long for me");
        true
    }),
    faulty("faulty-stall", |input| {
        while std::hint::black_box(input).len() >= 8 {}
        true
    }),
    faulty("faulty-stack", |input| deeper(input, 0) < usize::MAX),
    faulty("faulty-memory", |input| {
        let claimed = if input.len() < 8 { 1 } else { 65 << 20 };
        std::hint::black_box(vec![1_u8; claimed]).len() == claimed
    }),
];

fn deeper(input: &[u8], depth: usize) -> usize {
    let here = std::hint::black_box([depth; 64]);
    if input.len() < 8 { here[0] } else { deeper(input, depth + 1).wrapping_add(here[1]) }
}
