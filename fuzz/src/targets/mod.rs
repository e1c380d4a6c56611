//! One target per decoder of bytes that come from outside or from disk.
//!
//! A target has whole inputs, made by the encoders, and a function that decodes and then checks what it got. `true`
//! means accepted; anything wrong is a panic.

mod bbolt;
mod command;
mod etcd_wal;
mod faulty;
mod gateway;
mod milvus;
mod peer;
mod records;
mod scratch;
mod snapshot;
mod tables;
mod wal;
mod wire;

/// One decoder.
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is decoded.
    pub what: &'static str,
    /// Whole inputs, all of which must be accepted.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Makes checksums right again after a mutation.
    pub reseal: Option<fn(&mut [u8])>,
    /// Decodes an input and checks the result. Panics when the decoder breaks a promise.
    pub run: fn(&[u8]) -> bool,
}

/// All targets.
pub const ALL: &[Target] = &[
    command::TARGET,
    records::HISTORY,
    records::LEASE,
    records::ALARM,
    records::MEMBER,
    records::POSITION,
    wal::TARGET,
    tables::TARGET,
    bbolt::TARGET,
    snapshot::TARGET,
    etcd_wal::TARGET,
    wire::PROTOBUF,
    peer::TARGET,
    gateway::TARGET,
    milvus::TARGET,
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    ALL.iter().chain(faulty::TARGETS).find(|target| target.name == name)
}
