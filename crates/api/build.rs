//! Compiles the wire definitions: messages, stubs for both sides, and their JSON form. Needs no `protoc`.

use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 6] = ["kv.proto", "auth.proto", "rpc.proto", "v3lock.proto", "v3election.proto", "health.proto"];
const JSON_PACKAGES: [&str; 5] = [".mvccpb", ".authpb", ".etcdserverpb", ".v3lockpb", ".v3electionpb"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let bytes = descriptors.encode_to_vec();
    std::fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin"), &bytes)?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    pbjson_build::Builder::new()
        .register_descriptors(&bytes)?
        .preserve_proto_field_names()
        .ignore_unknown_fields()
        .out_dir(PathBuf::from(std::env::var("OUT_DIR")?))
        .build(&JSON_PACKAGES)?;
    Ok(())
}
