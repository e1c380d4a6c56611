//! Backups as milvus-backup's releases lay them out: read as they are, written back as they were, and refused when broken.

use eyrie_milvus::logical::meta::{BackupInfo, DefaultValue, STATE_SUCCESS};
use eyrie_milvus::logical::{BackupName, Grouping, Levels, assemble, breaches, layout, read_full};
use serde_json::Value;

const V0_4: &[u8] = include_bytes!("logical/v0_4_full_meta.json");
const V0_6: &[u8] = include_bytes!("logical/v0_6_full_meta.json");

fn oldest() -> BackupInfo {
    assemble(
        include_bytes!("logical/oldest_backup_meta.json"),
        include_bytes!("logical/oldest_collection_meta.json"),
        include_bytes!("logical/oldest_partition_meta.json"),
        include_bytes!("logical/oldest_segment_meta.json"),
    )
    .unwrap()
}

#[test]
fn segments_of_one_group_lie_in_its_folder() {
    let info = read_full(V0_4).unwrap();
    let collection = &info.collection_backups[0];
    assert_eq!(collection.collection_id, 442_269_375_510_478_849, "ids are beyond what a float holds");
    let grouping = Grouping::of(collection);
    assert_eq!(grouping, Grouping::Groups);
    let segment = &collection.partition_backups[0].segment_backups[0];
    let logs = layout::logs(segment, grouping);
    let keys: Vec<&str> = logs.iter().map(|(key, _)| key.as_str()).collect();
    let p = "442269375510478849/442269375510478850/442269375510878840/442269375510878851";
    assert_eq!(
        keys,
        [
            format!("binlogs/insert_log/{p}/0/442269375510878860"),
            format!("binlogs/insert_log/{p}/1/442269375510878861"),
            format!("binlogs/delta_log/{p}/442269375510878870"),
        ]
    );
    assert_eq!(logs.iter().map(|(_, len)| len).sum::<u64>(), 18_945);
    let n = &collection.schema.as_ref().unwrap().fields[1];
    // number 3, kind 0, then 9007199254740993
    let encoded = vec![0x18, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    assert_eq!(n.default_value().unwrap(), Some(DefaultValue::Encoded(encoded)));
}

#[test]
fn the_oldest_layout_has_levels_alone_and_no_groups() {
    let info = oldest();
    assert_eq!((info.name.as_str(), info.state_code), ("old", STATE_SUCCESS));
    let collection = &info.collection_backups[0];
    assert_eq!((collection.database(), collection.rows()), ("default", 7));
    assert_eq!(collection.partition_backups.len(), 2);
    assert_eq!(Grouping::of(collection), Grouping::Flat);
    let segment = &collection.partition_backups[0].segment_backups[0];
    let keys: Vec<String> = layout::logs(segment, Grouping::Flat).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["binlogs/insert_log/11/12/14/100/21", "binlogs/insert_log/11/12/14/101/22"]);
}

#[test]
fn deletes_of_level_zero_have_no_group_and_may_hold_for_all_partitions() {
    let info = read_full(V0_6).unwrap();
    let collection = &info.collection_backups[0];
    let all: Vec<String> =
        collection.segments().flat_map(|s| layout::logs(s, Grouping::of(collection))).map(|(key, _)| key).collect();
    let c = "458903270000001000";
    assert_eq!(
        all,
        [
            format!("binlogs/insert_log/{c}/458903270000001001/458903270000001010/458903270000001010/0/5"),
            format!("binlogs/delta_log/{c}/458903270000001001/458903270000001011/7"),
            format!("binlogs/delta_log/{c}/-1/458903270000001012/9"),
        ]
    );
    let kind = &collection.schema.as_ref().unwrap().fields[3];
    assert_eq!(kind.default_value().unwrap(), Some(DefaultValue::Base64("MgNhYmM=".into())));
}

/// What is known of a backup is written back as it was: same names, same numbers, nothing that was not there.
#[test]
fn what_was_read_is_written_the_same() {
    for original in [V0_4, V0_6] {
        let info = read_full(original).unwrap();
        let written: Value = serde_json::from_slice(&Levels::of(&info).full).unwrap();
        let mut expected: Value = serde_json::from_slice(original).unwrap();
        for collection in expected["collection_backups"].as_array_mut().unwrap() {
            collection.as_object_mut().unwrap().remove("a_field_of_tomorrow");
        }
        assert_eq!(written, expected);
    }
}

