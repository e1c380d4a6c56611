//! Free ports on 127.0.0.1, never the same twice while the tests of a run are alive.
//!
//! Tests are processes of their own, so a port is claimed by a lock on a file; the kernel's range for outgoing connections is
//! avoided, or a client socket could take a port between two starts of the same server.

use std::fs::File;
use std::net::TcpListener;
use std::sync::Mutex;

use anyhow::{Context, Result};

use crate::binaries::target_dir;

const FIRST: u16 = 12_000;
const LAST: u16 = 31_999;

/// Locks live as long as this process.
static CLAIMED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Claims a port nobody listens on.
pub fn free() -> Result<u16> {
    let dir = target_dir()?.join("ports");
    std::fs::create_dir_all(&dir)?;
    let span = u32::from(LAST - FIRST);
    let start = std::process::id().wrapping_mul(97) % span;
    for step in 0..span {
        let port = FIRST + ((start + step) % span) as u16;
        let file = File::create(dir.join(port.to_string()))?;
        if file.try_lock().is_err() || TcpListener::bind(("127.0.0.1", port)).is_err() {
            continue;
        }
        CLAIMED.lock().expect("no panic while claiming").push(file);
        return Ok(port);
    }
    None.context("no free port on 127.0.0.1")
}
