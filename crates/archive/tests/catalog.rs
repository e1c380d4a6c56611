//! What is written is read back; what is damaged is named, and what is around it is used.

mod kit;

use eyrie_archive::{Catalog, Damage, Kind, Link, Load, Revision, Seq, Start, Step, StoredPath, Unreadable, record};
use kit::{Archive, hash};

#[test]
fn a_written_archive_is_read_back_and_may_be_continued() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    archive.cut(21, 21);
    archive.gap(22);
    archive.full(40);
    archive.cut(41, 50);
    let read = archive.read().whole().unwrap();
    assert_eq!(read, archive.catalog);
    assert_eq!(read.current().newest_revision(), Some(Revision(50)));
    assert_eq!(read.current().tail_head, Some(Revision(50)));
}

#[test]
fn any_flipped_bit_of_any_record_is_named() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    archive.checkpoint();
    archive.cut(21, 30);
    archive.cut(31, 31);
    let whole = archive.files.clone();
    for (name, content) in &whole {
        for at in 0..content.len() {
            for bit in [0, 3, 7] {
                archive.files.get_mut(name).unwrap()[at] ^= 1 << bit;
                let seen = archive.load(None);
                // Before the newest checkpoint nothing is read: the first record alone is looked at.
                let unread =
                    name.starts_with("catalog/") && (2..4).any(|seq| name.ends_with(&format!("{seq:012}.json")));
                match seen {
                    Ok(reading) if unread => assert_eq!(reading.damage, []),
                    Ok(reading) if name.ends_with("000000000001.json") => assert_eq!(reading.damage, []),
                    Ok(reading) => assert!(!reading.damage.is_empty(), "byte {at} of {name}"),
                    Err(error) => assert!(matches!(error, Unreadable::Newer { .. }), "byte {at} of {name}: {error}"),
                }
                archive.files.insert(name.clone(), content.clone());
            }
        }
    }
}

#[test]
fn a_missing_record_is_named_and_later_ones_are_used() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    archive.cut(21, 30);
    archive.cut(31, 40);
    archive.files.remove("catalog/000000000004.json").unwrap();
    let reading = archive.read();
    assert_eq!(reading.damage.len(), 2, "{:?}", reading.damage);
    assert_eq!(reading.damage[0], Damage::Missing { from: Seq(4), to: Seq(4) });
    assert!(matches!(reading.damage[1], Damage::Unfit { seq: Seq(5), .. }));
    let tail: Vec<_> = reading.catalog.current().tail.keys().copied().collect();
    assert_eq!(tail, [Revision(11), Revision(31)]);
    // Written on behind a checkpoint, the damage lies in the past.
    archive.catalog = reading.catalog;
    archive.checkpoint();
    archive.gap(41);
    archive.full(50);
    assert_eq!(archive.load(None).unwrap().damage, []);
}

#[test]
fn replaced_swapped_and_foreign_records_are_named() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    archive.cut(21, 30);
    let whole = archive.files.clone();
    let name = |seq: u64| format!("catalog/{seq:012}.json");

    // A record of the same place from another run of history, with valid hashes of its own.
    let mut other = Archive::open();
    other.full(10);
    other.cut(11, 19);
    archive.files.insert(name(3), other.files[&name(3)].clone());
    assert!(archive.read().damage.contains(&Damage::Replaced { seq: Seq(3) }));

    archive.files = whole.clone();
    let (two, three) = (whole[&name(2)].clone(), whole[&name(3)].clone());
    archive.files.insert(name(2), three);
    archive.files.insert(name(3), two);
    let damage = archive.read().damage;
    assert!(damage.contains(&Damage::Misplaced { seq: Seq(2), found: Seq(3) }), "{damage:?}");

    archive.files = whole;
    let mut foreign = Archive::open_as("another");
    foreign.full(10);
    foreign.cut(11, 20);
    foreign.cut(21, 30);
    archive.files.insert(name(4), foreign.files[&name(4)].clone());
    assert!(archive.read().damage.iter().any(|damage| matches!(damage, Damage::Foreign { seq: Seq(4), .. })));
}

