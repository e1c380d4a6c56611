//! Protobuf bytes to JSON, printed as etcd's gateway prints: names as defined, fields in the order of the definition,
//! zeros omitted, 64-bit numbers in quotes, bytes in base64, enums by name.
//!
//! Knows shapes only, never what an answer means.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::json::push_string;
use super::schema::{Field, Kind, Schema};

/// Appends the message `shape` in `bytes` to `out`.
///
/// # Errors
/// The bytes are not such a message: the service and the gateway disagree.
pub(super) fn message(schema: &Schema, shape: usize, bytes: &[u8], out: &mut String) -> Result<(), prost::DecodeError> {
    let fields = &schema.messages[shape].fields;
    let mut values: Vec<Vec<Wire<'_>>> = vec![Vec::new(); fields.len()];
    read(fields, bytes, &mut values)?;
    let mut separator = '{';
    for (field, values) in fields.iter().zip(&values) {
        let Some(last) = values.last() else { continue };
        if !field.repeated && !field.alternative && last.is_zero() && !matches!(field.kind, Kind::Message(_)) {
            continue;
        }
        out.push(separator);
        separator = ',';
        push_string(out, &field.name);
        out.push(':');
        if field.repeated {
            out.push('[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                print(schema, field, *value, out)?;
            }
            out.push(']');
        } else {
            print(schema, field, *last, out)?;
        }
    }
    if separator == '{' {
        out.push('{');
    }
    out.push('}');
    Ok(())
}

#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

impl Wire<'_> {
    fn is_zero(&self) -> bool {
        matches!(self, Wire::Varint(0) | Wire::Bytes([]))
    }
}

/// Sorts the parts of a message by field. What no field claims is skipped.
fn read<'a>(fields: &[Field], mut bytes: &'a [u8], values: &mut [Vec<Wire<'a>>]) -> Result<(), prost::DecodeError> {
    while bytes.has_remaining() {
        let (number, wire) = decode_key(&mut bytes)?;
        let Some(at) = fields.iter().position(|field| field.number == number) else {
            skip_field(wire, number, &mut bytes, DecodeContext::default())?;
            continue;
        };
        match wire {
            WireType::Varint => values[at].push(Wire::Varint(decode_varint(&mut bytes)?)),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut bytes)? as usize;
                let part = bytes.get(..length).ok_or_else(truncated)?;
                bytes.advance(length);
                if is_delimited(fields[at].kind) {
                    values[at].push(Wire::Bytes(part));
                } else {
                    let mut packed = part;
                    while packed.has_remaining() {
                        values[at].push(Wire::Varint(decode_varint(&mut packed)?));
                    }
                }
            }
            other => skip_field(other, number, &mut bytes, DecodeContext::default())?,
        }
    }
    Ok(())
}

fn is_delimited(kind: Kind) -> bool {
    matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_))
}

fn truncated() -> prost::DecodeError {
    // prost offers no constructor of its own errors; decoding nothing where a length is due gives the right one.
    decode_varint(&mut &[][..]).expect_err("no bytes are no number")
}

fn print(schema: &Schema, field: &Field, value: Wire<'_>, out: &mut String) -> Result<(), prost::DecodeError> {
    use std::fmt::Write;
    let (number, bytes) = match value {
        Wire::Varint(number) => (number, &[][..]),
        Wire::Bytes(bytes) => (0, bytes),
    };
    let _ = match field.kind {
        Kind::Bool => write!(out, "{}", number != 0),
        Kind::Int32 => write!(out, "{}", number as i32),
        Kind::Uint32 => write!(out, "{}", number as u32),
        Kind::Int64 => write!(out, "\"{}\"", number as i64),
        Kind::Uint64 => write!(out, "\"{number}\""),
        Kind::String => {
            push_string(out, &String::from_utf8_lossy(bytes));
            Ok(())
        }
        Kind::Bytes => {
            out.push('"');
            STANDARD.encode_string(bytes, out);
            out.push('"');
            Ok(())
        }
        Kind::Enum(id) => match schema.enums[id].values.iter().find(|(_, value)| *value == number as i32) {
            Some((name, _)) => write!(out, "\"{name}\""),
            None => write!(out, "{}", number as i32),
        },
        Kind::Message(shape) => return message(schema, shape, bytes, out),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use eyrie_api::{mvccpb, pb};
    use prost::Message as _;

    use super::super::schema::SCHEMA;

    fn decode(path: &str, message: &impl prost::Message) -> String {
        let mut out = String::new();
        super::message(&SCHEMA, SCHEMA.method(path).unwrap().output, &message.encode_to_vec(), &mut out).unwrap();
        out
    }

    #[test]
    fn an_answer_looks_like_etcds() {
        let header = pb::ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: 3, raft_term: 0 };
        let kv = mvccpb::KeyValue {
            key: "foo".into(),
            create_revision: 2,
            mod_revision: 3,
            version: 1,
            value: "<".into(),
            lease: -1,
        };
        let answer = pb::RangeResponse { header: Some(header), kvs: vec![kv], more: true, count: 5 };
        assert_eq!(
            decode("/etcdserverpb.KV/Range", &answer),
            r#"{"header":{"cluster_id":"18446744073709551615","member_id":"2","revision":"3"},"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"3","version":"1","value":"PA==","lease":"-1"}],"more":true,"count":"5"}"#
        );
        assert_eq!(decode("/etcdserverpb.KV/Range", &pb::RangeResponse::default()), "{}");
    }

    #[test]
    fn alternatives_show_even_when_empty_and_enums_have_names() {
        let op = pb::ResponseOp {
            response: Some(pb::response_op::Response::ResponsePut(pb::PutResponse {
                header: Some(Default::default()),
                prev_kv: None,
            })),
        };
        let answer = pb::TxnResponse { header: None, succeeded: false, responses: vec![op] };
        assert_eq!(decode("/etcdserverpb.KV/Txn", &answer), r#"{"responses":[{"response_put":{"header":{}}}]}"#);
        let alarm = pb::AlarmMember { member_id: 0, alarm: 2 };
        let unknown = pb::AlarmMember { member_id: 1, alarm: 77 };
        let answer = pb::AlarmResponse { header: None, alarms: vec![alarm, unknown] };
        let text = decode("/etcdserverpb.Maintenance/Alarm", &answer);
        assert_eq!(text, r#"{"alarms":[{"alarm":"CORRUPT"},{"memberID":"1","alarm":77}]}"#);
    }

    #[test]
    fn half_a_message_is_refused() {
        let bytes =
            pb::RangeResponse { count: 5, kvs: vec![Default::default(); 2], ..Default::default() }.encode_to_vec();
        let shape = SCHEMA.method("/etcdserverpb.KV/Range").unwrap().output;
        let mut out = String::new();
        assert!(super::message(&SCHEMA, shape, &bytes[..bytes.len() - 1], &mut out).is_err());
        assert!(super::message(&SCHEMA, shape, &[0x0a, 0x7f], &mut String::new()).is_err());
    }
}
