//! Enrichment of stored rows, computed anew.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, new_null_array};
use tickstream_schema::events::{Body, Event, Message, Page, Revenue, Sender, SpanKind, StoredBatch};
use tickstream_warehouse_core::events::Rows;
use tickstream_warehouse_core::events::columns::PROMOTED_LATER;
use tickstream_warehouse_core::events::enrichment::{COLUMNS, Geo, VERSION};
use tickstream_warehouse_core::events::rows::{Filter, Origin};
use tickstream_warehouse_core::maintenance::enrich::{self, Options};
use tickstream_warehouse_core::maintenance::{Lease, verify};
use tickstream_warehouse_core::query::Limits;
use tickstream_warehouse_core::store::commit::Changes;
use tickstream_warehouse_core::store::parquet::FileBuilder;
use tickstream_warehouse_core::store::{Secret, Tables, commit};

use crate::common::faulty::Faulty;
use crate::common::{NOW, World, Writer, click, dead_letter, span};

const VALUES: &str =
    "SELECT DISTINCT country, city, device_type, os, browser, channel, enrichment FROM events";
const AGENT: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36";

struct All;

impl Filter for All {
    fn admits(&mut self, _id: &[u8; 16], _user: &[u8], _session: &[u8]) -> bool {
        true
    }
}

fn visit(user: &str) -> Event {
    let sender = Sender { user_agent: AGENT.into(), ..Sender::default() };
    let page = Page {
        url: "https://shop.example/\"é\"".into(),
        referrer: "https://www.google.com/".into(),
        ..Page::default()
    };
    Event { sender: Some(sender), page: Some(page), ..click(user, "scroll") }
}

/// Commits events as a program before the first enrichment did.
async fn store_unenriched(world: &World, batch: StoredBatch) {
    let mut table = world.tables.open_or_create().await.unwrap();
    let secret = Secret::open_or_create(world.tables.state()).unwrap();
    let mut rows = Rows::new(secret.namespace(), Geo::default(), NOW.unix_ns);
    let origin = Origin { journal: "before", journal_id: [9; 16], sequence: 1 };
    rows.push_record(&origin, &batch.encode_to_vec(), &mut All).unwrap();
    let mut adds = Vec::new();
    for (key, rows) in rows.take().unwrap() {
        let mut file = FileBuilder::of_new_rows(key).unwrap();
        file.push(&unenriched(&rows)).unwrap();
        adds.push(file.finish().unwrap().store(&table.object_store(), true).await.unwrap());
    }
    commit(&mut table, Changes { adds, ..Changes::default() }, "before").await.unwrap();
}

fn unenriched(rows: &RecordBatch) -> RecordBatch {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| -> ArrayRef {
        match field.name().as_str() {
            "enrichment" => Arc::new(Int32Array::from(vec![0; rows.num_rows()])),
            name if COLUMNS.contains(&name) || PROMOTED_LATER.iter().any(|(later, _)| *later == name) => {
                new_null_array(field.data_type(), rows.num_rows())
            }
            _ => column.clone(),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

async fn rebuild(tables: &Tables, options: &Options) -> Option<enrich::Report> {
    let mut lease = Lease::take(tables).await.ok()?;
    let limits = Limits::new(tables.state());
    enrich::rebuild(tables, &mut lease, Geo::default(), options, &limits).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_older_enrichment_are_computed_anew_in_place() {
    let world = World::new();
    let letters = vec![dead_letter(&visit("eve"))];
    let events = (0..3).map(|_| visit("ada")).collect();
    store_unenriched(&world, StoredBatch { events, dead_letters: letters, ..Writer::batch() }).await;
    let mut writer = world.writer(0);
    writer.append(vec![visit("bob"), visit("bob")]);
    world.load().await;
    let enriched = format!("null|null|desktop|Windows 10|Chrome|Organic Search|{VERSION}");
    let mut found = world.query(false, VALUES).await;
    found.sort();
    assert_eq!(found, [enriched.as_str(), "null|null|null|null|null|null|0"]);
    // The dead letter, too, has a version then.
    let report = rebuild(&world.tables, &Options::default()).await.unwrap();
    assert_eq!((report.rows, report.files), (4, 2));
    assert_eq!(world.query(false, VALUES).await, [enriched.as_str()]);
    assert_eq!(rebuild(&world.tables, &Options::default()).await.unwrap().rows, 0);
    let all = Options { all: true, ..Options::default() };
    assert_eq!(rebuild(&world.tables, &all).await.unwrap().rows, 6);
    assert_eq!(world.query(false, VALUES).await, [enriched.as_str()]);
    // The loader goes on above it, and takes none of them for new.
    writer.append(vec![visit("bob")]);
    world.load().await;
    assert_eq!(world.query(false, "SELECT count(*), count(DISTINCT event_id) FROM events").await, ["6|6"]);
}

/// Columns that were promoted after rows were stored are filled from the stored event.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_came_later_are_filled() {
    let world = World::new();
    let mut server = span("shop", 7, 12.5);
    if let Some(Body::TraceSpan(span)) = &mut server.body {
        span.kind = SpanKind::Server.into();
    }
    let revenue = Revenue { amount: Some(9.5), currency: "EUR".into(), ..Revenue::default() };
    let events = vec![server, Event { revenue: Some(revenue), ..click("ada", "buy") }, click("ada", "look")];
    store_unenriched(&world, StoredBatch { events, ..Writer::batch() }).await;
    const SPANS: &str = "SELECT kind FROM spans";
    const CURRENCIES: &str = "SELECT action, currency FROM client_events ORDER BY action";
    assert_eq!(world.query(false, SPANS).await, ["null"]);
    assert_eq!(rebuild(&world.tables, &Options::default()).await.unwrap().rows, 3);
    assert_eq!(world.query(false, SPANS).await, ["server"]);
    assert_eq!(world.query(false, CURRENCIES).await, ["buy|EUR", "look|null"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_74_a_rebuild_that_is_killed_at_any_step_goes_on_and_changes_no_row() {
    let world = World::new();
    let mut writer = world.writer(0);
    for _ in 0..3 {
        writer.append(vec![visit("ada"), visit("bob")]);
        world.load().await;
    }
    let (mut rows, mut deaths) = (6, 0);
    for operations in 0..60 {
        let version = VERSION + 1 + operations;
        let options = Options { version, ..Options::default() };
        let store = Faulty::new(i64::from(operations), operations % 2 == 0);
        let uri = world.directory.path().join("tables");
        let dying = Tables::with_store(uri.to_str().unwrap(), None, Arc::new(store.clone())).unwrap();
        let _ = rebuild(&dying, &options).await;
        if operations % 6 == 0 {
            // A loader comes between.
            writer.append(vec![visit("eve")]);
            world.load().await;
            rows += 1;
        }
        rebuild(&world.tables, &options).await.unwrap();
        let versions = world.query(false, "SELECT DISTINCT enrichment FROM events").await;
        assert_eq!(versions, [version.to_string()], "{operations} operations");
        let report = verify::verify(&world.tables, &[world.journals()]).await.unwrap();
        assert!(report.is_right() && report.rows == rows, "{operations} operations: {report:?}");
        if !store.has_died() {
            assert!(deaths > 4, "{deaths}");
            return;
        }
        deaths += 1;
    }
    panic!("a rebuild takes more than 60 operations");
}
