//! A bad machine under one process: loaded before the C library (`LD_PRELOAD`), it answers for the disk and the wall clock.
//!
//! A file that both sides map tells what is wrong at the moment (`src/machine.rs` has the same table):
//!
//! ```text
//! 0  i64  how far the wall clock is off, in nanoseconds
//! 8  u64  how much longer each sync takes, in microseconds
//! 16 u64  syncs fail with EIO, and what they should have kept is lost
//! 24 u64  writes stay in this process until they are synced: a kill loses them, as a power cut does
//! 32 u64  syncs so far (told by this side)
//! 40 u64  writes that were held back so far (told by this side)
//! ```
//! While writes are held back, some of their sectors of 512 bytes reach the file early and in any order, as a kernel may write
//! them: so a kill also tears. Reads see what is held back. It stands below `pwrite64`, `pread64`, `fsync`, `fdatasync`,
//! `ftruncate64` and `clock_gettime`: what the program under test uses on its log, its tables and its clock.

#![allow(unsafe_code, missing_docs, clippy::missing_safety_doc)]

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use nix::libc::{self, EIO, c_int, c_long, c_void, clockid_t, off64_t, size_t, ssize_t, stat64, syscall, timespec};

const SECTOR: u64 = 512;
/// One of so many sectors that are held back reaches the file early.
const EARLY: u64 = 5;

#[repr(C)]
struct Control {
    clock_nanos: AtomicI64,
    sync_delay_micros: AtomicU64,
    syncs_fail: AtomicU64,
    hold_back: AtomicU64,
    syncs: AtomicU64,
    held: AtomicU64,
}

type File = (u64, u64);
type Writes = Vec<(u64, Vec<u8>)>;
/// A handle of our own keeps the file's number from being given to another file.
type Held = BTreeMap<File, (OwnedFd, Writes)>;

static CONTROL: OnceLock<Option<&'static Control>> = OnceLock::new();
static HELD: Mutex<Held> = Mutex::new(BTreeMap::new());
static CHANCE: AtomicU64 = AtomicU64::new(0x9E37_79B9_7F4A_7C15);

fn control() -> Option<&'static Control> {
    *CONTROL.get_or_init(|| {
        use std::os::unix::ffi::OsStrExt;
        let mut path = std::env::var_os("EYRIE_MACHINE")?.as_bytes().to_vec();
        path.push(0);
        // SAFETY: the path ends with a zero; the mapping is shared, as large as the table, and never undone.
        unsafe {
            let fd = libc::open(path.as_ptr().cast(), libc::O_RDWR | libc::O_CLOEXEC);
            if fd < 0 {
                return None;
            }
            let both = libc::PROT_READ | libc::PROT_WRITE;
            let at = libc::mmap(std::ptr::null_mut(), size_of::<Control>(), both, libc::MAP_SHARED, fd, 0);
            libc::close(fd);
            if at == libc::MAP_FAILED { None } else { at.cast::<Control>().as_ref() }
        }
    })
}

fn holds_back() -> Option<&'static Control> {
    control().filter(|control| control.hold_back.load(Ordering::Relaxed) != 0)
}

fn below(limit: u64) -> u64 {
    let mut number = CHANCE.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (number ^ (number >> 31)) % limit
}

/// Which file it is, and its size; `None` for what is not a regular one.
fn file_of(fd: c_int) -> Option<(File, u64)> {
    // SAFETY: `stat64` holds numbers only, and the call fills the one that it is given.
    unsafe {
        let mut stat: stat64 = std::mem::zeroed();
        if libc::fstat64(fd, &mut stat) != 0 || stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return None;
        }
        Some(((stat.st_dev, stat.st_ino), stat.st_size as u64))
    }
}

fn has_a_name(own: &OwnedFd) -> bool {
    // SAFETY: `stat64` holds numbers only, and the call fills the one that it is given.
    unsafe {
        let mut stat: stat64 = std::mem::zeroed();
        libc::fstat64(own.as_raw_fd(), &mut stat) == 0 && stat.st_nlink > 0
    }
}

fn write_now(fd: c_int, bytes: &[u8], offset: u64) -> bool {
    let mut done = 0;
    while done < bytes.len() {
        let (rest, at) = (&bytes[done..], offset + done as u64);
        // SAFETY: pointer and length are those of a slice.
        let wrote = unsafe { syscall(libc::SYS_pwrite64, fd, rest.as_ptr(), rest.len(), at) };
        if wrote <= 0 {
            return false;
        }
        done += wrote as usize;
    }
    true
}

fn read_now(fd: c_int, bytes: &mut [u8], offset: u64) -> usize {
    // SAFETY: pointer and length are those of a slice.
    let read = unsafe { syscall(libc::SYS_pread64, fd, bytes.as_mut_ptr(), bytes.len(), offset) };
    usize::try_from(read).unwrap_or(0)
}

