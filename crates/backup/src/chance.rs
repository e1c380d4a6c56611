//! Names made by chance, and by whom: nonces, archive ids, writer ids.

use std::io::Read;
use std::sync::LazyLock;

use eyrie_archive::WriterId;

/// A random word of `bytes` bytes in hex.
///
/// # Panics
/// The system has no random numbers, which no running system lacks.
pub(crate) fn word(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    read.expect("the system's random numbers can be read");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// This run: the machine, the process, and a nonce, since numbers of processes return.
pub(crate) fn writer_id() -> WriterId {
    let id = format!("{}:{}:{}", host(), std::process::id(), word(4));
    WriterId::new(id).expect("letters, digits, dots and dashes")
}

/// What a writer's name says about where it runs.
pub(crate) fn host_and_pid(writer: &WriterId) -> Option<(&str, u32)> {
    let mut parts = writer.as_str().split(':');
    let (host, pid, _) = (parts.next()?, parts.next()?, parts.next()?);
    Some((host, pid.parse().ok()?))
}

/// The machine's name, as far as it fits into an id.
pub(crate) fn host() -> &'static str {
    static HOST: LazyLock<String> = LazyLock::new(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name: String = name
            .trim()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
            .take(80)
            .collect();
        if name.is_empty() { "unnamed".into() } else { name }
    });
    &HOST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_can_be_traced_to_its_process() {
        let id = writer_id();
        assert_eq!(host_and_pid(&id), Some((host(), std::process::id())));
        assert_ne!(id, writer_id());
    }
}
