//! The tail: history between two fulls, cut into segments that are never rewritten.

pub mod cutter;
mod merging;
pub mod orders;
pub mod run;
pub mod segment;
