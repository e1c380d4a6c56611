//! Logical backups by schedule: taken under names with the time in them, and deleted when they are too old.
//!
//! What is deleted is planned first, from names and times alone: [`doomed`].

use std::collections::BTreeSet;
use std::path::PathBuf;

use eyrie_archive::Period;
use eyrie_milvus::logical::{BackupName, Filter};
use serde::{Deserialize, Serialize};

use super::config::{Given, Settings, read};
use super::create::{self, Strategy};
use super::doors::Doors;
use super::failure::{Failure, Kind, Result};
use super::news::Tell;
use super::store::{State, Store};
use crate::history::TimeMs;

/// The section `logical` of eyrie.yaml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogicalSection {
    /// The configuration of milvus-backup, of either generation.
    pub config: PathBuf,
    /// How the names begin; only backups with such a name are ever deleted.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// Which collections, as `--filter`; none: all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filter: String,
    /// Whether rows that the newest backup has stay where they are.
    #[serde(default)]
    pub incremental: bool,
    /// With `incremental`: how often a backup holds everything itself.
    #[serde(default = "whole_every")]
    pub whole_every: Period,
    /// Users and roles too.
    #[serde(default)]
    pub rbac: bool,
    /// The newest backups, whatever their age.
    #[serde(default = "keep_last")]
    pub keep_last: usize,
    /// Everything younger than this.
    #[serde(default = "keep")]
    pub keep: Period,
}

fn prefix() -> String {
    "regular".into()
}

fn whole_every() -> Period {
    Period::days(7)
}

fn keep_last() -> usize {
    3
}

fn keep() -> Period {
    Period::days(14)
}

impl LogicalSection {
    /// Whether the settings can be right.
    ///
    /// # Errors
    /// Words that say what can't.
    pub fn check(&self) -> std::result::Result<(), String> {
        if self.keep_last == 0 {
            return Err("`logical.keep-last` is 0: the newest backup is never deleted; write at least 1".into());
        }
        self.name_at(TimeMs(0)).map_err(|why| format!("`logical.prefix`: {}", why.what))?;
        Filter::parse(&self.filter).map(drop).map_err(|why| format!("`logical.filter`: {why}"))
    }

    /// Reads the configuration that it names; what a person should hear stands beside it.
    ///
    /// # Errors
    /// It can't be read, or can't be right.
    pub fn settings(&self) -> Result<(Settings, Vec<String>)> {
        let place = self.config.display().to_string();
        let wrong = |why: String| Failure::new(Kind::Request, why, "correct `logical.config`");
        let text = std::fs::read_to_string(&self.config).map_err(|error| wrong(format!("{place}: {error}")))?;
        let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let read = read(&Given { file: Some((place, text)), env: env.collect(), set: Vec::new() });
        let read = read.map_err(|error| wrong(format!("{}: {}", error.place, error.why)))?;
        Ok((read.settings, read.warnings))
    }

    /// `regular_20261122_023000`.
    fn name_at(&self, now: TimeMs) -> Result<BackupName> {
        let at = i64::try_from(now.0).ok().and_then(chrono::DateTime::from_timestamp_millis).unwrap_or_default();
        let name = BackupName::parse(&format!("{}_{}", self.prefix, at.format("%Y%m%d_%H%M%S")));
        name.map_err(|why| Failure::new(Kind::Request, why, "correct `logical.prefix`"))
    }

    /// Whether a backup is one of this schedule's: nothing else is ever deleted.
    fn is_own(&self, name: &BackupName) -> bool {
        let time = name.as_str().strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('_'));
        time.is_some_and(|time| {
            let digits = |text: &str, len: usize| text.len() == len && text.bytes().all(|c| c.is_ascii_digit());
            time.split_once('_').is_some_and(|(day, clock)| digits(day, 8) && digits(clock, 6))
        })
    }
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The backup that was taken.
    pub name: BackupName,
    /// Collections that are not inside.
    pub failed: Vec<String>,
    /// Backups that were deleted.
    pub deleted: Vec<BackupName>,
    /// Why old ones could not be deleted.
    pub kept_for: Option<String>,
}

