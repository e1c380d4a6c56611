//! Changes one field of a protobuf value and leaves every other byte as it is.
//!
//! Milvus adds fields with each release; a value that is decoded and encoded again would lose those that are not known
//! here. So a change follows a path of field numbers through the bytes and replaces what it finds at the end.

use thiserror::Error;

use crate::limits::WIRE_DEPTH_MAX;

/// Bytes that are no protobuf message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("no protobuf message: {0}")]
pub(crate) struct BadWire(&'static str);

/// One field of a message: its number, what it holds, and all its bytes with the tag.
struct Field<'m> {
    number: u32,
    content: Content<'m>,
    whole: &'m [u8],
}

enum Content<'m> {
    Number,
    Bytes(&'m [u8]),
    Fixed,
}

/// Replaces the bytes (text, bytes or messages) at a path of field numbers by what `edit` makes of them; it says none
/// for those that stay. None: nothing was changed.
pub(crate) fn edit_bytes(
    message: &[u8],
    path: &[u32],
    edit: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, BadWire> {
    let Some((number, below)) = path.split_first() else { return Ok(None) };
    if path.len() > WIRE_DEPTH_MAX {
        return Err(BadWire("too deep"));
    }
    let (mut out, mut changed) = (Vec::with_capacity(message.len()), false);
    for field in fields(message) {
        let field = field?;
        let new = match field.content {
            Content::Bytes(bytes) if field.number == *number && below.is_empty() => edit(bytes),
            Content::Bytes(bytes) if field.number == *number => edit_bytes(bytes, below, edit)?,
            _ => None,
        };
        match new {
            Some(new) => {
                put_bytes(&mut out, *number, &new);
                changed = true;
            }
            None => out.extend_from_slice(field.whole),
        }
    }
    Ok(changed.then_some(out))
}

/// Sets a number of the message itself, whether it was there or not.
pub(crate) fn set_number(message: &[u8], number: u32, value: u64) -> Result<Vec<u8>, BadWire> {
    let mut out = Vec::with_capacity(message.len() + 4);
    for field in fields(message) {
        let field = field?;
        if field.number != number || !matches!(field.content, Content::Number) {
            out.extend_from_slice(field.whole);
        }
    }
    put_varint(&mut out, u64::from(number) << 3);
    put_varint(&mut out, value);
    Ok(out)
}

fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, BadWire>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = field(&mut rest);
        if read.is_err() {
            rest = &[];
        }
        Some(read)
    })
}

fn field<'m>(rest: &mut &'m [u8]) -> Result<Field<'m>, BadWire> {
    let start = *rest;
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).map_err(|_| BadWire("field number"))?;
    let content = match tag & 7 {
        0 => {
            varint(rest)?;
            Content::Number
        }
        1 => {
            take(rest, 8)?;
            Content::Fixed
        }
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| BadWire("length"))?;
            Content::Bytes(take(rest, length)?)
        }
        5 => {
            take(rest, 4)?;
            Content::Fixed
        }
        _ => return Err(BadWire("wire type")),
    };
    let whole = &start[..start.len() - rest.len()];
    Ok(Field { number, content, whole })
}

fn take<'m>(rest: &mut &'m [u8], length: usize) -> Result<&'m [u8], BadWire> {
    let (taken, after) = rest.split_at_checked(length).ok_or(BadWire("cut off"))?;
    *rest = after;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, BadWire> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(BadWire("number too long"))
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto;

    #[test]
    fn a_change_leaves_unknown_fields_where_they_are() {
        let position = proto::MsgPosition { channel_name: "ch".into(), msg_id: vec![1; 8], ..Default::default() };
        let mut value =
            proto::SegmentInfo { id: 7, state: 4, dml_position: Some(position), ..Default::default() }.encode_to_vec();
        // A field of a Milvus to come: number 100, text.
        put_bytes(&mut value, 100, b"of tomorrow");
        let reset = edit_bytes(&value, &[10, 2], &mut |_| Some(vec![0; 8])).unwrap().unwrap();
        let dropped = set_number(&reset, 6, 6).unwrap();
        let read = proto::SegmentInfo::decode(&*dropped).unwrap();
        assert_eq!((read.id, read.state, read.dml_position.unwrap().msg_id), (7, 6, vec![0; 8]));
        assert!(dropped.windows(11).any(|w| w == b"of tomorrow"), "the unknown field is gone");
        assert_eq!(edit_bytes(&value, &[9, 2], &mut |_| Some(vec![])).unwrap(), None, "there is no start position");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), path in proptest::collection::vec(0u32..16, 0..10)) {
            let _ = edit_bytes(&bytes, &path, &mut |b| Some(b.iter().rev().copied().collect()));
            if let Ok(set) = set_number(&bytes, 6, 6) {
                proptest::prop_assert!(fields(&set).all(|f| f.is_ok()));
            }
        }

        #[test]
        fn an_edit_that_changes_nothing_gives_the_same_bytes(id in proptest::num::i64::ANY, rows in proptest::num::i64::ANY, channel in "[a-z0-9_]{0,40}") {
            let position = proto::MsgPosition { channel_name: channel.clone(), msg_id: vec![9; 8], timestamp: 1, ..Default::default() };
            let value = proto::SegmentInfo { id, num_of_rows: rows, insert_channel: channel, start_position: Some(position), ..Default::default() }.encode_to_vec();
            let same = edit_bytes(&value, &[9, 2], &mut |b| Some(b.to_vec())).unwrap().unwrap();
            proptest::prop_assert_eq!(same, value);
        }
    }
}
