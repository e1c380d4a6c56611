//! A small language to talk to a state in, for scripts that people read.

mod parse;

use std::fmt::Write as _;

use eyrie_state::*;

use parse::{Said, Who};

/// A state in a conversation.
pub(crate) struct Talk {
    state: Option<State<MemTables>>,
}

impl Default for Talk {
    fn default() -> Self {
        Self { state: Some(State::open(MemTables::default()).unwrap()) }
    }
}

impl Talk {
    /// Says one line and returns the answer: zero or more lines, each ended.
    pub(crate) fn say(&mut self, line: &str) -> String {
        match parse::said(line) {
            Said::Command(who, command) => self.command(who, command),
            Said::Get(who, range) => self.get(who, &range),
            Said::Read(who, txn) => self.read(who, &txn),
            Said::Lease(who, id, what) => {
                let author = self.author(who);
                let permitted = self.state().permit_lease(&author, id, what);
                permitted.map_or_else(|refusal| format!("refused: {refusal}\n"), |()| "yes\n".into())
            }
            Said::Users => self.users(),
            Said::Step(keys_max) => {
                let progress = self.state().compaction_step(keys_max).unwrap();
                let finished = progress.finished.map_or(String::new(), |revision| format!(" finished={revision}"));
                format!("dropped={}{finished} more={}\n", progress.dropped, progress.more)
            }
            Said::Hash(revision) => match self.state().hash_kv(revision) {
                Ok(plan) => {
                    let HashAnswer { hash, compact_revision, hash_revision, revision } = plan.run().unwrap();
                    format!("hash={hash} compacted={compact_revision} of={hash_revision} rev={revision}\n")
                }
                Err(refusal) => format!("refused: {refusal}\n"),
            },
            Said::Reopen => {
                let before = self.state.take().unwrap();
                let told = (before.revision(), before.compacted(), before.key_count(), before.applied());
                let after = State::open(before.into_tables()).unwrap();
                assert_eq!(told, (after.revision(), after.compacted(), after.key_count(), after.applied()));
                self.state = Some(after);
                self.show()
            }
            Said::Show => self.show(),
            Said::Leases => self.leases(),
            Said::Members => self.members(),
            Said::Alarms => self.state().alarms().map(|alarm| format!("{}\n", show_alarm(alarm))).collect(),
            Said::Records => self.records(),
        }
    }

    fn state(&mut self) -> &mut State<MemTables> {
        self.state.as_mut().unwrap()
    }

    /// As the border does it: shape first, then through the log's bytes, then apply.
    fn command(&mut self, who: Who, command: Command) -> String {
        let shape = match &command {
            Command::Put(put) => check::put(put),
            Command::DeleteRange(delete) => check::delete(delete),
            Command::Txn(txn) => check::txn(txn, 128),
            _ => Ok(()),
        };
        if let Err(refusal) = shape {
            return format!("refused at the door: {refusal}\n");
        }
        let proposal = Proposal { author: self.author(who), command };
        let proposal = Proposal::decode(proposal.encode().into()).unwrap();
        let state = self.state();
        let index = LogIndex(state.applied().0.0 + 1);
        let Applied { revision, outcome, events } = state.apply(index, Term(1), proposal).unwrap();
        let mut out = match outcome {
            Err(refusal) => format!("refused: {refusal} (rev={revision})\n"),
            Ok(answer) => format!("rev={revision}{}\n", show_answer(&answer)),
        };
        for Event { delete, kv, prev } in events {
            let prev = prev.map_or("none".into(), |at| format!("{}.{}", at.main, at.sub));
            let what = if delete { "DELETE" } else { "PUT" };
            writeln!(out, "  {what} {} prev={prev}", show_kv(&kv)).unwrap();
        }
        out
    }

    fn author(&mut self, who: Who) -> Author {
        let now = self.state().auth().revision();
        match who {
            Who::Nobody => Author::Nobody,
            Who::Itself => Author::Store,
            Who::User(name, at) => Author::User { name: name.into(), revision: at.map_or(now, AuthRevision) },
        }
    }

    fn get(&mut self, who: Who, range: &Range) -> String {
        if let Err(refusal) = check::range(range) {
            return format!("refused at the door: {refusal}\n");
        }
        let author = self.author(who);
        if let Err(refusal) = self.state().permit_read(&author, &range.keys) {
            return format!("refused: {refusal}\n");
        }
        match self.state().plan_range(range) {
            Err(refusal) => format!("refused: {refusal}\n"),
            Ok(plan) => {
                let revision = plan.revision();
                format!("rev={revision}{}\n", show_range(&plan.run().unwrap(), "\n  "))
            }
        }
    }

    fn read(&mut self, who: Who, txn: &Txn) -> String {
        let author = self.author(who);
        if let Err(refusal) = self.state().permit_txn(&author, txn) {
            return format!("refused: {refusal}\n");
        }
        match self.state().read_txn(txn) {
            Err(error) => format!("refused: {error}\n"),
            Ok(answer) => format!("read{}\n", show_answer(&Answer::Txn(answer))),
        }
    }

