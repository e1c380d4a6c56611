//! Every bound of this crate, on one page, with its reason.

use std::time::Duration;

/// Longest name of an object, in bytes: what S3 allows.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest part of a name between two slashes: what a file system allows.
pub const KEY_COMPONENT_BYTES_MAX: usize = 255;
/// Largest object that is read into memory as a whole unless the caller names another limit.
pub const READ_BYTES_MAX: u64 = 64 << 20;
/// Largest object that may be created only if absent: it is compared as a whole when the answer got lost.
pub const CREATE_BYTES_MAX: usize = 64 << 20;
/// What a streamed write holds in memory: below it an object is written in one call, above it in parts of this size.
/// Objects beyond 10,000 such parts get larger ones.
pub const PART_BYTES: usize = 8 << 20;
/// Parts that a store takes for one object (S3's figure).
pub const PARTS_MAX: u64 = 10_000;
/// Parts of one object that are on their way at once; memory is this and two more, for each of the calls at once.
pub const PARTS_AT_ONCE: usize = 2;
/// Largest object that S3 copies in one call.
pub const SERVER_COPY_BYTES_MAX: u64 = 5 << 30;
/// Part of a server-side copy of a larger object.
pub const SERVER_COPY_PART_BYTES: u64 = 1 << 30;
/// From here on, bytes are hashed on a thread of their own: about 50 µs of work, some times what handing it over costs.
pub const HASHED_APART_BYTES: usize = 128 << 10;
/// Bytes per read of a file.
pub const FILE_READ_BYTES: usize = 1 << 20;
/// Rooms for reads of files that are kept for the next ones: as many as copies usually run at once.
pub const POOLED_READS: usize = 32;
/// Folders below each other that a listing follows: a loop of mounts must end.
pub const FOLDER_DEPTH_MAX: usize = 128;
/// A temporary file that is older belongs to a process that died, and is removed by the next listing of its folder.
pub const STALE_TEMPORARY_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Attempts of one call, the first included.
pub const RETRY_ATTEMPTS: u32 = 8;
/// Time that the attempts of one call may take together.
pub const RETRY_TOTAL: Duration = Duration::from_secs(120);
/// First pause between two attempts; doubled each time, with chance of half its length.
pub const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Times that a copy begins anew when a store stopped answering in its middle: each has its own budget of retries.
pub const COPY_ATTEMPTS: u32 = 3;
/// Silence after which one attempt counts as lost.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The slowest line that is waited for, per call: 16 calls at once get through a line of 2 Mbit/s.
pub const SLOWEST_BYTES_PER_SEC: u64 = 16 << 10;
/// The slowest copy within a store that is waited for.
pub const SLOWEST_SERVER_COPY_BYTES_PER_SEC: u64 = 4 << 20;
/// Time to open a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls at once, unless the configuration says otherwise: enough to hide the latency of a remote store.
pub const PARALLEL: usize = 16;
/// Most calls at once: sockets and memory (each may hold two parts).
pub const PARALLEL_MAX: usize = 256;
/// Largest secret file: a key, not a mistaken path to a database.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Plain or stored bytes that one step of sealing works on.
pub const SEAL_BLOCK_BYTES: usize = 1 << 20;
/// Blocks that wait between the threads of one envelope that is opened.
pub const SEAL_BLOCKS_AHEAD: usize = 2;
/// Beginning of a file that shows whether it shrinks.
pub const SEAL_SAMPLE_BYTES: usize = 64 << 10;
/// Longest header of an envelope: room for about 500 recipients.
pub const SEAL_HEADER_BYTES_MAX: u64 = 128 << 10;
/// zstd's own default: metadata shrinks to a seventh, at some hundred MB a second.
pub const ZSTD_LEVEL: i32 = 3;
/// Largest window (16 MiB) that is taken from a compressed file: ours have 2 MiB, and a stranger's must not fill the memory.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 24;
/// Failures of a mirror run that are kept with their text; all are counted.
pub const FAILURES_KEPT: usize = 100;
/// Listed names between two words about it.
pub const LISTED_BETWEEN_REPORTS: u64 = 500;
/// How often a mirror run says how many bytes it moved.
pub const MIRROR_PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// A watching mirror rests at least so many times as long as its listing took: watching must not load the stores.
pub const WATCH_REST_FACTOR: u32 = 2;
/// Longest pause of a watching mirror after failed rounds.
pub const WATCH_PAUSE_MAX: Duration = Duration::from_secs(300);

