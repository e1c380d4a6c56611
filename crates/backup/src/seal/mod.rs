//! Sealing: zstd where it pays, then age to any number of X25519 recipients; and opening again.
//!
//! ```text
//!   plain ─▶ zstd (if a sample shrinks) ─▶ age (if there are recipients) ─▶ stored
//! ```
//! What is stored is the plain age format, so the standard `age` tool opens it; the ending of its name says what was done
//! (`.zst`, `.age`, `.zst.age`). Who seals needs public keys only and can't read what it wrote. Memory is a few blocks in
//! both directions.
//!
//! Opening checks the key before the first byte is given out. Each block that is given out is authentic, but only the end
//! of the stream says that it was all of them: an error at the end means that nothing of it may be used.

mod keys;
mod open;
mod write;

pub use self::keys::{Identities, Recipient, Recipients, keygen};
pub use self::open::open;
pub use self::write::{Compress, Sealed, seal};
pub use eyrie_archive::names::Wrap;

/// What can go wrong with an envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A text is no public key.
    #[error("{0}.\n  Next: use a public key (age1…) as `eyrie backup keygen` or `age-keygen` prints it.")]
    Recipient(String),
    /// A key file can't be read or written.
    #[error("{0}.\n  Next: name the identity file that `eyrie backup keygen` wrote (it has a line AGE-SECRET-KEY-1…).")]
    Identity(String),
    /// None of the given keys opens it.
    #[error(
        "none of the {given} given keys opens this: it was sealed to others. Nothing was changed.\n  Next: give the \
         identity file of one of its recipients."
    )]
    WrongKey {
        /// How many keys were tried.
        given: usize,
    },
    /// It is sealed, and no key was given.
    #[error(
        "this is sealed, and no key was given. Nothing was changed.\n  Next: give the identity file of one of its recipients."
    )]
    NoKey,
    /// The content is not what was sealed.
    #[error(
        "this envelope is damaged or was tampered with: {0}.\n  Next: do not use what was read of it; take another copy."
    )]
    Damaged(String),
    /// More plain bytes come out than may.
    #[error(
        "more than the {limit} bytes that were recorded come out of this envelope.\n  Next: do not use it; take another copy."
    )]
    TooLong {
        /// What the caller allows.
        limit: u64,
    },
    /// The sealing itself failed.
    #[error("can't seal: {0}.\n  Next: run again; nothing was recorded.")]
    Failed(String),
}

#[cfg(test)]
mod tests;
