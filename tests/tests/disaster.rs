//! The disaster, for real: Milvus lives on upstream etcd and on Eyrie with the agent beside it, everything is killed, and etcd's
//! data and Milvus's objects are deleted. One `restore --at` brings a random moment back, and Milvus goes on there. In the
//! long form (`EYRIE_LONG=1`) ten moments of each life; `EYRIE_SEED` repeats a run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use eyrie_tests::backup::{Backup, value};
use eyrie_tests::binaries::Program;
use eyrie_tests::load::Dice;
use eyrie_tests::milvus::{Milvus, Storage};
use eyrie_tests::moto::Moto;
use eyrie_tests::place::Place;
use eyrie_tests::store::{Setup, Store};
use eyrie_tests::verdict::Verdict;
use serde_json::Value;

/// How long the agent may take to have all that happened.
const PATIENCE: Duration = Duration::from_secs(90);
/// Moments of each life that come back: in CI, and in the long form.
const MOMENTS: [usize; 2] = [1, 10];
/// Ports within the namespace, where nobody else is.
const S3_PORT: u16 = 9000;
const AGENT_PORT: u16 = 9180;
/// How late the end of a window of lost rows may be told: Milvus says so often where its clock is.
const CLOCK_STEP_MS: u64 = 3000;

#[test]
fn milvus_on_upstream_comes_back_after_all_is_lost() -> Verdict {
    Ok(disaster(&Program::upstream()?, false)?)
}

#[test]
fn milvus_on_eyrie_comes_back_after_all_is_lost() -> Verdict {
    Ok(disaster(&Program::under_test()?, true)?)
}

/// What happens in a life. Between two steps nothing is written to any collection.
const STEPS: [(&str, &str); 6] = [
    ("create", "birds"),
    ("more", "birds"),
    ("create", "fish"),
    ("unflushed", "birds"),
    ("compact", "birds"),
    ("drop", "fish"),
];

/// A point in a life: the source's revision, and the clock.
#[derive(Clone, Copy)]
struct Point {
    revision: i64,
    at_ms: u64,
}

/// The time between two steps, and what every collection is then as far as it was flushed.
struct Rest {
    step: String,
    from: Point,
    to: Point,
    state: String,
}

/// Everything of a life that outlives it, and how to bring it back.
struct Life {
    dir: PathBuf,
    place: Place,
    eyrie: Backup,
    config: PathBuf,
    rests: Vec<Rest>,
    /// When rows were written that were never flushed.
    unflushed: (u64, u64),
}

/// `on_s3`: Milvus's objects are in a bucket, and so is the archive, on another server; else in folders.
fn disaster(source: &Program, on_s3: bool) -> Result<()> {
    let long = std::env::var_os("EYRIE_LONG").is_some();
    let mut dice = Dice::from_env();
    let dir = tempfile::tempdir()?;
    let place = Place::apart()?;
    let mut setup = Setup::new(source, dir.path())?;
    setup.place = place.clone();
    let store = setup.start()?;
    let home = dir.path().join("milvus");
    let mut servers = None;
    if on_s3 {
        let [milvus, archive] = [S3_PORT, S3_PORT + 1].map(|port| Moto::start(dir.path(), &place, port));
        servers = Some((milvus?, archive?));
    }
    let mut eyrie = Backup::new(dir.path(), &place);
    let (mut storage, mut archive) = (Storage::Folder, format!("file://{}", dir.path().join("archive").display()));
    let mut bucket = format!("{{url: 'file://{}'}}", home.join("objects").display());
    if let Some((milvus_s3, archive_s3)) = &servers {
        archive_s3.bucket("archive")?;
        eyrie.environment(archive_s3.environment());
        (storage, archive) = (Storage::At(milvus_s3.port), "s3://archive/of/milvus".into());
        let of_milvus = of_server(dir.path(), milvus_s3)?;
        bucket = format!("{{url: 's3://milvus', {of_milvus}}}");
    }
    let config = dir.path().join("eyrie.yaml");
    let state = dir.path().join("state");
    std::fs::write(
        &config,
        format!(
            "source: {{endpoints: ['http://{}']}}\nmilvus: {{bucket: {bucket}}}\narchive: {{url: '{archive}'}}\nstate: \
             '{}'\nagent:\n  listen: 127.0.0.1:{AGENT_PORT}\n  full: '*/25 * * * * *'\n  reconcile: '*/40 * * * * *'\n  \
             verify: '*/30 * * * * *'\n  verify-data: never\n  expire: '*/20 * * * * *'\n  sample-percent: 20\n",
            setup.endpoint(),
            state.display(),
        ),
    )?;
    let milvus = Milvus::start_on(&home, &place, &setup.endpoint(), storage)?;
    let mut agent = Agent::start(&eyrie, &config, dir.path())?;
    let mut life = Life { dir: dir.path().into(), place, eyrie, config, rests: Vec::new(), unflushed: (0, 0) };
    life.live(&milvus, &store, &mut dice)?;
    agent.has(life.rests.last().context("a life")?.to.revision, &life.place)?;
    // everything is lost
    drop((agent, milvus, store));
    std::fs::remove_dir_all(&setup.data)?;
    std::fs::remove_dir_all(&home)?;
    let mut s3 = servers.map(|(milvus, archive)| (Some(milvus), archive));
    for round in 0..MOMENTS[usize::from(long)] {
        let new = life.dir.join(format!("new-{round}"));
        std::fs::create_dir(&new)?;
        let mut storage = Storage::Folder;
        if let Some((milvus_s3, _)) = &mut s3 {
            // with its process its memory goes, and all that was in it
            drop(milvus_s3.take());
            let port = S3_PORT + 2 + u16::try_from(round)?;
            let fresh = Moto::start(&new, &life.place, port)?;
            fresh.bucket("milvus")?;
            *milvus_s3 = Some(fresh);
            storage = Storage::At(port);
        }
        let server = s3.as_ref().and_then(|(milvus_s3, _)| milvus_s3.as_ref());
        let moment = life.any_moment(&mut dice);
        let name = format!("{} after {}", moment.at, life.rests[moment.rest].step);
        life.comes_back(&new, storage, server, &moment, long || !on_s3).context(name)?;
    }
    Ok(())
}

