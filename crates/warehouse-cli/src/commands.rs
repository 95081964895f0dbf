//! The commands.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use tickstream_insights::transform;
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::import;
use tickstream_warehouse_core::loader::{Loader, Options};
use tickstream_warehouse_core::maintenance::{Lease, compact, enrich, vacuum, verify};
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits, Role};
use tickstream_warehouse_core::store::LoaderLock;

use crate::args::{Command, Enrich, Import, Load, Place, Plan, Query, Transform, Vacuum, Verify};
use crate::output::{self, plural};
use crate::place::{maintenance_limits, place};

/// Runs a command.
pub async fn run(command: Command) -> Result<ExitCode> {
    match command {
        // These run on settings and a log of their own.
        Command::Run(_) | Command::Demo(_) => anyhow::bail!("it is begun by main"),
        Command::Load(args) => load(args).await,
        Command::Query(args) => query(args).await,
        Command::Tables(place) => tables(&place).await,
        Command::Transform(args) => transform(&args).await,
        Command::Compact(place) => compact(&place).await,
        Command::Vacuum(args) => vacuum(args).await,
        Command::Enrich(args) => enrich(args).await,
        Command::Verify(args) => verify(args).await,
        Command::Erase(args) => crate::erase::run(args).await,
        Command::Export(args) => crate::export::run(args).await,
        Command::Import(args) => import(args).await,
        Command::Report(args) => crate::report::run(args).await,
        Command::Alerts(args) => crate::alerts::run(args).await,
        Command::Plan(Plan::Check(args)) => crate::plan::check(args).await,
        Command::Doctor(args) => crate::doctor::run(&args).await,
    }
}

async fn load(args: Load) -> Result<ExitCode> {
    let tables = place(&args.place)?;
    let _lock = LoaderLock::take(&tables)?;
    let options = Options { accepted: args.accept, ..Options::default() };
    let mut loader = Loader::open(&tables, &args.journal, options).await?;
    let counts = loader.load_all().await?;
    loader.save()?;
    println!(
        "{} loaded in {}; {} dropped as duplicates, {} of erased users and sessions",
        plural(counts.rows, "event"),
        plural(counts.commits, "commit"),
        counts.duplicates,
        counts.suppressed,
    );
    Ok(ExitCode::SUCCESS)
}

async fn query(mut args: Query) -> Result<ExitCode> {
    // `--journal A B "SELECT …"`: what stands last is the query.
    let sql = args.sql.take().or_else(|| args.journal.pop()?.into_os_string().into_string().ok());
    let sql = sql.context("there is no query; give one SELECT, EXPLAIN or SHOW")?;
    let tables = place(&args.place)?;
    let mut limits = Limits::new(tables.state());
    limits.time = args.time.unwrap_or(limits.time);
    limits.memory_bytes = args.memory.map_or(limits.memory_bytes, |mib| mib << 20);
    limits.rows = args.rows.unwrap_or(limits.rows);
    let ids = Ids::Files(tables.state().to_owned());
    let engine = Engine::open(&tables, args.journal, ids, Geo::default(), limits).await?;
    output::answer(&engine, &sql, &if args.masked { Role::masked() } else { Role::local() }, args.format)
        .await
}

