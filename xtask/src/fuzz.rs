//! `cargo xtask fuzz`: builds and runs the fuzz targets, which are a package of their own in `fuzz/`.

use anyhow::Result;

use crate::shell;

/// Passes the arguments on; the targets explain themselves.
///
/// # Errors
/// When a target finds something, or does not build.
pub(crate) fn main(args: &[String]) -> Result<()> {
    let target = shell::target_dir();
    let target = target.to_string_lossy();
    let mut all = vec!["run", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", &target, "--quiet", "--"];
    all.extend(args.iter().map(String::as_str));
    shell::run("cargo", &all, &[])
}
