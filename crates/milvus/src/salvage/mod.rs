//! Rows out of a bucket whose metadata is gone.
//!
//! ```text
//! logs of keys, times and deletes ─▶ census ─▶ who shares which rows ─▶ shares ─▶ each row is taken from one segment
//! descriptions of columns ─▶ schema, with guesses ─▶ a person corrects it ─▶ compared with the logs
//! ```
//!
//! A row is known by its key and its time: the same pair is the same row, wherever it stands. Compaction writes the rows of
//! segments, less those that were deleted, into others, and the old ones stay until garbage collection. Ids do not tell which
//! is which: an output may have a lower one than its inputs. So nothing is judged by ids, but by what is in the segments.

mod census;
mod choice;
mod deletes;
mod key;
mod rows;
pub mod schema;

pub use census::{Census, Slice, Tally, TooTangled};
pub use choice::{Choice, Share};
pub use deletes::delete;
pub use key::{Key, KeySum};
pub use rows::Rows;
