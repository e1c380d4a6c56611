//! Events as they stand inside a response: field 11 of `WatchResponse`, written once and shared by all watchers.
//!
//! Protobuf messages can be joined by joining their bytes, so a response is a short head of its own and any number
//! of these.

use bytes::{BufMut, Bytes};
use eyrie_state::{Event, KeyValue};
use prost::encoding::{encode_varint, encoded_len_varint};

const EVENTS_TAG: u8 = 11 << 3 | 2;

/// A pair, either in parts or as the record that history holds (which is the same message).
#[derive(Debug, Clone, Copy)]
pub(super) enum Pair<'a> {
    Parts(&'a KeyValue),
    Record(&'a [u8]),
}

impl Pair<'_> {
    fn len(self) -> usize {
        match self {
            Pair::Record(record) => record.len(),
            Pair::Parts(kv) => {
                bytes_len(&kv.key)
                    + number_len(kv.create_revision)
                    + number_len(kv.mod_revision)
                    + number_len(kv.version)
                    + bytes_len(&kv.value)
                    + number_len(kv.lease.0)
            }
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        match self {
            Pair::Record(record) => out.extend_from_slice(record),
            Pair::Parts(kv) => {
                put_bytes(out, 1, &kv.key);
                put_number(out, 2, kv.create_revision);
                put_number(out, 3, kv.mod_revision);
                put_number(out, 4, kv.version);
                put_bytes(out, 5, &kv.value);
                put_number(out, 6, kv.lease.0);
            }
        }
    }
}

/// Appends one event.
pub(super) fn put_event(out: &mut Vec<u8>, delete: bool, pair: Pair<'_>, prev: Option<Pair<'_>>) {
    let (pair_len, prev_len) = (pair.len(), prev.map(Pair::len));
    let body = if delete { 2 } else { 0 } + message_len(pair_len) + prev_len.map_or(0, message_len);
    out.reserve(1 + 10 + body);
    out.put_u8(EVENTS_TAG);
    encode_varint(body as u64, out);
    if delete {
        out.put_slice(&[1 << 3, 1]);
    }
    out.put_u8(2 << 3 | 2);
    encode_varint(pair_len as u64, out);
    pair.put(out);
    if let (Some(prev), Some(len)) = (prev, prev_len) {
        out.put_u8(3 << 3 | 2);
        encode_varint(len as u64, out);
        prev.put(out);
    }
}

/// Appends an event of the state, with the pair before it when given.
pub(super) fn put_state_event(out: &mut Vec<u8>, event: &Event, prev: Option<&KeyValue>) {
    put_event(out, event.delete, Pair::Parts(&event.kv), prev.map(Pair::Parts));
}

/// Cuts events that stand one after another into the single ones.
pub(super) fn split_events(mut events: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        if events.is_empty() {
            return None;
        }
        let mut rest = &events[1..];
        let body = prost::encoding::decode_varint(&mut rest).expect("events that this page wrote");
        let len = events.len() - rest.len() + body as usize;
        Some(events.split_to(len))
    })
}

fn message_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { message_len(bytes.len()) }
}

fn number_len(n: i64) -> usize {
    if n == 0 { 0 } else { 1 + encoded_len_varint(n.cast_unsigned()) }
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.put_u8(field << 3 | 2);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

fn put_number(out: &mut Vec<u8>, field: u8, n: i64) {
    if n != 0 {
        out.put_u8(field << 3);
        encode_varint(n.cast_unsigned(), out);
    }
}

#[cfg(test)]
mod tests {
    use eyrie_api::{mvccpb, pb};
    use eyrie_state::LeaseId;
    use prost::Message;

    use super::*;
    use crate::convert;

    fn pair(lease: i64, value: &'static [u8]) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"key"),
            create_revision: 2,
            mod_revision: 300,
            version: 4,
            value: Bytes::from_static(value),
            lease: LeaseId(lease),
        }
    }

    #[test]
    fn events_are_what_the_message_library_writes() {
        let put = Event { delete: false, kv: pair(-7, &[b'v'; 200]), prev: None };
        let gone = KeyValue { key: Bytes::from_static(b"gone"), mod_revision: 301, ..Default::default() };
        let delete = Event { delete: true, kv: gone, prev: None };
        let before = pair(0, b"");
        let mut out = Vec::new();
        put_state_event(&mut out, &put, Some(&before));
        put_state_event(&mut out, &delete, None);
        let message = |event: &Event, prev: Option<&KeyValue>| mvccpb::Event {
            r#type: i32::from(event.delete),
            kv: Some(convert::key_value(event.kv.clone())),
            prev_kv: prev.cloned().map(convert::key_value),
        };
        let response = pb::WatchResponse {
            events: vec![message(&put, Some(&before)), message(&delete, None)],
            ..Default::default()
        };
        assert_eq!(out, response.encode_to_vec());

        let single: Vec<_> = split_events(Bytes::from(out.clone())).collect();
        assert_eq!(single.len(), 2);
        assert_eq!(single.concat(), out);

        // A record of history is the same message as the pair in parts.
        let record = convert::key_value(put.kv.clone()).encode_to_vec();
        let mut from_record = Vec::new();
        put_event(&mut from_record, false, Pair::Record(&record), Some(Pair::Parts(&before)));
        assert_eq!(from_record, single[0]);
    }
}
