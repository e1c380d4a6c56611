//! `restore`: the way back.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use eyrie_archive::Link;
use eyrie_backup::bucket::{Bucket, BucketConfig, BucketUrl};
use eyrie_backup::catalog;
use eyrie_backup::config::{Config, MilvusSection};
use eyrie_backup::limits::BUMP_REVISION;
use eyrie_backup::restore::{
    Changes, ClusterTo, MemberTo, MetadataTo, ObjectRoot, Objects, ObjectsTo, Request, Watch, prepare,
};
use eyrie_backup::seal::Identities;
use eyrie_backup::take::MilvusBucket;
use serde_json::json;

use super::settings::{Moment, Settings};
use super::{DONE, FAILED, Output, REFUSED};
use crate::progress::{self, Progress};
use crate::screen::out;
use crate::utl::cluster::{Bootstrap, parse_cluster};

/// Where etcd's own restore puts a member, unless told otherwise.
const PEER_URL: &str = "http://localhost:2380";

#[derive(clap::Args)]
#[command(after_help = "\
At three in the morning (docs/runbooks has a page for each):
  What can I get back?        eyrie backup list --config eyrie.yaml
  What would happen?          eyrie backup restore --config eyrie.yaml --at latest --data-dir NEW --dry-run
  etcd is lost:               eyrie backup restore --config eyrie.yaml --metadata-only --data-dir NEW
  The bucket is lost:         eyrie backup restore --config eyrie.yaml --objects-only --into-existing
  All is lost:                eyrie backup restore --config eyrie.yaml --data-dir NEW
  As it was at noon:          … --at 2026-11-22T12:00:00Z
  A cluster of three:         … --data-dir NEW --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=…
  For upstream etcd:          … --to etcd-snapshot FILE --for-milvus

Exit code: 0 restored and compared, 1 it failed (type the same command again, it goes on), 2 nothing was changed.")]
pub(super) struct Restore {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    metadata: MetadataFlags,
    #[command(flatten)]
    objects: ObjectFlags,
    /// Print what would be done, and what would be lost, and do nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Folder for scratch files: room for the metadata twice
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// How to answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// Where the metadata goes, and what is changed in it.
#[derive(clap::Args)]
struct MetadataFlags {
    /// The new data directory; with several members in --initial-cluster and no --name, the folder of all of them
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the log goes, if not into the data directory
    #[arg(long, value_name = "DIR", requires = "data_dir")]
    wal_dir: Option<PathBuf>,
    /// The member whose directory it is
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// All members of the new cluster: name=peer-URL,…
    #[arg(long, value_name = "LIST")]
    initial_cluster: Option<String>,
    /// The new cluster's token, from which its ids follow [default: one that no cluster of this archive has had]
    #[arg(long, value_name = "WORD")]
    initial_cluster_token: Option<String>,
    /// The member's peer URLs; by default those of --initial-cluster
    #[arg(long, value_name = "URL,...")]
    initial_advertise_peer_urls: Option<String>,
    /// Instead of data directories: `--to etcd-snapshot FILE`, a plain snapshot for upstream's tools
    #[arg(long, num_args = 2, value_names = ["FORM", "FILE"], conflicts_with = "data_dir")]
    to: Vec<String>,
    /// With --to etcd-snapshot: change Milvus's keys so that it starts, as it is done for data directories
    #[arg(long, requires = "to")]
    for_milvus: bool,
    /// Change nothing: sessions of dead processes and positions in a lost queue come back, too
    #[arg(long, conflicts_with_all = ["for_milvus", "to_root_path", "keep_queue"])]
    verbatim: bool,
    /// Milvus's new etcd.rootPath
    #[arg(long, value_name = "PATH")]
    to_root_path: Option<String>,
    /// The message queue survived, and nothing was written to it since that moment
    #[arg(long)]
    keep_queue: bool,
    /// How far the revision is lifted, so that no client has seen a higher one [default: 1000000000; 0 for a snapshot]
    #[arg(long, value_name = "N")]
    bump_revision: Option<u64>,
}

/// Where the objects go.
#[derive(clap::Args)]
struct ObjectFlags {
    /// No objects: the bucket of Milvus is whole; that it is, is checked where it is known
    #[arg(long, conflicts_with = "objects_only")]
    metadata_only: bool,
    /// No metadata
    #[arg(long, conflicts_with_all = ["data_dir", "to"])]
    objects_only: bool,
    /// Milvus's new bucket, or folder for local storage; by default the one of the section milvus
    #[arg(long, value_name = "ADDRESS")]
    to_bucket: Option<String>,
    /// Settings of the new bucket's store (YAML); by default those of the section milvus
    #[arg(long, value_name = "FILE", requires = "to_bucket")]
    to_bucket_config: Option<PathBuf>,
    /// Milvus's minio.rootPath in the new bucket; by default as it was
    #[arg(long, value_name = "PATH", requires = "to_bucket")]
    to_bucket_root: Option<String>,
    /// The bucket is in use: add what is missing, replace what is damaged, leave the rest
    #[arg(long)]
    into_existing: bool,
    /// Go on although some objects are missing in the archive
    #[arg(long)]
    partial: bool,
}

impl Restore {
    pub(super) async fn run(self) -> i32 {
        let opened = self.open().await;
        let (bucket, keys, request) = match opened {
            Ok(opened) => opened,
            Err(why) => return self.said("refused", &why, REFUSED),
        };
        let screen = Screen::new("restore", self.output);
        let prepared = match prepare(&bucket, &keys, request, &screen).await {
            Ok(prepared) => prepared,
            Err(error) => {
                screen.0.finish();
                return self.said("refused", &error.to_string(), REFUSED);
            }
        };
        if self.dry_run {
            screen.0.finish();
            match self.output {
                Output::Json => progress::json(&json!({"event": "plan", "plan": prepared.plan()})),
                Output::Text => out(&format!("{}\nNothing was written.\n", prepared.plan())),
            }
            return DONE;
        }
        screen.0.say(&prepared.plan().to_string());
        let done = prepared.run(&screen).await;
        screen.0.finish();
        match done {
            Ok(done) => {
                match self.output {
                    Output::Json => progress::json(&json!({"event": "done", "done": done})),
                    Output::Text => out(&done.to_string()),
                }
                DONE
            }
            Err(error) => self.said(
                "failed",
                &format!("{error}\nWhat is unfinished is marked so. The same command goes on."),
                FAILED,
            ),
        }
    }

