//! Which program stands in which role.
//!
//! `EYRIE_BIN` names the program under test; without it, it is the `eyrie` that cargo built beside this test. A file called `etcd`
//! is taken as upstream etcd with `etcdctl` and `etcdutl` beside it, so every test can be tried against upstream first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::peers;

/// One implementation: how to call its server, its `etcdctl` and its `etcdutl`.
#[derive(Clone, Debug)]
pub struct Program {
    /// For messages.
    pub name: &'static str,
    /// The server.
    pub serve: Vec<OsString>,
    /// The client.
    pub ctl: Vec<OsString>,
    /// The offline tool.
    pub utl: Vec<OsString>,
}

impl Program {
    /// The program under test.
    pub fn under_test() -> Result<Program> {
        let bin = match std::env::var_os("EYRIE_BIN") {
            Some(path) => PathBuf::from(path),
            None => profile_dir()?.join("eyrie"),
        };
        if !bin.is_file() {
            bail!(
                "the program under test is not there: {}\nbuild it with `cargo build -p eyrie`, or name it with EYRIE_BIN",
                bin.display()
            );
        }
        if bin.file_name().is_some_and(|n| n == "etcd") {
            return Ok(Program { name: "etcd", ..Program::siblings(bin.parent().context("folder of EYRIE_BIN")?) });
        }
        let call = |word: &str| vec![bin.clone().into_os_string(), OsString::from(word)];
        Ok(Program { name: "eyrie", serve: call("serve"), ctl: call("ctl"), utl: call("utl") })
    }

    /// Upstream etcd 3.5.1.
    pub fn upstream() -> Result<Program> {
        Ok(Program::siblings(&peers::etcd()?))
    }

    /// Whether this is upstream etcd, as in a trial run of the tests themselves.
    pub fn is_upstream(&self) -> bool {
        self.name != "eyrie"
    }

    fn siblings(dir: &Path) -> Program {
        let one = |name: &str| vec![dir.join(name).into_os_string()];
        Program { name: "upstream", serve: one("etcd"), ctl: one("etcdctl"), utl: one("etcdutl") }
    }
}

/// `target/<profile>`, where cargo put this very test.
pub fn profile_dir() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let dir = me.parent().context("folder of this test")?;
    let dir = if dir.ends_with("deps") { dir.parent().context("profile folder")? } else { dir };
    Ok(dir.to_path_buf())
}

/// The target folder, whatever its name.
pub fn target_dir() -> Result<PathBuf> {
    Ok(profile_dir()?.parent().context("target folder")?.to_path_buf())
}

/// The folder of this package in the source tree.
pub fn source_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
