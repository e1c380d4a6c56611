//! The rows of etcd's buckets: history, leases, alarms, members, positions.

use bytes::Bytes;
use eyrie_state::record::{self, LeaseRow};
use eyrie_state::{
    Alarm, AlarmKind, LeaseId, Member, MemberId, Position, member_json, member_key, parse_member_json, parse_member_key,
};
use prost::Message;

use super::Target;

pub(super) const HISTORY: Target = Target {
    name: "record",
    what: "history records (mvccpb.KeyValue)",
    corpus: || {
        let mut pair = eyrie_api::mvccpb::KeyValue {
            key: "registry/key".into(),
            create_revision: 2,
            mod_revision: 300,
            version: 4,
            value: vec![0xab; 300].into(),
            lease: -7,
        };
        let full = pair.encode_to_vec();
        pair.value = Bytes::new();
        pair.lease = 0;
        let tombstone = eyrie_api::mvccpb::KeyValue { key: "k".into(), ..Default::default() };
        vec![full, pair.encode_to_vec(), tombstone.encode_to_vec()]
    },
    reseal: None,
    run: |input| {
        let Ok(view) = record::view(input) else { return false };
        let pair = record::key_value(&Bytes::copy_from_slice(input), false).expect("what can be viewed can be read");
        assert_eq!(pair.key, input[view.key], "view and pair differ in the key");
        assert_eq!(pair.value, input[view.value], "view and pair differ in the value");
        // Text and numbers as an independent reader has them.
        if let Ok(other) = eyrie_api::mvccpb::KeyValue::decode(input) {
            let ours = (&pair.key, pair.create_revision, pair.mod_revision, pair.version, &pair.value, pair.lease.0);
            let theirs =
                (&other.key, other.create_revision, other.mod_revision, other.version, &other.value, other.lease);
            assert_eq!(ours, theirs, "a record means another thing to prost");
        }
        true
    },
};

pub(super) const LEASE: Target = Target {
    name: "lease-row",
    what: "rows of bucket lease",
    corpus: || {
        let rows = [(1, 60, 0), (-5, i64::MAX, 17), (0x326963a1, 9_000_000_000, 1)];
        rows.map(|(id, ttl_secs, remaining_secs)| LeaseRow { id: LeaseId(id), ttl_secs, remaining_secs }.encode())
            .to_vec()
    },
    reseal: None,
    run: |input| {
        let Ok(row) = LeaseRow::decode(input) else { return false };
        assert_eq!(LeaseRow::decode(&row.encode()), Ok(row));
        true
    },
};

pub(super) const ALARM: Target = Target {
    name: "alarm-row",
    what: "rows of bucket alarm",
    corpus: || {
        let kinds = [AlarmKind::NoSpace, AlarmKind::Corrupt];
        kinds.map(|kind| record::alarm_key(Alarm { member: MemberId(0x8e9e_05c5_2164_694d), kind })).to_vec()
    },
    reseal: None,
    run: |input| {
        let Ok(alarm) = record::parse_alarm_key(input) else { return false };
        assert_eq!(record::parse_alarm_key(&record::alarm_key(alarm)), Ok(alarm));
        true
    },
};

pub(super) const MEMBER: Target = Target {
    name: "member-row",
    what: "rows of bucket members (JSON)",
    corpus: || {
        let member = |learner, name: &str| Member {
            id: MemberId(0x8e9e_05c5_2164_694d),
            name: name.into(),
            peer_urls: vec!["http://localhost:2380".into()],
            client_urls: vec!["http://a:1".into(), "http://b:2".into()],
            learner,
        };
        [member(false, "default"), member(true, "a \"quoted\" \u{1f985} name\n")]
            .map(|m| member_json(&m).into())
            .to_vec()
    },
    reseal: None,
    run: |input| {
        let Ok(member) = parse_member_json(input) else { return false };
        let again = parse_member_json(member_json(&member).as_bytes());
        assert_eq!(again.as_ref(), Ok(&member), "a member changes on its way through the tables");
        true
    },
};

pub(super) const POSITION: Target = Target {
    name: "position",
    what: "keys of bucket key, and member keys",
    corpus: || {
        let live = record::position_key(Position { main: 5, sub: 1 }, false);
        let dead = record::position_key(Position { main: i64::MAX, sub: u32::MAX }, true);
        vec![live.0[..live.1].to_vec(), dead.0[..dead.1].to_vec(), member_key(MemberId(77)).into_bytes()]
    },
    reseal: None,
    run: |input| {
        if let Some(id) = parse_member_key(input) {
            assert_eq!(parse_member_key(member_key(id).as_bytes()), Some(id));
            return true;
        }
        let Some((at, tombstone)) = record::parse_position_key(input) else { return false };
        let (key, len) = record::position_key(at, tombstone);
        assert_eq!(&key[..len], input, "two keys for one position");
        true
    },
};
