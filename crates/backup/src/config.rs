//! `eyrie.yaml`: where the source is, where the archive is, who may open it, and how often what happens.
//!
//! Parsed once, at the door; docs/backup.md has the whole file as an example, which a test reads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use eyrie_api::client::User;
use eyrie_archive::Policy;
use serde::{Deserialize, Serialize};

use crate::agent::AgentSection;
use crate::bucket::{Bucket, BucketConfig, SecretSource};
use crate::limits::{SEGMENT_AGE, SEGMENT_LEN};
use crate::logical::regular::LogicalSection;
use crate::pin::{PinFile, state_folder};
use crate::source::SourceConfig;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The etcd that is backed up.
    pub source: SourceSection,
    /// The Milvus whose objects are mirrored. Absent: metadata only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milvus: Option<MilvusSection>,
    /// The bucket that the archive lies in.
    pub archive: BucketConfig,
    /// Public keys (`age1…`) that may open what is stored. None: nothing is sealed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// How the tail is cut.
    #[serde(default)]
    pub tail: TailSection,
    /// What `expire` keeps.
    #[serde(default)]
    pub retention: Policy,
    /// Logical backups: taken by the agent, and named by `list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical: Option<LogicalSection>,
    /// What `eyrie agent` does, and when.
    #[serde(default)]
    pub agent: AgentSection,
    /// Folder for what the program must remember itself; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
}

/// Where metadata comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SourceSection {
    /// Client URLs of etcd, best all members'.
    pub endpoints: Vec<String>,
    /// Authority that vouches for the servers (PEM); absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The backup's own certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Every server is believed. For tests.
    #[serde(default)]
    pub insecure_skip_verify: bool,
    /// A user with the role root, where etcd has authentication on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password: `!file /path` or `!env NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
    /// Folder for the scratch file of a full; absent: the system's folder for temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<PathBuf>,
}

/// Where objects come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MilvusSection {
    /// Milvus's `etcd.rootPath`; absent: every Milvus that is found, or `by-dev` where there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The bucket of Milvus, without its `minio.rootPath`; for local storage `file://` and `localStorage.path`.
    pub bucket: BucketConfig,
    /// Milvus's `minio.rootPath`; ignored for local storage.
    #[serde(default = "root_path")]
    pub root_path: String,
}

fn root_path() -> String {
    "files".into()
}

/// How the tail is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TailSection {
    /// A piece is closed at this size.
    pub segment_bytes: usize,
    /// A piece is closed at this age.
    pub segment_age_ms: u64,
    /// Hours between two fulls while the tail runs; 0: only when history demands one.
    pub full_every_hours: u64,
    /// A busy source that keeps its past is read some times a second instead of listened to.
    pub strides: bool,
}

