//! The language of `txn`: comparisons and operations, one a line.
//!
//! Pure: lines in, parts of a request out.

use bytes::Bytes;

use eyrie_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use eyrie_api::etcdserverpb::{Compare, RequestOp, request_op::Request};

use super::range;
use crate::cli::flag::{self, Flag, HELP};
use crate::cli::tree;
use crate::exit::{self, Failure};
use crate::go::number;
use crate::go::quote::{quote, scan};

/// Splits a line into words: double quotes with escapes, single quotes without, or no blank inside.
///
/// # Errors
/// A double quoted word with an escape that does not exist.
pub(crate) fn words(line: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let bytes = line.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        match rest[0] {
            b'"' => match closing_quote(rest) {
                Some(len) => {
                    let (word, _) = scan(&rest[..len])
                        .ok_or_else(|| Failure::new(exit::INVALID_INPUT, format!("bad quoted string: {line}")))?;
                    words.push(word);
                    at += len;
                }
                None => at += 1,
            },
            b'\'' => match rest[1..].iter().position(|byte| *byte == b'\'') {
                Some(len) => {
                    words.push(rest[1..=len].to_vec());
                    at += len + 2;
                }
                None => at += 1,
            },
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                let len = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                words.push(rest[..len].to_vec());
                at += len;
            }
        }
    }
    Ok(words)
}

/// How long the double quoted text at the start is, quotes included.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Reads one comparison, such as `mod("key") = "0"`.
///
/// # Errors
/// etcdctl's text, exit 3.
pub(crate) fn comparison(line: &str) -> Result<Compare, Failure> {
    let bad = |text: String| Failure::new(exit::INVALID_INPUT, text);
    let (target, rest) = line.split_once('(').ok_or_else(|| bad(format!("malformed comparison: {line}")))?;
    let parts = scan_parts(rest.as_bytes());
    let Parts { key, operator, value: Some(value) } = parts else {
        return Err(bad(format!(
            "malformed comparison: {line}; got {target}({}) {} {}",
            quote(&parts.key),
            String::from_utf8_lossy(&parts.operator),
            quote(&parts.value.unwrap_or_default())
        )));
    };
    let text = String::from_utf8_lossy(&value).into_owned();
    let number = |base| number::parse_int(&text, base).map_err(|_| bad(format!("invalid txn compare request: {line}")));
    let (target, union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(Bytes::from(value.clone()))),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        _ => return Err(bad(format!("malformed comparison: {line} (unknown target {target})"))),
    };
    let result = match operator.as_slice() {
        b"=" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b">" => CompareResult::Greater,
        b"<" => CompareResult::Less,
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(bad(format!("malformed comparison: {line} (unknown operator {other}; use =, !=, > or <)")));
        }
    };
    Ok(Compare {
        result: result as i32,
        target: target as i32,
        key: key.into(),
        range_end: Bytes::new(),
        target_union: Some(union),
    })
}

/// What could be read of `"key") operator "value"`.
struct Parts {
    key: Vec<u8>,
    operator: Vec<u8>,
    value: Option<Vec<u8>>,
}

fn scan_parts(text: &[u8]) -> Parts {
    let mut parts = Parts { key: Vec::new(), operator: Vec::new(), value: None };
    let text = text.trim_ascii_start();
    let Some((key, len)) = scan(text) else { return parts };
    parts.key = key;
    let Some(text) = text[len..].strip_prefix(b")") else { return parts };
    let text = text.trim_ascii_start();
    let len = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    parts.operator = text[..len].to_vec();
    parts.value = scan(text[len..].trim_ascii_start()).map(|(value, _)| value);
    parts
}

