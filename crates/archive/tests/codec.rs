//! Every record survives its bytes, and no bytes make a reader fall.

mod kit;

use eyrie_archive::{
    ArchiveId, Ask, At, Kind, LivedMillis, Policy, Record, Revision, Scope, Seq, Sha256, SourcePath, StoredPath,
    TimelineId, UnixMillis, Use, WriterId,
    codec::{decode_record, encode_record},
    index::decode_piece,
    names,
    record::{
        Branch, Checkpoint, DamagedFile, Depth, Drilled, Expired, FullTaken, GapCause, GapFound, HoleClosed, HoleFound,
        HoleHealed, IndexMerged, Left, Link, MemberDigest, ObjectsMirrored, ObjectsRemoved, Opened, Plain, Progress,
        Segment, Source, Stored, Swept, TailCut, TailMerged, TailRange, TimelineBegan, Verified, WriterTookOver,
    },
    retention::plan,
};
use kit::{Archive, hash};
use proptest::{collection::vec, option, prelude::*, sample::select};

fn sha() -> impl Strategy<Value = Sha256> {
    any::<[u8; 32]>().prop_map(Sha256)
}

fn revision() -> impl Strategy<Value = Revision> {
    any::<i64>().prop_map(Revision)
}

fn words() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..20).prop_map(|chars| chars.into_iter().collect())
}

fn source_path() -> impl Strategy<Value = SourcePath> {
    vec(select(vec!["a", "ü b", "log_1", "...", "%2e", "\"q\""]), 1..5)
        .prop_map(|parts| SourcePath::new(parts.join("/")).unwrap())
}

/// Names of objects as odd as Milvus's users: endings that look like a wrap, blanks, percent signs, other alphabets.
fn odd_source() -> impl Strategy<Value = SourcePath> {
    (source_path(), select(vec!["", ".zst", ".age", ".zst.age", "%", "%2E", ".ZST"]))
        .prop_map(|(path, end)| SourcePath::new(format!("{path}{end}")).unwrap())
}

fn stored() -> impl Strategy<Value = Stored> {
    let path = vec(select(vec!["full", "0001", "x-1.snap", "y.zst.age", "%20"]), 1..4);
    (path, any::<u64>(), sha(), option::of(any::<i64>())).prop_map(|(path, len, sha256, locked)| Stored {
        path: StoredPath::new(path.join("/")).unwrap(),
        len,
        sha256,
        locked_until_ms: locked.map(UnixMillis),
    })
}

fn plain() -> impl Strategy<Value = Plain> {
    (any::<u64>(), sha()).prop_map(|(len, sha256)| Plain { len, sha256 })
}

fn source() -> impl Strategy<Value = Source> {
    (words(), vec(words(), 0..3), any::<bool>()).prop_map(|(cluster, milvus_roots, objects)| Source {
        cluster,
        milvus_roots,
        objects,
    })
}

fn segment() -> impl Strategy<Value = Segment> {
    ((revision(), revision()), any::<(i64, i64, u64)>(), option::of(sha()), plain(), stored()).prop_map(
        |((first, last), (from, to, events), end, plain, stored)| Segment {
            first,
            last,
            first_at_ms: UnixMillis(from),
            last_at_ms: UnixMillis(to),
            events,
            end,
            followed_as: end,
            plain,
            stored,
        },
    )
}

fn depth() -> impl Strategy<Value = Depth> {
    select(vec![Depth::Structure, Depth::Sample, Depth::Data])
}

fn full() -> impl Strategy<Value = Kind> {
    let member = (words(), revision(), revision(), any::<u32>()).prop_map(|(member, revision, compact, hash)| {
        MemberDigest { member, revision, compact_revision: compact, hash }
    });
    (
        (revision(), any::<i64>(), revision()),
        any::<(u64, u64)>(),
        vec(member, 0..3),
        option::of(sha()),
        plain(),
        stored(),
    )
        .prop_map(|((revision, at, compact_revision), (raft_term, keys), members, end, plain, stored)| {
            let taken_at_ms = UnixMillis(at);
            Kind::FullTaken(FullTaken {
                revision,
                taken_at_ms,
                compact_revision,
                raft_term,
                keys,
                end,
                members,
                plain,
                stored,
            })
        })
}

