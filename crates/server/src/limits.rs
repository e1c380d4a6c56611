//! Every bound of the server, on one page, each with its reason.

use std::time::Duration;

/// Requests that may wait for the log at once; beyond it clients hear `too many requests` (etcd's figure).
pub(crate) const PROPOSALS_WAITING_MAX: usize = 5_000;
/// Proposals handed to raft in one round: bounds the time of one write and sync.
pub(crate) const PROPOSALS_PER_ROUND_MAX: usize = 2_048;
/// Bytes handed to raft in one round, for the same reason.
pub(crate) const PROPOSAL_BYTES_PER_ROUND_MAX: usize = 8 << 20;
/// Rounds of committed entries that may wait for the apply thread.
pub(crate) const APPLY_ROUNDS_WAITING_MAX: usize = 64;
/// Bytes that may wait for the log's disk; beyond it entries from other members are dropped, and the leader sends them again.
pub(crate) const LOG_BYTES_UNDER_WAY_MAX: u64 = 64 << 20;
/// How often a full disk is looked at again.
pub(crate) const FULL_DISK_RETRY: Duration = Duration::from_millis(200);
/// A leader whose log's disk does not answer for so many election timeouts hands its leadership over: others may be faster.
pub(crate) const STALLED_ELECTIONS_MAX: u32 = 2;
/// Commands applied under one hold of the state's lock, so that readers wait for microseconds.
pub(crate) const COMMANDS_PER_LOCK_MAX: usize = 64;
/// What a request may exceed `max_request_bytes` by on the wire (etcd's figure).
pub(crate) const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// Defragmentations and hashes under way or waiting for one another; further ones wait their turn without a thread.
pub(crate) const CHORES_AT_ONCE_MAX: usize = 16;
/// Bytes of one message of a snapshot stream (etcd's figure).
pub(crate) const SNAPSHOT_CHUNK_BYTES: usize = 32 * 1024;
/// The default quota: 2 GiB (etcd's figure).
pub(crate) const QUOTA_BYTES_DEFAULT: i64 = 2 * 1024 * 1024 * 1024;
/// The largest TTL a lease may have, in seconds (etcd's figure).
pub(crate) const LEASE_TTL_SECS_MAX: i64 = 9_000_000_000;
/// How often expired leases are looked for (etcd's figure).
pub(crate) const LEASE_TICK: Duration = Duration::from_millis(500);
/// Leases revoked in one tick (etcd's figure: 1000 a second).
pub(crate) const LEASES_REVOKED_PER_TICK_MAX: usize = 500;
/// How often the remaining time of long leases is written down, and what counts as long (etcd's figures).
pub(crate) const LEASE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
/// Leases in one checkpoint (etcd's figure).
pub(crate) const LEASES_PER_CHECKPOINT_MAX: usize = 1_000;
/// How often automatic compaction by revision runs (etcd's figure).
pub(crate) const REVISION_COMPACTION_INTERVAL: Duration = Duration::from_secs(300);
/// Connections that may wait to be accepted.
pub(crate) const ACCEPT_BACKLOG: i32 = 1024;
/// Connections dealt to an edge that it has not taken up yet; the acceptor waits beyond that.
pub(crate) const CONNECTIONS_DEALT_WAITING_MAX: usize = 256;
/// Streams of one connection at most, whatever is asked for: each costs memory before it says anything.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 16_384;
/// Connections of a member at most. An idle one costs some 30 KiB, so this is about half a gibibyte.
pub(crate) const CONNECTIONS_MAX: usize = 16_384;
/// Files that are not connections: log, tables, snapshots, listeners, members.
pub(crate) const FILES_RESERVED: usize = 128;
/// Connections of one edge that have said nothing yet.
pub(crate) const LOBBY_PLACES_MAX: usize = 1_024;
/// How long a silent connection keeps its place when others need it: far longer than an honest handshake takes.
pub(crate) const LOBBY_PATIENCE: Duration = Duration::from_secs(1);
/// How long a TLS handshake may take.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be silent before its first byte.
pub(crate) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the head of an HTTP/1 request may take.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of the head of a request: tokens and certificates of browsers fit many times.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Refused handshakes told in the log in one interval, so that nobody fills the disk by knocking.
pub(crate) const REFUSALS_TOLD_MAX: u32 = 10;
/// See above.
pub(crate) const REFUSALS_TOLD_INTERVAL: Duration = Duration::from_secs(10);
/// A certificate that ends sooner than this is told at start.
pub(crate) const CERTIFICATE_WARNING: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How often a thread gives back memory that it no longer needs.
pub(crate) const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(2);
/// How long open requests get at a graceful stop.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// Log entries kept on disk behind what the tables hold: enough for what memory keeps for lagging members.
pub(crate) const LOG_ENTRIES_KEPT_MAX: u64 = 4_000;
/// Pages of the tables that are kept in memory; the system's page cache keeps the rest.
pub(crate) const TABLE_CACHE_BYTES: usize = 16 << 20;
/// Passwords that are hashed or compared at once: each takes a core for tens of milliseconds, and others need cores too.
pub(crate) const PASSWORDS_AT_ONCE_MAX: usize = 2;
/// Passwords that may wait for that: about two seconds' worth; beyond it clients hear `too many requests`.
pub(crate) const PASSWORDS_WAITING_MAX: usize = 64;
/// How often a login is tried anew because users changed while its password was looked at.
pub(crate) const LOGIN_RETRIES_MAX: usize = 10;
/// Simple tokens that a member remembers: more than logins can be made in the life of a token.
pub(crate) const SIMPLE_TOKENS_MAX: usize = 100_000;
/// How far the clocks of members may be apart for their tokens to be good at each other.
pub(crate) const TOKEN_CLOCK_TOLERANCE: Duration = Duration::from_secs(300);
/// How long a request waits for a token that this member has yet to hear of.
pub(crate) const TOKEN_WAIT: Duration = Duration::from_secs(1);
/// Bytes that may wait to be said to one member; what does not fit is dropped, and raft sends it again later.
pub(crate) const PEER_QUEUE_BYTES_MAX: usize = 32 << 20;
/// Bytes said to a member in one message: several of raft's, since each has a price of its own.
pub(crate) const PEER_BATCH_BYTES: usize = 2 << 20;
/// What members said and this one has not yet taken up; beyond it they are not listened to.
pub(crate) const PEER_ITEMS_WAITING_MAX: usize = 4_096;
/// Connections to the peer port: a few for each of seven members, and tools.
pub(crate) const PEER_CONNECTIONS_MAX: usize = 128;
/// How long a member may take to answer when it is dialed (etcd's figure).
pub(crate) const PEER_DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between two attempts to reach a member.
pub(crate) const PEER_DIAL_PAUSE_MIN: Duration = Duration::from_millis(20);
/// See above.
pub(crate) const PEER_DIAL_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often the way to a member is measured.
pub(crate) const PEER_PING_INTERVAL: Duration = Duration::from_secs(1);
/// A member that is silent for longer is dialed anew (etcd's figure for reads and writes).
pub(crate) const PEER_SILENCE_MAX: Duration = Duration::from_secs(5);
/// A connection to the peer port without a request is let go after so long: places are few, and members ask at once.
pub(crate) const PEER_FIRST_REQUEST_MAX: Duration = Duration::from_secs(5);
/// Pieces of a snapshot that wait between reading and sending, or between hearing and writing.
pub(crate) const SNAPSHOT_PIECES_WAITING_MAX: usize = 8;
/// How long a sender tries to go on with a snapshot whose connection broke: a member that restarts has lost its part of it
/// anyway, and is offered a newer one.
pub(crate) const SNAPSHOT_RESUME_MAX: Duration = Duration::from_secs(30);
/// How often it asks how much has arrived.
pub(crate) const SNAPSHOT_RESUME_PAUSE: Duration = Duration::from_millis(200);
/// How long a part of a snapshot is kept that nobody goes on with: longer than a sender tries, or it would be for nothing.
pub(crate) const SNAPSHOT_PART_KEPT: Duration = Duration::from_secs(60);
/// How long what is left of a broken connection may take to end, so that its place in the snapshot is known.
pub(crate) const SNAPSHOT_LET_GO_MAX: Duration = Duration::from_secs(2);
/// How long an acceptor rests after an error such as too many open files.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Readers that may wait for the index to read at; each is an open request, which costs far more than its place here.
pub(crate) const READERS_WAITING_MAX: usize = 100_000;
/// How long a voter must have been connected to count when the members change (etcd's figure).
pub(crate) const HEALTHY_AFTER: Duration = Duration::from_secs(5);
/// How long a removed member goes on, so that others hear what it knows (etcd's figure).
pub(crate) const REMOVED_GRACE: Duration = Duration::from_secs(1);
