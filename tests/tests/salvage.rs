//! Milvus's metadata is gone for good and only its bucket is left: a real Milvus wrote it, with deletes, upserts and a compaction
//! whose inputs lie there still. Another Milvus that knows nothing gets every row back, once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyrie_tests::backup::milvus_backup;
use eyrie_tests::binaries::Program;
use eyrie_tests::milvus::{Milvus, Storage};
use eyrie_tests::moto::Moto;
use eyrie_tests::place::Place;
use eyrie_tests::store::{Setup, Store, bounded};
use eyrie_tests::verdict::Verdict;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(180);

/// Port of the S3 server.
const S3_PORT: u16 = 19900;

#[test]
fn every_row_comes_back_once_when_only_the_bucket_is_left() -> Verdict {
    Ok(from_a_folder()?)
}

fn from_a_folder() -> Result<()> {
    let old = World::begin(&Place::apart()?, Storage::Folder)?;
    let before = filled(&old)?;
    let objects = old.dir.path().join("milvus/objects");
    let World { dir: old_dir, milvus, store, .. } = old;
    drop((milvus, store));
    std::fs::remove_dir_all(old_dir.path().join("milvus/rocksmq"))?;
    let left = lengths(&objects);

    let new = World::begin(&Place::apart()?, Storage::Folder)?;
    salvaged(&new, &before, &format!("file://{}", objects.display()))?;
    ensure!(lengths(&objects) == left, "the old bucket was changed");
    let temporary = std::fs::read_dir(new.dir.path().join("milvus/objects"))?.flatten();
    let temporary: Vec<_> = temporary.map(|entry| entry.file_name()).collect();
    let leaves_nothing = |name: &std::ffi::OsString| {
        !name.to_string_lossy().starts_with("salvage-temp") || {
            lengths(&new.dir.path().join("milvus/objects").join(name)).is_empty()
        }
    };
    ensure!(temporary.iter().all(leaves_nothing), "{temporary:?}");
    Ok(())
}

/// The same on S3, as the manual has it: the bucket is copied, and a Milvus with a bucket of its own takes the rows.
#[test]
fn every_row_comes_back_once_from_a_copy_of_an_s3_bucket() -> Verdict {
    Ok(from_a_copy()?)
}

fn from_a_copy() -> Result<()> {
    if std::env::var_os("EYRIE_LONG").is_none() {
        println!("skipped: it takes minutes; EYRIE_LONG=1 runs it");
        return Ok(());
    }
    let (dir, place) = (tempfile::tempdir()?, Place::apart()?);
    let s3 = Moto::start(dir.path(), &place, S3_PORT)?;
    ["milvus", "dead", "fresh"].iter().try_for_each(|bucket| s3.bucket(bucket))?;
    let old = World::begin(&place, Storage::At(S3_PORT))?;
    let before = filled(&old)?;
    drop(old);
    let mut mirror = place.command(&Program::under_test()?.serve[0]);
    mirror.args(["mirror", "s3://milvus/files", "s3://dead/files"]).envs(s3.environment()).stdin(Stdio::null());
    let out = bounded(mirror.stdout(Stdio::piped()).stderr(Stdio::piped()), PATIENCE)?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let listed = || place.get(&format!("{}/dead?list-type=2", s3.endpoint())).context("the bucket");
    let left = listed()?;
    ensure!(left.contains("files/insert_log/"), "{left}");

    let new = World::begin(&place, Storage::In(S3_PORT, "fresh"))?;
    salvaged(&new, &before, "s3://dead")?;
    ensure!(listed()? == left, "the copy of the old bucket was changed");
    let fresh = place.get(&format!("{}/fresh?list-type=2", s3.endpoint())).context("the bucket")?;
    ensure!(fresh.contains("files/insert_log/") && !fresh.contains("salvage-temp"), "{fresh}");
    Ok(())
}

/// Fills a Milvus; every row of it.
fn filled(old: &World) -> Result<Value> {
    old.milvus.python("salvage_session.py", &["fill"])?;
    let before = old.digest()?;
    ensure!(before["numbers"]["rows"] == 652 && before["texts"]["rows"] == 297, "{before:#}");
    ensure!(before["keyed"]["in_partitions"] == json!([34, 33, 33, 0]), "{before:#}");
    Ok(before)
}

