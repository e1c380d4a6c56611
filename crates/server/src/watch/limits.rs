//! Every bound of watching, each with its reason.

/// Bytes of events that all trails hold together. Some seconds of heavy writing: a watcher that is further behind
/// reads from history, where it costs no memory.
pub(super) const TRAIL_BYTES_MAX: usize = 32 << 20;
/// Matched revisions that all trails hold together: bounds the memory of many watchers of small events.
pub(super) const TRAIL_REVISIONS_MAX: usize = 256 << 10;
/// Distinct revisions in one response (etcd's figure).
pub(super) const RESPONSE_REVISIONS_MAX: usize = 1000;
/// Bytes in one response, unless a single revision is larger: revisions are never torn.
pub(super) const RESPONSE_BYTES_MAX: usize = 256 << 10;
/// Records read from history in one go: bounds the time in which a stream's thread serves nobody else.
pub(super) const HISTORY_RECORDS_MAX: usize = 1000;
/// Bytes of matching records read from history in one go.
pub(super) const HISTORY_BYTES_MAX: usize = 1 << 20;
/// Watchers of one stream that share one reading of history (etcd's figure).
pub(super) const HISTORY_WATCHERS_MAX: usize = 512;
/// Bytes of responses that a stream prepares from one reading of history; the rest reads again.
pub(super) const PREPARED_BYTES_MAX: usize = 2 << 20;
/// Answers that may wait for a client before its next request is looked at.
pub(super) const ANSWERS_WAITING_MAX: usize = 64;
/// Looks at history under one hold of the state's lock.
pub(super) const LOOKUPS_PER_LOCK_MAX: usize = 64;
/// Ready-made joined responses that a group keeps for watchers who are equally far behind.
pub(super) const JOINED_PER_GROUP_MAX: usize = 4;
/// The shortest interval of progress notifications (etcd's figure).
pub(super) const PROGRESS_INTERVAL_MIN: std::time::Duration = std::time::Duration::from_millis(100);
