//! Aggregates by minute that are kept up to date: counts, uniques and quantiles over kind, name, platform, service, version
//! and country.
//!
//! The table `aggregates` has one part for each hour of the events' own time. Commits to the table of events make minutes
//! dirty: late events, erasures and retention as well as new events. Dirty minutes are computed anew, and their hours
//! exchanged whole, in one commit that also notes the version up to which commits were looked at. So what is kept equals a
//! rebuild.

use std::sync::Arc;

use deltalake::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Name of the table.
pub const NAME: &str = "aggregates";
/// Column of its parts: the hour as seconds since 1970.
pub const HOUR: &str = "hour_s";
/// Columns of the table.
pub fn schema() -> SchemaRef {
    let mut fields = file_fields();
    fields.push(Field::new(HOUR, DataType::Int64, false));
    Arc::new(Schema::new(fields))
}

/// Columns that are in the files.
pub fn file_fields() -> Vec<Field> {
    let text = |name| Field::new(name, DataType::Utf8, true);
    vec![
        Field::new("minute", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        text("event_type"),
        text("event_name"),
        text("platform"),
        text("service"),
        text("app_version"),
        text("country"),
        Field::new("events", DataType::Int64, false),
        Field::new("users", DataType::Binary, false),
        Field::new("numbers", DataType::Binary, false),
    ]
}