#[test]
fn an_older_state_put_back_is_noticed_by_the_pinned_head() {
    let mut archive = Archive::open();
    archive.full(10);
    let older = archive.files.clone();
    archive.cut(11, 20);
    let pin = archive.catalog.head();
    archive.files = older;
    let reading = archive.load(Some(pin)).unwrap();
    assert_eq!(reading.damage, [Damage::RolledBack { head: Seq(2), pinned: Seq(3) }]);
    // Written on by someone: the place is there again, but it is another record.
    archive.catalog = reading.catalog;
    archive.cut(11, 30);
    archive.cut(31, 40);
    assert_eq!(archive.load(Some(pin)).unwrap().damage, [Damage::Rewritten { seq: Seq(3) }]);
    // Behind a checkpoint that hides it, too.
    archive.checkpoint();
    archive.cut(41, 50);
    assert_eq!(archive.load(Some(pin)).unwrap().damage, [Damage::Rewritten { seq: Seq(3) }]);
    assert_eq!(archive.load(None).unwrap().damage, []);
    archive.files.clear();
    assert_eq!(archive.load(Some(pin)), Err(Unreadable::Vanished { pinned: Seq(3) }));
    assert_eq!(archive.load(None), Err(Unreadable::Empty));
}

#[test]
fn a_past_that_was_rewritten_behind_the_pinned_record_is_noticed() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    let (pin, honest, files) = (archive.catalog.head(), archive.catalog.clone(), archive.files.clone());
    archive.cut(21, 30);
    archive.checkpoint();
    archive.cut(31, 40);
    assert_eq!(archive.load(Some(pin)).unwrap().damage, [], "a pin that lags behind is no damage");
    // The pinned record stays as it was; all after it is written anew, from another state before it.
    let name = |seq: u64| format!("catalog/{seq:012}.json");
    let mut forger = Archive::open();
    forger.full(10);
    forger.cut(11, 19);
    forger.cut(20, 30);
    forger.checkpoint();
    forger.cut(31, 40);
    forger.files.insert(name(3), files[&name(3)].clone());
    assert_eq!(forger.load(Some(pin)).unwrap().damage, [Damage::Replaced { seq: Seq(3) }]);
    forger.files.remove(&name(4));
    let damage = forger.load(Some(pin)).unwrap().damage;
    assert_eq!(damage, [Damage::Missing { from: Seq(4), to: Seq(4) }]);
    assert_eq!(honest.head(), pin);
}

#[test]
fn damage_behind_the_newest_checkpoint_shows_when_all_is_looked_at() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    archive.checkpoint();
    archive.cut(21, 30);
    archive.verify_last();
    archive.checkpoint();
    archive.cut(31, 40);
    let looked = |archive: &Archive| {
        let files = archive.files.iter().map(|(name, bytes)| (StoredPath::new(name.as_str()).unwrap(), bytes.clone()));
        archive.catalog.inspect(&files.collect(), None)
    };
    assert_eq!(looked(&archive), []);
    let own: Vec<String> = archive.catalog.own_files().map(|name| name.to_string()).collect();
    let there: Vec<&String> = archive.files.keys().collect();
    assert_eq!(own.iter().collect::<std::collections::BTreeSet<_>>(), there.into_iter().collect());
    for name in own {
        let whole = archive.files[&name].clone();
        for at in 0..whole.len() {
            archive.files.get_mut(&name).unwrap()[at] ^= 0x10;
            assert!(!looked(&archive).is_empty(), "byte {at} of {name}");
            archive.files.insert(name.clone(), whole.clone());
        }
        archive.files.remove(&name);
        assert!(!looked(&archive).is_empty(), "{name} is gone");
        archive.files.insert(name, whole);
    }
}

#[test]
fn a_stale_listing_hides_nothing() {
    let mut archive = Archive::open();
    archive.full(10);
    for at in 0..20 {
        archive.cut(11 + at, 11 + at);
    }
    for listed in [0, 1, 7, 22] {
        let names: Vec<String> = archive.files.keys().take(listed).cloned().collect();
        let reading = archive.load_listed(&names, None).unwrap();
        assert_eq!(reading.catalog, archive.catalog, "{listed} listed");
        assert_eq!(reading.damage, []);
    }
}

