//! Compiles `proto/stream.proto` into Rust. protox parses it in Rust, so that no `protoc` has to be installed.

use std::path::Path;

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    println!("cargo::rerun-if-changed={}", folder.display());
    let messages = protox::compile([folder.join("stream.proto")], [&folder])
        .unwrap_or_else(|error| panic!("proto/stream.proto: {error}"));
    prost_build::Config::new()
        .compile_fds(messages)
        .unwrap_or_else(|error| panic!("generating Rust from proto/stream.proto: {error}"));
}
