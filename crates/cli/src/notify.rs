//! Tells systemd (`Type=notify`) how far we are: one datagram to the socket it names.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Clients can be served.
pub(crate) fn ready() {
    send("READY=1");
}

/// The stop has begun.
pub(crate) fn stopping() {
    send("STOPPING=1");
}

/// Nobody may be listening, and that is no reason to stop.
fn send(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&name),
    };
    let _ = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
}
