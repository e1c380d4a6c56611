//! The language of a script: one command per line.
//!
//! ```text
//! # a comment
//! put foo bar                       etcdctl put foo bar
//! ETCDCTL_WRITE_OUT=json get foo    with a variable
//! txn <<END                         stdin until the line END
//! utl snapshot status $DIR/s.db     etcdutl
//! http POST /v3/kv/range {"key":"YQ=="}       one HTTP request; the body is the rest of the line
//! metrics etcd_server_has_leader …  type and labels of metric families
//! server --quota-backend-bytes=…    a new server on an empty folder, with these flags
//! restart                           kill -9 and start again on the same folder
//! sleep 2.5                         seconds
//! & w watch foo --rev=1             starts in the background, as w
//! ! w 3                             waits until w has said 3 lines, interrupts it, shows all it said
//! ```
//! `$EP` is the client endpoint, `$DIR` the folder of the run, `$L1` the first lease id seen, `$D1` the same in decimal.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// One step of a conversation.
#[derive(Debug)]
pub(super) enum Step {
    /// A command whose output counts.
    Command { line: String, does: Call, stdin: String },
    /// A command in the background.
    Start { name: String, line: String, does: Call },
    /// Ends a background command after so many lines; its output counts.
    Finish { name: String, lines: usize },
    /// A server with other flags on an empty folder.
    Server(Vec<String>),
    /// kill -9 and start again.
    Restart,
    /// Waits.
    Sleep(std::time::Duration),
}

/// What a command line calls.
#[derive(Debug)]
pub(super) enum Call {
    /// `etcdctl`, with variables and words.
    Ctl(Vec<(String, String)>, Vec<String>),
    /// `etcdutl`.
    Utl(Vec<String>),
    /// One HTTP request: method, path, body.
    Http(String, String, String),
    /// Metric families by name.
    Metrics(Vec<String>),
}

impl Step {
    pub(super) fn is_command(&self) -> bool {
        matches!(self, Step::Command { .. } | Step::Finish { .. })
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<Step>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut steps = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (line, end) = match line.rsplit_once(" <<") {
            Some((before, end)) => (before, Some(end)),
            None => (line, None),
        };
        let mut stdin = String::new();
        if let Some(end) = end {
            for (_, more) in lines.by_ref().take_while(|(_, l)| *l != end) {
                stdin.push_str(more);
                stdin.push('\n');
            }
        }
        steps.push(step(line, stdin).with_context(|| format!("{}:{}", path.display(), number + 1))?);
    }
    Ok(steps)
}

fn step(line: &str, stdin: String) -> Result<Step> {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    Ok(match first {
        "&" => {
            let (name, line) = rest.split_once(' ').context("`& name command`")?;
            Step::Start { name: name.into(), line: line.into(), does: call(line)? }
        }
        "!" => {
            let (name, lines) = rest.split_once(' ').unwrap_or((rest, "0"));
            Step::Finish { name: name.into(), lines: lines.parse()? }
        }
        "server" => Step::Server(words(rest)?),
        "restart" => Step::Restart,
        "sleep" => Step::Sleep(std::time::Duration::from_secs_f64(rest.parse()?)),
        _ => Step::Command { line: line.into(), does: call(line)?, stdin },
    })
}

fn call(line: &str) -> Result<Call> {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    match first {
        "http" => {
            let (method, rest) = rest.split_once(' ').context("`http METHOD PATH [BODY]`")?;
            let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
            Ok(Call::Http(method.into(), path.into(), body.into()))
        }
        "utl" => Ok(Call::Utl(words(rest)?)),
        "metrics" => Ok(Call::Metrics(words(rest)?)),
        _ => {
            let mut words = words(line)?;
            let is_variable = |w: &String| {
                w.split_once('=').is_some_and(|(name, _)| {
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())
                })
            };
            let many = words.iter().take_while(|w| is_variable(w)).count();
            let variables = words.drain(..many).filter_map(|w| Some(own(w.split_once('=')?))).collect();
            Ok(Call::Ctl(variables, words))
        }
    }
}

fn own((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

/// Splits as a shell does: spaces, single and double quotes, backslash.
fn words(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next().context("a backslash at the end")?),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => bail!("quote {c} without its end"),
                        Some(d) if d == c => break,
                        Some('\\') if c == '"' => word.push(chars.next().context("a backslash at the end")?),
                        Some(d) => word.push(d),
                    }
                }
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_split_as_a_shell_does() {
        assert_eq!(words(r#"put 'a b' "c\"d" e\ f ''"#).unwrap(), ["put", "a b", "c\"d", "e f", ""]);
    }
}
