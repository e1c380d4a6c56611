//! Requests on keys, made from the arguments of `get`, `put` and `del`; `txn` uses the same words.

use std::io::Read;

use bytes::Bytes;

use eyrie_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use eyrie_api::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use crate::cli::flag::Parsed;
use crate::exit::{self, Failure};
use crate::go::number;
use crate::go::quote::quote;

const CONFLICT: &str = "`--prefix` and `--from-key` cannot be set at the same time, choose one";
const TOO_MANY: &str = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";

/// The end of the range of all keys that begin with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|byte| *byte != 0xff) {
        Some(at) => {
            let mut end = prefix[..=at].to_vec();
            end[at] += 1;
            end.into()
        }
        None => Bytes::from_static(b"\0"),
    }
}

/// Key and end of all keys that begin with `prefix`; the empty prefix is every key.
pub(crate) fn prefix_range(prefix: &[u8]) -> (Bytes, Bytes) {
    if prefix.is_empty() { everything() } else { (Bytes::copy_from_slice(prefix), prefix_end(prefix)) }
}

fn everything() -> (Bytes, Bytes) {
    (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))
}

/// The range that a key, an optional end and the flags `--prefix` and `--from-key` name.
fn range(parsed: &Parsed) -> Result<(Bytes, Bytes), Failure> {
    let key = &parsed.args[0];
    let (prefix, from_key) = (parsed.bool("prefix"), parsed.bool("from-key"));
    if parsed.args.len() > 1 && (prefix || from_key) {
        return Err(Failure::args(TOO_MANY));
    }
    Ok(match parsed.args.get(1) {
        Some(end) => (Bytes::copy_from_slice(key), Bytes::copy_from_slice(end)),
        None if prefix => prefix_range(key),
        None if from_key && key.is_empty() => everything(),
        None if from_key => (Bytes::copy_from_slice(key), Bytes::from_static(b"\0")),
        None => (Bytes::copy_from_slice(key), Bytes::new()),
    })
}

/// The request of `get`.
///
/// # Errors
/// Arguments that contradict each other.
pub(crate) fn get(parsed: &Parsed) -> Result<RangeRequest, Failure> {
    if parsed.args.is_empty() {
        return Err(Failure::args("get command needs one argument as key and an optional argument as range_end"));
    }
    if parsed.bool("prefix") && parsed.bool("from-key") {
        return Err(Failure::args(CONFLICT));
    }
    if parsed.bool("keys-only") && parsed.bool("count-only") {
        return Err(Failure::args("`--keys-only` and `--count-only` cannot be set at the same time, choose one"));
    }
    let serializable = match parsed.text("consistency").as_str() {
        "s" => true,
        "l" => false,
        other => {
            let text = format!("unknown consistency flag {}", quote(other.as_bytes()));
            return Err(Failure::new(exit::BAD_FEATURE, text));
        }
    };
    let (key, range_end) = range(parsed)?;
    let (order, target) = sorting(parsed)?;
    Ok(RangeRequest {
        key,
        range_end,
        limit: parsed.int("limit"),
        revision: parsed.int("rev").max(0),
        sort_order: order as i32,
        sort_target: target as i32,
        serializable,
        keys_only: parsed.bool("keys-only"),
        count_only: parsed.bool("count-only"),
        min_mod_revision: parsed.int("min-mod-rev"),
        max_mod_revision: parsed.int("max-mod-rev"),
        min_create_revision: parsed.int("min-create-rev"),
        max_create_revision: parsed.int("max-create-rev"),
    })
}

fn sorting(parsed: &Parsed) -> Result<(SortOrder, SortTarget), Failure> {
    let order = match parsed.text("order").to_uppercase().as_str() {
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        "" => SortOrder::None,
        _ => return Err(Failure::new(exit::BAD_FEATURE, format!("bad sort order {}", parsed.text("order")))),
    };
    let target = match parsed.text("sort-by").to_uppercase().as_str() {
        "CREATE" => SortTarget::Create,
        "KEY" | "" => SortTarget::Key,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(Failure::new(exit::BAD_FEATURE, format!("bad sort target {}", parsed.text("sort-by")))),
    };
    // Servers return keys in ascending order anyway: not asking lets them stop at the limit.
    let order = if (order, target) == (SortOrder::Ascend, SortTarget::Key) { SortOrder::None } else { order };
    Ok((order, target))
}

/// The request of `put`; a value that is not an argument is read from `stdin`.
///
/// # Errors
/// Missing or contradicting arguments.
pub(crate) fn put(parsed: &Parsed, mut stdin: impl Read) -> Result<PutRequest, Failure> {
    let usage = || Failure::args("put command needs 1 argument and input from stdin or 2 arguments");
    let key = parsed.args.first().ok_or_else(usage)?;
    let ignore_value = parsed.bool("ignore-value");
    if ignore_value && parsed.args.len() > 1 {
        return Err(Failure::args("put command needs only 1 argument when 'ignore-value' is set"));
    }
    let value = match parsed.args.get(1) {
        _ if ignore_value => Vec::new(),
        Some(value) => value.clone(),
        None => {
            let mut value = Vec::new();
            stdin.read_to_end(&mut value).ok().filter(|len| *len > 0).ok_or_else(usage)?;
            value
        }
    };
    let lease = number::parse_int(&parsed.text("lease"), 16)
        .map_err(|why| Failure::args(format!("bad lease ID ({why}), expecting ID in Hex")))?;
    Ok(PutRequest {
        key: Bytes::copy_from_slice(key),
        value: value.into(),
        lease,
        prev_kv: parsed.bool("prev-kv"),
        ignore_value,
        ignore_lease: parsed.bool("ignore-lease"),
    })
}

/// The request of `del`.
///
/// # Errors
/// Missing or contradicting arguments.
pub(crate) fn del(parsed: &Parsed) -> Result<DeleteRangeRequest, Failure> {
    if parsed.args.is_empty() || parsed.args.len() > 2 {
        return Err(Failure::args("del command needs one argument as key and an optional argument as range_end"));
    }
    if parsed.bool("prefix") && parsed.bool("from-key") {
        return Err(Failure::args(CONFLICT));
    }
    let (key, range_end) = range(parsed)?;
    Ok(DeleteRangeRequest { key, range_end, prev_kv: parsed.bool("prev-kv") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(prefix_end(b"foo"), "fop");
        assert_eq!(prefix_end(b"a\xff\xff"), "b");
        assert_eq!(prefix_end(b"\xff\xff"), "\0");
        assert_eq!(prefix_range(b""), (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")));
    }
}
