//! Every limit of this crate, with its reason.

/// Longest path of an object that is believed. S3 allows 1024 bytes; a longer one in a value is damage, not a name.
pub(crate) const PATH_BYTES_MAX: usize = 1024;

/// How many unknown keys a layout names. A whole foreign program may live beside Milvus: the count says how many there are.
pub(crate) const UNKNOWN_KEYS_NAMED_MAX: usize = 20;

/// Deepest nesting that the editor of values follows. Milvus's own values need four.
pub(crate) const WIRE_DEPTH_MAX: usize = 8;

/// How many findings of one kind a report names, the rest is counted: a report is read by a person.
pub(crate) const FINDINGS_NAMED_MAX: usize = 100;
