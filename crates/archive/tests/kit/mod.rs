//! An archive in memory: the catalogue, and the files that a bucket would hold.
#![allow(dead_code, reason = "each test file uses its own part of the kit")]

use std::collections::BTreeMap;

use eyrie_archive::{
    ArchiveId, Catalog, Kind, Link, Load, Reading, Revision, Seq, Sha256, Start, Step, StoredPath, TimelineId,
    UnixMillis, Unreadable, WriterId, names,
    record::{
        Depth, FullTaken, GapCause, GapFound, Opened, Plain, Segment, Source, Stored, TailCut, TailMerged, Verified,
        WriterTookOver,
    },
};

pub(crate) struct Archive {
    pub(crate) catalog: Catalog,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) writer: WriterId,
    pub(crate) now: UnixMillis,
}

pub(crate) fn hash(text: &str) -> Sha256 {
    Sha256::of(text.as_bytes())
}

pub(crate) fn stored(path: StoredPath) -> Stored {
    Stored { len: 1000, sha256: hash(path.as_str()), path, locked_until_ms: None }
}

pub(crate) fn plain() -> Plain {
    Plain { len: 5000, sha256: hash("plain") }
}

pub(crate) fn source() -> Source {
    Source { cluster: "00000000000000aa".into(), milvus_roots: vec!["by-dev".into()], objects: true }
}

pub(crate) fn full_record(revision: i64, now: UnixMillis) -> Kind {
    full_named(TimelineId(1), revision, now, "a")
}

pub(crate) fn full_named(timeline: TimelineId, revision: i64, now: UnixMillis, nonce: &str) -> Kind {
    let path = names::full(timeline, Revision(revision), nonce, names::Wrap::default()).unwrap();
    Kind::FullTaken(FullTaken {
        revision: Revision(revision),
        taken_at_ms: now,
        compact_revision: Revision(1),
        raft_term: 2,
        keys: 3,
        end: None,
        members: Vec::new(),
        plain: plain(),
        stored: stored(path),
    })
}

pub(crate) fn segment(
    timeline: TimelineId,
    first: i64,
    last: i64,
    at: (UnixMillis, UnixMillis),
    nonce: &str,
) -> Segment {
    let path = names::tail(timeline, Revision(first), Revision(last), nonce, names::Wrap::default()).unwrap();
    Segment {
        first: Revision(first),
        last: Revision(last),
        first_at_ms: at.0,
        last_at_ms: at.1,
        events: u64::try_from(last - first + 1).unwrap(),
        end: None,
        followed_as: None,
        plain: plain(),
        stored: stored(path),
    }
}

pub(crate) fn cut_record(first: i64, last: i64) -> Kind {
    let at = (UnixMillis(0), UnixMillis(0));
    Kind::TailCut(TailCut { segment: segment(TimelineId(1), first, last, at, "a"), mirrored_to: None })
}

impl Archive {
    pub(crate) fn open() -> Self {
        Self::open_as("archive-1")
    }

    pub(crate) fn open_as(id: &str) -> Self {
        let writer = WriterId::new("first").unwrap();
        let now = UnixMillis(1_700_000_000_000);
        let opened = Opened { source: source(), sealed_to: Vec::new() };
        let draft = Catalog::open(ArchiveId::new(id).unwrap(), writer.clone(), now, opened).unwrap();
        let files = BTreeMap::from([(draft.name().to_string(), draft.bytes().to_vec())]);
        Self { catalog: Catalog::begin(draft).unwrap(), files, writer, now }
    }

    /// Writes a record; a second later.
    pub(crate) fn write(&mut self, what: Kind) -> Seq {
        self.now.0 += 1000;
        let draft = self.catalog.draft(&self.writer, self.now, what).unwrap();
        let seq = draft.record().seq;
        let before = self.files.insert(draft.name().to_string(), draft.bytes().to_vec());
        assert!(before.is_none(), "a record is created once");
        self.catalog.commit(draft).unwrap();
        seq
    }

    fn nonce(&self) -> String {
        format!("n{}", self.catalog.head().seq)
    }

    pub(crate) fn full(&mut self, revision: i64) -> Seq {
        let record = full_named(self.catalog.current().id, revision, self.now, &self.nonce());
        self.write(record)
    }

    /// A full with so many keys.
    pub(crate) fn full_of(&mut self, revision: i64, keys: u64) -> Seq {
        let mut record = full_named(self.catalog.current().id, revision, self.now, &self.nonce());
        if let Kind::FullTaken(full) = &mut record {
            full.keys = keys;
        }
        self.write(record)
    }

