//! Clusters that are hurt in one way each, while clients write down all they are told and watchers all they hear.
//!
//! ```text
//! found a cluster ─▶ load ─▶ hurt it (one row of the table) ─▶ heal ─▶ load ─▶ all members take part ─▶ check the history
//! ```
//! A run fails on any broken promise and on a member that does not come back; it does not count when fewer calls were answered
//! than [`CALLS_PER_SECOND_MIN`]: a cluster that stands still breaks no promise, and proves nothing.

mod kinds;
mod world;

use std::time::Duration;

use anyhow::{Context, Result};

pub use kinds::{KINDS, Kind};
pub use world::{Member, World};

use crate::binaries::Program;
use crate::history::{Checked, History};

/// Answered calls per second over the whole run, fault and all: with fewer, a run proves too little and is made again.
pub const CALLS_PER_SECOND_MIN: f64 = 500.0;
/// Load before the fault, and after it.
const BEFORE_AND_AFTER: Duration = Duration::from_millis(500);

/// What one run was.
#[derive(Debug)]
pub struct Ran {
    /// What was checked.
    pub checked: Checked,
    /// Answered calls per second.
    pub rate: f64,
}

/// One run of one kind of fault.
///
/// # Errors
/// The first broken promise, with the members' last words and where everything was kept.
pub fn run(kind: &Kind, program: &Program, seed: u64) -> Result<Ran> {
    let dir = tempfile::Builder::new().prefix(&format!("eyrie-fault-{}-", kind.name)).tempdir()?;
    let mut world = World::start(kind, program, dir.path(), seed).context("start the cluster")?;
    let hurt = hurt(kind, &mut world);
    let logs = world.logs();
    let outcome = hurt.and_then(|()| judge(world));
    let (history, judged) = match outcome {
        Ok((history, judged)) => (Some(history), judged),
        Err(error) => (None, Err(error)),
    };
    judged.with_context(|| {
        let kept = dir.keep();
        if let Some(history) = history {
            let _ = std::fs::write(kept.join("history"), format!("{history:#?}"));
        }
        format!("{} with EYRIE_SEED={seed}, kept in {}\n{logs}", kind.name, kept.display())
    })
}

fn hurt(kind: &Kind, world: &mut World) -> Result<()> {
    std::thread::sleep(BEFORE_AND_AFTER);
    (kind.hurt)(world).context("while it was hurt")?;
    world.settle().context("after it was healed")?;
    std::thread::sleep(BEFORE_AND_AFTER);
    Ok(())
}

fn judge(world: World) -> Result<(History, Result<Ran>)> {
    let endpoints = world.members.iter().map(|member| member.store.endpoint()).collect();
    let World { recorder, members, net, .. } = world;
    let (history, rate) = recorder.finish(endpoints)?;
    // The cluster is needed no more, and checking takes a core.
    drop((members, net));
    let judged = history.check().map(|checked| Ran { checked, rate });
    Ok((history, judged))
}
