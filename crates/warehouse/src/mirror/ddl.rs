//! Tables of the mirror: the required one verbatim, one for questions about users, and one for each kind.

use datafusion::arrow::datatypes::{DataType, Field};

use crate::query::views::VIEWS;
use crate::query::{Engine, QueryError, guard};

/// Inserts whose tokens a table remembers.
const TOKENS: u32 = 10_000;

/// Columns of the required table, and what is selected for each. Identifiers that are absent are the nil UUID.
const EVENTS: [(&str, &str, &str); 12] = [
    ("event_id", "UUID", "event_id"),
    ("timestamp", "DateTime64(9)", "to_timestamp_nanos(timestamp_ns)"),
    ("platform", "LowCardinality(String)", "platform"),
    ("event_type", "LowCardinality(String)", "event_type"),
    ("event_name", "String", "event_name"),
    ("session_id", "UUID", "coalesce(session_id, '00000000-0000-0000-0000-000000000000')"),
    ("user_id", "UUID", "coalesce(user_id, '00000000-0000-0000-0000-000000000000')"),
    ("properties", "JSON", "properties"),
    ("context", "JSON", "context"),
    ("raw_data", "String", "raw_data"),
    ("processed_at", "DateTime64(9)", "arrow_cast(processed_at, 'Timestamp(Nanosecond, Some(\"UTC\"))')"),
    ("_partition_key", "String", "_partition_key"),
];

/// Columns of views that ClickHouse has a better type for than text.
const UUIDS: [&str; 3] = ["event_id", "session_id", "user_id"];
const SET: [&str; 4] = ["platform", "event_type", "service", "level"];

/// One table.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Columns with their types.
    columns: Vec<(String, String)>,
    order: &'static str,
    /// Query of its rows, up to WHERE.
    pub select: String,
}

impl Target {
    /// CREATE TABLE.
    pub fn create(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(|(name, kind)| format!("    {name} {kind}")).collect();
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n{}\n) ENGINE = MergeTree()\nPARTITION BY toYYYYMM(timestamp)\n\
             ORDER BY {}\nSETTINGS non_replicated_deduplication_window = {TOKENS}\nCOMMENT 'tickstream'",
            self.name,
            columns.join(",\n"),
            self.order
        )
    }

    /// ALTER TABLE that adds the columns which the table of an earlier version lacks.
    pub fn add_columns(&self) -> String {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|(name, kind)| format!("    ADD COLUMN IF NOT EXISTS {name} {kind}"))
            .collect();
        format!("ALTER TABLE {}\n{}", self.name, columns.join(",\n"))
    }

    /// INSERT of Parquet.
    pub fn insert(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        format!("INSERT INTO {} ({}) FORMAT Parquet", self.name, columns.join(", "))
    }
}

/// All tables of the mirror.
///
/// # Errors
/// If a view can't be planned.
pub async fn targets(engine: &Engine) -> Result<Vec<Target>, QueryError> {
    let mut targets = vec![
        events("events", "(timestamp, event_type, event_id)"),
        events("events_by_user", "(user_id, timestamp, event_id)"),
    ];
    for view in &VIEWS {
        let plan = engine.plan(guard::admit(&format!("SELECT * FROM {}", view.name))?).await?;
        let fields = plan.schema().fields().iter();
        let columns: Vec<_> = fields
            .filter(|field| !PLACES.contains(&field.name().as_str()))
            .map(|field| column(field))
            .collect();
        let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
        targets.push(Target {
            name: view.name.to_owned(),
            select: format!("SELECT {} FROM {}", names.join(", "), view.name),
            columns,
            order: "(timestamp, event_id)",
        });
    }
    Ok(targets)
}

/// Columns of views that say where an event came from.
const PLACES: [&str; 3] = ["journal", "sequence", "batch_index"];

fn events(name: &str, order: &'static str) -> Target {
    let columns = EVENTS.iter().map(|(name, kind, _)| ((*name).to_owned(), (*kind).to_owned())).collect();
    let selected: Vec<_> = EVENTS.iter().map(|(name, _, from)| format!("{from} AS {name}")).collect();
    Target {
        name: name.to_owned(),
        columns,
        order,
        select: format!("SELECT {} FROM events", selected.join(", ")),
    }
}

fn column(field: &Field) -> (String, String) {
    let name = field.name().as_str();
    let kind = match field.data_type() {
        DataType::Timestamp(..) => "DateTime64(9)",
        DataType::Float64 => "Float64",
        DataType::Int64 => "Int64",
        DataType::Int32 => "Int32",
        DataType::Boolean => "Bool",
        _ if UUIDS.contains(&name) => "UUID",
        _ => "String",
    };
    let kind = match name {
        "event_id" | "timestamp" | "timestamp_ns" => kind.to_owned(),
        _ if SET.contains(&name) => format!("LowCardinality(Nullable({kind}))"),
        _ => format!("Nullable({kind})"),
    };
    (name.to_owned(), kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_made_or_gets_the_columns_that_it_lacks() {
        let target = events("events", "(timestamp, event_type, event_id)");
        let (create, add) = (target.create(), target.add_columns());
        assert!(create.starts_with("CREATE TABLE IF NOT EXISTS events (\n    event_id UUID,\n"), "{create}");
        assert!(create.contains("    properties JSON,\n") && !create.contains("ADD COLUMN"), "{create}");
        assert!(
            add.starts_with("ALTER TABLE events\n    ADD COLUMN IF NOT EXISTS event_id UUID,\n"),
            "{add}"
        );
        assert!(add.ends_with(",\n    ADD COLUMN IF NOT EXISTS _partition_key String"), "{add}");
        assert_eq!(add.matches("ADD COLUMN IF NOT EXISTS ").count(), EVENTS.len());
    }
}
