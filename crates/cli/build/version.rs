//! Sets TICKSTREAM_VERSION: the version, and the commit where it is known, for `tickstream --version`.
//!
//! The commit comes from the first of: the variable TICKSTREAM_COMMIT, for builds that have no repository; a package of
//! cargo's (`.cargo_vcs_info.json`); an archive made by `git archive` (`COMMIT`, see .gitattributes); the repository.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Digits of a commit that are shown.
const DIGITS: usize = 12;

/// Tells cargo the version.
pub fn set() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    println!("cargo::rerun-if-env-changed=TICKSTREAM_COMMIT");
    for file in ["build.rs", "COMMIT"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let commit = env::var("TICKSTREAM_COMMIT")
        .ok()
        .or_else(|| of_package(package))
        .or_else(|| fs::read_to_string(package.join("COMMIT")).ok())
        .and_then(|commit| digits(&commit))
        .or_else(|| of_repository(package).and_then(|commit| digits(&commit)));
    let version = env!("CARGO_PKG_VERSION");
    match commit {
        Some(commit) => println!("cargo::rustc-env=TICKSTREAM_VERSION={version} ({commit})"),
        None => println!("cargo::rustc-env=TICKSTREAM_VERSION={version}"),
    }
}

/// The first digits, if this is a commit.
fn digits(commit: &str) -> Option<String> {
    let commit = commit.trim();
    let is_commit = commit.len() >= DIGITS && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| commit[..DIGITS].to_owned())
}

/// The commit in cargo's note: `{"git":{"sha1":"…"}}`.
fn of_package(package: &Path) -> Option<String> {
    let note = fs::read_to_string(package.join(".cargo_vcs_info.json")).ok()?;
    let (_, rest) = note.split_once("\"sha1\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

/// The commit of the repository that this package is part of, not of one that it was merely unpacked in.
fn of_repository(package: &Path) -> Option<String> {
    // It changes with each commit and checkout.
    let log = git(package, &["rev-parse", "--git-path", "logs/HEAD"])?;
    let log = package.join(log.trim());
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    git(package, &["ls-files", "--error-unmatch", "build.rs"])?;
    git(package, &["rev-parse", "HEAD"])
}

fn git(package: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(package).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
