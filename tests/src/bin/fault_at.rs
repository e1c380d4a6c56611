//! Runs a program and hurts it at its Nth system call that changes files.
//!
//! ```text
//! fault-at KIND NTH FOLDER REPORT -- PROGRAM ARGS…
//! KIND  kill   SIGKILL before the call happens
//!       torn   a write writes only its first half, then SIGKILL (another call: as kill)
//!       eio    this and all later syncs fail with EIO
//!       count  nothing: REPORT gets the number of calls; `count-syncs`: of syncs only
//! ```
//! Calls are counted over all threads, in the order in which they happen, so every one of them is reached by some NTH. Only files
//! below FOLDER count. REPORT gets one line that names the call that was hit.
//!
//! It is a tracer (ptrace) and nothing else: when it is killed, the program dies with it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A system call that changes files: its number on x86-64, name, and what of its arguments names the file.
const CALLS: &[(u64, &str, Names)] = &[
    (1, "write", Names::Fd),
    (18, "pwrite64", Names::Fd),
    (20, "writev", Names::Fd),
    (296, "pwritev", Names::Fd),
    (74, "fsync", Names::Fd),
    (75, "fdatasync", Names::Fd),
    (77, "ftruncate", Names::Fd),
    (285, "fallocate", Names::Fd),
    (82, "rename", Names::Path),
    (264, "renameat", Names::Path),
    (316, "renameat2", Names::Path),
    (87, "unlink", Names::Path),
    (263, "unlinkat", Names::Path),
    (84, "rmdir", Names::Path),
    (83, "mkdir", Names::Path),
    (258, "mkdirat", Names::Path),
    (86, "link", Names::Path),
    (265, "linkat", Names::Path),
];

const EIO: i64 = 5;

#[derive(Clone, Copy, PartialEq)]
enum Names {
    /// The first argument is an open file.
    Fd,
    /// A path. Whoever runs this keeps all its files in the folder, so these count without a look at the path.
    Path,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Kill,
    Torn,
    Eio,
    Count,
    CountSyncs,
}

fn main() -> Result<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let kind = match args.next().and_then(|a| a.into_string().ok()).as_deref() {
        Some("kill") => Kind::Kill,
        Some("torn") => Kind::Torn,
        Some("eio") => Kind::Eio,
        Some("count") => Kind::Count,
        Some("count-syncs") => Kind::CountSyncs,
        _ => bail!("usage: fault-at kill|torn|eio|count|count-syncs NTH FOLDER REPORT -- PROGRAM ARGS"),
    };
    let nth = args.next().and_then(|a| a.into_string().ok()).context("NTH")?.parse()?;
    let folder = PathBuf::from(args.next().context("FOLDER")?);
    let report = PathBuf::from(args.next().context("REPORT")?);
    let command: Vec<OsString> = args.skip_while(|a| a == "--").collect();
    let program = start(&command)?;
    Tracer { kind, nth, folder, report, program, count: 0, pending: HashMap::new() }.run()
}

/// Starts the program, stopped at its first instruction.
fn start(words: &[OsString]) -> Result<Pid> {
    let mut command = Command::new(words.first().context("PROGRAM")?);
    command.args(&words[1..]);
    // SAFETY: between fork and exec only the system call `ptrace` is made, which is async-signal-safe.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| ptrace::traceme().map_err(std::io::Error::from));
    }
    let child = command.spawn().with_context(|| format!("start {words:?}"))?;
    Ok(Pid::from_raw(child.id() as i32))
}

/// What to do when a thread leaves the call it has entered.
enum AtExit {
    Kill,
    Fail,
}

struct Tracer {
    kind: Kind,
    nth: u64,
    folder: PathBuf,
    report: PathBuf,
    program: Pid,
    count: u64,
    /// Threads that are inside of a call that we hurt.
    pending: HashMap<Pid, AtExit>,
}

