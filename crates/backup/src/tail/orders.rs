//! What others want of a running tail. It alone may write to the archive, so whoever verifies, expires or drills beside it
//! hands in what has to be recorded, and retention is carried out here, where it is known what is in use.

use eyrie_archive::index::decode_piece;
use eyrie_archive::{Index, Kind, Policy, Seq};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::run::Run;
use crate::bucket::Bucket;
use crate::catalog::now;
use crate::expire::{self, Deleted, ExpireError, Outcome, Prepared, Sweep};
use crate::limits::{ORDERS_WAITING, SWEEP_BATCH};
use crate::objects::MirrorError;
use crate::take::BackupError;
use crate::tell::{News, Tell};
use crate::unpack;

/// An order, and where its answer goes.
#[derive(Debug)]
enum Order {
    Record(Vec<Kind>, oneshot::Sender<Result<(), String>>),
    Expire(Box<Expiry>, oneshot::Sender<Result<Outcome, String>>),
    Repair(Vec<String>),
    MendIndex,
    Full,
}

/// What an expiry is made of.
#[derive(Debug)]
struct Expiry {
    policy: Policy,
    /// The index as of this record: newer pieces are read by the run.
    index: Index,
    as_of: Seq,
}

/// Where orders are handed in. Clones hand in at the same place.
#[derive(Debug, Clone)]
pub struct Desk(mpsc::Sender<Order>);

/// Where a run takes them from.
#[derive(Debug)]
pub struct Orders(mpsc::Receiver<Order>);

/// The two ends.
pub fn desk() -> (Desk, Orders) {
    let (desk, orders) = mpsc::channel(ORDERS_WAITING);
    (Desk(desk), Orders(orders))
}

/// The run has ended before it answered.
const ENDED: &str = "the tail ended meanwhile";

impl Desk {
    /// Has records written. Those that speak of a chain that has been removed since are passed over.
    ///
    /// # Errors
    /// The archive could not be written, in words.
    pub async fn record(&self, records: Vec<Kind>) -> Result<(), String> {
        let (answer, outcome) = oneshot::channel();
        self.0.send(Order::Record(records, answer)).await.map_err(|_| ENDED)?;
        outcome.await.map_err(|_| ENDED)?
    }

    /// Has retention carried out, by an index that was read as of this record; answers when all is deleted.
    ///
    /// # Errors
    /// Why nothing, or not all, was expired, in words.
    pub async fn expire(&self, policy: Policy, index: Index, as_of: Seq) -> Result<Outcome, String> {
        let (answer, outcome) = oneshot::channel();
        let expiry = Box::new(Expiry { policy, index, as_of });
        self.0.send(Order::Expire(expiry, answer)).await.map_err(|_| ENDED)?;
        outcome.await.map_err(|_| ENDED)?
    }

    /// Has damaged objects copied anew.
    pub async fn repair(&self, files: Vec<String>) {
        let _ = self.0.send(Order::Repair(files)).await;
    }

    /// Has the index of objects made anew, of which a piece is damaged.
    pub async fn mend_index(&self) {
        let _ = self.0.send(Order::MendIndex).await;
    }

    /// Has a full taken.
    pub async fn full(&self) {
        let _ = self.0.send(Order::Full).await;
    }
}

impl Orders {
    /// The next order; for ever none where nobody can hand one in any more.
    pub(super) async fn next(orders: Option<&mut Self>) -> Taken {
        let Some(orders) = orders else { return std::future::pending().await };
        match orders.0.recv().await {
            Some(order) => Taken(order),
            None => std::future::pending().await,
        }
    }
}

/// An order that was taken.
pub(super) struct Taken(Order);

