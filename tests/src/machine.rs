//! A bad machine under one Eyrie: its disk loses what was not synced, tears, fails or is slow; its wall clock jumps. All of it
//! can change while the process runs (`machine/shim.rs` is the other side).

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::binaries::profile_dir;

/// Where each setting stands in the file: see the table of the shim.
const CLOCK: u64 = 0;
const SYNC_DELAY: u64 = 8;
const SYNCS_FAIL: u64 = 16;
const HOLD_BACK: u64 = 24;
const SYNCS: u64 = 32;
const HELD: u64 = 40;
const BYTES: u64 = 48;

/// The settings of one machine. They outlive the processes on it.
pub struct Machine {
    path: PathBuf,
    file: File,
}

impl Machine {
    /// A good machine, whose settings are kept in `dir`.
    pub fn new(dir: &Path) -> Result<Machine> {
        let path = dir.join("machine");
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        file.set_len(BYTES)?;
        Ok(Machine { path, file })
    }

    /// What stands before the command of a process on this machine.
    pub fn wrapper(&self) -> Result<Vec<OsString>> {
        let shim = profile_dir()?.join("examples/libmachine.so");
        ensure!(shim.is_file(), "{} is missing: cargo builds it with the tests", shim.display());
        let mut preload = OsString::from("LD_PRELOAD=");
        preload.push(shim);
        let mut settings = OsString::from("EYRIE_MACHINE=");
        settings.push(&self.path);
        Ok(vec!["env".into(), preload, settings])
    }

    /// The wall clock is off by so much.
    pub fn clock_is_off(&self, seconds: i64) -> Result<()> {
        self.set(CLOCK, (seconds * 1_000_000_000) as u64)
    }

    /// Each sync takes so much longer.
    pub fn slow_sync(&self, delay: Duration) -> Result<()> {
        self.set(SYNC_DELAY, u64::try_from(delay.as_micros())?)
    }

    /// Syncs fail.
    pub fn syncs_fail(&self, fail: bool) -> Result<()> {
        self.set(SYNCS_FAIL, u64::from(fail))
    }

    /// A kill loses and tears what was not synced. To be set before a process starts.
    pub fn hold_back(&self, hold: bool) -> Result<()> {
        self.set(HOLD_BACK, u64::from(hold))
    }

    /// How many syncs there were, and how many writes were held back until one.
    pub fn counts(&self) -> Result<(u64, u64)> {
        Ok((self.get(SYNCS)?, self.get(HELD)?))
    }

    fn set(&self, at: u64, number: u64) -> Result<()> {
        self.file.write_all_at(&number.to_ne_bytes(), at).context("set a machine")
    }

    fn get(&self, at: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}
