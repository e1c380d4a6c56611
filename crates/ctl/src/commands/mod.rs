//! The commands: each reads its arguments, asks a server, and hands the answer to a printer.
//!
//! They never parse flags or write formats themselves.

pub(crate) mod auth;
pub(crate) mod check;
pub(crate) mod elect;
pub(crate) mod endpoint;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod maintenance;
pub(crate) mod member;
pub(crate) mod mirror;
pub(crate) mod password;
pub(crate) mod peer_urls;
pub(crate) mod program;
pub(crate) mod range;
pub(crate) mod recipe;
pub(crate) mod role;
pub(crate) mod snapshot;
pub(crate) mod txn;
pub(crate) mod txn_input;
pub(crate) mod user;
pub(crate) mod watch;
pub(crate) mod watch_args;
