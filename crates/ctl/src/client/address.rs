//! Endpoint addresses as they are typed: with or without a scheme, or a unix socket.

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    typed: String,
}

impl Address {
    /// Takes the address as it was typed; what does not name a server fails when it is dialled.
    pub(crate) fn new(typed: impl Into<String>) -> Address {
        Address { typed: typed.into() }
    }

    /// As it was typed.
    pub(crate) fn typed(&self) -> &str {
        &self.typed
    }

    /// Host and port (or socket path) without the scheme.
    pub(crate) fn authority(&self) -> String {
        let rest = self.typed.split_once("://").map_or(self.typed.as_str(), |(_, rest)| rest);
        if self.is_unix() { rest.to_owned() } else { rest.split('/').next().unwrap_or_default().to_owned() }
    }

    /// Whether the scheme asks for encryption (`https`, `unixs`).
    pub(crate) fn is_secure(&self) -> bool {
        self.typed.starts_with("https://") || self.typed.starts_with("unixs://")
    }

    /// Whether the scheme forbids encryption.
    pub(crate) fn is_plain(&self) -> bool {
        self.typed.starts_with("http://") || self.typed.starts_with("unix://")
    }

    /// Whether it is a unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        self.typed.starts_with("unix:") || self.typed.starts_with("unixs:")
    }
}

/// Checks peer URLs as etcd's client does before it sends them.
///
/// # Errors
/// etcd's text for the first bad URL.
pub(crate) fn check_urls(urls: &[String]) -> Result<(), String> {
    for url in urls {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        if scheme.is_empty() && rest.split('/').next().unwrap_or_default().contains(':') {
            return Err(format!(
                "parse {}: first path segment in URL cannot contain colon",
                crate::go::quote::quote(url.as_bytes())
            ));
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
    fn the_authority_is_what_is_dialled() {
        let authority = |typed: &str| Address::new(typed).authority();
        assert_eq!(authority("127.0.0.1:2379"), "127.0.0.1:2379");
        assert_eq!(authority("https://host:1/path"), "host:1");
        assert_eq!(authority("unix:///tmp/x.sock"), "/tmp/x.sock");
    }

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
