//! One response, ready for the wire: its own head and the shared bytes of its events.

use bytes::{BufMut, Bytes};
use eyrie_api::pb;
use prost::Message;
use smallvec::SmallVec;

use super::encode::split_events;

/// A `WatchResponse` in bytes.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Fields 1 to 7.
    head: SmallVec<[u8; 56]>,
    /// Field 11, repeated.
    events: SmallVec<[Bytes; 1]>,
}

impl Frame {
    /// A response without events.
    pub(super) fn control(response: &pb::WatchResponse) -> Self {
        debug_assert!(response.events.is_empty());
        let mut head = SmallVec::with_capacity(response.encoded_len());
        let mut writer = Growing(&mut head);
        writer.write(response);
        Self { head, events: SmallVec::new() }
    }

    /// A response with events, already in bytes.
    pub(super) fn of_events(header: pb::ResponseHeader, watch_id: i64, events: Bytes) -> Self {
        let mut frame = Self::control(&pb::WatchResponse { header: Some(header), watch_id, ..Default::default() });
        frame.events.push(events);
        frame
    }

    /// As [`Frame::of_events`], in as many responses as it takes to keep each below `bytes_max`, all but the last
    /// marked as fragments. A single event is never cut.
    pub(super) fn fragments(
        header: pb::ResponseHeader,
        watch_id: i64,
        events: Bytes,
        bytes_max: usize,
    ) -> impl Iterator<Item = Self> {
        let head_len = Self::of_events(header, watch_id, Bytes::new()).len();
        // The mark costs two bytes.
        let room = bytes_max.saturating_sub(head_len + 2);
        let mut rest = if head_len + events.len() < bytes_max { Bytes::new() } else { events.clone() };
        let mut whole = rest.is_empty().then_some(events);
        std::iter::from_fn(move || {
            if let Some(events) = whole.take() {
                return Some(Self::of_events(header, watch_id, events));
            }
            if rest.is_empty() {
                return None;
            }
            let mut len = 0;
            for event in split_events(rest.clone()) {
                if len > 0 && len + event.len() >= room {
                    break;
                }
                len += event.len();
            }
            let events = rest.split_to(len);
            let fragment = !rest.is_empty();
            let head = pb::WatchResponse { header: Some(header), watch_id, fragment, ..Default::default() };
            let mut frame = Self::control(&head);
            frame.events.push(events);
            Some(frame)
        })
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.head.len() + self.events.iter().map(Bytes::len).sum::<usize>()
    }

    /// No field is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the response.
    pub fn put(&self, out: &mut impl BufMut) {
        out.put_slice(&self.head);
        for events in &self.events {
            out.put_slice(events);
        }
    }

    /// The response as a message, for those who do not speak bytes.
    pub fn into_message(self) -> pb::WatchResponse {
        let mut bytes = Vec::with_capacity(self.len());
        self.put(&mut bytes);
        pb::WatchResponse::decode(Bytes::from(bytes)).expect("bytes that this page wrote")
    }
}

/// Lets the message library write into a small vector.
struct Growing<'a>(&'a mut SmallVec<[u8; 56]>);

impl Growing<'_> {
    fn write(&mut self, message: &impl Message) {
        let len = message.encoded_len();
        self.0.resize(len, 0);
        message.encode(&mut &mut self.0[..]).expect("as much room as the message said it needs");
    }
}

#[cfg(test)]
mod tests {
    use eyrie_state::{Event, KeyValue};

    use super::*;
    use crate::watch::encode::put_state_event;

    fn events(count: usize, value: usize) -> Bytes {
        let mut out = Vec::new();
        for n in 0..count {
            let kv = KeyValue {
                key: Bytes::from(format!("{n}")),
                value: Bytes::from(vec![b'v'; value]),
                mod_revision: 7,
                ..Default::default()
            };
            put_state_event(&mut out, &Event { delete: false, kv, prev: None }, None);
        }
        Bytes::from(out)
    }

    #[test]
    fn fragments_join_to_the_whole_and_stay_below_the_bound() {
        let header = pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 7, raft_term: 3 };
        for (count, value, bytes_max) in
            [(1, 5000, 1000), (10, 100, 10_000), (10, 100, 300), (50, 7, 64), (3, 400, 450)]
        {
            let whole = events(count, value);
            let frames: Vec<_> = Frame::fragments(header, 9, whole.clone(), bytes_max).collect();
            let messages: Vec<_> = frames.iter().map(|frame| frame.clone().into_message()).collect();
            assert_eq!(frames.iter().flat_map(|frame| frame.events.concat()).collect::<Vec<u8>>(), whole);
            for (place, (frame, message)) in frames.iter().zip(&messages).enumerate() {
                assert_eq!(message.fragment, place + 1 < frames.len());
                assert_eq!((message.watch_id, message.header), (9, Some(header)));
                assert!(message.events.len() == 1 || frame.len() < bytes_max, "{} of {bytes_max}", frame.len());
            }
            if count * value < bytes_max {
                assert_eq!(frames.len(), 1);
            }
        }
    }
}
