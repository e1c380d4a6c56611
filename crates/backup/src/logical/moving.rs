//! `move`: collections from one Milvus to another, as one command.
//!
//! ```text
//! source: create ─▶ a backup in the target's place ─▶ target: restore, counted ─▶ both compared ─▶ the backup is deleted
//! ```
//!
//! The source is asked and flushed, and nothing else is done to it. The backup's name follows from what is moved where, so
//! that the same command, after a kill, finds what it had done: the backup goes on or is there, and so does the restore.

use eyrie_milvus::logical::{BackupName, CollectionName, Filter, Renames};
use sha2::Digest;

use super::config::Settings;
use super::create::{self, Created, hex};
use super::doors::Doors;
use super::failure::{Failure, Kind, Result};
use super::milvus::Milvus;
use super::news::Tell;
use super::restore::{self, Restored, count_loaded};
use super::store::State;

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The name of the backup in between; without one it follows from what is moved where.
    pub name: Option<BackupName>,
    /// What is taken from the source.
    pub create: create::Options,
    /// What is done with it in the target.
    pub restore: restore::Options,
    /// Whether the backup stays when everything is there.
    pub keep: bool,
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The backup in between.
    pub name: BackupName,
    /// How far an earlier run of the same move got with it.
    pub state: Option<State>,
    /// Old names, new names, and how many rows Milvus counts.
    pub collections: Vec<(CollectionName, CollectionName, Option<u64>)>,
}

/// What became of a move.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The backup in between.
    pub name: BackupName,
    /// It, unless an earlier run had taken it.
    pub created: Option<Created>,
    /// What came into the target.
    pub restored: Restored,
    /// Each collection, counted on both sides by a query.
    pub compared: Vec<Compared>,
    /// Collections that the backup lacks.
    pub missing: Vec<String>,
    /// Whether the backup is still there.
    pub kept: bool,
}

/// Rows on both sides, where both are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// In the source.
    pub source: CollectionName,
    /// In the target.
    pub target: CollectionName,
    /// Rows that a query found in the source before the move, and after it.
    pub source_rows: Option<(u64, u64)>,
    /// Rows that a query finds in the target.
    pub target_rows: Option<u64>,
}

impl Compared {
    /// Whether rows are missing, or too many, although nobody wrote to the source meanwhile.
    pub fn differs(&self) -> bool {
        matches!((self.source_rows, self.target_rows), (Some((before, after)), Some(found)) if before == after && found != after)
    }
}

impl Moved {
    /// Whether all that was wanted is in the target.
    pub fn is_whole(&self) -> bool {
        self.restored.failed.is_empty() && self.missing.is_empty() && !self.compared.iter().any(Compared::differs)
    }
}

/// The settings of the backup in between: taken from the source, into the target's place.
fn between(from: &Settings, to: &Settings) -> Settings {
    Settings { backup: to.backup.clone(), ..from.clone() }
}

/// Says what [`run`] would do, and changes nothing.
///
/// # Errors
/// As [`run`], as far as it can be known before.
pub async fn plan(from: &Settings, to: &Settings, options: &Options) -> Result<Plan> {
    let (source, target) = (Doors::open(&between(from, to)).await?, Doors::open(to).await?);
    let name = options.name.clone().unwrap_or_else(|| name_of(&source.milvus, &target.milvus, options));
    let planned = create::plan(&source.milvus, &options.create).await?;
    let targets = |name: &CollectionName| options.restore.renames.apply(name);
    let listed = target.store.list().await?.into_iter().find(|one| one.name == name);
    let state = listed.map(|one| one.state);
    if !matches!(state, Some(State::Whole | State::Partial(_))) {
        let names: Vec<CollectionName> = planned.collections.iter().map(|(name, _)| targets(name)).collect();
        restore::free(&target.milvus, &names, &options.restore).await?;
    }
    let collections =
        planned.collections.into_iter().map(|(name, rows)| (name.clone(), targets(&name), rows)).collect();
    Ok(Plan { name, state, collections })
}