impl Tracer {
    fn run(mut self) -> Result<ExitCode> {
        waitpid(self.program, None)?;
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(self.program, options)?;
        ptrace::syscall(self.program, None)?;
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL))? {
                WaitStatus::Exited(pid, code) if pid == self.program => return Ok(ExitCode::from(code as u8)),
                WaitStatus::Signaled(pid, signal, _) if pid == self.program => {
                    return Ok(ExitCode::from(128 + signal as u8));
                }
                WaitStatus::PtraceSyscall(thread) => {
                    self.at_call(thread)?;
                    let _ = ptrace::syscall(thread, None);
                }
                WaitStatus::Stopped(thread, Signal::SIGSTOP | Signal::SIGTRAP)
                | WaitStatus::PtraceEvent(thread, _, _) => {
                    let _ = ptrace::syscall(thread, None);
                }
                WaitStatus::Stopped(thread, signal) => {
                    let _ = ptrace::syscall(thread, signal);
                }
                _ => {}
            }
        }
    }

    /// A thread enters or leaves a system call.
    fn at_call(&mut self, thread: Pid) -> Result<()> {
        let looked = match ptrace::syscall_info(thread).map(|info| info.op) {
            Ok(nix::libc::PTRACE_SYSCALL_INFO_EXIT) => self.leave(thread),
            Ok(nix::libc::PTRACE_SYSCALL_INFO_ENTRY) => self.enter(thread),
            Ok(_) => Ok(()),
            Err(e) => Err(e.into()),
        };
        match looked {
            // It was killed while we looked at it.
            Err(e) if e.downcast_ref() == Some(&Errno::ESRCH) => Ok(()),
            other => other,
        }
    }

    fn enter(&mut self, thread: Pid) -> Result<()> {
        let mut regs = ptrace::getregs(thread)?;
        let Some((_, name, names)) = CALLS.iter().find(|c| c.0 == regs.orig_rax) else { return Ok(()) };
        let file = self.file(thread, regs.rdi);
        if *names == Names::Fd && !file.as_deref().is_some_and(|f| f.starts_with(&self.folder)) {
            return Ok(());
        }
        let is_sync = matches!(*name, "fsync" | "fdatasync");
        if matches!(self.kind, Kind::Eio | Kind::CountSyncs) && !is_sync {
            return Ok(());
        }
        self.count += 1;
        let due = if self.kind == Kind::Eio { self.count >= self.nth } else { self.count == self.nth };
        if matches!(self.kind, Kind::Count | Kind::CountSyncs) {
            self.tell(&self.count.to_string())?;
            return Ok(());
        }
        if !due {
            return Ok(());
        }
        let file = file.filter(|_| *names == Names::Fd).map(|f| f.display().to_string()).unwrap_or_default();
        self.tell(&format!("call {}: {name} {file}", self.count))?;
        match self.kind {
            Kind::Torn if name.starts_with("write") || name.starts_with("pwrite") => {
                if !name.ends_with('v') {
                    regs.rdx /= 2;
                    ptrace::setregs(thread, regs)?;
                }
                self.pending.insert(thread, AtExit::Kill);
            }
            Kind::Kill | Kind::Torn => kill(self.program, Signal::SIGKILL)?,
            Kind::Eio => {
                // No such call: the kernel does nothing, and at its exit we put in the answer.
                regs.orig_rax = u64::MAX;
                ptrace::setregs(thread, regs)?;
                self.pending.insert(thread, AtExit::Fail);
            }
            Kind::Count | Kind::CountSyncs => {}
        }
        Ok(())
    }

    fn leave(&mut self, thread: Pid) -> Result<()> {
        match self.pending.remove(&thread) {
            Some(AtExit::Kill) => kill(self.program, Signal::SIGKILL)?,
            Some(AtExit::Fail) => {
                let mut regs = ptrace::getregs(thread)?;
                regs.rax = (-EIO) as u64;
                ptrace::setregs(thread, regs)?;
            }
            None => {}
        }
        Ok(())
    }

    /// Replaces the report in one step: we may be killed at any moment ourselves, and the reader wants the old or the new one.
    fn tell(&self, text: &str) -> Result<()> {
        let fresh = self.report.with_extension("new");
        std::fs::write(&fresh, text)?;
        Ok(std::fs::rename(fresh, &self.report)?)
    }

    fn file(&self, thread: Pid, fd: u64) -> Option<PathBuf> {
        std::fs::read_link(Path::new("/proc").join(thread.to_string()).join("fd").join(fd.to_string())).ok()
    }
}
