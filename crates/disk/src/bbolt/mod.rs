//! bbolt files: the format of etcd's database and of its snapshots.
//!
//! A small reader that trusts nothing, and a writer that lays pages down once, in order. Neither is a live engine:
//! nothing here changes a page in place. Must never know what the buckets mean.

mod cursor;
mod format;
mod page;
mod reader;
mod writer;

pub use cursor::Cursor;
pub use reader::{BoltFault, Database, PageSource};
pub use writer::{BucketPlan, Extent, Image, Sink, WriteFault};
