//! Comparing what three casts said, and the list of differences that are kept on purpose.
//!
//! An entry of `differences.txt` is what a failure prints, with a reason added:
//!
//! ```text
//! == both kv.txt #12 get foo -w table
//! why: name-of-a-heading-in-docs/differences.md
//! - a line that only upstream says
//! + a line that only Eyrie says
//! ```
//! The cast is `store` (seen with upstream's etcdctl), `ours` (seen with `eyrie ctl`) or `both` (the same in both).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::run::Answer;

/// One difference: where it was heard and the lines of the diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    head: String,
    lines: Vec<String>,
}

impl Difference {
    /// What `other` says differently at the place that `head` names; `None` when it is the same.
    pub fn between(head: String, right: &str, other: &str) -> Option<Difference> {
        (right != other).then(|| Difference { head, lines: diff(right, other) })
    }
}

/// All differences of a conversation.
pub(super) fn differences(file: &str, right: &[Answer], store: &[Answer], ours: &[Answer]) -> Vec<Difference> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for ((r, s), o) in right.iter().zip(store).zip(ours) {
        let nth = seen.entry(&r.line).and_modify(|n| *n += 1).or_insert(1);
        let mut note = |cast: &str, text: &str| {
            let head = format!("{cast} {file} #{nth} {}", r.line);
            found.push(Difference { head, lines: diff(&r.text, text) });
        };
        if s.text == o.text {
            if s.text != r.text {
                note("both", &s.text);
            }
            continue;
        }
        if s.text != r.text {
            note("store", &s.text);
        }
        if o.text != r.text {
            note("ours", &o.text);
        }
    }
    found
}

/// What is wrong, as a text for people; empty when all is well.
pub fn judge(found: &[Difference], kept: &[Difference]) -> String {
    let mut report = String::new();
    for d in found.iter().filter(|d| !kept.contains(d)) {
        report.push_str(&format!("== {}\n{}\n", d.head, d.lines.join("\n")));
    }
    for k in kept.iter().filter(|k| !found.contains(k)) {
        report.push_str(&format!(
            "no longer so (take it from differences.txt): == {}\n{}\n",
            k.head,
            k.lines.join("\n")
        ));
    }
    report
}

/// The entries for one conversation.
pub fn kept(path: &Path, file: &str) -> Result<Vec<Difference>> {
    let all = entries(path)?;
    Ok(all.into_iter().map(|(d, _)| d).filter(|d| d.head.split(' ').nth(1) == Some(file)).collect())
}

/// The reasons of all entries.
pub fn reasons(path: &Path) -> Result<Vec<String>> {
    Ok(entries(path)?.into_iter().map(|(_, why)| why).collect())
}

fn entries(path: &Path) -> Result<Vec<(Difference, String)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut entries: Vec<(Difference, String)> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("== ") {
            entries.push((Difference { head: head.into(), lines: Vec::new() }, String::new()));
        } else if let Some(why) = line.strip_prefix("why: ") {
            entries.last_mut().context("`why:` before any entry")?.1 = why.into();
        } else if line.starts_with(['-', '+']) {
            entries.last_mut().context("a line before any entry")?.0.lines.push(line.into());
        } else if !line.is_empty() && !line.starts_with('#') {
            bail!("{}: neither an entry nor a comment: {line}", path.display());
        }
    }
    if let Some((d, _)) = entries.iter().find(|(_, why)| why.is_empty()) {
        bail!("{}: no `why:` for == {}", path.display(), d.head);
    }
    Ok(entries)
}

/// The lines that differ, by the longest common subsequence.
fn diff(right: &str, other: &str) -> Vec<String> {
    let (a, b): (Vec<&str>, Vec<&str>) = (right.lines().collect(), other.lines().collect());
    let mut common = vec![vec![0u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(shown('-', a[i]));
            i += 1;
        } else {
            lines.push(shown('+', b[j]));
            j += 1;
        }
    }
    lines
}

/// A line of a diff, with tabs and the spaces at its end made visible: an editor or a terminal would drop them.
fn shown(side: char, line: &str) -> String {
    let line = line.replace('\t', "\\t");
    let bare = line.trim_end_matches(' ');
    format!("{side} {bare}{}", "·".repeat(line.len() - bare.len())).trim_end().to_owned()
}
