//! The archive's catalogue in a bucket: found without trusting a listing, written by one writer at a time.
//!
//! ```text
//! read:    list catalog/ ─▶ Load ─▶ get, get, … ─▶ Reading                    (anybody, any time)
//! write:   Reading ─▶ take over ─▶ append, append, … ─▶ Conflict: somebody took over from us, stop
//! ```
//! A record is created only where its name is free. So of two writers one loses at its very next record, whatever it
//! believed before. What a record names was written and is durable before the record is created.

use std::path::Path;
use std::time::Instant;

use eyrie_archive::record::{Opened, WriterTookOver};
use eyrie_archive::{
    ArchiveId, Catalog, Kind, Link, Load, Reading, Refused, Sha256, Step, StoredPath, UnixMillis, Unreadable, WriterId,
};
use futures::{StreamExt, TryStreamExt};

use crate::bucket::{Bucket, BucketError, Created};
use crate::chance;
use crate::history::TimeMs;
use crate::limits::{CATALOG_READS, CLOCKS_APART_SECS, PIN_EVERY, STILL_HERE_EVERY, WRITER_QUIET};
use crate::pin::PinFile;

/// Why the archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The catalogue cannot be read, or is damaged.
    #[error("the archive in {place} cannot be used: {cause}. Nothing was changed. Next: {next}")]
    Unreadable {
        /// The archive's address.
        place: String,
        /// What is wrong.
        cause: Box<Unreadable>,
        /// What to type.
        next: String,
    },
    /// A record would contradict the archive.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Another writer has written the next record.
    #[error(
        "another writer has taken over the archive: {by} wrote record {seq}. This one ({me}) has stopped; all that it \
         had recorded is safe, and it recorded nothing since. Next: run one of the two only"
    )]
    Fenced {
        /// Who we are.
        me: WriterId,
        /// Who is the writer now.
        by: String,
        /// Its record.
        seq: u64,
    },
    /// Another writer is at work.
    #[error("the archive is being written by {by}, {}", busy_since(*quiet_secs))]
    Busy {
        /// The other writer.
        by: WriterId,
        /// Age of its last record by this machine's clock; below zero: its clock is ahead of ours.
        quiet_secs: i64,
    },
    /// The archive says that it is of something else.
    #[error(
        "the archive in {place} is not for this source: {why}. Nothing was changed. Next: name another prefix by `archive.url`"
    )]
    Foreign {
        /// The archive's address.
        place: String,
        /// In which way.
        why: String,
    },
}

impl ArchiveError {
    /// Nothing is there, and nothing is known to have been there.
    pub fn is_no_archive(&self) -> bool {
        matches!(self, Self::Unreadable { cause, .. } if matches!(**cause, Unreadable::Empty))
    }
}

/// How to become the writer.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Take over even if the other writer seems to be at work.
    pub take_over: bool,
    /// Go on behind damage in the catalogue: a checkpoint is written first.
    pub accept_damage: bool,
    /// Where the newest head that was seen is kept, outside of the archive.
    pub pin: Option<PinFile>,
}

impl OpenOptions {
    /// The newest head that was seen earlier. A pin file that can't be read is no pin; [`Writer::take_pin_trouble`] tells.
    pub fn pinned(&self) -> Option<Link> {
        self.pin.as_ref().and_then(|pin| pin.read().ok().flatten())
    }
}