fn beginnings() -> impl Strategy<Value = Kind> {
    let branch =
        (any::<u32>(), revision()).prop_map(|(line, revision)| Branch { timeline: TimelineId(line), revision });
    prop_oneof![
        (source(), vec(words(), 0..3)).prop_map(|(source, sealed_to)| Kind::Opened(Opened { source, sealed_to })),
        (option::of(branch), words(), source()).prop_map(|(parent, why, source)| Kind::TimelineBegan(TimelineBegan {
            parent,
            why,
            source
        })),
        (any::<u64>(), words(), vec(words(), 0..3)).prop_map(|(fence, why, sealed_to)| {
            let was = WriterId::new("host-1:2").unwrap();
            Kind::WriterTookOver(WriterTookOver { fence, was, why, sealed_to })
        }),
    ]
}

fn tails() -> impl Strategy<Value = Kind> {
    let cause = select(vec![GapCause::Compacted, GapCause::ConnectionLost, GapCause::WriterAway, GapCause::Other]);
    prop_oneof![
        full(),
        (segment(), option::of(revision()))
            .prop_map(|(segment, to)| Kind::TailCut(TailCut { segment, mirrored_to: to })),
        segment().prop_map(|segment| Kind::TailMerged(TailMerged { segment })),
        (revision(), option::of(revision()), cause, words())
            .prop_map(|(from, to, cause, detail)| Kind::GapFound(GapFound { from, to, cause, detail })),
        (revision(), option::of(revision()))
            .prop_map(|(revision, mirrored_to)| Kind::Progress(Progress { revision, mirrored_to })),
    ]
}

fn objects() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (stored(), any::<(u64, u64, u64)>(), option::of(revision()), vec(stored(), 0..3)).prop_map(
            |(piece, (objects, bytes, all), to, repaired)| {
                let repaired = repaired.into_iter().map(|stored| stored.path).collect();
                Kind::ObjectsMirrored(ObjectsMirrored {
                    piece,
                    objects,
                    bytes,
                    stored_bytes: all,
                    mirrored_to: to,
                    repaired,
                })
            }
        ),
        (stored(), any::<(u64, u64, u64, u64)>()).prop_map(|(piece, (up_to, objects, bytes, stored_bytes))| {
            Kind::IndexMerged(IndexMerged { piece, up_to: Seq(up_to), objects, bytes, stored_bytes })
        }),
        (revision(), option::of(revision()), words(), vec(source_path(), 0..3), any::<u64>()).prop_map(
            |(from, to, cause, objects, count)| Kind::HoleFound(HoleFound { from, to, cause, objects, count })
        ),
        (any::<u64>(), revision()).prop_map(|(hole, to)| Kind::HoleClosed(HoleClosed { hole: Seq(hole), to })),
        (any::<u64>(), words()).prop_map(|(hole, how)| Kind::HoleHealed(HoleHealed { hole: Seq(hole), how })),
    ]
}

fn one_use() -> impl Strategy<Value = Use> {
    (any::<u32>(), revision(), option::of(revision())).prop_map(|(timeline, from, to)| Use {
        timeline: TimelineId(timeline),
        from,
        to,
    })
}

