//! What keeps an archive good: verification against tampering, retention that is killed anywhere, an index that is made
//! anew, and the consistent pair.

mod deploy;
mod expiry;
mod index;
mod pair;
mod sample;
mod tampering;
