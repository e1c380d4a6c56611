//! Watch matching: which watchers get which events, in which order, and from where.
//!
//! ```text
//!              Registry                          Trail (one per group)
//! events ──▶ exact keys, spans ──▶ groups ──▶ │ complete_from … newest │ ◀── Cursor of each watcher
//! ```
//!
//! Watchers that want the same ([`Interest`]) form one *group*: an event is matched once per group, however many
//! watch. A watcher itself is nothing but the next revision it has not seen. Is that revision on the group's
//! [`Trail`], the watcher is *synced* and reads there; is it older, it is *unsynced* and must read history first.
//! Nothing is ever queued for a single watcher, so a slow one costs no memory.
//!
//! Knows neither clocks nor streams nor bytes on a wire.

mod interest;
mod registry;
mod spans;
mod trail;

#[cfg(test)]
mod model_tests;

pub use interest::{EmptyRange, Filters, Interest};
pub use registry::{GroupId, Match, Registry};
pub use trail::{Pull, Trail};