#[test]
fn a_checkpoint_says_the_same_as_all_records() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    archive.cut(21, 30);
    archive.merge(11, 30);
    archive.checkpoint();
    archive.verify_last();
    archive.checkpoint();
    archive.cut(31, 40);
    assert_eq!(archive.read().whole().unwrap(), archive.catalog);
    assert_eq!(archive.load(None).unwrap().catalog, archive.catalog);
    // The newest checkpoint's file is lost: the one before is used, and the loss is named.
    let newest = archive.files.keys().rfind(|name| name.starts_with("checkpoint/")).unwrap().clone();
    archive.files.remove(&newest);
    let reading = archive.load(None).unwrap();
    assert_eq!(reading.catalog, archive.catalog);
    assert_eq!(reading.damage.len(), 1);
    // Both lost: the records alone.
    archive.files.retain(|name, _| name.starts_with("catalog/"));
    assert_eq!(archive.load(None).unwrap().catalog, archive.catalog);
}

#[test]
fn a_newer_version_is_refused_with_words() {
    let mut archive = Archive::open();
    archive.full(10);
    let text = String::from_utf8(archive.files["catalog/000000000002.json"].clone()).unwrap();
    for (old, new) in [("\"full_taken\"", "\"full_folded\""), ("{\"v\":1,", "{\"v\":2,")] {
        assert!(text.contains(old), "{text}");
        archive.put_reframed(2, &text.replace(old, new));
        let error = archive.load(None).unwrap_err();
        assert!(matches!(error, Unreadable::Newer { seq: Seq(2), .. }));
        assert!(error.to_string().contains("newer version"), "{error}");
    }
    // A field that is not known is no reason to refuse.
    archive.put_reframed(2, &text.replace("{\"v\":1,", "{\"v\":1,\"mood\":\"fine\","));
    assert_eq!(archive.load(None).unwrap().damage, []);
}

#[test]
fn a_writer_that_was_replaced_is_fenced() {
    let mut archive = Archive::open();
    archive.full(10);
    let old = archive.writer.clone();
    archive.take_over("second");
    let refused = archive.catalog.draft(&old, archive.now, kit::cut_record(11, 20)).unwrap_err();
    assert!(refused.to_string().contains("second"), "{refused}");
    archive.cut(11, 20);
    assert_eq!(archive.read().damage, []);
}

#[test]
fn members_that_differ_make_no_full() {
    let archive = Archive::open();
    let digest = |member: &str, hash| record::MemberDigest {
        member: member.into(),
        revision: Revision(10),
        compact_revision: Revision(1),
        hash,
    };
    let Kind::FullTaken(mut full) = kit::full_record(10, archive.now) else { unreachable!() };
    full.members = vec![digest("a", 1), digest("b", 2)];
    let refused = archive.catalog.draft(&archive.writer, archive.now, Kind::FullTaken(full.clone())).unwrap_err();
    assert!(refused.to_string().contains("members a and b"), "{refused}");
    full.members[1].hash = 1;
    archive.catalog.draft(&archive.writer, archive.now, Kind::FullTaken(full)).unwrap();
}

#[test]
fn nothing_far_away_or_odd_makes_a_reader_wait_or_fall() {
    let mut archive = Archive::open();
    archive.full(10);
    let good = archive.catalog.head();
    archive.files.insert("catalog/9999999999999999999.json".into(), b"{}".to_vec());
    archive.files.insert("catalog/3.json".into(), b"{}".to_vec());
    archive.files.insert("catalog/notes.txt".into(), b"hello".to_vec());
    let reading = archive.load(Some(good)).unwrap();
    assert_eq!(reading.damage.len(), 2, "{:?}", reading.damage);
    assert_eq!(reading.catalog.current().newest_revision(), Some(Revision(10)));
    let far = Link { seq: Seq(u64::MAX), sha256: hash("far") };
    assert!(archive.load(Some(far)).is_ok());
    assert_eq!(Catalog::replay(Start::First, [], None), Err(Unreadable::Empty));
    assert!(matches!(Load::new([], None).step(), Step::Get(_)));
}