    async fn open(&self) -> Result<(Bucket, Identities, Request), String> {
        let (config, bucket) = self.settings.archive()?;
        let token = match &self.metadata.initial_cluster_token {
            Some(token) => token.clone(),
            None if self.metadata.data_dir.is_some() => new_token(&bucket).await?,
            None => String::new(),
        };
        let request = Request { pin: pinned(&config, &bucket), ..self.request(&config, &token)? };
        let keys = self.moment.keys()?;
        Ok((bucket, keys, request))
    }

    fn request(&self, config: &Config, token: &str) -> Result<Request, String> {
        let flags = &self.metadata;
        let metadata = match (self.objects.objects_only, &flags.data_dir, &flags.to[..]) {
            (true, ..) => None,
            (false, Some(dir), _) => Some(MetadataTo::Members(flags.cluster(dir, token)?)),
            (false, None, [form, file]) if form == "etcd-snapshot" => Some(MetadataTo::Snapshot(file.into())),
            (false, None, [form, _]) => return Err(format!("--to {form} is not known; it is --to etcd-snapshot FILE")),
            (false, None, _) => {
                return Err("nobody said where the metadata goes. Nothing was done. Next: add --data-dir NEW, or \
                            --to etcd-snapshot FILE, or --objects-only"
                    .into());
            }
        };
        let plain = matches!(metadata, Some(MetadataTo::Snapshot(_)));
        let asked = flags.for_milvus || flags.to_root_path.is_some() || flags.keep_queue;
        let changes = (!flags.verbatim && (!plain || asked))
            .then(|| Changes { to_root: flags.to_root_path.clone(), keep_queue: flags.keep_queue });
        Ok(Request {
            at: self.moment.at,
            timeline: self.moment.timeline(),
            objects: self.objects.choose(config, plain)?,
            metadata,
            changes,
            bump_revision: flags.bump_revision.unwrap_or(if plain { 0 } else { BUMP_REVISION }),
            partial: self.objects.partial,
            scratch: self.scratch.clone().or(config.source.spool.clone()).unwrap_or_else(std::env::temp_dir),
            pin: None,
            open_doors: false,
        })
    }

