//! An archive for tests: real files in a bucket, written by a clock that tests turn.

use std::collections::BTreeMap;

use bytes::Bytes;
use eyrie_archive::index::encode_piece;
use eyrie_archive::record::{
    Depth, Expired, FullTaken, ObjectsMirrored, ObjectsRemoved, Opened, Segment, Source, Stored, TailCut, Verified,
};
use eyrie_archive::retention::ObjectPlan;
use eyrie_archive::{
    ArchiveId, Catalog, Entry, Kind, Line, Link, Revision, Seq, SourcePath, TimelineId, UnixMillis, Use, WriterId,
    names,
};
use futures::TryStreamExt;

use eyrie_backup::bucket::{Bucket, BucketConfig, BucketUrl, RetryConfig};
use eyrie_backup::history::TimeMs;
use eyrie_backup::pack;
use eyrie_backup::seal::Recipients;

pub(crate) const HOUR: i64 = 3_600_000;

/// The machine's clock.
pub(crate) fn now() -> UnixMillis {
    UnixMillis(i64::try_from(TimeMs::now().0).unwrap())
}

/// A bucket in memory that does not wait long before it tries again.
pub(crate) fn hasty() -> Bucket {
    let retry = RetryConfig { attempts: 4, total_secs: 60, pause_first_millis: 1, pause_max_millis: 2 };
    let url = BucketUrl::parse("memory:").unwrap();
    Bucket::open(&BucketConfig { retry, timeout_secs: 1, parallel: 4, ..BucketConfig::new(url) }).unwrap()
}

/// Everything in a bucket.
pub(crate) async fn contents(bucket: &Bucket) -> BTreeMap<String, Bytes> {
    let entries: Vec<_> = bucket.list("").try_collect().await.unwrap();
    let mut all = BTreeMap::new();
    for entry in entries {
        all.insert(entry.key.clone(), bucket.read(&entry.key).await.unwrap());
    }
    all
}

/// The same in another bucket.
pub(crate) async fn copy_of(contents: &BTreeMap<String, Bytes>) -> Bucket {
    let bucket = hasty();
    for (name, bytes) in contents {
        bucket.put(name, bytes.clone()).await.unwrap();
    }
    bucket
}

/// A full that says of which revision it is.
pub(crate) async fn stored_full(
    bucket: &Bucket,
    seal_to: &Recipients,
    line: TimelineId,
    revision: Revision,
    nonce: &str,
    taken_at_ms: UnixMillis,
) -> FullTaken {
    let name = |wrap| names::full(line, revision, nonce, wrap);
    let packed = pack::bytes(bucket, seal_to, name, format!("the full of {revision}").into()).await.unwrap();
    FullTaken {
        revision,
        taken_at_ms,
        compact_revision: Revision(0),
        raft_term: 2,
        keys: 3,
        end: None,
        members: Vec::new(),
        plain: packed.plain,
        stored: packed.stored,
    }
}

pub(crate) struct Sample {
    pub(crate) bucket: Bucket,
    pub(crate) catalog: Catalog,
    pub(crate) now: UnixMillis,
    /// Who may open what is stored from now on; index pieces are never sealed.
    pub(crate) seal_to: Recipients,
    writer: WriterId,
}

impl Sample {
    /// An archive that was opened so many hours ago.
    pub(crate) async fn open(hours_ago: i64) -> Self {
        let bucket = hasty();
        let now = UnixMillis(now().0 - hours_ago * HOUR);
        let writer = WriterId::new("elsewhere:1:a").unwrap();
        let source = Source { cluster: "00000000000000aa".into(), milvus_roots: vec!["by-dev".into()], objects: true };
        let opened = Opened { source, sealed_to: Vec::new() };
        let draft = Catalog::open(ArchiveId::new("sample").unwrap(), writer.clone(), now, opened).unwrap();
        bucket.create(draft.name().as_str(), draft.bytes().to_vec()).await.unwrap();
        Self { bucket, catalog: Catalog::begin(draft).unwrap(), now, seal_to: Recipients::nobody(), writer }
    }

    pub(crate) fn head(&self) -> Link {
        self.catalog.head()
    }

    pub(crate) async fn write(&mut self, what: Kind) -> Seq {
        self.now.0 += 1000;
        let draft = self.catalog.draft(&self.writer, self.now, what).unwrap();
        self.bucket.create(draft.name().as_str(), draft.bytes().to_vec()).await.unwrap();
        let seq = draft.record().seq;
        self.catalog.commit(draft).unwrap();
        seq
    }

