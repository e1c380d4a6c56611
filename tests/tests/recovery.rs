//! The way back, with real parts: upstream etcd, Eyrie and Milvus are lost, and `eyrie backup restore` brings them back as
//! they were at a chosen moment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use eyrie_tests::backup::{Backup, Tail};
use eyrie_tests::binaries::Program;
use eyrie_tests::milvus::{Milvus, Storage};
use eyrie_tests::moto::Moto;
use eyrie_tests::place::{Place, wait_until};
use eyrie_tests::ports;
use eyrie_tests::store::{Setup, Store};
use eyrie_tests::verdict::Verdict;
use serde_json::Value;

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// Moments of Milvus's life that come back in the long form, for each source.
const MOMENTS_LONG: usize = 10;

#[test]
fn any_revision_of_upstream_comes_back() -> Verdict {
    Ok(revisions(&Program::upstream()?)?)
}

#[test]
fn any_revision_of_eyrie_comes_back() -> Verdict {
    Ok(revisions(&Program::under_test()?)?)
}

/// Writes go on while the backup follows; what each revision was is asked from the source itself, and compared with what
/// Eyrie and upstream's etcd serve after a restore.
fn revisions(source: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Setup::new(source, dir.path())?.start()?;
    let archive = Archive::new(dir.path(), &Place::Host);
    store.etcdctl_ok(&["put", "first", "1"])?;
    let mut tail = archive.tail(&[&format!("--etcd=http://{}", store.endpoint())])?;
    tail.wait("full_taken", |_| true)?;
    let lease = store.etcdctl_ok(&["lease", "grant", "3600"])?;
    let lease = lease.split_whitespace().nth(1).context("a lease")?.to_owned();
    let mut recorded = Vec::new();
    for n in 0..40 {
        store.etcdctl_ok(&["put", &format!("key-{}", n % 9), &format!("value-{n}")])?;
        match n % 5 {
            3 => drop(store.etcdctl_ok(&["del", &format!("key-{}", n % 9)])?),
            4 => drop(store.etcdctl_ok(&["put", "leased", &n.to_string(), "--lease", &lease])?),
            _ => {}
        }
        if n % 8 == 5 {
            let revision = revision(&store)?;
            recorded.push((revision, keys_of(&store, revision)?));
        }
    }
    let newest = recorded.last().context("revisions")?.0;
    tail.wait("recoverable", |news| news["revision"].as_i64() >= Some(newest))?;
    tail.stop()?;
    drop(store);
    for (at, (revision, keys)) in recorded.iter().enumerate() {
        let moment = revision.to_string();
        let data = dir.path().join(format!("eyrie-{at}"));
        let said = archive.restore(&["--at", &moment, "--data-dir", text(&data)])?;
        ensure!(said.contains(&format!("revision {revision} ")) && said.contains("eyrie serve"), "{said}");
        let program = Program::under_test()?;
        let restored = Setup { data: data.clone(), ..Setup::new(&program, dir.path())? }.start()?;
        ensure!(keys_of(&restored, 0)? == *keys, "Eyrie has other keys at revision {revision}");
        drop(restored);
        if at % 2 == 0 {
            let file = dir.path().join(format!("{at}.db"));
            archive.restore(&["--at", &moment, "--to", "etcd-snapshot", text(&file)])?;
            upstream_boots(dir.path(), &file, *revision, keys)?;
        }
    }
    let again = archive.restore(&["--at", "latest", "--data-dir", text(&dir.path().join("eyrie-0"))]);
    let why = again.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(why.contains("already holds a store"), "a data directory was written over: {why}");
    Ok(())
}

fn upstream_boots(dir: &Path, file: &Path, at: i64, keys: &Value) -> Result<()> {
    let program = Program::upstream()?;
    let data = dir.join(format!("upstream-{at}"));
    let utl = Command::new(&program.utl[0])
        .args(["snapshot", "restore", text(file), "--data-dir", text(&data)])
        .args(["--initial-cluster", "default=http://localhost:2380"])
        .args(["--initial-advertise-peer-urls", "http://localhost:2380"])
        .output()?;
    ensure!(utl.status.success(), "{}", String::from_utf8_lossy(&utl.stderr));
    let mut store = Setup { data, ..Setup::new(&program, dir)? }.start()?;
    ensure!(revision(&store)? == at, "upstream is at revision {} instead of {at}", revision(&store)?);
    ensure!(keys_of(&store, 0)? == *keys, "upstream has other keys at revision {at}");
    // it lives: it takes writes, and survives its own restart
    store.etcdctl_ok(&["put", "new", "1"])?;
    store.restart()?;
    ensure!(store.etcdctl_ok(&["get", "new", "--print-value-only"])?.trim() == "1", "a write is lost");
    ensure!(revision(&store)? == at + 1, "a write has another revision than the next one");
    Ok(())
}

