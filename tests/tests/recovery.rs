//! The way back, with real parts: upstream etcd and Eyrie are lost, and `eyrie backup restore` brings them back as
//! they were at a chosen moment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use eyrie_tests::backup::{Backup, Tail};
use eyrie_tests::binaries::Program;
use eyrie_tests::place::{Place, wait_until};
use eyrie_tests::ports;
use eyrie_tests::store::{Setup, Store};
use eyrie_tests::verdict::Verdict;
use serde_json::Value;

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(90);

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
fn a_store_with_users_comes_back_with_them() -> Verdict {
    Ok(users()?)
}

/// Users are enforced in what comes back as they were in what was lost: the same names, passwords and rights.
fn users() -> Result<()> {
    for source in [Program::upstream()?, Program::under_test()?] {
        let dir = tempfile::tempdir()?;
        let store = Setup::new(&source, dir.path())?.start()?;
        store.etcdctl_ok(&["put", "mine/a", "1"])?;
        store.etcdctl_ok(&["put", "secret", "2"])?;
        for args in [
            &["user", "add", "root:of all"][..],
            &["user", "grant-role", "root", "root"],
            &["user", "add", "bird:of prey"],
            &["role", "add", "nest"],
            &["role", "grant-permission", "nest", "readwrite", "mine/", "--prefix"],
            &["user", "grant-role", "bird", "nest"],
            &["auth", "enable"],
        ] {
            store.etcdctl_ok(args)?;
        }
        let (config, password) = (dir.path().join("eyrie.yaml"), dir.path().join("password"));
        std::fs::write(&password, "of all")?;
        let archive = Archive::new(dir.path(), &Place::Host);
        std::fs::write(
            &config,
            format!(
                "source: {{endpoints: ['http://{}'], user: root, password: !file {}}}\narchive: {{url: '{}'}}\n",
                store.endpoint(),
                password.display(),
                archive.address
            ),
        )?;
        archive.run("take", &["--config", text(&config)])?;
        // a second run goes on where the first one ended, and logs in anew
        store.etcdctl_ok(&["put", "mine/b", "3", "--user", "bird:of prey"])?;
        archive.run("take", &["--config", text(&config)])?;
        drop(store);
        let data = dir.path().join("restored");
        archive.restore(&["--data-dir", text(&data)])?;
        let program = Program::under_test()?;
        let restored = Setup { data, ..Setup::new(&program, dir.path())? }.start()?;
        let refused = |args: &[&str], why: &str| -> Result<()> {
            let out = restored.etcdctl(args)?;
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            ensure!(!out.status.success() && said.contains(why), "{args:?}: {said}");
            Ok(())
        };
        refused(&["get", "mine/a"], "user name is empty")?;
        refused(&["get", "mine/a", "--user", "bird:of paradise"], "authentication failed")?;
        refused(&["get", "secret", "--user", "bird:of prey"], "permission denied")?;
        let bird =
            restored.etcdctl_ok(&["get", "mine/", "--prefix", "--print-value-only", "--user", "bird:of prey"])?;
        ensure!(bird.split_whitespace().eq(["1", "3"]), "{bird}");
        restored.etcdctl_ok(&["put", "mine/c", "4", "--user", "bird:of prey"])?;
        ensure!(restored.etcdctl_ok(&["get", "secret", "--print-value-only", "--user", "root:of all"])?.trim() == "2");
    }
    Ok(())
}

/// An archive in a folder or a bucket, and `eyrie backup` on it.
struct Archive {
    address: String,
    eyrie: Backup,
}

impl Archive {
    fn new(dir: &Path, place: &Place) -> Archive {
        let address = format!("file://{}", dir.join("archive").display());
        Archive { address, eyrie: Backup::new(dir, place) }
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
