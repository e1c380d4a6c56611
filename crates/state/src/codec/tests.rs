//! Round trips, frozen bytes, and garbage.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn the_bytes_are_frozen() {
    let put = Put { key: "key".into(), value: "value".into(), lease: LeaseId(300), prev_kv: true, ..Put::default() };
    let bytes = b"\x01\x01\x01\xac\x02\x03key\x05value";
    assert_eq!(Command::Put(put.clone()).encode(), bytes);
    let range = Range {
        keys: KeyRange::From("a".into()),
        limit: 10,
        revision: Some(Revision(5)),
        order: SortOrder::Descend,
        target: SortTarget::Mod,
        keys_only: true,
        count_only: false,
        min_mod_revision: 1,
        max_mod_revision: 2,
        min_create_revision: 3,
        max_create_revision: -1,
    };
    let txn = Txn {
        compare: vec![
            Compare { keys: KeyRange::One("k".into()), result: CompareResult::Less, target: CompareTarget::Mod(7) },
            Compare {
                keys: KeyRange::Span("k".into(), "l".into()),
                result: CompareResult::NotEqual,
                target: CompareTarget::Value("v".into()),
            },
        ],
        success: vec![Op::Range(range), Op::Put(put)],
        failure: vec![Op::DeleteRange(DeleteRange { keys: KeyRange::One("d".into()), prev_kv: false })],
    };
    let bytes = [
        &b"\x01\x03\x02"[..],
        b"\x02\x02\x07\x00\x01k",
        b"\x03\x03\x01v\x01\x01k\x01l",
        b"\x02",
        b"\x01\x0d\x02\x03\x0a\x05\x01\x02\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x01a",
        b"\x02\x01\xac\x02\x03key\x05value",
        b"\x01",
        b"\x03\x00\x00\x01d",
    ]
    .concat();
    assert_eq!(Command::Txn(txn.clone()).encode(), bytes);
    assert_eq!(Command::decode(bytes.into()), Ok(Command::Txn(txn)));
    let member = Member {
        id: MemberId(200),
        name: "n".into(),
        peer_urls: vec!["p".into(), "q".into()],
        client_urls: vec![],
        learner: true,
    };
    let small: [(Command, &[u8]); 13] = [
        (Command::DeleteRange(DeleteRange { keys: KeyRange::From("a".into()), prev_kv: true }), b"\x02\x01\x02\x01a"),
        (Command::Compact { revision: Revision(300) }, b"\x04\xac\x02"),
        (Command::LeaseGrant { id: LeaseId(7), ttl_secs: 60 }, b"\x05\x07\x3c"),
        (Command::LeaseRevoke { id: LeaseId(7) }, b"\x06\x07"),
        (Command::LeaseCheckpoint { remaining: vec![(LeaseId(7), 9), (LeaseId(8), 0)] }, b"\x07\x02\x07\x09\x08\x00"),
        (Command::AlarmActivate { member: MemberId(1), kind: AlarmKind::NoSpace }, b"\x08\x01\x01"),
        (Command::AlarmDeactivate { member: MemberId(1), kind: AlarmKind::Corrupt }, b"\x09\x01\x02"),
        (
            Command::MemberPublish { id: MemberId(200), name: "n".into(), client_urls: vec!["c".into()] },
            b"\x0a\xc8\x01\x01n\x01\x01c",
        ),
        (Command::MemberUpdate { id: MemberId(200), peer_urls: vec!["p".into()] }, b"\x0b\xc8\x01\x01\x01p"),
        (Command::MemberAdd(member), b"\x0c\xc8\x01\x01\x01n\x02\x01p\x01q\x00"),
        (Command::MemberRemove { id: MemberId(200) }, b"\x0d\xc8\x01"),
        (Command::MemberPromote { id: MemberId(200) }, b"\x0e\xc8\x01"),
        (Command::ClusterVersion("3.5.0".into()), b"\x0f\x053.5.0"),
    ];
    for (command, want) in small {
        assert_eq!(command.encode(), [b"\x01", want].concat(), "{command:?}");
    }
}