/// A moment that is to come back.
struct Moment {
    /// Between which steps.
    rest: usize,
    /// As it is typed.
    at: String,
    /// Not later than this.
    until_ms: u64,
}

impl Life {
    fn live(&mut self, milvus: &Milvus, store: &Store, dice: &mut Dice) -> Result<()> {
        for (what, name) in STEPS {
            let began = now_ms()?;
            milvus.session(what, name)?;
            if what == "unflushed" {
                self.unflushed = (began, now_ms()?);
            }
            // rows that were not flushed are not in any collection that comes back
            let state = match (what, self.rests.last()) {
                ("unflushed" | "compact", Some(before)) => before.state.clone(),
                ("drop", Some(before)) => without(&before.state, name)?,
                _ => milvus.session("state", "any")?,
            };
            let from = point(store)?;
            std::thread::sleep(Duration::from_millis(dice.below(2500)));
            self.rests.push(Rest { step: format!("{what} {name}"), from, to: point(store)?, state });
        }
        Ok(())
    }

    /// Any moment between two steps, by revision or by time.
    fn any_moment(&self, dice: &mut Dice) -> Moment {
        let rest = dice.below(self.rests.len() as u64) as usize;
        let Rest { from, to, .. } = &self.rests[rest];
        if dice.below(2) == 0 {
            let revisions = u64::try_from(to.revision - from.revision).unwrap_or_default() + 1;
            let revision = from.revision + dice.below(revisions).cast_signed();
            return Moment { rest, at: revision.to_string(), until_ms: to.at_ms };
        }
        let at_ms = from.at_ms + dice.below(to.at_ms - from.at_ms + 1);
        Moment { rest, at: utc(at_ms), until_ms: at_ms }
    }

    fn comes_back(
        &self,
        new: &Path,
        storage: Storage,
        server: Option<&Moto>,
        moment: &Moment,
        lives: bool,
    ) -> Result<()> {
        let rest = &self.rests[moment.rest];
        let (data, home) = (new.join("store"), new.join("milvus"));
        let folder = format!("file://{}", home.join("objects").display());
        let settings = new.join("bucket.yaml");
        let mut args = vec!["restore", "--config", text(&self.config), "--at", &moment.at, "--data-dir", text(&data)];
        args.extend(["--output", "json"]);
        match server {
            None => args.extend(["--to-bucket", &folder]),
            Some(server) => {
                std::fs::write(&settings, format!("{{{}}}\n", of_server(new, server)?))?;
                args.extend(["--to-bucket", "s3://milvus", "--to-bucket-config", text(&settings)]);
            }
        }
        let plan = self.answer(&[&args[..], &["--dry-run"]].concat())?;
        self.windows_are_told(&plan["plan"], moment)?;
        let began = Instant::now();
        let done = &self.answer(&args)?["done"];
        ensure!(done["objects_whole"].as_u64() > Some(5), "{done:#}");
        let lost = done["lost"].as_array().context("what is lost")?;
        let names_birds = |line: &Value| {
            let words = ["default.birds", " after ", " and before ", "message queue alone"];
            line.as_str().is_some_and(|line| words.iter().all(|word| line.contains(word)))
        };
        ensure!(lost.iter().any(names_birds), "nobody said what was in the queue alone, and when: {done:#}");
        let program = Program::under_test()?;
        let mut setup = Setup::new(&program, new)?;
        (setup.place, setup.data) = (self.place.clone(), data.clone());
        let _store = setup.start()?;
        let restored = began.elapsed();
        let mut milvus = Milvus::start_on(&home, &self.place, &setup.endpoint(), storage)?;
        let state = milvus.session("state", "any")?;
        let (restored, serves) = (restored.as_secs_f64(), began.elapsed().as_secs_f64());
        println!(
            "{} after {}: restored in {restored:.1} s, Milvus answers after {serves:.1} s: {state}",
            moment.at, rest.step
        );
        ensure!(state == rest.state, "restored:\n{state}\nbefore:\n{}", rest.state);
        if !lives {
            return Ok(());
        }
        // it lives: what is written now is there after the next start, too
        milvus.session("create", "insects")?;
        let lives = milvus.session("state", "any")?;
        milvus.kill9()?;
        let mut milvus = Milvus::start_on(&home, &self.place, &setup.endpoint(), storage)?;
        let still = milvus.session("state", "any")?;
        ensure!(still == lives, "after a restart:\n{still}\nbefore:\n{lives}");
        milvus.kill9()
    }

