//! Who calls, and may they come in.
//!
//! ```text
//! request ─ door (access: what does this call need?) ─▶ a store handle that speaks for the caller ─▶ the service
//!              └ credentials: token, or the name in the client's certificate                │
//!                                                    state::auth decides, in every read and in apply ◀┘
//! ```
//! No service is told who calls: the store handle it works with knows, and signs what it proposes. So none can forget to
//! ask. What is not about keys (snapshots, members, ...) is decided at the door, by the table in `access`.

mod access;
mod credentials;
mod door;
mod guard;
mod jwt;
mod password;
mod settings;
mod simple;

pub(crate) use credentials::{Credentials, Speaker};
pub(crate) use door::admit;
pub(crate) use guard::Guard;
pub use settings::{AuthSettings, JwtSettings, TokenKind};
