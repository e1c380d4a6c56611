//! The digest of everything: `Maintenance.Hash`. For tests of whole members against each other.

use eyrie_state::{Bucket, TableFault, record};

use super::Source;

/// CRC-32C over the names, keys and values of all buckets, without what differs between equal members: the position in
/// the log.
///
/// # Errors
/// [`TableFault`] when damaged.
pub fn hash_all(source: &impl Source) -> Result<u32, TableFault> {
    let mut crc = 0;
    for bucket in Bucket::ALL {
        // Bucket `key` stands between `cluster` and `lease`.
        if bucket == Bucket::Lease {
            crc = crc32c::crc32c_append(crc, b"key");
            source.history(&mut |at, tombstone, value| {
                let (key, len) = record::position_key(at, tombstone);
                crc = crc32c::crc32c_append(crc, &key[..len]);
                crc = crc32c::crc32c_append(crc, value);
                true
            })?;
        }
        crc = crc32c::crc32c_append(crc, bucket.name().as_bytes());
        source.small(bucket, &mut |key, value| {
            let moves = bucket == Bucket::Meta && matches!(key, b"consistent_index" | b"term");
            if !moves {
                crc = crc32c::crc32c_append(crc, key);
                crc = crc32c::crc32c_append(crc, value);
            }
        })?;
    }
    Ok(crc)
}
