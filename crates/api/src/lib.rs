//! The wire: etcd v3 messages, stubs for both sides, and a thin client; Milvus's messages, with stubs to call it.
//!
//! Knows shapes and connections only, never what a request means.

pub mod client;

/// Declares a module with the messages and the stubs of one protobuf package.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $proto:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, unreachable_pub, clippy::all)]
        pub mod $name {
            tonic::include_proto!($proto);
        }
    };
}

package!(
    /// Keys, values, events.
    mvccpb, "mvccpb"
);
package!(
    /// Users, roles, permissions.
    authpb, "authpb"
);
package!(
    /// The main services: KV, Watch, Lease, Cluster, Maintenance, Auth.
    etcdserverpb, "etcdserverpb"
);
package!(
    /// The lock service.
    v3lockpb, "v3lockpb"
);
package!(
    /// The election service.
    v3electionpb, "v3electionpb"
);
package!(
    /// What members say to each other.
    peer, "eyrie.peer.v1"
);
package!(
    /// What a logical backup asks of Milvus.
    milvus, "milvus.proto.milvus"
);
package!(
    /// The standard health service.
    health, "grpc.health.v1"
);

pub use etcdserverpb as pb;

/// All definitions as an encoded `google.protobuf.FileDescriptorSet`, for whoever needs field names and kinds at run time.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
