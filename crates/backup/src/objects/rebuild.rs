//! The index made anew, when a piece of it is damaged: what the other pieces say, and what lies in the bucket.
//!
//! ```text
//! pieces that can be read ─────────────────────────────────────▶ entries ─┐
//! list of objects/ ─▶ files that none of them names ─▶ read ─▶ entries ───┴─▶ one piece in place of all ─▶ IndexMerged
//! ```
//! Beside the objects' names, the lost piece knew their hashes and which revisions need them. The hashes are now those of
//! what lies there; and all that is kept counts as needing an object of which nothing else is known, so that retention
//! removes none too early. Which objects a moment needs is in its metadata: a restore still copies exactly those.
//!
//! What the lost piece named and what lies nowhere is not known by name, but by number: the catalogue counts objects. Where
//! one is missing, no revision so far is called recoverable any more.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use eyrie_archive::index::decode_piece;
use eyrie_archive::limits::NAMED_MAX;
use eyrie_archive::names::{self, Wrap};
use eyrie_archive::record::{HoleFound, IndexMerged, Stored, Swept};
use eyrie_archive::{Catalog, Entry, Index, Kind, Line, Seq, Sha256, SourcePath, StoredPath};
use futures::{StreamExt, TryStreamExt};
use sha2::Digest;

use super::MirrorError;
use crate::bucket::{Bucket, ByteRange, Kind as BucketKind};
use crate::catalog::{ArchiveError, Writer, now};
use crate::chance;
use crate::limits::{OBJECT_LEN_MAX, PIECE_LOOKS};
use crate::pack;
use crate::seal::{Identities, Recipients, open};
use crate::tell::Tell;
use crate::unpack::{self, UnpackError};

/// An index that was read, and what had to be made good for it.
#[derive(Debug)]
pub struct Reading {
    /// The index.
    pub index: Index,
    /// Pieces that are missing or damaged, and in which way.
    pub damaged: Vec<(StoredPath, String)>,
    /// Objects that no readable piece names, by what lies in the bucket.
    pub found: u64,
    /// Objects that were left out: a list of removals is lost, and their files are gone.
    pub gone: u64,
    /// Expiries whose list of removals is lost. What they had not deleted yet is in the index again.
    lost_lists: Vec<Seq>,
}

/// One piece that stands in for a whole index, stored and not recorded yet.
#[derive(Debug)]
pub struct Rebuilt {
    merged: IndexMerged,
    lost_lists: Vec<Seq>,
    words: Option<String>,
    hole: Option<HoleFound>,
}

/// The index of an archive that one writes to; made anew and recorded if a piece of it is damaged. `from` is where the objects
/// come from, to compare with; without a fitting key, sealed objects that no readable piece names are an error.
///
/// # Errors
/// [`MirrorError`]; nothing was changed then.
pub async fn whole(
    writer: &mut Writer,
    from: Option<&Bucket>,
    keys: &Identities,
    tell: &Tell,
) -> Result<Index, MirrorError> {
    let bucket = writer.bucket().clone();
    let reading = read(&bucket, writer.catalog(), from, keys).await?;
    if reading.damaged.is_empty() {
        return Ok(reading.index);
    }
    let index = reading.index.clone();
    reading.merged(&bucket, writer.catalog()).await?.record(writer, tell).await?;
    Ok(index)
}

