//! A place for decoders that read files: in memory where the system has such a place.

use std::path::Path;

use tempfile::TempDir;

/// A new folder, gone when dropped.
pub(super) fn dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a folder for the decoder's files")
}
