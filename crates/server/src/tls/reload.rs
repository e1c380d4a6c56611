//! What is made from files, and made anew when they change.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{log_info, log_warn};

/// What tells that a file was replaced or rewritten; `None` for a file that is not there.
type Stamp = Option<(u64, u64, i64, i64, i64, i64)>;

/// Something made from files.
pub(super) struct Reloading<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    held: Mutex<(Vec<Stamp>, Arc<T>)>,
}

impl<T> std::fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading").field("what", &self.what).field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T> Reloading<T> {
    /// Makes it for the first time. `files` are all that `make` reads.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        // Stamps first: a change between the two is seen the next time.
        let stamps = files.iter().map(|file| stamp(file)).collect();
        let value = Arc::new(make()?);
        Ok(Self { what, files, make: Box::new(make), held: Mutex::new((stamps, value)) })
    }

    /// What the files say now. A change that cannot be used is told once in the log and leaves the old in force.
    pub(super) fn current(&self) -> Arc<T> {
        let stamps: Vec<Stamp> = self.files.iter().map(|file| stamp(file)).collect();
        let mut held = self.held.lock();
        if held.0 != stamps {
            held.0 = stamps;
            match (self.make)() {
                Ok(value) => {
                    held.1 = Arc::new(value);
                    log_info!("certificates have changed; new connections use the new ones", "for" = self.what);
                }
                Err(error) => log_warn!(
                    "certificates have changed, but the new ones cannot be used; the old ones stay in force",
                    "for" = self.what,
                    "error" = &error
                ),
            }
        }
        held.1.clone()
    }
}

fn stamp(file: &Path) -> Stamp {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_and_a_bad_change_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "one").unwrap();
        let path = file.clone();
        let make = move || match std::fs::read_to_string(&path) {
            Ok(text) if text.starts_with("bad") => Err("bad".to_owned()),
            read => read.map_err(|error| error.to_string()),
        };
        let reloading = Reloading::new("tests", vec![file.clone()], make).unwrap();
        assert_eq!(*reloading.current(), "one");
        std::fs::write(&file, "two!").unwrap();
        assert_eq!(*reloading.current(), "two!");
        std::fs::write(&file, "bad words").unwrap();
        assert_eq!(*reloading.current(), "two!");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(*reloading.current(), "two!");
        // As a secret of Kubernetes changes: another file takes the name.
        std::fs::write(dir.path().join("next"), "four").unwrap();
        std::fs::rename(dir.path().join("next"), &file).unwrap();
        assert_eq!(*reloading.current(), "four");
    }
}
