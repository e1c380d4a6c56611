//! Which moments can be had: each test is a history and what `list` and `restore --at` say about it.

mod kit;

use eyrie_archive::{
    Ask, At, Break, Kind, Revision, Scope, Seq, SourcePath, Stop, Stretch, TimelineId, UnixMillis, WhyNot,
    record::{
        DamagedFile, Depth, Expired, HoleClosed, HoleFound, HoleHealed, Progress, TailRange, TimelineBegan, Verified,
    },
};
use kit::{Archive, Chance, source};

/// The stretches of the current history, a line each.
fn told(archive: &Archive) -> Vec<String> {
    let spans = archive.catalog.spans().pop().unwrap();
    let tell = |stretch| match stretch {
        Stretch::Span(span) => {
            let lacks = span.lacks.map_or("whole".into(), |lack| lack.to_string());
            format!("{}-{}: {lacks}", span.from.revision, span.to.revision)
        }
        Stretch::Break(Break { from, to, cause }) => {
            format!("{from}-{}: lost, {cause}", to.map_or("…".into(), |to| to.to_string()))
        }
    };
    spans.stretches.into_iter().map(tell).collect()
}

fn ask(archive: &Archive, at: At, scope: Scope) -> String {
    match archive.catalog.resolve(Ask { at, timeline: None, scope }) {
        Ok(target) => {
            let tail: Vec<String> = target.tail.iter().map(|piece| format!("{}-{}", piece.first, piece.last)).collect();
            let stop = match target.stop {
                Stop::Revision(revision) => revision.to_string(),
                Stop::Time { first, last, .. } => format!("one of {first}-{last}"),
            };
            format!("{stop}: full {} tail [{}]", target.full.taken.revision, tail.join(" "))
        }
        Err(error) => error.to_string(),
    }
}

fn revision(archive: &Archive, revision: i64) -> String {
    ask(archive, At::Revision(Revision(revision)), Scope::MetadataOnly)
}

fn progress(archive: &mut Archive, revision: i64, mirrored_to: i64) {
    let (revision, mirrored_to) = (Revision(revision), Some(Revision(mirrored_to)));
    archive.write(Kind::Progress(Progress { revision, mirrored_to }));
}

#[test]
fn a_gap_ends_a_span_and_a_full_begins_the_next() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    archive.full(15);
    archive.cut(21, 30);
    archive.gap(31);
    let lost = "lost, they were never read from the source: required revision has been compacted";
    progress(&mut archive, 30, 30);
    assert_eq!(told(&archive), ["10-30: whole".into(), format!("31-…: {lost}")]);
    archive.full(50);
    archive.cut(51, 52);
    progress(&mut archive, 52, 52);
    assert_eq!(told(&archive), ["10-30: whole".into(), format!("31-49: {lost}"), "50-52: whole".into()]);

    assert_eq!(revision(&archive, 10), "10: full 10 tail []");
    assert_eq!(revision(&archive, 14), "14: full 10 tail [11-20]");
    assert_eq!(revision(&archive, 15), "15: full 15 tail []");
    assert_eq!(revision(&archive, 25), "25: full 15 tail [11-20 21-30]");
    assert_eq!(revision(&archive, 52), "52: full 50 tail [51-52]");
    assert!(revision(&archive, 9).contains("oldest moment is revision 10 ("));
    assert!(revision(&archive, 53).contains("--at latest"));
    let said = revision(&archive, 40);
    assert!(said.contains("never read") && said.contains("revision 30") && said.contains("50"), "{said}");
}

#[test]
fn a_full_that_comes_at_once_after_the_break_loses_nothing() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    archive.gap(21);
    archive.full(21);
    archive.cut(22, 30);
    progress(&mut archive, 30, 30);
    assert_eq!(told(&archive), ["10-30: whole"]);
    assert_eq!(revision(&archive, 25), "25: full 21 tail [22-30]");
    // A full that is older than the tail's end continues that tail.
    archive.gap(31);
    archive.full(28);
    archive.cut(31, 33);
    assert_eq!(revision(&archive, 33), "33: full 28 tail [22-30 31-33]");
}

