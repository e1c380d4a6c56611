//! Rows as upstream writes them; spans against a plain model.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::command::KeyRange;

#[test]
fn rows_have_upstreams_bytes() {
    let user = User {
        name: "bo".into(),
        password_hash: "$2a$".into(),
        roles: ["r".into(), "a".into()].into(),
        no_password: false,
    };
    let bytes = b"\x0a\x02bo\x12\x04$2a$\x1a\x01a\x1a\x01r\x22\x00";
    assert_eq!(user.encode(), bytes);
    assert_eq!(User::decode(bytes), Ok(user));
    let guest = User { name: "g".into(), no_password: true, ..User::default() };
    assert_eq!(guest.encode(), b"\x0a\x01g\x22\x02\x08\x01");
    assert_eq!(User::decode(&guest.encode()), Ok(guest));
    let permission = |access, key, range_end| Permission { access, key: Bytes::from_static(key), range_end };
    let role = Role {
        name: "r".into(),
        permissions: vec![
            permission(Access::Read, b"b", Bytes::from_static(b"a")),
            permission(Access::ReadWrite, b"k", Bytes::new()),
        ],
    };
    let bytes = b"\x0a\x01r\x12\x06\x12\x01b\x1a\x01a\x12\x05\x08\x02\x12\x01k";
    assert_eq!(role.encode(), bytes);
    assert_eq!(Role::decode(bytes), Ok(role));
    assert!(User::decode(b"\x12\x01x").is_err(), "a user without a name");
    assert!(Role::decode(b"\x0a\x01r\x12\x02\x08\x03").is_err(), "an access of a later release");
}

/// Keys over an alphabet in which every gap between two bounds shows.
fn key() -> impl Strategy<Value = Bytes> {
    vec(prop::sample::select(vec![0u8, b'a', b'b', 0xff]), 1..3).prop_map(Bytes::from)
}

fn universe() -> Vec<Vec<u8>> {
    let letters = [0u8, b'a', b'b', 0xff];
    let mut all: Vec<Vec<u8>> = vec![vec![]];
    let mut from = 0;
    for _ in 0..3 {
        let longer: Vec<Vec<u8>> =
            all[from..].iter().flat_map(|key| letters.iter().map(|letter| [&key[..], &[*letter]].concat())).collect();
        from = all.len();
        all.extend(longer);
    }
    all.split_off(1)
}

fn inside(key: &[u8], from: &[u8], range_end: &[u8]) -> bool {
    match range_end {
        [] => key == from,
        [0] => key >= from,
        end => key >= from && key < end,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A range is covered exactly when every key in it is, whatever the spans look like.
    #[test]
    fn a_range_is_covered_when_all_its_keys_are(
        permissions in vec((key(), prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(b"\0")), key()]), 0..6),
        (from, end) in (key(), prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(b"\0")), key()]),
    ) {
        let permissions: Vec<Permission> = permissions
            .into_iter()
            .map(|(key, range_end)| Permission { access: Access::Read, key, range_end })
            .collect();
        let role = Role { name: "r".into(), permissions: permissions.clone() };
        let user = User { name: "u".into(), roles: ["r".into()].into(), ..User::default() };
        let rights = Rights::of(&user, |name| (name == "r").then_some(&role));
        let keys = match &end[..] {
            [] => KeyRange::One(from.clone()),
            [0] => KeyRange::From(from.clone()),
            _ => KeyRange::Span(from.clone(), end.clone()),
        };
        let allowed = |key: &[u8]| permissions.iter().any(|p| inside(key, &p.key, &p.range_end));
        let mut asked: Vec<Vec<u8>> = universe().into_iter().filter(|key| inside(key, &from, &end)).collect();
        if asked.is_empty() {
            asked.push(from.to_vec());
        }
        let grant = Grant::Some(&rights);
        prop_assert_eq!(grant.read(&keys).is_ok(), asked.iter().all(|key| allowed(key)));
        prop_assert!(grant.write(&keys).is_err());
        prop_assert!(grant.root().is_err());
    }
}