/// Reads one operation: `put`, `get` or `del` with the flags of those commands.
///
/// # Errors
/// etcdctl's text, exit 3 or 128.
pub(crate) fn operation(line: &str) -> Result<RequestOp, Failure> {
    let words = words(line)?;
    let bad = |what: &str| Failure::new(exit::INVALID_INPUT, format!("invalid txn {what}: {line}"));
    if words.len() < 2 {
        return Err(bad("compare request"));
    }
    let name = String::from_utf8_lossy(&words[0]).into_owned();
    let command = ["put", "get", "del"]
        .into_iter()
        .find(|known| known.starts_with(&name))
        .and_then(tree::by_name)
        .ok_or_else(|| bad("request"))?;
    let flags: Vec<&'static Flag> = command.flags.iter().chain([&HELP]).collect();
    let parsed = flag::parse(&flags, &words[1..]).map_err(|_| bad("request"))?;
    let request = match command.name {
        "put" => Request::RequestPut(range::put(&parsed, std::io::empty())?),
        "get" => Request::RequestRange(range::get(&parsed)?),
        _ => Request::RequestDeleteRange(range::del(&parsed)?),
    };
    Ok(RequestOp { request: Some(request) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        comparison(line).unwrap_err().text.unwrap()
    }

    #[test]
    fn words_keep_what_is_quoted_together() {
        let split = |line: &str| -> Vec<String> {
            words(line).unwrap().into_iter().map(|word| String::from_utf8_lossy(&word).into_owned()).collect()
        };
        assert_eq!(split("put key1 \"some value\""), ["put", "key1", "some value"]);
        assert_eq!(split("put 'single q' \"dou\\tble\\\" q\""), ["put", "single q", "dou\tble\" q"]);
        assert_eq!(split("  a   b\tc "), ["a", "b", "c"]);
        assert_eq!(split("a\"b c\"d"), ["a\"b", "c\"d"]);
        assert_eq!(split("put \"unterminated"), ["put", "unterminated"]);
        assert_eq!(split(""), Vec::<String>::new());
        assert!(words("put \"\\q\"").is_err());
    }

    #[test]
    fn comparisons_name_a_target_an_operator_and_a_value() {
        let compare = comparison("mod(\"key 1\") != \"7\"").unwrap();
        assert_eq!(compare.key, "key 1");
        assert_eq!((compare.result(), compare.target()), (CompareResult::NotEqual, CompareTarget::Mod));
        assert_eq!(compare.target_union, Some(TargetUnion::ModRevision(7)));
        let compare = comparison("val( `raw` )");
        assert!(compare.is_err());
        let compare = comparison("value(\"a\")  <   \"x\\ty\"").unwrap();
        assert_eq!(compare.target_union, Some(TargetUnion::Value("x\ty".into())));
        assert_eq!(comparison("lease(\"a\") = \"1f\"").unwrap().target_union, Some(TargetUnion::Lease(31)));
        for short in ["ver", "version", "c", "create", "m", "mod"] {
            assert!(comparison(&format!("{short}(\"a\") > \"1\"")).is_ok(), "{short}");
        }
    }

    #[test]
    fn mistakes_are_worded_as_etcdctl_words_them() {
        assert_eq!(told("foo(\"a\") = \"0\""), "malformed comparison: foo(\"a\") = \"0\" (unknown target foo)");
        assert_eq!(told("mod(a) = \"0\""), "malformed comparison: mod(a) = \"0\"; got mod(\"\")  \"\"");
        assert_eq!(told("mod(\"a\") =\"0\""), "malformed comparison: mod(\"a\") =\"0\"; got mod(\"a\") =\"0\" \"\"");
        assert_eq!(told("mod\"a\" = \"0\""), "malformed comparison: mod\"a\" = \"0\"");
        assert_eq!(told("mod(\"a\") = \"x\""), "invalid txn compare request: mod(\"a\") = \"x\"");
    }

    #[test]
    fn operations_take_the_flags_of_their_commands() {
        let Some(Request::RequestPut(put)) = operation("pu a b --prev-kv --lease 1f").unwrap().request else {
            panic!("not a put")
        };
        assert_eq!((put.key.as_ref(), put.value.as_ref(), put.lease, put.prev_kv), (&b"a"[..], &b"b"[..], 31, true));
        let Some(Request::RequestRange(get)) = operation("get a --prefix --limit 2").unwrap().request else {
            panic!("not a get")
        };
        assert_eq!((get.range_end.as_ref(), get.limit), (&b"b"[..], 2));
        let text = |line: &str| operation(line).unwrap_err().text.unwrap();
        assert_eq!(text("bogus a"), "invalid txn request: bogus a");
        assert_eq!(text("put"), "invalid txn compare request: put");
        assert_eq!(text("get a --bogus"), "invalid txn request: get a --bogus");
    }
}
