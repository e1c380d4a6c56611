//! Asking for passwords on the terminal, unseen, or reading one word from standard input.

use std::io::{BufRead, IsTerminal};
use std::process::Command;

use crate::exit::Failure;
use crate::screen::out;

/// Asks once. What is typed is not shown when standard input is a terminal.
///
/// # Errors
/// Standard input cannot be read.
pub(crate) fn ask(prompt: &str) -> std::io::Result<String> {
    out(prompt);
    let hidden = std::io::stdin().is_terminal() && echo(false);
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if hidden {
        echo(true);
    }
    out("\n");
    read.map(|_| line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Asks twice and compares.
///
/// # Errors
/// Nothing was typed, or not the same twice.
pub(crate) fn ask_twice(user: &str) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::args(format!("failed to ask password: {error}"));
    let first = ask(&format!("Password of {user}: ")).map_err(failed)?;
    if first.is_empty() {
        return Err(Failure::args("empty password"));
    }
    let second = ask(&format!("Type password of {user} again for confirmation: ")).map_err(failed)?;
    if first != second {
        return Err(Failure::args("given passwords are different"));
    }
    Ok(first)
}

/// The first word of standard input's first line; nothing when there is none.
pub(crate) fn word_from_stdin() -> String {
    let mut line = String::new();
    let _ = std::io::stdin().lock().read_line(&mut line);
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Switches the terminal's echo; true when that worked.
fn echo(on: bool) -> bool {
    Command::new("stty").arg(if on { "echo" } else { "-echo" }).status().is_ok_and(|status| status.success())
}
