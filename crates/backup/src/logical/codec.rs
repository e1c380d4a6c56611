//! What logs are compressed with.

/// Undoes Parquet's compressions, as far as Milvus uses them.
pub(super) fn inflate(codec: i64, bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    /// The number of zstd.
    const ZSTD: i64 = 6;
    if codec == ZSTD { zstd::bulk::decompress(bytes, len).ok() } else { None }
}
