//! Round trips, and bytes that are no segments.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn event() -> impl Strategy<Value = Event> {
    let key = vec(any::<u8>(), 1..20).prop_map(Bytes::from);
    let put = (vec(any::<u8>(), 0..40), any::<(i64, i64, i64)>());
    (key, proptest::option::of(put)).prop_map(|(key, put)| match put {
        None => Event::Delete { key },
        Some((value, (create, version, lease))) => {
            Event::Put { key, value: value.into(), create_revision: Revision(create), version, lease: LeaseId(lease) }
        }
    })
}

fn segment() -> impl Strategy<Value = Segment> {
    let revisions = vec((any::<u64>(), vec(event(), 1..5)), 1..8);
    (any::<[u8; 32]>(), 1..i64::MAX / 2, revisions).prop_map(|(previous, first, revisions)| Segment {
        previous,
        revisions: revisions
            .into_iter()
            .zip(first..)
            .map(|((at, events), revision)| Revised { revision: Revision(revision), heard_at: TimeMs(at), events })
            .collect(),
    })
}

/// Replaces the hash so that what lies behind it is reached.
fn rehash(bytes: &mut [u8]) {
    let at = bytes.len() - HASH_LEN;
    let hash = Sha256::digest(&bytes[..at]);
    bytes[at..].copy_from_slice(&hash);
}

proptest! {
    #[test]
    fn a_segment_comes_back_as_it_was(segment in segment()) {
        let bytes = segment.encode();
        prop_assert_eq!(Segment::decode(&Bytes::from(bytes)), Ok(segment));
    }

    #[test]
    fn a_changed_byte_is_noticed(segment in segment(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = segment.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Segment::decode(&Bytes::from(bytes)).is_err());
    }

    #[test]
    fn a_forged_segment_decodes_to_itself_or_not_at_all(
        segment in segment(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = segment.encode();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(HEADER_LEN + HASH_LEN + cut.index(bytes.len() - HEADER_LEN - HASH_LEN + 1));
        rehash(&mut bytes);
        if let Ok(segment) = Segment::decode(&Bytes::from(bytes.clone())) {
            prop_assert_eq!(segment.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(Segment::decode(&Bytes::from(bytes)).is_err());
    }
}

/// The bytes of version 1 are frozen: a program of any later day must read them.
#[test]
fn version_1_is_frozen() {
    let put =
        Event::Put { key: "k".into(), value: "v".into(), create_revision: Revision(2), version: 3, lease: LeaseId(4) };
    let revised = |revision, event: &Event| Revised {
        revision: Revision(revision),
        heard_at: TimeMs(1_700_000_000_000),
        events: vec![event.clone()],
    };
    let segment = Segment {
        previous: [7; 32],
        revisions: vec![revised(5, &put), revised(6, &Event::Delete { key: "k".into() })],
    };
    let bytes = segment.encode();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("../../tests/fixtures/tail-v1.hex").trim());
}
