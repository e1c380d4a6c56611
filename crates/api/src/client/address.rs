//! Endpoint addresses as they are typed: with or without a scheme, or a unix socket.

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    typed: String,
}

impl Address {
    /// Takes the address as it was typed; what does not name a server fails when it is dialled.
    pub fn new(typed: impl Into<String>) -> Address {
        Address { typed: typed.into() }
    }

    /// As it was typed.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// What is dialled: a socket's path, host and port of an `http` or `https` URL, or the address as it was typed.
    pub fn dialled(&self) -> &str {
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
    pub fn shown(&self) -> &str {
        match self.typed.split_once("://") {
            Some((_, rest)) => rest,
            None => self.socket_path().unwrap_or(&self.typed),
        }
    }

    /// The host and the port to dial.
    ///
    /// # Errors
    /// Go's words for an address that has none.
    pub fn host_port(&self) -> Result<(&str, u16), String> {
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
    pub fn is_secure(&self) -> bool {
        self.scheme_is("https") || self.typed.starts_with("unixs:")
    }

    /// Whether the scheme forbids encryption.
    pub fn is_plain(&self) -> bool {
        self.scheme_is("http")
    }

    /// Whether it is a unix socket.
    pub fn is_unix(&self) -> bool {
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
}
