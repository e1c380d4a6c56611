//! What one value must look like, kind by kind, with Go's words for what is wrong.

use std::time::Duration;

use eyrie_server::config::{Address, Url};

use super::flags::Kind;

/// Checks a value of a kind.
///
/// # Errors
/// What etcd says after `invalid value "..." for flag -name: `.
pub(crate) fn check(kind: Kind, text: &str) -> Result<(), String> {
    let parse_error = || "parse error".to_string();
    match kind {
        Kind::Bool => boolean(text).map(|_| ()).ok_or_else(parse_error),
        Kind::Int => text.parse::<i64>().map(|_| ()).map_err(|_| parse_error()),
        Kind::Uint => text.parse::<u64>().map(|_| ()).map_err(|_| parse_error()),
        // An empty duration is the default of a few flags.
        Kind::Duration if text.is_empty() => Ok(()),
        Kind::Duration => duration(text).map(|_| ()).map_err(|_| parse_error()),
        Kind::Text | Kind::List => Ok(()),
        Kind::Urls => urls(text).map(|_| ()),
        Kind::OneOf(names) if names.contains(&text) => Ok(()),
        Kind::OneOf(_) => Err("invalid value".into()),
    }
}

/// The words that Go takes for a boolean.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `0`.
///
/// # Errors
/// Go's words. Negative durations have no meaning for any flag and are refused.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        rest = &rest[letters..];
        nanos += number * unit;
    }
    // Go's durations end at 292 years.
    if nanos > i64::MAX as f64 { Err(invalid()) } else { Ok(Duration::from_nanos(nanos as u64)) }
}

/// A list of URLs, in order of text as etcd keeps them.
///
/// # Errors
/// etcd's words.
pub(crate) fn urls(text: &str) -> Result<Vec<(String, Url)>, String> {
    let mut urls = Vec::new();
    for text in text.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        urls.push((text.to_string(), url(text)?));
    }
    urls.sort_by(|a, b| a.0.cmp(&b.0));
    urls.dedup_by(|a, b| a.0 == b.0);
    Ok(urls)
}

fn url(text: &str) -> Result<Url, String> {
    let scheme_error = || format!("URL scheme must be http, https, unix, or unixs: {text}");
    let (scheme, rest) = text.split_once("://").ok_or_else(scheme_error)?;
    let tls = match scheme {
        "http" | "unix" => false,
        "https" | "unixs" => true,
        _ => return Err(scheme_error()),
    };
    if scheme.starts_with("unix") {
        return Ok(Url { tls, address: Address::Unix(rest.into()) });
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = host_port(authority).ok_or_else(|| match authority.rsplit_once(':') {
        Some((_, port)) if authority.matches(':').count() > 1 && !authority.starts_with('[') => {
            format!("parse {text:?}: invalid port {:?} after host", format!(":{port}"))
        }
        _ => format!("URL address does not have the form \"host:port\": {text}"),
    })?;
    if !path.is_empty() {
        return Err(format!("URL must not contain a path: {text}"));
    }
    Ok(Url { tls, address: Address::Tcp(host.to_string(), port) })
}

fn host_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':')?)
        }
        None => authority.split_once(':')?,
    };
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [("0", 0), ("100ms", 100), ("1.5s", 1500), ("1h30m", 5_400_000), ("2h0m0s", 7_200_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("5x").unwrap_err(), "time: unknown unit \"x\" in duration \"5x\"");
        assert_eq!(duration("5").unwrap_err(), "time: missing unit in duration \"5\"");
        for wrong in ["", "s", "-1s", "1.2.3s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls_are_judged_as_by_etcd() {
        let refused = |text: &str| urls(text).unwrap_err();
        assert_eq!(refused("foo"), "URL scheme must be http, https, unix, or unixs: foo");
        assert_eq!(refused("ftp://a:1"), "URL scheme must be http, https, unix, or unixs: ftp://a:1");
        assert_eq!(refused("http://a"), "URL address does not have the form \"host:port\": http://a");
        assert_eq!(refused("http://a:b:c"), "parse \"http://a:b:c\": invalid port \":c\" after host");
        assert_eq!(refused("http://a:1/x"), "URL must not contain a path: http://a:1/x");
        let found = urls("http://b:2, http://a:1,http://b:2,unix:///tmp/s,https://[::1]:3").unwrap();
        let texts: Vec<_> = found.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["http://a:1", "http://b:2", "https://[::1]:3", "unix:///tmp/s"]);
        assert_eq!(found[2].1, Url { tls: true, address: Address::Tcp("::1".into(), 3) });
        assert_eq!(found[3].1, Url { tls: false, address: Address::Unix("/tmp/s".into()) });
    }
}
