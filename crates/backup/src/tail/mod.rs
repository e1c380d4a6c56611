//! The tail: history between two fulls, cut into segments that are never rewritten.

pub mod cutter;
pub mod run;
pub mod segment;
