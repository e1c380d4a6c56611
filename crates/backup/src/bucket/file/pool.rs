//! Room for what is read from files, used again.
//!
//! A large allocation is fresh memory from the kernel each time, cleared page by page when it is first touched; for bytes
//! that only pass through, that was a tenth of what a copy between folders costs.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::limits::{FILE_READ_BYTES, POOLED_READS};

/// Room that nobody uses at the moment; never more than [`POOLED_READS`].
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Box<[u8]>>>>);

impl Pool {
    /// Room for [`FILE_READ_BYTES`], with whatever it held before.
    pub(super) fn room(&self) -> Room {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Room { bytes: free.unwrap_or_else(|| vec![0; FILE_READ_BYTES].into()), filled: 0, home: self.clone() }
    }
}

/// Room of a pool; returns to it when it is dropped, also as [`Bytes`].
pub(super) struct Room {
    bytes: Box<[u8]>,
    filled: usize,
    home: Pool,
}

impl Room {
    /// The part that is not filled yet, up to `len` bytes in all.
    pub(super) fn rest(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.filled..len]
    }

    /// So many bytes more are filled.
    pub(super) fn fill(&mut self, more: usize) {
        self.filled += more;
    }

    /// How many bytes are filled.
    pub(super) fn len(&self) -> usize {
        self.filled
    }

    /// What was filled. A short piece gets memory of its own, so that who keeps it does not keep the room.
    pub(super) fn freeze(self) -> Bytes {
        match self.filled {
            short if short < FILE_READ_BYTES / 2 => Bytes::copy_from_slice(&self.bytes[..short]),
            _ => Bytes::from_owner(self),
        }
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut free = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < POOLED_READS {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}
