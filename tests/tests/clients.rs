//! Published clients of other languages find what they expect.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use eyrie_tests::binaries::{Program, source_dir};
use eyrie_tests::peers;
use eyrie_tests::store::{Setup, bounded};
use eyrie_tests::verdict::Verdict;

#[test]
fn python() -> Verdict {
    let mut client = Command::new(peers::python_client()?.join("bin/python"));
    client.args(["-W", "ignore"]).arg(source_dir().join("python/client_basics.py"));
    Ok(is_content(client)?)
}

#[test]
fn rust() -> Verdict {
    Ok(is_content(Command::new(peers::rust_client()?))?)
}

/// Runs the client against a new store; it must end with 0.
fn is_content(mut client: Command) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Setup::new(&Program::under_test()?, dir.path())?.start()?;
    client.arg(store.endpoint()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let out = bounded(&mut client, Duration::from_secs(60))?;
    let (said, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    println!("{said}");
    ensure!(out.status.success(), "{}\n{said}\n{wrong}\nlog:\n{}", out.status, store.log_tail(10));
    Ok(())
}
