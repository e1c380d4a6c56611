//! The habits of Go that show in etcdctl's output: quoting, durations, numbers, sizes, JSON, tabs.
//!
//! Pure functions of values; nothing here knows etcd.

pub(crate) mod duration;
pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod quote;
pub(crate) mod size;

/// An error of the operating system as Go words it: no number, and no capital at the beginning.
pub(crate) fn os_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
