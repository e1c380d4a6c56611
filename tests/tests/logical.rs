//! `milvus-backup` as a person uses it, on a real Milvus: collections of every kind are backed up, restored beside the old ones
//! and in their place, and compared row by row; a restore that Milvus would call completed is not believed; leftovers, damage and
//! mistakes are named.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyrie_tests::backup::milvus_backup;
use eyrie_tests::binaries::Program;
use eyrie_tests::milvus::{Milvus, Storage};
use eyrie_tests::place::Place;
use eyrie_tests::store::{Setup, Store};
use eyrie_tests::verdict::Verdict;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(240);
const ALL: [&str; 4] = ["default.birds", "default.keyed", "aviary.nests", "default.empty"];

#[test]
fn collections_come_back_as_they_were_from_a_folder() -> Verdict {
    Ok(round_trip(Storage::Folder)?)
}

#[test]
fn collections_come_back_as_they_were_from_s3() -> Verdict {
    Ok(round_trip(Storage::S3)?)
}

fn round_trip(storage: Storage) -> Result<()> {
    let world = World::begin(storage)?;
    world.session(&["fill"])?;
    let before = world.digest("", &ALL)?;
    ensure!(before["birds"]["rows"] == 2054, "birds: {before:#}");
    ensure!(before["keyed"]["partitions"].as_array().map(Vec::len) == Some(2), "{before:#}");

    // as the seeds type it
    let created = world.tool(&["create", "-n", "first", "-w", "json"])?;
    let created = last_json(&created)?;
    ensure!(created["event"] == "created" && created["collections"] == 4, "{created:#}");
    if storage == Storage::S3 {
        let denied = world.refused(&["check", "--set", "milvus.password=wrong"])?;
        ensure!(denied.contains("check milvus.user and milvus.password") && !denied.contains("wrong"), "{denied}");
    }
    let list = world.tool(&["list"])?;
    ensure!(list.contains("first") && list.contains("complete"), "{list}");
    let verified = last_json(&world.tool(&["verify", "-n", "first", "-w", "json"])?)?;
    ensure!(verified["faults"].as_array().is_some_and(Vec::is_empty), "{verified:#}");
    let after = world.digest("", &ALL)?;
    ensure!(after == before, "the backup changed what it backed up:\n{after:#}\n{before:#}");

    // beside the old ones, under another name
    let plan = world.tool(&["restore", "-n", "first", "-s", "_r", "--rebuild_index", "--dry-run"])?;
    ensure!(plan.matches("would create").count() == 4, "{plan}");
    ensure!(world.names()?.len() == 4, "a dry run made something");
    let restored = last_json(&world.tool(&["restore", "-n", "first", "-s", "_r", "--rebuild_index", "-w", "json"])?)?;
    ensure!(restored["failed"].as_array().is_some_and(Vec::is_empty), "{restored:#}");
    let names: Vec<String> = ALL.iter().map(|name| format!("{name}_r")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    same(&world.digest("_r", &names)?, &before)?;

    // names that are taken are refused with nothing changed, and replaced where that is wanted
    let refused = world.refused(&["restore", "-n", "first"])?;
    ensure!(refused.contains("already") && refused.contains("--drop_exist_collection"), "{refused}");
    if storage == Storage::Folder {
        world.session(&["drop", "default.birds"])?;
        let restored = world.tool(&["restore", "-n", "first", "--rebuild_index", "--filter", "birds"])?;
        ensure!(restored.contains("default.birds is restored: "), "{restored}");
        let birds = serde_json::json!({ "birds": before["birds"] });
        same(&world.digest("", &["default.birds"])?, &birds)?;
        mistakes(&world)?;
    }
    world.tool(&["delete", "-n", "first"])?;
    let list = world.tool(&["list"])?;
    ensure!(list.contains("no backup"), "{list}");
    let left = walk(&world.dir.path().join("backup"));
    ensure!(storage == Storage::S3 || left.is_empty(), "delete left {left:?}");
    Ok(())
}

/// What people do wrong, and what breaks.
fn mistakes(world: &World) -> Result<()> {
    let missing = world.refused(&["create", "-n", "second", "--filter", "nowhere"])?;
    ensure!(missing.contains("default.nowhere") && missing.contains("Next:"), "{missing}");
    let taken = world.refused(&["create", "-n", "first"])?;
    ensure!(taken.contains("there is a backup first"), "{taken}");
    let name = world.refused(&["create", "-n", "1-bad"])?;
    ensure!(name.contains("can't be the name of a backup"), "{name}");
    let away = world.refused(&["check", "--set", "milvus.port=19999"])?;
    ensure!(away.contains("can't be reached") && away.contains("milvus.address"), "{away}");
    let nothing = world.refused(&["restore", "-n", "nothing", "-s", "_x"])?;
    ensure!(nothing.contains("there is no backup nothing"), "{nothing}");

    // a collection that is there with another schema takes no rows
    let conflict = world.tool_fails(&[
        "restore",
        "-n",
        "first",
        "-r",
        "birds:keyed",
        "-c",
        "birds",
        "--skip_create_collection",
    ])?;
    ensure!(conflict.contains("another schema"), "{conflict}");

    // one log cut short: named before anything is made; the other collections can be had
    let folder = world.dir.path().join("backup/first");
    let birds: Value = serde_json::from_str(&world.tool(&["get", "-n", "first", "-w", "json"])?)?;
    let birds = birds["collection_backups"].as_array().context("collections")?.clone();
    let birds = birds.iter().find(|c| c["collection_name"] == "birds").context("birds")?["collection_id"].clone();
    let logs = walk(&folder.join(format!("binlogs/insert_log/{birds}")));
    let log = logs.first().context("a log")?;
    let bytes = std::fs::read(log)?;
    std::fs::write(log, &bytes[..bytes.len() - 1])?;
    let damaged = world.refused(&["restore", "-n", "first", "-s", "_d"])?;
    ensure!(damaged.contains("bytes instead of") && damaged.contains("nothing was changed"), "{damaged}");
    ensure!(
        world.tool_fails(&["verify", "-n", "first", "--quick"])?.contains("NOT sound"),
        "verify did not see the cut"
    );
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(log, &flipped)?;
    ensure!(
        world.tool_fails(&["verify", "-n", "first"])?.contains("not what was written"),
        "verify did not see the flip"
    );
    std::fs::write(log, &bytes)?;
    ensure!(world.tool(&["verify", "-n", "first"])?.contains("is sound"), "the backup is whole again");

    // a Milvus that can't see the backup's folder completes an import of nothing: that is no success
    let moved = world.dir.path().join("elsewhere");
    std::fs::create_dir_all(&moved)?;
    std::fs::rename(&folder, moved.join("first"))?;
    let gone = world.refused(&["restore", "-n", "first", "-s", "_g"])?;
    ensure!(gone.contains("there is no backup first"), "{gone}");
    std::fs::rename(moved.join("first"), &folder)?;

    // the marker is what makes it a backup, and the same create goes on with what is there
    let only = ["create", "-n", "second", "--filter", "keyed,aviary.nests", "-w", "json"];
    let first = last_json(&world.tool(&only)?)?;
    let marker = world.dir.path().join("backup/second/meta/backup_meta.json");
    std::fs::remove_file(&marker)?;
    let list = world.tool(&["list"])?;
    ensure!(list.contains("incomplete") && list.contains("was not finished"), "{list}");
    let again = last_json(&world.tool(&only)?)?;
    ensure!(again["objects_copied"] == 0 && again["objects_kept"] == first["objects_copied"], "{again:#}\n{first:#}");
    ensure!(world.tool(&["verify", "-n", "second"])?.contains("is sound"), "the finished backup is not sound");

    // rows that the newest backup has are not copied again
    let third = last_json(&world.tool(&["create", "-n", "third", "--incremental", "-w", "json"])?)?;
    ensure!(third["objects_held"].as_u64() > Some(20), "{third:#}");
    let needed = world.refused(&["delete", "-n", "second"])?;
    ensure!(needed.contains("holds logs of third"), "{needed}");
    world.tool(&["restore", "-n", "third", "-c", "keyed", "-s", "_t", "--rebuild_index"])?;
    same(&world.digest("_t", &["default.keyed_t"])?, &world.digest("", &["default.keyed"])?)?;
    world.tool(&["delete", "-n", "third"])?;
    world.tool(&["delete", "-n", "second"])?;
    Ok(())
}

/// An etcd, a Milvus on it, and a configuration for the tool, in a network of their own.
struct World {
    dir: tempfile::TempDir,
    place: Place,
    milvus: Milvus,
    _store: Store,
    config: PathBuf,
}

impl World {
    fn begin(storage: Storage) -> Result<World> {
        let dir = tempfile::tempdir()?;
        let place = Place::apart()?;
        let mut setup = Setup::new(&Program::upstream()?, dir.path())?;
        setup.place = place.clone();
        let store = setup.start()?;
        let milvus = Milvus::start_on(&dir.path().join("milvus"), &place, &setup.endpoint(), storage)?;
        let config = dir.path().join("backup.yaml");
        let root = dir.path().display();
        let text = match storage {
            Storage::Folder => format!(
                "milvus: {{ address: 127.0.0.1, port: 19530 }}\nminio: {{ storageType: local, rootPath: {root}/milvus/objects, \
                 backupRootPath: {root}/backup }}\nbackup: {{ gcPause: {{ address: 'http://127.0.0.1:19539' }} }}\n"
            ),
            Storage::S3 | Storage::At(_) => "configVersion: v2\nmilvus:\n  user: root\n  password: Milvus\n  grpc: { address: 127.0.0.1 }\n  management: { endpoint: \
                            'http://127.0.0.1:19539' }\n  storage: { provider: minio, address: 127.0.0.1, port: 19900, bucketName: \
                            a-bucket, rootPath: files }\nbackup: { storage: { rootPath: backup } }\n"
                .to_owned(),
        };
        std::fs::write(&config, text)?;
        Ok(World { dir, place, milvus, _store: store, config })
    }

    /// A session of the Python client; its last line.
    fn session(&self, args: &[&str]) -> Result<String> {
        self.milvus.python("logical_session.py", args)
    }

    fn digest(&self, suffix: &str, names: &[&str]) -> Result<Value> {
        let said = self.session(&[&["digest", suffix][..], names].concat())?;
        Ok(serde_json::from_str(&said)?)
    }

    fn names(&self) -> Result<Vec<String>> {
        Ok(serde_json::from_str(&self.session(&["list"])?)?)
    }

    /// Runs the tool; exit code, what it answered and what it said.
    fn run(&self, args: &[&str]) -> Result<(i32, String, String)> {
        milvus_backup(&self.place, self.dir.path(), &self.config, args, PATIENCE)
    }

    fn tool(&self, args: &[&str]) -> Result<String> {
        let (code, out, err) = self.run(args)?;
        ensure!(code == 0, "{args:?}: exit {code}\n{out}\n{err}");
        println!("{args:?}\n{out}{err}");
        Ok(out)
    }

    /// Something is wrong with what it looked at, and its answer says so.
    fn tool_fails(&self, args: &[&str]) -> Result<String> {
        let (code, out, err) = self.run(args)?;
        ensure!(code == 1, "{args:?}: exit {code} instead of 1\n{out}\n{err}");
        Ok(out + &err)
    }

    /// It refuses with an error that says what to do next.
    fn refused(&self, args: &[&str]) -> Result<String> {
        let (code, out, err) = self.run(args)?;
        ensure!(code == 1 && out.is_empty() && err.contains("Next:"), "{args:?}: exit {code}\n{out}\n{err}");
        Ok(err)
    }
}

fn same(found: &Value, wanted: &Value) -> Result<()> {
    for (name, wanted) in wanted.as_object().context("an object")? {
        for (what, wanted) in wanted.as_object().context("an object")? {
            let found = &found[name][what];
            ensure!(found == wanted, "{name}, {what}: {found} instead of {wanted}");
        }
    }
    Ok(())
}

fn last_json(said: &str) -> Result<Value> {
    let line = said.lines().last().context("no answer")?;
    serde_json::from_str(line).with_context(|| line.to_owned())
}

/// All files below a folder.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return files };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}
