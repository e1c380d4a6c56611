//! Where source and archive are: from eyrie.yaml, or from flags.

use std::path::PathBuf;

use eyrie_archive::{At, TimelineId};
use eyrie_backup::bucket::{Bucket, BucketConfig, BucketUrl, SecretSource};
use eyrie_backup::config::{Config, MilvusSection};
use eyrie_backup::restore::parse_at;
use eyrie_backup::seal::Identities;

/// The flags that every command has.
#[derive(clap::Args)]
pub(super) struct Settings {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// etcd's client URLs, with commas
    #[arg(long, value_name = "URL,...", value_delimiter = ',')]
    etcd: Vec<String>,
    /// Milvus's bucket; without it only metadata is kept
    #[arg(long, value_name = "ADDRESS")]
    bucket: Option<String>,
    /// Milvus's minio.rootPath in that bucket
    #[arg(long, value_name = "PATH", default_value = "files")]
    bucket_root: String,
    /// Milvus's etcd.rootPath, if only one Milvus of several is meant
    #[arg(long, value_name = "PATH")]
    milvus_root: Option<String>,
    /// The archive's bucket
    #[arg(long, value_name = "ADDRESS")]
    archive: Option<String>,
    /// A public key that may open what is stored; may be repeated
    #[arg(long, value_name = "age1...")]
    recipient: Vec<String>,
}

/// Which moment of a history, and the key to it.
#[derive(clap::Args)]
pub(super) struct Moment {
    /// The moment: latest, a revision, or a time such as 2026-11-22T12:04:05Z
    #[arg(long, value_name = "MOMENT", default_value = "latest", value_parser = parse_at)]
    pub(super) at: At,
    /// Of which timeline (see list), where there are several
    #[arg(long, value_name = "N")]
    timeline: Option<u32>,
    /// The file with a private key, where the archive is sealed; may be repeated
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
}

impl Moment {
    /// The timeline, where one is named.
    pub(super) fn timeline(&self) -> Option<TimelineId> {
        self.timeline.map(TimelineId)
    }

    /// The private keys.
    pub(super) fn keys(&self) -> Result<Identities, String> {
        identities(&self.identity)
    }
}

/// The private keys in these files.
pub(super) fn identities(files: &[PathBuf]) -> Result<Identities, String> {
    let files: Vec<SecretSource> = files.iter().cloned().map(SecretSource::File).collect();
    Identities::load(&files).map_err(|error| error.to_string())
}

impl Settings {
    /// The configuration, and the archive's bucket.
    pub(super) fn archive(&self) -> Result<(Config, Bucket), String> {
        let config = self.config()?;
        let bucket = Bucket::open(&config.archive).map_err(|error| error.to_string())?;
        Ok((config, bucket))
    }

    /// The configuration with the flags on top of it.
    pub(super) fn config(&self) -> Result<Config, String> {
        let mut config = match &self.config {
            Some(path) => Config::read(path).map_err(|error| error.to_string())?,
            None => {
                let archive = self.archive.as_ref().ok_or_else(|| missing("--archive ADDRESS"))?;
                Config::of_archive(bucket(archive)?)
            }
        };
        if !self.etcd.is_empty() {
            config.source.endpoints = self.etcd.clone();
        }
        if let (Some(archive), Some(_)) = (&self.archive, &self.config) {
            config.archive = bucket(archive)?;
        }
        if let Some(address) = &self.bucket {
            let root = self.milvus_root.clone();
            config.milvus = Some(MilvusSection { root, bucket: bucket(address)?, root_path: self.bucket_root.clone() });
        } else if let (Some(milvus), Some(root)) = (&mut config.milvus, &self.milvus_root) {
            milvus.root = Some(root.clone());
        }
        if !self.recipient.is_empty() {
            config.recipients = self.recipient.clone();
        }
        Ok(config)
    }

    /// The same, for commands that need the source.
    pub(super) fn with_source(&self) -> Result<Config, String> {
        let config = self.config()?;
        if config.source.endpoints.is_empty() {
            return Err(missing("--etcd URL"));
        }
        Ok(config)
    }
}

fn bucket(address: &str) -> Result<BucketConfig, String> {
    BucketUrl::parse(address).map(BucketConfig::new)
}

fn missing(flag: &str) -> String {
    format!("neither --config FILE nor {flag} is given. Nothing was done. Next: eyrie backup --help")
}
