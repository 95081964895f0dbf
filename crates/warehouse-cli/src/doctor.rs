//! `doctor`: what of this host and these tables stands in the way.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use tickstream_warehouse_core::loader::source::Journals;
use tickstream_warehouse_core::loader::with_sources;
use tickstream_warehouse_core::maintenance::{Lease, verify};
use tickstream_warehouse_core::query::Limits;
use tickstream_warehouse_core::store::{LoaderLock, Secret, StoreError, Tables};

use crate::args::Doctor;
use crate::output::plural;
use crate::place::place;

/// Memory of a loader with its ids and of the queries at the same time, bytes.
const LOADER_BYTES: u64 = 600 << 20;
/// Free disk below which a commit or a spill may fail soon, bytes.
const FREE_BYTES_MIN: u64 = 5 << 30;
/// Files of a partition that make queries slow.
const FILES_MANY: u64 = 500;

/// Findings, good and bad.
#[derive(Default)]
struct Findings {
    problems: u32,
}

impl Findings {
    fn good(&self, what: &str) {
        println!("ok       {what}");
    }

    fn bad(&mut self, what: &str) {
        self.problems += 1;
        println!("problem  {what}");
    }
}

/// Prints findings; the exit code is 1 if there is a problem.
///
/// # Errors
/// If the place of the tables can't be used at all.
pub async fn run(args: &Doctor) -> Result<ExitCode> {
    let tables = place(&args.place)?;
    let mut findings = Findings::default();
    memory(&tables, &mut findings);
    disk(&tables, &mut findings);
    state(&tables, &mut findings).await;
    table(&tables, &mut findings).await;
    if !args.journal.is_empty() {
        match Journals::open(&args.journal, &[], &[]) {
            Ok(_) => findings.good("the journals can be read"),
            Err(error) => findings.bad(&with_sources(&error)),
        }
    }
    Ok(if findings.problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn memory(tables: &Tables, findings: &mut Findings) {
    let limits = Limits::new(tables.state());
    let needed = LOADER_BYTES + (limits.memory_bytes * limits.concurrent) as u64;
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    match available.map(|kib| kib * 1024) {
        Some(available) if available < needed => findings.bad(&format!(
            "{} MiB of memory are available; loader and queries may take {} MiB: lower query_memory_mib or queries_max",
            available >> 20,
            needed >> 20
        )),
        Some(available) => findings.good(&format!("{} MiB of memory are available", available >> 20)),
        None => {}
    }
}

fn disk(tables: &Tables, findings: &mut Findings) {
    let places = [Some(tables.state().to_owned()), tables.directory()];
    for path in places.into_iter().flatten() {
        match free_bytes(&path) {
            Ok(free) if free < FREE_BYTES_MIN => {
                findings.bad(&format!("{} MiB are free at {}", free >> 20, path.display()));
            }
            Ok(free) => findings.good(&format!("{} GiB are free at {}", free >> 30, path.display())),
            Err(error) => findings.bad(&format!("{}: {error}", path.display())),
        }
    }
}

fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

async fn state(tables: &Tables, findings: &mut Findings) {
    match Secret::open_or_create(tables.state()) {
        Ok(_) => findings.good("the secret of identifiers can be read; keep a backup of it"),
        Err(error) => findings.bad(&with_sources(&error)),
    }
    match LoaderLock::take(tables) {
        Ok(_) => findings.good("nobody loads"),
        Err(error @ StoreError::Loading { .. }) => findings.good(&error.to_string()),
        Err(error) => findings.bad(&with_sources(&error)),
    }
    match Lease::take(tables).await {
        Ok(lease) => {
            lease.release().await;
            findings.good("nobody maintains the tables");
        }
        Err(error) => findings.good(&error.to_string()),
    }
}

async fn table(tables: &Tables, findings: &mut Findings) {
    let opened = tables.open().await;
    let table = match opened {
        Ok(table) => table,
        Err(error @ StoreError::Missing { .. }) => return findings.good(&error.to_string()),
        Err(error) => return findings.bad(&with_sources(&error)),
    };
    match verify::kinds(&table) {
        Ok(kinds) => {
            let (rows, files) =
                kinds.iter().fold((0, 0), |sum, (_, rows, files, _)| (sum.0 + rows, sum.1 + files));
            let text = format!("{} in {}", plural(rows, "row"), plural(files, "file"));
            if files > FILES_MANY * kinds.len().max(1) as u64 {
                findings.bad(&format!("{text}: queries are slow until `compact` has run"));
            } else {
                findings.good(&text);
            }
        }
        Err(error) => findings.bad(&with_sources(&error)),
    }
}