/// Reads the catalogue.
///
/// # Errors
/// The bucket failed, or nothing there can be read. Damage next to readable records is in the [`Reading`].
pub async fn read(bucket: &Bucket, pin: Option<Link>) -> Result<Reading, ArchiveError> {
    let listed: Vec<String> =
        match bucket.list(eyrie_archive::names::CATALOG).map_ok(|entry| entry.key).try_collect().await {
            Ok(listed) => listed,
            // a folder that does not exist yet has nothing in it
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
    let mut load = Load::new(listed.iter().map(String::as_str), pin);
    loop {
        match load.step() {
            Step::Get(names) => {
                let reads = names.into_iter().map(|name| async move {
                    let content = match bucket.read(name.as_str()).await {
                        Ok(bytes) => Some(bytes.to_vec()),
                        Err(error) if error.is_not_found() => None,
                        Err(error) => return Err(error),
                    };
                    Ok((name, content))
                });
                let mut answers = futures::stream::iter(reads).buffer_unordered(CATALOG_READS);
                while let Some((name, content)) = answers.try_next().await? {
                    load.give(&name, content);
                }
            }
            Step::Done(reading) => return reading.map_err(|cause| unreadable(bucket, cause)),
        }
    }
}

fn unreadable(bucket: &Bucket, cause: Unreadable) -> ArchiveError {
    let next = match &cause {
        Unreadable::Empty => "check the address; a new archive is made by `eyrie backup take`".to_owned(),
        Unreadable::Vanished { .. } => format!(
            "check the address; if the archive was really deleted, remove {} from the folder `pins` in `state` (by default \
             ~/.local/state/eyrie) to begin anew",
            PinFile::name(bucket)
        ),
        Unreadable::Newer { .. } => "use that newer version".to_owned(),
        Unreadable::NoBeginning { .. } => {
            "restore the catalogue's files from a copy of the bucket, or begin a new archive".to_owned()
        }
        Unreadable::Damaged(_) => {
            "look at it with `eyrie backup verify`; to go on behind the damage: --accept-damage; \
                                   what is whole stays usable"
                .to_owned()
        }
    };
    ArchiveError::Unreadable { place: bucket.to_string(), cause: Box::new(cause), next }
}

/// The one writer of an archive.
#[derive(Debug)]
pub struct Writer {
    bucket: Bucket,
    catalog: Catalog,
    me: WriterId,
    /// Set once a record of another writer was met: nothing more is written.
    fenced: bool,
    pin: Option<PinFile>,
    pinned_at: Option<Instant>,
    pin_trouble: Option<String>,
    wrote_at: Instant,
}

impl Writer {
    /// Opens the archive, or makes a new one of what `opened` says, and becomes its writer.
    ///
    /// # Errors
    /// See [`ArchiveError`]; without `take_over`, an archive whose writer seems alive is left alone.
    pub async fn open(bucket: &Bucket, opened: &Opened, options: &OpenOptions) -> Result<Self, ArchiveError> {
        match read(bucket, options.pinned()).await {
            Ok(reading) => Self::take_over(bucket, reading, Some(&opened.sealed_to), options).await,
            Err(error) if error.is_no_archive() => Self::found(bucket, opened, options).await,
            Err(error) => Err(error),
        }
    }

    /// Becomes the writer of an archive that is there, to write down something about it.
    ///
    /// # Errors
    /// As [`Writer::open`]; and where no archive is.
    pub async fn join(bucket: &Bucket, options: &OpenOptions) -> Result<Self, ArchiveError> {
        let reading = read(bucket, options.pinned()).await?;
        Self::take_over(bucket, reading, None, options).await
    }

    async fn take_over(
        bucket: &Bucket,
        reading: Reading,
        sealed_to: Option<&Vec<String>>,
        options: &OpenOptions,
    ) -> Result<Self, ArchiveError> {
        let damaged = !reading.damage.is_empty();
        let catalog = if damaged && options.accept_damage {
            reading.catalog
        } else {
            reading.whole().map_err(|cause| unreadable(bucket, cause))?
        };
        if !options.take_over {
            leave_alone(&catalog)?;
        }
        let sealed_to = sealed_to.unwrap_or(&catalog.sealed_to().to_vec()).clone();
        let mut writer = Self::new(bucket, catalog, chance::writer_id(), options);
        let why = if options.take_over { "asked to take over" } else { "a new run" };
        writer.append(writer.take_over_record(why, sealed_to)).await?;
        if damaged {
            writer.checkpoint().await?;
        }
        writer.keep_pin(damaged);
        Ok(writer)
    }

    fn new(bucket: &Bucket, catalog: Catalog, me: WriterId, options: &OpenOptions) -> Self {
        let pin = options.pin.clone();
        let pin_trouble = pin.as_ref().and_then(|pin| pin.read().err()).map(|error| error.to_string());
        let (bucket, wrote_at) = (bucket.clone(), Instant::now());
        Self { bucket, catalog, me, fenced: false, pin, pinned_at: None, pin_trouble, wrote_at }
    }

    fn take_over_record(&self, why: &str, sealed_to: Vec<String>) -> Kind {
        Kind::WriterTookOver(WriterTookOver {
            fence: self.catalog.fence().saturating_add(1),
            was: self.catalog.writer().clone(),
            why: why.into(),
            sealed_to,
        })
    }

    async fn found(bucket: &Bucket, opened: &Opened, options: &OpenOptions) -> Result<Self, ArchiveError> {
        let me = chance::writer_id();
        let archive = ArchiveId::new(chance::word(16)).expect("hex digits are a word");
        let draft = Catalog::open(archive, me.clone(), now(), opened.clone())?;
        match bucket.create(draft.name().as_str(), draft.bytes().to_vec()).await? {
            Created::New | Created::Same => {
                let mut writer = Self::new(bucket, Catalog::begin(draft)?, me, options);
                writer.keep_pin(false);
                Ok(writer)
            }
            Created::Conflict => Err(met_another(bucket, me, &draft.name()).await),
        }
    }

    /// Says what happened. When this returns, the record is durable and part of the archive.
    ///
    /// # Errors
    /// [`ArchiveError::Fenced`] when another writer has taken over; then this one never writes again.
    pub async fn append(&mut self, what: Kind) -> Result<(), ArchiveError> {
        self.write(what).await?;
        if self.catalog.checkpoint_due() {
            self.checkpoint().await?;
        }
        if self.pinned_at.is_none_or(|at| at.elapsed() >= PIN_EVERY) {
            self.keep_pin(false);
        }
        Ok(())
    }

    /// Makes sure that nobody else has taken over, and lets others see that this one lives: before something is deleted.
    ///
    /// # Errors
    /// [`ArchiveError::Fenced`].
    pub async fn still_here(&mut self) -> Result<(), ArchiveError> {
        if self.wrote_at.elapsed() >= STILL_HERE_EVERY {
            let record = self.take_over_record("still at work", self.catalog.sealed_to().to_vec());
            return self.append(record).await;
        }
        let next = eyrie_archive::names::record(self.catalog.head().seq.next());
        if self.fenced || self.bucket.stat(next.as_str()).await?.is_some() {
            self.fenced = true;
            return Err(met_another(&self.bucket, self.me.clone(), &next).await);
        }
        Ok(())
    }

    /// Remembers the newest record outside of the archive. That it can't is told by [`Writer::take_pin_trouble`].
    pub fn keep_pin(&mut self, accepted: bool) {
        if let Some(pin) = &self.pin {
            self.pinned_at = Some(Instant::now());
            if let Err(error) = pin.keep(&self.catalog, accepted) {
                self.pin_trouble = Some(error.to_string());
            }
        }
    }

    /// What is wrong with the pin file, once.
    pub fn take_pin_trouble(&mut self) -> Option<String> {
        self.pin_trouble.take()
    }

    /// Stores the folded state, so that readers begin there.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub async fn checkpoint(&mut self) -> Result<(), ArchiveError> {
        let (name, bytes) = self.catalog.checkpoint_file();
        let record = self.catalog.checkpoint_record(&bytes);
        // Not `create`: a writer that was killed here may have left the state of another clock reading. No record names it.
        self.bucket.put(name.as_str(), bytes).await?;
        self.write(record).await
    }

    async fn write(&mut self, what: Kind) -> Result<(), ArchiveError> {
        if self.fenced {
            return Err(met_another(
                &self.bucket,
                self.me.clone(),
                &eyrie_archive::names::record(self.catalog.head().seq.next()),
            )
            .await);
        }
        let draft = self.catalog.draft(&self.me, now(), what)?;
        match self.bucket.create(draft.name().as_str(), draft.bytes().to_vec()).await? {
            Created::New | Created::Same => {
                self.wrote_at = Instant::now();
                Ok(self.catalog.commit(draft)?)
            }
            Created::Conflict => {
                self.fenced = true;
                Err(met_another(&self.bucket, self.me.clone(), &draft.name()).await)
            }
        }
    }

    /// What the archive says now.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The archive's bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Our own name.
    pub fn me(&self) -> &WriterId {
        &self.me
    }
}

