//! JSON to protobuf bytes, with etcd's leniency (both cases of names, numbers as text, `null` for absent, unknown fields
//! ignored) and etcd's strictness (standard base64 only), and its refusals word for word.
//!
//! Knows shapes only, never what a request means.

use prost::bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::json::{self, Json};
use super::schema::{Field, Kind, Schema};

/// The bytes of the message `shape` that `value` describes.
///
/// # Errors
/// The text that etcd answers for the first field, in the order of the definition, whose value does not fit.
pub(super) fn message(schema: &Schema, shape: usize, value: &Json<'_>) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let fields = match value {
        Json::Null => return Ok(out),
        Json::Object(fields) => fields,
        other => return Err(mismatch(other, "map[string]json.RawMessage")),
    };
    for field in &schema.messages[shape].fields {
        let named = |name: &str| fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value);
        let Some(value) = named(&field.json_name).or_else(|| named(&field.name)) else { continue };
        match value {
            Json::Null => {}
            value if field.repeated => list(schema, field, value, &mut out)?,
            value => single(schema, field, value, field.alternative, &mut out)?,
        }
    }
    Ok(out)
}

fn list(schema: &Schema, field: &Field, value: &Json<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let Json::Array(items) = value else { return Err(mismatch(value, "[]json.RawMessage")) };
    // A zero is an item too, so each is written; a decoder takes the unpacked form of numbers as well.
    items.iter().try_for_each(|item| single(schema, field, item, true, out))
}

/// Writes one value; a zero only when `always`.
fn single(schema: &Schema, field: &Field, value: &Json<'_>, always: bool, out: &mut Vec<u8>) -> Result<(), String> {
    let varint = match field.kind {
        Kind::Bool => match value {
            Json::Bool(flag) => u64::from(*flag),
            Json::Null => 0,
            other => return Err(mismatch(other, "bool")),
        },
        Kind::Int32 => integer(value, "int32", i64::from(i32::MIN), i64::from(i32::MAX))? as u64,
        Kind::Int64 => integer(value, "int64", i64::MIN, i64::MAX)? as u64,
        Kind::Uint32 => unsigned(value, "uint32", u64::from(u32::MAX))?,
        Kind::Uint64 => unsigned(value, "uint64", u64::MAX)?,
        Kind::Enum(id) => match value {
            Json::String(_, raw) => {
                let names = &schema.enums[id];
                let found = names.values.iter().find(|(name, _)| name == raw);
                let unknown = || format!("unknown value \"\\\"{}\\\"\" for enum {}", quote_inner(raw), names.full_name);
                found.map(|(_, number)| i64::from(*number) as u64).ok_or_else(unknown)?
            }
            other => integer(other, "protoreflect.EnumNumber", i64::from(i32::MIN), i64::from(i32::MAX))? as u64,
        },
        Kind::String => {
            return match value {
                Json::String(text, _) => delimited(field, text.as_bytes(), always, out),
                Json::Null => delimited(field, b"", always, out),
                other => Err(mismatch(other, "string")),
            };
        }
        Kind::Bytes => {
            return match value {
                Json::String(text, _) => {
                    let bytes =
                        base64(text.as_bytes()).map_err(|at| format!("illegal base64 data at input byte {at}"))?;
                    delimited(field, &bytes, always, out)
                }
                Json::Null => delimited(field, b"", always, out),
                Json::Array(items) => {
                    let byte = |item: &Json<'_>| small(item).map(|byte| byte as u8);
                    let bytes = items.iter().map(byte).collect::<Result<Vec<_>, _>>()?;
                    delimited(field, &bytes, always, out)
                }
                other => Err(mismatch(other, "[]uint8")),
            };
        }
        Kind::Message(shape) => {
            let inner = message(schema, shape, value)?;
            return delimited(field, &inner, true, out);
        }
    };
    if varint != 0 || always {
        encode_key(field.number, WireType::Varint, out);
        encode_varint(varint, out);
    }
    Ok(())
}

