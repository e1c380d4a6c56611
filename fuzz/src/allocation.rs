//! Counts the bytes in use, and ends the process when one input makes them grow beyond what any input may.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What one input may take.
pub const GROWTH_MAX: usize = 64 << 20;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static ALLOWED: AtomicUsize = AtomicUsize::new(usize::MAX);
static WATCHED: AtomicBool = AtomicBool::new(false);

/// The allocator of this program.
pub struct Counting;

/// From now on [`GROWTH_MAX`] more than now is too much.
pub fn watch() {
    ALLOWED.store(IN_USE.load(Ordering::Relaxed) + GROWTH_MAX, Ordering::Relaxed);
    WATCHED.store(true, Ordering::Relaxed);
}

fn grow(bytes: usize) {
    let in_use = IN_USE.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
    if in_use > ALLOWED.load(Ordering::Relaxed) && WATCHED.swap(false, Ordering::Relaxed) {
        eprintln!("one input makes memory grow by more than {GROWTH_MAX} bytes; the last request was for {bytes}");
        std::process::abort();
    }
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `pointer` and `layout` is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size);
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `pointer`, `layout` and `size` is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
