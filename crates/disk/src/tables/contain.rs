//! redb may panic on bytes that it never wrote. Here a panic inside it becomes an answer.
//!
//! Knows nothing of what was attempted; only the words for what went wrong.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::Once,
};

use eyrie_state::TableFault;

const ADVICE: &str = "Keep a copy of the data directory, then restore a snapshot into a new one: eyrie utl snapshot restore SNAPSHOT --data-dir NEW";

/// The process ends with this when redb panics while it cleans up after a panic: Rust would abort it without a word.
pub const EXIT_DAMAGED: i32 = 74;

thread_local! {
    static INSIDE: Cell<u32> = const { Cell::new(0) };
    /// Panics that nobody has caught yet.
    static UNCAUGHT: Cell<u32> = const { Cell::new(0) };
}
static HOOK: Once = Once::new();

/// Runs `work`, which calls redb, and turns its errors and panics into a fault that names `file`.
pub(super) fn contain<T>(file: &Path, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, TableFault> {
    quiet(work).map_err(|message| damaged(file, message))?.map_err(|e| fault(file, e))
}

/// Runs `work` such that a panic is caught and printed nowhere; returns its message.
pub(super) fn quiet<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if INSIDE.get() == 0 {
                return before(info);
            }
            UNCAUGHT.set(UNCAUGHT.get() + 1);
            if UNCAUGHT.get() > 1 {
                eprintln!("the tables are damaged: the table engine can't go on, and this process ends. {ADVICE}");
                std::process::exit(EXIT_DAMAGED);
            }
        }));
    });
    INSIDE.with(|n| n.set(n.get() + 1));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    INSIDE.with(|n| n.set(n.get() - 1));
    UNCAUGHT.set(0);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "the table engine stopped".into())
    })
}

/// The fault that names a damaged file and says what to do.
pub(super) fn damaged(file: &Path, what: impl std::fmt::Display) -> TableFault {
    TableFault::Damaged { place: file.display().to_string(), what: format!("the tables are damaged: {what}. {ADVICE}") }
}

/// The fault for a refusal of the system.
pub(super) fn io(file: &Path, what: impl std::fmt::Display) -> TableFault {
    TableFault::Io { place: file.display().to_string(), what: what.to_string() }
}

fn fault(file: &Path, e: redb::Error) -> TableFault {
    use std::io::ErrorKind;
    match e {
        redb::Error::Io(e)
            if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::InvalidInput) =>
        {
            damaged(file, e)
        }
        redb::Error::Io(e) => io(file, e),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            io(file, "an earlier write failed; stop this member, check the disk, start it again")
        }
        redb::Error::DatabaseAlreadyOpen => io(file, "it is in use by another process; stop that one first"),
        other => damaged(file, other),
    }
}
