//! `etcdutl`'s command lines, given to upstream's program and to Eyrie's, sound the same.
//!
//! The lines stand in `tests/utl/commands.txt`; what differs on purpose stands in `tests/utl/differences.txt`, in the form of
//! the conversations' list. Compared are standard output, standard error and the exit code.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyrie_tests::binaries::{Program, source_dir};
use eyrie_tests::conversation::compare::{self, Difference};
use eyrie_tests::store::{Setup, bounded};
use eyrie_tests::verdict::Verdict;
use regex::Regex;

/// One command is never slow.
const LIMIT: Duration = Duration::from_secs(60);
const LINES_MIN: usize = 50;

#[test]
fn the_offline_tool_sounds_like_upstreams() -> Verdict {
    Ok(same()?)
}

fn same() -> Result<()> {
    let (upstream, ours) = (Program::upstream()?, Program::under_test()?);
    let dir = tempfile::tempdir()?;
    let files = make_files(dir.path())?;
    let named = dir.path().join("etcdutl");
    std::os::unix::fs::symlink(&ours.utl[0], &named)?;
    let by_name = if ours.is_upstream() { ours.utl.clone() } else { vec![named.into_os_string()] };
    let lines = lines()?;
    let heard = |name: &str, utl: &[OsString]| hold(&lines, utl, &place(dir.path(), name, &files)?);
    let right = heard("upstream", &upstream.utl)?;
    let other = heard("ours", &by_name)?;
    let (mut found, mut seen) = (Vec::new(), BTreeMap::new());
    for ((line, right), other) in lines.iter().zip(&right).zip(&other) {
        let nth = seen.entry(line).and_modify(|n| *n += 1).or_insert(1);
        found.extend(Difference::between(format!("utl commands.txt #{nth} {line}"), right, other));
    }
    let kept = if ours.is_upstream() { Vec::new() } else { compare::kept(&differences(), "commands.txt")? };
    let report = compare::judge(&found, &kept);
    ensure!(report.is_empty(), "{report}");
    println!("{} command lines, {} kept differences", lines.len(), kept.len());
    assert!(lines.len() >= LINES_MIN, "only {} command lines", lines.len());

    // By its own name it says the same.
    let own = heard("own-name", &ours.utl)?;
    for ((line, by_name), own) in lines.iter().zip(&other).zip(&own) {
        ensure!(by_name == own, "as `eyrie utl`, {line} says:\n{own}\nand as etcdutl:\n{by_name}");
    }
    Ok(())
}

#[test]
fn every_kept_difference_has_its_reason_in_the_docs() -> Verdict {
    let page = std::fs::read_to_string(source_dir().join("../docs/differences.md"))?;
    let section = page.split("\n## etcdutl\n").nth(1).context("docs/differences.md has no section etcdutl")?;
    for why in compare::reasons(&differences())? {
        assert!(section.lines().any(|line| line == format!("### {why}")), "no heading `### {why}` in section etcdutl");
    }
    Ok(())
}

fn differences() -> PathBuf {
    source_dir().join("utl/differences.txt")
}

fn lines() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(source_dir().join("utl/commands.txt"))?;
    Ok(text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

/// The files that the commands speak of, by name.
fn make_files(dir: &Path) -> Result<BTreeMap<&'static str, Vec<u8>>> {
    let up = snapshot_of(&Program::upstream()?, dir, "up")?;
    let own = snapshot_of(&Program::under_test()?, dir, "own")?;
    let mut flip = up.clone();
    let middle = flip.len() / 2;
    flip[middle] ^= 4;
    Ok(BTreeMap::from([
        ("raw.db", up[..up.len() - 32].to_vec()),
        // only the two meta pages: upstream finds nothing where they point to
        ("short.db", up[..8192].to_vec()),
        ("text.db", b"this is not a database\n".repeat(100)),
        ("empty.db", Vec::new()),
        ("flip.db", flip),
        ("own.db", own),
        ("up.db", up),
    ]))
}

/// A small store with history, saved by upstream's `etcdctl`.
fn snapshot_of(program: &Program, dir: &Path, name: &str) -> Result<Vec<u8>> {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir)?;
    let mut store = Setup::new(program, &dir)?.start()?;
    for n in 0..30 {
        store.etcdctl_ok(&["put", &format!("key{}", n % 20), &format!("value {n}")])?;
    }
    store.etcdctl_ok(&["del", "key3"])?;
    store.etcdctl_ok(&["compaction", "12"])?;
    let file = dir.join("saved.db");
    store.etcdctl_ok(&["snapshot", "save", file.to_str().context("a plain path")?])?;
    store.stop()?;
    Ok(std::fs::read(file)?)
}

/// A folder of its own with all files.
fn place(dir: &Path, name: &str, files: &BTreeMap<&str, Vec<u8>>) -> Result<PathBuf> {
    let place = dir.join("places").join(name);
    std::fs::create_dir_all(place.join("full"))?;
    std::fs::write(place.join("full/file"), "something")?;
    for (name, bytes) in files {
        std::fs::write(place.join(name), bytes)?;
    }
    Ok(place)
}

/// Gives all lines to one program; what it said, normalised.
fn hold(lines: &[String], utl: &[OsString], place: &Path) -> Result<Vec<String>> {
    lines
        .iter()
        .map(|line| {
            let words = line.split(' ').map(|word| if word == "\"\"" { "" } else { word });
            let mut command = Command::new(&utl[0]);
            command.args(&utl[1..]).args(words).current_dir(place);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let out = bounded(&mut command, LIMIT).with_context(|| format!("etcdutl {line}"))?;
            let mut text = String::new();
            for (name, bytes) in [("out", &out.stdout), ("err", &out.stderr)] {
                let said = normal(&String::from_utf8_lossy(bytes));
                text.extend(said.lines().map(|line| format!("{name}: {line}\n")));
            }
            Ok(format!("{text}exit: {:?}\n", out.status.code()))
        })
        .collect()
}

/// A line of zap's console encoder: only its level and its message are promises.
static LOG: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^\d{4}-\d\d-\d\dT\S+\t(\w+)\t(?:\S+\t)?([^\t\n]+).*$").expect("a valid rule"));
/// What Go says when it dies is told only by its first line.
static PANIC: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?ms)^(panic: [^\n]*)\n.*\z").expect("a valid rule"));
/// The same, where the system stopped it.
static FAULT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?s)unexpected fault address.*\z").expect("a valid rule"));
/// Where zap's stack trace begins: a function, then its place in a line that begins with a tab.
static TRACE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^\S+\n\t/\S+:\d+\n").expect("a valid rule"));
/// How many pages a store takes depends on how its writes fell into commits.
static PAGES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b\d+ pages of").expect("a valid rule"));
static VERSION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b3\.5\.\d+\b").expect("a valid rule"));

fn normal(text: &str) -> String {
    let text = PANIC.replace_all(text, "$1\n");
    let text = FAULT.replace_all(&text, "fatal error: fault\n");
    let text = TRACE.replace_all(&text, "");
    let text = LOG.replace_all(&text, "log $1: $2");
    let text = PAGES.replace_all(&text, "N pages of");
    VERSION.replace_all(&text, "3.5.X").into_owned()
}
