//! A mirror that goes on: round after round, until it is told to stop.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::Progress;
use super::plan::Plan;
use super::run::{MirrorError, Options, Report, mirror};
use crate::bucket::{Bucket, Kind};
use crate::limits::{WATCH_PAUSE_MAX, WATCH_REST_FACTOR};

/// How a round went, for whoever listens.
pub enum Round {
    /// It ran; single objects may have failed.
    Done(Box<(Plan, Report)>),
    /// A side could not be listed; the next round comes after the pause.
    Failed {
        /// Why.
        error: MirrorError,
        /// Until then.
        pause: Duration,
    },
}

/// Mirrors every `every`, until `stop` comes; a round that runs is ended at its next await, and what it copied is kept.
///
/// Changes are found by listing. The pause is at least twice the time that the last listing took, and doubles with every
/// round that fails as a whole.
///
/// # Errors
/// What no further round can mend: refused plans, wrong settings, missing rights; in the first round also a missing source.
pub async fn watch(
    source: &Bucket,
    target: &Bucket,
    options: &Options,
    every: Duration,
    progress: &dyn Progress,
    tell: &(dyn Fn(Round) + Sync),
    stop: impl Future<Output = ()>,
) -> Result<(), MirrorError> {
    let mut stop = std::pin::pin!(stop);
    let mut failed = 0_u32;
    let mut first = true;
    loop {
        let began = Instant::now();
        let round = tokio::select! {
            round = mirror(source, target, options, progress) => round,
            () = &mut stop => return Ok(()),
        };
        let took = began.elapsed();
        let pause = match round {
            Ok(round) => {
                failed = 0;
                tell(Round::Done(Box::new(round)));
                every.max(took * WATCH_REST_FACTOR)
            }
            Err(error) if is_final(&error, first) => return Err(error),
            Err(error) => {
                failed += 1;
                let pause = every.saturating_mul(1 << failed.min(10)).min(WATCH_PAUSE_MAX);
                tell(Round::Failed { error, pause });
                pause
            }
        };
        first = false;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut stop => return Ok(()),
        }
    }
}

fn is_final(error: &MirrorError, first: bool) -> bool {
    match error {
        // An emptied source may fill again; until then nothing is removed.
        MirrorError::Refused(_) => first,
        MirrorError::Bucket(error) => match error.kind {
            Kind::Config | Kind::Denied => true,
            Kind::NotFound => first,
            _ => false,
        },
    }
}
