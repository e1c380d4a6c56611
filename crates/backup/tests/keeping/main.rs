//! What keeps an archive good: verification against tampering, retention that is killed anywhere, and the
//! consistent pair.

mod deploy;
mod expiry;
mod pair;
mod sample;
mod tampering;
