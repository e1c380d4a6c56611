//! The client as a program of its own, for tests and for trying things out.

fn main() {
    std::process::exit(eyrie_ctl::run("etcdctl", std::env::args_os().skip(1).collect(), no_files));
}

/// This program has no `etcdutl` beside it.
fn no_files(_: Vec<std::ffi::OsString>) -> i32 {
    eprintln!("Error: this build has no etcdutl; use `eyrie ctl` or `etcdutl snapshot`");
    1
}