/// Deletions on their way. They end with it: who is not the writer any more deletes nothing.
pub(super) struct Sweeping {
    task: JoinHandle<Vec<(Seq, bool, Deleted)>>,
    prepared: Option<Prepared>,
    answer: Option<oneshot::Sender<Result<Outcome, String>>>,
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Run<'_> {
    /// Carries out an order.
    pub(super) async fn obey(&mut self, Taken(order): Taken) -> Result<(), BackupError> {
        match order {
            Order::Record(records, answer) => {
                let outcome = self.record_all(records).await;
                let _ = answer.send(outcome.as_ref().map(|()| ()).map_err(ToString::to_string));
                outcome
            }
            Order::Expire(expiry, answer) => self.expire(*expiry, answer).await,
            Order::Repair(files) => {
                if let Some(mirror) = &mut self.mirror {
                    mirror.repair(files);
                }
                Ok(())
            }
            Order::MendIndex => {
                self.mend_index();
                Ok(())
            }
            Order::Full => {
                self.full_wanted = true;
                Ok(())
            }
        }
    }

    async fn record_all(&mut self, records: Vec<Kind>) -> Result<(), BackupError> {
        for record in records {
            let full = match &record {
                Kind::Verified(verified) => Some(verified.full),
                Kind::Drilled(drilled) => Some(drilled.full),
                _ => None,
            };
            if full.is_none_or(|full| self.writer.catalog().full(full).is_some()) {
                self.writer.append(record).await?;
            }
        }
        Ok(())
    }

