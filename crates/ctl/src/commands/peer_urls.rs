//! Peer URLs as `member add` and `member update` take them.

use crate::go::quote::quote;

/// Checks peer URLs as etcd's client does before it sends them.
///
/// # Errors
/// etcd's text for the first bad URL.
pub(crate) fn check_urls(urls: &[String]) -> Result<(), String> {
    for url in urls {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        if scheme.is_empty() && rest.split('/').next().unwrap_or_default().contains(':') {
            return Err(format!("parse {}: first path segment in URL cannot contain colon", quote(url.as_bytes())));
        }
        if !["http", "https", "unix", "unixs"].contains(&scheme) {
            return Err(format!("URL scheme must be http, https, unix, or unixs: {url}"));
        }
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let has_port = host.rsplit_once(':').is_some_and(|(name, _)| !name.contains(':') || name.ends_with(']'));
        if scheme.starts_with("http") && !has_port {
            return Err(format!("URL address does not have the form \"host:port\": {url}"));
        }
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {url}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_checked_before_they_are_sent() {
        let check = |url: &str| check_urls(&[url.to_owned()]);
        assert_eq!(check("http://127.0.0.1:2380"), Ok(()));
        assert_eq!(check("https://[::1]:2380"), Ok(()));
        assert_eq!(check("bad"), Err("URL scheme must be http, https, unix, or unixs: bad".into()));
        assert_eq!(check("http://host"), Err("URL address does not have the form \"host:port\": http://host".into()));
        assert_eq!(check("http://host:1/x"), Err("URL must not contain a path: http://host:1/x".into()));
    }
}
