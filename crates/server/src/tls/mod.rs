//! Encryption: who we are to clients and members, and whom we admit.
//!
//! ```text
//! files ─▶ read ─▶ a whole rustls configuration ─▶ handshake ─▶ ClientIdentity
//!            ▲                 │
//!            └── changed? ◀────┘   asked before each handshake; files that cannot be used leave the old ones in force
//! ```
//!
//! The configuration is made anew as a whole: certificate, key, those who vouch for clients, and the revocation list
//! change without a restart. Sessions are never resumed, so that each connection is judged by what holds now.
//! Must never know what is said over a connection.

mod admit;
mod auto;
mod files;
mod peer;
mod reload;
mod server;
mod suites;

pub use peer::{ClientStream, PeerTls};
pub use server::{ClientIdentity, ServerStream};
pub(crate) use server::{ServerTls, Side};
pub use suites::check_suites;