    fn users(&mut self) -> String {
        let auth = self.state().auth();
        let mut out = format!("enabled={} auth-revision={}\n", auth.enabled(), auth.revision());
        for user in auth.users() {
            let roles: Vec<_> = user.roles.iter().map(String::as_str).collect();
            let secret = if user.no_password { "-" } else { &user.password_hash };
            writeln!(out, "user {} {secret} [{}]", user.name, roles.join(" ")).unwrap();
        }
        for role in auth.roles() {
            write!(out, "role {}", role.name).unwrap();
            for Permission { access, key, range_end } in &role.permissions {
                write!(out, " {access:?}({}, {})", key.escape_ascii(), range_end.escape_ascii()).unwrap();
            }
            out.push('\n');
        }
        out
    }

    fn show(&mut self) -> String {
        let state = self.state();
        let line = state.compacted().map_or("never".into(), |line| line.to_string());
        let version = state.cluster_version().unwrap_or("unknown");
        format!(
            "rev={} compacted={line} pending={} keys={} cluster-version={version} applied={}\n",
            state.revision(),
            state.compaction_pending(),
            state.key_count(),
            state.applied().0
        )
    }

    fn leases(&mut self) -> String {
        let show = |lease: &Lease| {
            let keys: Vec<_> = lease.keys().map(|key| key.escape_ascii().to_string()).collect();
            format!("{} ttl={} remaining={} keys={keys:?}\n", lease.id, lease.ttl_secs, lease.remaining_secs)
        };
        self.state().leases().map(show).collect()
    }

    fn members(&mut self) -> String {
        let state = self.state();
        let mut out: String = state.members().map(|member| format!("{}\n", member_json(member))).collect();
        for id in state.removed_members() {
            writeln!(out, "removed {}", member_key(id)).unwrap();
        }
        out
    }

    /// What history the tables still hold.
    fn records(&mut self) -> String {
        let mut out = String::new();
        let end = Position { main: i64::MAX, sub: 0 };
        let visit = &mut |at: Position, tombstone: bool, record: &bytes::Bytes| {
            let kv = record::key_value(record, false).unwrap();
            let what = if tombstone { format!("{} deleted", kv.key.escape_ascii()) } else { show_kv(&kv) };
            writeln!(out, "{}.{} {what}", at.main, at.sub).unwrap();
            true
        };
        self.state().records().scan(Position::default(), end, visit).unwrap();
        out
    }
}

fn show_answer(answer: &Answer) -> String {
    match answer {
        Answer::Put { prev } => show_prev(prev.as_slice()),
        Answer::DeleteRange { deleted, prev } => format!(" deleted={deleted}{}", show_prev(prev)),
        Answer::Txn(txn) => show_txn(txn, "\n  "),
        Answer::LeaseGrant { id, ttl_secs } => format!(" lease={id} ttl={ttl_secs}"),
        Answer::Alarm(alarms) => {
            let alarms: Vec<_> = alarms.iter().map(|alarm| show_alarm(*alarm)).collect();
            format!(" alarms=[{}]", alarms.join(", "))
        }
        Answer::Members(members) => format!(" members={}", members.len()),
        Answer::Token { index, .. } => format!(" index={index}"),
        Answer::Compact | Answer::LeaseRevoke | Answer::LeaseCheckpoint | Answer::ClusterVersion | Answer::Auth => {
            String::new()
        }
    }
}

fn show_txn(txn: &TxnAnswer, line: &str) -> String {
    let mut out = format!(" succeeded={}", txn.succeeded);
    let inner = format!("{line}  ");
    for answer in &txn.answers {
        out += line;
        out += &match answer {
            OpAnswer::Range { revision, answer } => format!("got rev={revision}{}", show_range(answer, &inner)),
            OpAnswer::Put { revision, prev } => format!("put rev={revision}{}", show_prev(prev.as_slice())),
            OpAnswer::DeleteRange { revision, deleted, prev } => {
                format!("del rev={revision} deleted={deleted}{}", show_prev(prev))
            }
            OpAnswer::Txn(txn) => format!("txn{}", show_txn(txn, &inner)),
        };
    }
    out
}

fn show_range(answer: &RangeAnswer, line: &str) -> String {
    let kvs: String = answer.kvs.iter().map(|kv| format!("{line}{}", show_kv(kv))).collect();
    format!(" count={} more={}{kvs}", answer.count, answer.more)
}

fn show_prev(prev: &[KeyValue]) -> String {
    prev.iter().map(|kv| format!(" was({})", show_kv(kv))).collect()
}

fn show_kv(kv: &KeyValue) -> String {
    let KeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
    let (key, value) = (key.escape_ascii(), value.escape_ascii());
    let lease = if lease.0 == 0 { String::new() } else { format!(" lease={lease}") };
    format!("{key}={value} create={create_revision} mod={mod_revision} version={version}{lease}")
}

fn show_alarm(alarm: Alarm) -> String {
    format!("{:?} of {}", alarm.kind, alarm.member)
}