    async fn expire(
        &mut self,
        expiry: Expiry,
        answer: oneshot::Sender<Result<Outcome, String>>,
    ) -> Result<(), BackupError> {
        if self.sweeping.is_some() {
            let _ = answer.send(Err("an expiry is under way".into()));
            return Ok(());
        }
        match self.give_up(expiry).await {
            Ok((prepared, sweeps)) => {
                let (bucket, tell) = (self.backup.archive.clone(), self.backup.tell.clone());
                let task = tokio::spawn(delete_all(bucket, sweeps, tell));
                self.sweeping = Some(Sweeping { task, prepared: Some(prepared), answer: Some(answer) });
                Ok(())
            }
            Err(error) => {
                let _ = answer.send(Err(error.to_string()));
                // what concerns the archive's writer concerns the run
                match error {
                    ExpireError::Archive(error) => Err(error.into()),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Writes down what goes. From then on none of it is counted on, and nothing is written under its names.
    async fn give_up(&mut self, expiry: Expiry) -> Result<(Prepared, Vec<Sweep>), ExpireError> {
        let Expiry { policy, mut index, as_of } = expiry;
        if let Some(mirror) = &mut self.mirror {
            let settled = mirror.settle(&mut self.writer).await;
            settled.map_err(|error| match error {
                MirrorError::Archive(error) => ExpireError::Archive(error),
                other => ExpireError::Index(other.to_string()),
            })?;
        }
        let bucket = self.backup.archive.clone();
        let newer =
            self.writer.catalog().pieces().filter(|(seq, _)| *seq > as_of).map(|(_, piece)| piece.stored.clone());
        for stored in newer.collect::<Vec<_>>() {
            let bad = |error: &dyn std::fmt::Display| ExpireError::Index(error.to_string());
            let bytes = unpack::bytes(&bucket, &stored).await.map_err(|error| bad(&error))?;
            let lines = decode_piece(&bytes).map_err(|error| bad(&error))?;
            index.apply(&lines).map_err(|error| bad(&error))?;
        }
        let mut prepared = expire::judge(self.writer.catalog(), Ok(&index), &policy, now())?;
        if let Some(mirror) = &mut self.mirror {
            let ledger = mirror.ledger();
            prepared.spare(|file| ledger.is_in_use(file));
        }
        let given_up = expire::give_up(&mut self.writer, &mut prepared).await?;
        if let (Some(mirror), Some(_)) = (&mut self.mirror, given_up) {
            mirror.block(prepared.objects_gone().map(str::to_owned));
        }
        let gone: Vec<_> =
            if given_up.is_some() { prepared.objects_gone().map(str::to_owned).collect() } else { vec![] };
        let lines: Vec<_> = gone.iter().filter_map(|path| removed(path)).collect();
        index.apply(&lines).map_err(|error| ExpireError::Index(error.to_string()))?;
        let unswept: Vec<Seq> = self.writer.catalog().unswept().map(|(seq, _)| seq).collect();
        let mut sweeps = Vec::new();
        for seq in unswept {
            let Some(sweep) = Sweep::of(&bucket, self.writer.catalog(), Some(&index), seq).await? else { continue };
            if let Some(mirror) = &mut self.mirror {
                mirror.block(sweep.sources.iter().cloned());
            }
            sweeps.push(sweep);
        }
        Ok((prepared, sweeps))
    }

    /// The deletions have ended.
    pub(super) async fn take_in_sweep(
        &mut self,
        ended: Result<Vec<(Seq, bool, Deleted)>, BackupError>,
    ) -> Result<(), BackupError> {
        let Some(mut sweeping) = self.sweeping.take() else { return Ok(()) };
        if let Some(mirror) = &mut self.mirror {
            mirror.unblock();
        }
        let mut all = Deleted::default();
        for (seq, whole, done) in ended? {
            expire::swept(&mut self.writer, seq, whole, &done).await?;
            all.add(done);
        }
        if let (Some(prepared), Some(answer)) = (sweeping.prepared.take(), sweeping.answer.take()) {
            let outcome = Outcome { prepared, deleted: all.files, left: all.left, unfinished: all.unfinished };
            let _ = answer.send(Ok(outcome));
        }
        Ok(())
    }

    /// Before anything is copied: what an earlier expiry gave up and did not delete is deleted now, for an object of the same
    /// name may have to be stored again.
    pub(super) async fn finish_sweeps(&mut self) -> Result<(), BackupError> {
        if let Some(trouble) = self.writer.take_pin_trouble() {
            self.backup.tell.warn(trouble);
        }
        let with_objects = |rest: &eyrie_archive::catalog::Unswept| rest.objects.is_some();
        if !self.writer.catalog().unswept().any(|(_, rest)| with_objects(rest)) {
            return Ok(());
        }
        let mut done = Deleted::default();
        match expire::finish(&mut self.writer, &self.backup.tell, &mut done).await {
            Ok(()) => {}
            Err(ExpireError::Archive(error)) => return Err(error.into()),
            Err(error) => done.unfinished = Some(error.to_string()),
        }
        if let Some(why) = done.unfinished {
            self.backup.tell.warn(format!("what an earlier expiry gave up could not be deleted: {why}"));
        }
        Ok(())
    }
}

fn removed(path: &str) -> Option<eyrie_archive::Line> {
    let source = eyrie_archive::SourcePath::new(path).ok()?;
    Some(eyrie_archive::Line::Removed { source, stored: None })
}

/// The task of [`Sweeping`], for the loop of the run; for ever when there is none.
pub(super) async fn swept(sweeping: Option<&mut Sweeping>) -> Result<Vec<(Seq, bool, Deleted)>, BackupError> {
    match sweeping {
        Some(sweeping) => (&mut sweeping.task).await.map_err(|error| BackupError::Task(error.to_string())),
        None => std::future::pending().await,
    }
}

async fn delete_all(bucket: Bucket, sweeps: Vec<Sweep>, tell: Tell) -> Vec<(Seq, bool, Deleted)> {
    let of_files = sweeps.iter().map(|sweep| sweep.files.len() as u64).sum();
    let (mut all, mut files) = (Vec::new(), 0);
    for sweep in sweeps {
        let mut done = Deleted::default();
        for batch in sweep.files.chunks(SWEEP_BATCH) {
            done.add(expire::delete(&bucket, batch).await);
            files += batch.len() as u64;
            tell.news(News::Deleting { files, of_files });
            if done.unfinished.is_some() {
                break;
            }
        }
        all.push((sweep.expired, sweep.is_whole(), done));
    }
    all
}