/// Reads an index, also where pieces of it are damaged. Nothing is written.
///
/// # Errors
/// [`MirrorError`].
pub async fn read(
    bucket: &Bucket,
    catalog: &Catalog,
    from: Option<&Bucket>,
    keys: &Identities,
) -> Result<Reading, MirrorError> {
    let mut pieces = Pieces::read(bucket, catalog).await?;
    let mut reading = Reading {
        index: std::mem::take(&mut pieces.index),
        damaged: std::mem::take(&mut pieces.damaged),
        found: 0,
        gone: 0,
        lost_lists: Vec::new(),
    };
    if reading.damaged.is_empty() {
        return Ok(reading);
    }
    let listed = listed(bucket).await?;
    if pieces.removals_lost {
        reading.leave_out(&listed);
    }
    let lost = |path: &StoredPath| reading.damaged.iter().any(|(damaged, _)| damaged == path);
    let of_lost = |rest: &eyrie_archive::catalog::Unswept| rest.objects.as_ref().is_some_and(|list| lost(&list.path));
    reading.lost_lists = catalog.unswept().filter(|(_, rest)| of_lost(rest)).map(|(seq, _)| seq).collect();
    let known = |source: &SourcePath| reading.index.get(source.as_str()).is_some() || pieces.removed.contains(source);
    let unnamed = listed.into_iter().filter_map(|(path, source)| (!known(&source)).then_some((path, source)));
    let unnamed: Vec<(StoredPath, SourcePath)> = unnamed.collect();
    if keys.is_empty() && unnamed.iter().any(|(path, _)| Wrap::of(path).age) {
        return Err(MirrorError::Index(needs_a_key(&reading.damaged)));
    }
    let (uses, lived_ms) = (catalog.every_use(), catalog.lived_at(now()));
    let measures = unnamed.into_iter().map(|(path, source)| measured(bucket, from, keys, path, source));
    let mut measures = futures::stream::iter(measures).buffer_unordered(bucket.parallel());
    while let Some(measured) = measures.try_next().await? {
        let Some(Measured { source, len, sha256, stored }) = measured else { continue };
        let entry = Entry { source, len, sha256, stored, lived_ms, uses: uses.clone() };
        reading.index.apply(&[Line::Mirrored(entry)]).map_err(unusable)?;
        reading.found += 1;
    }
    Ok(reading)
}

impl Reading {
    /// Stores it as one piece.
    ///
    /// # Errors
    /// The archive's bucket.
    pub async fn merged(self, bucket: &Bucket, catalog: &Catalog) -> Result<Rebuilt, MirrorError> {
        let words = self.words();
        let hole = self.hole(catalog);
        let Self { index, lost_lists, .. } = self;
        let (up_to, nonce) = (catalog.head().seq, chance::word(4));
        let name = |wrap| names::index(up_to, &nonce, wrap);
        let piece = pack::bytes(bucket, &Recipients::nobody(), name, index.merged().into()).await?.stored;
        let objects = index.len() as u64;
        let (bytes, stored_bytes) =
            index.entries().fold((0, 0), |(bytes, stored), entry| (bytes + entry.len, stored + entry.stored.len));
        let merged = IndexMerged { piece, up_to, objects, bytes, stored_bytes };
        Ok(Rebuilt { merged, lost_lists, words, hole })
    }

    /// The objects that are counted and lie nowhere, as a lack of all revisions so far: any of them may need one.
    fn hole(&self, catalog: &Catalog) -> Option<HoleFound> {
        let count = catalog.totals().objects.saturating_sub(self.index.len() as u64);
        let line = catalog.current();
        let from = line.fulls.values().map(|full| full.taken.revision).min()?;
        let to = line.newest_revision()?;
        if self.damaged.is_empty() || count == 0 || !line.source.objects {
            return None;
        }
        let known = catalog.damaged().filter_map(|(path, _)| names::object_source(path));
        let missing = known.filter(|source| self.index.get(source.as_str()).is_none());
        let cause = "a piece of the index of objects was lost, and so many of the objects that it named are not in the \
                     archive any more: which revisions need them is not known";
        let objects: Vec<SourcePath> =
            missing.take(NAMED_MAX.min(usize::try_from(count).unwrap_or(NAMED_MAX))).collect();
        Some(HoleFound { from, to: Some(to), cause: cause.into(), objects, count })
    }