/// Damaged files that a verification tells one by one; all are counted.
pub const FINDINGS_TOLD: usize = 1000;
/// Notices that wait to be told: more at once tell nobody more.
pub const NOTICES_WAITING: usize = 64;
/// How often a notice is tried.
pub const NOTICE_ATTEMPTS: u32 = 3;
/// How long one attempt may take.
pub const NOTICE_LIMIT: Duration = Duration::from_secs(20);
/// Messages of the source whose time is remembered until they are archived: beyond it the lag is that of the oldest.
pub const HEARD_REMEMBERED: usize = 16 << 10;
/// The step of the agent's schedules.
pub const SCHEDULE_TICK: Duration = Duration::from_secs(1);
/// A job that failed is tried again after this time, doubled with each failure …
pub const JOB_RETRY_FIRST: Duration = Duration::from_secs(60);
/// … up to this.
pub const JOB_RETRY_MAX: Duration = Duration::from_secs(3600);
/// First pause before a tail that broke is begun again; doubled …
pub const TAIL_RETRY_FIRST: Duration = Duration::from_secs(2);
/// … up to this.
pub const TAIL_RETRY_MAX: Duration = Duration::from_secs(120);
/// How often a standing-by agent looks whether the archive has become free.
pub const STANDBY_EVERY: Duration = Duration::from_secs(10);
/// Plain bytes of a piece of tail that stands in for short ones: as much is kept in memory for it.
pub const TAIL_MERGE_LEN: u64 = 16 << 20;
/// A piece of so many plain bytes is long enough as it is.
pub const TAIL_LONG_LEN: u64 = 2 << 20;
/// Pause after a merge of the index that failed.
pub const MERGE_RETRY_AFTER: Duration = Duration::from_secs(600);
/// Orders that wait for a running tail.
pub const ORDERS_WAITING: usize = 16;
/// Files that an expiry deletes before it makes sure again that it is still the writer.
pub const SWEEP_BATCH: usize = 200;
/// A writer that deletes says so often that it is still there.
pub const STILL_HERE_EVERY: Duration = Duration::from_secs(15);
/// How often a writer renews the pin of its archive while it writes.
pub const PIN_EVERY: Duration = Duration::from_secs(10);

// The source, the tail and the object mirror.

