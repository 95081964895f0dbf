//! `plan check`: the events of the tables beside the tracking plan.

use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tickstream_insights::ask::Asker;
use tickstream_insights::filters::{Filters, Parameters};
use tickstream_insights::plan::{Plan, STANDARD};
use tickstream_warehouse_core::query::Role;

use crate::args::PlanCheck;
use crate::commands::plural;
use crate::report::engine;

/// Compares, and prints what is missing.
///
/// # Errors
/// If the plan or the tables can't be read.
pub async fn check(args: PlanCheck) -> Result<ExitCode> {
    let text = match &args.plan {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
        None => STANDARD.to_owned(),
    };
    let plan = Plan::read(&text).context("reading the plan")?;
    let engine = engine(&args.place, Vec::new()).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as i64;
    let filters = Filters::read(&Parameters::default(), args.days, now);
    let role = Role::local();
    let check = plan.check(Asker::new(&engine, &role), &filters).await?;
    let mut out = std::io::stdout().lock();
    for (rule, events, missing) in &check.rules {
        writeln!(out, "{rule}: {}", plural(*events, "event"))?;
        for (path, count) in missing {
            writeln!(out, "  {} without {path}", plural(*count, "event"))?;
        }
    }
    for (item, kinds) in &check.items {
        writeln!(out, "{item} has no data: there is no event of type {}", kinds.join(", "))?;
    }
    Ok(if check.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