/// Who wrote the record that we wanted to write.
async fn met_another(bucket: &Bucket, me: WriterId, name: &StoredPath) -> ArchiveError {
    let seq = eyrie_archive::names::record_seq(name.as_str()).map_or(0, |seq| seq.0);
    let by = match bucket.read(name.as_str()).await {
        Ok(bytes) => match eyrie_archive::codec::decode_record(&bytes) {
            Ok(record) => record.writer.to_string(),
            Err(error) => format!("a writer that cannot be named ({error})"),
        },
        Err(error) => format!("a writer that cannot be named ({error})"),
    };
    ArchiveError::Fenced { me, by, seq }
}

/// Refuses to push a living writer aside. A courtesy: the conditional write is what keeps two writers apart.
fn leave_alone(catalog: &Catalog) -> Result<(), ArchiveError> {
    let now = now();
    let quiet = now.since(catalog.head_at_ms());
    let by = catalog.writer();
    if u128::from(quiet) >= WRITER_QUIET.as_millis() || is_dead(by) {
        return Ok(());
    }
    let quiet_secs = now.0.saturating_sub(catalog.head_at_ms().0) / 1000;
    Err(ArchiveError::Busy { by: by.clone(), quiet_secs })
}

/// Since when, what to wait for, and what to type.
fn busy_since(quiet_secs: i64) -> String {
    if quiet_secs < -CLOCKS_APART_SECS {
        return format!(
            "whose last record is {} s ahead of this machine's clock. Nothing was changed. Next: set the clocks of both machines \
             right; or take over with --take-over if you know that it is dead",
            quiet_secs.unsigned_abs()
        );
    }
    let (quiet_secs, limit) = (quiet_secs.max(0).unsigned_abs(), WRITER_QUIET.as_secs());
    format!(
        "whose last record is {quiet_secs} s old. Nothing was changed. Next: if that one has ended, wait {} s more (from another \
         machine, one that has ended looks like one that is quiet for a moment); if it is at work, stop it; or take over with \
         --take-over if you know that it is dead",
        limit.saturating_sub(quiet_secs)
    )
}

