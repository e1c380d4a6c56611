//! Holding a conversation: starts the server, runs each command, and notes what was said.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Cast;
use super::normal::{Words, is_log_line};
use super::script::{Call, Step};
use crate::place::wait_until;
use crate::store::{Setup, Store, bounded};

/// No command of a conversation takes longer, or it is killed.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);
/// How long a background command may take to say what the script waits for.
const HEAR_LIMIT: Duration = Duration::from_secs(10);
/// A background command that has said enough and then nothing for so long has said all.
const QUIET: Duration = Duration::from_millis(200);

/// What one command said.
#[derive(Debug)]
pub(super) struct Answer {
    /// The line of the script.
    pub(super) line: String,
    /// Stdout, stderr (lines with `! `) and exit code, normalised.
    pub(super) text: String,
}

/// Holds the whole conversation with one cast.
pub(super) fn hold(script: &[Step], cast: &Cast) -> Result<Vec<Answer>> {
    let mut talk = Talk::begin(cast)?;
    let mut answers = Vec::new();
    for step in script {
        let answer = talk.step(step).with_context(|| format!("cast {}: {step:?}", cast.name))?;
        answers.extend(answer.map(|(line, text)| Answer { line, text }));
    }
    Ok(answers)
}

struct Talk<'a> {
    cast: &'a Cast,
    dir: tempfile::TempDir,
    store: Store,
    words: Words,
    background: HashMap<String, Background>,
}

struct Background {
    line: String,
    child: Child,
}

