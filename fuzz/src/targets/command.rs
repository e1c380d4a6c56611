//! Commands as the log keeps them.

use bytes::Bytes;
use eyrie_state::{
    Access, AlarmKind, AuthChange, AuthRevision, Author, Command, Compare, CompareResult, CompareTarget, DeleteRange,
    KeyRange, LeaseId, Member, MemberId, Op, Permission, Proposal, Put, Range, Revision, SortOrder, SortTarget, Txn,
};

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "command",
    what: "commands in the replicated log",
    corpus,
    reseal: None,
    run: |input| {
        let Ok(proposal) = Proposal::decode(Bytes::copy_from_slice(input)) else { return false };
        let again = Proposal::decode(proposal.encode().into()).expect("what was encoded is decoded");
        assert_eq!(again, proposal, "a command changes on its way through the log");
        true
    },
};

fn corpus() -> Vec<Vec<u8>> {
    let user = Author::User { name: "u".into(), revision: AuthRevision(300) };
    let authors = [Author::Nobody, Author::Store, user].into_iter().cycle();
    let proposals = commands().into_iter().zip(authors).map(|(command, author)| Proposal { author, command });
    proposals.map(|proposal| proposal.encode()).collect()
}

fn commands() -> Vec<Command> {
    let put = Put {
        key: "key".into(),
        value: vec![0xab; 300].into(),
        lease: LeaseId(-7),
        prev_kv: true,
        ignore_value: false,
        ignore_lease: true,
    };
    let delete = DeleteRange { keys: KeyRange::Span("a".into(), "b".into()), prev_kv: true };
    let range = Range {
        keys: KeyRange::From("k".into()),
        limit: 10,
        revision: Some(Revision(5)),
        order: SortOrder::Descend,
        target: SortTarget::Mod,
        keys_only: true,
        count_only: false,
        min_mod_revision: 1,
        max_mod_revision: -2,
        min_create_revision: i64::MAX,
        max_create_revision: i64::MIN,
    };
    let targets = [
        CompareTarget::Version(1),
        CompareTarget::Create(2),
        CompareTarget::Mod(3),
        CompareTarget::Value("v".into()),
        CompareTarget::Lease(4),
    ];
    let compare = targets.into_iter().map(|target| Compare {
        keys: KeyRange::One("k".into()),
        result: CompareResult::Greater,
        target,
    });
    let mut txn = Txn {
        compare: compare.collect(),
        success: vec![Op::Put(put.clone()), Op::Range(range)],
        failure: vec![Op::DeleteRange(delete.clone())],
    };
    for _ in 0..3 {
        txn = Txn { success: vec![Op::Txn(txn), Op::Put(put.clone())], ..Txn::default() };
    }
    let member = Member {
        id: MemberId(u64::MAX),
        name: "n".into(),
        peer_urls: vec!["http://a:1".into(), "http://b:2".into()],
        client_urls: vec!["http://c:3".into()],
        learner: true,
    };
    vec![
        Command::Put(put),
        Command::DeleteRange(delete),
        Command::Txn(txn),
        Command::Compact { revision: Revision(300) },
        Command::LeaseGrant { id: LeaseId(7), ttl_secs: 60 },
        Command::LeaseRevoke { id: LeaseId(7) },
        Command::LeaseCheckpoint { remaining: (0..20).map(|n| (LeaseId(n), n * 1000)).collect() },
        Command::AlarmActivate { member: MemberId(1), kind: AlarmKind::NoSpace },
        Command::AlarmDeactivate { member: MemberId(1), kind: AlarmKind::Corrupt },
        Command::MemberPublish { id: MemberId(2), name: "n".into(), client_urls: vec!["c".into()] },
        Command::MemberUpdate { id: MemberId(2), peer_urls: vec!["p".into()] },
        Command::MemberAdd(member),
        Command::MemberRemove { id: MemberId(2) },
        Command::MemberPromote { id: MemberId(2) },
        Command::ClusterVersion("3.5.0".into()),
        Command::Auth(AuthChange::UserAdd { name: "u".into(), password_hash: "$2a$".into(), no_password: false }),
        Command::Auth(AuthChange::UserGrant { user: "u".into(), role: "r".into() }),
        Command::Auth(AuthChange::RoleGrant {
            role: "r".into(),
            permission: Permission { access: Access::ReadWrite, key: "a".into(), range_end: "b".into() },
        }),
        Command::Auth(AuthChange::RoleRevoke { role: "r".into(), key: "a".into(), range_end: "b".into() }),
        Command::Auth(AuthChange::Token {
            user: "u".into(),
            revision: AuthRevision(7),
            fingerprint: [0xcd; 32],
            issued_millis: 1 << 40,
        }),
    ]
}
