//! `eyrie agent` as it runs for months, in fast time: it follows, takes, verifies, expires, shows, is refused beside another,
//! survives its source, tells of damage, repairs, and catches up once.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use eyrie_tests::backup::value;
use eyrie_tests::binaries::Program;
use eyrie_tests::ports;
use eyrie_tests::store::{Setup, Store};
use eyrie_tests::verdict::Verdict;
use rustix::process::{Pid, Signal, kill_process};

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn it_keeps_an_archive_by_itself() -> Verdict {
    Ok(kept()?)
}

fn kept() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(&Program::upstream()?, dir.path())?;
    let store = setup.start()?;
    let notices = dir.path().join("notices");
    let schedule = format!(
        "  full: '*/4 * * * * *'\n  reconcile: '*/5 * * * * *'\n  verify: '*/3 * * * * *'\n  verify-data: never\n  \
         expire: '*/6 * * * * *'\n  drill: '*/7 * * * * *'\n  sample-percent: 100\n  healthy-lag-secs: 5\n  notify:\n    - command: [sh, -c, \
         'cat >> {0} && echo >> {0}']\n",
        notices.display()
    );
    let config = Settings::write(dir.path(), &store, &schedule)?;
    let mut agent = Agent::start(&config)?;
    agent.until("it follows", |page| value(page, "eyrie_backup_up") == Some(1.0))?;
    for n in 0..40 {
        store.etcdctl(&["put", &format!("key-{n}"), "value"])?;
    }
    let revision = revision(&store)?;
    let archived = r#"eyrie_backup_revision{of="archived"}"#;
    agent.until("all is archived", |page| value(page, archived) >= Some(revision as f64))?;
    for job in ["full", "reconcile", "verify", "expire", "drill"] {
        let ran = format!(r#"eyrie_backup_job_runs_total{{job="{job}",result="ok"}}"#);
        agent.until(job, |page| value(page, &ran) >= Some(1.0))?;
    }
    let page = agent.get("/metrics")?.1;
    ensure!(value(&page, "eyrie_backup_lag_seconds") < Some(5.0), "{page}");
    ensure!(value(&page, r#"eyrie_backup_job_runs_total{job="verify",result="failed"}"#) == Some(0.0), "{page}");
    ensure!(value(&page, "eyrie_backup_drill_ok") == Some(1.0), "{page}");
    ensure!(agent.get("/healthz")?.0 == 200 && agent.get("/readyz")?.0 == 200);

    // a second one is sent away, and says by whom
    let second = Settings { port: ports::free()?, ..config.clone() };
    second.rewrite(&schedule, &store)?;
    let out =
        Command::new(&config.program).arg("agent").arg("--config").arg(&second.file).stdin(Stdio::null()).output()?;
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.code() == Some(2) && why.contains("is being written by"), "{}: {why}", out.status);

    // a file of the archive is damaged: it is told, and counted
    let full = newest(&config.archive.join("full/0001"))?;
    fs::write(&full, "someone was here")?;
    agent.until("the damage is seen", |page| value(page, "eyrie_backup_damaged_files") >= Some(1.0))?;
    until("the notice", || Ok(fs::read_to_string(&notices).unwrap_or_default().contains("archive-damaged")))?;
    ensure!(fs::read_to_string(&notices)?.contains(&format!("{}", full.file_name().context("name")?.display())));

    // the source is away for a while
    let mut store = store;
    store.kill9()?;
    until("it is ill", || Ok(agent.get("/healthz")?.0 == 503))?;
    let store = setup.start()?;
    store.etcdctl(&["put", "after", "all"])?;
    let revision = self::revision(&store)?;
    agent.until("it caught up", |page| value(page, archived) >= Some(revision as f64))?;
    until("it is well", || Ok(agent.get("/healthz")?.0 == 200))?;
    agent.stop()?;
    let list = config.eyrie(&["backup", "list"])?;
    ensure!(list.contains(&format!("to revision {revision}")), "{list}");
    Ok(())
}

#[test]
fn a_missed_run_is_caught_up_once() -> Verdict {
    Ok(caught_up()?)
}

fn caught_up() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Setup::new(&Program::upstream()?, dir.path())?.start()?;
    // once a year
    let yearly = "  full: '0 0 1 1 *'\n  reconcile: never\n  verify: never\n  verify-data: never\n  expire: never\n";
    let config = Settings::write(dir.path(), &store, yearly)?;
    let mut agent = Agent::start(&config)?;
    agent.until("it follows", |page| value(page, "eyrie_backup_up") == Some(1.0))?;
    let ran = r#"eyrie_backup_job_runs_total{job="full",result="ok"}"#;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(value(&agent.get("/metrics")?.1, ran) == Some(0.0), "a new agent begins quietly");
    agent.stop()?;
    // as if it had been away since 2020
    let diary = newest(&dir.path().join("state/agent"))?;
    fs::write(&diary, r#"{"ran_at_ms":{"full":1577836800000}}"#)?;
    let mut agent = Agent::start(&config)?;
    agent.until("it catches up", |page| value(page, ran) == Some(1.0))?;
    std::thread::sleep(Duration::from_secs(4));
    ensure!(value(&agent.get("/metrics")?.1, ran) == Some(1.0), "once");
    agent.stop()
}

/// Where an agent works.
#[derive(Clone)]
struct Settings {
    program: PathBuf,
    file: PathBuf,
    archive: PathBuf,
    state: PathBuf,
    port: u16,
}

impl Settings {
    fn write(dir: &Path, store: &Store, agent: &str) -> Result<Settings> {
        let settings = Settings {
            program: PathBuf::from(&Program::under_test()?.serve[0]),
            file: dir.join("eyrie.yaml"),
            archive: dir.join("archive"),
            state: dir.join("state"),
            port: ports::free()?,
        };
        settings.rewrite(agent, store)?;
        Ok(settings)
    }

    fn rewrite(&self, agent: &str, store: &Store) -> Result<()> {
        let text = format!(
            "source: {{endpoints: ['http://{}']}}\narchive: {{url: 'file://{}'}}\nstate: {}\nagent:\n  listen: \
             127.0.0.1:{}\n{agent}",
            store.endpoint(),
            self.archive.display(),
            self.state.display(),
            self.port,
        );
        Ok(fs::write(&self.file, text)?)
    }

    fn eyrie(&self, args: &[&str]) -> Result<String> {
        let out =
            Command::new(&self.program).args(args).arg("--config").arg(&self.file).stdin(Stdio::null()).output()?;
        Ok(String::from_utf8(out.stdout)?)
    }
}

/// A running agent.
struct Agent {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Agent {
    fn start(settings: &Settings) -> Result<Agent> {
        let log = settings.file.with_extension("log");
        let file = fs::File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(&settings.program);
        command.arg("agent").arg("--config").arg(&settings.file).stdin(Stdio::null());
        let child = command.stdout(file.try_clone()?).stderr(file).spawn()?;
        Ok(Agent { child, port: settings.port, log })
    }

    /// The answer of one of its pages: status and body.
    fn get(&self, page: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {page} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).context("a status")?.parse()?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        Ok((status, body))
    }

    fn until(&mut self, what: &str, reached: impl Fn(&str) -> bool) -> Result<()> {
        let since = Instant::now();
        let mut page = String::new();
        while since.elapsed() < PATIENCE {
            if let Some(ended) = self.child.try_wait()? {
                bail!("{what}: the agent ended with {ended}\n{}", fs::read_to_string(&self.log)?);
            }
            if let Ok((_, body)) = self.get("/metrics") {
                page = body;
                if reached(&page) {
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("{what}: not within {PATIENCE:?}\n{page}\n{}", fs::read_to_string(&self.log)?)
    }

    fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_raw(self.child.id() as i32).context("pid")?, Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the agent ended with {status}\n{}", fs::read_to_string(&self.log)?);
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, reached: impl Fn() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if reached()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("{what}: not within {PATIENCE:?}")
}

/// The newest file of a folder, by name.
fn newest(folder: &Path) -> Result<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    all.sort();
    all.pop().with_context(|| format!("a file in {}", folder.display()))
}

fn revision(store: &Store) -> Result<i64> {
    let out = store.etcdctl(&["get", "none", "--write-out", "json"])?;
    let answer: serde_json::Value = serde_json::from_slice(&out.stdout)?;
    answer["header"]["revision"].as_i64().context("a revision")
}