    fn nonce(&self) -> String {
        format!("n{}", self.head().seq)
    }

    async fn store(
        &self,
        text: String,
        name: impl FnOnce(names::Wrap) -> Result<eyrie_archive::StoredPath, eyrie_archive::BadName>,
    ) -> pack::Packed {
        pack::bytes(&self.bucket, &self.seal_to, name, text.into()).await.unwrap()
    }

    async fn store_piece(&self, lines: Vec<u8>) -> Stored {
        let (after, nonce) = (self.head().seq, self.nonce());
        let name = |wrap| names::index(after, &nonce, wrap);
        pack::bytes(&self.bucket, &Recipients::nobody(), name, lines.into()).await.unwrap().stored
    }

    pub(crate) async fn full(&mut self, revision: i64) -> Seq {
        let (line, nonce) = (self.catalog.current().id, self.nonce());
        let taken = stored_full(&self.bucket, &self.seal_to, line, Revision(revision), &nonce, self.now).await;
        self.write(Kind::FullTaken(taken)).await
    }

    /// Everything that the tail had up to there is mirrored, too.
    pub(crate) async fn cut(&mut self, first: i64, last: i64) -> Seq {
        let (line, nonce) = (self.catalog.current().id, self.nonce());
        let name = |wrap| names::tail(line, Revision(first), Revision(last), &nonce, wrap);
        let packed = self.store(format!("the tail {first} to {last}"), name).await;
        let segment = Segment {
            first: Revision(first),
            last: Revision(last),
            first_at_ms: self.now,
            last_at_ms: self.now,
            events: u64::try_from(last - first + 1).unwrap(),
            end: None,
            followed_as: None,
            plain: packed.plain,
            stored: packed.stored,
        };
        self.write(Kind::TailCut(TailCut { segment, mirrored_to: Some(Revision(last)) })).await
    }

    /// Objects by name, with the revisions that need them.
    pub(crate) async fn objects(&mut self, objects: &[(&str, i64, Option<i64>)]) -> Seq {
        let (timeline, lived_ms) = (self.catalog.current().id, self.catalog.lived_at(self.now));
        let (mut lines, mut bytes) = (Vec::new(), 0);
        for (name, from, to) in objects {
            let source = SourcePath::new(*name).unwrap();
            let path = |wrap| names::object(&source.clone(), wrap);
            let packed = self.store(format!("the object {name}"), path).await;
            let uses = vec![Use { timeline, from: Revision(*from), to: to.map(Revision) }];
            let (len, sha256) = (packed.plain.len, packed.plain.sha256);
            bytes += len;
            lines.push(Line::Mirrored(Entry { source, len, sha256, stored: packed.stored, lived_ms, uses }));
        }
        let piece = self.store_piece(encode_piece(&lines)).await;
        let (objects, stored_bytes) = (lines.len() as u64, bytes);
        let what = ObjectsMirrored { piece, objects, bytes, stored_bytes, mirrored_to: None, repaired: Vec::new() };
        self.write(Kind::ObjectsMirrored(what)).await
    }

    /// Gives up what was planned, and deletes nothing.
    pub(crate) async fn expire(&mut self, mut expired: Expired, plan: &ObjectPlan) -> Seq {
        let list = self.store_piece(plan.list()).await;
        let ((bytes, stored_bytes), objects) = (plan.bytes(), plan.removed.len() as u64);
        expired.objects = Some(ObjectsRemoved { list, objects, bytes, stored_bytes });
        self.write(Kind::Expired(expired)).await
    }

    /// The newest chain is well.
    pub(crate) async fn verified(&mut self) -> Seq {
        let line = self.catalog.current();
        let (full, up_to) = (line.newest_full().unwrap().seq, line.newest_revision().unwrap());
        self.write(Kind::Verified(Verified {
            full,
            up_to,
            depth: Depth::Data,
            ok: true,
            files: 1,
            bytes: 1,
            damaged: Vec::new(),
            unnamed: Vec::new(),
            took_ms: 1,
        }))
        .await
    }

    pub(crate) async fn checkpoint(&mut self) -> Seq {
        let (name, bytes) = self.catalog.checkpoint_file();
        let what = self.catalog.checkpoint_record(&bytes);
        self.bucket.put(name.as_str(), bytes).await.unwrap();
        self.write(what).await
    }
}
