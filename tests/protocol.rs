//! Runs `tests/protocol/`, the client that was written from docs/protocol.md alone, against the real binary.

use std::path::Path;
use std::process::Command;

/// Runs one of the Python suites; without Python, says so and leaves it out, unless it runs in CI.
fn run(module: &str) {
    let run = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests"))
        .arg(module)
        .env("TICKSTREAM_BIN", env!("CARGO_BIN_EXE_tickstream"))
        .env_remove("STREAM_USER")
        .env_remove("STREAM_PASS")
        .output();
    match run {
        Ok(output) => assert!(
            output.status.success(),
            "{module} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "python3 can't be run: {error}");
            eprintln!("left out {module}: python3 can't be run: {error}");
        }
    }
}

#[test]
fn golden_vectors() {
    run("protocol.test_golden");
}

#[test]
fn the_protocol_as_documented() {
    run("protocol.test_protocol");
}
