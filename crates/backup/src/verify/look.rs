//! One look at each file: there, of the right length, of the right content, or what is wrong with it.

use std::collections::BTreeMap;

use eyrie_archive::index::decode_piece;
use eyrie_archive::record::Stored;
use eyrie_archive::verify::{Check, VerifyPlan};
use eyrie_archive::{Catalog, Damage, Index, Link, Sha256, StoredPath, limits::RECORD_BYTES_MAX, names};
use futures::{StreamExt, TryStreamExt};
use sha2::Digest;

use super::Seen;
use crate::bucket::{Bucket, BucketError, ByteRange, Kind};
use crate::limits::READ_BYTES_MAX;
use crate::tell::{News, Tell};
use crate::unpack::{self, UnpackError};

/// What a look at a file shows.
enum Saw {
    Well,
    Wrong(String),
    /// It could not be looked at.
    Nothing(String),
}

/// Reads every record and checkpoint, and says what is wrong with them.
pub(super) async fn catalogue(bucket: &Bucket, catalog: &Catalog, pin: Option<Link>, seen: &mut Seen) -> Vec<Damage> {
    let reads = catalog.own_files().map(|name| async move {
        let max = if names::record_seq(name.as_str()).is_some() { RECORD_BYTES_MAX as u64 } else { READ_BYTES_MAX };
        (bucket.read_max(name.as_str(), max).await, name)
    });
    let mut files: BTreeMap<StoredPath, Vec<u8>> = BTreeMap::new();
    let mut reads = futures::stream::iter(reads).buffer_unordered(bucket.parallel());
    let mut whole = true;
    while let Some((read, name)) = reads.next().await {
        match read {
            Ok(bytes) => drop(files.insert(name, bytes.to_vec())),
            Err(error) if error.is_not_found() => {}
            // Too long for what it should be: none of it is looked at.
            Err(error) if error.kind == Kind::Damaged => drop(files.insert(name, Vec::new())),
            Err(error) => {
                whole = false;
                seen.unseen.insert(name, error.to_string());
            }
        }
    }
    // What could not be read would look as if it were missing.
    if whole { catalog.inspect(&files, pin) } else { Vec::new() }
}

/// The index, as far as its pieces can be read.
pub(super) async fn index(bucket: &Bucket, catalog: &Catalog, seen: &mut Seen) -> Index {
    let mut index = Index::new();
    seen.index_is_whole = true;
    for (_, piece) in catalog.pieces() {
        let path = piece.stored.path.clone();
        let outcome = match unpack::bytes(bucket, &piece.stored).await {
            Ok(bytes) => match decode_piece(&bytes).and_then(|lines| index.apply(&lines)) {
                Ok(()) => Saw::Well,
                Err(error) => Saw::Wrong(error.to_string()),
            },
            Err(UnpackError::Bucket(error)) => sorted(error),
            Err(UnpackError::Damaged { what, .. }) => Saw::Wrong(what.into()),
            Err(UnpackError::Seal(error)) => Saw::Wrong(error.to_string()),
        };
        seen.index_is_whole &= matches!(outcome, Saw::Well);
        seen.take(path, outcome);
    }
    index
}

/// Looks at all files of a plan, several at once.
pub(super) async fn files(bucket: &Bucket, plan: &VerifyPlan, seen: &mut Seen, tell: &Tell) {
    let (of_files, of_bytes) = (plan.checks.len() as u64, plan.read_bytes);
    let (mut files, mut bytes) = (0, 0);
    let whose = owners(plan);
    let looks = plan.checks.iter().map(|check| one(bucket, check, &whose));
    let mut looks = futures::stream::iter(looks).buffer_unordered(bucket.parallel());
    while let Some((check, saw)) = looks.next().await {
        files += 1;
        bytes += if check.read { check.stored.len } else { 0 };
        tell.news(News::Verifying { files, of_files, bytes, of_bytes });
        seen.take(check.stored.path.clone(), saw);
    }
}

impl Seen {
    fn take(&mut self, path: StoredPath, saw: Saw) {
        match saw {
            Saw::Well => {}
            Saw::Wrong(what) => drop(self.wrong.entry(path).or_insert(what)),
            Saw::Nothing(why) => drop(self.unseen.insert(path, why)),
        }
    }
}

/// Whose content a hash is: so that two files in each other's place are named as that.
fn owners(plan: &VerifyPlan) -> BTreeMap<Sha256, &StoredPath> {
    plan.checks.iter().map(|check| (check.stored.sha256, &check.stored.path)).collect()
}

async fn one<'a>(bucket: &Bucket, check: &'a Check, whose: &BTreeMap<Sha256, &StoredPath>) -> (&'a Check, Saw) {
    let saw = if check.read { read(bucket, &check.stored, whose).await } else { ask(bucket, &check.stored).await };
    (check, saw)
}

async fn ask(bucket: &Bucket, stored: &Stored) -> Saw {
    match bucket.stat(stored.path.as_str()).await {
        Ok(None) => Saw::Wrong("it is missing".into()),
        Ok(Some(stat)) if stat.len != stored.len => Saw::Wrong(other_length(stored, stat.len)),
        Ok(Some(_)) => Saw::Well,
        Err(error) => sorted(error),
    }
}

async fn read(bucket: &Bucket, stored: &Stored, whose: &BTreeMap<Sha256, &StoredPath>) -> Saw {
    let reading = match bucket.read_stream(stored.path.as_str(), ByteRange::ALL).await {
        Ok(reading) if reading.len != stored.len => return Saw::Wrong(other_length(stored, reading.len)),
        Ok(reading) => reading,
        Err(error) => return sorted(error),
    };
    let hash = sha2::Sha256::new();
    let hash = reading.bytes.try_fold(hash, async |mut hash, piece| {
        hash.update(&piece);
        Ok(hash)
    });
    match hash.await {
        Err(error) => sorted(error),
        Ok(hash) => match Sha256(hash.finalize().into()) {
            found if found == stored.sha256 => Saw::Well,
            found => Saw::Wrong(match whose.get(&found) {
                Some(owner) => format!("it holds the content of {owner}"),
                None => format!("its bytes are others: their SHA-256 is {found}, not {}", stored.sha256),
            }),
        },
    }
}

fn other_length(stored: &Stored, len: u64) -> String {
    format!("it has {len} bytes, not {}", stored.len)
}

fn sorted(error: BucketError) -> Saw {
    match error.kind {
        Kind::NotFound => Saw::Wrong("it is missing".into()),
        Kind::Damaged => Saw::Wrong(error.cause),
        _ => Saw::Nothing(error.to_string()),
    }
}
