//! The binary: one program that is also `etcd`, `etcdctl`, `etcdutl` and `milvus-backup` when it is called so.
//!
//! Knows how a person calls; what is done is done by the crates below.

mod agent;
mod backup;
mod doctor;
mod memory;
mod milvus_backup;
mod mirror;
mod notify;
mod open_files;
mod progress;
mod run;
mod screen;
mod serve;
mod up;
mod utl;
mod version;

use std::ffi::OsString;
use std::path::Path;
use std::process::exit;

const HELP: &str = "\
Eyrie keeps what must not be lost: a metadata store that speaks the etcd v3 API.

  eyrie up         start a store here, with nothing to configure
  eyrie serve      start a member with etcd's flags, ETCD_* variables or --config-file
  eyrie ctl        talk to a member, exactly as etcdctl does     (eyrie ctl put foo bar)
  eyrie utl        work on files of a stopped member, as etcdutl (eyrie utl snapshot restore ...)
  eyrie backup     keep a whole Milvus recoverable in a bucket   (eyrie backup take --config eyrie.yaml)
  eyrie agent      all of the backup as a daemon                (eyrie agent --config eyrie.yaml)
  eyrie milvus-backup  collections by Milvus's API, as milvus-backup and in its format
  eyrie mirror     make one bucket or folder equal to another   (eyrie mirror /data s3://backup/data)
  eyrie doctor     what is wrong with a cluster, Eyrie's or etcd's, and what to type
  eyrie version    what this is

Called etcd, etcdctl, etcdutl or milvus-backup (by a link of that name), it is that program.
Add --help to any of these for more. If in doubt: eyrie up
";

fn main() {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_else(|| "eyrie".into());
    let program = program.to_string_lossy().into_owned();
    let args: Vec<OsString> = args.collect();
    let called = Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    exit(match called.as_str() {
        "etcd" => serve::run("etcd", args),
        "etcdctl" => eyrie_ctl::run("etcdctl", args, utl),
        "etcdutl" => utl(args),
        "milvus-backup" => milvus_backup::run("milvus-backup", args),
        _ => eyrie(&program, args),
    })
}

fn eyrie(program: &str, mut args: Vec<OsString>) -> i32 {
    let first = if args.is_empty() { OsString::from("help") } else { args.remove(0) };
    match first.to_string_lossy().as_ref() {
        "up" => up::run(program, args),
        "serve" => serve::run(&format!("{program} serve"), args),
        "ctl" => eyrie_ctl::run(&format!("{program} ctl"), args, utl),
        "utl" => utl(args),
        "backup" => backup::run(args),
        "milvus-backup" => milvus_backup::run(&format!("{program} milvus-backup"), args),
        "agent" => agent::run(args),
        "mirror" => mirror::run(program, args),
        "doctor" => doctor::run(args),
        "version" | "--version" | "-version" => {
            screen::out(&version::text());
            0
        }
        "help" | "--help" | "-help" | "-h" => {
            screen::out(HELP);
            0
        }
        other => {
            let commands =
                ["up", "serve", "ctl", "utl", "backup", "milvus-backup", "agent", "mirror", "doctor", "version"];
            let near = serve::flags::nearest_of(other, commands.into_iter());
            let hint = near.map(|near| format!(" Did you mean `{program} {near}`?")).unwrap_or_default();
            eprintln!("There is no command `{other}`.{hint}\n\n{HELP}");
            2
        }
    }
}

/// Help and errors say `etcdutl` however it was called, as etcdctl's do.
fn utl(args: Vec<OsString>) -> i32 {
    utl::run(std::iter::once("etcdutl".into()).chain(args).collect())
}
