//! Published clients with three endpoints, while members are killed and come back one after the other, leaders among them:
//! nothing that was acknowledged is lost, a watch hears all, once and in order, and a lease that is kept lives.
//!
//! Each client notes what it was told; what it noted is held against the whole history of the store.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use eyrie_tests::binaries::{Program, source_dir};
use eyrie_tests::certificates::{Authority, Pair, Says};
use eyrie_tests::cluster::Cluster;
use eyrie_tests::load::{Event, Wire};
use eyrie_tests::peers;
use eyrie_tests::place::wait_until;
use eyrie_tests::store::bounded;
use eyrie_tests::verdict::Verdict;

/// An election soon, so that tests are short.
const QUICK: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];
/// Members killed in the short and in the long form.
const KILLS: [usize; 2] = [3, 30];
/// How long a member stays away: longer than an election.
const AWAY: Duration = Duration::from_millis(1500);
/// How long writes may fail after a member has died.
const WITHOUT_WRITES_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to hear of the last write.
const END_LIMIT: Duration = Duration::from_secs(20);
/// What all clients write below.
const PREFIX: &str = "s/";

#[test]
fn the_python_client() -> Verdict {
    let mut client = Command::new(peers::python_client()?.join("bin/python"));
    client.args(["-W", "ignore"]).arg(source_dir().join("python/client_survives.py"));
    Ok(survives(client)?)
}

#[test]
fn the_rust_client() -> Verdict {
    Ok(survives(Command::new(peers::rust_client()?))?)
}

#[test]
fn upstreams_etcdctl_with_tls_and_users() -> Verdict {
    Ok(etcdctl_survives()?)
}

/// What a client was told, line by line.
type Notes = Arc<Mutex<Vec<String>>>;

fn count(notes: &Notes, word: &str) -> usize {
    notes.lock().expect("no panic while it is held").iter().filter(|line| line.starts_with(word)).count()
}

/// Kills members and starts them again, the leader every second time; each time the client must come to write again.
fn hurt(cluster: &mut Cluster, notes: &Notes, leader: impl Fn(&mut Cluster) -> Result<usize>) -> Result<()> {
    let kills = KILLS[usize::from(std::env::var_os("EYRIE_LONG").is_some())];
    ensure!(wait_until(WITHOUT_WRITES_MAX, || count(notes, "put ") > 3), "it never began to write: {}", tail(notes));
    for kill in 0..kills {
        let leader = leader(cluster)?;
        let dies = if kill % 2 == 0 { leader } else { (leader + 1) % 3 };
        cluster.members[dies].kill9()?;
        let (begun, before) = (Instant::now(), count(notes, "put "));
        let goes_on = wait_until(WITHOUT_WRITES_MAX, || count(notes, "put ") > before + 1);
        ensure!(goes_on, "no write for {WITHOUT_WRITES_MAX:?} after member {dies} was killed: {}", tail(notes));
        println!("member {dies} killed, leader: {}; wrote again after {:?}", dies == leader, begun.elapsed());
        std::thread::sleep(AWAY.saturating_sub(begun.elapsed()));
        cluster.members[dies].restart()?;
    }
    Ok(())
}

fn tail(notes: &Notes) -> String {
    let notes = notes.lock().expect("no panic while it is held");
    notes[notes.len().saturating_sub(15)..].join("\n")
}

/// Runs a client that takes endpoints as arguments, writes notes to stdout, and ends some time after its stdin has.
fn survives(mut client: Command) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut three = Cluster::start(&Program::under_test()?, dir.path(), 3, &QUICK)?;
    client.args(three.members.iter().map(|member| member.endpoint()));
    let mut running = Running::start(client)?;
    let hurt = hurt(&mut three, &running.notes, Cluster::leader);
    let ended = running.end();
    hurt?;
    ended?;
    three.agree(&[0, 1, 2])?;
    judge(&three, &running.notes)
}

