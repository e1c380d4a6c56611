//! Compiles the wire definitions: messages, and stubs for both sides. Needs no `protoc`.

use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 6] = ["kv.proto", "auth.proto", "rpc.proto", "v3lock.proto", "v3election.proto", "health.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let bytes = descriptors.encode_to_vec();
    std::fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin"), bytes)?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    // Apart: the JSON gateway and the statistics of client calls know only what clients may call.
    let peer = protox::compile(["peer.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(peer)?;
    let milvus = protox::compile(["milvus.proto"], ["proto"])?;
    tonic_prost_build::configure().generate_default_stubs(true).btree_map(".").compile_fds(milvus)?;
    Ok(())
}
