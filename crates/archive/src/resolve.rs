//! From "as it was at 12:04" to the files that bring it back; or why not, and what else to type.

use serde::Serialize;

use crate::{
    catalog::{Catalog, Full, Timeline},
    ids::{Revision, TimelineId, UnixMillis},
    record::Segment,
    spans::{Cause, Lack, Point, Run, Stretch, point},
};

/// A moment that someone wants back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The newest recoverable one.
    Latest,
    /// This revision.
    Revision(Revision),
    /// As it was at this time, by the writer's clock.
    Time(UnixMillis),
}

/// What must come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Metadata and every object that it references.
    Everything,
    /// Metadata, and the objects that are there.
    WhatIsThere,
    /// Metadata alone.
    MetadataOnly,
}

/// A question to the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// When.
    pub at: At,
    /// Of which history; absent: the newest one, or for a time the one that was current then.
    pub timeline: Option<TimelineId>,
    /// What.
    pub scope: Scope,
}

/// Where to stop reading the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Behind this revision.
    Revision(Revision),
    /// Inside the last piece, behind the newest revision that is not later than `at_ms`; it is one of `first..=last`.
    /// The piece knows which: read it, then resolve that revision, so that its objects are judged too.
    Time {
        /// The time.
        at_ms: UnixMillis,
        /// The oldest that it can be.
        first: Revision,
        /// The newest.
        last: Revision,
    },
}

/// How to get a moment back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The history.
    pub timeline: TimelineId,
    /// Where it ends.
    pub stop: Stop,
    /// The snapshot to begin with.
    pub full: Full,
    /// The pieces of tail to apply on it, in order; the first may begin before the full, whose revisions are skipped.
    pub tail: Vec<Segment>,
    /// What does not come back although it once was there; only where [`Scope`] allows it.
    pub lacks: Option<Lack>,
    /// Newer revisions of this history that the archive has and that are given up.
    pub gives_up: Option<GivesUp>,
    /// The archive was up to date at this time: what the source did later is not in it.
    pub known_until_ms: Option<UnixMillis>,
    /// What the person should know, in words.
    pub notes: Vec<String>,
}

/// What a restore to an earlier moment leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GivesUp {
    /// The first revision that does not come back.
    pub from: Revision,
    /// The newest there is.
    pub to: Point,
}

/// Why a moment cannot be had, and what can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhyNot {
    /// No full yet.
    #[error("timeline {timeline} has no full snapshot yet: nothing of it can be restored.{}", elsewhere(.other))]
    NothingYet {
        /// The history.
        timeline: TimelineId,
        /// An older one that has something.
        other: Option<(TimelineId, Revision)>,
    },
    /// Not there.
    #[error("there is no timeline {asked}; the newest is {newest}. Type: eyrie backup list")]
    NoTimeline {
        /// The one that was asked for.
        asked: TimelineId,
        /// The newest.
        newest: TimelineId,
    },
    /// Before all that is kept.
    #[error("that is before everything that timeline {timeline} still holds; its oldest moment is {}. Type: --at {}", say(.oldest), .oldest.revision)]
    TooEarly {
        /// The history.
        timeline: TimelineId,
        /// Its oldest.
        oldest: Point,
    },
    /// After all that is known.
    #[error("that is later than the archive knows timeline {timeline}; its newest moment is {}. Type: --at latest", say(.newest))]
    TooLate {
        /// The history.
        timeline: TimelineId,
        /// Its newest.
        newest: Point,
    },
    /// In a break.
    #[error("the archive does not hold that moment: {cause}. Nearest: {}", nearest(.before, .after))]
    Lost {
        /// Why.
        cause: Cause,
        /// The last moment before.
        before: Option<Point>,
        /// The first moment after.
        after: Option<Point>,
    },
    /// Metadata only.
    #[error("that moment is not wholly recoverable: {lack}. Nearest that is: {}. Or type --metadata-only", nearest(.before, .after))]
    Lacks {
        /// What is missing.
        lack: Lack,
        /// The last whole moment before.
        before: Option<Point>,
        /// The first whole moment after.
        after: Option<Point>,
    },
}

fn say(point: &Point) -> String {
    match point.at_ms {
        Some(at) => format!("revision {} ({at})", point.revision),
        None => format!("revision {}", point.revision),
    }
}

fn nearest(before: &Option<Point>, after: &Option<Point>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => format!("{} before it, {} after it", say(before), say(after)),
        (Some(before), None) => format!("{} before it", say(before)),
        (None, Some(after)) => format!("{} after it", say(after)),
        (None, None) => "none".into(),
    }
}

