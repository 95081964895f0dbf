//! Stores that fail now and then, are full, or list what was there before.

use std::sync::Arc;
use std::time::Duration;

use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::loader::Loader;
use tickstream_warehouse_core::maintenance::{Lease, compact, vacuum, verify};
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits, QueryError, Role};
use tickstream_warehouse_core::store::Tables;

use super::loading::Following;
use crate::common::faulty::Faulty;
use crate::common::{World, chain, click, lines, options};

const COUNT: &str = "SELECT count(*), count(DISTINCT event_id) FROM events";
/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

fn tables_on(world: &World, store: &Faulty) -> Tables {
    let uri = world.directory.path().join("tables");
    Tables::with_store(uri.to_str().unwrap(), None, Arc::new(store.clone())).unwrap()
}

async fn wait_for(world: &World, sql: &str, expected: &str) {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let found = world.query(false, sql).await;
        if found == [expected] {
            return;
        }
        assert!(std::time::Instant::now() < until, "{found:?} instead of {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn loads_beside_compaction_on(store: Faulty) {
    let world = World::new();
    world.tables.open_or_create().await.unwrap();
    let mut writer = world.writer(0);
    writer.append(vec![click("ada", "first")]);
    let tables = tables_on(&world, &store);
    let loader = loop {
        match Loader::open(&tables, &[world.journals()], options()).await {
            Ok(loader) => break loader,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let running = Following::begin(loader);
    let limits = Limits::new(tables.state());
    let merged = compact::Options { files_min: 3, ..compact::Options::default() };
    let ages = vacuum::Options {
        removed_for: Duration::from_secs(60),
        orphaned_for: Duration::from_secs(60),
        orphaned_before: None,
    };
    for round in 0..40 {
        let again = click("ada", "again");
        writer.append(vec![again.clone(), click("bob", "scroll"), again]);
        tokio::time::sleep(Duration::from_millis(5)).await;
        if round % 5 == 4
            && let Ok(mut lease) = Lease::take(&tables).await
        {
            let _ = compact::compact(&tables, &mut lease, &merged, &limits).await;
            let _ = vacuum::vacuum(&tables, &mut lease, &ages).await;
        }
    }
    wait_for(&world, COUNT, "81|81").await;
    // The last load may fail, too.
    let _ = running.end().await;
    let report = verify::verify(&world.tables, &[world.journals()]).await.unwrap();
    assert!(report.is_right() && report.rows == 81, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_76_a_store_that_fails_now_and_then_loses_and_doubles_nothing() {
    for every in [23, 31] {
        loads_beside_compaction_on(Faulty::failing_each(every)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_76_a_store_with_stale_lists_loses_and_doubles_nothing() {
    loads_beside_compaction_on(Faulty::stale(Duration::from_millis(100))).await;
}

/// Time that a query waits for a loader, at least, before it reads the journals itself.
const LOADER_PATIENCE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_query_has_what_came_while_a_commit_waits_for_its_store() {
    const ROUNDS: usize = 8;
    let world = World::new();
    let store = Faulty::held();
    let tables = tables_on(&world, &store);
    let mut writer = world.writer(0);
    let first = click("ada", "first");
    writer.append(vec![first.clone()]);
    let loader = Loader::open(&tables, &[world.journals()], options()).await.unwrap();
    let ids = Ids::Shared(loader.shared());
    let limits = Limits::new(world.tables.state());
    let engine = Engine::open(&world.tables, vec![world.journals()], ids, Geo::default(), limits);
    let engine = engine.await.unwrap();
    let running = Following::begin(loader);
    wait_for(&world, COUNT, "1|1").await;
    // From the second query on, the loader keeps its rows for queries.
    for _ in 0..2 {
        assert_eq!(lines(&engine, COUNT, &Role::local()).await, ["1|1"]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store.hold(true);
    let begun = std::time::Instant::now();
    let again = click("ada", "again");
    for round in 0..ROUNDS {
        // The second batch comes while the first one is being committed.
        writer.append(vec![first.clone(), again.clone(), click("bob", "new")]);
        let found = lines(&engine, COUNT, &Role::local()).await;
        assert_eq!(found, [format!("{0}|{0}", 3 + round)], "round {round}");
    }
    let patience = LOADER_PATIENCE * (ROUNDS - 1) as u32;
    assert!(begun.elapsed() < patience, "queries waited for the commit: {:?}", begun.elapsed());
    assert_eq!(world.query(false, COUNT).await, ["1|1"]);
    store.hold(false);
    wait_for(&world, COUNT, &format!("{0}|{0}", 2 + ROUNDS)).await;
    running.end().await.unwrap();
    let report = verify::verify(&world.tables, &[world.journals()]).await.unwrap();
    assert!(report.is_right() && report.rows == 2 + ROUNDS as u64, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_79_loading_resumes_when_a_full_disk_has_room_again() {
    let world = World::new();
    let store = Faulty::bounded();
    let tables = tables_on(&world, &store);
    let mut writer = world.writer(0);
    writer.append(vec![click("ada", "first")]);
    let running = Following::begin(Loader::open(&tables, &[world.journals()], options()).await.unwrap());
    wait_for(&world, COUNT, "1|1").await;
    store.fill(true);
    writer.append(vec![click("ada", "second"), click("bob", "second")]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Queries go on, with the tail.
    assert_eq!(world.query(true, COUNT).await, ["3|3"]);
    assert_eq!(world.query(false, COUNT).await, ["1|1"]);
    let limits = Limits::new(tables.state());
    let merged = compact::Options { files_min: 2, ..compact::Options::default() };
    store.fill(false);
    wait_for(&world, COUNT, "3|3").await;
    store.fill(true);
    let mut lease = Lease::take(&tables).await.unwrap();
    let error = compact::compact(&tables, &mut lease, &merged, &limits).await.unwrap_err();
    assert!(chain(&error).contains("no storage space"), "{}", chain(&error));
    store.fill(false);
    assert_eq!(compact::compact(&tables, &mut lease, &merged, &limits).await.unwrap().rows, 3);
    running.end().await.unwrap();
    assert_eq!(world.query(false, COUNT).await, ["3|3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_79_a_query_that_finds_no_room_to_spill_fails_alone() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append((0..2000).map(|_| click("ada", "scroll")).collect());
    world.load().await;
    let engine = world
        .engine_within(|limits| {
            limits.memory_bytes = 24 << 20;
            limits.spill_bytes = 1 << 20;
        })
        .await;
    let role = Role::local();
    let spills = "SELECT a.value FROM generate_series(1, 20000000) a ORDER BY a.value % 1000, a.value DESC";
    let (spilled, other) = tokio::join!(
        async { engine.query(spills, &role).await?.collect().await },
        lines(&engine, "SELECT count(*) FROM events", &role)
    );
    let error = spilled.expect_err("it fits into a megabyte");
    assert!(matches!(error, QueryError::Run(_)), "{}", chain(&error));
    assert_eq!(other, ["2000"]);
    assert_eq!(lines(&engine, "SELECT count(*) FROM events", &role).await, ["2000"]);
}
