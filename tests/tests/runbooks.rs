//! Each page in docs/runbooks is tried word by word: every command of it, in its order, on a recorded Milvus that was lost in
//! just that way. Only names of files, addresses and directories are put in place of the page's.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use eyrie_tests::binaries::{Program, source_dir};
use eyrie_tests::place::wait_until;
use eyrie_tests::store::{Setup, Store, bounded};
use eyrie_tests::verdict::Verdict;
use rustix::process::{Pid, Signal, kill_process};

#[path = "../../crates/milvus/tests/common/escape.rs"]
mod escape;

use escape::unescape;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn etcd_lost() -> Verdict {
    Ok(etcd()?)
}

fn etcd() -> Result<()> {
    let mut lost = Lost::new("etcd-lost.md")?;
    lost.store.take().context("a store")?.kill9()?;
    std::fs::remove_dir_all(&lost.setup.data)?;
    lost.commands(5)?;
    lost.starts_again(&lost.path("eyrie"))?;
    lost.follow()?;
    let members = lost.path("eyrie-new");
    ensure!(["a", "b", "c"].iter().all(|name| members.join(name).join("eyrie").is_file()), "not all members were made");
    ensure!(lost.path("milvus.db").metadata()?.len() > 10_000, "no snapshot was made");
    Ok(())
}

#[test]
fn objects_lost() -> Verdict {
    Ok(objects()?)
}

fn objects() -> Result<()> {
    let lost = Lost::new("objects-lost.md")?;
    let before = files(&lost.path("objects"))?;
    // some are gone, one is another, one is of somebody else
    for (n, name) in before.keys().enumerate() {
        let file = lost.path("objects").join(name);
        match n % 3 {
            0 => std::fs::remove_file(&file)?,
            1 if n < 3 => std::fs::write(&file, vec![0; usize::try_from(file.metadata()?.len())?])?,
            _ => {}
        }
    }
    std::fs::write(lost.path("objects").join("insert_log/newer"), b"made since")?;
    lost.commands(3)?;
    let mut after = files(&lost.path("objects"))?;
    ensure!(after.remove("insert_log/newer").is_some(), "a restore has removed something");
    ensure!(after == before, "the bucket is not what it was");
    ensure!(files(&lost.path("milvus-new"))? == before, "the new bucket is not what the old one was");
    Ok(())
}

#[test]
fn all_lost() -> Verdict {
    Ok(all()?)
}

fn all() -> Result<()> {
    let mut lost = Lost::new("all-lost.md")?;
    let before = files(&lost.path("objects"))?;
    lost.store.take().context("a store")?.kill9()?;
    std::fs::remove_dir_all(&lost.setup.data)?;
    std::fs::remove_dir_all(lost.path("objects"))?;
    lost.commands(3)?;
    lost.starts_again(&lost.path("eyrie"))?;
    ensure!(files(&lost.path("objects"))? == before, "the bucket is not what it was");
    lost.follow()
}

/// A recorded Milvus with its backup, and a page for the day on which it is lost.
struct Lost {
    dir: tempfile::TempDir,
    page: String,
    setup: Setup,
    store: Option<Store>,
}

impl Lost {
    fn new(page: &str) -> Result<Lost> {
        let dir = tempfile::tempdir()?;
        let setup = Setup::new(&Program::upstream()?, dir.path())?;
        let store = setup.start()?;
        let page = std::fs::read_to_string(source_dir().join("../docs/runbooks").join(page))?;
        let lost = Lost { dir, page, setup, store: Some(store) };
        lost.record()?;
        let config = format!(
            "source:\n  endpoints: [http://{}]\nmilvus:\n  bucket:\n    url: file://{}\narchive:\n  url: file://{}\n",
            lost.setup.endpoint(),
            lost.path("objects").display(),
            lost.path("archive").display()
        );
        std::fs::write(lost.path("eyrie.yaml"), config)?;
        let taken = lost.shell("eyrie backup take --config eyrie.yaml")?;
        ensure!(taken.contains("holds everything up to revision"), "{taken}");
        Ok(lost)
    }