/// Takes a backup and deletes what is too old.
///
/// # Errors
/// No backup was taken.
pub async fn run(section: &LogicalSection, tell: &Tell) -> Result<Ran> {
    let (settings, warnings) = section.settings()?;
    warnings.into_iter().for_each(|warning| tell.warn(warning));
    let doors = Doors::open(&settings).await?;
    let now = TimeMs::now();
    let wrong = |why: String| Failure::new(Kind::Request, why, "correct `logical.filter`");
    // What can't be read now is no reason to take nothing.
    let known = backups(&doors.store, section).await.unwrap_or_default();
    let whole = known.iter().filter(|one| one.counts && one.holders.is_empty()).map(|one| one.made_ms).max();
    let fresh = whole.is_some_and(|made| now.0.saturating_sub(made) < section.whole_every.millis());
    let options = create::Options {
        name: Some(section.name_at(now)?),
        filter: Filter::parse(&section.filter).map_err(wrong)?,
        strategy: Strategy::Flush,
        rbac: section.rbac,
        index_extra: false,
        incremental: section.incremental && fresh,
        recipients: settings.recipients()?,
    };
    let created = create::create(&doors, &settings, &options, tell).await?;
    let failed = created.failed.iter().map(|one| format!("{}.{}: {}", one.database, one.name, one.why)).collect();
    let mut ran = Ran { name: created.name, failed, deleted: Vec::new(), kept_for: None };
    // The backup is taken: that old ones can't be deleted does not make it one that is to be taken again.
    if let Err(failure) = delete_old(&doors.store, section, &mut ran.deleted, tell).await {
        ran.kept_for = Some(failure.line());
    }
    Ok(ran)
}

async fn delete_old(store: &Store, section: &LogicalSection, deleted: &mut Vec<BackupName>, tell: &Tell) -> Result<()> {
    let known = backups(store, section).await?;
    for name in doomed(&known, section.keep_last, section.keep, TimeMs::now()) {
        let keys = store.plan_delete(&name).await?;
        store.delete(&keys, tell).await?;
        deleted.push(name);
    }
    Ok(())
}

/// A backup as retention sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    name: BackupName,
    made_ms: u64,
    /// Whether it is finished.
    counts: bool,
    /// Whether it lacks a collection.
    partial: bool,
    /// The backups that hold some of its rows.
    holders: BTreeSet<BackupName>,
    /// Whether the schedule took it.
    own: bool,
}

async fn backups(store: &Store, section: &LogicalSection) -> Result<Vec<Known>> {
    let mut known = Vec::new();
    for one in store.list().await? {
        // One that can't be read may need another: then nothing is deleted.
        let manifest = store.manifest(&one.name).await?;
        let holders = manifest.iter().flat_map(|manifest| manifest.holders());
        known.push(Known {
            made_ms: manifest.as_ref().map_or(0, |manifest| manifest.finished_at_ms),
            counts: matches!(one.state, State::Whole | State::Partial(_)),
            partial: matches!(one.state, State::Partial(_)),
            holders: holders.filter_map(|name| BackupName::parse(name).ok()).collect(),
            own: section.is_own(&one.name),
            name: one.name,
        });
    }
    Ok(known)
}

