//! Derived tables: updates of what changed leave the rows of a rebuild, and those of an independent computation.

mod chance;
mod rebuild;
mod tables;

use std::path::Path;
use std::time::Duration;

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tickstream_insights::filters::{DAY, time_text};
use tickstream_insights::transform;
use tickstream_schema::events::Event;
use tickstream_schema::json::parse_event;
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::import::import_events;
use tickstream_warehouse_core::loader::suppression::Subject;
use tickstream_warehouse_core::maintenance::erase::{self, Target};
use tickstream_warehouse_core::maintenance::{Lease, compact};
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits, Role};
use tickstream_warehouse_core::store::Tables;

use crate::world::NOW;

/// Midnight of the first of the random days.
const START: i64 = NOW / DAY * DAY - 6 * DAY;
pub const MINUTE: i64 = 60_000_000_000;
/// All rows of each derived table.
const TABLES: [&str; 5] = [
    "SELECT * FROM user_identities ORDER BY id",
    "SELECT * FROM user_sessions ORDER BY person, begin_ns",
    "SELECT * FROM error_days ORDER BY day, group_id, service, \"release\"",
    "SELECT * FROM error_tracking ORDER BY group_id",
    "SELECT * FROM cost_analysis ORDER BY timestamp_ns, event_id, owner",
];

struct Store {
    directory: TempDir,
    tables: Tables,
    imports: u8,
    /// Events that an update has in memory.
    events_max: u64,
}

impl Store {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tables = Tables::at(directory.path().join("tables").to_str().unwrap(), None).unwrap();
        Self { directory, tables, imports: 0, events_max: transform::EVENTS_MAX }
    }

    /// A copy of all files.
    fn copy(&self) -> Self {
        let copy = Self::new();
        copy_all(&self.directory.path().join("tables"), &copy.directory.path().join("tables"));
        copy
    }

    async fn load(&mut self, events: Vec<Event>) {
        self.imports += 1;
        let report = import_events(&self.tables, events.into_iter(), [self.imports; 16]).await.unwrap();
        assert_eq!(report.rejected, 0, "{report:?}");
    }

    async fn engine(&self) -> Engine {
        let ids = Ids::Files(self.tables.state().to_owned());
        Engine::open(&self.tables, Vec::new(), ids, Geo::default(), Limits::new(self.tables.state()))
            .await
            .unwrap()
    }

    async fn update(&self, is_rebuild: bool) -> Vec<transform::Done> {
        let mut lease = Lease::take(&self.tables).await.unwrap();
        let engine = self.engine().await;
        transform::update_within(&self.tables, &mut lease, &engine, is_rebuild, self.events_max)
            .await
            .unwrap()
    }

    async fn erase(&self, subject: Subject, identifier: &str) {
        let target = Target { subject, identifier: identifier.to_owned() };
        let options = erase::Options { grace: Duration::ZERO, ..erase::Options::default() };
        let limits = Limits::new(self.tables.state());
        let mut lease = Lease::take(&self.tables).await.unwrap();
        erase::erase(&self.tables, &mut lease, &target, &options, &limits).await.unwrap();
    }

    async fn compact(&self) {
        let options = compact::Options { files_min: 2, ..compact::Options::default() };
        let mut lease = Lease::take(&self.tables).await.unwrap();
        compact::compact(&self.tables, &mut lease, &options, &Limits::new(self.tables.state()))
            .await
            .unwrap();
    }

    /// Rows of all derived tables.
    async fn rows(&self) -> Vec<Vec<String>> {
        let engine = self.engine().await;
        let mut all = Vec::new();
        for sql in TABLES {
            all.push(lines(&engine, sql, &Role::local()).await);
        }
        all
    }
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), place).unwrap();
        }
    }
}

async fn lines(engine: &Engine, sql: &str, role: &Role) -> Vec<String> {
    let answer = engine.query(sql, role).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let options = FormatOptions::default().with_null("null");
    let mut lines = Vec::new();
    for batch in answer.collect().await.unwrap() {
        let formatter = |column| ArrayFormatter::try_new(column, &options).unwrap();
        let columns: Vec<_> = batch.columns().iter().map(|column| formatter(column.as_ref())).collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<_> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(cells.join("|"));
        }
    }
    lines
}

/// An event of a kind; the same number has the same id.
pub fn event(number: u32, time: i64, kind: &str, name: &str, more: &Value) -> Event {
    let mut event = json!({"event_id": format!("e7000000-0000-8000-8000-{number:012x}"), "timestamp": time_of(time),
        "platform": "web", "event_type": kind, "event_name": name});
    for (key, value) in more.as_object().unwrap() {
        event[key] = value.clone();
    }
    parse_event(&event.to_string()).unwrap_or_else(|error| panic!("{event}: {error:?}"))
}

fn time_of(ns: i64) -> String {
    format!("{}.{:09}Z", &time_text(ns)[..19], ns.rem_euclid(1_000_000_000))
}

fn click(number: u32, time: i64, who: &Value) -> Event {
    let mut more = json!({"user_interaction": {"properties": {"screen_name": (["home", "film", "pay"][number as usize % 3]),
        "action": "tap"}}});
    for (key, value) in who.as_object().unwrap() {
        more[key] = value.clone();
    }
    if number.is_multiple_of(5) {
        more["revenue"] = json!({"amount": f64::from(number % 7) + 0.1, "currency": "EUR"});
    }
    event(number, time, "user_interaction", ["viewed", "bought"][number as usize % 2], &more)
}

pub fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().unwrap() {
        into[key] = value.clone();
    }
}
