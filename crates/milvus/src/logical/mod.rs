//! Logical backups: the format of Zilliz's milvus-backup, read and written.
//!
//! ```text
//! <root>/<name>/meta/full_meta.json         the whole tree; what a reader prefers        ┐
//!                   {collection,partition,segment}_meta.json   the same in levels        ├ levels
//!                   backup_meta.json        a backup exists when this does               ┘
//! <root>/<name>/binlogs/insert_log/...      copies of what Milvus keeps                    layout
//! <root>/<name>/eyrie/manifest.json         ours alone: lengths, checksums, what failed    manifest
//! ```
//!
//! docs/format/milvus-backup.md has all of it. Values in, values out: who lists and copies is the shell.

pub mod layout;
pub mod levels;
mod living;
pub mod manifest;
pub mod meta;
pub mod names;
mod strict;

pub use layout::{BackupName, Grouping};
pub use levels::{FormatError, Levels, assemble, read_full};
pub use living::{Deletes, Living};
pub use manifest::Manifest;
pub use names::{CollectionName, Filter, Rename, Renames};
pub use strict::{Breach, breaches};