    /// What was made good, for a person; nothing where all was well.
    pub fn words(&self) -> Option<String> {
        let (path, what) = self.damaged.first()?;
        let more = match self.damaged.len() {
            1 => String::new(),
            many => format!(" (and {} more)", many - 1),
        };
        let gone = match self.gone {
            0 => String::new(),
            gone => format!("; {gone} objects whose files are gone were taken for removed by retention"),
        };
        Some(format!(
            "the index of objects was made anew, for its piece {path} is damaged: {what}{more}. {} objects that no other \
             piece names were taken as they lie in the archive{gone}. Next: eyrie backup verify --read-data; what can't be \
             recovered any more, if anything: eyrie backup list",
            self.found
        ))
    }

    /// A lost list of removals: what it named can't be told from what is missing.
    fn leave_out(&mut self, listed: &[(StoredPath, SourcePath)]) {
        let there: BTreeSet<&SourcePath> = listed.iter().map(|(_, source)| source).collect();
        let missing = |entry: &&Entry| !there.contains(&entry.source);
        let gone: Vec<Line> = self
            .index
            .entries()
            .filter(missing)
            .map(|entry| Line::Removed { source: entry.source.clone(), stored: None })
            .collect();
        self.gone = gone.len() as u64;
        self.index.apply(&gone).expect("a removal fits everywhere");
    }
}

impl Rebuilt {
    /// Objects that are counted and lie nowhere. Who mirrors must look anew at what the metadata names.
    pub fn missing(&self) -> u64 {
        self.hole.as_ref().map_or(0, |hole| hole.count)
    }

    /// Objects were missed that an expiry may have removed meanwhile: nothing can be said of them.
    pub fn is_outdated(&self, catalog: &Catalog) -> bool {
        self.hole.is_some() && catalog.pieces().any(|(seq, piece)| piece.removes && seq > self.merged.up_to)
    }

    /// Says in the catalogue that it stands in for all that was there.
    ///
    /// # Errors
    /// The archive can't be written.
    pub async fn record(self, writer: &mut Writer, tell: &Tell) -> Result<(), ArchiveError> {
        writer.append(Kind::IndexMerged(self.merged)).await?;
        if let Some(hole) = self.hole {
            writer.append(Kind::HoleFound(hole)).await?;
        }
        for expired in self.lost_lists {
            if writer.catalog().unswept().any(|(seq, _)| seq == expired) {
                writer.append(Kind::Swept(Swept { expired, left: Vec::new() })).await?;
            }
        }
        if let Some(words) = self.words {
            tell.fail("index", words);
        }
        Ok(())
    }
}

/// All pieces, as far as they can be read.
#[derive(Default)]
struct Pieces {
    index: Index,
    damaged: Vec<(StoredPath, String)>,
    /// One of those is a list of removals.
    removals_lost: bool,
    /// Objects that an expiry gave up and nobody has mirrored again: their files may still be there.
    removed: BTreeSet<SourcePath>,
}

impl Pieces {
    async fn read(bucket: &Bucket, catalog: &Catalog) -> Result<Self, MirrorError> {
        let mut pieces = Self::default();
        for (_, piece) in catalog.pieces() {
            let lines = match lines(bucket, &piece.stored).await? {
                Ok(lines) => lines,
                Err(what) => {
                    pieces.damaged.push((piece.stored.path.clone(), what));
                    pieces.removals_lost |= piece.removes;
                    continue;
                }
            };
            pieces.index.apply(&lines).map_err(unusable)?;
            for line in lines {
                match line {
                    Line::Removed { source, .. } => drop(pieces.removed.insert(source)),
                    Line::Mirrored(entry) => drop(pieces.removed.remove(&entry.source)),
                    Line::Used { .. } | Line::Released { .. } => {}
                }
            }
        }
        Ok(pieces)
    }
}