#[test]
fn the_bytes_of_authors_and_users_are_frozen() {
    let user = Author::User { name: "bo".into(), revision: AuthRevision(300) };
    let fingerprint = [7; 32];
    let grant = |access| AuthChange::RoleGrant {
        role: "r".into(),
        permission: Permission { access, key: "k".into(), range_end: "l".into() },
    };
    let two = |make: fn(String, String) -> AuthChange| make("u".into(), "r".into());
    let token = AuthChange::Token { user: "u".into(), revision: AuthRevision(5), fingerprint, issued_millis: 200 };
    let password_hash = String::from("h");
    let changes: [(AuthChange, Vec<u8>); 14] = [
        (AuthChange::Enable, b"\x01".to_vec()),
        (AuthChange::Disable, b"\x02".to_vec()),
        (AuthChange::UserAdd { name: "u".into(), password_hash, no_password: false }, b"\x03\x01u\x00\x01h".to_vec()),
        (
            AuthChange::UserAdd { name: "u".into(), password_hash: String::new(), no_password: true },
            b"\x03\x01u\x01\x00".to_vec(),
        ),
        (AuthChange::UserDelete { name: "u".into() }, b"\x04\x01u".to_vec()),
        (two(|name, password_hash| AuthChange::UserPassword { name, password_hash }), b"\x05\x01u\x01r".to_vec()),
        (two(|user, role| AuthChange::UserGrant { user, role }), b"\x06\x01u\x01r".to_vec()),
        (two(|user, role| AuthChange::UserRevoke { user, role }), b"\x07\x01u\x01r".to_vec()),
        (AuthChange::RoleAdd { name: "r".into() }, b"\x08\x01r".to_vec()),
        (AuthChange::RoleDelete { name: "r".into() }, b"\x09\x01r".to_vec()),
        (grant(Access::Read), b"\x0a\x01r\x00\x01k\x01l".to_vec()),
        (grant(Access::ReadWrite), b"\x0a\x01r\x02\x01k\x01l".to_vec()),
        (
            AuthChange::RoleRevoke { role: "r".into(), key: "k".into(), range_end: Bytes::new() },
            b"\x0b\x01r\x01k\x00".to_vec(),
        ),
        (token, [b"\x0c\x01u\x05", &fingerprint[..], b"\xc8\x01"].concat()),
    ];
    for (change, want) in changes {
        for (author, mark) in
            [(Author::Nobody, &b""[..]), (Author::Store, b"\x10"), (user.clone(), b"\x11\x02bo\xac\x02")]
        {
            let proposal = Proposal { author, command: Command::Auth(change.clone()) };
            let bytes = [b"\x01", mark, b"\x12", &want].concat();
            assert_eq!(proposal.encode(), bytes, "{proposal:?}");
            assert_eq!(Proposal::decode(bytes.into()), Ok(proposal));
        }
    }
    let put = Put { key: "k".into(), ..Put::default() };
    let by_bo = Proposal { author: user, command: Command::Put(put) }.encode();
    assert_eq!(by_bo, b"\x01\x11\x02bo\xac\x02\x01\x00\x00\x01k\x00");
    assert!(Command::decode(by_bo.into()).unwrap_err().to_string().contains("author"));
    let twice = b"\x01\x10\x10\x06\x07";
    assert!(Proposal::decode(Bytes::from_static(twice)).unwrap_err().to_string().contains("kind of command"));
}

#[test]
fn what_is_too_deep_is_refused_and_what_is_not_is_read() {
    let nest = |depth| {
        let txn = (1..depth).fold(Txn::default(), |txn, _| Txn { success: vec![Op::Txn(txn)], ..Txn::default() });
        Command::Txn(txn)
    };
    let deepest = nest(crate::limits::TXN_DEPTH_MAX);
    assert_eq!(Command::decode(deepest.encode().into()), Ok(deepest));
    let deeper = nest(crate::limits::TXN_DEPTH_MAX + 1);
    assert!(Command::decode(deeper.encode().into()).is_err());
}

#[test]
fn what_is_read_are_slices_of_the_input() {
    let put = Put { key: "key".into(), value: vec![7; 1000].into(), ..Put::default() };
    let bytes = Bytes::from(Command::Put(put).encode());
    let Ok(Command::Put(put)) = Command::decode(bytes.clone()) else { panic!("a put") };
    assert!(bytes.as_ptr_range().contains(&put.value.as_ptr()));
}