/// A call to etcd that only asks: longer than an election, short enough that a dead endpoint is noticed.
pub const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Silence within a snapshot stream after which the connection counts as dead.
pub const SNAPSHOT_SILENCE_MAX: Duration = Duration::from_secs(60);
/// Whole attempts at one snapshot, each on the endpoint that looks best by then.
pub const SNAPSHOT_ATTEMPTS_MAX: u32 = 5;
/// Largest message that is taken from etcd: its own default for requests is 1.5 MiB, and people raise it.
pub const MESSAGE_LEN_MAX: usize = 256 << 20;
/// How long members may need to reach a revision and a common compaction before their digests are compared.
pub const AGREE_LIMIT: Duration = Duration::from_secs(20);
/// First pause after a connection to etcd was lost; doubled up to the next.
pub const RECONNECT_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between attempts to reach etcd.
pub const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often a quiet watch is asked whether it is up to date.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// A watch that neither brings events nor answers that question for so long is dead.
pub const WATCH_SILENCE_MAX: Duration = Duration::from_secs(20);
/// Batches of the watch that wait for the cutter. Each has what HTTP/2 lets wait, about 2 MiB, or one longer message.
pub const HEARD_QUEUE: usize = 16;
/// How long the follower sleeps between two looks at a busy watch: the archive is behind by so much more, and the machine has
/// some hundred wake-ups a second instead of one for each change. Not longer: etcd keeps some ten milliseconds of changes for who is
/// slow, and reads them from its disk after that, which costs it much more.
pub const BREATH: Duration = Duration::from_millis(2);
/// Messages of the watch that are taken as one batch.
pub const ANSWERS_AT_ONCE: usize = 4096;
/// Requests on a stream of watches that wait to be sent: all creations and cancellations of a stride, twice.
pub const WATCH_ASKS_WAITING: usize = 4 * LANES_MAX as usize;
/// Changes a second from which on a store is read in strides: Milvus's everyday is far below, and listening is quicker there.
pub const STRIDE_BUSY_RATE: u64 = 2000;
/// Windows of half a second that must be so busy, one after the other.
pub const STRIDE_BUSY_WINDOWS: u32 = 3;
/// Time from one stride to the next: the archive is behind by so much more. A stride holds up writers for as long as the store
/// takes to read it, some milliseconds; etcd begins to read ten times a second.
pub const STRIDE_EVERY: Duration = Duration::from_millis(300);
/// Strides without a full lane, one after the other, after which the store counts as calm: below some 800 changes a second.
pub const STRIDES_EMPTY_MAX: u32 = 3;
/// Revisions of one watch: what etcd puts into one answer. More would come in the next round, 100 ms later.
pub const LANE_REVISIONS: i64 = 1000;
/// Watches of one stride: etcd looks at each of them for each change. 200,000 changes a second are read so.
pub const LANES_MAX: i64 = 64;
/// Keys and values of one stride, about: what waits for the archive is some of these.
pub const STRIDE_LEN: u64 = 4 << 20;
/// A stride that turns out so long is given up, and the store is listened to.
pub const STRIDE_LEN_MAX: usize = 64 << 20;
/// How long a store is listened to before strides are tried again, when it does not keep its past, or something was odd.
pub const STRIDE_REST: Duration = Duration::from_secs(120);
/// A store that compacts by the number of revisions does so every five minutes; a minute later it has.
pub const COMPACTION_CYCLE: Duration = Duration::from_secs(6 * 60);
/// A store that still has the revision before so many, after such a cycle, keeps far more than a stride is behind.
pub const STRIDE_HISTORY_MIN: i64 = 100_000;
/// Limit of connecting to one endpoint for a watch, before the next one is tried.
pub const WATCH_DIAL_LIMIT: Duration = Duration::from_secs(3);
/// A member that does not tell its status so soon is left out.
pub const STATUS_LIMIT: Duration = Duration::from_secs(3);
/// A tail segment is closed when keys and values reach this many bytes: at some thousand changes a second about one a second,
/// so that the syncs of the archive stay few.
pub const SEGMENT_LEN: usize = 4 << 20;
/// A tail segment is closed so long after its first event: with the upload this keeps the archive within two seconds.
pub const SEGMENT_AGE: Duration = Duration::from_secs(1);
/// Longest segment that is decoded: one revision is never split, and a request has at most some MiB.
pub const SEGMENT_LEN_MAX: usize = 512 << 20;
/// Records of the catalogue that are read at the same time.
pub const CATALOG_READS: usize = 16;
/// A writer whose last record is older than this counts as gone. A tail writes at least every [`PROGRESS_RECORD_EVERY`].
pub const WRITER_QUIET: Duration = Duration::from_secs(60);
/// Clocks of two machines that differ by more than this are named as wrong.
pub const CLOCKS_APART_SECS: i64 = 5;
/// How often a tail says in the catalogue that it is up to date, when nothing else is to be said.
pub const PROGRESS_RECORD_EVERY: Duration = Duration::from_secs(20);
/// Block in which files are read for the archive.
pub const PACK_BLOCK_LEN: usize = 256 * 1024;
/// Objects that one index piece records at most: what a kill may have to copy again.
pub const PIECE_OBJECTS_MAX: usize = 1024;
/// How long copied objects wait at most until an index piece records them.
pub const PIECE_AGE: Duration = Duration::from_secs(1);
/// Looks at an index piece that seems damaged before that is believed: an answer that was cut off is not damage.
pub const PIECE_LOOKS: u32 = 2;
/// Longest object that is read to learn its length: the largest that S3 has. It is hashed, never held.
pub const OBJECT_LEN_MAX: u64 = 5 << 40;
/// Pause before an object that was not found, or whose copy failed, is tried again.
pub const COPY_RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Tail that waits for a slow bucket, keys and values together, before the source is not read any further.
pub const TAIL_WAITING_MAX: usize = 64 << 20;
/// Keys that one page of a reading of the key space has.
pub const PAGE_KEYS: i64 = 1000;
/// Largest file of the archive that is unpacked in memory: index pieces and tail segments are far below.
pub const UNPACK_LEN_MAX: u64 = 512 << 20;
/// How often the objects that were given up are looked for again, and a full is compared with what the tail knows.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(15 * 60);
/// The step of the tail's own clock.
pub const TICK: Duration = Duration::from_millis(100);
/// Copies that may fail in a row before a single run gives up; a tail never does.
pub const COPY_FAILURES_MAX: u32 = 16;
/// Pause before a scheduled full that failed is tried again.
pub const FULL_RETRY_AFTER: Duration = Duration::from_secs(300);

// Logical backups.

