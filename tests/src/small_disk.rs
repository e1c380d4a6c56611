//! A file system of its own with little room.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::store::bounded;

/// A small file system in memory; unmounted when dropped.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB at a folder that does not exist yet.
    pub fn mount(path: &Path, mib: u64) -> Result<SmallDisk> {
        std::fs::create_dir(path)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(path);
        let out = bounded(mount.stderr(Stdio::piped()), Duration::from_secs(10))?;
        if !out.status.success() {
            bail!("this test mounts a small tmpfs, so run it as root: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(SmallDisk { path: path.to_path_buf() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves no room at all.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.path.join("filler"))?;
        let block = vec![0u8; 64 * 1024];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        Ok(())
    }

    /// Gives all room back.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.path.join("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