#[test]
fn other_versions_kinds_and_tails_are_refused() {
    let good = Command::LeaseRevoke { id: LeaseId(7) }.encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Command::decode(bytes.into()).unwrap_err().to_string()
    };
    assert!(with(0, 2).contains("version"));
    assert!(with(1, 99).contains("kind of command"));
    let longer = [&good[..], b"\0"].concat();
    assert!(Command::decode(longer.into()).unwrap_err().to_string().contains("after the end"));
    assert!(Command::decode(Bytes::new()).is_err());
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}
fn texts() -> impl Strategy<Value = Vec<String>> {
    vec("[a-zäß]{0,5}", 0..3)
}
fn keys() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        bytes().prop_map(KeyRange::One),
        (bytes(), bytes()).prop_map(|(a, b)| KeyRange::Span(a, b)),
        bytes().prop_map(KeyRange::From),
    ]
}
fn put() -> impl Strategy<Value = Put> {
    (bytes(), bytes(), any::<i64>(), any::<[bool; 3]>()).prop_map(|(key, value, lease, flags)| {
        let [prev_kv, ignore_value, ignore_lease] = flags;
        Put { key, value, lease: LeaseId(lease), prev_kv, ignore_value, ignore_lease }
    })
}
fn delete() -> impl Strategy<Value = DeleteRange> {
    (keys(), any::<bool>()).prop_map(|(keys, prev_kv)| DeleteRange { keys, prev_kv })
}
fn range() -> impl Strategy<Value = Range> {
    use prop::sample::select;
    let orders = select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let targets = [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];
    let bounds = prop_oneof![Just([0; 4]), any::<[i64; 4]>()];
    let sort = (orders, select(targets.to_vec()));
    (keys(), any::<usize>(), any::<Option<i64>>(), sort, any::<[bool; 2]>(), bounds).prop_map(
        |(keys, limit, revision, (order, target), [keys_only, count_only], bounds)| Range {
            keys,
            limit,
            revision: revision.map(Revision),
            order,
            target,
            keys_only,
            count_only,
            min_mod_revision: bounds[0],
            max_mod_revision: bounds[1],
            min_create_revision: bounds[2],
            max_create_revision: bounds[3],
        },
    )
}
fn compare() -> impl Strategy<Value = Compare> {
    let result = prop::sample::select(vec![
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
        CompareResult::Unknown,
    ]);
    let target = prop_oneof![
        any::<i64>().prop_map(CompareTarget::Version),
        any::<i64>().prop_map(CompareTarget::Create),
        any::<i64>().prop_map(CompareTarget::Mod),
        bytes().prop_map(CompareTarget::Value),
        any::<i64>().prop_map(CompareTarget::Lease),
        Just(CompareTarget::Unknown),
    ];
    (keys(), result, target).prop_map(|(keys, result, target)| Compare { keys, result, target })
}
fn txn() -> impl Strategy<Value = Txn> {
    let flat = prop_oneof![range().prop_map(Op::Range), put().prop_map(Op::Put), delete().prop_map(Op::DeleteRange),];
    let op = flat.prop_recursive(3, 12, 3, |op| {
        let txn = (vec(compare(), 0..2), vec(op.clone(), 0..3), vec(op, 0..3));
        txn.prop_map(|(compare, success, failure)| Op::Txn(Txn { compare, success, failure }))
    });
    (vec(compare(), 0..3), vec(op.clone(), 0..3), vec(op, 0..3)).prop_map(|(compare, success, failure)| Txn {
        compare,
        success,
        failure,
    })
}
fn member() -> impl Strategy<Value = Member> {
    (any::<u64>(), "[a-z]{0,4}", texts(), texts(), any::<bool>()).prop_map(
        |(id, name, peer_urls, client_urls, learner)| Member {
            id: MemberId(id),
            name,
            peer_urls,
            client_urls,
            learner,
        },
    )
}
fn author() -> impl Strategy<Value = Author> {
    let user = ("[a-zä]{0,5}", any::<u64>());
    prop_oneof![
        Just(Author::Nobody),
        Just(Author::Store),
        user.prop_map(|(name, revision)| Author::User { name: name.into(), revision: AuthRevision(revision) }),
    ]
}
fn auth_change() -> impl Strategy<Value = AuthChange> {
    let name = || "[a-zä]{0,5}";
    let access = prop::sample::select(vec![Access::Read, Access::Write, Access::ReadWrite]);
    prop_oneof![
        (name(), name(), any::<bool>()).prop_map(|(name, password_hash, no_password)| AuthChange::UserAdd {
            name,
            password_hash,
            no_password
        }),
        (name(), name()).prop_map(|(user, role)| AuthChange::UserGrant { user, role }),
        (name(), access, bytes(), bytes()).prop_map(|(role, access, key, range_end)| AuthChange::RoleGrant {
            role,
            permission: Permission { access, key, range_end }
        }),
        (name(), bytes(), bytes()).prop_map(|(role, key, range_end)| AuthChange::RoleRevoke { role, key, range_end }),
        (name(), any::<u64>(), any::<[u8; 32]>(), any::<u64>()).prop_map(|(user, at, fingerprint, issued_millis)| {
            AuthChange::Token { user, revision: AuthRevision(at), fingerprint, issued_millis }
        }),
    ]
}
fn command() -> impl Strategy<Value = Command> {
    let kind = prop::sample::select(vec![AlarmKind::NoSpace, AlarmKind::Corrupt]);
    let alarm = (any::<u64>().prop_map(MemberId), kind);
    let id = any::<u64>().prop_map(MemberId);
    let lease = any::<i64>().prop_map(LeaseId);
    prop_oneof![
        put().prop_map(Command::Put),
        delete().prop_map(Command::DeleteRange),
        txn().prop_map(Command::Txn),
        any::<i64>().prop_map(|n| Command::Compact { revision: Revision(n) }),
        (lease.clone(), any::<i64>()).prop_map(|(id, ttl_secs)| Command::LeaseGrant { id, ttl_secs }),
        lease.clone().prop_map(|id| Command::LeaseRevoke { id }),
        vec((lease, any::<i64>()), 0..4).prop_map(|remaining| Command::LeaseCheckpoint { remaining }),
        alarm.clone().prop_map(|(member, kind)| Command::AlarmActivate { member, kind }),
        alarm.prop_map(|(member, kind)| Command::AlarmDeactivate { member, kind }),
        (id.clone(), "[a-z]{0,4}", texts()).prop_map(|(id, name, client_urls)| Command::MemberPublish {
            id,
            name,
            client_urls
        }),
        (id.clone(), texts()).prop_map(|(id, peer_urls)| Command::MemberUpdate { id, peer_urls }),
        member().prop_map(Command::MemberAdd),
        id.clone().prop_map(|id| Command::MemberRemove { id }),
        id.prop_map(|id| Command::MemberPromote { id }),
        "[0-9.]{0,6}".prop_map(Command::ClusterVersion),
        auth_change().prop_map(Command::Auth),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_command_comes_back(command in command()) {
        prop_assert_eq!(Command::decode(command.encode().into()), Ok(command));
    }

    #[test]
    fn every_proposal_comes_back(author in author(), command in command()) {
        let proposal = Proposal { author, command };
        prop_assert_eq!(Proposal::decode(proposal.encode().into()), Ok(proposal));
    }

    #[test]
    fn a_cut_or_changed_command_never_panics(command in command(), at in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = command.encode();
        let at = at % bytes.len();
        prop_assert!(Command::decode(bytes[..at].to_vec().into()).is_err());
        bytes[at] = byte;
        if let Ok(other) = Command::decode(bytes.into()) {
            prop_assert_eq!(Command::decode(other.encode().into()), Ok(other));
        }
    }

    #[test]
    fn garbage_never_panics(garbage in vec(any::<u8>(), 0..200), kind in 0..20u8) {
        let _ = Command::decode(garbage.clone().into());
        let _ = Proposal::decode([&[VERSION, kind], &garbage[..]].concat().into());
        let _ = Proposal::decode([&[VERSION, BY_THE_STORE, kind], &garbage[..]].concat().into());
    }
}
