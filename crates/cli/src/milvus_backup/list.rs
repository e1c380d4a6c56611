//! `list`, `get`, `delete`.

use eyrie_backup::logical::store::{Listed, State, Store};
use eyrie_backup::logical::{Failure, Kind, Tell};
use eyrie_milvus::logical::BackupName;
use indicatif::HumanBytes;
use serde_json::json;

use super::{Context, DONE, Delete};
use crate::progress::{Output, json};
use crate::screen::out;

/// Names that `delete --dry-run` prints; the rest is counted.
const SHOWN: usize = 20;

/// A name that was typed.
pub(super) fn name(typed: &str) -> Result<BackupName, Failure> {
    BackupName::parse(typed).map_err(|why| Failure::new(Kind::Request, why, "correct -n"))
}

pub(super) async fn list(context: &Context) -> Result<i32, Failure> {
    let store = Store::open(&context.settings)?;
    let listed = store.list().await?;
    match context.output {
        Output::Json => {
            for one in &listed {
                json(&machine(one));
            }
        }
        Output::Text if listed.is_empty() => out(&format!("There is no backup in {}.\n", store.bucket())),
        Output::Text => out(&page(&listed)),
    }
    Ok(DONE)
}

/// One backup for machines.
pub(crate) fn machine(one: &Listed) -> serde_json::Value {
    let brief = one.brief.clone().unwrap_or_default();
    let missing = match &one.state {
        State::Partial(missing) => missing.clone(),
        _ => Vec::new(),
    };
    json!({
        "id": brief.id, "name": one.name.as_str(), "state": one.state.word(), "size": brief.size,
        "milvus_version": brief.milvus_version, "backup_timestamp": brief.backup_timestamp, "missing": missing,
        "sealed": one.is_sealed(), "unfinished_restores": one.restores.iter().map(|restore| &restore.target).collect::<Vec<_>>(),
    })
}

/// All backups for people.
pub(crate) fn page(listed: &[Listed]) -> String {
    let width = listed.iter().map(|one| one.name.as_str().len()).max().unwrap_or_default();
    let mut page = String::new();
    for one in listed {
        let size = match &one.brief {
            Some(brief) => HumanBytes(u64::try_from(brief.size).unwrap_or_default()).to_string(),
            None => "-".into(),
        };
        let version = one.brief.as_ref().map(|brief| brief.milvus_version.clone()).unwrap_or_default();
        let more = match &one.state {
            State::Whole => String::new(),
            State::Partial(missing) => format!("  WITHOUT {}", missing.join(", ")),
            State::Running(writer) => format!("  {writer} is at work on it"),
            State::Incomplete => format!("  was not finished: create -n {} goes on, delete takes it away", one.name),
            State::Damaged(why) => format!("  {why}"),
        };
        let sealed = if one.is_sealed() { "  sealed" } else { "" };
        page +=
            &format!("{:width$}  {:10}  {size:>12}  {version}{sealed}{more}\n", one.name.as_str(), one.state.word());
        for restore in &one.restores {
            page += &match (&restore.worker, restore.rows.is_some()) {
                (Some(writer), _) => format!("  is being restored to {} by {writer}\n", restore.target),
                (None, true) => {
                    format!("  restored to {} in {}, others of that run were not\n", restore.target, restore.milvus)
                }
                (None, false) => format!(
                    "  a restore to {} in {} was not finished: the same restore goes on\n",
                    restore.target, restore.milvus
                ),
            };
        }
    }
    page
}

pub(super) async fn get(context: &Context, typed: &str) -> Result<i32, Failure> {
    let store = Store::open(&context.settings)?;
    let mut backup = store.read(&name(typed)?).await?;
    // As upstream's short form: everything but the single segments, which may be thousands.
    for collection in &mut backup.info.collection_backups {
        collection.l0_segments.clear();
        collection.partition_backups.iter_mut().for_each(|partition| partition.segment_backups.clear());
    }
    let text = match context.output {
        Output::Text => serde_json::to_string_pretty(&backup.info),
        Output::Json => serde_json::to_string(&backup.info),
    };
    out(&format!("{}\n", text.unwrap_or_default()));
    Ok(DONE)
}

pub(super) async fn delete(context: &Context, delete: &Delete) -> Result<i32, Failure> {
    let name = name(&delete.one.name)?;
    let store = Store::open(&context.settings)?;
    let keys = store.plan_delete(&name).await?;
    if delete.dry_run {
        match context.output {
            Output::Json => json(&json!({ "event": "plan", "name": name.as_str(), "objects": keys })),
            Output::Text => {
                let mut page: String = keys.iter().take(SHOWN).map(|key| format!("would delete {key}\n")).collect();
                if keys.len() > SHOWN {
                    page += &format!("... and {} more\n", keys.len() - SHOWN);
                }
                out(&page);
            }
        }
        return Ok(DONE);
    }
    let shown = super::tell::Shown::new("delete", context.output);
    let tell: Tell = shown.tell();
    let deleted = store.delete(&keys, &tell).await;
    shown.finish();
    deleted?;
    match context.output {
        Output::Json => json(&json!({ "event": "deleted", "name": name.as_str(), "objects": keys.len() })),
        Output::Text => out(&format!("{name} is deleted: {} objects\n", keys.len())),
    }
    Ok(DONE)
}
