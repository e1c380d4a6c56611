//! The permission matrix: every call, by everybody, in both languages.
//!
//! ```text
//! rows      what is asked, and who may ask it        (the expectation; itself held against upstream)
//! wire      one call over gRPC or JSON, and what came of it
//! world     a server with users, tokens of every kind, and keys on both sides of a permission
//! ```

pub mod rows;
pub mod wire;
pub mod world;

use anyhow::{Result, bail};

use rows::{Need, Row, Upstream};
use wire::{Denial, Outcome};
use world::World;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Brings no token.
    NoToken,
    /// Brings something that is no token.
    BadToken,
    /// Brings a token that was good until its time was up.
    Expired,
    /// Brings the token of a user that is deleted.
    Deleted,
    /// A user without any role.
    Bare,
    /// A user who may read and write `[r, s)`, read `[q, r)` and write `[w, x)`.
    Ranged,
    /// Root.
    Root,
}

impl Who {
    /// Everybody.
    pub const ALL: [Who; 7] =
        [Who::NoToken, Who::BadToken, Who::Expired, Who::Deleted, Who::Bare, Who::Ranged, Who::Root];
}

/// What must come of a call.
pub fn expected(need: Need, who: Who) -> Option<Denial> {
    let known = matches!(who, Who::Bare | Who::Ranged | Who::Root);
    match (need, who) {
        (Need::Nothing, _) | (_, Who::Root) => None,
        (_, Who::NoToken) => Some(Denial::UserEmpty),
        (_, _) if !known => Some(Denial::InvalidToken),
        (Need::Known, _) | (Need::Inside, Who::Ranged) => None,
        _ => Some(Denial::Denied),
    }
}

/// Goes through these rows on a world. Returns how many cells there were.
///
/// # Errors
/// Every cell that is not as it must be, in one message.
pub fn walk(world: &mut World, rows: &[Row], upstream: bool) -> Result<usize> {
    let full = world.full;
    let mut wrong = Vec::new();
    let mut cells = 0;
    for row in rows {
        // A full store gives no lease that could be ended.
        if (upstream && row.upstream == Upstream::Skip) || (full && row.takes_a_lease) {
            continue;
        }
        let mut let_pass = false;
        for who in Who::ALL {
            for json in [false, true] {
                if (json && row.route.is_empty()) || (who == Who::Root && row.not_as_root) {
                    continue;
                }
                cells += 1;
                let want = expected(row.need, who);
                let outcome = match world.ask(row, who, json) {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        wrong.push(format!("{} by {who:?}: {error:#}", row.name));
                        continue;
                    }
                };
                // Locks and elections begin with a lease, which a full store refuses to everybody.
                if full && row.is_recipe() && outcome.text.ends_with("database space exceeded") {
                    continue;
                }
                if upstream {
                    // Upstream's words for a refusal differ between its releases; that it refuses is what counts.
                    let broken = outcome.denial.is_none() && want.is_some();
                    let_pass |= broken;
                    let known = broken && row.upstream == Upstream::LetsPass;
                    if outcome.denial.is_some() != want.is_some() && !known {
                        wrong.push(line(row, who, json, want, &outcome));
                    }
                } else if outcome.denial != want || (want.is_some() && !row.codes_are_right(&outcome)) {
                    wrong.push(line(row, who, json, want, &outcome));
                }
            }
        }
        if upstream && row.upstream == Upstream::LetsPass && !let_pass {
            wrong.push(format!("{}: upstream lets nobody pass any more", row.name));
        }
    }
    if wrong.is_empty() {
        Ok(cells)
    } else {
        bail!("{} of {cells} cells are wrong:\n{}", wrong.len(), wrong.join("\n"))
    }
}

fn line(row: &Row, who: Who, json: bool, want: Option<Denial>, outcome: &Outcome) -> String {
    let way = if json { "json" } else { "grpc" };
    format!("{} by {who:?} ({way}): must be {want:?}, is {outcome:?}", row.name)
}
