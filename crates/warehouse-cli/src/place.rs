//! Where the tables are, as the command line says.

use std::time::Duration;

use anyhow::Result;
use tickstream_warehouse_core::query::Limits;
use tickstream_warehouse_core::store::Tables;

use crate::args::Place;

/// The tables at a place.
///
/// # Errors
/// If it is none.
pub fn place(place: &Place) -> Result<Tables> {
    Ok(Tables::at(&place.tables, place.state.clone())?)
}

/// Maintenance reads whole files, for as long as it takes.
pub fn maintenance_limits(tables: &Tables) -> Limits {
    let mut limits = Limits::new(tables.state());
    limits.time = Duration::from_secs(24 * 3600);
    limits.rows = u64::MAX;
    limits
}