    fn said(&self, event: &str, why: &str, code: i32) -> i32 {
        match self.output {
            Output::Json => progress::json(&json!({"event": event, "error": why})),
            Output::Text => eprintln!("Error: {why}"),
        }
        code
    }
}

/// The newest record of the catalogue that this machine has seen, if it has seen any.
pub(super) fn pinned(config: &Config, archive: &Bucket) -> Option<Link> {
    config.pin(archive).read().unwrap_or_else(|error| {
        eprintln!("warning: {error}");
        None
    })
}

/// A token that no cluster of the archive has had, and that every restore has until the archive begins the next timeline:
/// so the members of one cluster may be restored one by one, and nobody takes the new cluster for the old one.
async fn new_token(archive: &Bucket) -> Result<String, String> {
    let catalog = catalog::read(archive, None).await.map_err(|error| error.to_string())?.catalog;
    Ok(format!("eyrie-{}-{}", catalog.archive(), catalog.current().id.0.saturating_add(1)))
}

impl MetadataFlags {
    /// The members whose directories are written.
    fn cluster(&self, dir: &Path, token: &str) -> Result<ClusterTo, String> {
        let only = self.name.as_deref().unwrap_or("default");
        let list = self.initial_cluster.clone().unwrap_or_else(|| format!("{only}={PEER_URL}"));
        let listed = parse_cluster(&list)?;
        let all = self.name.is_none() && listed.len() > 1;
        if all && self.wal_dir.is_some() {
            return Err("--wal-dir is of one member: name it with --name. Nothing was done".into());
        }
        let names: Vec<String> = match (&self.name, listed.len()) {
            (Some(name), _) => vec![name.clone()],
            (None, _) => listed.keys().cloned().collect(),
        };
        let mut write = Vec::new();
        let mut founded = None;
        for name in names {
            if all && (name.contains('/') || name.starts_with('.') || name.is_empty()) {
                return Err(format!("a member's name becomes a folder, and {name:?} can't be one. Nothing was done"));
            }
            let urls = listed.get(&name).map(|urls| urls.join(",")).unwrap_or_default();
            let urls = self.initial_advertise_peer_urls.clone().filter(|_| !all).unwrap_or(urls);
            let bootstrap = Bootstrap::new(&name, &list, &urls, token)?;
            let data_dir = if all { dir.join(&name) } else { dir.to_owned() };
            let wal_dir = self.wal_dir.clone();
            write.push(MemberTo { name, member: bootstrap.me, data_dir, wal_dir });
            founded = Some(bootstrap);
        }
        let founded = founded.ok_or("--initial-cluster names nobody. Nothing was done")?;
        let folder = all.then(|| dir.to_owned());
        Ok(ClusterTo { cluster: founded.cluster, founders: founded.members, write, folder })
    }
}

impl ObjectFlags {
    fn choose(&self, config: &Config, snapshot: bool) -> Result<Objects, String> {
        // a plain snapshot is a file to be looked into: objects are its business only if somebody says so
        let meant = !snapshot || self.metadata_only || self.into_existing;
        let said = self.to_bucket.is_some() || (config.milvus.is_some() && meant);
        if !said {
            let leave = self.metadata_only || snapshot;
            return match (leave, self.objects_only) {
                (_, true) => {
                    Err("nobody said where the objects go. Nothing was done. Next: add --to-bucket ADDRESS".into())
                }
                (true, false) => Ok(Objects::Leave),
                (false, false) => Ok(Objects::Unsaid),
            };
        }
        let (to, url) = self.place(config)?;
        if url.overlaps(&config.archive.url) {
            return Err(format!("{url} and the archive {} lie in each other. Nothing was done", config.archive.url));
        }
        Ok(if self.metadata_only { Objects::Check(to) } else { Objects::Restore(to) })
    }

    fn place(&self, config: &Config) -> Result<(ObjectsTo, BucketUrl), String> {
        let was = config.milvus.as_ref().map(MilvusBucket::open).transpose().map_err(|error| error.to_string())?;
        let from = was.as_ref().map(|was| was.objects_at.clone());
        let into_existing = self.into_existing;
        let Some(address) = &self.to_bucket else {
            let (Some(was), Some(section)) = (was, &config.milvus) else {
                return Err("there is no bucket. Next: add --to-bucket ADDRESS".into());
            };
            let to = ObjectsTo { bucket: was.bucket, at: Some(was.objects_at), from, into_existing };
            return Ok((to, section.bucket.url.clone()));
        };
        let bucket = self.bucket(address, config.milvus.as_ref())?;
        let at = match (&bucket.url, &self.to_bucket_root) {
            (BucketUrl::File(path), _) => Some(ObjectRoot::folder(&path.display().to_string())),
            (_, Some(root)) => Some(ObjectRoot::bucket(root)),
            (_, None) => None,
        };
        let url = bucket.url.clone();
        let bucket = Bucket::open(&bucket).map_err(|error| error.to_string())?;
        Ok((ObjectsTo { bucket, at, from, into_existing }, url))
    }

    /// The new bucket: with settings of its own, else those of the old one if both are in stores of one kind.
    fn bucket(&self, address: &str, was: Option<&MilvusSection>) -> Result<BucketConfig, String> {
        let new = crate::mirror::config(address, self.to_bucket_config.as_deref(), None)?;
        let same_kind =
            |was: &&MilvusSection| std::mem::discriminant(&was.bucket.url) == std::mem::discriminant(&new.url);
        match was.filter(same_kind).filter(|_| self.to_bucket_config.is_none()) {
            Some(was) => Ok(BucketConfig { url: new.url, ..was.bucket.clone() }),
            None => Ok(new),
        }
    }
}

/// What goes on, as the other long commands show it.
pub(super) struct Screen(pub(super) Progress, AtomicU64);

impl Screen {
    pub(super) fn new(verb: &'static str, output: Output) -> Self {
        Self(Progress::new(verb, output), AtomicU64::new(0))
    }
}

impl Watch for Screen {
    fn step(&self, words: &str) {
        self.0.step(words);
    }
    fn total(&self, objects: u64, bytes: u64) {
        // what was done before stays on the bar
        self.0.total(objects, bytes + self.1.load(Ordering::Relaxed));
    }
    fn read(&self, bytes: u64) {
        if bytes > 0 {
            self.1.fetch_add(bytes, Ordering::Relaxed);
            self.0.bytes(bytes);
        }
    }
    fn copied(&self, bytes: u64) {
        self.1.fetch_add(bytes, Ordering::Relaxed);
        self.0.bytes(bytes);
        self.0.objects(1);
    }
}
