//! `eyrie doctor`: what is wrong with this cluster, and what to type.
//!
//! [`gather`] asks, [`observe`] holds what was seen, [`judge`] says what it means. Works with Eyrie and with upstream etcd,
//! reads only, and needs nothing but the client port.

mod gather;
mod judge;
mod observe;

use std::ffi::OsString;

use clap::{Parser, ValueEnum};
use eyrie_api::client::{Address, Config, Tls, TlsFiles, User};

use self::judge::{Finding, Severity, findings, mib};
use self::observe::{Answer, Observations};
use crate::screen;

/// The command line is not understood, or a file that it names cannot be read.
const USAGE: i32 = 64;

/// Looks at a running cluster and its host, and says what is wrong and what to type.
///
/// Exit code: 0 nothing or only notes, 1 warnings, 2 something critical, 64 the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "eyrie doctor", disable_version_flag = true)]
struct Args {
    /// Members, separated by commas
    #[arg(long, env = "ETCDCTL_ENDPOINTS", default_value = "127.0.0.1:2379", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// Look at all members that the cluster lists instead
    #[arg(long)]
    cluster: bool,
    /// Certificates of those who vouch for the members
    #[arg(long, env = "ETCDCTL_CACERT", default_value = "", hide_default_value = true)]
    cacert: String,
    /// Own certificate
    #[arg(long, env = "ETCDCTL_CERT", default_value = "", hide_default_value = true)]
    cert: String,
    /// Its key
    #[arg(long, env = "ETCDCTL_KEY", default_value = "", hide_default_value = true)]
    key: String,
    /// Believe every certificate
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// name:password
    #[arg(long, env = "ETCDCTL_USER", hide_env_values = true)]
    user: Option<String>,
    /// Password, if it is not in --user
    #[arg(long, env = "ETCDCTL_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Root path of the Milvus whose size is judged
    #[arg(long, default_value = "by-dev")]
    root_path: String,
    /// How to show what is found
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs it; returns the exit code.
pub(crate) fn run(args: Vec<OsString>) -> i32 {
    let args = match Args::try_parse_from(std::iter::once("eyrie doctor".into()).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { USAGE } else { 0 };
        }
    };
    let config = match config(&args) {
        Ok(config) => config,
        Err(why) => {
            eprintln!("Error: {why}");
            return USAGE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: cannot start: {error}");
            return USAGE;
        }
    };
    let seen = runtime.block_on(gather::observe(config, args.cluster, &args.root_path));
    let found = findings(&seen);
    match args.output {
        Output::Text => screen::out(&text(&seen, &found)),
        Output::Json => screen::out(&json(&seen, &found)),
    }
    match found.first().map(|finding| finding.severity) {
        None | Some(Severity::Note) => 0,
        Some(Severity::Warning) => 1,
        Some(Severity::Critical) => 2,
    }
}

fn config(args: &Args) -> Result<Config, String> {
    let tls = Tls::read(&TlsFiles {
        cacert: args.cacert.clone(),
        cert: args.cert.clone(),
        key: args.key.clone(),
        insecure_transport: true,
        insecure_skip_verify: args.insecure_skip_tls_verify,
    })?;
    let endpoints = args.endpoints.iter().filter(|endpoint| !endpoint.is_empty()).map(Address::new).collect();
    let mut config = Config::new(endpoints, tls);
    if let Some(user) = &args.user {
        let (name, password) = match (&args.password, user.split_once(':')) {
            (Some(password), _) => (user.as_str(), password.as_str()),
            (None, Some(both)) => both,
            (None, None) => return Err("--user needs a password: --user name:password, or ETCDCTL_PASSWORD".into()),
        };
        config.user = Some(User { name: name.into(), password: password.into() });
    }
    Ok(config)
}

fn text(seen: &Observations, found: &[Finding]) -> String {
    let mut text = String::from("Looked at:\n");
    for member in &seen.members {
        let state = match &member.answer {
            Ok(answer) => state(answer),
            Err(_) => "no answer".into(),
        };
        text.push_str(&format!("  {}  {state}\n", member.endpoint));
    }
    if found.is_empty() {
        text.push_str("\nNothing is wrong.\n");
    }
    // What is said of several members alike is said once.
    for alike in found.chunk_by(|a, b| (a.severity, &a.what, &a.then) == (b.severity, &b.what, &b.then)) {
        let Finding { severity, what, then, .. } = &alike[0];
        let about = alike.iter().map(|finding| finding.about.as_str()).collect::<Vec<_>>().join(", ");
        let severity = match severity {
            Severity::Note => "note",
            Severity::Warning => "WARNING",
            Severity::Critical => "CRITICAL",
        };
        text.push_str(&format!("\n{severity}  {about}\n  {what}.\n  → {then}\n"));
    }
    text
}

fn state(answer: &Answer) -> String {
    let role = match answer {
        Answer { learner: true, .. } => "learner",
        Answer { leader: 0, .. } => "without a leader",
        Answer { leader, member, .. } if leader == member => "leader",
        _ => "follower",
    };
    format!("{role}, version {}, {} of tables, revision {}", answer.version, mib(answer.db_bytes), answer.revision)
}

fn json(seen: &Observations, found: &[Finding]) -> String {
    let endpoints: Vec<&str> = seen.members.iter().map(|member| member.endpoint.as_str()).collect();
    format!("{}\n", serde_json::json!({ "endpoints": endpoints, "findings": found }))
}