#[test]
fn three_members_come_back_as_a_cluster() -> Verdict {
    Ok(three()?)
}

fn three() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let upstream = Program::upstream()?;
    let store = Setup::new(&upstream, dir.path())?.start()?;
    for n in 0..20 {
        store.etcdctl_ok(&["put", &format!("key-{n}"), "value"])?;
    }
    let archive = Archive::new(dir.path(), &Place::Host);
    archive.run("take", &[&format!("--etcd=http://{}", store.endpoint())])?;
    let keys = keys_of(&store, 0)?;
    drop(store);
    let program = Program::under_test()?;
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        let mut member = Setup::new(&program, dir.path())?;
        member.name = name.into();
        member.data = dir.path().join("cluster").join(name);
        member.log = dir.path().join(format!("{name}.log"));
        member.peer_port = ports::free()?;
        member.peer_url = format!("http://127.0.0.1:{}", member.peer_port);
        members.push(member);
    }
    let list: Vec<String> = members.iter().map(|member| format!("{}={}", member.name, member.peer_url)).collect();
    let list = list.join(",");
    let folder = dir.path().join("cluster");
    archive.restore(&["--data-dir", text(&folder), "--initial-cluster", &list])?;
    let mut stores = Vec::new();
    for member in &mut members {
        member.initial_cluster = list.clone();
        stores.push(member.spawn()?);
    }
    stores.iter_mut().try_for_each(Store::wait_ready)?;
    stores[0].etcdctl_ok(&["put", "after", "the restore"])?;
    for store in &stores {
        ensure!(store.etcdctl_ok(&["get", "after", "--print-value-only"])?.trim() == "the restore", "not one cluster");
        let listed = store.etcdctl_ok(&["member", "list"])?;
        ensure!(listed.lines().count() == 3, "{listed}");
        let served = keys_of(store, 0)?;
        let old: Vec<&Value> = served.as_array().context("keys")?.iter().filter(|kv| kv["key"] != "YWZ0ZXI=").collect();
        ensure!(
            old.len() == 20 && old.iter().all(|kv| keys.as_array().is_some_and(|keys| keys.contains(kv))),
            "{old:?}"
        );
    }
    // one of them is lost and the others go on: they are three, not one in three places
    stores[0].kill9()?;
    let lives = wait_until(PATIENCE, || stores[1].etcdctl(&["put", "more", "1"]).is_ok_and(|out| out.status.success()));
    ensure!(lives, "two of three do not go on");
    Ok(())
}

#[test]
fn killed_at_any_time_the_same_command_goes_on() -> Verdict {
    Ok(killed()?)
}

fn killed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut store = Setup::new(&Program::upstream()?, dir.path())?.start()?;
    let big = "x".repeat(2000);
    for n in 0..30 {
        store.etcdctl_ok(&["put", &format!("key-{n}"), &big])?;
    }
    let archive = Archive::new(dir.path(), &Place::Host);
    archive.run("take", &[&format!("--etcd=http://{}", store.endpoint())])?;
    let keys = keys_of(&store, 0)?;
    store.stop()?;
    let folder = dir.path().join("cluster");
    let ports = [ports::free()?, ports::free()?, ports::free()?];
    let list: Vec<String> =
        ["a", "b", "c"].iter().zip(ports).map(|(name, port)| format!("{name}=http://127.0.0.1:{port}")).collect();
    let list = list.join(",");
    let args = ["--data-dir", text(&folder), "--initial-cluster", &list, "--scratch", text(dir.path())];
    let mut deaths = 0;
    for pause in (5..).step_by(9) {
        let mut restore = archive.command("restore", &args)?;
        let mut restore = restore.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(pause));
        if let Some(status) = restore.try_wait()? {
            if !status.success() {
                let why = archive.restore(&args).err();
                bail!("after {deaths} deaths it does not go on: {status}: {why:?}");
            }
            break;
        }
        restore.kill()?;
        // it may have ended meanwhile, all done
        if restore.wait()?.success() {
            break;
        }
        deaths += 1;
        ensure!(pause < 60_000, "a restore of 30 keys takes a minute");
    }
    ensure!(deaths >= 3, "only {deaths} deaths: nothing was tried");
    let left =
        std::fs::read_dir(dir.path())?.flatten().find(|entry| entry.path().extension().is_some_and(|e| e == "db"));
    ensure!(left.is_none(), "a killed restore left a file with all keys: {left:?}");
    let done = Program::under_test()?;
    let mut stores = Vec::new();
    for (name, port) in ["a", "b", "c"].into_iter().zip(ports) {
        let mut member = Setup::new(&done, dir.path())?;
        (member.name, member.data) = (name.into(), folder.join(name));
        (member.peer_port, member.peer_url) = (port, format!("http://127.0.0.1:{port}"));
        (member.initial_cluster, member.log) = (list.clone(), dir.path().join(format!("{name}.log")));
        stores.push(member.spawn()?);
    }
    stores.iter_mut().try_for_each(Store::wait_ready)?;
    ensure!(keys_of(&stores[1], 0)? == keys, "the restored cluster has other keys");
    Ok(())
}