async fn tables(args: &Place) -> Result<ExitCode> {
    let tables = place(args)?;
    let table = tables.open().await?;
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "{} at version {}", tables.events_url(), table.version().unwrap_or_default())?;
    writeln!(out, "{:<24} {:>14} {:>8} {:>16} {:>10}", "kind", "rows", "files", "bytes", "bytes/row")?;
    for (kind, rows, files, bytes) in verify::kinds(&table)? {
        let each = bytes as f64 / rows.max(1) as f64;
        writeln!(out, "{kind:<24} {rows:>14} {files:>8} {bytes:>16} {each:>10.1}")?;
    }
    for (name, rows, files, bytes) in verify::derived(&tables).await? {
        let each = bytes as f64 / rows.max(1) as f64;
        writeln!(out, "{name:<24} {rows:>14} {files:>8} {bytes:>16} {each:>10.1}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

async fn transform(args: &Transform) -> Result<ExitCode> {
    let tables = place(&args.place)?;
    let mut lease = Lease::take(&tables).await?;
    let ids = Ids::Files(tables.state().to_owned());
    let engine = Engine::open(&tables, Vec::new(), ids, Geo::default(), maintenance_limits(&tables)).await?;
    let done = transform::update(&tables, &mut lease, &engine, args.rebuild).await;
    lease.release().await;
    let done = done?;
    if done.is_empty() {
        println!("all tables are up to date");
    }
    for done in done {
        let (parts, rows) = (plural(done.parts, "part"), plural(done.rows, "row"));
        println!("{}: {parts} computed, {rows} written", done.table);
    }
    Ok(ExitCode::SUCCESS)
}

async fn compact(args: &Place) -> Result<ExitCode> {
    let tables = place(args)?;
    let mut lease = Lease::take(&tables).await?;
    let limits = maintenance_limits(&tables);
    let report = compact::compact(&tables, &mut lease, &compact::Options::default(), &limits).await;
    lease.release().await;
    let report = report?;
    println!(
        "{} of {} ({} bytes) became {} ({} bytes) with {}; {} dropped as duplicates",
        plural(report.files_before, "file"),
        plural(report.partitions, "partition"),
        report.bytes_before,
        report.files_after,
        report.bytes_after,
        plural(report.rows, "row"),
        report.duplicates,
    );
    Ok(ExitCode::SUCCESS)
}

async fn vacuum(args: Vacuum) -> Result<ExitCode> {
    let tables = place(&args.place)?;
    let mut lease = Lease::take(&tables).await?;
    let options = vacuum::Options {
        removed_for: args.removed_for,
        orphaned_for: args.orphaned_for,
        orphaned_before: None,
    };
    let report = vacuum::vacuum(&tables, &mut lease, &options).await;
    lease.release().await;
    let report = report?;
    println!("{} removed, {} bytes", plural(report.files, "file"), report.bytes);
    Ok(ExitCode::SUCCESS)
}

async fn enrich(args: Enrich) -> Result<ExitCode> {
    let tables = place(&args.place)?;
    let geo = args.geoip.as_deref().map(Geo::read).transpose()?.unwrap_or_default();
    let mut lease = Lease::take(&tables).await?;
    let options = enrich::Options { all: args.all, ..enrich::Options::default() };
    let report = enrich::rebuild(&tables, &mut lease, geo, &options, &maintenance_limits(&tables)).await;
    lease.release().await;
    let report = report?;
    println!(
        "{} computed anew in {}; {} bytes were written",
        plural(report.rows, "row"),
        plural(report.files, "file"),
        report.bytes_written,
    );
    Ok(ExitCode::SUCCESS)
}

async fn verify(args: Verify) -> Result<ExitCode> {
    let tables = place(&args.place)?;
    let report = verify::verify(&tables, &args.journal).await?;
    println!(
        "version {}: {} in the table; {} with {} in the journals up to its watermarks",
        report.version,
        plural(report.rows, "row"),
        plural(report.records, "record"),
        plural(report.events, "distinct event"),
    );
    if report.is_right() {
        println!("tables and journals agree");
        return Ok(ExitCode::SUCCESS);
    }
    report.damaged.iter().for_each(|file| println!("damaged: {file}"));
    println!("{} missing, {} doubled, {} not erased", report.missing, report.doubled, report.unerased);
    report.examples.iter().for_each(|example| println!("{example}"));
    Ok(ExitCode::FAILURE)
}

async fn import(args: Import) -> Result<ExitCode> {
    let tables = place(&args.place)?;
    let mut is_whole = true;
    for file in &args.files {
        let report = import::import(&tables, args.format, file).await?;
        println!(
            "{}: {} imported, {} there before, {} of erased users, {} rejected",
            file.display(),
            plural(report.imported, "event"),
            report.duplicates,
            report.suppressed,
            report.rejected,
        );
        report.examples.iter().for_each(|example| eprintln!("{example}"));
        is_whole &= report.rejected == 0;
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
