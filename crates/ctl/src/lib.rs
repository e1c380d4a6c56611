//! `etcdctl`: the command line client, equal to etcd 3.5's in words, output and exit codes.
//!
//! It speaks only the public API and works with any etcd. What needs a file format (snapshot status and restore) is
//! handed to [`Local`]. The journey of a command: [`cli`] finds it and reads its flags, [`commands`] does it with a
//! client of [`eyrie_api`], [`print`] shows the answer.

mod cli;
mod commands;
mod exit;
mod go;
mod print;
mod screen;
mod signal;
mod zaplog;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use cli::context::Context;
use cli::find::{Found, find};
use cli::{flag, help, tree};
use exit::{Done, Failure};
use screen::{error_line, out};

/// Runs `etcdutl` with these arguments (without a program name) and returns its exit code.
///
/// The deprecated `snapshot status` and `snapshot restore` need it: they work on files, which this crate does not know.
pub type Local = fn(Vec<OsString>) -> i32;

/// Runs one invocation of `etcdctl` and returns its exit code.
///
/// `program` is how it was called (`etcdctl`, or `eyrie ctl`), for advice on what to type next; help and version always
/// say `etcdctl`. `args` are the arguments without the program's name. Owns a runtime of its own: call it outside of
/// any other.
pub fn run(program: &str, args: Vec<OsString>, local: Local) -> i32 {
    let words: Vec<Vec<u8>> = args.into_iter().map(OsString::into_vec).collect();
    let api = std::env::var_os("ETCDCTL_API").unwrap_or_default();
    match api.to_string_lossy().as_ref() {
        "" | "3" => {}
        "2" => {
            error_line("Error: the v2 API is gone (ETCDCTL_API=2); unset ETCDCTL_API or set it to 3");
            return exit::ERROR;
        }
        other => {
            error_line(format!("unsupported API version: {other}"));
            return exit::ERROR;
        }
    }
    match understand(program, words, local) {
        Ok(None) => 0,
        Ok(Some(context)) => end(execute(context)),
        Err(code) => code,
    }
}

/// Finds the command and reads its flags; shows help where that was asked for.
fn understand(program: &str, words: Vec<Vec<u8>>, local: Local) -> Result<Option<Context>, i32> {
    let found = find(&tree::ROOT, &words).map_err(|text| {
        error_line(format!("Error: {text}\nRun '{} --help' for usage.\nError: {text}", tree::ROOT.name));
        exit::ERROR
    })?;
    let parsed = flag::parse(&found.flags(), &found.words).map_err(|text| {
        out(help::page(&found));
        error_line(format!("Error: {text}\n\nError: {text}"));
        exit::ERROR
    })?;
    if found.command().name == "help" && !parsed.bool("help") {
        help_topic(&parsed.args);
        return Ok(None);
    }
    if parsed.bool("help") || found.command().run.is_none() {
        out(help::page(&found));
        return Ok(None);
    }
    Ok(Some(Context { program: program.to_owned(), parsed, local, found }))
}

/// `help [command]`
fn help_topic(words: &[Vec<u8>]) {
    match find(&tree::ROOT, words) {
        Ok(found) => out(help::page(&found)),
        Err(_) => {
            let shown: Vec<String> = words.iter().map(|word| format!("`{}`", String::from_utf8_lossy(word))).collect();
            error_line(format!("Unknown help topic [{}]", shown.join(" ")));
            out(help::page(&Found { path: vec![&tree::ROOT], words: Vec::new() }));
        }
    }
}

fn execute(context: Context) -> Done {
    let Some(run) = context.found.command().run else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    let done = runtime.block_on(run(context));
    // A thread may still wait for standard input or a child: it does not hold up the end.
    runtime.shutdown_background();
    done
}

fn end(done: Done) -> i32 {
    match done {
        Ok(()) => 0,
        Err(failure) => {
            if let Some(text) = failure.text {
                error_line(format!("Error: {text}"));
            }
            if let Some(note) = failure.note {
                error_line(note);
            }
            failure.code
        }
    }
}
