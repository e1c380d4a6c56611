//! Many watchers, slow and fast, early and late, against the plain list of everything that happened.
//!
//! Random writers, compactions, watchers with random interests and starts on several threads, trails far too short:
//! every watcher must see exactly its part of the list, in order, once, each revision whole, and go on after a
//! compaction that overtook it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eyrie_api::{mvccpb, pb};
use eyrie_state::watch::{Filters, Interest};
use eyrie_state::{Command, DeleteRange, KeyRange, Op, Revision};
use parking_lot::Mutex;
use tokio_stream::StreamExt;

use super::fake::{Fake, put};
use super::hub::Bounds;
use super::service::WatchService;
use super::stream::WatchSettings;
use crate::convert;

const KEYS: u64 = 24;
const REVISIONS: i64 = 1500;
const STREAMS: u64 = 60;
const TIME: Duration = Duration::from_secs(15);

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn key(&mut self) -> String {
        format!("k{:02}", self.below(KEYS))
    }
}

/// One change, with the value before it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    revision: i64,
    delete: bool,
    key: Bytes,
    value: Bytes,
    before: Option<Bytes>,
}

#[derive(Default)]
struct World {
    /// Everything that happened, in order.
    changes: Vec<Change>,
    /// The highest revision that a compaction was asked for.
    compacted: i64,
    done: bool,
}