/// A client, and what it notes. Killed when dropped.
struct Running {
    child: Child,
    notes: Notes,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(mut command: Command) -> Result<Running> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let out = child.stdout.take().context("its stdout")?;
        let notes = Notes::default();
        let to = notes.clone();
        let reader = std::thread::spawn(move || {
            for line in std::io::BufReader::new(out).lines().map_while(Result::ok) {
                to.lock().expect("no panic while it is held").push(line);
            }
        });
        Ok(Running { child, notes, reader: Some(reader) })
    }

    /// Tells it to end, and waits.
    fn end(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let mut ended = None;
        wait_until(END_LIMIT, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        });
        let status = ended.with_context(|| format!("it does not hear of its last write: {}", tail(&self.notes)))?;
        ensure!(status.success(), "{status}: {}", tail(&self.notes));
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Holds what a client was told against all that ever happened.
fn judge(cluster: &Cluster, notes: &Notes) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let notes = notes.lock().expect("no panic while it is held");
    let lease = notes.iter().find_map(|line| line.strip_prefix("lease ")?.parse::<i64>().ok()).context("a lease")?;
    let (history, (ttl, left, keys)) = runtime.block_on(async {
        let wire = Wire::new(&cluster.members[0].endpoint())?;
        anyhow::Ok((wire.history(1, wire.revision().await?).await?, wire.lease(lease).await?))
    })?;
    let leased = format!("{PREFIX}leased");
    ensure!(left > 0 && keys == [leased.clone().into_bytes()], "the lease: {left} of {ttl} s left, {keys:?}");
    let truth: Vec<(i64, String, String)> = history.iter().filter_map(told).collect();
    let by_key: BTreeMap<&str, (i64, &str)> =
        truth.iter().map(|(revision, key, value)| (key.as_str(), (*revision, value.as_str()))).collect();
    ensure!(truth.iter().all(|(_, _, value)| value != "deleted"), "the lease ended: {truth:?}");
    let (mut puts, mut gets, mut failed, mut heard) = (0, 0, 0, Vec::new());
    for line in notes.iter() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["put", key, value, revision] => {
                puts += 1;
                let is = by_key.get(key).with_context(|| format!("acknowledged and lost: {line}"))?;
                ensure!(*is == (revision.parse()?, value), "{line}, but it is {is:?}");
            }
            // Written once and acknowledged before: whoever answers must know.
            ["got", key, value] => {
                gets += 1;
                ensure!(by_key.get(key).is_some_and(|is| is.1 == value), "{line}, but it is {:?}", by_key.get(key));
            }
            ["event", revision, key, value] => heard.push((revision.parse()?, key.to_owned(), value.to_owned())),
            ["failed", ..] => failed += 1,
            ["lease", _] => {}
            _ => bail!("what does it mean? {line}"),
        }
    }
    let first_wrong = truth.iter().zip(&heard).find(|(is, heard)| is != heard);
    ensure!(first_wrong.is_none(), "the watch heard other than was: {first_wrong:?}");
    ensure!(heard.len() == truth.len(), "the watch heard {} of {}: {:?}", heard.len(), truth.len(), heard.last());
    ensure!(puts > 10 && gets * 2 > puts, "hardly anything was done: {puts} writes, {gets} reads");
    println!("{puts} writes, {gets} reads, {} events, {failed} calls failed", heard.len());
    Ok(())
}

/// An event as clients note it.
fn told(event: &Event) -> Option<(i64, String, String)> {
    let (key, value) = &event.change;
    let key = String::from_utf8_lossy(key).into_owned();
    let value = value.as_ref().map_or("deleted".into(), |value| String::from_utf8_lossy(value).into_owned());
    key.starts_with(PREFIX).then_some((event.revision, key, value))
}

/// Upstream's etcdctl as people type it: many short runs, and two that go on all the time.
#[derive(Clone)]
struct Ctl {
    words: Vec<String>,
}

impl Ctl {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(line.split(' '));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The answer of a call that succeeded.
    fn run(&self, line: &str) -> Result<serde_json::Value> {
        let said = self.say(line)?;
        serde_json::from_str(&said).context(said)
    }

