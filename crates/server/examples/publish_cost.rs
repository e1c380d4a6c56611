//! What publishing costs the apply thread, and what a watcher costs its own. Prints figures; decides nothing.
//! `cargo run --release -p eyrie-server --example publish_cost`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use eyrie_api::pb;
use eyrie_server::watch::{Source, View, WatchHub, WatchService, WatchSettings};
use eyrie_state::{Event, KeyValue, MemTables, Revision, TableFault, Tables};
use tokio_stream::StreamExt;

/// A store without history: the measured watchers never need it.
#[derive(Clone)]
struct Now(WatchHub);

impl Source for Now {
    type Records = <MemTables as Tables>::Records;
    fn view(&self) -> View<Self::Records> {
        View { revision: self.0.published(), compacted: Revision(0), records: MemTables::default().records() }
    }
    fn revision(&self) -> Revision {
        self.0.published()
    }
    fn before(&self, wanted: &[(Bytes, Revision)]) -> Result<Vec<Option<KeyValue>>, TableFault> {
        Ok(vec![None; wanted.len()])
    }
    fn permit(&self, _: &eyrie_state::KeyRange) -> Result<(), tonic::Status> {
        Ok(())
    }

    fn header(&self, revision: Revision) -> pb::ResponseHeader {
        pb::ResponseHeader { cluster_id: u64::MAX / 3, member_id: u64::MAX / 5, revision: revision.0, raft_term: 2 }
    }
}

fn main() {
    for (watchers, per_stream, pause) in
        [(0, 1, 0), (1, 1, 0), (1000, 1, 0), (1000, 100, 0), (1, 1, 1000), (1000, 1, 5000), (1000, 100, 5000)]
    {
        measure(watchers, per_stream, Duration::from_micros(pause));
    }
}

fn measure(watchers: usize, per_stream: usize, pause: Duration) {
    let hub = WatchHub::new(Revision(1));
    let service = WatchService::new(
        hub.clone(),
        Now(hub.clone()),
        WatchSettings { progress_interval: Duration::from_secs(600), fragment_bytes: 2 << 20 },
    );
    let stop = Arc::new(AtomicBool::new(false));
    let (bytes, frames) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let edge = {
        let (stop, bytes, frames) = (Arc::clone(&stop), Arc::clone(&bytes), Arc::clone(&frames));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for _ in 0..watchers.div_ceil(per_stream) {
                    let mut stream = service.inside();
                    for _ in 0..per_stream {
                        let (key, range_end) = (Bytes::from_static(b"k/"), Bytes::from_static(b"k0"));
                        stream.create(pb::WatchCreateRequest { key, range_end, ..Default::default() });
                    }
                    let (bytes, frames) = (Arc::clone(&bytes), Arc::clone(&frames));
                    tokio::spawn(async move {
                        while let Some(Ok(frame)) = stream.next().await {
                            bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
                            frames.fetch_add(1, Ordering::Relaxed);
                            tokio::task::coop::consume_budget().await;
                        }
                    });
                }
                while !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        })
    };
    while (hub.stats().watchers.load(Ordering::Relaxed) as usize) < watchers {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    let count: i64 = if pause.is_zero() { 20_000 } else { 400 };
    let (begun, mut spent, mut worst) = (Instant::now(), Duration::ZERO, Duration::ZERO);
    for revision in 2..2 + count {
        let kv = KeyValue {
            key: format!("k/{revision:08}").into(),
            value: vec![b'v'; 256].into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            ..Default::default()
        };
        let events = vec![Event { delete: false, kv, prev: None }];
        let before = Instant::now();
        hub.publish(Revision(revision), events);
        let took = before.elapsed();
        spent += took;
        worst = worst.max(took);
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    let wanted = watchers as u64 * count as u64;
    let events = &hub.stats().events;
    while events.load(Ordering::Relaxed) < wanted {
        std::thread::sleep(Duration::from_millis(1));
    }
    let total = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    edge.join().expect("the edge thread ends");
    println!(
        "{watchers:5} watchers, {per_stream:3} a stream, pause {pause:?}: publish {:6.2} us mean, {:7.1} us worst; \
         {:9.0} events/s in {} responses, {} MiB",
        spent.as_secs_f64() * 1e6 / count as f64,
        worst.as_secs_f64() * 1e6,
        wanted as f64 / total.as_secs_f64(),
        frames.load(Ordering::Relaxed),
        bytes.load(Ordering::Relaxed) >> 20,
    );
}
