//! Snapshot files, as `snapshot restore` and `snapshot status` read them.

use std::cell::RefCell;

use eyrie_disk::snapshot::{SnapshotFault, SnapshotFile};
use eyrie_state::Bucket;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{Target, bbolt, scratch};

thread_local! {
    /// One folder for all inputs.
    static DIR: RefCell<TempDir> = RefCell::new(scratch::dir());
}

pub(super) const TARGET: Target = Target {
    name: "snapshot",
    what: "snapshot files: hash, structure, content",
    corpus: || [0, 3, 500].map(bbolt::image).map(sealed).to_vec(),
    reseal: Some(bbolt::reseal),
    run: |input| {
        let path = DIR.with_borrow(|dir| dir.path().join("snapshot"));
        std::fs::write(&path, input).expect("write the snapshot");
        // With the hash almost every broken input ends there; without it the rest is reached.
        let strict = SnapshotFile::open(&path, false).is_ok();
        let Ok(file) = SnapshotFile::open(&path, true) else {
            assert!(!strict, "a file is accepted with its hash and refused without");
            return false;
        };
        if file.check_content().is_err() {
            return false;
        }
        let status = file.status().expect("the status of a checked file");
        let mut pairs = 0;
        file.history::<SnapshotFault>(|_, _, _| {
            pairs += 1;
            Ok(())
        })
        .expect("the history of a checked file");
        for bucket in Bucket::ALL {
            pairs += file.small(bucket).expect("a bucket of a checked file").len() as u64;
        }
        assert_eq!(pairs, status.total_key, "status and content count differently");
        true
    },
};

/// The image with the trailer that upstream writes.
fn sealed(mut image: Vec<u8>) -> Vec<u8> {
    let hash = Sha256::digest(&image);
    image.extend_from_slice(&hash);
    image
}
