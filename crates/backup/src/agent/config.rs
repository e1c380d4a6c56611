//! The section `agent` of eyrie.yaml.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::schedule::{When, Zone};
use crate::bucket::SecretSource;

/// What the agent does beside following the source, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AgentSection {
    /// Where metrics and health are served.
    pub listen: SocketAddr,
    /// By which clock schedules are meant.
    pub time_zone: Zone,
    /// A full; it takes the place of `tail.full-every-hours`.
    #[serde(deserialize_with = "full")]
    pub full: When,
    /// Everything is there with its length; what is damaged in the mirror is copied anew where the source still has it.
    #[serde(deserialize_with = "reconcile")]
    pub reconcile: When,
    /// The same, and all metadata and a sample of the objects are read.
    #[serde(deserialize_with = "verify")]
    pub verify: When,
    /// The same, and every byte is read.
    #[serde(deserialize_with = "verify_data")]
    pub verify_data: When,
    /// Retention.
    #[serde(deserialize_with = "expire")]
    pub expire: When,
    /// A drill: the newest moment is restored into scratch space, and a store is started on it. Off by default: it needs room,
    /// and for a sealed archive the private key.
    #[serde(deserialize_with = "drill")]
    pub drill: When,
    /// A logical backup, and retention of these; the section `logical` says what is taken. Off by default.
    #[serde(deserialize_with = "logical")]
    pub logical: When,
    /// The private key for drills: `!file /path` or `!env NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill_identity: Option<SecretSource>,
    /// What is run beside the restored store, for `sh -c`; docs/backup.md tells its environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill_command: Option<String>,
    /// Folder for drills: room for the metadata three times; absent: the folder of scratch files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill_scratch: Option<PathBuf>,
    /// The share of objects that `verify` reads, of a hundred.
    pub sample_percent: u8,
    /// The agent counts as ill when the archive is further behind than this.
    pub healthy_lag_secs: u64,
    /// Who is told when something goes wrong, or right again.
    pub notify: Vec<Target>,
}

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Target {
    /// An address that gets JSON by `POST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// The same, where the address is a secret: `!file /path` or `!env NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_from: Option<SecretSource>,
    /// A program and its arguments; it gets the same JSON on its standard input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

impl Default for AgentSection {
    fn default() -> Self {
        let when = |text| When::parse(text).expect("the defaults are schedules");
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9180)),
            time_zone: Zone::Utc,
            full: when("0 */6 * * *"),
            reconcile: when("20 1-23/6 * * *"),
            verify: when("40 2 * * *"),
            verify_data: when("40 3 * * 0"),
            expire: when("50 * * * *"),
            drill: when("never"),
            logical: when("never"),
            drill_identity: None,
            drill_command: None,
            drill_scratch: None,
            sample_percent: 5,
            healthy_lag_secs: 120,
            notify: Vec::new(),
        }
    }
}

impl AgentSection {
    /// Whether the settings can be right.
    ///
    /// # Errors
    /// Words that say what can't.
    pub fn check(&self) -> Result<(), String> {
        if self.sample_percent > 100 {
            return Err("`agent.sample-percent` is more than 100".into());
        }
        if self.healthy_lag_secs < 5 {
            return Err("`agent.healthy-lag-secs` must be at least 5".into());
        }
        let ways = |target: &Target| {
            [target.webhook.is_some(), target.webhook_from.is_some(), !target.command.is_empty()].map(usize::from)
        };
        if self.notify.iter().any(|target| ways(target).iter().sum::<usize>() != 1) {
            return Err("each of `agent.notify` needs either `webhook`, or `webhook-from`, or `command`".into());
        }
        Ok(())
    }
}

/// Errors of a schedule name its key, which the reader of untagged text would leave out.
macro_rules! schedules {
    ($($name:ident = $key:literal),*) => {
        $(fn $name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<When, D::Error> {
            let text = String::deserialize(from)?;
            When::parse(&text).map_err(|why| serde::de::Error::custom(format!("`agent.{}`: {why}", $key)))
        })*
    };
}

schedules!(
    drill = "drill",
    logical = "logical",
    full = "full",
    reconcile = "reconcile",
    verify = "verify",
    verify_data = "verify-data",
    expire = "expire"
);
