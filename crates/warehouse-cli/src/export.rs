//! `export`: all of a user, or the costs for other programs.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use futures::StreamExt;
use tickstream_insights::filters::{Filters, Parameters, now};
use tickstream_insights::focus;
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Format, Role};
use tickstream_warehouse_core::store::Secret;

use crate::args::Export;
use crate::output;
use crate::place::{maintenance_limits, place};

/// Usual period of costs, days.
const DAYS: f64 = 30.0;

/// Writes what is asked for to standard output.
///
/// # Errors
/// If the tables can't be read.
pub async fn run(args: Export) -> Result<ExitCode> {
    let tables = place(&args.place)?;
    let (ids, limits) = (Ids::Files(tables.state().to_owned()), maintenance_limits(&tables));
    let engine = Engine::open(&tables, args.journal, ids, Geo::default(), limits).await?;
    let Some(user) = args.user else {
        let filters = Filters::read(&Parameters::parse(&args.filters), DAYS, now());
        return output::answer(&engine, &focus::sql(&filters), &Role::local(), Format::Csv).await;
    };
    let secret = Secret::open_or_create(tables.state())?;
    let mapped = secret.namespace().map(user.as_bytes());
    let user = std::str::from_utf8(&mapped).context("a UUID is a text")?;
    let sql = format!("SELECT raw_data FROM events WHERE user_id = '{user}' ORDER BY timestamp_ns");
    let mut answer = engine.query(&sql, &Role::local()).await?;
    output::write(async |mut out| {
        while let Some(batch) = answer.next().await {
            for line in tickstream_warehouse_core::query::format::texts(&batch?, 0)? {
                writeln!(out, "{line}")?;
            }
        }
        Ok(out.flush()?)
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}