/// What lies in a bucket is listed, refused with a wrong schema, and brought into a Milvus that knows nothing.
fn salvaged(new: &World, before: &Value, bucket: &str) -> Result<()> {
    let list = new.tool(&["salvage", "list", "--bucket", bucket, "-w", "json"])?;
    let page = new.tool(&["salvage", "list", "--bucket", bucket])?;
    ensure!(page.contains("652 living rows") && page.contains("by a compaction: all its living rows are in"), "{page}");
    let found: Vec<Value> = list
        .lines()
        .map(serde_json::from_str)
        .collect::<std::result::Result<Vec<Value>, _>>()?
        .into_iter()
        .filter(|line| line["event"] == "found")
        .collect();
    let of = |rows: u64| found.iter().find(|one| one["rows"] == rows).with_context(|| format!("{rows} in {found:#?}"));
    let (numbers, texts, keyed) = (of(652)?, of(297)?, of(100)?);
    let with = |one: &Value, verdict: &str| -> Vec<Value> {
        let segments = one["segments"].as_array().cloned().unwrap_or_default();
        segments.into_iter().filter(|segment| segment["verdict"] == verdict).collect()
    };
    ensure!(!with(numbers, "left behind").is_empty(), "no input of a compaction lies there: {numbers:#}");
    ensure!(found.iter().all(|one| with(one, "DAMAGED").is_empty()), "{found:#?}");
    ensure!(numbers["key"] == json!({ "field": 100, "certain": true }), "{numbers:#}");

    for (one, name, names) in [
        (numbers, "numbers", &["id", "name", "truth", "tiny", "single", "double", "vector"][..]),
        (texts, "texts", &["key", "vector"][..]),
        (keyed, "keyed", &["id", "flock", "vector"][..]),
    ] {
        let mut schema = one["guess"].clone();
        for (field, name) in names.iter().enumerate() {
            schema["fields"][field]["name"] = json!(name);
        }
        match name {
            "texts" => schema["partitions"][1]["name"] = json!("north"),
            "keyed" => by_key(&mut schema)?,
            _ => {}
        }
        let file = new.dir.path().join(format!("{name}.json"));
        let file = file.display().to_string();
        let id = one["collection"].to_string();
        let args = ["salvage", "restore", "--bucket", bucket, "--collection", &id, "--schema", &file, "--to", name];

        // A schema that is not that of the logs is refused before anything is made.
        let vector = names.len() - 1;
        let mut wrong = schema.clone();
        wrong["fields"][vector]["dim"] = json!(8);
        std::fs::write(&file, wrong.to_string())?;
        let refused = new.refused(&args)?;
        ensure!(refused.contains("dim 8 in the schema, and 16 in the logs"), "{refused}");
        std::fs::write(&file, schema.to_string())?;
        let planned = new.tool(&[&args[..], &["--dry-run"]].concat())?;
        ensure!(planned.contains(&format!("import {} rows, each once", one["rows"])), "{planned}");
        let said = new.tool(&args)?;
        ensure!(said.contains(&format!("{name} is salvaged: {} rows", one["rows"])), "{said}");
        let taken = new.refused(&args)?;
        ensure!(taken.contains("already; nothing was changed"), "{taken}");
    }
    let after = new.digest()?;
    ensure!(after == *before, "{after:#}\ninstead of\n{before:#}");
    Ok(())
}

/// What a person says of a partition key: which field, how many partitions, and their names by their ids.
fn by_key(schema: &mut Value) -> Result<()> {
    schema["fields"][1]["partition_key"] = json!(true);
    schema["num_partitions"] = json!(4);
    let first = schema["collection"].as_i64().context("an id")? + 1;
    for partition in schema["partitions"].as_array_mut().context("partitions")? {
        let place = partition["id"].as_i64().context("an id")? - first;
        partition["name"] = json!(format!("_default_{place}"));
    }
    Ok(())
}

/// An etcd, a Milvus on it with its objects in a folder, and a configuration for the tool, in a network of their own.
struct World {
    dir: tempfile::TempDir,
    place: Place,
    milvus: Milvus,
    store: Store,
    config: PathBuf,
}

impl World {
    fn begin(place: &Place, storage: Storage) -> Result<World> {
        let dir = tempfile::tempdir()?;
        let place = place.clone();
        let mut setup = Setup::new(&Program::upstream()?, dir.path())?;
        setup.place = place.clone();
        let store = setup.start()?;
        let milvus = Milvus::start_on(&dir.path().join("milvus"), &place, &setup.endpoint(), storage)?;
        let config = dir.path().join("backup.yaml");
        let root = dir.path().display();
        let of_bucket = |bucket: &str| {
            format!(
                "configVersion: v2\nmilvus:\n  grpc: {{ address: 127.0.0.1 }}\n  storage: {{ provider: minio, address: 127.0.0.1, \
                 port: {S3_PORT}, bucketName: {bucket}, rootPath: files, auth: {{ type: static, accessKeyID: test, \
                 secretAccessKey: test }} }}\nbackup: {{ storage: {{ rootPath: backup }} }}\n"
            )
        };
        let text = match storage {
            Storage::In(_, bucket) => of_bucket(bucket),
            Storage::S3 | Storage::At(_) => of_bucket("milvus"),
            Storage::Folder => format!(
                "milvus: {{ address: 127.0.0.1, port: 19530 }}\nminio: {{ storageType: local, rootPath: \
                 {root}/milvus/objects, backupRootPath: {root}/backup }}\n"
            ),
        };
        std::fs::write(&config, text)?;
        Ok(World { dir, place, milvus, store, config })
    }

    /// Every row of all collections.
    fn digest(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.milvus.python("salvage_session.py", &["digest", "numbers", "texts", "keyed"])?)?)
    }

    /// Runs the tool; exit code, what it answered and what it said.
    fn run(&self, args: &[&str]) -> Result<(i32, String, String)> {
        milvus_backup(&self.place, self.dir.path(), &self.config, args, PATIENCE)
    }

    fn tool(&self, args: &[&str]) -> Result<String> {
        let (code, out, err) = self.run(args)?;
        println!("{args:?}\n{out}{err}");
        ensure!(code == 0, "{args:?}: exit {code}\n{out}\n{err}");
        Ok(out)
    }

    /// It refuses with an error that says what to do next.
    fn refused(&self, args: &[&str]) -> Result<String> {
        let (code, out, err) = self.run(args)?;
        ensure!(code == 1 && out.is_empty() && err.contains("Next:"), "{args:?}: exit {code}\n{out}\n{err}");
        Ok(err)
    }
}

/// All files below a folder, with their lengths.
fn lengths(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return files };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(lengths(&path));
        } else if let Ok(meta) = entry.metadata() {
            files.insert(path, meta.len());
        }
    }
    files
}
