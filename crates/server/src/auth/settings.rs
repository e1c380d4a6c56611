//! How users prove who they are, as configured.

use std::path::PathBuf;
use std::time::Duration;

/// What of the configuration is about users.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// How tokens are made.
    pub token: TokenKind,
    /// How long a simple token lives after its last use.
    pub simple_token_ttl: Duration,
    /// The cost of a bcrypt hash: 4 to 31; etcd's default 10 takes about 50 ms.
    pub bcrypt_cost: u32,
    /// The name in a client's certificate is a user's name.
    pub certificate_names: bool,
}

impl Default for AuthSettings {
    fn default() -> Self {
        let ttl = Duration::from_secs(300);
        Self { token: TokenKind::Simple, simple_token_ttl: ttl, bcrypt_cost: 10, certificate_names: false }
    }
}

/// The kinds of token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKind {
    /// Random text that every member remembers.
    Simple,
    /// Signed claims.
    Jwt(JwtSettings),
}

/// How claims are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtSettings {
    /// `RS256`, `ES384`, `EdDSA`, ...
    pub method: String,
    /// PEM file; taken from the private key when absent.
    pub public_key: Option<PathBuf>,
    /// PEM file (for `HS...`: the secret itself). Without it tokens are only verified.
    pub private_key: Option<PathBuf>,
    /// How long a token is good.
    pub ttl: Duration,
}