fn endings() -> impl Strategy<Value = Kind> {
    let damaged = (stored(), words(), vec(one_use(), 0..3)).prop_map(|(stored, what, uses)| DamagedFile {
        path: stored.path,
        what,
        uses,
    });
    let left = (stored(), words()).prop_map(|(stored, why)| Left { stored, why });
    let removed = (stored(), any::<(u64, u64, u64)>())
        .prop_map(|(list, (objects, bytes, stored_bytes))| ObjectsRemoved { list, objects, bytes, stored_bytes });
    let range = (any::<u32>(), revision(), revision()).prop_map(|(line, first, last)| TailRange {
        timeline: TimelineId(line),
        first,
        last,
    });
    let seqs = || vec(any::<u64>().prop_map(Seq), 0..4);
    prop_oneof![
        (any::<(u64, i64, bool)>(), depth(), any::<(u64, u64, u64)>(), vec(damaged, 0..3), vec(one_use(), 0..2))
            .prop_map(|((full, up_to, ok), depth, (files, bytes, took_ms), damaged, unnamed)| {
                let (full, up_to) = (Seq(full), Revision(up_to));
                Kind::Verified(Verified { full, up_to, depth, ok, files, bytes, damaged, unnamed, took_ms })
            }),
        (any::<(u64, i64, bool, u64, u64)>(), words()).prop_map(|((full, revision, ok, rpo_ms, rto_ms), detail)| {
            let (full, revision) = (Seq(full), Revision(revision));
            Kind::Drilled(Drilled { full, revision, ok, rpo_ms, rto_ms, detail })
        }),
        (seqs(), vec(range, 0..3), seqs(), option::of(removed), option::of(any::<u64>()), words()).prop_map(
            |(fulls, tails, superseded, objects, before, policy)| {
                let records_before = before.map(Seq);
                Kind::Expired(Expired { fulls, tails, superseded, objects, records_before, policy })
            }
        ),
        (any::<u64>(), vec(left, 0..3)).prop_map(|(expired, left)| Kind::Swept(Swept { expired: Seq(expired), left })),
        (stored(), any::<u64>())
            .prop_map(|(stored, lived)| Kind::Checkpoint(Checkpoint { stored, lived_ms: LivedMillis(lived) })),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let link = (any::<u64>(), sha()).prop_map(|(seq, sha256)| Link { seq: Seq(seq), sha256 });
    let what = prop_oneof![beginnings(), tails(), objects(), endings()];
    (any::<(u64, u32, i64)>(), option::of(sha()), option::of(link), what).prop_map(
        |((seq, line, at), prev, checkpoint, what)| Record {
            v: 1,
            seq: Seq(seq),
            prev,
            checkpoint,
            archive: ArchiveId::new("archive-1").unwrap(),
            timeline: TimelineId(line),
            writer: WriterId::new("host.example:17").unwrap(),
            at_ms: UnixMillis(at),
            what,
        },
    )
}

proptest! {
    #[test]
    fn a_mirrored_file_says_which_object_it_holds(source in odd_source(), zstd: bool, age: bool, other in ".{0,30}") {
        let name = names::object(&source, names::Wrap { zstd, age }).unwrap();
        prop_assert_eq!(names::object_source(&name), Some(source));
        if let Ok(name) = StoredPath::new(format!("objects/{other}"))
            && let Some(source) = names::object_source(&name)
        {
            prop_assert_eq!(names::object(&source, names::Wrap::of(&name)).unwrap(), name);
        }
    }

    #[test]
    fn a_record_survives_its_bytes(record in record()) {
        let bytes = encode_record(&record).unwrap();
        prop_assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        prop_assert_eq!(decode_record(&bytes).unwrap(), record);
    }

    #[test]
    fn no_bytes_make_a_reader_fall(bytes in vec(any::<u8>(), 0..200), text in ".{0,200}") {
        let _ = decode_record(&bytes);
        let _ = decode_piece(&bytes);
        let _ = decode_piece(format!("{{\"index\":1}}\n{text}\n").as_bytes());
        let framed = format!("{{\"record\":{text},\"sha256\":\"{}\"}}\n", hash(&text));
        let _ = decode_record(framed.as_bytes());
    }

    /// Someone who can write to the bucket writes well-formed nonsense: numbers changed, hashes recomputed.
    #[test]
    fn no_forged_state_makes_a_reader_fall(changes in vec((any::<prop::sample::Index>(), any::<i64>(), 0..4), 1..6)) {
        let mut archive = Archive::open();
        archive.full(10);
        archive.cut(11, 20);
        archive.cut(21, 30);
        archive.merge(11, 20);
        archive.gap(31);
        archive.full(40);
        archive.cut_mirrored(41, 50, Some(44));
        archive.verify_last();
        let (_, state) = archive.catalog.checkpoint_file();
        let mut state = String::from_utf8(state).unwrap();
        for (place, number, how) in &changes {
            state = with_number(&state, *place, *number, *how);
        }
        archive.checkpoint_forged(&state);
        let Ok(reading) = archive.load(None) else { return Ok(()) };
        let catalog = reading.catalog;
        let _ = (catalog.view(), catalog.merges(), catalog.totals(), catalog.checkpoint_due());
        for scope in [Scope::Everything, Scope::WhatIsThere, Scope::MetadataOnly] {
            let ats = [10, 15, 30, 45, i64::MAX].map(|at| At::Revision(Revision(at)));
            let times = [archive.now, UnixMillis(i64::MIN), UnixMillis(i64::MAX)].map(At::Time);
            for at in ats.into_iter().chain(times).chain([At::Latest]) {
                let _ = catalog.resolve(Ask { at, timeline: None, scope }).map_err(|error| error.to_string());
            }
        }
        for now in [archive.now, UnixMillis(i64::MIN), UnixMillis(i64::MAX)] {
            let plan = plan(&catalog, &Policy::default(), now).unwrap();
            let _ = catalog.draft(&archive.writer, now, Kind::Expired(plan.record()));
        }
    }
}

/// The JSON of a frame with one of its numbers replaced, and the hash recomputed.
fn with_number(framed: &str, place: prop::sample::Index, number: i64, how: i32) -> String {
    let start = framed.find(':').unwrap() + 1;
    let inner = &framed[start..framed.len() - ",\"sha256\":\"\"}\n".len() - 64];
    let bytes = inner.as_bytes();
    let outside = |at: usize| !bytes[at - 1].is_ascii_digit() && (b":,[".contains(&bytes[at - 1]));
    let numbers: Vec<usize> = (1..bytes.len()).filter(|at| bytes[*at].is_ascii_digit() && outside(*at)).collect();
    let at = numbers[place.index(numbers.len())];
    let end = at + bytes[at..].iter().position(|byte| !byte.is_ascii_digit()).unwrap();
    let number = match how {
        0 => number,
        1 => number.rem_euclid(60),
        2 => i64::MAX,
        _ => 0,
    };
    let inner = format!("{}{number}{}", &inner[..at], &inner[end..]);
    format!("{}{inner},\"sha256\":\"{}\"}}\n", &framed[..start], hash(&inner))
}

#[test]
fn a_record_too_large_is_refused() {
    let objects = vec![SourcePath::new("x".repeat(1024)).unwrap(); 1100];
    let found = HoleFound { from: Revision(1), to: None, cause: String::new(), objects, count: 1100 };
    let mut record = kit_record();
    record.what = Kind::HoleFound(found);
    assert!(encode_record(&record).unwrap_err().to_string().contains("more than"));
}

/// A record as the first release writes it: these bytes are read for ever.
#[test]
fn the_first_release_is_read_for_ever() {
    let bytes = include_bytes!("fixtures/record-v1.json");
    let record = decode_record(bytes).unwrap();
    assert_eq!(record, kit_record());
    assert_eq!(encode_record(&record).unwrap(), bytes, "and still written so");
}

fn kit_record() -> Record {
    let at = (UnixMillis(1_795_346_414_100), UnixMillis(1_795_346_415_090));
    let segment = kit::segment(TimelineId(1), 4712, 4800, at, "k3v9");
    Record {
        v: 1,
        seq: Seq(3),
        prev: Some(hash("before")),
        checkpoint: Some(Link { seq: Seq(1), sha256: hash("checkpoint") }),
        archive: ArchiveId::new("archive-1").unwrap(),
        timeline: TimelineId(1),
        writer: WriterId::new("host-17-3f").unwrap(),
        at_ms: UnixMillis(1_795_346_415_123),
        what: Kind::TailCut(TailCut { segment, mirrored_to: Some(Revision(4790)) }),
    }
}
