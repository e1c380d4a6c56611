//! An S3 server in a store's network namespace: moto, in memory, so that its end is the loss of all its buckets.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::peers;
use crate::place::{Place, wait_until};

/// How long the server may take to listen: it is Python, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running server; killed when dropped.
pub struct Moto {
    child: Child,
    place: Place,
    /// Its port on 127.0.0.1 of the place.
    pub port: u16,
}

impl Moto {
    /// Starts a server without buckets, its log in `dir`.
    pub fn start(dir: &Path, place: &Place, port: u16) -> Result<Moto> {
        let log = File::options().create(true).append(true).open(dir.join("moto.log"))?;
        let mut command = place.command(peers::moto()?.join("bin/python"));
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut moto = Moto { child, place: place.clone(), port };
        let ready = wait_until(START_LIMIT, || {
            !matches!(moto.child.try_wait(), Ok(None)) || moto.place.get(&moto.endpoint()).is_some()
        });
        if !ready || !matches!(moto.child.try_wait(), Ok(None)) {
            bail!(
                "the S3 server does not start: {}",
                std::fs::read_to_string(dir.join("moto.log")).unwrap_or_default()
            );
        }
        Ok(moto)
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket.
    pub fn bucket(&self, name: &str) -> Result<()> {
        let url = format!("{}/{name}", self.endpoint());
        let out = self.place.command("curl").args(["-sf", "-m", "20", "-X", "PUT", &url]).output()?;
        ensure!(out.status.success(), "the bucket {name} can't be made: {out:?}");
        Ok(())
    }

    /// What its clients need in their environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
