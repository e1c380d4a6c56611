//! The wire: etcd v3 messages, stubs for both sides, and their JSON form.
//!
//! Knows shapes only, never what a request means.

/// Declares a module with the messages, the stubs and the JSON form of one protobuf package.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $proto:literal, $($json:literal)?) => {
        $(#[$doc])*
        #[allow(missing_docs, unreachable_pub, clippy::all)]
        pub mod $name {
            tonic::include_proto!($proto);
            $(include!(concat!(env!("OUT_DIR"), $json));)?
        }
    };
}

package!(
    /// Keys, values, events.
    mvccpb, "mvccpb", "/mvccpb.serde.rs"
);
package!(
    /// Users, roles, permissions.
    authpb, "authpb", "/authpb.serde.rs"
);
package!(
    /// The main services: KV, Watch, Lease, Cluster, Maintenance, Auth.
    etcdserverpb, "etcdserverpb", "/etcdserverpb.serde.rs"
);
package!(
    /// The lock service.
    v3lockpb, "v3lockpb", "/v3lockpb.serde.rs"
);
package!(
    /// The election service.
    v3electionpb, "v3electionpb", "/v3electionpb.serde.rs"
);
package!(
    /// The standard health service.
    health, "grpc.health.v1",
);

pub use etcdserverpb as pb;

/// All definitions as an encoded `google.protobuf.FileDescriptorSet`, for whoever needs field names and kinds at run time.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
