//! Logical backups: collections by Milvus's own API, in the format of milvus-backup.
//!
//! ```text
//! create    Milvus: what is there, flush, which segments ─▶ copies of their logs ─▶ meta files, the marker last
//! restore   meta files ─▶ plan ─▶ Milvus: databases, collections, partitions, indexes ─▶ imports, counted ─▶ load
//! salvage   logs alone ─▶ what each segment is ─▶ a schema of a person ─▶ Milvus: collection, each row once, compared
//! ```
//!
//! A backup counts when `meta/backup_meta.json` is there, and that is written last. Rows are counted before anybody is
//! told of a success: Milvus calls an import of nothing completed.

pub mod check;
mod claims;
mod codec;
pub mod config;
mod convert;
pub mod create;
mod doors;
mod failure;
mod gc;
mod http;
mod milvus;
pub mod moving;
pub mod news;
mod rbac;
pub mod regular;
pub mod restore;
pub mod salvage;
mod sealing;
pub mod server;
pub mod store;
pub mod verify;

pub use doors::Doors;
pub use failure::{Failure, Kind, Result};
pub use milvus::{Milvus, Version};
pub use news::{News, Tell};