/// Whether the writer was a process of this machine that has ended, or is this very process.
fn is_dead(writer: &WriterId) -> bool {
    let Some((host, pid)) = chance::host_and_pid(writer) else { return false };
    host == chance::host() && (pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists())
}

pub(crate) fn now() -> UnixMillis {
    UnixMillis(i64::try_from(TimeMs::now().0).unwrap_or(i64::MAX))
}

/// The hash as the archive writes it.
pub(crate) fn sha(bytes: [u8; 32]) -> Sha256 {
    Sha256(bytes)
}

#[cfg(test)]
mod tests {
    use eyrie_archive::record::Source;

    use super::*;

    #[test]
    fn a_writer_elsewhere_is_left_alone_for_a_minute_by_whatever_clock() {
        let ask = |ago_secs: i64| {
            let source = Source { cluster: "00000000000000aa".into(), milvus_roots: Vec::new(), objects: false };
            let at = UnixMillis(now().0 - ago_secs * 1000);
            let (id, writer) = (ArchiveId::new("a").unwrap(), WriterId::new("elsewhere:1:a").unwrap());
            let draft = Catalog::open(id, writer, at, Opened { source, sealed_to: Vec::new() }).unwrap();
            leave_alone(&Catalog::begin(draft).unwrap()).map_err(|error| error.to_string())
        };
        assert_eq!(ask(61), Ok(()));
        let why = ask(20).unwrap_err();
        assert!(
            why.contains("elsewhere:1:a") && why.contains("wait 40 s more") && why.contains("--take-over"),
            "{why}"
        );
        // nobody has to wait for an hour because a clock was set back
        let why = ask(-3600).unwrap_err();
        assert!(why.contains(" s ahead of") && why.contains("--take-over") && !why.contains("wait"), "{why}");
    }
}
