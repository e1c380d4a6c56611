//! Runs that go on behind a request: begun, watched, cancelled, and remembered in the bucket across restarts.
//!
//! ```text
//! <root>/_tasks/<id>.json              a task, and which server has it
//! <root>/_tasks/servers/<server>.json  that the server lives
//! ```
//!
//! Several servers may share a place. What a server does itself it knows from memory; of the others' tasks it reads what they
//! wrote, and one that is at work in a server that is gone has failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, oneshot, watch};

use super::super::claims::{Claim, Working};
use super::super::failure::{Failure, Kind as FailureKind, Result};
use super::super::news::{News, Tell};
use crate::bucket::Bucket;
use crate::chance;
use crate::history::TimeMs;
use crate::limits::TASKS_KEPT;

/// The folder in the place of the backups; no backup can have this name's files.
const FOLDER: &str = "_tasks";
const EXECUTING: i32 = 1;
const SUCCESS: i32 = 2;
const FAILED: i32 = 3;

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Create,
    Restore,
}

/// What is remembered of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    id: String,
    kind: Kind,
    name: String,
    state_code: i32,
    /// The server whose task it is.
    #[serde(default)]
    server: String,
    #[serde(default)]
    error: String,
    start_time: u64,
    #[serde(default)]
    end_time: u64,
    #[serde(default)]
    data: Value,
}

struct Task {
    record: Record,
    progress: Arc<Progress>,
    /// Turns true at the end.
    ended: watch::Receiver<bool>,
    failure: Option<Failure>,
    /// Ends it before its time.
    stop: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

/// All tasks.
#[derive(Clone)]
pub(super) struct Tasks {
    bucket: Bucket,
    /// This server's word.
    server: String,
    /// This server's tasks.
    tasks: Arc<Mutex<BTreeMap<String, Task>>>,
}

impl Tasks {
    /// Begins to remember tasks in a place; the claim says that this server lives.
    pub(super) async fn open(bucket: &Bucket) -> Result<(Tasks, Claim)> {
        let bucket = bucket.below(FOLDER)?;
        let server = chance::word(8);
        let taken =
            |_: &str| Failure::new(FailureKind::Exists, "another server has this server's word", "start it again");
        let claim = Claim::take(&bucket, &server_key(&server), taken).await?;
        Ok((Tasks { bucket, server, tasks: Arc::default() }, claim))
    }

