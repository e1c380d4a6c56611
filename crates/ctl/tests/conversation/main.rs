//! One conversation, twice: upstream etcdctl with one upstream etcd, our etcdctl with another, step by step.
//!
//! After ids and times are made equal, both sides must have said the same. The script is `script.txt`.

mod normal;
mod place;
mod script;

use std::collections::BTreeSet;
use std::path::Path;

use place::{Outcome, Server};
use script::Step;

/// Lines of help that upstream 3.5.1 does not have: flags and commands of later releases.
const LATER: [&str; 10] = [
    "\tcompletion\t",
    "\tdowngrade ",
    "--range[",
    "--min-create-rev",
    "--max-create-rev",
    "--min-mod-rev",
    "--max-mod-rev",
    "--bump-revision",
    "--mark-compacted",
    "\tcompletion",
];

#[test]
fn both_say_the_same() {
    let upstream_ctl = place::peer("etcdctl");
    let our_ctl = place::ours();
    let upstream = Server::start("upstream");
    let ours = Server::start("ours");
    let steps = script::read(include_str!("script.txt"));
    assert!(steps.len() >= 120, "the script has only {} steps", steps.len());
    let mut failures = Vec::new();
    for step in &steps {
        let (said, expected) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| upstream.run(&upstream_ctl, step));
            (ours.run(&our_ctl, step), theirs.join().expect("a side panicked"))
        });
        let mut said = ours.told(step, said);
        if said.stdout.starts_with("NAME:") {
            said.stdout = without_later(&said.stdout);
        }
        compare(step, &upstream.told(step, expected), &said, &mut failures);
    }
    assert!(failures.is_empty(), "{} of {} steps differ:\n\n{}", failures.len(), steps.len(), failures.join("\n"));
}

#[test]
fn every_help_page_is_the_same() {
    let (upstream_ctl, our_ctl) = (place::peer("etcdctl"), place::ours());
    let mut failures = Vec::new();
    for words in commands(&upstream_ctl) {
        let step = Step::raw(words.iter().cloned().chain(["--help".to_owned()]));
        let expected = place::call(&upstream_ctl, &step, &[], Path::new("."));
        let mut said = place::call(&our_ctl, &step, &[], Path::new("."));
        said.stdout = without_later(&said.stdout);
        compare(&step, &expected, &said, &mut failures);
    }
    assert!(failures.is_empty(), "{} pages differ:\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn encrypted_endpoints_need_trust() {
    let (upstream_ctl, our_ctl) = (place::peer("etcdctl"), place::ours());
    let server = Server::start_encrypted();
    let all = place::credentials();
    let only = |names: &[&str]| -> Vec<String> {
        all.iter().filter(|flag| names.iter().any(|name| flag.starts_with(name))).cloned().collect()
    };
    let own = |flags: &[&str]| -> Vec<String> { flags.iter().map(|flag| (*flag).to_owned()).collect() };
    let unchecked = [only(&["--cert=", "--key"]), own(&["--insecure-skip-tls-verify"])].concat();
    let mut failures = Vec::new();
    for flags in [
        all.clone(),
        unchecked,
        only(&["--cert=", "--key"]),
        only(&["--cert="]),
        own(&["--cacert=/nonexistent"]),
        own(&["--insecure-transport=false"]),
    ] {
        let words = flags.into_iter().chain(own(&["--command-timeout=1s", "member", "list"]));
        let step = Step { words: words.collect(), ..Step::default() };
        let expected = server.told(&step, server.run(&upstream_ctl, &step));
        let said = server.told(&step, server.run(&our_ctl, &step));
        compare(&step, &expected, &said, &mut failures);
    }
    assert!(failures.is_empty(), "{} steps differ:\n\n{}", failures.len(), failures.join("\n"));
}

/// All commands of upstream, and their groups, as its main help lists them.
fn commands(ctl: &Path) -> BTreeSet<Vec<String>> {
    let help = place::call(ctl, &Step::raw(["--help".to_owned()]), &[], Path::new(".")).stdout;
    let listed =
        help.split("COMMANDS:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list of commands");
    let mut commands = BTreeSet::from([Vec::new()]);
    for line in listed.lines() {
        let words: Vec<String> =
            line.trim().split('\t').next().unwrap_or_default().split(' ').map(str::to_owned).collect();
        commands.insert(words[..1].to_vec());
        commands.insert(words);
    }
    assert!(commands.len() > 40, "only {} commands found", commands.len());
    commands
}

fn without_later(page: &str) -> String {
    let kept: Vec<&str> = page.split('\n').filter(|line| !LATER.iter().any(|later| line.contains(later))).collect();
    // Upstream's is the newest that a package registry has, ours copies a later one.
    kept.join("\n").replace("3.5.21", "3.5.1")
}

fn compare(step: &Step, expected: &Outcome, said: &Outcome, failures: &mut Vec<String>) {
    if expected != said {
        let (theirs, ours) = (expected.to_string(), said.to_string());
        let only = |one: &str, other: &str| {
            let lines: Vec<&str> = one.lines().filter(|line| !other.lines().any(|known| known == *line)).collect();
            lines.join("\n")
        };
        failures.push(format!(
            "== line {}: {}\n-- only upstream ({} lines in all)\n{}\n-- only ours ({} lines)\n{}\n",
            step.line,
            step.words.join(" "),
            theirs.lines().count(),
            only(&theirs, &ours),
            ours.lines().count(),
            only(&ours, &theirs),
        ));
    }
}
