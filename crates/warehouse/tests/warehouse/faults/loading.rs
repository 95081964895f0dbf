//! Two loaders, late events, duplicates, newer fields, erasures while events arrive.

use std::path::Path;
use std::time::Duration;

use tickstream_schema::events::{Event, Message};
use tickstream_warehouse_core::loader::suppression::Subject;
use tickstream_warehouse_core::loader::{LoadError, Loader, Options};
use tickstream_warehouse_core::maintenance::erase::{self, Target};
use tickstream_warehouse_core::maintenance::{Lease, MaintenanceError, compact, verify};
use tickstream_warehouse_core::query::Limits;
use tickstream_warehouse_core::store::{LoaderLock, StoreError, Tables};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::common::{World, Writer, chain, click, options};

const COUNT: &str = "SELECT count(*), count(DISTINCT event_id) FROM events";
const DAY_NS: u64 = 86_400_000_000_000;

/// A loader that follows its journals until it is ended.
pub struct Following {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), LoadError>>,
}

impl Following {
    pub fn begin(mut loader: Loader) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task =
            tokio::spawn(async move { loader.follow(Duration::from_millis(10), stopped, |_, _| {}).await });
        Self { stop, task }
    }

    pub async fn end(self) -> Result<(), LoadError> {
        self.stop.send(true).unwrap();
        self.task.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_75_a_second_warehouse_says_who_holds_the_tables() {
    let world = World::new();
    let _held = LoaderLock::take(&world.tables).unwrap();
    let error = LoaderLock::take(&world.tables).unwrap_err();
    assert!(matches!(error, StoreError::Loading { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    let lease = Lease::take(&world.tables).await.unwrap();
    let error = Lease::take(&world.tables).await.unwrap_err();
    assert!(matches!(error, MaintenanceError::Held { .. }), "{error:?}");
    drop(lease);
    assert!(Lease::take(&world.tables).await.is_ok());
}

/// A server looks once a second who loads its journals, and removes segments until then.
#[tokio::test(flavor = "multi_thread")]
async fn segments_that_go_before_a_loader_is_noticed_are_no_gap() {
    const RECORDS: u64 = 60;
    const EVENTS: u64 = 100;
    let world = World::new();
    world.writer(0).append(vec![click("ada", "first")]);
    let options = Options { noticed_after: Duration::from_millis(500), ..options() };
    let mut loader = Loader::open(&world.tables, &[world.journals()], options).await.unwrap();
    loader.load_all().await.unwrap();
    let following = Following::begin(loader);
    // A journal that is new to the loader, of some segments.
    let path = world.journals().join("001");
    let made = world.directory.path().join("made");
    let mut writer = Writer::open(&made, 2);
    for _ in 0..RECORDS {
        writer.append((0..EVENTS).map(|_| click("ada", &"x".repeat(2_000))).collect());
    }
    let first_of = |path: &Path| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let firsts = std::fs::read_dir(&made).unwrap().filter_map(|file| first_of(&file.unwrap().path()));
    let mut firsts: Vec<_> = firsts.collect();
    firsts.sort_unstable();
    assert!(firsts.len() > 2, "{firsts:?}");
    std::fs::rename(&made, &path).unwrap();
    while !path.join("consumers/tables").exists() {
        assert!(!following.task.is_finished(), "{:?}", following.end().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for first in firsts.iter().rev().skip(1) {
        std::fs::remove_file(path.join(format!("{first:020}.journal"))).unwrap();
    }
    following.end().await.unwrap();
    let left = (RECORDS + 1 - firsts.last().unwrap()) * EVENTS;
    assert_eq!(world.query(false, "SELECT count(*) FROM events").await, [(1 + left).to_string()]);
}

/// Hosts with journals and state of their own load into the same tables.
#[tokio::test(flavor = "multi_thread")]
async fn fault_75_loaders_of_three_hosts_load_each_event_once() {
    let world = World::new();
    let uri = world.directory.path().join("tables");
    let shared: Vec<Event> = (0..40).map(|_| click("ada", "everywhere")).collect();
    let mut running = Vec::new();
    let mut writers = Vec::new();
    for host in 0..3_u8 {
        let state = world.directory.path().join(format!("state-{host}"));
        std::fs::create_dir(&state).unwrap();
        // One secret, so that a user is the same everywhere.
        if host > 0 {
            std::fs::copy(world.directory.path().join("state-0/identity.key"), state.join("identity.key"))
                .unwrap();
        }
        let tables = Tables::at(uri.to_str().unwrap(), Some(state)).unwrap();
        let journals = world.directory.path().join(format!("journals-{host}"));
        let mut writer = Writer::open(&journals.join("000"), host + 1);
        writer.append(vec![click("bob", "first")]);
        let loader = Loader::open(&tables, &[journals], options()).await.unwrap();
        running.push(Following::begin(loader));
        writers.push(writer);
    }
    for round in 0..20 {
        for writer in &mut writers {
            writer.append(shared[round * 2..round * 2 + 2].to_vec());
            writer.append(vec![click("eve", "own")]);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for loader in running {
        loader.end().await.unwrap();
    }
    assert_eq!(world.query(false, COUNT).await, ["103|103"]);
    assert_eq!(world.query(false, "SELECT count(DISTINCT user_id) FROM events").await, ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_81_a_field_of_a_newer_schema_is_kept() {
    let world = World::new();
    let mut writer = world.writer(0);
    let mut bytes = click("ada", "scroll").encode_to_vec();
    // Field 60, a text.
    bytes.extend_from_slice(&[0xE2, 0x03, 5]);
    bytes.extend_from_slice(b"later");
    // Field 3 of the batch is the event.
    let mut payload = Writer::batch().encode_to_vec();
    payload.extend_from_slice(&[0x1A, (bytes.len() & 0x7F | 0x80) as u8, (bytes.len() >> 7) as u8]);
    payload.extend_from_slice(&bytes);
    writer.append_payload(1, &payload);
    assert_eq!(world.load().await.rows, 1);
    let found = world.query(false, "SELECT json_text(raw_data, '_unknown'), action FROM events").await;
    assert_eq!(found, ["4gMFbGF0ZXI=|scroll"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_82_late_events_and_duplicates_count_once_in_their_window() {
    let world = World::new();
    let (mut one, mut other) = (world.writer(0), world.writer(1));
    let mut late = click("ada", "late");
    late.timestamp -= 29 * DAY_NS;
    let now = click("ada", "now");
    one.append(vec![now.clone()]);
    world.load().await;
    // Late, twice on one shard and once on another; what was loaded before comes again.
    one.append(vec![late.clone(), late.clone()]);
    other.append(vec![late.clone(), now.clone()]);
    world.load().await;
    other.append(vec![late.clone()]);
    world.load().await;
    let by_day = "SELECT date_trunc('day', timestamp), count(*) FROM events GROUP BY 1 ORDER BY 1";
    let found = world.query(true, by_day).await;
    assert_eq!(found, ["2026-10-30T00:00:00Z|1", "2026-11-28T00:00:00Z|1"]);
    // Compaction finds no second one either.
    let limits = Limits::new(world.tables.state());
    let mut lease = Lease::take(&world.tables).await.unwrap();
    let options = compact::Options { files_min: 2, ..compact::Options::default() };
    let report = compact::compact(&world.tables, &mut lease, &options, &limits).await.unwrap();
    assert_eq!((report.rows, report.duplicates), (2, 0));
    assert_eq!(world.query(true, by_day).await, found);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_83_a_user_erased_while_their_events_arrive_leaves_no_trace() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![click("ada-lovelace", "first"), click("bob", "first")]);
    let running = Following::begin(world.loader().await);
    let tables = world.tables.clone();
    let erasure = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let limits = Limits::new(tables.state());
        let target = Target { subject: Subject::User, identifier: "ada-lovelace".into() };
        let options = erase::Options { grace: Duration::from_millis(200), ..erase::Options::default() };
        let mut lease = Lease::take(&tables).await.unwrap();
        erase::erase(&tables, &mut lease, &target, &options, &limits).await
    });
    let mut bobs = 1;
    // Busy, then idle in between: the loader comes to the erasure's version both ways.
    for round in 0..40 {
        writer.append(vec![click("ada-lovelace", "again"), click("bob", "again")]);
        bobs += 1;
        tokio::time::sleep(Duration::from_millis(if round % 4 == 0 { 40 } else { 3 })).await;
    }
    let report = erasure.await.unwrap().unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(report.rows > 0 && report.files_searched > 0, "{report:?}");
    running.end().await.unwrap();
    assert_eq!(
        world.query(true, "SELECT count(*), count(DISTINCT user_id) FROM events").await,
        [format!("{bobs}|1")]
    );
    let report = verify::verify(&world.tables, &[world.journals()]).await.unwrap();
    assert!(report.is_right(), "{report:?}");
    assert_eq!(report.rows, bobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_83_an_idle_loader_respects_an_erasure() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![click("ada", "first"), click("bob", "first")]);
    let running = Following::begin(world.loader().await);
    let limits = Limits::new(world.tables.state());
    while world.query(false, COUNT).await != ["2|2"] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let target = Target { subject: Subject::User, identifier: "ada".into() };
    let at_once = erase::Options { grace: Duration::ZERO, ..erase::Options::default() };
    let mut lease = Lease::take(&world.tables).await.unwrap();
    erase::erase(&world.tables, &mut lease, &target, &at_once, &limits).await.unwrap();
    // It has gone to the newest version by then, without a conflict.
    tokio::time::sleep(Duration::from_millis(200)).await;
    writer.append(vec![click("ada", "later"), click("bob", "later")]);
    running.end().await.unwrap();
    assert_eq!(world.query(true, "SELECT action FROM events ORDER BY action").await, ["first", "later"]);
    assert_eq!(erase::count(&world.tables, &target, &limits).await.unwrap().rows, 0);
    // A loader that begins with the older list would bring the user back.
    let list = world.tables.state().join("suppressed.json");
    std::fs::remove_file(&list).unwrap();
    let error = Loader::open(&world.tables, &[world.journals()], options()).await.unwrap_err();
    assert!(matches!(error, LoadError::OldList { .. }), "{}", chain(&error));
}

/// Makes the table as another version of the program would: without a column, and with another one.
fn change_columns(world: &World, without: &str, with: &str) {
    let path = world.directory.path().join("tables/events/_delta_log/00000000000000000000.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| {
        let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
        if let Some(schema) = action.pointer_mut("/metaData/schemaString") {
            let mut columns: serde_json::Value = serde_json::from_str(schema.as_str().unwrap()).unwrap();
            let fields = columns["fields"].as_array_mut().unwrap();
            fields.retain(|field| field["name"] != without);
            let mut new = fields[0].clone();
            (new["name"], new["type"], new["nullable"]) = (with.into(), "string".into(), true.into());
            fields.push(new);
            *schema = columns.to_string().into();
        }
        action.to_string()
    });
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_88_a_table_of_another_version_is_extended_and_loses_no_column() {
    let world = World::new();
    world.tables.open_or_create().await.unwrap();
    change_columns(&world, "video_id", "from_the_future");
    let error = world.tables.open().await.unwrap_err();
    assert!(error.to_string().contains("video_id"), "{error}");
    let mut writer = world.writer(0);
    for action in ["one", "two", "three"] {
        writer.append(vec![click("ada", action)]);
        world.load().await;
    }
    let limits = Limits::new(world.tables.state());
    let mut lease = Lease::take(&world.tables).await.unwrap();
    let merged = compact::Options { files_min: 2, ..compact::Options::default() };
    let report = compact::compact(&world.tables, &mut lease, &merged, &limits).await.unwrap();
    assert_eq!((report.files_after, report.rows), (1, 3));
    let table = world.tables.open().await.unwrap();
    let columns = table.snapshot().unwrap().snapshot().arrow_schema();
    assert!(columns.field_with_name("video_id").is_ok());
    // What a newer version wrote into its column is in the new files, too.
    let files: Vec<_> = table.get_file_uris().unwrap().collect();
    let file = std::fs::File::open(files[0].trim_start_matches("file://")).unwrap();
    let file =
        deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert!(file.schema().field_with_name("from_the_future").is_ok());
    let found = world.query(true, "SELECT action, video_id FROM events ORDER BY action").await;
    assert_eq!(found, ["one|null", "three|null", "two|null"]);
}
