//! Sets TICKSTREAM_VERSION, for `tickstream --version`.

#[path = "build/version.rs"]
mod version;

fn main() {
    version::set();
}
