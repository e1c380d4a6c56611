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

    /// What is dialled: a socket's path, host and port of an `http` or `https` URL, or the address as it was typed.
    pub(crate) fn dialled(&self) -> &str {
        if let Some(path) = self.socket_path() {
            return path;
        }
        match self.typed.split_once("://") {
            Some((_, rest)) if self.is_plain() || self.is_secure() => {
                let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                host.rsplit('@').next().unwrap_or_default()
            }
            _ => &self.typed,
        }
    }

    /// As log lines name a server: without its scheme.
    pub(crate) fn shown(&self) -> &str {
        match self.typed.split_once("://") {
            Some((_, rest)) => rest,
            None => self.socket_path().unwrap_or(&self.typed),
        }
    }

    /// The host and the port to dial.
    ///
    /// # Errors
    /// Go's words for an address that has none.
    pub(crate) fn host_port(&self) -> Result<(&str, u16), String> {
        let address = self.dialled();
        let bad = |why: &str| format!("address {address}: {why}");
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                None => return Err(bad("missing ']' in address")),
                Some((host, rest)) => (host, rest.strip_prefix(':').ok_or_else(|| bad("missing port in address"))?),
            },
            None => address.rsplit_once(':').ok_or_else(|| bad("missing port in address"))?,
        };
        if port.contains(':') || (!address.starts_with('[') && host.contains(':')) {
            return Err(bad("too many colons in address"));
        }
        if port.is_empty() {
            return Ok((host, 0));
        }
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("address tcp/{port}: unknown port"));
        }
        port.parse().map(|port| (host, port)).map_err(|_| format!("address {port}: invalid port"))
    }

    /// Whether the scheme asks for encryption (`https`, `unixs`).
    pub(crate) fn is_secure(&self) -> bool {
        self.scheme_is("https") || self.typed.starts_with("unixs:")
    }

    /// Whether the scheme forbids encryption.
    pub(crate) fn is_plain(&self) -> bool {
        self.scheme_is("http")
    }

    /// Whether it is a unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        self.socket_path().is_some()
    }

    fn socket_path(&self) -> Option<&str> {
        let rest = self.typed.strip_prefix("unix:").or_else(|| self.typed.strip_prefix("unixs:"))?;
        Some(rest.strip_prefix("//").unwrap_or(rest))
    }

    fn scheme_is(&self, wanted: &str) -> bool {
        self.typed.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(wanted))
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
    fn what_is_dialled() {
        let dialled = |typed: &str| Address::new(typed).dialled().to_owned();
        assert_eq!(dialled("127.0.0.1:2379"), "127.0.0.1:2379");
        assert_eq!(dialled("https://host:1/path"), "host:1");
        assert_eq!(dialled("HTTP://host:1"), "host:1");
        assert_eq!(dialled("unix:///tmp/x.sock"), "/tmp/x.sock");
        assert_eq!(dialled("unixs://x.sock"), "x.sock");
        assert_eq!(dialled("unix:x.sock"), "x.sock");
        assert_eq!(dialled("ftp://host:1"), "ftp://host:1");
    }

    #[test]
    fn an_address_that_names_no_server_is_refused_in_the_words_of_go() {
        let host_port = |typed: &str| {
            Address::new(typed).host_port().map(|(host, port)| format!("{host} {port}")).unwrap_or_else(|text| text)
        };
        assert_eq!(host_port("http://host:1/x"), "host 1");
        assert_eq!(host_port("[::1]:2379"), "::1 2379");
        assert_eq!(host_port("host"), "address host: missing port in address");
        assert_eq!(host_port("[::1]"), "address [::1]: missing port in address");
        assert_eq!(host_port("::1:2379"), "address ::1:2379: too many colons in address");
        assert_eq!(host_port("ftp://host:1"), "address ftp://host:1: too many colons in address");
        assert_eq!(host_port("ftp://host"), "address tcp///host: unknown port");
        assert_eq!(host_port("host:1/x"), "address tcp/1/x: unknown port");
        assert_eq!(host_port("host:65536"), "address 65536: invalid port");
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
