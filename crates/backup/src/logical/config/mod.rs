//! `backup.yaml` in both generations, the environment, and `--set`: read into one [`Settings`].
//!
//! ```text
//! file (v1 or v2) ┐
//! environment     ├─▶ keys: every value under its v2 name, with where it came from ─▶ settings: checked
//! --set           ┘
//! ```
//!
//! What goes before what: `--set`, environment, file, default. Keys that nobody reads are said in a warning: a typo in
//! a backup's configuration must not be silent.

mod keys;
mod read;
mod settings;

#[cfg(test)]
mod tests;

pub use read::{Given, Read, read};
pub use settings::{Concurrency, MilvusSettings, Provider, Settings, StorageSettings, Tls};

/// Why a configuration can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}. Nothing was done.\n  Next: correct it; docs/milvus-backup.md names every key.")]
pub struct ConfigError {
    /// The file, the variable or the flag.
    pub place: String,
    /// What is wrong.
    pub why: String,
}
