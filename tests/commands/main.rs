//! The commands of the real binary, as their users meet them.

mod cli;
mod events;
mod otlp;
mod pipe;
mod process;
mod publish;
mod rules;
mod shipped;

use std::process::Output;

/// Checks an exit code, and that standard error has these parts; standard output.
fn check(output: &Output, code: i32, stderr_has: &[&str]) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stderr}{stdout}");
    for part in stderr_has {
        assert!(stderr.contains(part), "it doesn't say {part:?}: {stderr}");
    }
    stdout.into_owned()
}
