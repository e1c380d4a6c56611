//! Conversations with the state: each file in `conversations/` is a claim (its name) with its proof (its text).
//!
//! A line that starts with `> ` is said to the state, the lines below it up to the next empty line are what it answers.
//! `EYRIE_BLESS=1 cargo test -p eyrie-state` writes down what it answers now; read the diff before you keep it.

mod talk;

use std::path::Path;

use talk::Talk;

/// Runs every script; all that differ are shown, not only the first.
#[test]
#[allow(clippy::disallowed_methods, reason = "the scripts are files; the crate itself never opens one")]
fn every_conversation_goes_as_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations");
    let bless = std::env::var_os("EYRIE_BLESS").is_some();
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 10, "the scripts are gone");
    let mut wrong = Vec::new();
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        let heard = replay(&script);
        if heard == script {
            continue;
        }
        if bless {
            std::fs::write(&path, heard).unwrap();
            continue;
        }
        let lines = script.lines().zip(heard.lines()).enumerate();
        let first = lines
            .skip_while(|(_, (want, got))| want == got)
            .map(|(n, (want, got))| format!("line {}:\n  written: {want}\n  heard:   {got}", n + 1));
        wrong.push(format!("{}: {}", path.display(), first.take(1).collect::<String>()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The script as it would be written if all answers were right.
fn replay(script: &str) -> String {
    let mut talk = Talk::default();
    let mut heard = String::new();
    for line in script.lines() {
        if let Some(said) = line.strip_prefix("> ") {
            heard += &format!("{line}\n{}\n", talk.say(said));
        } else if line.starts_with('#') {
            heard += &format!("{line}\n");
        } else if line.is_empty() && heard.lines().last().is_some_and(|last| last.starts_with('#')) {
            heard.push('\n');
        }
    }
    // An answer ends with an empty line, the file does not.
    heard.trim_end().to_owned() + "\n"
}
