//! Every command: its names, its flags, its help, and the function that does it.

use std::pin::Pin;

use super::context::Context;
use super::flag::Flag;
use super::globals::GLOBALS;
use crate::commands::{
    auth, check, elect, endpoint, kv, lease, lock, maintenance, member, mirror, program, role, snapshot, txn, user,
    watch,
};
use crate::exit::Done;

/// What a command does.
pub(crate) type Run = fn(Context) -> Pin<Box<dyn Future<Output = Done>>>;

/// One command, or a group of commands.
pub(crate) struct Command {
    /// The word that is typed.
    pub(crate) name: &'static str,
    /// What follows it, for the help.
    pub(crate) arguments: &'static str,
    /// One line.
    pub(crate) short: &'static str,
    /// More lines, or none.
    pub(crate) long: &'static str,
    /// Flags of this command only.
    pub(crate) flags: &'static [Flag],
    /// Flags of this command and all below it.
    pub(crate) persistent: &'static [Flag],
    /// Commands below it.
    pub(crate) children: &'static [Command],
    /// What it does; groups only show their help.
    pub(crate) run: Option<Run>,
}

const NONE: Command =
    Command { name: "", arguments: "", short: "", long: "", flags: &[], persistent: &[], children: &[], run: None };

/// A command without flags.
macro_rules! plain {
    ($name:literal, $arguments:literal, $short:literal, $run:path) => {
        Command {
            name: $name,
            arguments: $arguments,
            short: $short,
            run: Some(|context| Box::pin($run(context))),
            ..NONE
        }
    };
}

/// A command with flags.
macro_rules! flagged {
    ($name:literal, $arguments:literal, $short:literal, $run:path, $flags:expr) => {
        Command { flags: $flags, ..plain!($name, $arguments, $short, $run) }
    };
}

/// A group of commands.
macro_rules! group {
    ($name:literal, $arguments:literal, $short:literal, $children:expr) => {
        Command { name: $name, arguments: $arguments, short: $short, children: $children, ..NONE }
    };
}

/// The program.
pub(crate) static ROOT: Command = Command {
    name: "etcdctl",
    short: "A simple command line client for etcd3.",
    persistent: &GLOBALS,
    children: &COMMANDS,
    ..NONE
};

