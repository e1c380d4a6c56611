//! What a caller brings to prove who it is.

use std::sync::Arc;

use eyrie_state::AuthRevision;
use http::HeaderMap;

/// For whom a store handle speaks.
#[derive(Debug, Clone)]
pub(crate) enum Speaker {
    /// The store itself. Never for anything that a client asked for.
    Itself,
    /// Whoever has these credentials.
    Client(Arc<Credentials>),
}

/// Read once when a request comes in; what they are worth is asked anew at each step, since users change meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Credentials {
    /// None were brought.
    #[default]
    None,
    /// A token that can't be good.
    Bad,
    /// A simple token, known by its fingerprint.
    Simple([u8; 32]),
    /// Claims whose signature was verified.
    Claims {
        user: Arc<str>,
        revision: AuthRevision,
        /// Seconds since 1970.
        expires_secs: u64,
    },
    /// The name in the certificate of a verified TLS client.
    Certificate(Arc<str>),
}

/// The token of a request: `token` from gRPC clients, `authorization` through the gateway, with or without `Bearer`.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get("token").or_else(|| headers.get(http::header::AUTHORIZATION))?;
    // Something that is no text was brought, and is no token.
    let text = given.to_str().unwrap_or("?");
    Some(text.strip_prefix("Bearer ").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn a_token_is_found_where_clients_put_it() {
        assert_eq!(token(&headers(&[])), None);
        assert_eq!(token(&headers(&[("token", "a.1")])), Some("a.1"));
        assert_eq!(token(&headers(&[("authorization", "a.1")])), Some("a.1"));
        assert_eq!(token(&headers(&[("authorization", "Bearer a.1")])), Some("a.1"));
        assert_eq!(token(&headers(&[("authorization", "b.2"), ("token", "a.1")])), Some("a.1"));
    }
}