#[test]
fn what_a_person_types_wrong_changes_nothing() -> Verdict {
    Ok(refusals()?)
}

fn refusals() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Setup::new(&Program::upstream()?, dir.path())?.start()?;
    store.etcdctl_ok(&["put", "a", "1"])?;
    let archive = Archive::new(dir.path(), &Place::Host);
    archive.run("take", &[&format!("--etcd=http://{}", store.endpoint())])?;
    let newest = revision(&store)?;
    let full = dir.path().join("full");
    std::fs::create_dir(&full)?;
    std::fs::write(full.join("precious"), b"x")?;
    let new = dir.path().join("new");
    let (full, new_text) = (text(&full), text(&new));
    let later = (newest + 1000).to_string();
    let escape = "../outside=http://127.0.0.1:1,b=http://127.0.0.1:2";
    let cases: [(&[&str], &str); 8] = [
        (&["--data-dir", full], "not a data directory"),
        (&["--data-dir", new_text, "--at", &later], "--at latest"),
        (&["--data-dir", new_text, "--at", "2020-01-01T00:00:00Z"], "oldest moment"),
        (&["--data-dir", new_text, "--at", "yesterday"], "is no moment"),
        (&["--at", "latest"], "--data-dir NEW"),
        (&["--data-dir", new_text, "--initial-cluster", escape], "can't be one"),
        (&["--to", "etcd-snapshot", "/proc/no/such/file"], "can't"),
        (&["--data-dir", new_text, "--to-bucket", archive.address.trim_start_matches("file://")], "lie in each other"),
    ];
    for (args, why) in cases {
        let out = archive.output("restore", args)?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(out.status.code() == Some(2) || why == "can't", "{args:?} ended with {}: {said}", out.status);
        ensure!(!out.status.success() && said.contains(why), "{args:?}: {said}");
    }
    ensure!(!new.exists() && !dir.path().join("outside").exists(), "a refused restore has written something");
    // a plan is only a plan
    let plan = archive.output("restore", &["--data-dir", new_text, "--dry-run", "--output", "json"])?;
    let plan: Value = serde_json::from_slice(&plan.stdout)?;
    ensure!(plan["plan"]["revision"].as_i64() == Some(newest) && !new.exists(), "{plan:#}");
    Ok(())
}

#[test]
fn a_drill_says_what_a_restore_would_bring() -> Verdict {
    Ok(drill()?)
}