    /// What it said, whatever its form.
    fn say(&self, line: &str) -> Result<String> {
        let out = bounded(&mut self.command(line), Duration::from_secs(10))?;
        let (said, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        ensure!(out.status.success(), "{wrong}");
        Ok(said.into_owned())
    }
}

fn etcdctl_survives() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = Authority::new(&dir.path().join("ours"))?;
    let ca = ours.certificate();
    let server = ours.issue("server", Says::named("server"))?;
    let (mut setups, mut doors) = (Vec::new(), Vec::new());
    for setup in Cluster::setups(&Program::under_test()?, dir.path(), 3, &QUICK)? {
        let (setup, door) = setup.secure_door(&server, &ca, &["--client-cert-auth"])?;
        setups.push(setup);
        doors.push(door);
    }
    let mut three = Cluster::of(&Program::under_test()?, &setups)?;
    for line in [
        "user add root:rootpw",
        "user grant-role root root",
        "user add app:apppw",
        "role add app",
        "role grant-permission app --prefix=true readwrite s/",
        "user grant-role app app",
        "auth enable",
    ] {
        three.etcdctl_ok(0, &line.split(' ').collect::<Vec<_>>())?;
    }
    let client = ours.issue("client", Says::named("nobody"))?;
    let app = ctl(&doors, &client, &ca, "app:apppw")?;
    let notes = Notes::default();
    let over = Arc::new(AtomicBool::new(false));
    let lease = app.run("lease grant 5")?["ID"].as_i64().context("a lease")?;
    note(&notes, format!("lease {lease}"));
    app.run(&format!("put {PREFIX}leased here --lease={lease:x}"))?;
    let keeping = Running::start(app.command(&format!("lease keep-alive {lease:x}")))?;
    let watching = Running::start(app.command(&format!("watch {PREFIX} --prefix --rev=1")))?;
    let writing = {
        let (app, notes, over) = (app.clone(), notes.clone(), over.clone());
        std::thread::spawn(move || write(&app, &notes, &over))
    };
    let root = ctl(&doors, &client, &ca, "root:rootpw")?;
    let hurt = hurt(&mut three, &notes, |_| leads(&root));
    over.store(true, Ordering::Relaxed);
    writing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
    hurt?;
    let end = format!(" {PREFIX}end end");
    let heard_all = wait_until(END_LIMIT, || {
        events(&watching.notes).is_ok_and(|events| events.last().is_some_and(|event| event.ends_with(&end)))
    });
    ensure!(heard_all, "the watch does not hear of the last write: {}", tail(&watching.notes));
    ensure!(count(&keeping.notes, "") > 2, "the lease was hardly kept: {}", tail(&keeping.notes));
    // In the clear nobody may look; as root one may open the door.
    root.say("auth disable")?;
    three.agree(&[0, 1, 2])?;
    for event in events(&watching.notes)? {
        note(&notes, event);
    }
    judge(&three, &notes)
}

fn ctl(doors: &[String], client: &Pair, ca: &std::path::Path, user: &str) -> Result<Ctl> {
    let program = Program::upstream()?.ctl;
    let (doors, ca) = (doors.join(","), ca.to_string_lossy().into_owned());
    let flags =
        ["--endpoints", &doors, "--cacert", &ca, "--cert", client.cert(), "--key", client.key(), "--user", user];
    let more = ["--dial-timeout=2s", "--command-timeout=3s", "-w", "json"];
    let words = program.iter().map(|word| word.to_string_lossy().into_owned());
    Ok(Ctl { words: words.chain(flags.into_iter().chain(more).map(str::to_owned)).collect() })
}

/// Who leads, as its own status says.
fn leads(root: &Ctl) -> Result<usize> {
    let mut found = None;
    wait_until(WITHOUT_WRITES_MAX, || {
        let all = root.run("endpoint status").unwrap_or_default();
        let own = |status: &serde_json::Value| status["Status"]["leader"] == status["Status"]["header"]["member_id"];
        found = all.as_array().filter(|all| all.len() == 3).and_then(|all| all.iter().position(own));
        found.is_some()
    });
    found.context("no member leads")
}

fn note(notes: &Notes, line: String) {
    notes.lock().expect("no panic while it is held").push(line);
}

/// Each key is written once, so that an answer that was lost confuses nothing.
fn write(app: &Ctl, notes: &Notes, over: &AtomicBool) {
    for n in 1.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{PREFIX}{n}");
        let put = app.run(&format!("put {key} {n}"));
        let acknowledged = put.is_ok();
        match put {
            Ok(answer) => note(notes, format!("put {key} {n} {}", answer["header"]["revision"])),
            Err(error) => note(notes, format!("failed {error:#}")),
        }
        match app.run(&format!("get {key}")) {
            Ok(answer) if answer["kvs"].is_null() && !acknowledged => {}
            Ok(answer) => note(notes, format!("got {key} {}", plain(&answer["kvs"][0]["value"]))),
            Err(error) => note(notes, format!("failed {error:#}")),
        }
    }
    while let Err(error) = app.run(&format!("put {PREFIX}end end")) {
        note(notes, format!("failed {error:#}"));
    }
}

/// Bytes as JSON has them.
fn plain(encoded: &serde_json::Value) -> String {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.as_str().unwrap_or_default());
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// What `etcdctl watch -w json` said, as notes.
fn events(said: &Notes) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for line in said.lock().expect("no panic while it is held").iter() {
        let answer: serde_json::Value = serde_json::from_str(line).with_context(|| line.clone())?;
        for event in answer["Events"].as_array().into_iter().flatten() {
            let value = if event["type"].is_null() { plain(&event["kv"]["value"]) } else { "deleted".into() };
            all.push(format!("event {} {} {value}", event["kv"]["mod_revision"], plain(&event["kv"]["key"])));
        }
    }
    Ok(all)
}
