//! What a restore costs, without a server:
//! `cargo run --release -p eyrie-disk --example snapshot_speed -- make FILE [KEYS]`, then `… -- restore FILE NEW_DIR`.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use eyrie_disk::datadir::Identity;
use eyrie_disk::snapshot::{Export, RestoreTarget, SnapshotFile, restore_unproven};
use eyrie_disk::tables::{Options, RedbTables, TablesBuilder};
use eyrie_state::{ClusterId, LogIndex, Member, MemberId, Position, Term};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", file] => make(Path::new(file), 1_000_000),
        ["make", file, keys] => make(Path::new(file), keys.parse()?),
        ["restore", file, dir] => restored(Path::new(file), Path::new(dir)),
        _ => Err("say `make FILE [KEYS]` or `restore FILE NEW_DIR`".into()),
    }
}

fn restored(file: &Path, data_dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let file = SnapshotFile::open_unproven(file, false)?;
    println!("opened after {:?}", begun.elapsed());
    let member = Member {
        id: MemberId(1),
        name: "default".into(),
        peer_urls: vec!["http://localhost:2380".into()],
        client_urls: Vec::new(),
        learner: false,
    };
    let identity = Identity { cluster: ClusterId(1), member: member.id, name: "default".into() };
    let restored = restore_unproven(
        file,
        RestoreTarget { data_dir, wal_dir: None, identity, members: vec![member], bump_revision: 0 },
    )?;
    println!("restored {} records after {:?}", restored.records, begun.elapsed());
    Ok(())
}

/// Keys of 18 bytes in no order, each with a value of 256 bytes that does not compress.
fn make(file: &Path, keys: u64) -> Result<(), Box<dyn std::error::Error>> {
    let tables = file.with_extension("tables");
    let mut builder = TablesBuilder::create(&tables)?;
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    for n in 0..keys {
        let revision = n as i64 + 2;
        builder.push_record(Position { main: revision, sub: 0 }, false, &record(n, revision, &mut dice))?;
    }
    builder.finish((LogIndex(keys), Term(2)))?;
    let opened = RedbTables::open(&tables, Options::default())?;
    Export::plan(opened.handle().view())?.write_to(File::create(file)?)?;
    drop(opened);
    Ok(std::fs::remove_file(&tables)?)
}

/// A `mvccpb.KeyValue`: key, create revision, mod revision, version 1, value.
fn record(n: u64, revision: i64, dice: &mut u64) -> Vec<u8> {
    let key = format!("k/{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut record = vec![0x0a, key.len() as u8];
    record.extend_from_slice(key.as_bytes());
    for tag in [0x10, 0x18] {
        record.push(tag);
        let mut left = revision as u64;
        while left >= 0x80 {
            record.push(left as u8 | 0x80);
            left >>= 7;
        }
        record.push(left as u8);
    }
    record.extend_from_slice(&[0x20, 1, 0x2a, 0x80, 0x02]);
    for _ in 0..32 {
        *dice ^= *dice << 13;
        *dice ^= *dice >> 7;
        *dice ^= *dice << 17;
        record.extend_from_slice(&dice.to_le_bytes());
    }
    record
}
