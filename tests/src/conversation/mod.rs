//! The same conversation, held by three casts, must sound the same.
//!
//! ```text
//! cast       client             server
//! upstream   upstream etcdctl   upstream etcd     what is right
//! store      upstream etcdctl   Eyrie
//! ours       eyrie ctl          Eyrie
//! ```
//!
//! A script holds no expected output: the answers of the upstream cast are the expectation. Ids, times and sizes are normalised
//! (`normal`). A difference that is kept on purpose stands in `differences.txt`, word for word; one that is not, or no longer,
//! fails the test.

pub mod compare;
mod normal;
mod run;
mod script;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::binaries::{Program, source_dir};

/// Who plays the two roles.
#[derive(Clone)]
pub struct Cast {
    /// Its name in messages and in the list of differences.
    pub name: &'static str,
    /// Whose `etcdctl` and `etcdutl`.
    pub client: Program,
    /// Whose server.
    pub server: Program,
}

/// Holds the conversation `name` (a file of `tests/conversation`) with all three casts and compares them.
///
/// # Errors
/// Every difference that is not on the list, and every entry of the list that no longer differs, in one message.
pub fn same(name: &str) -> Result<()> {
    let (upstream, ours) = (Program::upstream()?, Program::under_test()?);
    let casts = [
        Cast { name: "upstream", client: upstream.clone(), server: upstream.clone() },
        Cast { name: "store", client: upstream, server: ours.clone() },
        Cast { name: "ours", client: ours.clone(), server: ours.clone() },
    ];
    let script = script::read(&conversations().join(name))?;
    let heard = std::thread::scope(|threads| {
        let threads: Vec<_> = casts.iter().map(|cast| threads.spawn(|| run::hold(&script, cast))).collect();
        threads.into_iter().map(|t| t.join().expect("a cast panicked")).collect::<Result<Vec<_>>>()
    })?;
    if std::env::var_os("EYRIE_SHOW").is_some() {
        for answer in &heard[0] {
            println!("$ {}\n{}", answer.line, answer.text);
        }
    }
    // Upstream in both roles has no differences to keep.
    let kept =
        if ours.is_upstream() { Vec::new() } else { compare::kept(&conversations().join("differences.txt"), name)? };
    let found = compare::differences(name, &heard[0], &heard[1], &heard[2]);
    let report = compare::judge(&found, &kept);
    if !report.is_empty() {
        bail!("conversation {name}:\n{report}");
    }
    println!("{name}: {} commands, {} kept differences", heard[0].len(), kept.len());
    Ok(())
}

/// How many commands the script `name` holds.
pub fn commands(name: &str) -> Result<usize> {
    Ok(script::read(&conversations().join(name))?.iter().filter(|step| step.is_command()).count())
}

/// The reasons named in `differences.txt`, each of which must be a heading of `docs/differences.md`.
pub fn reasons() -> Result<Vec<String>> {
    compare::reasons(&conversations().join("differences.txt"))
}

/// The folder of the scripts.
pub fn conversations() -> PathBuf {
    source_dir().join("conversation")
}
