//! Is the archive still what it says? Every record, every file, and what a damaged one means.
//!
//! ```text
//! catalogue, every record and checkpoint ─┐
//! index, every piece ─────────────────────┼─▶ findings ─▶ looked at once more ─▶ report ─▶ a `Verified` for each chain
//! fulls, tail, objects (length, or bytes) ┘
//! ```
//! Reads only, with any credentials that can read, and needs no private key: hashes are of what is stored. What cannot be
//! looked at, because a bucket does not answer, is neither well nor damaged, and is told apart from both.

mod look;
mod report;

use std::collections::BTreeMap;
use std::time::Instant;

use eyrie_archive::verify::{VerifyPlan, verify_plan};
use eyrie_archive::{Catalog, Damage, Index, Kind, Link, Seq, StoredPath};

pub use self::report::{CatalogFinding, Finding, Report};
use crate::bucket::Bucket;
use crate::catalog::{self, ArchiveError, Writer};
use crate::tell::Tell;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Thoroughness {
    /// Everything is there with its length.
    Structure,
    /// All metadata is read, and this share of the objects; another seed picks others.
    Sample {
        /// Of a hundred.
        percent: f64,
        /// Which.
        seed: u64,
    },
    /// Every byte is read.
    Data,
}

/// What to verify.
#[derive(Debug, Clone)]
pub struct Options {
    /// How closely.
    pub thoroughness: Thoroughness,
    /// Chains that begin with these fulls; none given: all of them.
    pub fulls: Vec<Seq>,
    /// The newest record that was seen earlier.
    pub pin: Option<Link>,
}

impl Default for Options {
    fn default() -> Self {
        Self { thoroughness: Thoroughness::Structure, fulls: Vec::new(), pin: None }
    }
}

/// Looks at an archive. Nothing is changed; see [`record`].
///
/// # Errors
/// Nothing can be said: there is no archive, no beginning of one, or its bucket does not answer.
pub async fn verify(bucket: &Bucket, options: &Options, tell: &Tell) -> Result<Report, ArchiveError> {
    let began = Instant::now();
    let reading = catalog::read(bucket, options.pin).await?;
    let mut seen = Seen::default();
    let mut damage = reading.damage;
    for one in look::catalogue(bucket, &reading.catalog, options.pin, &mut seen).await {
        if !damage.contains(&one) {
            damage.push(one);
        }
    }
    let index = look::index(bucket, &reading.catalog, &mut seen).await;
    let plan = planned(&reading.catalog, &index, options);
    look::files(bucket, &plan, &mut seen, tell).await;
    let counted = reading.catalog.totals().objects;
    let miscounted = seen.index_is_whole && index.len() as u64 != counted;
    let mut report = Report {
        archive: reading.catalog.archive().clone(),
        head: reading.catalog.head().seq,
        depth: plan.depth,
        chains: plan.chains.len(),
        files: plan.checks.len() as u64 + reading.catalog.own_files().count() as u64,
        objects: index.len() as u64,
        bytes: plan.read_bytes,
        ..Report::of(&reading.catalog)
    };
    if !seen.wrong.is_empty() || !damage.is_empty() || miscounted {
        // An expiry may have removed meanwhile what is missing here: only what is still counted on is damage.
        let again = catalog::read(bucket, options.pin).await?.catalog;
        let index = if again.head() == reading.catalog.head() {
            index
        } else {
            look::index(bucket, &again, &mut Seen::default()).await
        };
        damage.retain(|one| !is_expired(one, &again));
        seen.wrong.retain(|path, _| still_counts(path, &again, &index));
        if miscounted && again.head() == reading.catalog.head() {
            report.miscounted(index.len() as u64, counted);
        }
    }
    report.tell_damage(&reading.catalog, damage);
    report.tell_files(&reading.catalog, &plan, &seen.wrong);
    report.unseen = seen.unseen.iter().map(|(path, why)| format!("{path}: {why}")).collect();
    report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let unseen = |chain: &eyrie_archive::verify::Chain| chain.files.iter().any(|path| seen.unseen.contains_key(path));
    let seen_whole: Vec<Seq> = plan.chains.iter().filter(|chain| !unseen(chain)).map(|chain| chain.full).collect();
    // With a part of the index, or objects that nobody counts, no chain is known to be well.
    let known = seen.index_is_whole && report.notes.is_empty();
    report.verdicts = plan.verdicts(&seen.wrong, report.took_ms);
    report.verdicts.retain(|one| seen_whole.contains(&one.full) && (known || !one.ok));
    Ok(report)
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Seen {
    /// Files that are not what their records say.
    wrong: BTreeMap<StoredPath, String>,
    /// Files that could not be looked at, and why.
    unseen: BTreeMap<StoredPath, String>,
    /// Every piece of the index was read and understood.
    index_is_whole: bool,
}

fn planned(catalog: &Catalog, index: &Index, options: &Options) -> VerifyPlan {
    let look = match options.thoroughness {
        Thoroughness::Structure => eyrie_archive::verify::Look::Structure,
        Thoroughness::Data => eyrie_archive::verify::Look::Data,
        Thoroughness::Sample { percent, seed } => {
            let objects = (index.len() as f64 * percent.clamp(0.0, 100.0) / 100.0).ceil() as usize;
            eyrie_archive::verify::Look::Sample { objects, seed }
        }
    };
    let all = || catalog.fulls().iter().map(|(_, full)| full.seq).collect();
    let fulls: Vec<Seq> = if options.fulls.is_empty() { all() } else { options.fulls.clone() };
    verify_plan(catalog, index, &fulls, look)
}

fn is_expired(damage: &Damage, now: &Catalog) -> bool {
    let place = damage.place();
    match damage {
        Damage::Missing { to, .. } => place > Seq::FIRST && *to < now.records_from(),
        Damage::Checkpoint { .. } => place < now.records_from(),
        _ => false,
    }
}

fn still_counts(path: &StoredPath, now: &Catalog, index: &Index) -> bool {
    now.counts_on(path) || index.entries().any(|entry| entry.stored.path == *path)
}

/// Writes down what was found, for `list`, for retention, and for the next who asks. Chains that an expiry has removed since
/// are passed over.
///
/// # Errors
/// The archive can't be written.
pub async fn record(writer: &mut Writer, report: &Report) -> Result<(), ArchiveError> {
    for verdict in &report.verdicts {
        if writer.catalog().full(verdict.full).is_some() {
            writer.append(Kind::Verified(verdict.clone())).await?;
        }
    }
    Ok(())
}