impl Default for TailSection {
    fn default() -> Self {
        let age = u64::try_from(SEGMENT_AGE.as_millis()).unwrap_or(1000);
        Self { segment_bytes: SEGMENT_LEN, segment_age_ms: age, full_every_hours: 6, strides: true }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {why}. Nothing was done. Next: correct it; docs/backup.md has an example")]
pub struct ConfigError {
    /// The file, or the flags.
    pub place: String,
    /// What is wrong.
    pub why: String,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, or is not what it should be.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let fault = |why: String| ConfigError { place: path.display().to_string(), why };
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        Self::parse(&text).map_err(fault)
    }

    /// Reads YAML.
    ///
    /// # Errors
    /// Words that say what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = serde_yaml_ng::from_str(text).map_err(|error| with_nearest(&error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Whether the settings can be right.
    ///
    /// # Errors
    /// Words that say what can't.
    pub fn check(&self) -> Result<(), String> {
        if self.source.endpoints.is_empty() {
            return Err("`source.endpoints` is empty".into());
        }
        if self.source.user.is_some() != self.source.password.is_some() {
            return Err("of `source.user` and `source.password` only one is given; they belong together".into());
        }
        if self.tail.segment_bytes < 1024 || self.tail.segment_bytes > 256 << 20 {
            return Err("`tail.segment-bytes` must be between 1 KiB and 256 MiB".into());
        }
        if self.tail.segment_age_ms < 50 || self.tail.segment_age_ms > 600_000 {
            return Err("`tail.segment-age-ms` must be between 50 and 600000".into());
        }
        self.retention.check().map_err(|error| error.to_string())?;
        if let Some(logical) = &self.logical {
            logical.check()?;
        } else if !self.agent.logical.is_never() {
            return Err("`agent.logical` is a schedule, and the section `logical` says not what to take".into());
        }
        self.agent.check()
    }

    /// Without a source: for commands that look at an archive only.
    pub fn of_archive(archive: BucketConfig) -> Self {
        Self {
            source: SourceSection::default(),
            milvus: None,
            archive,
            recipients: Vec::new(),
            tail: TailSection::default(),
            retention: Policy::default(),
            logical: None,
            agent: AgentSection::default(),
            state: None,
        }
    }

    /// Where the newest record of the archive that was seen is kept.
    pub fn pin(&self, archive: &Bucket) -> PinFile {
        PinFile::of(&state_folder(self.state.as_deref()), archive)
    }

    /// The source as its client wants it, with the password read.
    ///
    /// # Errors
    /// The secret can't be read.
    pub fn source(&self) -> Result<SourceConfig, String> {
        let section = &self.source;
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let user = match (&section.user, &section.password) {
            (Some(name), Some(secret)) => {
                Some(User { name: name.clone(), password: secret.resolve()?.reveal().to_owned() })
            }
            _ => None,
        };
        Ok(SourceConfig {
            endpoints: section.endpoints.clone(),
            ca_file: text(&section.ca_file),
            cert_file: text(&section.cert_file),
            key_file: text(&section.key_file),
            insecure_skip_verify: section.insecure_skip_verify,
            user,
            dial_timeout: None,
            spool: section.spool.clone().unwrap_or_default(),
        })
    }
}

/// A typing error in a key is told with the key that was meant.
fn with_nearest(error: &str) -> String {
    let mut quoted = error.split('`').skip(1).step_by(2);
    let (true, Some(wrong)) = (error.contains("unknown field"), quoted.next()) else { return error.to_owned() };
    let near = quoted.map(|known| (distance(wrong, known), known)).min();
    match near.filter(|(steps, known)| *steps <= 1 + known.len() / 3) {
        Some((_, known)) => format!("{error}. Did you mean `{known}`?"),
        None => error.to_owned(),
    }
}

/// Letters to insert, leave out or exchange to make one word of another.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], at + 1);
        for (place, against) in other.iter().enumerate() {
            let exchanged = corner + usize::from(letter != *against);
            corner = row[place + 1];
            row[place + 1] = exchanged.min(row[place] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}

impl TailSection {
    /// The age as a duration.
    pub fn segment_age(&self) -> Duration {
        Duration::from_millis(self.segment_age_ms)
    }

    /// The time between two fulls, if there is one.
    pub fn full_every(&self) -> Option<Duration> {
        (self.full_every_hours > 0).then(|| Duration::from_secs(self.full_every_hours * 3600))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_in_the_documentation_is_read() {
        let page = include_str!("../../../docs/backup.md");
        let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let config = Config::parse(example).unwrap();
        assert_eq!(config.source.endpoints.len(), 3);
        assert_eq!(config.tail, TailSection::default());
        assert!(config.milvus.is_some() && config.source.password.is_some());
        let again = Config::parse(&serde_yaml_ng::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn what_cannot_be_right_is_named() {
        let why = |text: &str| Config::parse(text).unwrap_err();
        assert!(why("source: {endpoints: []}\narchive: {url: 'memory:'}").contains("source.endpoints"));
        assert!(why("source: {endpoints: [a]}\narchive: {url: 'memory:'}\nrecipient: x").contains("recipient"));
        assert!(why("source: {endpoints: [a], user: root}\narchive: {url: 'memory:'}").contains("source.password"));
        let secret = why("source: {endpoints: [a], user: root, password: hunter2}\narchive: {url: 'memory:'}");
        assert!(!secret.contains("hunter2"), "{secret}");
        let typing = why("source: {endpoints: [a]}\narchive: {url: 'memory:'}\nretention: {keep-lst: 3}");
        assert!(typing.contains("Did you mean `keep-last`?"), "{typing}");
        let never = why("source: {endpoints: [a]}\narchive: {url: 'memory:'}\nagent: {full: '61 * * * *'}");
        assert!(never.contains("agent.full"), "{never}");
    }
}
