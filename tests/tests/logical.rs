//! `milvus-backup` as a person uses it, on a real Milvus: collections of every kind are backed up, restored beside the old ones
//! and in their place, and compared row by row; a restore that Milvus would call completed is not believed; leftovers, damage and
//! mistakes are named.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyrie_tests::backup::milvus_backup;
use eyrie_tests::binaries::Program;
use eyrie_tests::certificates::{Authority, Says};
use eyrie_tests::milvus::{Milvus, Storage};
use eyrie_tests::place::Place;
use eyrie_tests::store::{Setup, Store, bounded};
use eyrie_tests::verdict::Verdict;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(240);
const ALL: [&str; 5] = ["default.birds", "default.keyed", "default.again", "aviary.nests", "default.empty"];

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

    let roles = world.session(&["rbac", "make"])?;
    ensure!(roles.contains("keeper") && roles.contains("warden"), "{roles}");

    // as the seeds type it
    let created = world.tool(&["create", "-n", "first", "--rbac", "-w", "json"])?;
    let created = last_json(&created)?;
    ensure!(created["event"] == "created" && created["collections"] == 5, "{created:#}");
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
    ensure!(plan.matches("would create").count() == 5, "{plan}");
    ensure!(world.names()?.len() == 5, "a dry run made something");
    let restored = last_json(&world.tool(&["restore", "-n", "first", "-s", "_r", "--rebuild_index", "-w", "json"])?)?;
    ensure!(restored["failed"].as_array().is_some_and(Vec::is_empty), "{restored:#}");
    let names: Vec<String> = ALL.iter().map(|name| format!("{name}_r")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    same(&world.digest("_r", &names)?, &before)?;
    all_turns(&world.milvus, "default.again_r")?;

    // names that are taken are refused with nothing changed
    let refused = world.refused(&["restore", "-n", "first"])?;
    ensure!(refused.contains("already") && refused.contains("--drop_exist_collection"), "{refused}");

    // under their own names, when they are gone, with the second database and the roles
    world.session(&[&["drop"], &names[..]].concat())?;
    world.session(&["forget"])?;
    let dropped = world.session(&["rbac", "drop"])?;
    ensure!(!dropped.contains("keeper"), "{dropped}");
    let restored = world.tool(&["restore", "-n", "first", "--rebuild_index", "--rbac"])?;
    ensure!(restored.contains("default.birds is restored: "), "{restored}");
    same(&world.digest("", &ALL)?, &before)?;
    all_turns(&world.milvus, "default.again")?;
    ensure!(world.session(&["aliases", "default.birds"])? == r#"["fowl"]"#, "its alias is not back");
    let found = world.session(&["rbac", "show"])?;
    // This Milvus tells nobody a password: its users stay, and get their roles back.
    ensure!(found == roles, "{found}\ninstead of\n{roles}");
    if storage == Storage::Folder {
        mistakes(&world)?;
        by_schedule(&world, &before)?;
        sealed(&world, &before)?;
    }
    world.tool(&["delete", "-n", "first"])?;
    let list = world.tool(&["list"])?;
    ensure!(list.contains("no backup"), "{list}");
    let left = walk(&world.dir.path().join("backup"));
    ensure!(storage == Storage::S3 || left.is_empty(), "delete left {left:?}");
    let written = walk(&world.dir.path().join("milvus/objects")).into_iter();
    let written: Vec<_> = written.filter(|path| path.to_string_lossy().contains("restore-temp-")).collect();
    ensure!(written.is_empty(), "logs that were written anew are left: {written:?}");
    Ok(())
}

/// The agent takes logical backups by itself, and deletes old ones; what it took comes back.
fn by_schedule(world: &World, before: &Value) -> Result<()> {
    let root = world.dir.path();
    let settings = root.join("eyrie.yaml");
    let text = format!(
        "source: {{ endpoints: ['http://{}'] }}\narchive: {{ url: 'file://{root}/archive' }}\nstate: {root}/state\n\
         agent: {{ listen: '127.0.0.1:19801', logical: '*/5 * * * * *' }}\n\
         logical: {{ config: {config}, prefix: nightly, filter: 'keyed,again', keep-last: 1, keep: 1s }}\n",
        world._store.endpoint(),
        root = root.display(),
        config = world.config.display()
    );
    std::fs::write(&settings, text)?;
    let eyrie = Program::under_test()?.serve.first().context("a program")?.clone();
    let log = root.join("agent.log");
    let mut agent = world.place.command(&eyrie);
    agent.arg("agent").arg("--config").arg(&settings).stdin(Stdio::null());
    let mut agent = agent.stdout(Stdio::null()).stderr(std::fs::File::create(&log)?).spawn()?;
    let nightly = || -> Result<Vec<String>> {
        let (_, said, _) = world.run(&["list", "-w", "json"])?;
        let listed: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let names = listed.iter().filter(|one| one["state"] == "complete").filter_map(|one| one["name"].as_str());
        Ok(names.filter(|name| name.starts_with("nightly_")).map(str::to_owned).collect())
    };
    // Two were there, one after the other, and the older one is gone.
    let mut seen = std::collections::BTreeSet::new();
    let kept = eyrie_tests::place::wait_until(Duration::from_secs(60), || {
        let now = nightly().unwrap_or_default();
        seen.extend(now.iter().cloned());
        agent.try_wait().is_ok_and(|ended| ended.is_some()) || (seen.len() >= 2 && now.len() == 1)
    });
    let alive = agent.try_wait()?.is_none();
    agent.kill()?;
    agent.wait()?;
    let said = std::fs::read_to_string(&log)?;
    ensure!(kept && alive, "{seen:?} were seen; the agent said\n{said}");
    let name = nightly()?.pop().with_context(|| format!("no backup of the agent is left\n{said}"))?;
    let mut list = world.place.command(&eyrie);
    list.args(["backup", "list", "--config"]).arg(&settings).stdin(Stdio::null());
    let list = bounded(list.stdout(Stdio::piped()).stderr(Stdio::piped()), PATIENCE)?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    ensure!(list.contains(&name), "eyrie backup list does not name {name}:\n{list}");
    world.tool(&["restore", "-n", &name, "-s", "_n", "--rebuild_index"])?;
    same(&world.digest("_n", &["default.keyed_n"])?, &serde_json::json!({ "keyed": before["keyed"] }))?;
    all_turns(&world.milvus, "default.again_n")?;
    for listed in nightly()? {
        world.tool(&["delete", "-n", &listed])?;
    }
    Ok(())
}

/// A sealed backup comes back with its key, also rows that Milvus gets as new logs, and not without.
fn sealed(world: &World, before: &Value) -> Result<()> {
    let key = world.dir.path().join("key");
    let key = key.to_str().context("a path")?;
    let mut keygen = world.place.command(&Program::under_test()?.serve[0]);
    keygen.args(["backup", "keygen", key]).stdin(Stdio::null());
    let made = bounded(keygen.stdout(Stdio::piped()).stderr(Stdio::piped()), PATIENCE)?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made = String::from_utf8(made.stdout)?;
    let public = made.split_whitespace().next().context("a public key")?;
    world.tool(&["create", "-n", "sealed", "--filter", "keyed,again", "--recipient", public])?;
    let refused = world.refused(&["restore", "-n", "sealed", "-s", "_z"])?;
    ensure!(refused.contains("--identity"), "{refused}");
    world.tool(&["restore", "-n", "sealed", "-s", "_z", "--rebuild_index", "--identity", key])?;
    same(&world.digest("_z", &["default.keyed_z"])?, &serde_json::json!({ "keyed": before["keyed"] }))?;
    all_turns(&world.milvus, "default.again_z")?;
    world.tool(&["delete", "-n", "sealed"])?;
    Ok(())
}

/// From one Milvus to another that is empty: by one command, which is killed on its way and typed once more.
#[test]
fn collections_move_to_another_milvus() -> Verdict {
    Ok(moves()?)
}

fn moves() -> Result<()> {
    let world = World::begin(Storage::Folder)?;
    let root = world.dir.path();
    let other = Milvus::start_beside(&root.join("other"), &world.place, &world._store.endpoint())?;
    let digest = |suffix: &str, names: &[&str]| -> Result<Value> {
        let said = other.python("logical_session.py", &[&["digest", suffix][..], names].concat())?;
        Ok(serde_json::from_str(&said)?)
    };
    let to = root.join("to.yaml");
    let text = format!(
        "milvus: {{ address: 127.0.0.1, port: 19630 }}\nminio: {{ storageType: local, rootPath: {root}/other/objects, \
         backupRootPath: {root}/other-backup }}\nbackup: {{ gcPause: {{ address: 'http://127.0.0.1:19639' }} }}\n",
        root = root.display()
    );
    std::fs::write(&to, text)?;
    let to = to.to_str().context("a path")?;
    world.session(&["fill"])?;
    let before = world.digest("", &ALL)?;
    let nowhere = world.refused(&["move"])?;
    ensure!(nowhere.contains("--to-config"), "{nowhere}");
    let plan = world.tool(&["move", "--to-config", to, "-s", "_m", "--dry-run"])?;
    ensure!(plan.contains("default.birds to default.birds_m"), "{plan}");

    // killed when the rows are on their way, and typed once more
    let kill = world.dir.path().join("other-backup");
    let mut child = world.command(&["move", "--to-config", to])?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let began = std::time::Instant::now();
    while !walk(&kill).iter().any(|path| path.ends_with("meta/backup_meta.json")) {
        ensure!(began.elapsed() < PATIENCE && child.try_wait()?.is_none(), "it ended too early, or never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    child.kill()?;
    child.wait()?;
    let (code, out, err) = world.run(&["move", "--to-config", to, "-w", "json"])?;
    let out = match code {
        0 => out,
        // It was killed just as it handed a segment over: it says so, and what to type.
        _ => {
            ensure!(out.contains("is not known"), "exit {code}\n{out}\n{err}");
            world.tool(&["move", "--to-config", to, "--drop_exist_collection", "-w", "json"])?
        }
    };
    let moved = last_json(&out)?;
    ensure!(moved["backup_kept"] == false && moved["done"].as_array().map(Vec::len) == Some(5), "{moved:#}");
    let compared = moved["compared"].as_array().context("compared")?;
    let birds = compared.iter().find(|one| one["source"] == "default.birds").context("birds")?;
    ensure!(birds["target_rows"] == 2054 && birds["source_rows"] == 2054, "{birds:#}");
    same(&digest("", &ALL)?, &before)?;
    all_turns(&other, "default.again")?;
    ensure!(world.digest("", &ALL)? == before, "the source is not what it was");
    ensure!(walk(&kill).is_empty(), "the backup in between is left");
    let again = world.refused(&["move", "--to-config", to])?;
    ensure!(again.contains("already") && again.contains("nothing was changed"), "{again}");
    Ok(())
}

/// The REST interface with a certificate: who trusts its authority is served, who speaks in the clear is not.
#[test]
fn the_rest_interface_speaks_tls() -> Verdict {
    Ok(encrypted()?)
}

fn encrypted() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let place = Place::apart()?;
    let authority = Authority::new(&dir.path().join("ca"))?;
    let pair = authority.issue("server", Says::named("server"))?;
    let root = dir.path().join("backup");
    std::fs::create_dir_all(&root)?;
    let eyrie = Program::under_test()?.serve.first().context("a program")?.clone();
    let mut server = place.command(eyrie);
    server.args(["milvus-backup", "server", "-p", "8443", "--tls-cert", pair.cert(), "--tls-key", pair.key()]);
    server
        .args(["--set", "milvus.storage.provider=local", "--set"])
        .arg(format!("backup.storage.rootPath={}", root.display()));
    let mut server =
        server.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let curl = |args: &[&str]| {
        let mut c = place.command("curl");
        c.args(["-sS", "--noproxy", "*", "--max-time", "10"]).args(args).stdin(Stdio::null());
        bounded(c.stdout(Stdio::piped()).stderr(Stdio::piped()), PATIENCE)
    };
    let ca = authority.certificate();
    let ca = ca.to_str().context("a path")?;
    let began = std::time::Instant::now();
    let outcome = loop {
        let answer = curl(&["--cacert", ca, "https://127.0.0.1:8443/api/v1/list"])?;
        if answer.status.success() || began.elapsed() > Duration::from_secs(30) {
            break answer;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let listed = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let strange = curl(&["https://127.0.0.1:8443/api/v1/list"]);
    let clear = curl(&["http://127.0.0.1:8443/api/v1/list"]);
    server.kill()?;
    server.wait()?;
    ensure!(listed.contains("\"code\":0"), "{listed} {}", String::from_utf8_lossy(&outcome.stderr));
    ensure!(!strange?.status.success(), "a stranger's certificate was believed");
    ensure!(!clear?.status.success(), "it answered in the clear");
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
                "milvus: {{ address: 127.0.0.1, port: 19530, user: root, password: Milvus }}\nminio: {{ storageType: local, rootPath: \
                 {root}/milvus/objects, backupRootPath: {root}/backup }}\nbackup: {{ gcPause: {{ address: 'http://127.0.0.1:19539' }} }}\n"
            ),
            Storage::S3 | Storage::At(_) | Storage::In(..) => "configVersion: v2\nmilvus:\n  user: root\n  password: Milvus\n  grpc: { address: 127.0.0.1 }\n  management: { endpoint: \
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

    /// The tool with its configuration.
    fn command(&self, args: &[&str]) -> Result<Command> {
        let eyrie = Program::under_test()?.serve.first().context("a program")?.clone();
        let mut c = self.place.command(eyrie);
        c.arg("milvus-backup").args(args).arg("--config").arg(&self.config);
        c.current_dir(self.dir.path()).stdin(Stdio::null());
        Ok(c)
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

/// Every row that was deleted or replaced and written again is there in its last writing, and no other.
fn all_turns(milvus: &Milvus, name: &str) -> Result<()> {
    let said = milvus.python("logical_session.py", &["turns", name])?;
    let right = r#"{"missing or old": {}, "too many": [], "rows": 150}"#;
    ensure!(said == right, "{name}: {said}");
    Ok(())
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
