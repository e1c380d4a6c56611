//! What a restore will do, what it brings and what it does not, before it does anything; and the answer afterwards.

use std::fmt;

use eyrie_archive::restore::RestorePlan;
use eyrie_archive::{Revision, TimelineId, UnixMillis};
use eyrie_milvus::{Description, TransformReport};
use serde::Serialize;

use super::keys::Digest;

/// A restore that can be printed.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The archive.
    pub archive: String,
    /// Where it is.
    pub from: String,
    /// Its history.
    pub timeline: TimelineId,
    /// The revision that comes back.
    pub revision: Revision,
    /// When it was, by the clock of the backup.
    pub at_ms: UnixMillis,
    /// The full that it begins with.
    pub full: Revision,
    /// Pieces of tail on top of it.
    pub tail_pieces: usize,
    /// The keys as they were.
    pub was: Digest,
    /// The keys as they are written: changed so that Milvus starts on them.
    pub becomes: Digest,
    /// The newest revision that the restored store has.
    pub serves: Revision,
    /// Directories or files that are written.
    pub metadata: Vec<String>,
    /// Objects, if any are asked for.
    pub objects: Option<ObjectsPlan>,
    /// What is inside, for each Milvus.
    pub milvus: Vec<Description>,
    /// What is changed in each Milvus's keys, and what is lost by that.
    pub changes: Vec<TransformReport>,
    /// What does not come back, and why.
    pub lost: Vec<String>,
    /// What else to know.
    pub notes: Vec<String>,
    /// Bytes that were read from the archive for this plan: all of the metadata.
    pub read_bytes: u64,
    /// How long the objects take at the rate at which the metadata came, in seconds; absent where nothing tells it.
    pub objects_secs: Option<u64>,
    /// Every step.
    pub steps: RestorePlan,
}

/// What happens to objects.
#[derive(Debug, Clone, Serialize)]
pub struct ObjectsPlan {
    /// The bucket.
    pub to: String,
    /// Where in it: what stands before every name.
    pub prefix: String,
    /// Objects that the revision needs.
    pub wanted: u64,
    /// Objects to copy.
    pub copy: u64,
    /// Their bytes.
    pub copy_bytes: u64,
    /// Objects that are there already, compared byte for byte.
    pub present: u64,
}

/// What a restore has done. It was compared; without that there is an error instead.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    /// The revision that came back.
    pub revision: Revision,
    /// When it was.
    pub at_ms: UnixMillis,
    /// Its history.
    pub timeline: TimelineId,
    /// The keys as they were.
    pub was: Digest,
    /// The keys as they are written.
    pub becomes: Digest,
    /// The newest revision that the restored store has.
    pub serves: Revision,
    /// Directories or files that were written.
    pub metadata: Vec<String>,
    /// Objects that were copied in this run.
    pub objects_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Objects that are there now with length and hash, of this and earlier runs.
    pub objects_whole: u64,
    /// What did not come back, and why.
    pub lost: Vec<String>,
    /// What else to know.
    pub notes: Vec<String>,
    /// What to do next, in this order.
    pub next: Vec<String>,
    /// How long it took.
    pub took_ms: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Restore of revision {} ({}), timeline {}", self.revision, self.at_ms, self.timeline)?;
        writeln!(f, "  from archive {} in {}", self.archive, self.from)?;
        let tail = match self.tail_pieces {
            0 => String::new(),
            1 => " and a piece of tail".into(),
            pieces => format!(" and {pieces} pieces of tail"),
        };
        writeln!(f, "  the full of revision {}{tail}, {} read: {}", self.full, bytes(self.read_bytes), self.was)?;
        for target in &self.metadata {
            writeln!(f, "  writes {target}")?;
        }
        if !self.metadata.is_empty() {
            writeln!(f, "  the store will be at revision {}; everything before it counts as compacted", self.serves)?;
        }
        if let Some(objects) = &self.objects {
            let below = match objects.prefix.as_str() {
                "" => String::new(),
                prefix => format!(" below `{prefix}`"),
            };
            writeln!(
                f,
                "  objects: {} to copy ({}) to {}{below}; {} of {} are there already",
                objects.copy,
                bytes(objects.copy_bytes),
                objects.to,
                objects.present,
                objects.wanted
            )?;
            if let Some(secs) = self.objects_secs.filter(|_| objects.copy > 0) {
                writeln!(f, "  about {} at the rate of the metadata", time(secs))?;
            }
        }
        for milvus in &self.milvus {
            write!(f, "\n{milvus}")?;
        }
        for changes in &self.changes {
            writeln!(f, "\nChanged in Milvus `{}`:", changes.from_root)?;
            // what is lost stands further below
            let words = changes.to_string();
            words
                .lines()
                .filter(|line| !self.lost.iter().any(|lost| lost == line))
                .try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        listed(f, "Not restored:", &self.lost)?;
        listed(f, "To know:", &self.notes)
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Restored: revision {} ({}), as it was: {}.", self.revision, self.at_ms, self.was)?;
        if !self.metadata.is_empty() {
            writeln!(f, "What was written was read back and compared: {}, revision {}.", self.becomes, self.serves)?;
        }
        self.metadata.iter().try_for_each(|target| writeln!(f, "  {target}"))?;
        if self.objects_whole > 0 {
            let (whole, copied) = (self.objects_whole, self.objects_copied);
            let size = bytes(self.bytes_copied);
            writeln!(f, "{whole} objects are there with their length and SHA-256; {copied} were copied ({size}).")?;
        }
        writeln!(f, "It took {:.1} s.", self.took_ms as f64 / 1000.0)?;
        listed(f, "Not restored:", &self.lost)?;
        listed(f, "To know:", &self.notes)?;
        listed(f, "Next:", &self.next)
    }
}

fn listed(f: &mut fmt::Formatter<'_>, title: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    lines.iter().try_for_each(|line| writeln!(f, "  {line}"))
}

fn time(secs: u64) -> String {
    match secs {
        0..120 => format!("{} s", secs.max(1)),
        120..7200 => format!("{} min", secs / 60),
        _ => format!("{} h {} min", secs / 3600, secs / 60 % 60),
    }
}

/// Bytes for a person.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut size, mut unit) = (count as f64, 0);
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}
