//! Words to values. A script with a mistake in it panics, and says where.

use bytes::Bytes;
use eyrie_state::auth::LeaseUse;
use eyrie_state::*;

/// What a line says.
pub(crate) enum Said {
    Command(Who, Command),
    Get(Who, Range),
    Read(Who, Txn),
    Lease(Who, LeaseId, LeaseUse),
    Users,
    Step(usize),
    Hash(Option<Revision>),
    Reopen,
    Show,
    Leases,
    Members,
    Alarms,
    Records,
}

/// Who says it: `as NAME` or `as NAME@AUTH-REVISION` before a line, `itself` for the store.
pub(crate) enum Who {
    Nobody,
    Itself,
    User(String, Option<u64>),
}

/// Parses one line; words are parted by blanks, `""` is the empty word, `\0` the zero byte.
pub(crate) fn said(line: &str) -> Said {
    let mut words = Words { line, words: line.split_whitespace().collect(), at: 0 };
    let who = words.who();
    let said = match words.next() {
        "get" => Said::Get(who, words.range()),
        "read" => Said::Read(who, words.txn()),
        "look-at-lease" => Said::Lease(who, LeaseId(words.number()), LeaseUse::Look),
        "show-keys-of-lease" => Said::Lease(who, LeaseId(words.number()), LeaseUse::ShowKeys),
        "rule-lease" => Said::Lease(who, LeaseId(words.number()), LeaseUse::Rule),
        "users" => Said::Users,
        "step" => Said::Step(words.number()),
        "hash" => Said::Hash(words.more().then(|| Revision(words.number()))),
        "reopen" => Said::Reopen,
        "show" => Said::Show,
        "leases" => Said::Leases,
        "members" => Said::Members,
        "alarms" => Said::Alarms,
        "records" => Said::Records,
        verb => Said::Command(who, words.command(verb)),
    };
    assert!(!words.more(), "too many words: {line}");
    said
}

