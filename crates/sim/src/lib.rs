//! A cluster in a world made of one seed: virtual time, network and disks, the real agreement and the real state.
//!
//! ```text
//!            ┌────────────────────────── world: a queue of events in the order of time ─────────────────────────┐
//! clients ──▶│ member: Group (raft) ─▶ Disk (log: what is not synced may be lost) ─▶ State ─▶ Disk (tables)      │
//!            │    ▲──────── Net: lose, delay, repeat, overtake, cut ────────▼                                    │
//!            │ trouble: crash at any step, power cut, bit rot, partitions, changes of the members                │
//!            └──▶ oracle: one leader a term, committed is for ever, equal digests; and the clients' history ─────┘
//! ```
//! A member's round is the one of the server's raft thread: say what leads, hand over what is to be written, hand on what is
//! committed; its log writes meanwhile, and what relies on that is said when it has synced. Each step takes time, and a crash may
//! come between any two. The same seed gives the same run, to the byte.
//!
//! May never ask a clock, chance, a file, a thread or the network: all of them are values here.

mod clients;
mod disk;
mod flaw;
mod member;
mod net;
mod oracle;
mod script;
mod trouble;
mod world;

pub use flaw::Flaw;
pub use world::{Failure, Report, Verdicts, flaw_of, notice, play, play_flawed, run, run_flawed};