/// The lines of a piece, or what is wrong with it: believed when it was seen twice.
async fn lines(bucket: &Bucket, stored: &Stored) -> Result<Result<Vec<Line>, String>, MirrorError> {
    let mut wrong = String::new();
    for _ in 0..PIECE_LOOKS {
        wrong = match unpack::bytes(bucket, stored).await {
            // the bytes that its record names, and yet no piece: whoever wrote that is not to be worked around
            Ok(bytes) => return decode_piece(&bytes).map(Ok).map_err(unusable),
            Err(UnpackError::Seal(error)) => return Err(unusable(error)),
            Err(UnpackError::Bucket(error)) => match error.kind {
                BucketKind::NotFound => "it is missing".into(),
                BucketKind::Damaged => error.cause,
                _ => return Err(error.into()),
            },
            Err(UnpackError::Damaged { what, .. }) => what.into(),
        };
    }
    Ok(Err(wrong))
}

/// All mirrored files, with their names at the source.
async fn listed(bucket: &Bucket) -> Result<Vec<(StoredPath, SourcePath)>, MirrorError> {
    let mut entries = bucket.list(names::OBJECTS);
    let mut all = Vec::new();
    loop {
        match entries.try_next().await {
            Ok(Some(entry)) => {
                let path = StoredPath::new(entry.key).ok();
                all.extend(path.and_then(|path| names::object_source(&path).map(|source| (path, source))));
            }
            Ok(None) => return Ok(all),
            // a folder that does not exist has nothing in it
            Err(error) if error.is_not_found() => return Ok(all),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a file in the archive is.
struct Measured {
    source: SourcePath,
    len: u64,
    sha256: Sha256,
    stored: Stored,
}

/// Reads one object. Nothing, where the source has it with another length: then this is not it, and it is copied anew if
/// anything needs it.
async fn measured(
    bucket: &Bucket,
    from: Option<&Bucket>,
    keys: &Identities,
    path: StoredPath,
    source: SourcePath,
) -> Result<Option<Measured>, MirrorError> {
    let reading = match bucket.read_stream(path.as_str(), ByteRange::ALL).await {
        Ok(reading) => reading,
        // retention or a repair was quicker
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let stored_len = reading.len;
    let hash = Arc::new(Mutex::new(sha2::Sha256::new()));
    let outer = hash.clone();
    let stored = reading.bytes.map_err(UnpackError::from).inspect_ok(move |piece| {
        outer.lock().unwrap_or_else(PoisonError::into_inner).update(piece);
    });
    let bad = |error: UnpackError| match error {
        UnpackError::Bucket(error) => MirrorError::Bucket(error),
        error => MirrorError::Index(format!("{path}, which no readable piece names, cannot be opened: {error}")),
    };
    let plain = open(stored, Wrap::of(&path), keys, OBJECT_LEN_MAX).await.map_err(bad)?;
    let plain = plain.try_fold((0, sha2::Sha256::new()), |(len, mut hash), piece| async move {
        hash.update(&piece);
        Ok((len + piece.len() as u64, hash))
    });
    let (len, sha256) = plain.await.map_err(bad)?;
    if let Some(from) = from
        && from.stat(source.as_str()).await?.is_some_and(|stat| stat.len != len)
    {
        return Ok(None);
    }
    let stored_hash = hash.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize();
    let (sha256, stored_hash) = (Sha256(sha256.finalize().into()), Sha256(stored_hash.into()));
    let stored = Stored { path, len: stored_len, sha256: stored_hash, locked_until_ms: None };
    Ok(Some(Measured { source, len, sha256, stored }))
}

fn unusable(error: impl std::fmt::Display) -> MirrorError {
    MirrorError::Index(error.to_string())
}

fn needs_a_key(damaged: &[(StoredPath, String)]) -> String {
    let (path, what) = &damaged[0];
    format!(
        "its piece {path} is damaged: {what}; what it named is sealed and can only be looked at with a key. With it: \
         eyrie backup verify --repair --identity FILE"
    )
}
