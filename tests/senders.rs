//! Runs `tests/senders/`: libraries and programs that people use send to a server and a collector, and each record is
//! compared. They come from PyPI, npm and Debian, so this is left out unless `SENDERS` is set; `scripts/senders` gets them.

use std::{path::Path, process::Command};

#[test]
fn real_senders_records_are_stored_as_they_were_sent() {
    let Some(senders) = std::env::var_os("SENDERS") else {
        eprintln!("left out tests/senders: SENDERS isn't set; SENDERS=all runs all of them");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let names = senders.to_string_lossy().into_owned();
    let names = names.split_whitespace().filter(|name| *name != "all");
    let output = Command::new(root.join("scripts/senders"))
        .args(names)
        .env("TICKSTREAM", env!("CARGO_BIN_EXE_tickstream"))
        .output()
        .expect("scripts/senders can be run");
    let report = String::from_utf8_lossy(&output.stdout);
    println!("{report}");
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
}