fn delimited(field: &Field, bytes: &[u8], always: bool, out: &mut Vec<u8>) -> Result<(), String> {
    if always || !bytes.is_empty() {
        encode_key(field.number, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.put_slice(bytes);
    }
    Ok(())
}

fn integer(value: &Json<'_>, go_type: &str, min: i64, max: i64) -> Result<i64, String> {
    number(value, go_type, 0, |digits| digits.parse().ok().filter(|n| (min..=max).contains(n)))
}

fn unsigned(value: &Json<'_>, go_type: &str, max: u64) -> Result<u64, String> {
    number(value, go_type, 0, |digits| digits.parse().ok().filter(|n| *n <= max))
}

/// An item of bytes that were written as a list of numbers; quotes are not taken off there.
fn small(item: &Json<'_>) -> Result<u64, String> {
    match item {
        Json::String(..) => Err(mismatch(item, "uint8")),
        plain => unsigned(plain, "uint8", u64::from(u8::MAX)),
    }
}

/// A number written as such or inside quotes.
fn number<N>(value: &Json<'_>, go_type: &str, zero: N, parse: impl Fn(&str) -> Option<N>) -> Result<N, String> {
    let inner;
    let value = match value {
        Json::String(_, raw) => {
            inner = json::whole(raw)?;
            &inner
        }
        plain => plain,
    };
    match value {
        Json::Null => Ok(zero),
        Json::Number(digits) => parse(digits)
            .ok_or_else(|| format!("json: cannot unmarshal number {digits} into Go value of type {go_type}")),
        other => Err(mismatch(other, go_type)),
    }
}

fn mismatch(value: &Json<'_>, go_type: &str) -> String {
    let kind = match value {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(..) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    format!("json: cannot unmarshal {kind} into Go value of type {go_type}")
}

fn quote_inner(raw: &str) -> String {
    raw.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Standard base64 with padding, as Go reads it (line ends inside are skipped); the error is the byte that Go names.
fn base64(text: &[u8]) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut at = 0;
    loop {
        let mut group = [0u8; 4];
        let mut filled = 0;
        while filled < 4 {
            let Some(byte) = text.get(at) else {
                return if filled == 0 { Ok(out) } else { Err(at - filled) };
            };
            at += 1;
            match byte {
                b'A'..=b'Z' => group[filled] = byte - b'A',
                b'a'..=b'z' => group[filled] = byte - b'a' + 26,
                b'0'..=b'9' => group[filled] = byte - b'0' + 52,
                b'+' => group[filled] = 62,
                b'/' => group[filled] = 63,
                b'\n' | b'\r' => continue,
                b'=' if filled >= 2 => return padding(text, at, &group, filled, out),
                _ => return Err(at - 1),
            }
            filled += 1;
        }
        let word = u32::from_be_bytes([
            0,
            group[0] << 2 | group[1] >> 4,
            group[1] << 4 | group[2] >> 2,
            group[2] << 6 | group[3],
        ]);
        out.extend_from_slice(&word.to_be_bytes()[1..]);
    }
}

/// The end of the text after its first `=`: a second one if only two letters came before, then nothing.
fn padding(text: &[u8], mut at: usize, group: &[u8; 4], filled: usize, mut out: Vec<u8>) -> Result<Vec<u8>, usize> {
    let skip = |mut at: usize| {
        while text.get(at).is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            at += 1;
        }
        at
    };
    if filled == 2 {
        at = skip(at);
        match text.get(at) {
            None => return Err(text.len()),
            Some(b'=') => at += 1,
            Some(_) => return Err(at - 1),
        }
    }
    at = skip(at);
    if at < text.len() {
        return Err(at);
    }
    out.push(group[0] << 2 | group[1] >> 4);
    if filled == 3 {
        out.push(group[1] << 4 | group[2] >> 2);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use eyrie_api::{mvccpb, pb};
    use prost::Message as _;

    use super::super::schema::SCHEMA;
    use super::*;

    fn encode(path: &str, text: &str) -> Result<Vec<u8>, String> {
        let (value, _) = json::first(text.as_bytes()).unwrap().unwrap();
        message(&SCHEMA, SCHEMA.method(path).unwrap().input, &value)
    }

    #[test]
    fn a_transaction_arrives_whole() {
        let text = r#"{"compare":[{"key":"Zm9v","result":"EQUAL","target":"VERSION","version":"0"}],
            "success":[{"requestPut":{"key":"Zm9v","value":"MQ==","prevKv":true}},{"request_txn":{}}],"failure":null,"new":[1]}"#;
        let bytes = encode("/etcdserverpb.KV/Txn", text).unwrap();
        let txn = pb::TxnRequest::decode(&bytes[..]).unwrap();
        assert_eq!(txn.compare[0].target_union, Some(pb::compare::TargetUnion::Version(0)));
        assert_eq!(&txn.compare[0].key[..], b"foo");
        let Some(pb::request_op::Request::RequestPut(put)) = &txn.success[0].request else { panic!() };
        assert!(put.prev_kv && put.value == "1");
        assert_eq!(txn.success[1].request, Some(pb::request_op::Request::RequestTxn(pb::TxnRequest::default())));
        assert!(txn.failure.is_empty());
    }

    #[test]
    fn repeated_enums_and_negative_numbers_survive() {
        let text = r#"{"create_request":{"key":"Zm9v","filters":["NOPUT",1],"start_revision":-1}}"#;
        let bytes = encode("/etcdserverpb.Watch/Watch", text).unwrap();
        let request = pb::WatchRequest::decode(&bytes[..]).unwrap();
        let Some(pb::watch_request::RequestUnion::CreateRequest(create)) = request.request_union else { panic!() };
        assert_eq!((create.filters, create.start_revision), (vec![0, 1], -1));
    }

    #[test]
    fn refusals_are_etcds() {
        let refused = |text: &str| encode("/etcdserverpb.KV/Range", text).unwrap_err();
        assert_eq!(refused(r#"{"key":5}"#), "json: cannot unmarshal number into Go value of type []uint8");
        assert_eq!(refused(r#"{"limit":1.5}"#), "json: cannot unmarshal number 1.5 into Go value of type int64");
        assert_eq!(refused(r#"{"limit":"abc"}"#), "invalid character 'a' looking for beginning of value");
        assert_eq!(refused(r#"{"limit":""}"#), "unexpected end of JSON input");
        assert_eq!(refused("[]"), "json: cannot unmarshal array into Go value of type map[string]json.RawMessage");
        assert_eq!(
            refused(r#"{"sort_order":"FOO"}"#),
            "unknown value \"\\\"FOO\\\"\" for enum etcdserverpb.RangeRequest.SortOrder"
        );
    }

    #[test]
    fn base64_is_as_strict_as_gos() {
        assert_eq!(base64(b""), Ok(vec![]));
        assert_eq!(base64(b"Zm9v"), Ok(b"foo".to_vec()));
        assert_eq!(base64(b"Zm\n8=\r\n"), Ok(b"fo".to_vec()));
        assert_eq!(base64(b"Zg=="), Ok(b"f".to_vec()));
        assert_eq!(base64(b"+/8="), Ok(vec![0xfb, 0xff]));
        for (text, at) in
            [("Zm9", 0), ("Zm_-", 2), ("Zm9v==", 4), ("Zg=", 3), ("Zg=x", 2), ("Zg==x", 4), ("=", 0), ("Zm9vZ", 4)]
        {
            assert_eq!(base64(text.as_bytes()), Err(at), "{text}");
        }
    }

    #[test]
    fn keys_and_values_come_through_unchanged() {
        let bytes = encode("/etcdserverpb.KV/Put", r#"{"key":"AAEC","value":"/w==","lease":"7587890"}"#).unwrap();
        let put = pb::PutRequest::decode(&bytes[..]).unwrap();
        assert_eq!((&put.key[..], &put.value[..], put.lease), (&[0u8, 1, 2][..], &[255u8][..], 7_587_890));
        let _ = mvccpb::KeyValue::default();
    }
}
