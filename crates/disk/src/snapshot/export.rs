//! A view of the tables becomes the file that upstream's tools know: a bbolt image, then its SHA-256.
//!
//! One pass over the records, constant memory, length known before the first byte.

use std::io::{self, BufWriter, Write};

use bytes::Bytes;
use eyrie_state::record::position_key;
use eyrie_state::{Bucket, TableFault};
use sha2::{Digest, Sha256};

use super::{HASH_LEN, Source};
use crate::bbolt::{BucketPlan, Image, WriteFault};

const KEY_BUCKET: &str = "key";
const WRITE_BUFFER_LEN: usize = 64 * 1024;

/// A snapshot that is ready to be written.
pub struct Export<S> {
    source: S,
    image: Image,
}

/// Why an export ended early. What was written is worthless: its hash is missing.
pub type ExportFault = WriteFault<TableFault>;

impl<S: Source> Export<S> {
    /// Reads the small buckets and lays out the file.
    ///
    /// # Errors
    /// [`TableFault`] when the tables are damaged.
    pub fn plan(source: S) -> Result<Self, TableFault> {
        let mut buckets = vec![(KEY_BUCKET.to_owned(), BucketPlan::Streamed(source.history_extent()?))];
        for bucket in Bucket::ALL {
            let mut pairs = Vec::new();
            source.small(bucket, &mut |key, value| {
                pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            })?;
            if bucket == Bucket::Meta {
                let (index, term) = source.applied();
                set(&mut pairs, b"consistent_index", &index.0.to_be_bytes());
                set(&mut pairs, b"term", &term.0.to_be_bytes());
            }
            buckets.push((bucket.name().to_owned(), BucketPlan::Small(pairs)));
        }
        buckets.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self { source, image: Image::plan(buckets) })
    }

    /// Bytes of the whole file, the hash included.
    pub fn len(&self) -> u64 {
        self.image.len() + HASH_LEN as u64
    }

    /// Never: even a snapshot of nothing has its meta pages.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes exactly [`Export::len`] bytes.
    ///
    /// # Errors
    /// [`ExportFault`] when `out` refuses or the tables are damaged.
    pub fn write_to<W: Write>(&self, out: W) -> Result<W, ExportFault> {
        let hashing = Hashing { out, hash: Sha256::new() };
        let buffered = BufWriter::with_capacity(WRITE_BUFFER_LEN, hashing);
        let buffered = self.image.write(buffered, |_, sink| {
            let mut fault = None;
            let read = self.source.history(&mut |at, tombstone, record| {
                let (name, len) = position_key(at, tombstone);
                fault = sink(&name[..len], record).err();
                fault.is_none()
            });
            match fault {
                Some(cause) => Err(cause),
                None => read.map_err(WriteFault::Source),
            }
        })?;
        let Hashing { mut out, hash } = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        out.write_all(&hash.finalize())?;
        out.flush()?;
        Ok(out)
    }
}

/// Puts a pair at its place, in place of the one that may be there.
fn set(pairs: &mut Vec<(Bytes, Bytes)>, key: &'static [u8], value: &[u8]) {
    let pair = (Bytes::from_static(key), Bytes::copy_from_slice(value));
    match pairs.binary_search_by(|(k, _)| k.as_ref().cmp(key)) {
        Ok(at) => pairs[at] = pair,
        Err(at) => pairs.insert(at, pair),
    }
}

/// Passes bytes on and remembers their hash.
struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(bytes)?;
        self.hash.update(&bytes[..taken]);
        Ok(taken)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