fn write(fake: &Fake, world: &Mutex<World>, seed: u64) {
    let mut chance = Chance(seed);
    let mut values = std::collections::BTreeMap::<Bytes, Bytes>::new();
    while fake.revision_now().0 < REVISIONS {
        let command = match chance.below(10) {
            0..6 => Command::Put(put(&chance.key(), &format!("v{}", chance.below(1000)))),
            6 => {
                let keys = KeyRange::One(chance.key().into());
                Command::DeleteRange(DeleteRange { keys, prev_kv: false })
            }
            7 => {
                let first = chance.below(KEYS);
                let keys = KeyRange::Span(format!("k{first:02}").into(), format!("k{:02}", first + 5).into());
                Command::DeleteRange(DeleteRange { keys, prev_kv: false })
            }
            _ => {
                let first = chance.below(KEYS);
                let op = |n: u64| Op::Put(put(&format!("k{:02}", (first + n) % KEYS), &format!("t{n}")));
                Command::Txn(eyrie_state::Txn {
                    success: (0..=chance.below(6)).map(op).collect(),
                    ..Default::default()
                })
            }
        };
        let applied = fake.apply(command);
        let mut all = world.lock();
        for event in applied.events {
            let before = values.get(&event.kv.key).cloned();
            match event.delete {
                true => values.remove(&event.kv.key),
                false => values.insert(event.kv.key.clone(), event.kv.value.clone()),
            };
            let (key, value) = (event.kv.key, event.kv.value);
            all.changes.push(Change { revision: applied.revision.0, delete: event.delete, key, value, before });
        }
        drop(all);
        if chance.one_in(150) {
            let now = fake.revision_now().0;
            let target = now - chance.below(200).min(now as u64 - 1) as i64;
            let mut all = world.lock();
            if target > all.compacted {
                all.compacted = target;
                drop(all);
                fake.compact(Revision(target));
            }
        }
        if chance.one_in(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    world.lock().done = true;
}

/// One watcher of a stream, and what it has seen.
struct Watching {
    request: pb::WatchCreateRequest,
    interest: Interest,
    /// All wanted changes of revisions from here on must be seen; set by the created answer.
    from: i64,
    seen: Vec<Change>,
    /// How far a compaction let it skip: what stands before is not owed.
    skipped: Vec<(i64, i64)>,
    last_was_fragment: bool,
}

impl Watching {
    fn random(chance: &mut Chance, now: i64, watch_id: i64) -> Self {
        let key = Bytes::from(chance.key());
        let range_end = match chance.below(5) {
            0 => Bytes::new(),
            1 => Bytes::from_static(&[0]),
            2 => Bytes::from_static(b"l"),
            _ => Bytes::from(format!("k{:02}", chance.below(KEYS) + 10)),
        };
        let key = if chance.one_in(3) { Bytes::from_static(b"k") } else { key };
        let filters = match chance.below(6) {
            0 => vec![0],
            1 => vec![1],
            _ => vec![],
        };
        let start_revision = match chance.below(4) {
            0 => 0,
            1 => now + chance.below(20) as i64,
            _ => 1 + chance.below(now as u64) as i64,
        };
        let range_end = if !range_end.is_empty() && range_end[..] != [0] && range_end <= key {
            Bytes::from_static(b"l")
        } else {
            range_end
        };
        let request = pb::WatchCreateRequest {
            prev_kv: chance.one_in(3),
            fragment: chance.one_in(4),
            progress_notify: chance.one_in(3),
            key: key.clone(),
            range_end: range_end.clone(),
            start_revision,
            filters: filters.clone(),
            watch_id,
        };
        let filters = Filters { no_put: filters.contains(&0), no_delete: filters.contains(&1) };
        let interest = Interest::new(convert::key_range(key, range_end), filters, request.prev_kv).unwrap();
        Self { request, interest, from: 0, seen: Vec::new(), skipped: Vec::new(), last_was_fragment: false }
    }

    fn hear(&mut self, response: pb::WatchResponse) {
        let header = response.header.unwrap().revision;
        if response.created {
            assert!(!response.canceled, "{response:?}");
            if self.from == 0 {
                self.from = if self.request.start_revision == 0 { header + 1 } else { self.request.start_revision };
            }
            return;
        }
        let mut first = true;
        for event in response.events {
            let change = self.change(event);
            assert!(change.revision <= header);
            if let Some(last) = self.seen.last() {
                assert!(change.revision >= last.revision, "{change:?} after {last:?}");
                // A revision is never torn, unless fragments were asked for.
                assert!(!first || self.last_was_fragment || change.revision > last.revision, "torn at {change:?}");
            }
            first = false;
            self.seen.push(change);
        }
        self.last_was_fragment = response.fragment;
    }

    fn change(&self, event: mvccpb::Event) -> Change {
        let kv = event.kv.unwrap();
        Change {
            revision: kv.mod_revision,
            delete: event.r#type == 1,
            key: kv.key,
            value: kv.value,
            before: event.prev_kv.map(|prev| prev.value),
        }
    }

    /// What it must have seen by now.
    fn owed(&self, all: &[Change]) -> Vec<Change> {
        let skipped = |revision: i64| self.skipped.iter().any(|(after, to)| *after < revision && revision < *to);
        let mut owed = Vec::new();
        for change in all.iter().filter(|change| change.revision >= self.from) {
            if self.interest.wants(&change.key, change.delete) && !skipped(change.revision) {
                owed.push(change.clone());
            }
        }
        owed
    }

    fn check(&self, all: &[Change], compacted: i64) {
        let owed = self.owed(all);
        assert_eq!(self.seen.len(), owed.len(), "{:?} from {}", self.request, self.from);
        for (seen, owed) in self.seen.iter().zip(&owed) {
            let Change { revision, before, .. } = seen;
            let before_is_right = match (self.request.prev_kv, before) {
                (false, None) => true,
                (true, Some(_)) => *before == owed.before,
                (true, None) => owed.before.is_none() || *revision <= compacted,
                (false, Some(_)) => false,
            };
            assert!(before_is_right, "{seen:?} is not {owed:?}");
            assert_eq!(Change { before: None, ..seen.clone() }, Change { before: None, ..owed.clone() });
        }
    }
}

/// A stream with a few watchers that reads now and then, until all its watchers have seen all.
async fn read(fake: Fake, world: Arc<Mutex<World>>, seed: u64) -> usize {
    let mut chance = Chance(seed);
    let settings = WatchSettings { progress_interval: Duration::from_millis(100), fragment_bytes: 300 };
    let service = WatchService::new(fake.hub.clone(), fake.clone(), settings);
    tokio::time::sleep(Duration::from_millis(chance.below(400))).await;
    let mut stream = service.inside();
    let mut watchers = Vec::new();
    for number in 0..=chance.below(6) {
        let watching = Watching::random(&mut chance, fake.revision_now().0, number as i64 + 1);
        stream.create(watching.request.clone());
        watchers.push(watching);
    }
    let slow = chance.one_in(3);
    let begun = Instant::now();
    let mut resumed = 0;
    loop {
        if slow && chance.one_in(3) {
            tokio::time::sleep(Duration::from_millis(chance.below(40))).await;
        }
        let response = match tokio::time::timeout(Duration::from_millis(50), stream.next()).await {
            Ok(response) => response.expect("the stream goes on").expect("no error").into_message(),
            Err(_) => {
                let world = world.lock();
                let finished = |w: &Watching| w.from > 0 && w.seen.len() >= w.owed(&world.changes).len();
                if world.done && watchers.iter().all(finished) {
                    break;
                }
                assert!(begun.elapsed() < TIME, "seed {seed}: a watcher waits in vain");
                continue;
            }
        };
        assert!(begun.elapsed() < TIME, "seed {seed}: no end");
        let watching = &mut watchers[response.watch_id as usize - 1];
        if !response.canceled {
            watching.hear(response);
            continue;
        }
        // Overtaken by a compaction: go on from where history begins now.
        let oldest = response.compact_revision;
        let last = watching.seen.last().map_or(0, |change| change.revision);
        assert!(
            oldest > last.max(watching.from) && response.header.unwrap().revision == 0,
            "seed {seed}: {response:?}"
        );
        watching.skipped.push((last.max(watching.from - 1), oldest));
        let again = pb::WatchCreateRequest { start_revision: oldest, ..watching.request.clone() };
        stream.create(again);
        resumed += 1;
    }
    let world = world.lock();
    for watching in &watchers {
        watching.check(&world.changes, world.compacted);
    }
    resumed
}

#[test]
fn every_watcher_sees_its_part_of_history_in_order_once_and_whole() {
    let mut resumed = 0;
    for seed in 1..=3 {
        let fake = Fake::with_bounds(Bounds { bytes: 4000, revisions: 40 });
        let world = Arc::new(Mutex::new(World::default()));
        std::thread::scope(|scope| {
            scope.spawn(|| write(&fake, &world, seed));
            let readers: Vec<_> = (0..2)
                .map(|thread| {
                    let (fake, world) = (fake.clone(), Arc::clone(&world));
                    scope.spawn(move || {
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                        runtime.block_on(async {
                            let streams = (0..STREAMS / 2).map(|n| {
                                tokio::spawn(read(fake.clone(), Arc::clone(&world), seed * 1000 + thread * 100 + n))
                            });
                            let mut resumed = 0;
                            for stream in streams.collect::<Vec<_>>() {
                                resumed += stream.await.unwrap();
                            }
                            resumed
                        })
                    })
                })
                .collect();
            resumed += readers.into_iter().map(|reader| reader.join().unwrap()).sum::<usize>();
        });
        let stats = fake.hub.stats();
        let count = |gauge: &std::sync::atomic::AtomicU64| gauge.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((count(&stats.watchers), count(&stats.streams), count(&stats.slow_watchers)), (0, 0, 0));
    }
    assert!(resumed > 0, "compactions never overtook a watcher: the test is too tame");
}