#[test]
fn levels_join_to_the_tree_without_deletes_for_all_partitions() {
    let info = read_full(V0_6).unwrap();
    let levels = Levels::of(&info);
    let joined = assemble(&levels.backup, &levels.collection, &levels.partition, &levels.segment).unwrap();
    let mut expected = info;
    expected.collection_backups[0].l0_segments.clear();
    assert_eq!(joined, expected);
    assert_eq!(levels.files().last().unwrap().0, "backup_meta.json", "what makes a backup is written last");
}

#[test]
fn what_belongs_to_nothing_is_an_error() {
    let levels = Levels::of(&oldest());
    let none = br#"{"infos":[]}"#;
    let why = assemble(&levels.backup, &levels.collection, none, &levels.segment).unwrap_err();
    assert_eq!(why.file, "segment_meta.json");
    let why = assemble(&levels.backup, none, &levels.partition, none).unwrap_err();
    assert_eq!(why.file, "partition_meta.json");
    assert!(read_full(&V0_4[..V0_4.len() - 2]).unwrap_err().to_string().starts_with("full_meta.json can't be read"));
}

/// The strict reader takes what a current writer writes, and names each thing that one would not.
#[test]
fn the_strict_reader_names_what_is_wrong() {
    let good = || {
        let mut info = read_full(V0_4).unwrap();
        let segment = &mut info.collection_backups[0].partition_backups[0].segment_backups[0];
        segment.group_id = segment.segment_id;
        info
    };
    assert_eq!(breaches(&Levels::of(&good())), []);
    type Change = fn(&mut BackupInfo);
    let changes: [(&str, Change); 9] = [
        ("state is not success", |info| info.state_code = 3),
        ("not the sum of its collections", |info| info.size += 1),
        ("not the sum of its logs", |info| {
            info.collection_backups[0].partition_backups[0].segment_backups[0].binlogs[0].binlogs[0].log_size += 1;
        }),
        ("group is not the segment", |info| {
            info.collection_backups[0].partition_backups[0].segment_backups[0].group_id = 1;
        }),
        ("different numbers of logs", |info| {
            let fields = &mut info.collection_backups[0].partition_backups[0].segment_backups[0].binlogs;
            let log = fields[0].binlogs[0].clone();
            fields[0].binlogs.push(log);
        }),
        ("hidden fields 0 and 1", |info| {
            info.collection_backups[0].partition_backups[0].segment_backups[0].binlogs.remove(0);
        }),
        ("exactly one primary key", |info| {
            info.collection_backups[0].schema.as_mut().unwrap().fields[0].is_primary_key = false;
        }),
        ("load state is none", |info| info.collection_backups[0].load_state = "loaded".into()),
        ("has_index is not so", |info| info.collection_backups[0].has_index = false),
    ];
    for (what, change) in changes {
        let mut info = good();
        change(&mut info);
        let found = breaches(&Levels::of(&info));
        assert!(found.iter().any(|breach| breach.what.contains(what)), "{what}: {found:?}");
    }
    let mut levels = Levels::of(&good());
    levels.segment = br#"{"infos":[]}"#.to_vec();
    assert!(breaches(&levels).iter().any(|breach| breach.what.contains("another tree")));
}

#[test]
fn names_are_those_that_milvus_backup_takes() {
    for good in ["a", "_1", "backup_2026_11_22_14_30_00_123456789"] {
        assert_eq!(BackupName::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", "1a", "a-b", "a/b", "..", "ü", &"a".repeat(129)] {
        assert!(BackupName::parse(bad).is_err(), "{bad}");
    }
}

proptest::proptest! {
    /// Broken files are errors, never a panic.
    #[test]
    fn any_cut_or_flip_of_a_meta_file_is_survived(at in 0usize..2000, flip in proptest::num::u8::ANY) {
        let mut bytes = V0_4.to_vec();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        let _ = read_full(&bytes).map(|info| {
            let _ = breaches(&Levels::of(&info));
            info.collection_backups.iter().for_each(|c| c.segments().for_each(|s| drop(layout::logs(s, Grouping::of(c)))));
        });
        let _ = read_full(&bytes[..at]);
    }

    /// Broken logs too.
    #[test]
    fn any_bytes_are_a_log_or_none(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let mut log = vec![0xbc, 0xfa, 0xff, 0x00];
        log.extend_from_slice(&bytes);
        let _ = eyrie_milvus::binlog::Log::read(&log).and_then(|log| log.rows());
        let mut parquet = b"PAR1".to_vec();
        parquet.extend_from_slice(&bytes);
        parquet.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        parquet.extend_from_slice(b"PAR1");
        let _ = eyrie_milvus::binlog::Parquet::read(&parquet);
    }
}
