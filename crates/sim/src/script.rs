//! Trouble by script instead of by chance: a story that people can read, and where a bug that was found stays.
//!
//! ```text
//! # what it is about
//! members 3
//! at 400 ms: kill leader, back after 200 ms      power: what was not synced is lost, too
//! at 500 ms: cut 2                               from all others
//! at 600 ms: break 1 2                           their connections end, and what was under way with them
//! at 700 ms: heal
//! at 800 ms: transfer 3                          leadership is to go there
//! at 900 ms: remove leader
//! at 950 ms: compact
//! at 960 ms: rot 2                               a bit turns in its log
//! must: took over the tables                     the world's trace says so at the end
//! finds: PromisesBeforeSync                      it goes wrong where the store is broken like this
//! ```
//! `leader` is whoever leads then, `all` is everybody.

use anyhow::{Context as _, Result, bail};

use crate::flaw::Flaw;
use crate::net::Time;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Script {
    pub(crate) members: u64,
    pub(crate) steps: Vec<(Time, Step)>,
    /// What the trace must say.
    pub(crate) must: Vec<String>,
    /// With which flaw it must go wrong.
    pub(crate) finds: Option<Flaw>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Down { who: Who, power: bool, back: Time },
    Cut(Who),
    Break(u64, u64),
    Heal,
    Transfer(u64),
    Remove(Who),
    Compact,
    Rot(Who),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Leader,
    All,
    Member(u64),
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// The line that makes no sense.
    pub(crate) fn read(text: &str) -> Result<Script> {
        let mut script = Script { members: 3, ..Script::default() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            script.line(line).with_context(|| format!("no line of a script: {line}"))?;
        }
        Ok(script)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        if let Some(members) = line.strip_prefix("members ") {
            self.members = members.parse()?;
        } else if let Some(words) = line.strip_prefix("must: ") {
            self.must.push(words.to_owned());
        } else if let Some(flaw) = line.strip_prefix("finds: ") {
            self.finds = Some(Flaw::named(flaw).context("no flaw has this name")?);
        } else {
            let (at, what) = line.strip_prefix("at ").and_then(|rest| rest.split_once(": ")).context("at … ms: …")?;
            self.steps.push((millis(at)?, step(what)?));
        }
        Ok(())
    }
}

fn step(text: &str) -> Result<Step> {
    Ok(match text.split(' ').collect::<Vec<_>>()[..] {
        [how @ ("kill" | "power"), who, "back", "after", time, "ms"] => {
            let back = millis(&format!("{time} ms"))?;
            Step::Down { who: member(who.trim_end_matches(','))?, power: how == "power", back }
        }
        ["cut", who] => Step::Cut(member(who)?),
        ["break", one, other] => Step::Break(one.parse()?, other.parse()?),
        ["heal"] => Step::Heal,
        ["transfer", to] => Step::Transfer(to.parse()?),
        ["remove", who] => Step::Remove(member(who)?),
        ["compact"] => Step::Compact,
        ["rot", who] => Step::Rot(member(who)?),
        _ => bail!("what is to happen?"),
    })
}

fn member(word: &str) -> Result<Who> {
    Ok(match word {
        "leader" => Who::Leader,
        "all" => Who::All,
        id => Who::Member(id.parse()?),
    })
}

fn millis(text: &str) -> Result<Time> {
    Ok(text.strip_suffix(" ms").context("a time in ms")?.parse::<Time>()? * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_read_or_refused() {
        let script =
            Script::read("# x\nmembers 5\nat 4 ms: power leader, back after 20 ms\nmust: a b\nfinds: LosesWrites\n")
                .unwrap();
        let down = Step::Down { who: Who::Leader, power: true, back: 20_000 };
        assert_eq!(
            script,
            Script { members: 5, steps: vec![(4_000, down)], must: vec!["a b".into()], finds: Some(Flaw::LosesWrites) }
        );
        for wrong in ["at 4: heal", "at 4 ms: help", "kill 1", "at 4 ms: kill x, back after 1 ms", "finds: it"] {
            assert!(Script::read(wrong).is_err(), "{wrong}");
        }
    }
}
