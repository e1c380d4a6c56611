//! A Parquet file with one column: how many rows it has, and where their pages are.

use super::{BadLog, thrift};

/// The last four bytes, and the first.
const MAGIC: &[u8] = b"PAR1";

/// The description of a Parquet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parquet {
    /// Its rows.
    pub rows: u64,
}

impl Parquet {
    /// Reads the description at the end.
    ///
    /// # Errors
    /// The bytes are no Parquet file, or not whole.
    pub fn read(bytes: &[u8]) -> Result<Parquet, BadLog> {
        const CUT: BadLog = BadLog("the rows end too early");
        let (rest, magic) = bytes.split_last_chunk::<4>().ok_or(CUT)?;
        if magic != MAGIC || !rest.starts_with(MAGIC) {
            return Err(BadLog("the rows are no Parquet file"));
        }
        let (rest, len) = rest.split_last_chunk::<4>().ok_or(CUT)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| CUT)?;
        let description = rest.len().checked_sub(len).map(|start| &rest[start..]).ok_or(CUT)?;
        let (description, _) = thrift::read(description)?;
        let rows = description.int(3).and_then(|rows| u64::try_from(rows).ok());
        let rows = rows.ok_or(BadLog("the number of rows is missing"))?;
        // Every group of rows says how many it has; together they must be all.
        let groups = description.list(4).iter().map(|group| group.int(3).and_then(|rows| u64::try_from(rows).ok()));
        if groups.sum::<Option<u64>>() != Some(rows) {
            return Err(BadLog("the numbers of rows contradict each other"));
        }
        Ok(Parquet { rows })
    }
}
