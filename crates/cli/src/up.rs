//! `eyrie up`: a store on this machine with nothing to configure, in plain words.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use clap::Parser;
use eyrie_server::config::{Address, AutoCompaction, Url};
use eyrie_server::log::{Format, Level, LogConfig, Output};
use eyrie_server::{Config, log};

use crate::run::{self, Moment};
use crate::screen::tell;

/// Start a store here, for this machine only
///
/// The data goes to ./eyrie-data; starting again continues with it. Ctrl-C stops.
#[derive(Parser)]
#[command(name = "eyrie up", disable_version_flag = true)]
struct Options {
    /// The port on 127.0.0.1 where clients connect
    #[arg(long, default_value_t = 2379)]
    port: u16,
    /// Where the data lives
    #[arg(long, default_value = "eyrie-data", value_name = "DIR")]
    data: PathBuf,
}

/// Runs until Ctrl-C; returns the exit code.
pub(crate) fn run(program: &str, args: Vec<OsString>) -> i32 {
    let args = std::iter::once(OsString::from("eyrie up")).chain(args);
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return error.exit_code();
        }
    };
    let taken = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_err();
    if options.port != 0 && taken(options.port) {
        let free = (1..100)
            .map(|step| options.port.saturating_add(step * 10_000 % 50_000 + step - 1))
            .find(|port| !taken(*port));
        eprintln!("Port {} on 127.0.0.1 is already taken; perhaps Eyrie is up already.", options.port);
        eprintln!("  To ask what is there:   {program} ctl{} endpoint status", endpoint(options.port));
        eprintln!("  To see which:           ss -ltnp 'sport = :{}'", options.port);
        eprintln!("  To use another port:    {program} up --port {}", free.unwrap_or(12_379));
        eprintln!("Nothing was started, and nothing was changed.");
        return 1;
    }
    let store = options.data.join("store");
    let continued = std::fs::read_dir(&store).is_ok_and(|mut entries| entries.next().is_some());
    let log_file = options.data.join("eyrie.log");
    if let Err(error) = prepare(&options.data, &log_file) {
        eprintln!("Can't write to {}: {error}", options.data.display());
        eprintln!("  Choose another place:   {program} up --data DIR");
        return 1;
    }
    let config = config(options.port, store);
    let code = run::until_signal(&config, |moment| match moment {
        Moment::Ready => tell(&greeting(program, &options, continued)),
        Moment::Stopping => tell("\nStopping ..."),
        Moment::Stopped => tell(&format!("Stopped. The data stays in {}.", options.data.display())),
    });
    if code != 0 {
        eprintln!("{}", last_error(&log_file));
        eprintln!("The whole story is in {}.", log_file.display());
    }
    code
}

fn prepare(data: &Path, log_file: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(data)?;
    log::init(&LogConfig { level: Level::Info, format: Format::Json, outputs: vec![Output::File(log_file.into())] })
}

fn config(port: u16, store: PathBuf) -> Config {
    let url = |port: u16| Url { tls: false, address: Address::Tcp("127.0.0.1".into(), port) };
    let (client, peer) = (url(port), url(port.wrapping_add(1)));
    Config {
        name: "eyrie".into(),
        data_dir: store,
        advertise_client_urls: vec![client.to_string()],
        initial_advertise_peer_urls: vec![peer.to_string()],
        initial_cluster: vec![("eyrie".into(), peer.to_string())],
        listen_client_urls: vec![client],
        // Nobody joins it.
        listen_peer_urls: vec![],
        auto_compaction: AutoCompaction::Off,
        ..Config::default()
    }
}

fn greeting(program: &str, options: &Options, continued: bool) -> String {
    let Options { port, data } = options;
    let at = endpoint(*port);
    let state = if continued { "continued with the data that was there" } else { "new and empty" };
    format!(
        "Eyrie is up: an etcd-compatible store, {state}.\n\n  \
           Clients connect to   http://127.0.0.1:{port}  (this machine only, no password)\n  \
           The data is in       {}\n  \
           The log is           {}\n\n\
         Type this in another terminal:\n\n  \
           {program} ctl{at} put greeting hello\n  \
           {program} ctl{at} get greeting\n  \
           {program} ctl{at} watch --prefix ''\n  \
           {program} ctl{at} snapshot save backup.db\n\n\
         Any etcdctl works too. Ctrl-C stops; the data stays, and the same command continues with it.",
        data.join("store").display(),
        data.join("eyrie.log").display(),
    )
}

/// What `eyrie ctl` needs to be told about the port, if anything.
fn endpoint(port: u16) -> String {
    if port == 2379 { String::new() } else { format!(" --endpoints=127.0.0.1:{port}") }
}

/// The error of the last line of the log that has one.
fn last_error(log_file: &Path) -> String {
    let text = std::fs::read_to_string(log_file).unwrap_or_default();
    let error = text.lines().rev().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        // The server knows only the flag of `eyrie serve`.
        Some(line.get("error")?.as_str()?.replace("--data-dir", "--data"))
    });
    error.unwrap_or_else(|| "The store could not start.".into())
}