fn drill() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Setup::new(&Program::upstream()?, dir.path())?.start()?;
    for n in 0..50 {
        store.etcdctl_ok(&["put", &format!("key-{n}"), "value"])?;
    }
    let archive = Archive::new(dir.path(), &Place::Host);
    archive.run("take", &[&format!("--etcd=http://{}", store.endpoint())])?;
    let scratch = dir.path().join("scratch");
    std::fs::create_dir(&scratch)?;
    let etcdctl = Program::upstream()?.ctl[0].to_string_lossy().into_owned();
    let command = format!("test \"$({etcdctl} get key-7 --print-value-only)\" = value && echo \"saw $EYRIE_REVISION\"");
    let common = ["--scratch", text(&scratch), "--output", "json"];
    let out = archive.output("drill", &[&common[..], &["--command", &command]].concat())?;
    let answer: Value = serde_json::from_slice(&out.stdout).with_context(|| format!("{out:?}"))?;
    let report = &answer["report"];
    ensure!(out.status.success() && report["ok"] == true, "{answer:#}");
    ensure!(report["digest"]["keys"] == 50 && report["rto_ms"].as_u64() > Some(0), "{report:#}");
    ensure!(report["command"]["output"].as_str().is_some_and(|said| said.starts_with("saw ")), "{report:#}");
    ensure!(answer["not_recorded"].is_null(), "{answer:#}");
    let list: Value = serde_json::from_slice(&archive.output("list", &["--output", "json"])?.stdout)?;
    ensure!(!list["fulls"][0]["verified"].is_null(), "the drill is not in the catalogue: {list:#}");
    let failed = archive.output("drill", &[&common[..], &["--command", "echo no; exit 3"]].concat())?;
    let answer: Value = serde_json::from_slice(&failed.stdout)?;
    ensure!(failed.status.code() == Some(1), "{answer:#}");
    ensure!(answer["report"]["wrong"][0].as_str().is_some_and(|wrong| wrong.contains("ended with 3")), "{answer:#}");
    // an archive that lost a file can't be restored, and the drill is where that is seen
    let file = newest_full(&dir.path().join("archive"))?;
    std::fs::write(&file, b"something else")?;
    let broken = archive.output("drill", &common)?;
    let answer: Value = serde_json::from_slice(&broken.stdout)?;
    ensure!(broken.status.code() == Some(1) && answer["report"]["ok"] == false, "{answer:#}");
    ensure!(std::fs::read_dir(&scratch)?.next().is_none(), "a drill left something in its scratch folder");
    Ok(())
}

fn newest_full(archive: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(archive.join("full/0001"))? {
        found.push(entry?.path());
    }
    found.sort();
    found.pop().context("a full")
}

#[test]
fn milvus_on_upstream_comes_back_after_all_is_lost() -> Verdict {
    Ok(disaster(&Program::upstream()?, false, &[3])?)
}

#[test]
fn milvus_on_eyrie_comes_back_after_all_is_lost() -> Verdict {
    Ok(disaster(&Program::under_test()?, true, &[1])?)
}

/// One step in the life of a Milvus, and what every collection is afterwards as far as it was flushed.
struct Moment {
    step: String,
    revision: i64,
    at_ms: u64,
    state: String,
}

/// What happens in a life; each step is followed by a moment that can come back.
const STEPS: [(&str, &str); 6] = [
    ("create", "birds"),
    ("more", "birds"),
    ("create", "fish"),
    ("unflushed", "birds"),
    ("compact", "birds"),
    ("drop", "fish"),
];