    /// The last line of what a command says.
    fn answer(&self, args: &[&str]) -> Result<Value> {
        let out = self.eyrie.output(args)?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        ensure!(out.status.success(), "{args:?}: {said}\n{}", String::from_utf8_lossy(&out.stderr));
        Ok(serde_json::from_str(said.lines().last().context("an answer")?)?)
    }

    /// Rows that were in the queue alone are told with their window: it holds the time at which they were written, and ends
    /// with the moment.
    fn windows_are_told(&self, plan: &Value, moment: &Moment) -> Result<()> {
        let changes = plan["changes"].as_array().context("changes")?;
        let windows: Vec<&Value> = changes
            .iter()
            .flat_map(|one| one["lost"].as_array().into_iter().flatten())
            .filter(|window| window["collection"] == "default.birds")
            .collect();
        ensure!(!windows.is_empty(), "no window of lost rows: {plan:#}");
        let (began, ended) = self.unflushed;
        let written = self.rests[moment.rest].from.at_ms >= ended;
        for window in windows {
            let ms = |field: &str| window[field].as_u64().with_context(|| format!("{field} of {window}"));
            let (from, until) = (ms("from_ms")?, ms("until_ms")?);
            ensure!(from <= until && until <= moment.until_ms + CLOCK_STEP_MS, "{window}: it ends after {}", moment.at);
            ensure!(!written || from <= ended && until >= began, "{window}: rows of {began} to {ended} are lost, too");
        }
        Ok(())
    }
}

/// A running `eyrie agent`; it is never asked to end.
struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    fn start(eyrie: &Backup, config: &Path, dir: &Path) -> Result<Agent> {
        let log = dir.join("agent.log");
        let file = std::fs::File::create(&log)?;
        let mut command = eyrie.agent(&["--config", text(config)])?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
        Ok(Agent { child, log })
    }

    /// Waits until this revision is recoverable, with all objects.
    fn has(&mut self, revision: i64, place: &Place) -> Result<()> {
        let since = Instant::now();
        let mut page = String::new();
        while since.elapsed() < PATIENCE {
            if let Some(ended) = self.child.try_wait()? {
                bail!("the agent ended with {ended}\n{}", std::fs::read_to_string(&self.log)?);
            }
            page = place.get(&format!("http://127.0.0.1:{AGENT_PORT}/metrics")).unwrap_or(page);
            if value(&page, r#"eyrie_backup_revision{of="recoverable"}"#) >= Some(revision as f64) {
                for job in ["full", "verify", "expire"] {
                    let ran = value(&page, &format!(r#"eyrie_backup_job_runs_total{{job="{job}",result="ok"}}"#));
                    ensure!(ran >= Some(1.0), "the agent ran no {job} beside it:\n{page}");
                }
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        bail!("revision {revision} is not recoverable in time\n{page}\n{}", std::fs::read_to_string(&self.log)?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a bucket on an S3 server is reached, as fields of YAML.
fn of_server(dir: &Path, server: &Moto) -> Result<String> {
    let key = dir.join("s3.key");
    std::fs::write(&key, "test")?;
    let key = key.display();
    Ok(format!("endpoint: '{}', access-key: !file '{key}', secret-key: !file '{key}'", server.endpoint()))
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

fn point(store: &Store) -> Result<Point> {
    let out = store.etcdctl_ok(&["get", "none", "--write-out", "json"])?;
    let revision = serde_json::from_str::<Value>(&out)?["header"]["revision"].as_i64().context("a revision")?;
    Ok(Point { revision, at_ms: now_ms()? })
}

fn now_ms() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

fn utc(ms: u64) -> String {
    let out =
        Command::new("date").args(["-u", "-d", &format!("@{}.{:03}", ms / 1000, ms % 1000), "+%FT%T.%3NZ"]).output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