#[test]
fn a_time_finds_its_revision() {
    let mut archive = Archive::open();
    archive.full(10);
    let full_at = archive.now.0 - 1000;
    archive.cut(11, 20);
    archive.now.0 += 60_000;
    archive.cut(21, 30);
    progress(&mut archive, 30, 30);
    let at = |at: i64| ask(&archive, At::Time(UnixMillis(at)), Scope::Everything);
    let tail = archive.catalog.current().tail.clone();
    let (one, two) = (&tail[&Revision(11)].segment, &tail[&Revision(21)].segment);
    assert!(at(full_at - 1).contains("oldest moment is revision 10"));
    assert_eq!(at(full_at), "10: full 10 tail []");
    assert_eq!(at(one.first_at_ms.0 + 1), "one of 11-20: full 10 tail [11-20]");
    assert_eq!(at(one.last_at_ms.0), "20: full 10 tail [11-20]");
    assert_eq!(at(two.first_at_ms.0 - 1), "20: full 10 tail [11-20]");
    assert_eq!(at(two.last_at_ms.0 + 1), "30: full 10 tail [11-20 21-30]");
    assert!(at(archive.now.0 + 1).contains("later than the archive knows"), "{}", at(archive.now.0 + 1));
}

#[test]
fn a_time_behind_the_end_of_a_span_is_refused() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    let end = archive.catalog.current().tail[&Revision(11)].segment.last_at_ms;
    archive.now.0 += 60_000;
    archive.gap(21);
    archive.now.0 += 60_000;
    archive.full(50);
    let at = |at: i64| ask(&archive, At::Time(UnixMillis(at)), Scope::MetadataOnly);
    assert_eq!(at(end.0), "20: full 10 tail [11-20]");
    assert!(at(end.0 + 1000).contains("never read"), "{}", at(end.0 + 1000));
}

#[test]
fn revisions_are_whole_once_their_objects_are_mirrored() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    let copying = "its objects are still being copied";
    assert_eq!(told(&archive), [format!("10-20: {copying}")]);
    let said = ask(&archive, At::Latest, Scope::Everything);
    assert!(said.contains(copying) && said.contains("--metadata-only"), "{said}");
    archive.cut_mirrored(21, 30, Some(15));
    assert_eq!(told(&archive), ["10-15: whole".into(), format!("16-30: {copying}")]);
    assert_eq!(ask(&archive, At::Latest, Scope::Everything), "15: full 10 tail [11-20]");
    assert_eq!(ask(&archive, At::Latest, Scope::MetadataOnly), "30: full 10 tail [11-20 21-30]");
    let said = ask(&archive, At::Revision(Revision(16)), Scope::Everything);
    assert!(said.contains("revision 15 before it"), "{said}");
}

#[test]
fn a_hole_is_named_closed_and_healed() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    progress(&mut archive, 20, 20);
    let objects = vec![SourcePath::new("files/insert_log/1").unwrap()];
    let found =
        HoleFound { from: Revision(13), to: None, cause: "gone before it was copied".into(), objects, count: 1 };
    let hole = archive.write(Kind::HoleFound(found));
    let missing = "1 of its objects are missing: gone before it was copied";
    assert_eq!(told(&archive), ["10-12: whole".into(), format!("13-20: {missing}")]);
    archive.write(Kind::HoleClosed(HoleClosed { hole, to: Revision(16) }));
    assert_eq!(told(&archive), ["10-12: whole".into(), format!("13-16: {missing}"), "17-20: whole".into()]);
    let said = ask(&archive, At::Revision(Revision(14)), Scope::Everything);
    assert!(said.contains("revision 12 before it, revision 17 after it"), "{said}");
    assert_eq!(ask(&archive, At::Revision(Revision(14)), Scope::WhatIsThere), "14: full 10 tail [11-20]");
    archive.write(Kind::HoleHealed(HoleHealed { hole, how: "found in a replica".into() }));
    assert_eq!(told(&archive), ["10-20: whole"]);
}

#[test]
fn a_damaged_file_breaks_the_span_until_it_is_found_well() {
    let mut archive = Archive::open();
    let full = archive.full(10);
    archive.cut(11, 20);
    archive.cut(21, 30);
    archive.full(25);
    archive.cut(31, 40);
    progress(&mut archive, 40, 40);
    let path = archive.catalog.current().tail[&Revision(11)].segment.stored.path.clone();
    let bad = vec![DamagedFile { path, what: "hash differs".into(), uses: Vec::new() }];
    let verified = |damaged: Vec<DamagedFile>| {
        let (ok, up_to) = (damaged.is_empty(), Revision(40));
        Kind::Verified(Verified {
            full,
            up_to,
            depth: Depth::Data,
            ok,
            files: 4,
            bytes: 4,
            damaged,
            unnamed: Vec::new(),
            took_ms: 1,
        })
    };
    archive.write(verified(bad));
    let damaged = "lost, tail/0001/0000000000000011-0000000000000020-n2.tail is damaged: hash differs";
    assert_eq!(told(&archive), ["10-10: whole".into(), format!("11-24: {damaged}"), "25-40: whole".into()]);
    assert_eq!(archive.catalog.last_verified(), None);
    archive.write(verified(Vec::new()));
    assert_eq!(told(&archive), ["10-40: whole"]);
    assert_eq!(archive.catalog.last_verified().map(|(_, full)| full.seq), Some(full));
}