/// Time for one answer of Milvus: a flush or a new collection takes seconds on a busy cluster.
pub const MILVUS_CALL_LIMIT: Duration = Duration::from_secs(60);
/// Time to reach Milvus.
pub const MILVUS_DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Attempts of a call that only reads, or may be repeated.
pub const MILVUS_READ_ATTEMPTS: u32 = 6;
/// First pause before a call is sent again; doubled each time.
pub const MILVUS_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause before a call is sent again.
pub const MILVUS_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long calls that Milvus limits are tried again: its default is one flush of a collection in ten seconds.
pub const MILVUS_RATE_PATIENCE: Duration = Duration::from_secs(600);
/// Largest answer of Milvus: the segments of a large collection, about 60 bytes each.
pub const MILVUS_ANSWER_LEN_MAX: usize = 256 << 20;
/// How long a flush may take until all that was written is in the bucket.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(1800);
/// Pause between two looks at something that Milvus works on.
pub const MILVUS_POLL: Duration = Duration::from_millis(250);
/// The first such pause where it is often over at once; each next one is twice as long.
pub const MILVUS_POLL_FIRST: Duration = Duration::from_millis(10);
/// How often a collection's segments are asked for anew when compaction took some away meanwhile.
pub const SEGMENT_ATTEMPTS: u32 = 10;
/// How long one import may go without any progress.
pub const IMPORT_SILENCE_MAX: Duration = Duration::from_secs(1800);
/// Imports of one collection that wait at Milvus at once: it works on a few at a time and refuses beyond 65536.
pub const IMPORTS_WAITING: usize = 32;
/// How long an index build or a load after a restore is waited for without progress.
pub const LOAD_SILENCE_MAX: Duration = Duration::from_secs(600);
/// For how long Milvus's garbage collection is held off; renewed at a third of it.
pub const GC_PAUSE: Duration = Duration::from_secs(900);
/// Largest meta file or manifest of a logical backup: 100,000 segments of 20 fields take about 300 MB.
pub const META_LEN_MAX: u64 = 2 << 30;
/// Largest log that is read to count its rows: Milvus closes logs at 16 MB, compaction writes up to 64 MB.
pub const LOG_LEN_MAX: u64 = 1 << 30;
/// The first bytes of a log, which say where it belongs: some hundred are enough.
pub const LOG_HEAD_LEN: u64 = 4 << 10;
/// The last bytes of a log, which describe its column: mostly some hundred, with the statistics of long texts some thousand.
pub const LOG_TAIL_LEN: u64 = 28 << 10;
/// Logs of one collection that salvage looks through: about 100 bytes of memory each.
pub const SALVAGE_LOGS_MAX: u64 = 20_000_000;
/// Logs whose ends are read at once.
pub const SALVAGE_READS: usize = 32;
/// Segments whose keys and times are read at once: each may have some millions of rows.
pub const SALVAGE_SEGMENTS_READ: usize = 4;
/// Bytes that the rows and deletes of one slice of a census may take. What is more is counted in slices, and read once for each.
pub const CENSUS_LEN_MAX: u64 = 1 << 30;
/// Segments that are written anew and imported at once: each holds one log in memory, twice.
pub const SALVAGE_IMPORTS: usize = 4;
/// Logs, and segments with deletes, that a restore reads whole at once: a log is in memory twice while it is written anew.
pub const RESTORE_LOGS_READ: usize = 4;
/// How long the keys of a new collection are looked for in Milvus's storage before they count as missing: a compaction may
/// move them meanwhile.
pub const READ_BACK_LIMIT: Duration = Duration::from_secs(120);
/// How often a run that creates a backup says that it lives; after three times that it counts as gone.
pub const WORKING_EVERY: Duration = Duration::from_secs(20);
/// Runs that ended before their time, one behind the other, before a name counts as taken for good.
pub const WORKING_DEAD_MAX: usize = 1000;
/// Tasks that the REST interface remembers; the oldest that are done are forgotten.
pub const TASKS_KEPT: usize = 1000;
/// TLS handshakes that the REST interface makes at once.
pub const REST_HANDSHAKES_MAX: usize = 64;
/// Time for one of them.
pub const REST_HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Letters of an archive's address in the name of its pin file: enough to be told apart, and with the hash within the 255
/// bytes that a file's name may have.
pub const PIN_WORDS_LEN: usize = 100;

// The way back.

/// Pieces of tail that are fetched at once: hides the latency of a store; each may be as large as a merged piece (64 MiB).
pub const TAIL_FETCHES: usize = 8;
/// How far a restored store's revision is lifted, unless told otherwise: no client may have seen a higher one, so that none
/// takes the restored past for its own future. What etcd's documentation advises.
pub const BUMP_REVISION: u64 = 1_000_000_000;
/// Time to live of a lease that a key hangs on and that no full knows, in seconds: its owner, if there still is one, renews
/// it, and what belongs to nobody goes the same day.
pub const LEASE_TTL_UNKNOWN_SECS: i64 = 3600;
/// Sealed objects whose envelope is tried before anything is written: keys change now and then, not with each object.
pub const ENVELOPES_TRIED: usize = 64;
/// Bytes that must have been read before a time is foretold from their rate.
pub const RATE_BYTES_MIN: u64 = 1 << 20;
/// How long a store that a drill has started may take until it answers.
pub const DRILL_START_LIMIT: Duration = Duration::from_secs(60);
/// How long the user's own command of a drill may take, unless told otherwise.
pub const DRILL_COMMAND_LIMIT: Duration = Duration::from_secs(600);
/// How long a store of a drill may take to end before it is killed.
pub const DRILL_STOP_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a drilled command's output that are kept for the report.
pub const DRILL_OUTPUT_LEN_MAX: usize = 64 << 10;
/// Objects that a drill reads in full unless told to read all: it asks for the length of every one.
pub const DRILL_OBJECTS_READ: usize = 100;