/// A life of Milvus with the backup beside it, its end, and the way back. `on_s3`: its objects are in a bucket, and so is
/// the archive; else in folders.
fn disaster(source: &Program, on_s3: bool, in_ci: &[usize]) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let place = Place::apart()?;
    let mut setup = Setup::new(source, dir.path())?;
    setup.place = place.clone();
    let store = setup.start()?;
    let mut archive = Archive::new(dir.path(), &place);
    let home = dir.path().join("milvus");
    let s3 = if on_s3 { Some([S3_PORT, S3_PORT + 1].map(|port| Moto::start(dir.path(), &place, port))) } else { None };
    let s3 = s3.map(|[a, b]| Ok::<_, anyhow::Error>((a?, b?))).transpose()?;
    let (mut storage, mut objects) = (Storage::Folder, format!("file://{}", home.join("objects").display()));
    if let Some((milvus_s3, archive_s3)) = &s3 {
        archive_s3.bucket("archive")?;
        archive.address = "s3://archive/of/milvus".into();
        archive.eyrie.environment(archive_s3.environment());
        storage = Storage::At(milvus_s3.port);
        objects = "s3://milvus".into();
        archive.milvus_settings(dir.path(), milvus_s3)?;
    }
    let mut milvus = Milvus::start_on(&home, &place, &setup.endpoint(), storage)?;
    let from = archive.source_flags(&setup.endpoint(), &objects)?;
    let mut tail = archive.tail(&from.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut moments: Vec<Moment> = Vec::new();
    for (what, name) in STEPS {
        milvus.session(what, name)?;
        // rows that were not flushed are not in any collection that comes back
        let state = match (what, moments.last()) {
            ("unflushed" | "compact", Some(before)) => before.state.clone(),
            ("drop", Some(before)) => without(&before.state, name)?,
            _ => milvus.session("state", "any")?,
        };
        let revision = revision(&store)?;
        let at_ms = now_ms()?;
        tail.wait("recoverable", |news| news["revision"].as_i64() >= Some(revision))?;
        moments.push(Moment { step: format!("{what} {name}"), revision, at_ms, state });
    }
    // everything is lost
    milvus.kill9()?;
    tail.kill();
    drop(store);
    std::fs::remove_dir_all(&setup.data)?;
    std::fs::remove_dir_all(&home)?;
    let mut s3 = s3;
    let chosen: Vec<usize> = match std::env::var_os("EYRIE_LONG") {
        Some(_) => (0..MOMENTS_LONG).map(|n| n % moments.len()).collect(),
        None => in_ci.to_vec(),
    };
    for (round, at) in chosen.into_iter().enumerate() {
        let moment = &moments[at];
        let new = dir.path().join(format!("new-{round}"));
        std::fs::create_dir(&new)?;
        let mut storage = Storage::Folder;
        if let Some((milvus_s3, _)) = &mut s3 {
            // with its process its memory goes, and all that was in it
            let port = milvus_s3.port + 2;
            *milvus_s3 = Moto::start(&new, &place, port)?;
            milvus_s3.bucket("milvus")?;
            archive.milvus_settings(dir.path(), milvus_s3)?;
            storage = Storage::At(port);
        }
        let by_time = round % 2 == 1;
        comes_back(&archive, &place, &new, storage, moment, by_time)
            .with_context(|| format!("after {}", moment.step))?;
    }
    Ok(())
}

/// Ports within the namespace, where nobody else is.
const S3_PORT: u16 = 9000;

fn comes_back(
    archive: &Archive,
    place: &Place,
    new: &Path,
    storage: Storage,
    moment: &Moment,
    by_time: bool,
) -> Result<()> {
    let (data, home) = (new.join("store"), new.join("milvus"));
    let at = match by_time {
        true => utc(moment.at_ms),
        false => moment.revision.to_string(),
    };
    let mut args = vec!["--at", &at, "--data-dir", text(&data), "--output", "json"];
    let folder = format!("file://{}", home.join("objects").display());
    let settings = archive.settings.clone().unwrap_or_default();
    match storage {
        Storage::Folder => args.extend(["--to-bucket", &folder]),
        Storage::S3 | Storage::At(_) => {
            args.extend(["--to-bucket", "s3://milvus", "--to-bucket-config", text(&settings)])
        }
    }
    let out = archive.output("restore", &args)?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    let done: Value = serde_json::from_str(said.lines().last().context("an answer")?)?;
    let done = &done["done"];
    ensure!(done["objects_whole"].as_u64() > Some(5), "{done:#}");
    let lost = done["lost"].as_array().context("what is lost")?;
    let names_birds = |line: &Value| {
        line.as_str().is_some_and(|line| line.contains("default.birds") && line.contains("message queue alone"))
    };
    ensure!(lost.iter().any(names_birds), "nobody said what was in the queue alone: {done:#}");
    let program = Program::under_test()?;
    let mut setup = Setup::new(&program, new)?;
    (setup.place, setup.data) = (place.clone(), data);
    let _store = setup.start()?;
    let since = Instant::now();
    let mut milvus = Milvus::start_on(&home, place, &setup.endpoint(), storage)?;
    let state = milvus.session("state", "any")?;
    println!("{}: {} back after {:.1} s: {state}", moment.step, at, since.elapsed().as_secs_f64());
    ensure!(state == moment.state, "restored:\n{state}\nbefore:\n{}", moment.state);
    if storage != Storage::Folder && std::env::var_os("EYRIE_LONG").is_none() {
        return Ok(());
    }
    // it lives: what is written now is there after the next start, too
    milvus.session("create", "insects")?;
    let lives = milvus.session("state", "any")?;
    milvus.kill9()?;
    let mut milvus = Milvus::start_on(&home, place, &setup.endpoint(), storage)?;
    let still = milvus.session("state", "any")?;
    ensure!(still == lives, "after a restart:\n{still}\nbefore:\n{lives}");
    milvus.kill9()
}

