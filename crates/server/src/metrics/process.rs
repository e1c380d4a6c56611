//! What the system knows about this process, from `/proc/self`. On a system without it all values are 0.

use std::fmt::Write;
use std::fs;

/// The clock ticks of `/proc` in a second; fixed at 100 for user space by Linux on all platforms that Rust supports.
const TICKS_PER_SEC: f64 = 100.0;

/// One look at the process.
#[derive(Debug, Default, Clone, Copy)]
pub struct Process {
    /// User and system time.
    pub cpu_secs: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub fds_open: u64,
    /// As many may be open.
    pub fds_max: u64,
    /// Unix time of the start.
    pub start_secs: f64,
}

/// Reads the present values.
pub fn read() -> Process {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let system = fs::read_to_string("/proc/stat").unwrap_or_default();
    // The command's name, in parentheses, may contain spaces: count fields after it. The first after it is field 3.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |number: usize| after_name.split_whitespace().nth(number - 3).and_then(|text| text.parse().ok());
    let ticks = |number: usize| field(number).unwrap_or(0.0f64) / TICKS_PER_SEC;
    let kib = |name: &str| word_after(&status, name).unwrap_or(0) * 1024;
    Process {
        cpu_secs: ticks(14) + ticks(15),
        resident_bytes: kib("VmRSS:"),
        virtual_bytes: kib("VmSize:"),
        fds_open: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64),
        fds_max: word_after(&limits, "Max open files").unwrap_or(0),
        start_secs: word_after(&system, "btime").unwrap_or(0) as f64 + ticks(22),
    }
}

fn word_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

pub(super) fn write(process: &Process, out: &mut String) {
    let mut family = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    family("os_fd_limit", "gauge", "The file descriptor limit.", process.fds_max as f64);
    family("os_fd_used", "gauge", "The number of used file descriptors.", process.fds_open as f64);
    let cpu = "Total user and system CPU time spent in seconds.";
    family("process_cpu_seconds_total", "counter", cpu, process.cpu_secs);
    family("process_max_fds", "gauge", "Maximum number of open file descriptors.", process.fds_max as f64);
    family("process_open_fds", "gauge", "Number of open file descriptors.", process.fds_open as f64);
    let resident = "Resident memory size in bytes.";
    family("process_resident_memory_bytes", "gauge", resident, process.resident_bytes as f64);
    let start = "Start time of the process since unix epoch in seconds.";
    family("process_start_time_seconds", "gauge", start, process.start_secs);
    family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", process.virtual_bytes as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_values() {
        let process = read();
        assert!(process.resident_bytes > 100_000 && process.virtual_bytes >= process.resident_bytes);
        assert!(process.fds_open > 0 && process.fds_max >= process.fds_open);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - process.start_secs).abs() < 3600.0, "{process:?}");
    }
}
