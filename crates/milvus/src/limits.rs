//! Every limit of this crate, with its reason.

/// Longest path of an object that is believed. S3 allows 1024 bytes; a longer one in a value is damage, not a name.
pub(crate) const PATH_BYTES_MAX: usize = 1024;

/// How many unknown keys a layout names. A whole foreign program may live beside Milvus: the count says how many there are.
pub(crate) const UNKNOWN_KEYS_NAMED_MAX: usize = 20;

/// Deepest nesting that the editor of values follows. Milvus's own values need four.
pub(crate) const WIRE_DEPTH_MAX: usize = 8;

/// How many findings of one kind a report names, the rest is counted: a report is read by a person.
pub(crate) const FINDINGS_NAMED_MAX: usize = 100;

/// Longest name of a logical backup: what milvus-backup takes.
pub(crate) const BACKUP_NAME_LEN_MAX: usize = 128;

/// How many breaches of the format are named: enough to see what kind of writer it was.
pub(crate) const BREACHES_NAMED_MAX: usize = 100;

/// Deepest nesting in a Parquet file's description: the real ones need six.
pub(crate) const THRIFT_DEPTH_MAX: usize = 32;

/// Parts of one description. A log of one column has about a hundred for each group of rows; a list that claims billions
/// must not fill the memory.
pub(crate) const THRIFT_ITEMS_MAX: usize = 1 << 20;

/// Rows of one log whose values are read into memory: Milvus closes a segment at 1 GB, which are some millions.
pub(crate) const LOG_VALUES_MAX: u64 = 1 << 26;

/// Different sets of segments in which rows of one partition stand. A compaction leaves a few; beyond this nothing that Milvus
/// does explains it, and the memory for them would have no bound.
pub(crate) const HOLDERS_MAX: usize = 1 << 20;

/// Longest text that a field of Milvus holds, in bytes.
pub(crate) const TEXT_LEN_MAX: u64 = 65_535;
