//! The two output streams, byte for byte.
//!
//! A reader that went away (`etcdctl watch | head`) ends the program quietly, as a pipe signal would.

use std::io::Write;

/// Exit code of a program whose reader closed the pipe (128 + SIGPIPE).
const CLOSED_PIPE: i32 = 141;

/// Writes bytes to standard output at once.
pub(crate) fn out(bytes: impl AsRef<[u8]>) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(bytes.as_ref()).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(CLOSED_PIPE);
    }
}

/// Writes one line to standard output.
pub(crate) fn line(bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let mut whole = Vec::with_capacity(bytes.len() + 1);
    whole.extend_from_slice(bytes);
    whole.push(b'\n');
    out(whole);
}

/// Writes one line to standard error; a closed stream is nobody's loss.
pub(crate) fn error_line(text: impl AsRef<[u8]>) {
    let mut whole = text.as_ref().to_vec();
    whole.push(b'\n');
    let _ = std::io::stderr().lock().write_all(&whole);
}