#[test]
fn histories_never_mix() {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    let first_ends = archive.now;
    archive.now.0 += 10_000;
    let parent = Some(eyrie_archive::record::Branch { timeline: TimelineId(1), revision: Revision(15) });
    archive.write(Kind::TimelineBegan(TimelineBegan { parent, why: "restored".into(), source: source() }));
    let said = ask(&archive, At::Latest, Scope::MetadataOnly);
    assert!(said.contains("timeline 2 has no full") && said.contains("--timeline 1"), "{said}");
    archive.full(16);
    archive.cut(17, 18);
    assert_eq!(revision(&archive, 18), "18: full 16 tail [17-18]");
    assert!(revision(&archive, 12).contains("oldest moment is revision 16"));
    let of = |at, timeline| archive.catalog.resolve(Ask { at, timeline, scope: Scope::MetadataOnly }).unwrap();
    let old = of(At::Revision(Revision(18)), Some(TimelineId(1)));
    assert_eq!((old.timeline, old.full.taken.revision, old.tail.len()), (TimelineId(1), Revision(10), 1));
    assert_eq!(of(At::Time(first_ends), None).timeline, TimelineId(1));
    let unknown = Ask { at: At::Latest, timeline: Some(TimelineId(7)), scope: Scope::MetadataOnly };
    assert!(matches!(archive.catalog.resolve(unknown), Err(WhyNot::NoTimeline { .. })));
}

#[test]
fn what_retention_removed_says_so() {
    let mut archive = Archive::open();
    let first = archive.full(10);
    archive.cut(11, 20);
    archive.full(20);
    archive.cut(21, 30);
    archive.full(28);
    archive.verify_last();
    progress(&mut archive, 30, 30);
    let tails = vec![TailRange { timeline: TimelineId(1), first: Revision(11), last: Revision(20) }];
    archive.write(Kind::Expired(Expired { tails, ..Expired::default() }));
    assert_eq!(told(&archive), ["10-10: whole", "11-19: lost, retention removed them", "20-30: whole"]);
    archive.write(Kind::Expired(Expired { fulls: vec![first], ..Expired::default() }));
    assert_eq!(told(&archive), ["20-30: whole"]);
    let cut = TailRange { timeline: TimelineId(1), first: Revision(21), last: Revision(30) };
    let expired = Kind::Expired(Expired { tails: vec![cut], ..Expired::default() });
    let refused = archive.catalog.draft(&archive.writer, archive.now, expired).unwrap_err();
    assert!(refused.to_string().contains("last verified chain"), "{refused}");
}

#[test]
fn an_empty_archive_has_nothing() {
    let archive = Archive::open();
    assert_eq!(told(&archive), Vec::<String>::new());
    assert!(ask(&archive, At::Latest, Scope::Everything).contains("no full snapshot yet"));
    assert_eq!(archive.catalog.head().seq, Seq(1));
}