    pub(crate) fn cut(&mut self, first: i64, last: i64) -> Seq {
        self.cut_mirrored(first, last, None)
    }

    pub(crate) fn cut_mirrored(&mut self, first: i64, last: i64, mirrored_to: Option<i64>) -> Seq {
        let at = (UnixMillis(self.now.0 + 1), UnixMillis(self.now.0 + 1000));
        let segment = segment(self.catalog.current().id, first, last, at, &self.nonce());
        self.write(Kind::TailCut(TailCut { segment, mirrored_to: mirrored_to.map(Revision) }))
    }

    pub(crate) fn merge(&mut self, first: i64, last: i64) -> Seq {
        let at = (self.now, self.now);
        let segment = segment(self.catalog.current().id, first, last, at, &self.nonce());
        self.write(Kind::TailMerged(TailMerged { segment }))
    }

    pub(crate) fn gap(&mut self, from: i64) -> Seq {
        let cause = GapCause::Compacted;
        let detail = "required revision has been compacted".into();
        self.write(Kind::GapFound(GapFound { from: Revision(from), to: None, cause, detail }))
    }

    pub(crate) fn take_over(&mut self, writer: &str) -> Seq {
        let was = std::mem::replace(&mut self.writer, WriterId::new(writer).unwrap());
        let fence = self.catalog.fence() + 1;
        self.write(Kind::WriterTookOver(WriterTookOver { fence, was, why: "a test".into(), sealed_to: Vec::new() }))
    }

    pub(crate) fn verify(&mut self, full: Seq, up_to: Revision, ok: bool) -> Seq {
        self.write(Kind::Verified(Verified {
            full,
            up_to,
            depth: Depth::Data,
            ok,
            files: 1,
            bytes: 1,
            damaged: Vec::new(),
            unnamed: Vec::new(),
            took_ms: 1,
        }))
    }

    pub(crate) fn verify_last(&mut self) -> Seq {
        let line = self.catalog.current();
        let (full, up_to) = (line.newest_full().unwrap().seq, line.newest_revision().unwrap());
        self.verify(full, up_to, true)
    }

    pub(crate) fn checkpoint(&mut self) -> Seq {
        let (name, bytes) = self.catalog.checkpoint_file();
        let what = self.catalog.checkpoint_record(&bytes);
        self.files.insert(name.to_string(), bytes);
        self.write(what)
    }

    /// A checkpoint whose file is not what the catalogue would say.
    pub(crate) fn checkpoint_forged(&mut self, state: &str) {
        let (name, _) = self.catalog.checkpoint_file();
        let what = self.catalog.checkpoint_record(state.as_bytes());
        self.files.insert(name.to_string(), state.as_bytes().to_vec());
        self.write(what);
    }

    /// From all records.
    pub(crate) fn read(&self) -> Reading {
        let records = self.files.iter().filter_map(|(name, bytes)| Some((names::record_seq(name)?, bytes.as_slice())));
        Catalog::replay(Start::First, records, None).unwrap()
    }

    /// As a reader of a bucket does.
    pub(crate) fn load(&self, pin: Option<Link>) -> Result<Reading, Unreadable> {
        let names: Vec<String> = self.files.keys().cloned().collect();
        self.load_listed(&names, pin)
    }

    pub(crate) fn load_listed(&self, listed: &[String], pin: Option<Link>) -> Result<Reading, Unreadable> {
        let mut load = Load::new(listed.iter().map(String::as_str), pin);
        for _ in 0..1000 {
            match load.step() {
                Step::Get(names) => {
                    assert!(!names.is_empty());
                    names.iter().for_each(|name| load.give(name, self.files.get(name.as_str()).cloned()));
                }
                Step::Done(reading) => return *reading,
            }
        }
        panic!("the loader does not come to an end");
    }

    /// Replaces a record by other JSON, in a frame with a fitting hash.
    pub(crate) fn put_reframed(&mut self, seq: u64, framed: &str) {
        let start = "{\"record\":".len();
        let inner = &framed[start..framed.len() - ",\"sha256\":\"\"}\n".len() - 64];
        let text = format!("{{\"record\":{inner},\"sha256\":\"{}\"}}\n", hash(inner));
        self.files.insert(format!("catalog/{seq:012}.json"), text.into_bytes());
    }
}

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len() as u64) as usize].clone()) }
    }
}
