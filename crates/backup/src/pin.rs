//! The newest record that was seen, kept outside of the archive: the only thing that shows that someone removed the newest
//! records, or wrote the past anew.
//!
//! One small file for each archive in the program's state folder, in `pins/`, named by the archive's address and a hash of
//! it and of the server that it is on: buckets of one name on two servers are two archives. It is replaced as a whole and
//! never goes back by itself.

use std::io::Write;
use std::path::{Path, PathBuf};

use eyrie_archive::{ArchiveId, Catalog, Link, Sha256};
use serde::{Deserialize, Serialize};

use crate::bucket::Bucket;
use crate::limits::PIN_WORDS_LEN;

/// Where the pin of an archive is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinFile {
    path: PathBuf,
    address: String,
}

/// What such a file says, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pinned {
    archive: ArchiveId,
    address: String,
    head: Link,
}

/// Why a pin cannot be read or kept.
#[derive(Debug, thiserror::Error)]
#[error(
    "the pin file {path} cannot be used: {why}. Without it nobody notices when the archive's newest records are removed. \
     Next: make it readable and writable, or remove it"
)]
pub struct PinError {
    path: String,
    why: String,
}

/// The folder for what the program must remember itself: `configured`, or what the system says.
pub fn state_folder(configured: Option<&Path>) -> PathBuf {
    if let Some(folder) = configured {
        return folder.to_owned();
    }
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd names its `StateDirectory` so; several stand with colons between
    let systemd = named("STATE_DIRECTORY").and_then(|all| Some(PathBuf::from(all.to_str()?.split(':').next()?)));
    let own = || {
        let base = named("XDG_STATE_HOME").or_else(|| named("HOME").map(|home| home.join(".local/state")))?;
        Some(base.join("eyrie"))
    };
    systemd.or_else(own).unwrap_or_else(|| PathBuf::from("/var/lib/eyrie"))
}

impl PinFile {
    /// The pin of the archive in this bucket.
    pub fn of(state: &Path, bucket: &Bucket) -> Self {
        Self { path: state.join("pins").join(Self::name(bucket)), address: bucket.to_string() }
    }

    /// The file's name within `pins`.
    pub fn name(bucket: &Bucket) -> String {
        let address = bucket.to_string();
        let hash = Sha256::of(format!("{}\n{address}", bucket.server()).as_bytes()).to_string();
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let words: String = address.chars().map(plain).collect();
        let words = words.trim_matches(['-', '.']);
        // the end tells archives apart; all of it may be longer than a file's name can be
        let words = &words[words.len().saturating_sub(PIN_WORDS_LEN)..];
        format!("{words}-{}.json", &hash[..16])
    }

    /// Its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest record that was seen; none: nothing was.
    ///
    /// # Errors
    /// It is there and can't be read.
    pub fn read(&self) -> Result<Option<Link>, PinError> {
        Ok(self.pinned()?.map(|pinned| pinned.head))
    }

    fn pinned(&self) -> Result<Option<Pinned>, PinError> {
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| self.error(&error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Remembers the newest record. A newer one of the same archive stays, unless an older state was `accepted`.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep(&self, catalog: &Catalog, accepted: bool) -> Result<(), PinError> {
        let pinned = Pinned { archive: catalog.archive().clone(), address: self.address.clone(), head: catalog.head() };
        if let (Ok(Some(old)), false) = (self.pinned(), accepted)
            && old.archive == pinned.archive
            && old.head.seq >= pinned.head.seq
        {
            return Ok(());
        }
        self.replace(&serde_json::to_vec(&pinned).unwrap_or_default()).map_err(|error| self.error(&error))
    }

    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let temporary = self.path.with_extension(format!("{}.new", std::process::id()));
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes).and_then(|()| file.sync_all())?;
        std::fs::rename(&temporary, &self.path)
    }

    fn error(&self, why: &dyn std::fmt::Display) -> PinError {
        PinError { path: self.path.display().to_string(), why: why.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::{BucketConfig, BucketUrl};

    fn name(url: &str, endpoint: Option<&str>) -> String {
        let mut config = BucketConfig::new(BucketUrl::parse(url).expect("a url"));
        config.endpoint = endpoint.map(str::to_owned);
        config.region = Some("eu-north-1".into());
        PinFile::name(&Bucket::open(&config).expect("a bucket"))
    }

    #[test]
    fn a_pin_is_named_by_address_and_server() {
        let here = name("s3://milvus/backup", Some("http://127.0.0.1:9000"));
        assert!(here.starts_with("s3---milvus-backup-") && here.ends_with(".json"), "{here}");
        assert_ne!(here, name("s3://milvus/backup", Some("http://127.0.0.1:9001")), "another server, another archive");
        assert_ne!(here, name("s3://milvus-backup", Some("http://127.0.0.1:9000")));
        assert_eq!(here, name("s3://milvus/backup", Some("http://127.0.0.1:9000/")));
        assert!(name(&format!("file:///{}", "deep/".repeat(200)), None).len() < 255);
    }
}
