//! Sets TICKSTREAM_VERSION, as for `tickstream --version`.

include!("../crates/cli/build.rs");