/// The backups that go, newest first: those of the schedule that are finished, older than `keep`, not among the newest
/// `keep_last` that lack nothing, and not needed by one that stays. One that is not finished is left for a person to see.
fn doomed(known: &[Known], keep_last: usize, keep: Period, now: TimeMs) -> Vec<BackupName> {
    let mut own: Vec<&Known> = known.iter().filter(|one| one.own && one.counts).collect();
    own.sort_by_key(|one| std::cmp::Reverse(one.made_ms));
    let mut last: BTreeSet<&BackupName> =
        own.iter().filter(|one| !one.partial).take(keep_last.max(1)).map(|one| &one.name).collect();
    // Where each lacks something, the newest are better than none.
    if last.is_empty() {
        last = own.iter().take(keep_last.max(1)).map(|one| &one.name).collect();
    }
    let young = |one: &Known| now.0.saturating_sub(one.made_ms) < keep.millis();
    let mut stays: BTreeSet<&BackupName> = known
        .iter()
        .filter(|one| !one.own || !one.counts || young(one) || last.contains(&one.name))
        .map(|one| &one.name)
        .collect();
    // What holds rows of one that stays, stays; a holder may itself need none, but it costs nothing to ask again.
    loop {
        let needed: BTreeSet<&BackupName> =
            known.iter().filter(|one| stays.contains(&one.name)).flat_map(|one| &one.holders).collect();
        let before = stays.len();
        stays.extend(needed);
        if stays.len() == before {
            break;
        }
    }
    own.into_iter().filter(|one| !stays.contains(&one.name)).map(|one| one.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn one(day: u64, change: impl FnOnce(&mut Known)) -> Known {
        let name = BackupName::parse(&format!("regular_2026{day:04}_000000")).unwrap();
        let (counts, own) = (true, true);
        let mut one = Known { name, made_ms: day * DAY, counts, partial: false, holders: BTreeSet::new(), own };
        change(&mut one);
        one
    }

    fn days(known: &[Known], keep_last: usize, keep: u64, now: u64) -> Vec<u64> {
        let doomed = doomed(known, keep_last, Period::days(keep), TimeMs(now * DAY));
        let day = |name: &BackupName| known.iter().find(|one| one.name == *name).unwrap().made_ms / DAY;
        doomed.iter().map(day).collect()
    }

    #[test]
    fn the_newest_the_young_the_needed_and_the_strange_stay() {
        let all: Vec<Known> = (1..=10).map(|day| one(day, |_| {})).collect();
        assert_eq!(days(&all, 3, 2, 11), [7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(days(&all, 1, 5, 11), [6, 5, 4, 3, 2, 1], "made five days ago to the moment is not younger");
        assert_eq!(days(&all, 2, 1, 1000), [8, 7, 6, 5, 4, 3, 2, 1], "however late it is, the newest stay");
        let mut strange = all.clone();
        strange[0].own = false;
        strange[1].counts = false;
        let (third, fourth) = (strange[2].name.clone(), strange[3].name.clone());
        strange[9].holders.insert(fourth);
        strange[3].holders.insert(third);
        assert_eq!(days(&strange, 1, 1, 1000), [9, 8, 7, 6, 5], "what others hold is needed");
        let mut partial = all;
        partial[9].partial = true;
        assert_eq!(days(&partial, 1, 1, 1000), [10, 8, 7, 6, 5, 4, 3, 2, 1], "the newest that lacks nothing stays");
        partial.iter_mut().for_each(|one| one.partial = true);
        assert_eq!(days(&partial, 1, 1, 1000).len(), 9, "one of those that lack something is better than none");
    }

    #[test]
    fn only_names_of_the_schedule_are_its_own() {
        let text = "{config: backup.yaml, prefix: nightly, keep: 2d}";
        let section: LogicalSection = serde_yaml_ng::from_str(text).unwrap();
        section.check().unwrap();
        let own = |name: &str| section.is_own(&BackupName::parse(name).unwrap());
        let name = section.name_at(TimeMs(1_795_305_600_000)).unwrap();
        assert!(section.is_own(&name), "{name}");
        for other in ["nightly", "nightly_", "nightly_before_upgrade", "nightly_20261122", "other_20261122_010203"] {
            assert!(!own(other), "{other}");
        }
        assert!(own("nightly_20261122_010203"));
        let none = LogicalSection { keep_last: 0, ..section.clone() };
        assert!(none.check().unwrap_err().contains("keep-last"));
        assert!(LogicalSection { prefix: "1x".into(), ..section }.check().unwrap_err().contains("prefix"));
    }
}