impl<'a> Talk<'a> {
    fn begin(cast: &'a Cast) -> Result<Talk<'a>> {
        let dir = tempfile::tempdir()?;
        let store = Setup::new(&cast.server, dir.path())?.start()?;
        let mut talk = Talk { cast, dir, store, words: Words::default(), background: HashMap::new() };
        talk.name_places();
        Ok(talk)
    }

    fn name_places(&mut self) {
        self.words.place(self.dir.path().display().to_string(), "$DIR");
        self.words.place(self.store.endpoint(), "$EP");
        self.words.place(format!("localhost:{}", self.store.setup.client_port), "localhost:CLIENT");
    }

    fn step(&mut self, step: &Step) -> Result<Option<(String, String)>> {
        match step {
            Step::Sleep(time) => std::thread::sleep(*time),
            Step::Restart => self.store.restart()?,
            Step::Server(flags) => {
                self.store.kill9()?;
                let mut setup = Setup::new(&self.cast.server, self.dir.path())?;
                setup.data = self.dir.path().join(format!("data{}", setup.client_port));
                setup.flags = flags.clone();
                self.store = setup.start()?;
                self.name_places();
            }
            Step::Start { name, line, does } => self.start(name, line, does)?,
            Step::Finish { name, lines } => return self.finish(name, *lines).map(Some),
            Step::Command { line, does, stdin } => {
                let text = match does {
                    Call::Metrics(names) => self.metrics(names)?,
                    _ => self.run(does, stdin)?,
                };
                return Ok(Some((line.clone(), text)));
            }
        }
        Ok(None)
    }

    fn run(&mut self, call: &Call, stdin: &str) -> Result<String> {
        let path = self.dir.path().join("stdin");
        std::fs::write(&path, self.fill(stdin))?;
        let mut command = self.command(call);
        command.stdin(File::open(&path)?).stdout(Stdio::piped()).stderr(Stdio::piped());
        let out = bounded(&mut command, COMMAND_LIMIT)?;
        let (stdout, stderr) = (legible(&out.stdout), legible(&out.stderr));
        let end = match out.status.code() {
            Some(code) => format!("exit {code}"),
            None => format!("killed: {}", out.status),
        };
        Ok(self.said(call, &stdout, &stderr, &end))
    }

    fn start(&mut self, name: &str, line: &str, call: &Call) -> Result<()> {
        let watchers = self.watchers();
        let mut command = self.command(call);
        command.stdin(Stdio::null());
        command.stdout(File::create(self.heard(name, "out"))?).stderr(File::create(self.heard(name, "err"))?);
        let mut child = command.spawn()?;
        if line.contains("watch") {
            // A watch that is not there yet would miss what comes next.
            // One that was refused has said so, or has ended.
            let spoke = || !read(&self.heard(name, "out")).is_empty();
            let begun =
                |child: &mut Child| self.watchers() > watchers || spoke() || !matches!(child.try_wait(), Ok(None));
            if !wait_until(Duration::from_secs(5), || begun(&mut child)) {
                let _ = (child.kill(), child.wait());
                bail!("5 s after `{line}` started, etcd_debugging_mvcc_watcher_total has not grown");
            }
        } else {
            std::thread::sleep(Duration::from_millis(400));
        }
        self.background.insert(name.into(), Background { line: line.into(), child });
        Ok(())
    }

    fn finish(&mut self, name: &str, lines: usize) -> Result<(String, String)> {
        let Background { line, mut child } = self.background.remove(name).context("no such background command")?;
        let (out, err) = (self.heard(name, "out"), self.heard(name, "err"));
        let count = || read(&out).lines().count() + read(&err).lines().filter(|l| !is_log_line(l)).count();
        wait_until(HEAR_LIMIT, || count() >= lines || matches!(child.try_wait(), Ok(Some(_))));
        std::thread::sleep(QUIET);
        let ended = child.try_wait()?;
        if ended.is_none() {
            kill_process(Pid::from_raw(child.id() as i32).context("pid")?, Signal::INT)?;
        }
        let mut last = ended;
        if !wait_until(Duration::from_secs(5), || {
            last = child.try_wait().ok().flatten();
            last.is_some()
        }) {
            child.kill()?;
            last = Some(child.wait()?);
        }
        let status = last.context("status")?;
        let end = match (ended, status.code()) {
            (None, Some(code)) => format!("interrupted: exit {code}"),
            (None, None) => format!("interrupted: {status}"),
            (Some(_), Some(code)) => format!("exit {code}"),
            (Some(_), None) => format!("killed: {status}"),
        };
        let call = if line.starts_with("http ") {
            Call::Http(String::new(), String::new(), String::new())
        } else {
            Call::Utl(Vec::new())
        };
        let text = self.said(&call, &read(&out), &read(&err), &end);
        Ok((format!("! {name} {lines}"), text))
    }

    /// The text that is compared.
    fn said(&mut self, call: &Call, stdout: &str, stderr: &str, end: &str) -> String {
        let mut all = if matches!(call, Call::Http(..)) { http_answer(stdout) } else { stdout.to_owned() };
        if !all.is_empty() && !all.ends_with('\n') {
            all.push_str("\\no newline\n");
        }
        for line in stderr.lines().filter(|l| !is_log_line(l)) {
            // A crash of a Go program: what it says before is its message, the rest are addresses.
            if line.starts_with("goroutine ") {
                all.push_str("! (stack trace)\n");
                break;
            }
            all.push_str(&format!("! {line}\n"));
        }
        all.push_str(end);
        all.push('\n');
        self.words.normal(&all)
    }

    fn command(&self, call: &Call) -> Command {
        let fill = |word: &String| self.fill(word);
        match call {
            Call::Ctl(variables, words) => {
                let ctl = &self.cast.client.ctl;
                let mut c = Command::new(&ctl[0]);
                c.args(&ctl[1..]).env("ETCDCTL_API", "3");
                // A script that names its own endpoints must not meet ours.
                if !words.iter().any(|w| w.starts_with("--endpoints"))
                    && !variables.iter().any(|v| v.0 == "ETCDCTL_ENDPOINTS")
                {
                    c.arg("--endpoints").arg(self.store.endpoint());
                }
                c.args(words.iter().map(fill)).envs(variables.iter().map(|(n, v)| (n, fill(v))));
                c
            }
            Call::Utl(words) => {
                let utl = &self.cast.client.utl;
                let mut c = Command::new(&utl[0]);
                c.args(&utl[1..]).args(words.iter().map(fill));
                c
            }
            Call::Http(method, path, body) => {
                let mut c = Command::new("curl");
                c.args(["-sS", "-N", "-i", "--max-time", "15", "-X", method]);
                if method == "HEAD" {
                    c.arg("-I");
                }
                if !body.is_empty() {
                    c.arg("-d").arg(fill(body));
                }
                c.arg(format!("http://{}{}", self.store.endpoint(), fill(path)));
                c
            }
            Call::Metrics(_) => Command::new("false"),
        }
    }

    fn fill(&self, word: &str) -> String {
        let variables = HashMap::from([
            ("$EP", self.store.endpoint()),
            ("$PORT", self.store.setup.client_port.to_string()),
            ("$DIR", self.dir.path().display().to_string()),
        ]);
        self.words.fill(word, &variables)
    }

    /// Type and labels of each asked metric family.
    fn metrics(&self, names: &[String]) -> Result<String> {
        let page = self.page()?;
        let mut text = String::new();
        for name in names {
            let kind = page.lines().find_map(|l| l.strip_prefix(&format!("# TYPE {name} ")));
            let sample = page.lines().find(|l| {
                l.strip_prefix(name.as_str())
                    .is_some_and(|rest| ["{", " ", "_bucket{", "_sum "].iter().any(|next| rest.starts_with(next)))
            });
            let labels = sample.and_then(|l| Some(l.split_once('{')?.1.split_once('}')?.0)).unwrap_or("");
            let labels: Vec<&str> = labels.split(',').filter_map(|l| Some(l.split_once('=')?.0)).collect();
            text.push_str(&format!("{name} {} {}\n", kind.unwrap_or("absent"), labels.join(",")));
        }
        Ok(text)
    }

    fn watchers(&self) -> u64 {
        let page = self.page().unwrap_or_default();
        let of = |line: &str| line.strip_prefix("etcd_debugging_mvcc_watcher_total ")?.trim().parse().ok();
        page.lines().find_map(of).unwrap_or(0)
    }

    fn page(&self) -> Result<String> {
        self.store.setup.place.get(&format!("http://{}/metrics", self.store.endpoint())).context("GET /metrics")
    }

    fn heard(&self, name: &str, stream: &str) -> std::path::PathBuf {
        self.dir.path().join(format!("{name}.{stream}"))
    }
}

impl Drop for Talk<'_> {
    fn drop(&mut self) {
        for b in self.background.values_mut() {
            let _ = b.child.kill();
            let _ = b.child.wait();
        }
    }
}

/// Of an HTTP answer: status, the headers that a client acts upon, and the body.
fn http_answer(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let (status, headers) = head.split_once('\n').unwrap_or((head, ""));
    let headers = headers.lines().filter_map(|line| line.split_once(':'));
    let mut kept: Vec<String> = headers
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .filter(|(name, _)| ["content-type", "allow", "access-control-allow-origin"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    kept.sort();
    format!("{status}\n{}{body}", kept.concat())
}

fn read(path: &Path) -> String {
    legible(&std::fs::read(path).unwrap_or_default())
}

/// Text as it is; other bytes (`-w protobuf`) in hex.
fn legible(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
    }
}
