//! Worlds of many seeds: no promise is broken in any; and the same seed is the same world, to the byte.
//!
//! `EYRIE_LONG=1` runs 10,000 seeds instead of 50; `EYRIE_SEED=…` runs one.

/// Seeds of the short and of the long form.
const SEEDS: [u64; 2] = [50, 10_000];
/// In so many worlds a flaw must have been noticed.
const FLAWED_SEEDS: u64 = 25;
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

/// Each check finds what it is there for, in stores that are broken on purpose.
#[test]
fn every_check_finds_a_broken_store() {
    use eyrie_sim::Flaw;
    for (flaw, check) in [
        (Flaw::ForgetsEvents, "watch"),
        (Flaw::StaleReads, "replay"),
        (Flaw::StaleReads, "linearizability"),
        (Flaw::LosesWrites, "replay"),
        (Flaw::HoldsOtherwise, "at the end"),
    ] {
        let found = (1..=FLAWED_SEEDS).find_map(|seed| {
            let verdicts = eyrie_sim::run_flawed(seed, flaw)?;
            let (_, verdict) = verdicts.into_iter().find(|(name, _)| *name == check)?;
            Some((seed, verdict.err()?))
        });
        let (seed, why) = found.unwrap_or_else(|| panic!("{flaw:?} is not noticed by the check `{check}`"));
        println!("{flaw:?}: noticed in seed {seed} by `{check}`: {why}");
    }
    // Members that are broken like this contradict each other long before the end.
    let found = (1..=FLAWED_SEEDS).find_map(|seed| eyrie_sim::notice(seed, Flaw::PromisesBeforeSync));
    println!("{:?}: {}", Flaw::PromisesBeforeSync, found.expect("promises that power cuts break are noticed"));
}

/// The folder of the scripts.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
/// Each script is played in so many worlds.
const PLAYED: u64 = 3;

/// What was found once stays found: stories of bugs, each in some worlds.
#[test]
fn every_script_ends_well() {
    let (mut names, mut flaws) = (Vec::new(), 0);
    for file in std::fs::read_dir(SCRIPTS).unwrap() {
        let path = file.unwrap().path();
        let script = std::fs::read_to_string(&path).unwrap();
        for seed in 1..=PLAYED {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            eyrie_sim::play(seed, &script).unwrap_or_else(|failure| panic!("{name}, {failure}"));
            names.push(name);
        }
        if let Some(flaw) = eyrie_sim::flaw_of(&script).unwrap() {
            let noticed = (1..=PLAYED).find_map(|seed| eyrie_sim::play_flawed(seed, &script, flaw).unwrap());
            println!("{flaw:?}: {}", noticed.unwrap_or_else(|| panic!("{} does not notice {flaw:?}", path.display())));
            flaws += 1;
        }
    }
    assert!(flaws > 0, "no script names a flaw");
    assert!(names.len() as u64 >= 4 * PLAYED, "{names:?}");
}
