//! The habits of Go that show in etcdctl's output: quoting, durations, numbers, sizes, JSON, tabs.
//!
//! Pure functions of values; nothing here knows etcd.

pub(crate) mod duration;
pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod quote;
pub(crate) mod size;

pub(crate) use eyrie_api::client::os_error;
