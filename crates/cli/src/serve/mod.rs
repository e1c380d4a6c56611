//! `eyrie serve`, also as `etcd`: a member, configured as etcd is.

mod auth;
mod discover;
mod file;
pub(crate) mod flags;
mod given;
mod help;
mod settings;
mod tls;
mod values;

#[cfg(test)]
mod tests;

use std::ffi::OsString;

use eyrie_server::log;

use self::given::{Note, Stop};
use crate::{run, screen, version};

/// Runs a member until a signal; returns the exit code.
pub(crate) fn run(program: &str, args: Vec<OsString>) -> i32 {
    let args: Vec<String> = args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let variables: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    let given = match given::read(&args, &variables, |path| std::fs::read_to_string(path)) {
        Ok(given) => given,
        Err(stop) => return end(program, stop),
    };
    if let Err(error) = log::init(&settings::log_config(&given)) {
        log::error!("failed to verify flags", "error" = error.to_string());
        return 1;
    }
    let config = match settings::config(&given) {
        Ok(config) => config,
        Err(error) => return end(program, Stop::Verify(error)),
    };
    for note in &given.notes {
        tell(note);
    }
    let from_file = given.notes.iter().any(|note| matches!(note, Note::FileOnly(_)));
    let used =
        |name: &str, value: &str| !from_file && !value.is_empty() && flags::all().any(|flag| flag.variable() == name);
    for (name, value) in variables.iter().filter(|(name, value)| used(name, value)) {
        log::info!("recognized and used environment variable", "variable-name" = name, "variable-value" = value);
    }
    log::info!(
        "Running: ",
        "args" = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>()
    );
    if given.get("data-dir").is_none_or(str::is_empty) {
        log::warn!("'data-dir' was empty; using default", "data-dir" = config.data_dir);
    }
    run::until_signal(&config, |_| {})
}

fn end(program: &str, stop: Stop) -> i32 {
    match stop {
        Stop::Help => {
            screen::out(&help::text(program));
            0
        }
        Stop::Version => {
            screen::out(&version::text());
            0
        }
        Stop::Usage(message) => {
            eprintln!(
                "{message}\nUsage:\n\n  {program} [flags]\n    Start an etcd server.\n\n  {program} --help\n    Show all flags."
            );
            2
        }
        Stop::Verify(error) => {
            log::error!("failed to verify flags", "error" = error);
            1
        }
        Stop::Conflict(variable) => {
            log::fatal!(
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))",
                "environment-variable" = variable
            );
            1
        }
    }
}

fn tell(note: &Note) {
    match note {
        Note::NoEffect(flag, why) => {
            log::info!("flag is accepted and has no effect", "flag" = format!("--{flag}"), "reason" = why);
        }
        // The value may be a secret that other software keeps in the environment: only the name is told.
        Note::UnknownVariable(name) => log::warn!("unrecognized environment variable", "environment-variable" = name),
        Note::FileOnly(ignored) => {
            log::warn!("a configuration file is given, so other flags and variables are ignored", "ignored" = ignored);
        }
    }
}
