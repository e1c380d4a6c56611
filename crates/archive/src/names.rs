//! Where everything lies: the names inside an archive, made and read back in one place.
//!
//! ```text
//! catalog/000000000001.json                         records, one after another: the only truth
//! checkpoint/000000000512.json                      the state before the record of that number
//! full/0001/0000000000004711-NONCE.snap[.zst][.age]
//! tail/0001/0000000000004712-0000000000004800-NONCE.tail[.zst][.age]
//! index/000000000017-NONCE.jsonl[.zst]
//! objects/SOURCE-PATH[.zst][.age]
//! ```
//! A nonce is the writer's: what a killed writer left behind under a name is never met again under the same name.

use crate::ids::{BadName, Revision, Seq, SourcePath, StoredPath, TimelineId};

/// The folder of the records.
pub const CATALOG: &str = "catalog/";
/// The folder of the checkpoints.
pub const CHECKPOINT: &str = "checkpoint/";
/// The folder of full snapshots.
pub const FULL: &str = "full/";
/// The folder of tail segments.
pub const TAIL: &str = "tail/";
/// The folder of index pieces.
pub const INDEX: &str = "index/";
/// The folder of mirrored objects.
pub const OBJECTS: &str = "objects/";

/// How a stored file is wrapped; the endings of its name say it, outermost last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wrap {
    /// Compressed with zstd.
    pub zstd: bool,
    /// Sealed with age, after compression.
    pub age: bool,
}

impl Wrap {
    /// The ending that says it.
    pub fn ending(self) -> &'static str {
        match (self.zstd, self.age) {
            (false, false) => "",
            (true, false) => ".zst",
            (false, true) => ".age",
            (true, true) => ".zst.age",
        }
    }

    /// What the endings of `name` say.
    pub fn of(name: &StoredPath) -> Self {
        let (inner, age) = strip(name.as_str(), ".age");
        Self { zstd: strip(inner, ".zst").1, age }
    }
}

fn strip<'a>(name: &'a str, ending: &str) -> (&'a str, bool) {
    name.strip_suffix(ending).map_or((name, false), |rest| (rest, true))
}

/// A record's name.
pub fn record(seq: Seq) -> StoredPath {
    made(format!("{CATALOG}{:012}.json", seq.0))
}

/// The place that a record's name says; `None` for anything else, also for a number in another spelling.
pub fn record_seq(name: &str) -> Option<Seq> {
    seq_of(name, CATALOG)
}

/// The name of the checkpoint that the record `seq` names.
pub fn checkpoint(seq: Seq) -> StoredPath {
    made(format!("{CHECKPOINT}{:012}.json", seq.0))
}

/// The record that names this checkpoint.
pub fn checkpoint_seq(name: &str) -> Option<Seq> {
    seq_of(name, CHECKPOINT)
}

/// The name of a full snapshot.
///
/// # Errors
/// A nonce that is no plain word.
pub fn full(timeline: TimelineId, revision: Revision, nonce: &str, wrap: Wrap) -> Result<StoredPath, BadName> {
    StoredPath::new(format!("{FULL}{:04}/{:016}-{}.snap{}", timeline.0, revision.0, word(nonce)?, wrap.ending()))
}

/// The name of a tail segment.
///
/// # Errors
/// A nonce that is no plain word.
pub fn tail(
    timeline: TimelineId,
    first: Revision,
    last: Revision,
    nonce: &str,
    wrap: Wrap,
) -> Result<StoredPath, BadName> {
    let (first, last, nonce) = (first.0, last.0, word(nonce)?);
    StoredPath::new(format!("{TAIL}{:04}/{first:016}-{last:016}-{nonce}.tail{}", timeline.0, wrap.ending()))
}

/// The name of an index piece; `after` is the newest record when it was made, so that names sort by age.
///
/// # Errors
/// A nonce that is no plain word.
pub fn index(after: Seq, nonce: &str, wrap: Wrap) -> Result<StoredPath, BadName> {
    StoredPath::new(format!("{INDEX}{:012}-{}.jsonl{}", after.0, word(nonce)?, wrap.ending()))
}

/// The name of a mirrored object: the source's own, with anything unusual as `%` and two hex digits. The dot of a
/// `.zst` or `.age` that the source's name ends with is unusual too: such an ending always speaks of the wrap.
///
/// # Errors
/// The name becomes too long.
pub fn object(source: &SourcePath, wrap: Wrap) -> Result<StoredPath, BadName> {
    let mut name = String::from(OBJECTS);
    let source = source.as_str();
    let dot = [".zst", ".age"].iter().any(|ending| source.ends_with(ending)).then(|| source.len() - 4);
    for (at, byte) in source.bytes().enumerate() {
        let plain = Some(at) != dot;
        if plain && (byte.is_ascii_alphanumeric() || b"-_.=+,@/".contains(&byte)) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name.push_str(wrap.ending());
    StoredPath::new(name)
}

/// The object that a mirrored file holds: the way back from [`object`]. `None` for a name that it never makes.
pub fn object_source(name: &StoredPath) -> Option<SourcePath> {
    let wrap = Wrap::of(name);
    let escaped = name.as_str().strip_prefix(OBJECTS)?.strip_suffix(wrap.ending())?;
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                bytes.push(digit(high)? << 4 | digit(low)?);
                after
            }
            (plain, after) => {
                bytes.push(*plain);
                after
            }
        };
    }
    let source = SourcePath::new(String::from_utf8(bytes).ok()?).ok()?;
    (object(&source, wrap).as_ref() == Ok(name)).then_some(source)
}

fn seq_of(name: &str, folder: &str) -> Option<Seq> {
    let digits = name.strip_prefix(folder)?.strip_suffix(".json")?;
    if digits.len() < 12 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seq = Seq(digits.parse().ok()?);
    // 12 digits, more only when they are needed: one number has one name.
    (seq.0 > 0 && format!("{:012}", seq.0) == digits).then_some(seq)
}

/// Names that we make from numbers are always allowed.
fn made(name: String) -> StoredPath {
    StoredPath::new(name).expect("folder and digits are plain characters")
}

fn word(nonce: &str) -> Result<&str, BadName> {
    if nonce.is_empty() || nonce.len() > 64 || !nonce.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(BadName {
            what: "a nonce",
            name: nonce.chars().take(80).collect(),
            why: "it must be 1 to 64 letters and digits",
        });
    }
    Ok(nonce)
}
