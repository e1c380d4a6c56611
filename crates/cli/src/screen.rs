//! Standard output. A reader that went away (`eyrie utl ... | head`) is no reason to crash.

use std::io::Write;

/// Exit code of a program whose reader closed the pipe (128 + SIGPIPE).
const CLOSED_PIPE: i32 = 141;

/// Shows the answer of a command that ends with it; without a reader the program ends at once, quietly.
pub(crate) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(CLOSED_PIPE);
    }
}

/// Shows one line to whoever watches a running member, which goes on without a reader too.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
