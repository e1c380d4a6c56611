//! The tail: history between two fulls, cut into segments that are never rewritten.

mod begin;
pub mod cutter;
mod fulls;
mod merging;
pub mod orders;
mod pieces;
pub mod run;
pub mod segment;