    /// Puts what a real Milvus was seen to keep: its keys, and files of the length of its objects.
    fn record(&self) -> Result<()> {
        let text = std::fs::read_to_string(source_dir().join("../crates/milvus/tests/golden/v2_3.txt"))?;
        let (keys, objects) = text.split_once("\nobjects\n").context("objects")?;
        let keys = keys.split_once("\nkeys\n").context("keys")?.1;
        let put = |line: &str| {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            let (key, value) = (STANDARD.encode(unescape(key)), STANDARD.encode(unescape(value)));
            format!("{{\"requestPut\":{{\"key\":\"{key}\",\"value\":\"{value}\"}}}}")
        };
        let lines: Vec<&str> = keys.lines().filter(|line| !line.is_empty()).collect();
        for some in lines.chunks(100) {
            let puts: Vec<String> = some.iter().map(|line| put(line)).collect();
            let body = format!("{{\"success\":[{}]}}", puts.join(","));
            let url = format!("http://{}/v3/kv/txn", self.setup.endpoint());
            let mut curl = Command::new("curl");
            curl.args(["-sf", "-m", "20", "--data-binary", "@-", &url]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut curl = curl.spawn()?;
            curl.stdin.take().context("stdin of curl")?.write_all(body.as_bytes())?;
            let out = curl.wait_with_output()?;
            ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        }
        for line in objects.lines().filter(|line| !line.is_empty()) {
            let (path, len) = line.split_once(' ').context("an object")?;
            let file = self.path("objects").join(path);
            std::fs::create_dir_all(file.parent().context("a folder")?)?;
            let bytes: Vec<u8> = (0..len.parse::<usize>()?).map(|at| (at * 31 + path.len()) as u8).collect();
            std::fs::write(file, bytes)?;
        }
        Ok(())
    }

    /// Runs every command of the page but the one that goes on for ever; there must be so many.
    fn commands(&self, expected: usize) -> Result<()> {
        let commands: Vec<String> =
            commands(&self.page).into_iter().filter(|line| !line.contains("backup tail")).collect();
        ensure!(commands.len() >= expected, "the page has only {} commands: {commands:#?}", commands.len());
        for command in commands {
            let said = self.shell(&command)?;
            let planned = command.contains("--dry-run") && said.contains("Nothing was written.");
            let listed = command.contains("backup list") && said.contains("recoverable");
            let done = command.contains("backup restore") && said.contains("Restored: revision");
            ensure!(planned || listed || done, "{command}\n{said}");
        }
        Ok(())
    }

    /// Starts a store on a restored directory, where the lost one was, and looks whether Milvus's keys are in it.
    fn starts_again(&mut self, data: &Path) -> Result<()> {
        let program = Program::under_test()?;
        let setup = Setup { program, data: data.to_path_buf(), ..self.setup.clone() };
        let store = setup.start()?;
        let keys = store.etcdctl_ok(&["get", "by-dev/", "--prefix", "--keys-only"])?;
        ensure!(keys.contains("by-dev/meta/root-coord/"), "{keys}");
        ensure!(!keys.contains("by-dev/meta/session/datacoord"), "sessions of dead processes came back: {keys}");
        self.store = Some(store);
        Ok(())
    }

    /// The page's last command: the backup goes on, on a new timeline.
    fn follow(&self) -> Result<()> {
        let tail = commands(&self.page).into_iter().find(|line| line.contains("backup tail")).context("backup tail")?;
        let log = std::fs::File::create(self.path("tail.log"))?;
        let mut child = self.command(&format!("exec {tail}"))?.stdout(log.try_clone()?).stderr(log).spawn()?;
        let said = || std::fs::read_to_string(self.path("tail.log")).unwrap_or_default();
        let began = wait_until(PATIENCE, || said().contains("full taken at revision") || said().contains("Error"));
        kill_process(Pid::from_raw(child.id() as i32).context("pid")?, Signal::TERM)?;
        child.wait()?;
        ensure!(began && said().contains("a new timeline begins"), "{}", said());
        let list = self.shell("eyrie backup list --config eyrie.yaml")?;
        ensure!(list.contains("Timeline 2") && !list.contains("LOST"), "{list}");
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a person typed, with the names of this day.
    fn shell(&self, command: &str) -> Result<String> {
        let out = bounded(self.command(command)?.stdout(Stdio::piped()).stderr(Stdio::piped()), PATIENCE)?;
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        ensure!(out.status.success(), "{command}\n{}\n{said}", out.status);
        Ok(said)
    }

    fn command(&self, command: &str) -> Result<Command> {
        let eyrie = Program::under_test()?.serve[0].to_string_lossy().into_owned();
        let there = |name: &str| self.path(name).display().to_string();
        let command = command
            .replacen("eyrie ", &format!("{eyrie} "), 1)
            .replace("eyrie.yaml", &there("eyrie.yaml"))
            .replace("/var/lib/eyrie-new", &there("eyrie-new"))
            .replace("/var/lib/eyrie", &there("eyrie"))
            .replace("milvus.db", &there("milvus.db"))
            .replace("s3://milvus-new", &there("milvus-new"));
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).stdin(Stdio::null()).env("XDG_STATE_HOME", self.path("state"));
        Ok(shell)
    }
}

/// The commands in the blocks of a page, each on one line.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("```").skip(1).step_by(2);
    let text: String = blocks.map(|block| block.replace("\\\n", " ") + "\n").collect();
    text.lines().map(str::trim).filter(|line| line.starts_with("eyrie ")).map(str::to_owned).collect()
}

/// All files below a folder, by their path in it.
fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                all.insert(path.strip_prefix(folder)?.display().to_string(), std::fs::read(&path)?);
            }
        }
    }
    Ok(all)
}
