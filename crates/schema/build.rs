//! Compiles `proto/events.proto`: into messages, and from the options beside its fields into the tables of rules and the
//! JSON mapping. protox parses it in Rust, so that no `protoc` has to be installed.

#[path = "build/json.rs"]
mod json;
#[path = "build/model.rs"]
mod model;
#[path = "build/table.rs"]
mod table;

use std::path::{Path, PathBuf};

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));

    let messages = protox::compile(["events.proto"], [&folder])
        .unwrap_or_else(|error| panic!("proto/events.proto: {error}"));
    prost_build::Config::new()
        // Maps in the order of their keys: the same event encodes to the same bytes.
        .btree_map(["."])
        .compile_fds(messages)
        .unwrap_or_else(|error| panic!("generating Rust from proto/events.proto: {error}"));

    let model = model::read(&folder).unwrap_or_else(|error| panic!("proto/events.proto: {error}"));
    let write = |name: &str, text: String| {
        std::fs::write(out.join(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    };
    write("table.rs", table::generate(&model));
    write("json.rs", json::generate(&model));
}