/// Moves collections; the same call goes on where an earlier one was ended.
///
/// # Errors
/// Nothing came into the target: one of the two can't be reached, names are taken there, or no collection could be backed up.
/// What fails later is in [`Moved`].
pub async fn run(from: &Settings, to: &Settings, options: &Options, tell: &Tell) -> Result<Moved> {
    let across = between(from, to);
    let (source, target) = (Doors::open(&across).await?, Doors::open(to).await?);
    let name = options.name.clone().unwrap_or_else(|| name_of(&source.milvus, &target.milvus, options));
    if let Some(moved) = deleted_the_rest(&target, &name, tell).await? {
        return Ok(moved);
    }
    // Names that are taken are known before the first byte is copied.
    let Plan { name, state, collections } = plan(from, to, options).await?;
    let mut before = Vec::new();
    for (collection, ..) in &collections {
        before.push(count_loaded(&source.milvus, collection).await?);
    }
    let finished = matches!(state, Some(State::Whole | State::Partial(_)));
    let created = if finished {
        tell.say(format!("the backup {name} was taken by an earlier run of this move; this one goes on"));
        None
    } else {
        tell.step(format!("backup {name}: from {} to {}", source.milvus.place(), target.store.bucket()));
        let wanted = create::Options { name: Some(name.clone()), ..options.create.clone() };
        Some(create::create(&source, &across, &wanted, tell).await?)
    };
    tell.step(format!("restore {name}: to {}", target.milvus.place()));
    // Filters mean names of the source, and the backup has what they chose.
    let filter = Filter::default();
    let wanted = restore::Options { source_filter: filter, keep_journal: true, ..options.restore.clone() };
    let restored = restore::restore(&target, to, &name, &wanted, tell).await?;
    let mut compared = Vec::new();
    for ((collection, new, _), before) in collections.into_iter().zip(before) {
        if !restored.done.iter().any(|(done, _)| *done == new) {
            continue;
        }
        let after = count_loaded(&source.milvus, &collection).await?;
        let target_rows = count_loaded(&target.milvus, &new).await?;
        compared.push(Compared { source: collection, target: new, source_rows: before.zip(after), target_rows });
    }
    let manifest = target.store.manifest(&name).await?;
    let missing = manifest.into_iter().flat_map(|manifest| manifest.failed);
    let missing = missing.map(|one| format!("{}.{}: {}", one.database, one.name, one.why)).collect();
    let mut moved = Moved { name, created, restored, compared, missing, kept: true };
    if moved.is_whole() && !options.keep {
        tell.step(format!("delete the backup {}", moved.name));
        let keys = target.store.plan_delete(&moved.name).await?;
        target.store.delete(&keys, tell).await?;
        moved.kept = false;
    } else if moved.is_whole() {
        restore::forget_all(&target.store.folder(&moved.name)?).await?;
    }
    Ok(moved)
}

/// An earlier run that was ended while it deleted the backup, since all was there: the rest is deleted.
async fn deleted_the_rest(target: &Doors, name: &BackupName, tell: &Tell) -> Result<Option<Moved>> {
    if target.store.exists(name).await? {
        return Ok(None);
    }
    let journals = restore::unfinished(&target.store.folder(name)?).await?;
    let done: Option<Vec<(CollectionName, u64)>> = journals
        .iter()
        .map(|one| {
            one.target.split_once('.').zip(one.rows).map(|((db, name), rows)| (CollectionName::new(db, name), rows))
        })
        .collect();
    let Some(done) = done.filter(|done| !done.is_empty()) else { return Ok(None) };
    tell.say(format!(
        "an earlier run moved everything, and was ended while it deleted the backup {name}; the rest is deleted"
    ));
    let keys = target.store.plan_delete(name).await?;
    target.store.delete(&keys, tell).await?;
    let restored = Restored { done, ..Restored::default() };
    let (compared, missing) = (Vec::new(), Vec::new());
    Ok(Some(Moved { name: name.clone(), created: None, restored, compared, missing, kept: false }))
}

/// `move_` and 16 letters that follow from both places and from what is moved.
fn name_of(source: &Milvus, target: &Milvus, options: &Options) -> BackupName {
    let all =
        format!("{} {} {:?} {:?}", source.place(), target.place(), options.create.filter, options.restore.renames);
    let text = format!("move_{}", &hex(&sha2::Sha256::digest(all.as_bytes()))[..16]);
    BackupName::parse(&text).expect("letters, digits and an underscore")
}

/// Refuses two settings that mean one Milvus without new names.
///
/// # Errors
/// They do.
pub fn check(from: &Settings, to: &Settings, options: &Options) -> Result<()> {
    let same = (&from.milvus.address, from.milvus.port) == (&to.milvus.address, to.milvus.port);
    if same && options.restore.renames == Renames::default() {
        let what = format!("source and target are one Milvus, {}:{}", to.milvus.address, to.milvus.port);
        return Err(Failure::new(Kind::Request, what, "name the target's configuration by --to-config, or give -s"));
    }
    Ok(())
}
