//! `report`: a team's page as a file on standard output.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use tickstream_insights::ask::Asker;
use tickstream_insights::{pages, teams};
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits, Role};

use crate::args::{Place, Report};
use crate::commands::place;

/// An engine over the tables and the tails of `journals`.
///
/// # Errors
/// If there are no tables.
pub async fn engine(at: &Place, journals: Vec<std::path::PathBuf>) -> Result<Engine> {
    let tables = place(at)?;
    let ids = Ids::Files(tables.state().to_owned());
    let limits = Limits::new(tables.state());
    Ok(Engine::open(&tables, journals, ids, Geo::default(), limits).await?)
}

/// Writes the report.
///
/// # Errors
/// If there is no such team, or a question has no answer.
pub async fn run(args: Report) -> Result<ExitCode> {
    let team = teams::team(&args.team).with_context(|| {
        let names: Vec<_> = teams::TEAMS.iter().map(|team| team.name).collect();
        format!("there is no team {:?}; there are {}", args.team, names.join(", "))
    })?;
    let engine = engine(&args.place, args.journal).await?;
    let role = if args.masked { Role::masked() } else { Role::local() };
    let report = pages::report(Asker::new(&engine, &role), team, &args.filters, args.format).await?;
    let mut out = std::io::stdout().lock();
    out.write_all(report.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
