//! The few etcd messages the load generator speaks, written and read by hand: a put costs two copies and no allocation.

/// `/etcdserverpb.KV/Put`.
pub(crate) const PUT: &str = "/etcdserverpb.KV/Put";
/// `/etcdserverpb.KV/Range`.
pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
/// `/etcdserverpb.Watch/Watch`.
pub(crate) const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A `PutRequest`.
pub(crate) fn put(message: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    field_bytes(message, 1, key);
    field_bytes(message, 2, value);
}

/// A `RangeRequest` of one key.
pub(crate) fn range(message: &mut Vec<u8>, key: &[u8], serializable: bool) {
    field_bytes(message, 1, key);
    if serializable {
        field_number(message, 7, 1);
    }
}

/// A `WatchRequest` that creates a watch on all keys with this prefix.
pub(crate) fn watch_create(message: &mut Vec<u8>, prefix: &[u8]) {
    let mut end = prefix.to_vec();
    *end.last_mut().expect("a prefix of at least one byte") += 1;
    let mut create = Vec::new();
    field_bytes(&mut create, 1, prefix);
    field_bytes(&mut create, 2, &end);
    field_bytes(message, 1, &create);
}

/// What a `WatchResponse` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Watched {
    /// Which watch.
    pub(crate) watch: i64,
    /// It was created.
    pub(crate) created: bool,
    /// It was ended by the server.
    pub(crate) canceled: bool,
    /// How many events the response carries.
    pub(crate) events: u64,
}

/// Reads a `WatchResponse`; `None` when it is not one.
pub(crate) fn watched(message: &[u8]) -> Option<Watched> {
    let mut watched = Watched::default();
    fields(message, |number, value| match (number, value) {
        (2, Value::Number(watch)) => watched.watch = watch as i64,
        (3, Value::Number(created)) => watched.created = created != 0,
        (4, Value::Number(canceled)) => watched.canceled = canceled != 0,
        (11, Value::Bytes(_)) => watched.events += 1,
        _ => {}
    })?;
    Some(watched)
}

/// The pairs of a `RangeResponse`, each a `KeyValue`; `None` when it is not one.
pub(crate) fn ranged(message: &[u8]) -> Option<Vec<&[u8]>> {
    let mut pairs = Vec::new();
    fields(message, |number, value| {
        if let (2, Value::Bytes(pair)) = (number, value) {
            pairs.push(pair);
        }
    })?;
    Some(pairs)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Visits the top-level fields of a message.
fn fields<'a>(mut message: &'a [u8], mut on: impl FnMut(u64, Value<'a>)) -> Option<()> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => on(tag >> 3, Value::Number(varint(&mut message)?)),
            2 => {
                let len = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(len)?;
                message = rest;
                on(tag >> 3, Value::Bytes(bytes));
            }
            _ => return None,
        }
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn field_bytes(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn field_number(message: &mut Vec<u8>, number: u8, value: u64) {
    message.push(number << 3);
    put_varint(message, value);
}

fn put_varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_the_known_bytes() {
        let mut message = Vec::new();
        put(&mut message, b"k", &[7; 200]);
        assert_eq!(&message[..6], [0x0a, 1, b'k', 0x12, 0xc8, 1]);
        assert_eq!(message.len(), 206);
    }

    #[test]
    fn a_watch_covers_its_prefix() {
        let mut message = Vec::new();
        watch_create(&mut message, b"w/");
        assert_eq!(message, [0x0a, 8, 0x0a, 2, b'w', b'/', 0x12, 2, b'w', b'0']);
    }

    #[test]
    fn a_watch_response_is_counted_and_damage_is_seen() {
        let mut message = Vec::new();
        field_bytes(&mut message, 1, b"header");
        field_number(&mut message, 2, 41);
        field_bytes(&mut message, 11, b"one");
        field_bytes(&mut message, 11, b"two");
        assert_eq!(watched(&message), Some(Watched { watch: 41, events: 2, ..Watched::default() }));
        assert_eq!(watched(&message[..message.len() - 1]), None);
    }
}
