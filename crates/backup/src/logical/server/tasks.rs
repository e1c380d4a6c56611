//! Runs that go on behind a request: begun, watched, cancelled, and remembered in the bucket across restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, oneshot, watch};

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
    tasks: Arc<Mutex<BTreeMap<String, Task>>>,
}

impl Tasks {
    /// Reads what earlier servers remembered.
    pub(super) async fn open(bucket: &Bucket) -> Result<Tasks> {
        let bucket = bucket.below(FOLDER)?;
        let mut tasks = BTreeMap::new();
        let mut listed = bucket.list("");
        loop {
            let entry = match listed.try_next().await {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error.into()),
            };
            let read = bucket.read(&entry.key).await?;
            // What is no record was put there by somebody else; it is left alone.
            let Ok(mut record) = serde_json::from_slice::<Record>(&read) else { continue };
            if record.state_code == EXECUTING {
                record.state_code = FAILED;
                record.error = "the server ended meanwhile; begin it again: what is there is not copied again".into();
                record.end_time = TimeMs::now().0;
                bucket.put(&entry.key, bytes(&record)).await?;
            }
            let (_, ended) = watch::channel(true);
            let id = record.id.clone();
            tasks.insert(id, Task { record, progress: Arc::default(), ended, failure: None, stop: None });
        }
        Ok(Tasks { bucket, tasks: Arc::new(Mutex::new(tasks)) })
    }

    /// Begins a task on a thread of its own; its id.
    pub(super) async fn begin<R, F>(&self, kind: Kind, name: &str, run: R) -> Result<String>
    where
        R: FnOnce(Tell) -> F + Send + 'static,
        F: Future<Output = Result<Value>>,
    {
        self.forget_oldest().await;
        let record = Record {
            id: chance::word(16),
            kind,
            name: name.to_owned(),
            state_code: EXECUTING,
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
        Ok(self.get(id).await.unwrap_or_default())
    }

    /// One task.
    pub(super) async fn get(&self, id: &str) -> Option<Value> {
        self.tasks.lock().await.get(id).map(shown)
    }

    /// All tasks, oldest first.
    pub(super) async fn all(&self) -> Value {
        let tasks = self.tasks.lock().await;
        let mut all: Vec<(&u64, Value)> = tasks.values().map(|task| (&task.record.start_time, shown(task))).collect();
        all.sort_by_key(|(start, _)| **start);
        all.into_iter().map(|(_, task)| task).collect()
    }

    /// The task that is at work on a backup.
    pub(super) async fn running(&self, kind: Kind, name: &str) -> Option<Value> {
        let tasks = self.tasks.lock().await;
        let mine = |task: &&Task| {
            (task.record.kind, task.record.name.as_str(), task.record.state_code) == (kind, name, EXECUTING)
        };
        tasks.values().find(mine).map(shown)
    }

    /// Ends a task before its time.
    pub(super) async fn cancel(&self, id: &str) -> Result<Value> {
        let mut tasks = self.tasks.lock().await;
        let none =
            || Failure::new(FailureKind::NotFound, format!("there is no task {id}"), "GET /api/v1/tasks names all");
        let task = tasks.get_mut(id).ok_or_else(none)?;
        if task.record.state_code == EXECUTING {
            if let Some(stop) = task.stop.take() {
                // One that has ended just now does not hear it.
                let _ = stop.send(());
            }
            (task.record.state_code, task.record.error) = (FAILED, "it was cancelled".into());
            task.record.end_time = TimeMs::now().0;
            self.bucket.put(&key(id), bytes(&task.record)).await?;
        }
        Ok(shown(task))
    }

    async fn forget_oldest(&self) {
        let mut tasks = self.tasks.lock().await;
        while tasks.len() >= TASKS_KEPT {
            let ended = tasks.values().filter(|task| task.record.state_code != EXECUTING);
            let Some(oldest) = ended.min_by_key(|task| task.record.start_time).map(|task| task.record.id.clone())
            else {
                return;
            };
            tasks.remove(&oldest);
            let _ = self.bucket.delete(&key(&oldest)).await;
        }
    }
}

/// A task as upstream shows it.
fn shown(task: &Task) -> Value {
    let record = &task.record;
    let (done, total) = (task.progress.done.load(Ordering::Relaxed), task.progress.total.load(Ordering::Relaxed));
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

fn bytes(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}
