//! The limits of memory, on one page.

use crate::ids::LivedMillis;

/// The format this program writes, and the newest it reads. A record of a higher one is refused with words.
pub const FORMAT: u32 = 1;

/// Bytes; no record is larger. What could grow with the number of objects lies in files that records name.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// Bytes; a stored name or a source path is never longer (object stores allow 1024).
pub const PATH_BYTES_MAX: usize = 1024;

/// Bytes; ids and fingerprints are short words.
pub const WORD_BYTES_MAX: usize = 200;

/// Names that one record may list (objects of a hole, damaged files): the rest is a count.
pub const NAMED_MAX: usize = 100;

/// Records between two checkpoints: a reader fetches about as many, a few hundred small files at most.
pub const CHECKPOINT_EVERY: u64 = 512;

/// How far past the newest listed record a reader looks, in one go: listings may be stale, a `GET` is not.
pub const PROBE_AHEAD: u64 = 4;

/// Names that a loader asks for at a time.
pub const WANT_MAX: usize = 64;

/// Past drills and verifications that the folded state remembers.
pub const REMEMBERED_MAX: usize = 32;

/// Longest time that one silence between two records adds to the archive's age. A clock that jumps a year ahead ages
/// nothing by more than this; a shorter bound would make archives with rare fulls age too slowly.
pub const SILENCE_MAX: LivedMillis = LivedMillis(2 * 24 * 3600 * 1000);

/// Milliseconds; pieces of tail of one such span become one: a week of tail is then about a thousand files.
pub const MERGE_SPAN_MS: i64 = 10 * 60 * 1000;

/// Plain bytes; a merged piece is not larger, so that a restore can hold one in memory.
pub const MERGE_BYTES_MAX: u64 = 64 << 20;

/// Pieces of the index beyond which it should be merged: each is a file to fetch before anything can be mirrored.
pub const INDEX_PIECES_MAX: usize = 64;
