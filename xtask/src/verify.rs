//! The gate: everything a change must pass, in the order of what fails fastest. It changes nothing.

use anyhow::{Result, bail};

use crate::{shell, walls};

/// The fuzz targets stand outside the workspace; the gate looks at them too.
const FUZZ: &str = "fuzz/Cargo.toml";

/// `cargo xtask verify [--no-tests]`.
///
/// # Errors
/// At the first check that fails.
pub(crate) fn main(args: &[String]) -> Result<()> {
    let mut tests = true;
    for arg in args {
        match arg.as_str() {
            "--no-tests" => tests = false,
            other => bail!("verify: unknown argument {other}; it knows only --no-tests"),
        }
    }
    shell::run("cargo", &["fmt", "--all", "--check"], &[])?;
    shell::run("cargo", &["fmt", "--manifest-path", FUZZ, "--check"], &[])?;
    walls::check()?;
    shell::run("cargo", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], &[])?;
    let target = shell::target_dir();
    let target = target.to_string_lossy();
    shell::run(
        "cargo",
        &["clippy", "--manifest-path", FUZZ, "--target-dir", &target, "--all-targets", "--", "-D", "warnings"],
        &[],
    )?;
    shell::run("cargo", &["doc", "--workspace", "--no-deps", "--locked"], &[("RUSTDOCFLAGS", "-D warnings")])?;
    if tests {
        shell::run("cargo", &["nextest", "run", "--workspace", "--locked"], &[])?;
        shell::run("cargo", &["test", "--quiet", "--manifest-path", FUZZ, "--target-dir", &target], &[])?;
    }
    println!("verify: all checks passed{}", if tests { "" } else { " (tests not run)" });
    Ok(())
}
