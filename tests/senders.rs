//! Runs `tests/senders/`: senders against a server and a collector, as processes.
//!
//! Libraries and programs that people use come from PyPI, npm and Debian, so they are left out unless `SENDERS` is set;
//! `scripts/senders` gets them. The others need Python's standard library alone.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let report = String::from_utf8_lossy(&output.stdout);
    println!("{report}");
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn module(name: &str, arguments: &[&str]) {
    let mut command = Command::new("python3");
    command.arg(root().join("tests")).arg(name).arg(env!("CARGO_BIN_EXE_tickstream"));
    run(command.args(arguments));
}

#[test]
fn fault_60_and_61_what_was_answered_is_stored_once_whatever_was_killed() {
    module("senders.kill", &["12"]);
}

#[test]
fn fault_88_a_collector_hands_over_without_a_refused_request() {
    module("senders.handover", &["3"]);
}

#[test]
fn fault_68_odd_texts_and_numbers_are_stored_as_they_are_or_refused_by_field() {
    module("senders.odd", &[]);
}

#[test]
fn fault_70_a_flood_is_limited_and_others_do_not_notice() {
    module("senders.flood", &["4"]);
}

#[test]
fn connections_give_back_the_memory_of_a_burst() {
    module("senders.burst", &["5000"]);
}

#[test]
fn malformed_requests_are_told_what_is_wrong() {
    module("senders.malformed", &["20000", "1"]);
}

#[test]
fn real_senders_records_are_stored_as_they_were_sent() {
    let Some(senders) = std::env::var_os("SENDERS") else {
        eprintln!("left out the libraries and programs: SENDERS isn't set; SENDERS=all runs all of them");
        return;
    };
    let names = senders.to_string_lossy().into_owned();
    let names = names.split_whitespace().filter(|name| *name != "all");
    let mut command = Command::new(root().join("scripts/senders"));
    run(command.args(names).env("TICKSTREAM", env!("CARGO_BIN_EXE_tickstream")));
}