struct Words<'a> {
    line: &'a str,
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Words<'a> {
    fn peek(&self) -> &'a str {
        self.words.get(self.at).copied().unwrap_or(";")
    }

    /// Another word before the end of this operation.
    fn more(&self) -> bool {
        !matches!(self.peek(), ";" | "then" | "else" | "end")
    }

    fn next(&mut self) -> &'a str {
        assert!(self.at < self.words.len(), "a word is missing: {}", self.line);
        self.at += 1;
        self.words[self.at - 1]
    }

    fn expect(&mut self, word: &str) {
        let next = self.next();
        assert_eq!(next, word, "in: {}", self.line);
    }

    fn number<N: std::str::FromStr>(&mut self) -> N {
        let word = self.next();
        word.parse().unwrap_or_else(|_| panic!("{word} is not a number: {}", self.line))
    }

    fn bytes(&mut self) -> Bytes {
        unescape(self.next())
    }

    /// `a` one key, `a..b` a span, `a..` from there on.
    fn keys(&mut self) -> KeyRange {
        let word = self.next();
        match word.split_once("..") {
            None => KeyRange::One(unescape(word)),
            Some((from, "")) => KeyRange::From(unescape(from)),
            Some((from, to)) => KeyRange::Span(unescape(from), unescape(to)),
        }
    }

    fn who(&mut self) -> Who {
        match self.peek() {
            "itself" => {
                self.next();
                Who::Itself
            }
            "as" => {
                self.next();
                match self.next().split_once('@') {
                    Some((name, at)) => Who::User(name.to_owned(), Some(at.parse().unwrap())),
                    None => Who::User(self.words[self.at - 1].to_owned(), None),
                }
            }
            _ => Who::Nobody,
        }
    }

    fn name(&mut self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    fn auth(&mut self, verb: &str) -> AuthChange {
        let what = self.next();
        match (verb, what) {
            ("auth", "enable") => AuthChange::Enable,
            ("auth", "disable") => AuthChange::Disable,
            ("user", "add") => AuthChange::UserAdd {
                name: self.name(),
                no_password: self.flag("no-password"),
                password_hash: if self.more() { self.name() } else { String::new() },
            },
            ("user", "delete") => AuthChange::UserDelete { name: self.name() },
            ("user", "password") => AuthChange::UserPassword { name: self.name(), password_hash: self.name() },
            ("user", "grant") => AuthChange::UserGrant { user: self.name(), role: self.name() },
            ("user", "revoke") => AuthChange::UserRevoke { user: self.name(), role: self.name() },
            ("role", "add") => AuthChange::RoleAdd { name: self.name() },
            ("role", "delete") => AuthChange::RoleDelete { name: self.name() },
            ("role", "grant") => AuthChange::RoleGrant { role: self.name(), permission: self.permission() },
            ("role", "revoke") => {
                let role = self.name();
                let (key, range_end) = self.etcd_range();
                AuthChange::RoleRevoke { role, key, range_end }
            }
            ("token", user) => AuthChange::Token {
                user: user.to_owned(),
                revision: AuthRevision(self.number()),
                fingerprint: [7; 32],
                issued_millis: 0,
            },
            _ => panic!("nobody understands: {}", self.line),
        }
    }

    fn permission(&mut self) -> Permission {
        let access = match self.next() {
            "read" => Access::Read,
            "write" => Access::Write,
            "both" => Access::ReadWrite,
            word => panic!("no such access: {word}"),
        };
        let (key, range_end) = self.etcd_range();
        Permission { access, key, range_end }
    }

    fn etcd_range(&mut self) -> (Bytes, Bytes) {
        match self.keys() {
            KeyRange::One(key) => (key, Bytes::new()),
            KeyRange::Span(from, to) => (from, to),
            KeyRange::From(from) => (from, Bytes::from_static(b"\0")),
        }
    }

    fn command(&mut self, verb: &str) -> Command {
        let member = |id: u64| MemberId(id);
        match verb {
            "put" => Command::Put(self.put()),
            "del" => Command::DeleteRange(self.delete()),
            "txn" => Command::Txn(self.txn()),
            "compact" => Command::Compact { revision: Revision(self.number()) },
            "grant" => Command::LeaseGrant { id: LeaseId(self.number()), ttl_secs: self.number() },
            "revoke" => Command::LeaseRevoke { id: LeaseId(self.number()) },
            "checkpoint" => {
                let mut remaining = Vec::new();
                while self.more() {
                    remaining.push((LeaseId(self.number()), self.number()));
                }
                Command::LeaseCheckpoint { remaining }
            }
            "raise" => Command::AlarmActivate { kind: self.alarm(), member: member(self.number()) },
            "lift" => Command::AlarmDeactivate { kind: self.alarm(), member: member(self.number()) },
            "join" => {
                let (id, url) = (member(self.number()), self.next().to_owned());
                let learner = self.flag("learner");
                Command::MemberAdd(Member {
                    id,
                    name: String::new(),
                    peer_urls: vec![url],
                    client_urls: vec![],
                    learner,
                })
            }
            "publish" => Command::MemberPublish {
                id: member(self.number()),
                name: self.next().to_owned(),
                client_urls: vec![self.next().to_owned()],
            },
            "move" => Command::MemberUpdate { id: member(self.number()), peer_urls: vec![self.next().to_owned()] },
            "leave" => Command::MemberRemove { id: member(self.number()) },
            "promote" => Command::MemberPromote { id: member(self.number()) },
            "auth" | "user" | "role" | "token" => Command::Auth(self.auth(verb)),
            "version" => Command::ClusterVersion(self.next().to_owned()),
            _ => panic!("nobody understands: {}", self.line),
        }
    }

    fn alarm(&mut self) -> AlarmKind {
        match self.next() {
            "nospace" => AlarmKind::NoSpace,
            "corrupt" => AlarmKind::Corrupt,
            word => panic!("no such alarm: {word}"),
        }
    }

    fn flag(&mut self, flag: &str) -> bool {
        let found = self.more() && self.peek() == flag;
        self.at += usize::from(found);
        found
    }

    fn put(&mut self) -> Put {
        let mut put = Put { key: self.bytes(), ..Put::default() };
        if !matches!(self.peek(), "ignore-value" | "ignore-lease") && self.more() {
            put.value = self.bytes();
        }
        while self.more() {
            match self.next() {
                "prev" => put.prev_kv = true,
                "ignore-value" => put.ignore_value = true,
                "ignore-lease" => put.ignore_lease = true,
                "lease" => put.lease = LeaseId(self.number()),
                word => panic!("a put has no {word}: {}", self.line),
            }
        }
        put
    }

    fn delete(&mut self) -> DeleteRange {
        DeleteRange { keys: self.keys(), prev_kv: self.flag("prev") }
    }

    fn range(&mut self) -> Range {
        let mut range = Range::of(self.keys());
        while self.more() {
            match self.next() {
                "limit" => range.limit = self.number(),
                "rev" => range.revision = Some(Revision(self.number())),
                "keys-only" => range.keys_only = true,
                "count-only" => range.count_only = true,
                "asc" => range.order = SortOrder::Ascend,
                "desc" => range.order = SortOrder::Descend,
                "by" => {
                    range.target = match self.next() {
                        "key" => SortTarget::Key,
                        "version" => SortTarget::Version,
                        "create" => SortTarget::Create,
                        "mod" => SortTarget::Mod,
                        "value" => SortTarget::Value,
                        word => panic!("no such sort: {word}"),
                    }
                }
                "min-mod" => range.min_mod_revision = self.number(),
                "max-mod" => range.max_mod_revision = self.number(),
                "min-create" => range.min_create_revision = self.number(),
                "max-create" => range.max_create_revision = self.number(),
                word => panic!("a get has no {word}: {}", self.line),
            }
        }
        range
    }

    /// `if version a = 1 ; value b != x then put a 1 ; get a else del b end`
    fn txn(&mut self) -> Txn {
        let mut txn = Txn::default();
        self.expect("if");
        while !matches!(self.peek(), "then") {
            txn.compare.push(self.compare());
            self.flag_separator();
        }
        self.expect("then");
        txn.success = self.ops();
        self.expect("else");
        txn.failure = self.ops();
        self.expect("end");
        txn
    }

    fn flag_separator(&mut self) {
        if self.at < self.words.len() && self.peek() == ";" {
            self.at += 1;
        }
    }

    fn ops(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        while self.more() {
            ops.push(match self.next() {
                "get" => Op::Range(self.range()),
                "put" => Op::Put(self.put()),
                "del" => Op::DeleteRange(self.delete()),
                "txn" => Op::Txn(self.txn()),
                word => panic!("a transaction has no {word}: {}", self.line),
            });
            self.flag_separator();
        }
        ops
    }

    fn compare(&mut self) -> Compare {
        let target = self.next();
        let keys = self.keys();
        let result = match self.next() {
            "=" => CompareResult::Equal,
            "!=" => CompareResult::NotEqual,
            ">" => CompareResult::Greater,
            "<" => CompareResult::Less,
            "?" => CompareResult::Unknown,
            word => panic!("no such relation: {word}: {}", self.line),
        };
        let target = match target {
            "version" => CompareTarget::Version(self.number()),
            "create" => CompareTarget::Create(self.number()),
            "mod" => CompareTarget::Mod(self.number()),
            "value" => CompareTarget::Value(self.bytes()),
            "lease" => CompareTarget::Lease(self.number()),
            "unknown" => {
                self.next();
                CompareTarget::Unknown
            }
            word => panic!("no such target: {word}: {}", self.line),
        };
        Compare { keys, result, target }
    }
}

fn unescape(word: &str) -> Bytes {
    if word == "\"\"" { Bytes::new() } else { word.replace("\\0", "\0").into() }
}
