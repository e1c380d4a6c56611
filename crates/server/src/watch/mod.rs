//! The watch hub: from one stream of applied revisions to many streams of watchers.
//!
//! ```text
//! apply thread ─ publish ─▶ registry ─▶ trail of each group that matches ─▶ wake ─▶ stream tasks pull
//!                           (pure)      (one encoding, shared by all)      (once)    at their own pace
//!                                                       behind the trail? ◀─ read history through `Records`
//! ```
//!
//! Nothing is queued for a watcher: it is a cursor. Publishing costs the same whether watchers are fast or slow, and
//! what all trails hold together is bounded; a watcher that falls off its trail reads history until it is back.
//! So no event is lost, none comes twice, and a revision is never torn.
//!
//! Knows nothing of how a command is agreed on or applied.

mod codec;
mod encode;
mod frame;
mod group;
mod history;
mod hub;
mod limits;
mod requests;
mod service;
mod source;
mod stats;
mod stream;
mod wake;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod stream_tests;

pub use frame::Frame;
pub use hub::WatchHub;
pub use service::WatchService;
pub use source::{Source, View};
pub use stats::WatchStats;
pub use stream::{WatchSettings, WatchStream};
