//! Worlds of many seeds: no promise is broken in any; and the same seed is the same world, to the byte.
//!
//! `EYRIE_LONG=1` runs 10,000 seeds instead of 50; `EYRIE_SEED=…` runs one.

/// Seeds of the short and of the long form.
const SEEDS: [u64; 2] = [50, 10_000];
/// Parts of the long form, so that both cores work.
const PARTS: u64 = 2;

fn seeds(part: u64) {
    if let Some(seed) = std::env::var("EYRIE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let report = eyrie_sim::run(seed).unwrap_or_else(|failure| panic!("{}{failure}", failure.trace));
        println!("{:?} {:?} {} starts", report.checked, report.promised, report.starts);
        return;
    }
    let count = SEEDS[usize::from(std::env::var_os("EYRIE_LONG").is_some())];
    let (mut entries, mut starts, mut unknown) = (0, 0, 0);
    for seed in (1..=count).filter(|seed| seed % PARTS == part) {
        let report = eyrie_sim::run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        entries += report.promised.1;
        starts += report.starts;
        unknown += report.checked.unknown.1;
    }
    let worlds = count / PARTS;
    println!("{worlds} worlds: {entries} entries, {starts} starts, {unknown} writes without an answer that took place");
    assert!(entries as u64 > worlds * 150 && starts > worlds * 6, "hardly anything happened");
}

#[test]
fn no_promise_is_broken_in_worlds_of_even_seeds() {
    seeds(0);
}

#[test]
fn no_promise_is_broken_in_worlds_of_odd_seeds() {
    seeds(1);
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [3, 14, 15] {
        let (once, again) = (eyrie_sim::run(seed).unwrap(), eyrie_sim::run(seed).unwrap());
        assert!(once.trace.len() > 100_000, "a short trace: {}", once.trace.len());
        assert_eq!(once, again, "seed {seed}");
    }
    assert_ne!(eyrie_sim::run(3).unwrap().trace, eyrie_sim::run(14).unwrap().trace);
}
