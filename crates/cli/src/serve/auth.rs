//! The flags about users: `--auth-token` and its like.

use std::time::Duration;

use eyrie_server::config::{AuthSettings, JwtSettings, TokenKind};

use super::given::Given;
use super::settings::{number, switch};
use super::values;

/// What bcrypt takes.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// How users prove who they are.
///
/// # Errors
/// The sentence for `failed to verify flags`.
pub(super) fn settings(given: &Given) -> Result<AuthSettings, String> {
    let defaults = AuthSettings::default();
    let cost = number(given, "bcrypt-cost", defaults.bcrypt_cost);
    let ttl_secs = number(given, "auth-token-ttl", defaults.simple_token_ttl.as_secs());
    if ttl_secs == 0 {
        return Err("--auth-token-ttl=0 would end every token at once: give seconds, 300 for example".into());
    }
    Ok(AuthSettings {
        token: token(given.get("auth-token").unwrap_or("simple"))?,
        simple_token_ttl: Duration::from_secs(ttl_secs),
        // As upstream: a cost that bcrypt does not take means the default.
        bcrypt_cost: if COSTS.contains(&cost) { cost } else { defaults.bcrypt_cost },
        certificate_names: switch(given, "client-cert-auth", defaults.certificate_names),
    })
}

fn token(text: &str) -> Result<TokenKind, String> {
    let mut words = text.split(',');
    match words.next() {
        Some("" | "simple") => Ok(TokenKind::Simple),
        Some("jwt") => jwt(words).map(TokenKind::Jwt),
        _ => Err(format!("--auth-token={text}: no such kind of token; give simple, or jwt with its options")),
    }
}

fn jwt<'a>(options: impl Iterator<Item = &'a str>) -> Result<JwtSettings, String> {
    let mut jwt =
        JwtSettings { method: String::new(), public_key: None, private_key: None, ttl: Duration::from_secs(300) };
    for option in options {
        let (name, value) = option.split_once('=').ok_or(format!("--auth-token: {option} is not NAME=VALUE"))?;
        match name {
            "sign-method" => jwt.method = value.to_owned(),
            "pub-key" => jwt.public_key = Some(value.into()),
            "priv-key" => jwt.private_key = Some(value.into()),
            "ttl" => {
                jwt.ttl = values::duration(value).map_err(|why| format!("--auth-token: ttl: {why}"))?;
                if jwt.ttl.as_secs() == 0 {
                    return Err(format!("--auth-token: ttl={value} would end every token at once"));
                }
            }
            _ => return Err(format!("--auth-token: jwt has no option {name}: sign-method, priv-key, pub-key, ttl")),
        }
    }
    if jwt.method.is_empty() {
        return Err("--auth-token=jwt: sign-method is missing, RS256 for example".into());
    }
    if jwt.public_key.is_none() && jwt.private_key.is_none() {
        return Err("--auth-token=jwt: give priv-key=FILE, or pub-key=FILE to only verify tokens".into());
    }
    Ok(jwt)
}
