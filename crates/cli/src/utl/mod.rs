//! `eyrie utl`: what is done to files while no server runs on them. Called as `etcdutl` it is that program.
//!
//! ```text
//! arguments -> command (tree) -> flags (parse) -> the work (eyrie-disk) -> print, exit code
//! ```
//! Words, layout and exit codes are etcdutl 3.5's. Must never talk to a server.

pub(crate) mod cluster;
mod defrag;
mod failure;
mod hashkv;
mod help;
mod migrate;
mod parse;
mod print;
mod restore;
mod snapshot;
mod tree;
mod zap;

use std::ffi::OsString;

use failure::Failure;
use parse::Parsed;

use crate::screen::out;

/// What the program calls itself, however it was called: its words are compared with upstream's by scripts.
const PROGRAM: &str = "etcdutl";

/// Runs the program. `args[0]` is the name by which it was called; the rest is what was typed. Returns the exit code.
pub(crate) fn run(args: Vec<OsString>) -> i32 {
    let words: Vec<String> = args.into_iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    match dispatch(PROGRAM, &words) {
        Ok(()) => 0,
        Err(failure) => {
            eprint!("{failure}");
            i32::from(failure.code)
        }
    }
}

fn dispatch(program: &str, words: &[String]) -> Result<(), Failure> {
    let (path, rest) = tree::find(program, words)?;
    let page = help::page(program, &path);
    let parsed = Parsed::read(&path, &rest).map_err(|text| Failure::usage(text, &page))?;
    if parsed.is_set("help") {
        out(&page);
        return Ok(());
    }
    let command = path.command();
    if let Some(note) = command.deprecated {
        eprintln!("Command \"{}\" is deprecated, {note}", command.name);
    }
    let missing = parsed.missing();
    if !missing.is_empty() {
        let text = format!("required flag(s) \"{}\" not set", missing.join("\", \""));
        return Err(Failure::usage(text, &page));
    }
    match command.run {
        Some(run) => run(&parsed),
        None => {
            out(&page);
            Ok(())
        }
    }
}

fn version(_: &Parsed) -> Result<(), Failure> {
    let (version, api) = (eyrie_server::VERSION, eyrie_server::VERSION.rsplit_once('.').map_or("", |(api, _)| api));
    out(&format!("etcdutl version: {version}\nAPI version: {api}\n"));
    Ok(())
}

fn backup(_: &Parsed) -> Result<(), Failure> {
    Err(Failure::error(
        "backup copies the old v2 store, which this program does not have. Save a snapshot from the running server \
         instead: etcdctl snapshot save FILE",
    ))
}

fn save(_: &Parsed) -> Result<(), Failure> {
    Err(Failure::args("In order to download snapshot use: `etcdctl snapshot save ...`"))
}

fn help(_: &Parsed) -> Result<(), Failure> {
    Ok(())
}
