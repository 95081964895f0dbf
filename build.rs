//! Compiles `proto/` into Rust for `crates/wire`, the only package that names this script. protox parses the
//! schema in Rust, so that no `protoc` has to be installed.

use std::path::Path;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let schema = protox::compile([root.join("stream.proto"), root.join("events.proto")], [&root])
        .unwrap_or_else(|error| panic!("proto/: {error}"));
    prost_build::Config::new()
        // Maps in the order of their keys: the same event encodes to the same bytes.
        .btree_map(["."])
        .compile_fds(schema)
        .unwrap_or_else(|error| panic!("generating Rust from proto/: {error}"));
}
