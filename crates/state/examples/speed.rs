//! What the state itself costs, without a disk: `cargo run --release -p eyrie-state --example speed [ordered|scattered]`.
//!
//! Prints microseconds for each put and read, the time to rebuild the index, and memory for each key. Only numbers,
//! no verdict: they are for a person with the same machine before and after a change.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "measures time and memory from outside")]

use std::time::Instant;

use bytes::Bytes;
use eyrie_state::*;

const KEYS: u64 = 1_000_000;

/// Tables that keep nothing, so that only the state is measured.
#[derive(Clone)]
struct Void;

impl Tables for Void {
    type Records = Void;
    fn records(&self) -> Void {
        Void
    }
    fn stage(&mut self, change: Change) -> Result<(), TableFault> {
        std::hint::black_box(change);
        Ok(())
    }
    fn load(&self, _: Bucket, _: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), TableFault> {
        Ok(())
    }
    fn applied(&self) -> (LogIndex, Term) {
        (LogIndex(0), Term(0))
    }
}

impl Records for Void {
    fn record(&self, _: Position) -> Result<Option<Bytes>, TableFault> {
        Ok(None)
    }
    fn scan(
        &self,
        _: Position,
        _: Position,
        _: &mut dyn FnMut(Position, bool, &Bytes) -> bool,
    ) -> Result<(), TableFault> {
        Ok(())
    }
}

/// As [`Void`], but it holds a million records when the state is opened.
struct Full(std::sync::Arc<[Bytes]>);

impl Tables for Full {
    type Records = FullView;
    fn records(&self) -> FullView {
        FullView(self.0.clone())
    }
    fn stage(&mut self, _: Change) -> Result<(), TableFault> {
        Ok(())
    }
    fn load(&self, _: Bucket, _: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), TableFault> {
        Ok(())
    }
    fn applied(&self) -> (LogIndex, Term) {
        (LogIndex(0), Term(0))
    }
}

#[derive(Clone)]
struct FullView(std::sync::Arc<[Bytes]>);

impl Records for FullView {
    fn record(&self, _: Position) -> Result<Option<Bytes>, TableFault> {
        Ok(None)
    }
    fn scan(
        &self,
        _: Position,
        _: Position,
        visit: &mut dyn FnMut(Position, bool, &Bytes) -> bool,
    ) -> Result<(), TableFault> {
        for (main, record) in (2..).zip(self.0.iter()) {
            if !visit(Position { main, sub: 0 }, false, record) {
                break;
            }
        }
        Ok(())
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let scatter = match args.next().as_deref() {
        None | Some("ordered") => 1,
        Some("scattered") => 0x9E37_79B9_7F4A_7C15,
        Some(word) => panic!("ordered or scattered, not {word}"),
    };
    let key = move |n: u64| format!("bench/{:014}", n.wrapping_mul(scatter) % 100_000_000_000_000);

    // First in a fresh process, or freed memory would be counted as ours.
    let tables = Full((0..KEYS).map(|n| record(&key(n), n as i64 + 2)).collect());
    let view = tables.records();
    let start = Instant::now();
    let visit = &mut |_, _, record: &Bytes| std::hint::black_box(record.len()) > 0;
    view.scan(Position::default(), Position::default(), visit).unwrap();
    println!("scan alone               {:8.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let before = resident();
    let (start, cpu) = (Instant::now(), cpu_ns());
    let opened = State::open(tables).unwrap();
    let (wall, cpu) = (start.elapsed().as_secs_f64() * 1e3, (cpu_ns() - cpu) as f64 / 1e6);
    println!("open, {} keys       {wall:8.1} ms, of which {cpu:.1} on a core", opened.key_count());
    println!("memory for each key      {:8.0} bytes", (resident() - before) as f64 / KEYS as f64);

    let value = Bytes::from(vec![b'v'; 256]);
    let put = |n| Command::Put(Put { key: key(n).into(), value: value.clone(), ..Put::default() });
    let commands = |count| (0..count).map(|n| put(n).encode().into()).collect::<Vec<Bytes>>();
    let mut state = State::open(Void).unwrap();
    let new = commands(KEYS);
    let before = resident();
    apply_all(&mut state, "put, new key", new.clone());
    println!("memory for each key      {:8.0} bytes", (resident() - before) as f64 / KEYS as f64);
    apply_all(&mut state, "put, known key", commands(KEYS / 4));

    let gets: Vec<_> = (0..KEYS / 4).map(|n| Range::one(key(n * 3))).collect();
    let start = Instant::now();
    for get in &gets {
        std::hint::black_box(state.plan_range(get).unwrap());
    }
    per("plan of one key", start, gets.len());
    let start = Instant::now();
    let all = Range { keys: KeyRange::From("a".into()), count_only: true, ..gets[0].clone() };
    let count = state.plan_range(&all).unwrap().run().unwrap().count;
    println!("count of {count} keys    {:8.1} ms", start.elapsed().as_secs_f64() * 1e3);
    drop(new);
}

fn apply_all(state: &mut State<Void>, what: &str, commands: Vec<Bytes>) {
    let count = commands.len();
    let start = Instant::now();
    let next = state.applied().0.0 + 1;
    for (index, command) in (next..).zip(commands) {
        let command = Command::decode(command).unwrap();
        std::hint::black_box(state.apply(LogIndex(index), Term(1), command).unwrap());
    }
    per(what, start, count);
}

fn per(what: &str, start: Instant, count: usize) {
    println!("{what:24} {:8.2} µs", start.elapsed().as_secs_f64() * 1e6 / count as f64);
}

/// A record as a state writes it, made by one.
fn record(key: &str, revision: i64) -> Bytes {
    let mut out = vec![0x0a, key.len() as u8];
    out.extend_from_slice(key.as_bytes());
    for (field, mut n) in [(0x10, revision), (0x18, revision), (0x20, 1)] {
        out.push(field);
        while n > 0x7f {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }
    out.extend_from_slice(&[0x2a, 0x80, 0x02]);
    out.extend_from_slice(&[b'v'; 256]);
    out.into()
}

/// Nanoseconds that this thread was on a core: the machine may be busy with others.
fn cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    schedstat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
