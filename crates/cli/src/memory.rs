//! The allocator, and giving back what is no longer needed.
//!
//! mimalloc costs less CPU per request than the system's allocator. Memory that a burst needed goes back to the system when
//! its thread allocates again; the threads of an idle server do not, so they ask for it now and then.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives memory that this thread freed back to the system.
#[allow(unsafe_code)]
pub(crate) fn give_back() {
    // SAFETY: no arguments, no result; mimalloc is this process's allocator and allows the call from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
