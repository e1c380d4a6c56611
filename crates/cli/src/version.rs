//! What this program says it is.

use eyrie_server::{EYRIE_VERSION, VERSION};

/// etcd's four lines, whose first scripts read, and our own version.
pub(crate) fn text() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {VERSION}\nGit SHA: eyrie-{EYRIE_VERSION}\nGo Version: none (Eyrie is written in Rust)\n\
         Go OS/Arch: {}/{arch}\nEyrie Version: {EYRIE_VERSION}\n",
        std::env::consts::OS
    )
}
