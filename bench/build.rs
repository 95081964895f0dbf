//! Sets TICKSTREAM_VERSION, as for `tickstream --version`.

#[path = "../crates/cli/build/version.rs"]
mod version;

fn main() {
    version::set();
}