/// The command of that name directly below the program.
pub(crate) fn by_name(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

static COMMANDS: [Command; 24] = [
    group!("alarm", "<subcommand>", "Alarm related commands", &ALARM),
    group!("auth", "<enable or disable>", "Enable or disable authentication", &AUTH),
    group!("check", "<subcommand>", "commands for checking properties of the etcd cluster", &CHECK),
    flagged!("compaction", "[options] <revision>", "Compacts the event history in etcd", kv::compaction, &COMPACTION),
    plain!("completion", "<bash|zsh|fish>", "Prints a completion script for a shell", program::completion),
    Command {
        persistent: &CLUSTER,
        ..flagged!(
            "defrag",
            "",
            "Defragments the storage of the etcd members with given endpoints",
            maintenance::defrag,
            &DEFRAG
        )
    },
    flagged!(
        "del",
        "[options] <key> [range_end]",
        "Removes the specified key or range of keys [key, range_end)",
        kv::del,
        &DEL
    ),
    group!("downgrade", "<subcommand>", "Downgrade related commands", &DOWNGRADE),
    flagged!("elect", "<election-name> [proposal]", "Observes and participates in leader election", elect::run, &ELECT),
    Command { persistent: &CLUSTER, ..group!("endpoint", "<subcommand>", "Endpoint related commands", &ENDPOINT) },
    flagged!("get", "[options] <key> [range_end]", "Gets the key or a range of keys", kv::get, &GET),
    Command {
        name: "help",
        arguments: "[command]",
        short: "Help about any command",
        long: "Help provides help for any command in the application.\n\
               Simply type etcdctl help [path to command] for full details.",
        ..NONE
    },
    group!("lease", "<subcommand>", "Lease related commands", &LEASE),
    flagged!("lock", "<lockname> [exec-command arg1 arg2 ...]", "Acquires a named lock", lock::run, &LOCK),
    flagged!(
        "make-mirror",
        "[options] <destination>",
        "Makes a mirror at the destination etcd cluster",
        mirror::run,
        &MIRROR
    ),
    group!("member", "<subcommand>", "Membership related commands", &MEMBER),
    plain!(
        "move-leader",
        "<transferee-member-id>",
        "Transfers leadership to another etcd cluster member.",
        maintenance::move_leader
    ),
    Command {
        long: PUT_LONG,
        ..flagged!(
            "put",
            "[options] <key> <value> (<value> can also be given from stdin)",
            "Puts the given key into the store",
            kv::put,
            &PUT
        )
    },
    group!("role", "<subcommand>", "Role related commands", &ROLE),
    group!("snapshot", "<subcommand>", "Manages etcd node snapshots", &SNAPSHOT),
    flagged!("txn", "[options]", "Txn processes all the requests in one transaction", txn::run, &TXN),
    group!("user", "<subcommand>", "User related commands", &USER),
    plain!("version", "", "Prints the version of etcdctl", program::version),
    flagged!(
        "watch",
        "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
        "Watches events stream on keys or prefixes",
        watch::run,
        &WATCH
    ),
];

const PUT_LONG: &str = "\
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.";

static CLUSTER: [Flag; 1] = [Flag::bool("cluster", "use all endpoints from the cluster member list")];

static ALARM: [Command; 2] = [
    plain!("disarm", "", "Disarms all alarms", maintenance::alarm_disarm),
    plain!("list", "", "Lists all alarms", maintenance::alarm_list),
];

static AUTH: [Command; 3] = [
    plain!("disable", "", "Disables authentication", auth::disable),
    plain!("enable", "", "Enables authentication", auth::enable),
    plain!("status", "", "Returns authentication status", auth::status),
];

static CHECK: [Command; 2] = [
    Command {
        long: "If no endpoint is provided, localhost will be used. \
               If multiple endpoints are provided, first endpoint will be used.",
        ..flagged!(
            "datascale",
            "[options]",
            "Check the memory usage of holding data for different workloads on a given server endpoint.",
            check::datascale,
            &DATASCALE
        )
    },
    flagged!("perf", "[options]", "Check the performance of the etcd cluster", check::perf, &PERF),
];

const AUTO_COMPACT: Flag = Flag::bool("auto-compact", "Compact storage with last revision after test is finished.");
const AUTO_DEFRAG: Flag = Flag::bool("auto-defrag", "Defragment storage after test is finished.");

static PERF: [Flag; 4] = [
    Flag::text(
        "load",
        "s",
        "The performance check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)",
    ),
    Flag::text("prefix", "/etcdctl-check-perf/", "The prefix for writing the performance check's keys."),
    AUTO_COMPACT,
    AUTO_DEFRAG,
];

static DATASCALE: [Flag; 4] = [
    Flag::text(
        "load",
        "s",
        "The datascale check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)",
    ),
    Flag::text("prefix", "/etcdctl-check-datascale/", "The prefix for writing the datascale check's keys."),
    AUTO_COMPACT,
    AUTO_DEFRAG,
];

static COMPACTION: [Flag; 1] =
    [Flag::bool("physical", "'true' to wait for compaction to physically remove all old revisions")];

static DEFRAG: [Flag; 1] =
    [Flag::text("data-dir", "", "Optional. If present, defragments a data directory not in use by etcd.")];

static DEL: [Flag; 4] = [
    Flag::bool("prefix", "delete keys with matching prefix"),
    Flag::bool("prev-kv", "return deleted key-value pairs"),
    Flag::bool("from-key", "delete keys that are greater than or equal to the given key using byte compare"),
    Flag::bool("range", "delete range of keys"),
];

static DOWNGRADE: [Command; 3] = [
    plain!("cancel", "", "Cancel the ongoing downgrade action to cluster", maintenance::downgrade_cancel),
    plain!("enable", "<TARGET_VERSION>", "Start a downgrade action to cluster", maintenance::downgrade_enable),
    plain!(
        "validate",
        "<TARGET_VERSION>",
        "Validate downgrade capability before starting downgrade",
        maintenance::downgrade_validate
    ),
];

static ELECT: [Flag; 1] = [Flag::bool("listen", "observation mode").short('l')];

static ENDPOINT: [Command; 3] = [
    Command {
        persistent: &HASHKV,
        ..plain!("hashkv", "", "Prints the KV history hash for each endpoint in --endpoints", endpoint::hash_kv)
    },
    plain!("health", "", "Checks the healthiness of endpoints specified in `--endpoints` flag", endpoint::health),
    Command {
        long: "When --write-out is set to simple, this command prints out comma-separated status lists for each \
               endpoint.\n\
               The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft \
               index, raft applied index, errors.",
        ..plain!("status", "", "Prints out the status of endpoints specified in `--endpoints` flag", endpoint::status)
    },
];

static HASHKV: [Flag; 1] = [Flag::int("rev", "0", "maximum revision to hash (default: all revisions)")];

static GET: [Flag; 14] = [
    Flag::text("consistency", "l", "Linearizable(l) or Serializable(s)"),
    Flag::text("order", "", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
    Flag::text("sort-by", "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
    Flag::int("limit", "0", "Maximum number of results"),
    Flag::bool("prefix", "Get keys with matching prefix"),
    Flag::bool("from-key", "Get keys that are greater than or equal to the given key using byte compare"),
    Flag::int("rev", "0", "Specify the kv revision"),
    Flag::bool("keys-only", "Get only the keys"),
    Flag::bool("count-only", "Get only the count"),
    Flag::bool("print-value-only", "Only write values when using the \"simple\" output format"),
    Flag::int("min-create-rev", "0", "Minimum create revision"),
    Flag::int("max-create-rev", "0", "Maximum create revision"),
    Flag::int("min-mod-rev", "0", "Minimum modification revision"),
    Flag::int("max-mod-rev", "0", "Maximum modification revision"),
];

static LEASE: [Command; 5] = [
    plain!("grant", "<ttl>", "Creates leases", lease::grant),
    flagged!("keep-alive", "[options] <leaseID>", "Keeps leases alive (renew)", lease::keep_alive, &KEEP_ALIVE),
    plain!("list", "", "List all active leases", lease::list),
    plain!("revoke", "<leaseID>", "Revokes leases", lease::revoke),
    flagged!("timetolive", "<leaseID> [options]", "Get lease information", lease::time_to_live, &TIME_TO_LIVE),
];

// "cobrautl.Exits" is upstream's own slip of search-and-replace.
static KEEP_ALIVE: [Flag; 1] =
    [Flag::bool("once", "Resets the keep-alive time to its original value and cobrautl.Exits immediately")];
static TIME_TO_LIVE: [Flag; 1] = [Flag::bool("keys", "Get keys attached to this lease")];

static LOCK: [Flag; 1] = [Flag::int("ttl", "10", "timeout for session")];

static MIRROR: [Flag; 9] = [
    Flag::text("prefix", "", "Key-value prefix to mirror"),
    Flag::text(
        "dest-prefix",
        "",
        "destination prefix to mirror a prefix to a different prefix in the destination cluster",
    ),
    Flag::bool("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
    Flag::text("dest-cert", "", "Identify secure client using this TLS certificate file for the destination cluster"),
    Flag::text("dest-key", "", "Identify secure client using this TLS key file"),
    Flag::text("dest-cacert", "", "Verify certificates of TLS enabled secure servers using this CA bundle"),
    Flag::yes("dest-insecure-transport", "Disable transport security for client connections"),
    Flag::text(
        "dest-user",
        "",
        "Destination username[:password] for authentication (prompt if password is not supplied)",
    ),
    Flag::text(
        "dest-password",
        "",
        "Destination password for authentication (if this option is used, --user option shouldn't include password)",
    ),
];

static MEMBER: [Command; 5] = [
    flagged!("add", "<memberName> [options]", "Adds a member into the cluster", member::add, &MEMBER_ADD),
    Command {
        long: "When --write-out is set to simple, this command prints out comma-separated member lists for each \
               endpoint.\n\
               The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.",
        ..plain!("list", "", "Lists all members in the cluster", member::list)
    },
    Command {
        long: "Promotes a non-voting learner member to a voting one in the cluster.",
        ..plain!("promote", "<memberID>", "Promotes a non-voting member in the cluster", member::promote)
    },
    plain!("remove", "<memberID>", "Removes a member from the cluster", member::remove),
    flagged!("update", "<memberID> [options]", "Updates a member in the cluster", member::update, &MEMBER_UPDATE),
];

static MEMBER_ADD: [Flag; 2] = [
    Flag::text("peer-urls", "", "comma separated peer URLs for the new member."),
    Flag::bool("learner", "indicates if the new member is raft learner"),
];
static MEMBER_UPDATE: [Flag; 1] = [Flag::text("peer-urls", "", "comma separated peer URLs for the updated member.")];

static PUT: [Flag; 4] = [
    Flag::text("lease", "0", "lease ID (in hexadecimal) to attach to the key"),
    Flag::bool("prev-kv", "return the previous key-value pair before modification"),
    Flag::bool("ignore-value", "updates the key using its current value"),
    Flag::bool("ignore-lease", "updates the key using its current lease"),
];

static ROLE: [Command; 6] = [
    plain!("add", "<role name>", "Adds a new role", role::add),
    plain!("delete", "<role name>", "Deletes a role", role::delete),
    plain!("get", "<role name>", "Gets detailed information of a role", role::get),
    flagged!(
        "grant-permission",
        "[options] <role name> <permission type> <key> [endkey]",
        "Grants a key to a role",
        role::grant_permission,
        &GRANT
    ),
    plain!("list", "", "Lists all roles", role::list),
    flagged!(
        "revoke-permission",
        "<role name> <key> [endkey]",
        "Revokes a key from a role",
        role::revoke_permission,
        &REVOKE
    ),
];

static GRANT: [Flag; 2] = [
    Flag::bool("prefix", "grant a prefix permission"),
    Flag::bool(
        "from-key",
        "grant a permission of keys that are greater than or equal to the given key using byte compare",
    ),
];
static REVOKE: [Flag; 2] = [
    Flag::bool("prefix", "revoke a prefix permission"),
    Flag::bool(
        "from-key",
        "revoke a permission of keys that are greater than or equal to the given key using byte compare",
    ),
];

static SNAPSHOT: [Command; 3] = [
    Command {
        long: "Moved to `etcdctl snapshot restore ...`",
        ..flagged!(
            "restore",
            "<filename> [options]",
            "Restores an etcd member snapshot to an etcd directory",
            snapshot::restore,
            &RESTORE
        )
    },
    plain!("save", "<filename>", "Stores an etcd node backend snapshot to a given file", snapshot::save),
    Command {
        long: "When --write-out is set to simple, this command prints out comma-separated status lists for each \
               endpoint.\n\
               The items in the lists are hash, revision, total keys, total size.\n\n\
               Moved to 'etcdctl snapshot status ...'",
        ..plain!("status", "<filename>", "[deprecated] Gets backend snapshot status of a given file", snapshot::status)
    },
];

static RESTORE: [Flag; 9] = [
    Flag::text("data-dir", "", "Path to the data directory"),
    Flag::text("wal-dir", "", "Path to the WAL directory (use --data-dir if none given)"),
    Flag::text(
        "initial-cluster",
        "default=http://localhost:2380",
        "Initial cluster configuration for restore bootstrap",
    ),
    Flag::text(
        "initial-cluster-token",
        "etcd-cluster",
        "Initial cluster token for the etcd cluster during restore bootstrap",
    ),
    Flag::text(
        "initial-advertise-peer-urls",
        "http://localhost:2380",
        "List of this member's peer URLs to advertise to the rest of the cluster",
    ),
    Flag::text("name", "default", "Human-readable name for this member"),
    Flag::bool("skip-hash-check", "Ignore snapshot integrity hash value (required if copied from data directory)"),
    Flag::int("bump-revision", "0", "How much to increase the latest revision after restore"),
    Flag::bool(
        "mark-compacted",
        "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, disallowed otherwise)",
    ),
];

static TXN: [Flag; 1] = [Flag::bool("interactive", "Input transaction in interactive mode").short('i')];

static USER: [Command; 7] = [
    flagged!("add", "<user name or user:password> [options]", "Adds a new user", user::add, &USER_ADD),
    plain!("delete", "<user name>", "Deletes a user", user::delete),
    flagged!("get", "<user name> [options]", "Gets detailed information of a user", user::get, &USER_GET),
    plain!("grant-role", "<user name> <role name>", "Grants a role to a user", user::grant_role),
    plain!("list", "", "Lists all users", user::list),
    flagged!("passwd", "<user name> [options]", "Changes password of user", user::passwd, &USER_PASSWD),
    plain!("revoke-role", "<user name> <role name>", "Revokes a role from a user", user::revoke_role),
];

static USER_ADD: [Flag; 3] = [
    Flag::yes("interactive", "Read password from stdin instead of interactive terminal"),
    Flag::text("new-user-password", "", "Supply password from the command line flag"),
    Flag::bool("no-password", "Create a user without password (CN based auth only)"),
];
static USER_GET: [Flag; 1] = [Flag::bool("detail", "Show permissions of roles granted to the user")];
static USER_PASSWD: [Flag; 1] =
    [Flag::yes("interactive", "If true, read password from stdin instead of interactive terminal")];

static WATCH: [Flag; 5] = [
    Flag::bool("interactive", "Interactive mode").short('i'),
    Flag::bool("prefix", "Watch on a prefix if prefix is set"),
    Flag::int("rev", "0", "Revision to start watching"),
    Flag::bool("prev-kv", "get the previous key-value pair before the event happens"),
    Flag::bool("progress-notify", "get periodic watch progress notification from server"),
];
