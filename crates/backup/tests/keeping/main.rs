//! What keeps an archive good: verification against tampering, and retention that is killed anywhere.

mod deploy;
mod expiry;
mod sample;
mod tampering;