#[test]
fn times_are_told_as_people_write_them() {
    for (millis, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (1_795_346_415_123, "2026-11-22T11:20:15.123Z"),
        (951_782_400_000, "2000-02-29T00:00:00Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (4_107_542_399_000, "2100-02-28T23:59:59Z"),
    ] {
        assert_eq!(UnixMillis(millis).to_string(), text);
    }
    let _ = (UnixMillis(i64::MIN).to_string(), UnixMillis(i64::MAX).to_string());
}

/// The rule again, one revision at a time: which are there, by what can be read.
#[test]
fn what_is_listed_can_be_had_and_nothing_else() {
    for seed in 0..300 {
        let mut chance = Chance(seed);
        let mut archive = Archive::open();
        let mut newest = 0;
        for _ in 0..30 {
            random_step(&mut archive, &mut chance, &mut newest);
        }
        let catalog = &archive.catalog;
        let line = catalog.current();
        let spans = catalog.spans().pop().unwrap();
        for revision in (0..=newest + 3).map(Revision) {
            let bases = line.fulls.values().filter(|full| !catalog.is_damaged(&full.taken.stored.path));
            let readable = |revision: Revision| {
                let piece = line.tail.range(..=revision).next_back().map(|(_, piece)| &piece.segment);
                piece.is_some_and(|piece| piece.last >= revision && !catalog.is_damaged(&piece.stored.path))
            };
            let reaches = |from: Revision| (from.0 + 1..=revision.0).all(|one| readable(Revision(one)));
            let there = bases.map(|full| full.taken.revision).any(|from| from <= revision && reaches(from));
            let open = |hole: &eyrie_archive::catalog::Hole| {
                hole.found.from <= revision && hole.found.to.is_none_or(|to| to >= revision)
            };
            let mirrored = line.mirrored_to.is_some_and(|to| to >= revision) && !line.holes.values().any(open);

            let of = |scope| catalog.resolve(Ask { at: At::Revision(revision), timeline: None, scope });
            let told = spans.stretches.iter().find_map(|stretch| match stretch {
                Stretch::Span(span) if (span.from.revision..=span.to.revision).contains(&revision) => Some(span),
                _ => None,
            });
            assert_eq!(told.is_some(), there, "seed {seed} revision {revision}");
            assert_eq!(told.is_some_and(|span| span.lacks.is_none()), there && mirrored, "seed {seed} {revision}");
            assert_eq!(of(Scope::MetadataOnly).is_ok(), there, "seed {seed} revision {revision}");
            assert_eq!(of(Scope::Everything).is_ok(), there && mirrored, "seed {seed} revision {revision}");
            if let Ok(target) = of(Scope::MetadataOnly) {
                let mut next = target.full.taken.revision.next();
                for piece in &target.tail {
                    assert!(piece.first <= next && piece.last >= next && !catalog.is_damaged(&piece.stored.path));
                    next = piece.last.next();
                }
                assert!(next > revision && target.full.taken.revision <= revision);
                assert!(target.tail.last().is_none_or(|piece| piece.first <= revision), "nothing is read in vain");
            }
        }
    }
}

fn random_step(archive: &mut Archive, chance: &mut Chance, newest: &mut i64) {
    let head = archive.catalog.current().tail_head;
    match chance.below(10) {
        0 | 1 => {
            let held = archive.catalog.current().newest_full().map_or(1, |full| full.taken.revision.0);
            archive.full((*newest + chance.below(4) as i64).max(held));
        }
        2..=5 => {
            if let Some(head) = head {
                archive.cut(head.0 + 1, head.0 + 1 + chance.below(5) as i64);
            }
        }
        6 => {
            if let Some(head) = head {
                archive.gap(head.0 + 1);
            }
        }
        7 => {
            let line = archive.catalog.current();
            let held = line.newest_revision().unwrap_or_default();
            let from = line.mirrored_to.unwrap_or_default().0;
            let to = from + chance.below((held.0 - from) as u64 + 1) as i64;
            archive.write(Kind::Progress(Progress { revision: held, mirrored_to: Some(Revision(to)) }));
        }
        8 => {
            let from = Revision(1 + chance.below(*newest as u64 + 3) as i64);
            let to = (chance.below(3) > 0).then(|| Revision(from.0 + chance.below(4) as i64));
            archive.write(Kind::HoleFound(HoleFound { from, to, cause: "gone".into(), objects: Vec::new(), count: 1 }));
        }
        _ => {
            let line = archive.catalog.current();
            let Some(full) = line.newest_full().map(|full| full.seq) else { return };
            let tail = line.tail.values().map(|piece| piece.segment.stored.path.clone());
            let fulls = line.fulls.values().map(|full| full.taken.stored.path.clone());
            let all: Vec<_> = tail.chain(fulls).collect();
            let damaged: Vec<_> = chance
                .pick(&all)
                .into_iter()
                .map(|path| DamagedFile { path, what: "gone".into(), uses: Vec::new() })
                .collect();
            let depth = Depth::Structure;
            let up_to = Revision(*newest);
            archive.write(Kind::Verified(Verified {
                full,
                up_to,
                depth,
                ok: false,
                files: 1,
                bytes: 0,
                damaged,
                unnamed: Vec::new(),
                took_ms: 1,
            }));
        }
    }
    *newest = (*newest).max(archive.catalog.current().newest_revision().unwrap_or_default().0);
}
