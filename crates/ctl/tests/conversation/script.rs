//! The script: one step a line, standard input below it.

/// One invocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    /// Where it stands.
    pub(crate) line: usize,
    /// The arguments.
    pub(crate) words: Vec<String>,
    /// Environment.
    pub(crate) env: Vec<(String, String)>,
    /// Standard input.
    pub(crate) stdin: String,
    /// Interrupt after so many seconds.
    pub(crate) timeout_secs: Option<u64>,
    /// Numbers need not be equal.
    pub(crate) loose: bool,
    /// Without `--endpoints`.
    pub(crate) raw: bool,
}

impl Step {
    /// An invocation without a server.
    pub(crate) fn raw(words: impl IntoIterator<Item = String>) -> Step {
        Step { words: words.into_iter().collect(), raw: true, ..Step::default() }
    }
}

/// Reads a script.
pub(crate) fn read(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(input) = line.strip_prefix('|') {
            let step = steps.last_mut().expect("input before the first step");
            step.stdin.push_str(input.strip_prefix(' ').unwrap_or(input));
            step.stdin.push('\n');
            continue;
        }
        steps.push(step(at + 1, line));
    }
    steps
}

fn step(line: usize, text: &str) -> Step {
    let mut step = Step { line, ..Step::default() };
    for word in split(text) {
        if !step.words.is_empty() {
            step.words.push(word);
        } else if let Some(secs) = word.strip_prefix("timeout=") {
            step.timeout_secs = Some(secs.parse().expect("seconds"));
        } else if word == "loose" {
            step.loose = true;
        } else if word == "raw" {
            step.raw = true;
        } else if let Some((name, value)) = word.split_once('=').filter(|(name, _)| name.starts_with("ETCDCTL_")) {
            step.env.push((name.into(), value.into()));
        } else {
            step.words.push(word);
        }
    }
    step
}

/// Words are separated by blanks; a word in quotes keeps them.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let (word, after) = if first == '"' || first == '\'' {
            rest[1..].split_once(first).expect("closing quote")
        } else {
            rest.split_once(' ').unwrap_or((rest, ""))
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}
