//! The allocator, and giving back what it no longer needs.
//!
//! mimalloc costs less CPU per request than the system's allocator. It gives freed memory back when somebody allocates
//! again, so a server that falls idle after a burst would keep what the burst needed; a thread that asks for it now and then
//! costs nothing while there is nothing to give.

use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often freed memory is given back.
const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(2);

/// Gives freed memory back to the system from now on, for as long as the process runs. Where no thread can be had, memory
/// is given back later, by whoever allocates.
pub(crate) fn give_back_when_idle() {
    let _ = std::thread::Builder::new().name("memory".into()).spawn(|| {
        loop {
            std::thread::sleep(GIVE_BACK_INTERVAL);
            give_back();
        }
    });
}

#[allow(unsafe_code)]
fn give_back() {
    // SAFETY: no arguments, no result; mimalloc is this process's allocator and allows the call from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