fn elsewhere(other: &Option<(TimelineId, Revision)>) -> String {
    other.map_or(String::new(), |(timeline, revision)| {
        format!(" Timeline {timeline} reaches to revision {revision}; type: --timeline {timeline}")
    })
}

impl Catalog {
    /// How to get a moment back.
    ///
    /// # Errors
    /// [`WhyNot`], with the nearest moments that can be had.
    pub fn resolve(&self, ask: Ask) -> Result<Target, WhyNot> {
        let line = self.line_of(ask)?;
        let runs = self.runs(line);
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
            let older = self.timelines().rev().find_map(|line| Some((line.id, self.runs(line).last()?.to)));
            return Err(WhyNot::NothingYet { timeline: line.id, other: older });
        };
        let stop = match ask.at {
            At::Latest => self.latest(line, &runs, ask.scope)?,
            At::Revision(revision) if revision < first.from => {
                return Err(WhyNot::TooEarly { timeline: line.id, oldest: point(line, first.from) });
            }
            At::Revision(revision) if revision > last.to && line.newest_revision().is_none_or(|new| revision > new) => {
                return Err(WhyNot::TooLate { timeline: line.id, newest: point(line, last.to) });
            }
            At::Revision(revision) => Stop::Revision(revision),
            At::Time(at_ms) => self.stop_at(line, &runs, at_ms)?,
        };
        self.target(line, &runs, stop, ask.scope)
    }

    fn line_of(&self, ask: Ask) -> Result<&Timeline, WhyNot> {
        if let Some(asked) = ask.timeline {
            return self.timeline(asked).ok_or(WhyNot::NoTimeline { asked, newest: self.current().id });
        }
        let At::Time(at_ms) = ask.at else { return Ok(self.current()) };
        let then = self.timelines().rev().find(|line| line.began_at_ms <= at_ms);
        Ok(then.or_else(|| self.timelines().next()).unwrap_or_else(|| self.current()))
    }

    /// The newest revision that has what is asked for.
    fn latest(&self, line: &Timeline, runs: &[Run], scope: Scope) -> Result<Stop, WhyNot> {
        let newest = runs.last().map(|run| run.to).unwrap_or_default();
        if scope != Scope::Everything {
            return Ok(Stop::Revision(newest));
        }
        match self.whole_spans(line).last() {
            Some((_, to)) => Ok(Stop::Revision(to.revision)),
            None => {
                let lack = self.lack(line, newest).unwrap_or(Lack::NotMirroredYet);
                Err(WhyNot::Lacks { lack, before: None, after: None })
            }
        }
    }

    /// Ends of the spans that lack nothing.
    fn whole_spans(&self, line: &Timeline) -> Vec<(Point, Point)> {
        let all = self.spans().into_iter().find(|spans| spans.timeline == line.id);
        let stretches = all.into_iter().flat_map(|spans| spans.stretches);
        stretches
            .filter_map(|stretch| match stretch {
                Stretch::Span(span) if span.lacks.is_none() => Some((span.from, span.to)),
                _ => None,
            })
            .collect()
    }

    /// The newest revision in order of revisions that was there at `at_ms`.
    fn stop_at(&self, line: &Timeline, runs: &[Run], at_ms: UnixMillis) -> Result<Stop, WhyNot> {
        let last = runs.last().map(|run| run.to).unwrap_or_default();
        let known = line.seen.map(|seen| seen.at_ms).max(point(line, last).at_ms);
        if known.is_none_or(|known| at_ms > known) {
            return Err(WhyNot::TooLate { timeline: line.id, newest: point(line, last) });
        }
        let full = line.fulls.values().rev().find(|full| full.taken.taken_at_ms <= at_ms && self.is_good(full));
        let full = full.map(|full| full.taken.revision);
        let piece = line.tail.values().rev().map(|piece| &piece.segment).find(|piece| piece.first_at_ms <= at_ms);
        let piece = piece.filter(|piece| full.is_none_or(|full| full < piece.last));
        match piece {
            Some(piece) if piece.last_at_ms <= at_ms => self.not_in_break(line, runs, piece.last, at_ms),
            Some(piece) => {
                let first = full.map_or(piece.first, |full| full.max(piece.first));
                Ok(Stop::Time { at_ms, first, last: piece.last })
            }
            None => match full {
                Some(full) => self.not_in_break(line, runs, full, at_ms),
                None => {
                    let oldest = point(line, runs.first().map(|run| run.from).unwrap_or_default());
                    Err(WhyNot::TooEarly { timeline: line.id, oldest })
                }
            },
        }
    }

    /// Refuses a time behind the end of a run: something that the archive does not hold may have happened until then.
    fn not_in_break(
        &self,
        line: &Timeline,
        runs: &[Run],
        revision: Revision,
        at_ms: UnixMillis,
    ) -> Result<Stop, WhyNot> {
        let ends = runs.iter().position(|run| run.to == revision);
        let after = ends.and_then(|at| runs.get(at + 1)).map(|run| point(line, run.from));
        let before = point(line, revision);
        let seen = line.seen.filter(|seen| seen.revision == revision).map(|seen| seen.at_ms);
        let broken = ends.is_some() && (after.is_some() || line.tail_head.is_none());
        if broken && before.at_ms.max(seen).is_none_or(|known| at_ms > known) {
            let to = after.map(|after| after.revision.before());
            let cause = self.cause_of(line, revision.next(), to);
            return Err(WhyNot::Lost { cause, before: Some(before), after });
        }
        Ok(Stop::Revision(revision))
    }

    fn target(&self, line: &Timeline, runs: &[Run], stop: Stop, scope: Scope) -> Result<Target, WhyNot> {
        let (oldest, newest) = match stop {
            Stop::Revision(revision) => (revision, revision),
            Stop::Time { first, last, .. } => (first, last),
        };
        let Some(run) = runs.iter().find(|run| run.has(oldest) && run.has(newest)) else {
            let before = runs.iter().rev().find(|run| run.to < oldest).map(|run| point(line, run.to));
            let after = runs.iter().find(|run| run.from > oldest).map(|run| point(line, run.from));
            let from = before.map_or(oldest, |before| before.revision.next());
            let cause = self.cause_of(line, from, after.map(|after| after.revision.before()));
            return Err(WhyNot::Lost { cause, before, after });
        };
        let lacks = if scope == Scope::MetadataOnly { None } else { self.lack(line, oldest) };
        if let Some(lack) = lacks.clone().filter(|_| scope == Scope::Everything) {
            let whole = self.whole_spans(line);
            let before = whole.iter().rev().map(|(_, to)| *to).find(|to| to.revision < oldest);
            let after = whole.iter().map(|(from, _)| *from).find(|from| from.revision > oldest);
            return Err(WhyNot::Lacks { lack, before, after });
        }
        let Some((full, tail)) = self.files(line, oldest, newest) else {
            // Only a state that no writer of ours made can come here: a checkpoint with overlapping pieces.
            return Err(WhyNot::Lost { cause: Cause::RecordsLost, before: None, after: None });
        };
        let last = point(line, runs.last().map_or(run.to, |run| run.to));
        Ok(Target {
            timeline: line.id,
            stop,
            notes: self.notes(line, &full, &tail, stop),
            full,
            tail,
            lacks,
            gives_up: (last.revision > newest).then(|| GivesUp { from: newest.next(), to: last }),
            known_until_ms: line.seen.map(|seen| seen.at_ms),
        })
    }

    /// The newest good full at or before `oldest` whose good tail reaches `newest`, and that tail.
    fn files(&self, line: &Timeline, oldest: Revision, newest: Revision) -> Option<(Full, Vec<Segment>)> {
        let mut fulls: Vec<&Full> = line.fulls.values().filter(|full| self.is_good(full)).collect();
        fulls.sort_by_key(|full| (full.taken.revision, full.seq));
        for full in fulls.into_iter().rev().filter(|full| full.taken.revision <= oldest) {
            let tail = self.good_chain(line, full).take_while(|piece| piece.segment.first <= newest);
            let tail: Vec<Segment> = tail.map(|piece| piece.segment.clone()).collect();
            let reach = tail.last().map_or(full.taken.revision, |piece| piece.last.max(full.taken.revision));
            if reach >= newest {
                let tail = if full.taken.revision == newest { Vec::new() } else { tail };
                return Some((full.clone(), tail));
            }
        }
        None
    }

    fn notes(&self, line: &Timeline, full: &Full, tail: &[Segment], stop: Stop) -> Vec<String> {
        let mut notes = Vec::new();
        if full.verified.is_none() {
            notes.push("this chain has not been verified since it was taken".into());
        }
        let back = tail.windows(2).find(|two| two[1].first_at_ms < two[0].last_at_ms);
        if let (Some(two), Stop::Time { .. }) = (back, stop) {
            notes.push(format!(
                "the writer's clock went back at revision {}: around it, choose by revision rather than by time",
                two[1].first
            ));
        }
        if line.id != self.current().id {
            notes.push(format!("timeline {} ended when timeline {} began", line.id, line.id.0 + 1));
        }
        notes
    }
}
