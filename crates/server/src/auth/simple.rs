//! Simple tokens: random letters, remembered by every member in memory, for as long as they are used.
//!
//! A token is `LETTERS.INDEX`; the log carries only the fingerprint of the letters. Whoever has applied the entry at that
//! index knows the token.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::limits::{SIMPLE_TOKENS_MAX, TOKEN_CLOCK_TOLERANCE};

/// Letters of a token: 52 to the 16th, more than 90 bits of chance.
const LETTERS: usize = 16;

#[derive(Debug)]
struct Token {
    user: Arc<str>,
    /// The user's password hash when the token was given out: a new password ends old tokens.
    password_hash: Box<str>,
    expires: Instant,
}

#[derive(Debug, Default)]
struct Live {
    tokens: HashMap<[u8; 32], Token>,
    swept: Option<Instant>,
}

/// The tokens that this member knows.
#[derive(Debug)]
pub(super) struct SimpleTokens {
    ttl: Duration,
    live: Mutex<Live>,
}

/// A token as a client shows it.
pub(super) struct Shown {
    pub(super) fingerprint: [u8; 32],
    /// The log entry that made it.
    pub(super) index: u64,
}

impl Shown {
    /// Reads a token. `None` when it can't be one.
    pub(super) fn read(token: &str) -> Option<Self> {
        let (letters, index) = token.split_once('.')?;
        Some(Self { fingerprint: fingerprint(letters), index: index.parse().ok()? })
    }
}

/// New random letters.
pub(super) fn letters() -> Result<String, String> {
    let random = rustls::crypto::ring::default_provider().secure_random;
    let mut out = String::with_capacity(LETTERS);
    while out.len() < LETTERS {
        let mut bytes = [0; 64];
        random.fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_string())?;
        // Four times 52 fits into a byte; what is above would make some letters likelier.
        let fair = bytes.into_iter().filter(|byte| *byte < 208).map(|byte| byte % 52);
        let letter = |n: u8| char::from(if n < 26 { b'a' + n } else { b'A' + n - 26 });
        out.extend(fair.map(letter).take(LETTERS - out.len()));
    }
    Ok(out)
}

pub(super) fn fingerprint(letters: &str) -> [u8; 32] {
    Sha256::digest(letters.as_bytes()).into()
}

pub(super) fn millis_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl SimpleTokens {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, live: Mutex::default() }
    }

    /// Learns of a token from the log. One that was given out long ago stays dead: a log that is read again at a start
    /// must not wake it.
    pub(super) fn learn(&self, fingerprint: [u8; 32], user: &str, password_hash: &str, issued_millis: u64) {
        let age = Duration::from_millis(millis_now().saturating_sub(issued_millis));
        if age > self.ttl + TOKEN_CLOCK_TOLERANCE {
            return;
        }
        let now = Instant::now();
        let mut live = self.live.lock();
        if live.swept.is_none_or(|swept| now.duration_since(swept) > Duration::from_secs(1)) {
            live.tokens.retain(|_, token| token.expires > now);
            live.swept = Some(now);
        }
        if live.tokens.len() < SIMPLE_TOKENS_MAX {
            let token = Token { user: user.into(), password_hash: password_hash.into(), expires: now + self.ttl };
            live.tokens.insert(fingerprint, token);
        }
    }

    /// Whose token it is, if it is still good: each use gives it its full time again. `fits` says whether the user still has
    /// the password hash that the token was given out for.
    pub(super) fn user(&self, fingerprint: &[u8; 32], fits: impl FnOnce(&str, &str) -> bool) -> Option<Arc<str>> {
        let now = Instant::now();
        let mut live = self.live.lock();
        let token = live.tokens.get_mut(fingerprint)?;
        if token.expires <= now || !fits(&token.user, &token.password_hash) {
            live.tokens.remove(fingerprint);
            return None;
        }
        token.expires = now + self.ttl;
        Some(token.user.clone())
    }

    /// This member has heard of the token, good or not.
    pub(super) fn knows(&self, fingerprint: &[u8; 32]) -> bool {
        self.live.lock().tokens.contains_key(fingerprint)
    }

    /// Users are not enforced any more: whoever comes later logs in again.
    pub(super) fn forget_all(&self) {
        self.live.lock().tokens.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_millis(200);

    fn good(tokens: &SimpleTokens, print: &[u8; 32]) -> bool {
        tokens.user(print, |_, hash| hash == "hash").is_some()
    }

    #[test]
    fn a_token_lives_as_long_as_it_is_used() {
        let tokens = SimpleTokens::new(TTL);
        let print = fingerprint("letters");
        assert!(!good(&tokens, &print), "a token that nobody gave out");
        tokens.learn(print, "bo", "hash", millis_now());
        for _ in 0..4 {
            std::thread::sleep(TTL / 2);
            assert!(good(&tokens, &print));
        }
        std::thread::sleep(TTL + TTL / 4);
        assert!(!good(&tokens, &print));
    }

    #[test]
    fn a_new_password_ends_a_token_for_good() {
        let tokens = SimpleTokens::new(TTL);
        let print = fingerprint("letters");
        tokens.learn(print, "bo", "old hash", millis_now());
        assert!(!good(&tokens, &print));
        assert!(tokens.user(&print, |_, _| true).is_none());
    }

    #[test]
    fn a_token_of_long_ago_stays_dead() {
        let tokens = SimpleTokens::new(TTL);
        let print = fingerprint("letters");
        let long_ago = (TOKEN_CLOCK_TOLERANCE + 2 * TTL).as_millis() as u64;
        tokens.learn(print, "bo", "hash", millis_now() - long_ago);
        assert!(!good(&tokens, &print));
    }

    #[test]
    fn letters_are_letters_and_never_the_same() {
        let (a, b) = (letters().expect("chance"), letters().expect("chance"));
        assert!(a.len() == LETTERS && a.bytes().all(|byte| byte.is_ascii_alphabetic()), "{a}");
        assert_ne!(a, b);
        assert!(Shown::read("abc.7").is_some_and(|shown| shown.index == 7));
        assert!(Shown::read("abc").is_none() && Shown::read("abc.x").is_none() && Shown::read("").is_none());
    }
}