/// A state without one collection.
fn without(state: &str, name: &str) -> Result<String> {
    // the script's own order and spacing
    let mut parsed: Value = serde_json::from_str(state)?;
    let wrong = parsed["wrong"].take();
    let kept = parsed["state"].as_object_mut().context("collections")?;
    kept.remove(name).context("the collection that is dropped")?;
    let kept: Vec<String> = kept
        .iter()
        .map(|(name, one)| {
            format!(
                "\"{name}\": {{\"rows\": {}, \"sha256\": {}, \"nearest\": {}}}",
                one["rows"], one["sha256"], one["nearest"]
            )
        })
        .collect();
    Ok(format!("{{\"state\": {{{}}}, \"wrong\": {wrong}}}", kept.join(", ")))
}

fn now_ms() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

fn utc(ms: u64) -> String {
    let out =
        Command::new("date").args(["-u", "-d", &format!("@{}.{:03}", ms / 1000, ms % 1000), "+%FT%T.%3NZ"]).output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

/// An archive in a folder or a bucket, and `eyrie backup` on it.
struct Archive {
    address: String,
    eyrie: Backup,
    /// For the S3 server that Milvus is on.
    settings: Option<PathBuf>,
}

impl Archive {
    fn new(dir: &Path, place: &Place) -> Archive {
        let address = format!("file://{}", dir.join("archive").display());
        Archive { address, eyrie: Backup::new(dir, place), settings: None }
    }

    /// Writes the settings of Milvus's S3 server, which is another one than the archive's.
    fn milvus_settings(&mut self, dir: &Path, s3: &Moto) -> Result<()> {
        let file = dir.join("milvus-s3.yaml");
        let (endpoint, key) = (s3.endpoint(), dir.join("milvus-s3.key"));
        std::fs::write(&key, "test")?;
        let key = key.display();
        std::fs::write(&file, format!("endpoint: {endpoint}\naccess-key: !file {key}\nsecret-key: !file {key}\n"))?;
        self.settings = Some(file);
        Ok(())
    }

    /// Source and objects for a backup: flags, or a configuration where Milvus is on a server of its own.
    fn source_flags(&self, etcd: &str, objects: &str) -> Result<Vec<String>> {
        let etcd = format!("http://{etcd}");
        let Some(settings) = &self.settings else {
            return Ok(vec![format!("--etcd={etcd}"), format!("--bucket={objects}")]);
        };
        let bucket: String = std::fs::read_to_string(settings)?.lines().map(|line| format!("    {line}\n")).collect();
        let archive = &self.address;
        let config = format!(
            "source:\n  endpoints: [{etcd}]\nmilvus:\n  bucket:\n    url: {objects}\n{bucket}archive:\n  url: {archive}\n"
        );
        let file = settings.with_file_name("eyrie.yaml");
        std::fs::write(&file, config)?;
        Ok(vec![format!("--config={}", file.display())])
    }

    fn arguments<'a>(&'a self, what: &'a str, args: &[&'a str]) -> Vec<&'a str> {
        [&[what, "--archive", &self.address], args].concat()
    }

    fn command(&self, what: &str, args: &[&str]) -> Result<Command> {
        self.eyrie.command(&self.arguments(what, args))
    }

    fn output(&self, what: &str, args: &[&str]) -> Result<Output> {
        self.eyrie.output(&self.arguments(what, args))
    }

    fn run(&self, what: &str, args: &[&str]) -> Result<String> {
        self.eyrie.run(&self.arguments(what, args))
    }

    fn restore(&self, args: &[&str]) -> Result<String> {
        self.run("restore", args)
    }

    fn tail(&self, args: &[&str]) -> Result<Tail> {
        self.eyrie.tail(&self.arguments("tail", args))
    }
}

fn revision(store: &Store) -> Result<i64> {
    let out = store.etcdctl_ok(&["get", "none", "--write-out", "json"])?;
    serde_json::from_str::<Value>(&out)?["header"]["revision"].as_i64().context("a revision")
}

/// All keys at a revision (0: now) with all that etcdctl tells of each.
fn keys_of(store: &Store, revision: i64) -> Result<Value> {
    let revision = revision.to_string();
    let out = store.etcdctl_ok(&["get", "", "--from-key", "--rev", &revision, "--write-out", "json"])?;
    Ok(serde_json::from_str::<Value>(&out)?["kvs"].take())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
