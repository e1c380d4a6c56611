//! The global flags, and the `ETCDCTL_` variables that stand in for them.

use super::flag::{Flag, Parsed};
use crate::exit::{self, Failure};
use crate::screen::error_line;
use crate::zaplog;

/// Prefix of the environment variables.
const PREFIX: &str = "ETCDCTL_";

/// Flags that every command understands.
pub(crate) static GLOBALS: [Flag; 18] = [
    Flag::list("endpoints", "127.0.0.1:2379", "gRPC endpoints"),
    Flag::bool("debug", "enable client-side debug logging"),
    Flag::text("write-out", "simple", "set the output format (fields, json, protobuf, simple, table)").short('w'),
    Flag::bool("hex", "print byte strings as hex encoded strings"),
    Flag::duration("dial-timeout", "2s", "dial timeout for client connections"),
    Flag::duration("command-timeout", "5s", "timeout for short running command (excluding dial timeout)"),
    Flag::duration("keepalive-time", "2s", "keepalive time for client connections"),
    Flag::duration("keepalive-timeout", "6s", "keepalive timeout for client connections"),
    Flag::yes("insecure-transport", "disable transport security for client connections"),
    Flag::yes("insecure-discovery", "accept insecure SRV records describing cluster endpoints"),
    Flag::bool(
        "insecure-skip-tls-verify",
        "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
    ),
    Flag::text("cert", "", "identify secure client using this TLS certificate file"),
    Flag::text("key", "", "identify secure client using this TLS key file"),
    Flag::text("cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle"),
    Flag::text("user", "", "username[:password] for authentication (prompt if password is not supplied)"),
    Flag::text(
        "password",
        "",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    Flag::text("discovery-srv", "", "domain name to query for SRV records describing cluster endpoints").short('d'),
    Flag::text("discovery-srv-name", "", "service name to query when using DNS discovery"),
];

/// Takes the values of inherited flags that were not typed from the environment.
///
/// Unknown `ETCDCTL_` variables get a warning line each, unless the command `expected` them.
///
/// # Errors
/// A variable and its flag both given.
pub(crate) fn read_environment(
    parsed: &mut Parsed,
    inherited: &[&'static Flag],
    expected: &[&str],
) -> Result<(), Failure> {
    let variable = |flag: &Flag| format!("{PREFIX}{}", flag.name.to_uppercase().replace('-', "_"));
    let mut used = Vec::new();
    let mut typed = Vec::new();
    for flag in inherited {
        let name = variable(flag);
        if parsed.changed(flag.name) {
            typed.push(name);
        } else if let Some(value) = std::env::var_os(&name).filter(|value| !value.is_empty()) {
            // A value that does not fit is passed over in silence, as upstream does.
            let _ = parsed.set(flag, std::os::unix::ffi::OsStringExt::into_vec(value));
            used.push(name);
        }
    }
    for (name, value) in std::env::vars_os() {
        let (name, value) = (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned());
        if used.contains(&name)
            || !name.starts_with(PREFIX)
            || name == "ETCDCTL_API"
            || expected.contains(&name.as_str())
        {
            continue;
        }
        if typed.contains(&name) {
            zaplog::command(
                "fatal",
                "flags/flag.go:85",
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))",
                &[("environment-variable", &name)],
            );
            return Err(Failure::silent(exit::ERROR));
        }
        let pair = format!("{name}={value}");
        zaplog::command(
            "warn",
            "flags/flag.go:93",
            "unrecognized environment variable",
            &[("environment-variable", &pair)],
        );
    }
    if parsed.bool("debug") {
        show(parsed, inherited);
    }
    Ok(())
}

/// Shows every inherited flag's value as its variable (`--debug`).
fn show(parsed: &Parsed, inherited: &[&'static Flag]) {
    let mut flags = inherited.to_vec();
    flags.sort_by_key(|flag| flag.name);
    for flag in flags {
        let value = match flag.kind {
            super::flag::Kind::List => format!("[{}]", parsed.list(flag.name).join(",")),
            super::flag::Kind::Bool => parsed.bool(flag.name).to_string(),
            super::flag::Kind::Duration => crate::go::duration::text(parsed.duration(flag.name)),
            super::flag::Kind::Text | super::flag::Kind::Int => parsed.text(flag.name),
        };
        error_line(format!("{PREFIX}{}={value}", flag.name.to_uppercase().replace('-', "_")));
    }
}
