//! `erase`: rows of a person, or of a condition, wherever they are.

use std::process::ExitCode;

use anyhow::{Context, Result};
use tickstream_warehouse_core::loader::suppression::Subject;
use tickstream_warehouse_core::maintenance::Lease;
use tickstream_warehouse_core::maintenance::erase::{self, Options, Report, Target};
use tickstream_warehouse_core::mirror::{self, ClickHouse};
use tickstream_warehouse_core::store::Tables;

use crate::args::{Erase, Person};
use crate::output::plural;
use crate::place::{maintenance_limits, place};

/// Erases, or counts in a dry run.
///
/// # Errors
/// If a step fails; begin again then: all steps can be repeated.
pub async fn run(args: Erase) -> Result<ExitCode> {
    let tables = place(&args.place)?;
    let options = Options { grace: args.grace, ..Options::default() };
    let clickhouse = args.clickhouse.as_deref().map(ClickHouse::at).transpose()?;
    match target(&args.person) {
        Some(target) => person(&args, &tables, &target, &options, clickhouse.as_ref()).await?,
        None => condition(&args, &tables, &options, clickhouse.is_some()).await?,
    }
    if !args.dry_run && !args.journal.is_empty() {
        println!(
            "the journals keep such events until their retention removes the segments; they aren't loaded again"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn target(person: &Person) -> Option<Target> {
    let identifiers = [
        (Subject::User, &person.user),
        (Subject::Session, &person.session),
        (Subject::Device, &person.device),
    ];
    let given = identifiers.into_iter().find_map(|(subject, given)| Some((subject, given.clone()?)));
    given.map(|(subject, identifier)| Target { subject, identifier })
}

async fn person(
    args: &Erase,
    tables: &Tables,
    target: &Target,
    options: &Options,
    clickhouse: Option<&ClickHouse>,
) -> Result<()> {
    let limits = maintenance_limits(tables);
    if args.dry_run {
        counted(&erase::count(tables, target, &limits).await?);
        return Ok(());
    }
    let mut lease = Lease::take(tables).await?;
    let erased = async {
        let report = erase::erase(tables, &mut lease, target, options, &limits).await?;
        if let Some(clickhouse) = clickhouse {
            // After the grace: what the mirror read before the erasure is inserted by now.
            let id = erase::mapped(tables, target)?;
            mirror::erase(clickhouse, target.subject.column(), &id).await?;
        }
        anyhow::Ok(report)
    };
    let erased = erased.await;
    lease.release().await;
    let report = erased?;
    println!(
        "{} erased; {} with {} bytes rewritten as {} bytes; {} removed; {} searched, the identifier is in none",
        plural(report.rows, "row"),
        plural(report.files, "file"),
        report.bytes,
        report.bytes_written,
        plural(report.files_removed, "old file"),
        plural(report.files_searched, "file"),
    );
    Ok(())
}

async fn condition(args: &Erase, tables: &Tables, options: &Options, has_mirror: bool) -> Result<()> {
    let condition =
        args.person.condition.as_deref().context("name a user, a session, a device or a condition")?;
    if has_mirror && !args.dry_run {
        anyhow::bail!("a condition isn't translated for ClickHouse: delete there by ALTER TABLE … DELETE");
    }
    let limits = maintenance_limits(tables);
    let mut lease = Lease::take(tables).await?;
    let erased = erase::erase_where(tables, &mut lease, condition, args.dry_run, options, &limits).await;
    lease.release().await;
    let report = erased?;
    if args.dry_run {
        counted(&report);
        return Ok(());
    }
    println!(
        "{} erased; {} with {} bytes rewritten as {} bytes; {} removed",
        plural(report.rows, "row"),
        plural(report.files, "file"),
        report.bytes,
        report.bytes_written,
        plural(report.files_removed, "old file"),
    );
    Ok(())
}

fn counted(report: &Report) {
    println!(
        "{} in {} with {} bytes would be erased; nothing was changed",
        plural(report.rows, "row"),
        plural(report.files, "file"),
        report.bytes
    );
}
