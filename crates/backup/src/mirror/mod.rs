//! `mirror`: makes one bucket or folder equal to another.
//!
//! ```text
//!   list both ─▶ plan (pure, a reason for each step) ─▶ copy in parallel, compared ─▶ remove, if asked for
//! ```
//! Nothing is removed before everything is copied, and nothing at all when the source is empty. Killed at any point, the
//! next run does the rest: what is there with its length and a later time is not moved again.

mod plan;
mod run;
mod watch;

pub use self::plan::{CopyStep, Gap, Plan, Refusal, Removal, Side, Why, differs, plan};
pub use self::run::{Failure, MirrorError, Options, Report, mirror};
pub use self::watch::{Round, watch};

/// What happens during a run, for whoever shows it. Called from many tasks at once.
pub trait Progress: Send + Sync {
    /// Both sides are being listed; so many objects are seen so far.
    fn listing(&self, source: u64, target: u64) {
        let _ = (source, target);
    }
    /// The plan is made; its steps begin now.
    fn planned(&self, plan: &Plan) {
        let _ = plan;
    }
    /// So many bytes came from the source since the last call.
    fn moved(&self, bytes: u64) {
        let _ = bytes;
    }
    /// An object is copied.
    fn copied(&self, key: &str, len: u64) {
        let _ = (key, len);
    }
    /// An object could not be copied or removed.
    fn failed(&self, failure: &Failure) {
        let _ = failure;
    }
    /// An object is removed from the target.
    fn removed(&self, key: &str) {
        let _ = key;
    }
}

/// Shows nothing.
impl Progress for () {}

#[cfg(test)]
mod tests;
