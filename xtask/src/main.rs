//! The workspace's chores. `cargo xtask` lists them.

mod bench;
mod fuzz;
mod peers;
mod shell;
mod verify;
mod walls;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask verify [--no-tests]   the gate: format, clippy, dependency walls, docs, tests; changes nothing
cargo xtask walls                 only the dependency walls
cargo xtask peers                 fetch the foreign programs that tests and benchmark stand beside
cargo xtask bench [--help]        Eyrie beside upstream etcd, ratios printed
cargo xtask fuzz TARGET|all --seconds N [--seed S]
cargo xtask fuzz --list           broken input for every decoder, for a bounded time";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = args.split_first().map_or(("", &[][..]), |(task, rest)| (task.as_str(), rest));
    let done = match task {
        "verify" => verify::main(rest),
        "walls" => walls::check(),
        "peers" => shell::run("cargo", &["run", "--locked", "-p", "eyrie-tests", "--bin", "fetch-peers"], &[]),
        "bench" => bench::main(rest),
        "fuzz" => fuzz::main(rest),
        "" | "help" | "--help" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => Err(anyhow::anyhow!("there is no task {other}\n\n{USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
