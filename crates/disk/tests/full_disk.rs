//! A full disk: nothing half-written, readers go on, and writes go on when there is room again.
//!
//! Needs root, for a small file system of its own.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use eyrie_disk::{
    tables::{Options, RedbTables},
    wal::{SEGMENT_BYTES_MIN, Wal, WalError, WalMeta, WalOptions},
};
use eyrie_raft::{Entry, EntryKind, LogStart};
use eyrie_state::{Change, LogIndex, Position, Records, TableOp, Tables, Term};

/// A file system of few megabytes.
struct Tiny {
    dir: tempfile::TempDir,
}

impl Tiny {
    fn new(megabytes: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).status();
        assert!(
            status.is_ok_and(|s| s.success()),
            "this test mounts a small tmpfs and must run as root (in a container: with CAP_SYS_ADMIN)"
        );
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes all room.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).unwrap();
        let block = [1; 4096];
        while file.write_all(&block).is_ok() {}
        path
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

fn entry(index: u64) -> Entry {
    Entry { index, term: 1, kind: EntryKind::Normal, data: vec![index as u8; 10_000].into() }
}

#[test]
fn the_log_refuses_whole_appends_and_goes_on_later() {
    let disk = Tiny::new(12);
    let meta = WalMeta { cluster: 1, member: 1 };
    let options = WalOptions { segment_bytes: SEGMENT_BYTES_MIN * 2 };
    let dir = disk.path().join("wal");
    let mut wal = Wal::create(&dir, meta, &LogStart::default(), options).unwrap();
    // The segment being made ahead is let finish, so that the ballast takes all that is left.
    thread::sleep(Duration::from_millis(300));
    let ballast = disk.fill();
    let mut index = 1;
    let refusal = loop {
        match wal.append(&[entry(index)], None) {
            Ok(()) => {
                wal.sync().unwrap();
                index += 1;
            }
            Err(e) => break e,
        }
    };
    assert!(matches!(refusal, WalError::NoSpace { .. }), "{refusal}");
    assert!(index > 100, "what was reserved could be used: {index}");
    for _ in 0..3 {
        assert!(matches!(wal.append(&[entry(index)], None), Err(WalError::NoSpace { .. })));
    }
    wal.sync().unwrap();
    fs::remove_file(ballast).unwrap();
    wal.append(&[entry(index), entry(index + 1)], None).unwrap();
    wal.sync().unwrap();
    drop(wal);
    let (_, r) = Wal::open(&dir, meta, options).unwrap();
    assert_eq!(r.entries, (1..=index + 1).map(entry).collect::<Vec<_>>());
}

fn change(index: u64) -> Change {
    let at = Position { main: index as i64, sub: 0 };
    let ops = vec![TableOp::PutRecord { at, tombstone: false, record: vec![index as u8; 20_000].into() }];
    Change { applied: Some((LogIndex(index), Term(1))), ops }
}

fn tables_on(disk: &Tiny, reserve_bytes: u64) -> (PathBuf, RedbTables, Options) {
    let path = disk.path().join("tables.redb");
    let options = Options { flush_interval: Duration::from_millis(2), reserve_bytes, ..Options::default() };
    RedbTables::create(&path).unwrap();
    let tables = RedbTables::open(&path, options.clone()).unwrap();
    (path, tables, options)
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_tables_stop_before_the_end_and_go_on_later() {
    let disk = Tiny::new(40);
    let (path, mut tables, options) = tables_on(&disk, 8 << 20);
    let mut index = 0;
    while !tables.space().short {
        index += 1;
        tables.stage(change(index)).unwrap();
        tables.flush().ok();
    }
    let durable = tables.durable_applied().0.0;
    for _ in 0..20 {
        index += 1;
        tables.stage(change(index)).unwrap();
    }
    assert!(tables.flush().unwrap_err().to_string().contains("no space"));
    assert!(tables.space().free_bytes >= 4 << 20, "the reserve is not used up");
    let view = tables.view();
    for i in 1..=index {
        let record = view.record(Position { main: i as i64, sub: 0 }).unwrap().unwrap();
        assert_eq!(record[..], vec![i as u8; 20_000]);
    }
    assert!(tables.durable_applied().0.0 <= durable + 1);
    // Room comes back: here, by enlarging the file system.
    let status = Command::new("mount").args(["-o", "remount,size=80m"]).arg(disk.path()).status().unwrap();
    assert!(status.success());
    wait_until("the tables go on by themselves", || tables.durable_applied().0.0 == index);
    assert!(!tables.space().short);
    tables.flush().unwrap();
    drop((view, tables));
    assert_eq!(RedbTables::open(&path, options).unwrap().applied().0.0, index);
}

/// Without a reserve the system refuses a write in the middle of a commit: it waits there, and readers go on.
#[test]
fn a_commit_that_meets_the_end_waits_for_room() {
    let disk = Tiny::new(32);
    let (path, mut tables, options) = tables_on(&disk, 0);
    for index in 1..=100 {
        tables.stage(change(index)).unwrap();
    }
    tables.flush().unwrap();
    let view = tables.view();
    // 5 MiB are left for the look ahead; a rival takes them between look and write.
    let ballast = disk.path().join("ballast");
    let mut file = File::create(&ballast).unwrap();
    let mut index = 100;
    let handle = tables.handle();
    let rival = thread::spawn(move || {
        let block = [1; 64 * 1024];
        while !handle.space().short || handle.space().free_bytes > 0 {
            if file.write_all(&block).is_err() {
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    while !rival.is_finished() {
        index += 1;
        tables.stage(change(index)).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    rival.join().unwrap();
    assert_eq!(view.record(Position { main: 7, sub: 0 }).unwrap().unwrap()[..], [7; 20_000]);
    fs::remove_file(&ballast).unwrap();
    wait_until("the commit goes on", || tables.flush().is_ok());
    drop((view, tables));
    assert_eq!(RedbTables::open(&path, options).unwrap().applied().0.0, index);
}