/// Lays what is held back over what the file holds from `offset` on.
fn lay_over(writes: &[(u64, Vec<u8>)], bytes: &mut [u8], offset: u64) {
    let end = offset + bytes.len() as u64;
    for (at, data) in writes {
        let (from, to) = ((*at).max(offset), (*at + data.len() as u64).min(end));
        if from < to {
            let source = &data[(from - at) as usize..(to - at) as usize];
            bytes[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
        }
    }
}

/// Some sectors of a write reach the file before they are asked to, as they stand with all writes so far.
fn some_early(fd: c_int, writes: &[(u64, Vec<u8>)], from: u64, to: u64, size: u64) {
    for sector in from / SECTOR..to.div_ceil(SECTOR) {
        if below(EARLY) == 0 {
            let at = sector * SECTOR;
            let mut bytes = vec![0; SECTOR.min(size.saturating_sub(at)) as usize];
            let read = read_now(fd, &mut bytes, at);
            bytes.truncate(read);
            lay_over(writes, &mut bytes, at);
            write_now(fd, &bytes, at);
        }
    }
}

fn let_go(fd: c_int, file: File) -> bool {
    let Some((_own, writes)) = HELD.lock().ok().and_then(|mut held| held.remove(&file)) else { return true };
    writes.iter().all(|(at, data)| write_now(fd, data, *at))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, data: *const c_void, count: size_t, offset: off64_t) -> ssize_t {
    if let Some(control) = holds_back()
        && let Some((file, size)) = file_of(fd)
        && let (from, Some(to)) = (offset as u64, (offset as u64).checked_add(count as u64))
        && to <= size
        && let Ok(mut held) = HELD.lock()
    {
        // SAFETY: the caller says so.
        let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), count) };
        if !held.contains_key(&file) {
            // What was removed needs no sync any more.
            held.retain(|_, (own, _)| has_a_name(own));
            // SAFETY: the call makes a new handle, which nobody else owns.
            let own = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
            if own < 0 {
                return -1;
            }
            // SAFETY: as above.
            held.insert(file, (unsafe { OwnedFd::from_raw_fd(own) }, Writes::new()));
        }
        if let Some((_, writes)) = held.get_mut(&file) {
            writes.push((from, bytes.to_vec()));
            some_early(fd, writes, from, to, size);
            control.held.fetch_add(1, Ordering::Relaxed);
        }
        return count as ssize_t;
    }
    // SAFETY: the caller's own call.
    unsafe { syscall(libc::SYS_pwrite64, fd, data, count, offset) as ssize_t }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread64(fd: c_int, data: *mut c_void, count: size_t, offset: off64_t) -> ssize_t {
    // SAFETY: the caller's own call.
    let read = unsafe { syscall(libc::SYS_pread64, fd, data, count, offset) as ssize_t };
    if read > 0
        && holds_back().is_some()
        && let Some((file, _)) = file_of(fd)
        && let Ok(held) = HELD.lock()
        && let Some((_, writes)) = held.get(&file)
    {
        // SAFETY: the kernel has just filled so many bytes of the caller's buffer.
        let bytes = unsafe { std::slice::from_raw_parts_mut(data.cast::<u8>(), read as usize) };
        lay_over(writes, bytes, offset as u64);
    }
    read
}

/// What comes before the real sync; the error to answer with instead, if any.
fn before_sync(fd: c_int) -> Result<(), c_int> {
    let Some(control) = control() else { return Ok(()) };
    control.syncs.fetch_add(1, Ordering::Relaxed);
    let delay = control.sync_delay_micros.load(Ordering::Relaxed);
    if delay > 0 {
        std::thread::sleep(std::time::Duration::from_micros(delay));
    }
    let Some((file, _)) = file_of(fd) else { return Ok(()) };
    if control.syncs_fail.load(Ordering::Relaxed) != 0 {
        if let Ok(mut held) = HELD.lock() {
            held.remove(&file);
        }
        return Err(EIO);
    }
    if let_go(fd, file) { Ok(()) } else { Err(EIO) }
}

unsafe fn sync_with(call: c_long, fd: c_int) -> c_int {
    match before_sync(fd) {
        // SAFETY: the caller's own call.
        Ok(()) => unsafe { syscall(call, fd) as c_int },
        Err(errno) => {
            nix::errno::Errno::from_raw(errno).set();
            -1
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    // SAFETY: the caller's own call.
    unsafe { sync_with(libc::SYS_fsync, fd) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: the caller's own call.
    unsafe { sync_with(libc::SYS_fdatasync, fd) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: off64_t) -> c_int {
    if holds_back().is_some()
        && let Some((file, _)) = file_of(fd)
    {
        let_go(fd, file);
    }
    // SAFETY: the caller's own call.
    unsafe { syscall(libc::SYS_ftruncate, fd, length) as c_int }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, at: *mut timespec) -> c_int {
    // SAFETY: the caller's own call.
    let result = unsafe { syscall(libc::SYS_clock_gettime, clock, at) as c_int };
    if result == 0
        && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE)
        && let Some(control) = control()
        // SAFETY: the kernel has just filled it.
        && let Some(at) = unsafe { at.as_mut() }
    {
        let off = control.clock_nanos.load(Ordering::Relaxed);
        let nanos = i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec) + i128::from(off);
        at.tv_sec = nanos.div_euclid(1_000_000_000) as i64;
        at.tv_nsec = nanos.rem_euclid(1_000_000_000) as i64;
    }
    result
}