    /// Begins a task on a thread of its own; its id.
    pub(super) async fn begin<R, F>(&self, kind: Kind, name: &str, run: R) -> Result<String>
    where
        R: FnOnce(Tell) -> F + Send + 'static,
        F: Future<Output = Result<Value>>,
    {
        self.forget_oldest().await?;
        let record = Record {
            id: chance::word(16),
            kind,
            name: name.to_owned(),
            state_code: EXECUTING,
            server: self.server.clone(),
            error: String::new(),
            start_time: TimeMs::now().0,
            end_time: 0,
            data: Value::Null,
        };
        let id = record.id.clone();
        self.bucket.put(&key(&id), bytes(&record)).await?;
        let progress = Arc::<Progress>::default();
        let counted = progress.clone();
        let tell = Tell::new(move |news| match news {
            News::More { objects, .. } => drop(counted.total.fetch_add(objects, Ordering::Relaxed)),
            News::Done { objects, .. } => drop(counted.done.fetch_add(objects, Ordering::Relaxed)),
            _ => {}
        });
        let (end, ended) = watch::channel(false);
        let (stop, stopped) = oneshot::channel();
        let task = Task { record, progress, ended, failure: None, stop: Some(stop) };
        self.tasks.lock().await.insert(id.clone(), task);
        let (all, mine) = (self.clone(), id.clone());
        let work = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                tokio::select! {
                    result = run(tell) => all.end(&mine, result).await,
                    Ok(()) = stopped => {}
                }
            });
            let _ = end.send(true);
        };
        let began = std::thread::Builder::new().name("task".into()).spawn(work);
        match began {
            Ok(_) => Ok(id),
            Err(error) => {
                let failure =
                    Failure::new(FailureKind::Unavailable, format!("no thread for the task: {error}"), "try again");
                self.end(&id, Err(failure.clone())).await;
                Err(failure)
            }
        }
    }

    async fn end(&self, id: &str, result: Result<Value>) {
        let mut tasks = self.tasks.lock().await;
        let Some(task) = tasks.get_mut(id).filter(|task| task.record.state_code == EXECUTING) else { return };
        task.record.end_time = TimeMs::now().0;
        match result {
            Ok(data) => (task.record.state_code, task.record.data) = (SUCCESS, data),
            Err(failure) => {
                (task.record.state_code, task.record.error) = (FAILED, failure.to_string());
                task.failure = Some(failure);
            }
        }
        // The task itself is done or not, whether that can be remembered or not.
        let _ = self.bucket.put(&key(id), bytes(&task.record)).await;
    }

    /// What a request is told: at once, or when the task is done.
    pub(super) async fn answer(&self, id: &str, wait: bool) -> Result<Value> {
        if wait {
            let ended = self.tasks.lock().await.get(id).map(|task| task.ended.clone());
            if let Some(mut ended) = ended {
                let _ = ended.wait_for(|ended| *ended).await;
            }
            if let Some(failure) = self.tasks.lock().await.get(id).and_then(|task| task.failure.clone()) {
                return Err(failure);
            }
        }
        Ok(self.get(id).await?.unwrap_or_default())
    }

    /// One task.
    pub(super) async fn get(&self, id: &str) -> Result<Option<Value>> {
        if let Some(task) = self.tasks.lock().await.get(id) {
            return Ok(Some(shown(&task.record, &task.progress)));
        }
        Ok(self.remembered(&key(id)).await?.map(|record| shown(&record, &Progress::default())))
    }

    /// All tasks, oldest first.
    pub(super) async fn all(&self) -> Result<Value> {
        let mut all: BTreeMap<(u64, String), Value> = BTreeMap::new();
        for record in self.all_remembered().await? {
            all.insert((record.start_time, record.id.clone()), shown(&record, &Progress::default()));
        }
        for task in self.tasks.lock().await.values() {
            all.insert((task.record.start_time, task.record.id.clone()), shown(&task.record, &task.progress));
        }
        Ok(all.into_values().collect())
    }

    /// What is remembered of a task, which has failed if its server is gone.
    async fn remembered(&self, key: &str) -> Result<Option<Record>> {
        // What is asked for comes from a caller: only what can be a task's name is looked for.
        if !key.strip_suffix(".json").is_some_and(|id| !id.is_empty() && id.bytes().all(|c| c.is_ascii_alphanumeric()))
        {
            return Ok(None);
        }
        let read = match self.bucket.read(key).await {
            Ok(read) => read,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // What is no record was put there by somebody else; it is left alone.
        let Ok(mut record) = serde_json::from_slice::<Record>(&read) else { return Ok(None) };
        if record.state_code == EXECUTING && record.server != self.server && !self.lives(&record.server).await? {
            record.state_code = FAILED;
            record.error = "the server ended meanwhile; begin it again: what is there is not copied again".into();
            record.end_time = TimeMs::now().0;
            self.bucket.put(key, bytes(&record)).await?;
            self.bucket.delete(&server_key(&record.server)).await?;
        }
        Ok(Some(record))
    }

    /// What is remembered of all tasks.
    async fn all_remembered(&self) -> Result<Vec<Record>> {
        let keys: Vec<_> = self.bucket.list("").try_collect().await?;
        let keys = keys.into_iter().map(|entry| entry.key).filter(|key| !key.contains('/'));
        let read = futures::stream::iter(keys).map(|key| async move { self.remembered(&key).await });
        let read: Vec<Option<Record>> = read.buffer_unordered(self.bucket.parallel()).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    async fn lives(&self, server: &str) -> Result<bool> {
        if server.is_empty() {
            return Ok(false);
        }
        let working = Working::at(&self.bucket, &server_key(server)).await?;
        Ok(working.is_some_and(|working| working.lives()))
    }

    /// The task that is at work on a backup.
    pub(super) async fn running(&self, kind: Kind, name: &str) -> Option<Value> {
        let tasks = self.tasks.lock().await;
        let mine = |task: &&Task| {
            (task.record.kind, task.record.name.as_str(), task.record.state_code) == (kind, name, EXECUTING)
        };
        tasks.values().find(mine).map(|task| shown(&task.record, &task.progress))
    }

    /// Ends a task before its time.
    pub(super) async fn cancel(&self, id: &str) -> Result<Value> {
        let mut tasks = self.tasks.lock().await;
        let Some(task) = tasks.get_mut(id) else {
            let elsewhere = self.remembered(&key(id)).await?;
            let (what, next) = match elsewhere.is_some_and(|record| record.state_code == EXECUTING) {
                true => (format!("the task {id} is another server's"), "ask the server that began it"),
                false => (format!("no task {id} is at work here"), "GET /api/v1/tasks names all"),
            };
            return Err(Failure::new(FailureKind::NotFound, what, next));
        };
        if task.record.state_code == EXECUTING {
            if let Some(stop) = task.stop.take() {
                // One that has ended just now does not hear it.
                let _ = stop.send(());
            }
            (task.record.state_code, task.record.error) = (FAILED, "it was cancelled".into());
            task.record.end_time = TimeMs::now().0;
            self.bucket.put(&key(id), bytes(&task.record)).await?;
        }
        Ok(shown(&task.record, &task.progress))
    }

    /// Keeps the number of remembered tasks bounded: the oldest that have ended go.
    async fn forget_oldest(&self) -> Result<()> {
        let keys: Vec<_> = self.bucket.list("").try_collect().await?;
        let remembered = keys.iter().filter(|entry| !entry.key.contains('/')).count();
        if remembered < TASKS_KEPT {
            return Ok(());
        }
        let mut ended = self.all_remembered().await?;
        ended.retain(|record| record.state_code != EXECUTING);
        ended.sort_by_key(|record| record.start_time);
        let mut tasks = self.tasks.lock().await;
        for record in ended.into_iter().take(remembered - TASKS_KEPT + 1) {
            tasks.remove(&record.id);
            self.bucket.delete(&key(&record.id)).await?;
        }
        Ok(())
    }
}

/// A task as upstream shows it.
fn shown(record: &Record, progress: &Progress) -> Value {
    let (done, total) = (progress.done.load(Ordering::Relaxed), progress.total.load(Ordering::Relaxed));
    let progress = match record.state_code {
        SUCCESS => 100,
        _ => done.min(total).saturating_mul(100).checked_div(total).unwrap_or(0).min(99),
    };
    let mut shown = json!({
        "id": record.id, "kind": record.kind, "name": record.name, "state_code": record.state_code,
        "errorMessage": record.error, "start_time": record.start_time, "end_time": record.end_time, "progress": progress,
    });
    if let (Value::Object(shown), Value::Object(data)) = (&mut shown, &record.data) {
        // The task's own id and state stay: they are what it is asked for by.
        data.iter().filter(|(name, _)| *name != "id" && *name != "state_code").for_each(|(name, value)| {
            shown.insert(name.clone(), value.clone());
        });
    }
    shown
}

fn key(id: &str) -> String {
    format!("{id}.json")
}

fn server_key(server: &str) -> String {
    format!("servers/{server}.json")
}

fn bytes(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}
