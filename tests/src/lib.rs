//! Black-box tests: real processes, foreign clients, real faults.
//!
//! Nothing here may look inside Eyrie. A test starts the binary, speaks to it over the wire or by its command line, hurts it,
//! and compares what it says with what upstream etcd says or with what it promised before.
//!
//! ```text
//! binaries   which programs stand in which role: Eyrie (EYRIE_BIN or the built one) and upstream etcd
//! peers      the foreign programs, fetched once into the target folder
//! place      where processes run: on this host's loopback, or in a network namespace of their own
//! store      one running server: start, wait, kill, start again on the same folder
//! conversation   one script, three casts, compared word by word
//! auth       the permission matrix: every call, by everybody, in both languages
//! load       writers and watchers that remember every promise, and the check that all were kept
//! net        a network of namespaces that can lose, delay, repeat and cut
//! machine    a disk and a clock that can fail, under one process
//! small_disk a file system that can be full
//! history    what clients and watchers were told, and whether one store could have said it
//! faults     clusters that are hurt in one way each while their history is written down
//! crashpoint     a process killed at the Nth system call that changes files
//! milvus     a real Milvus on a store
//! watching   one watch stream, of which every answer is seen
//! moto       an S3 server
//! ```

pub mod auth;
pub mod backup;
pub mod binaries;
pub mod certificates;
pub mod cluster;
pub mod conversation;
pub mod faults;
pub mod history;
pub mod load;
pub mod machine;
pub mod milvus;
pub mod moto;
pub mod net;
pub mod peers;
pub mod place;
pub mod ports;
pub mod small_disk;
pub mod store;
pub mod verdict;
pub mod watching;
