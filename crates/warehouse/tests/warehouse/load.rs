//! Journals become rows, each event once.

use std::time::Duration;

use tickstream_schema::events::{Event, LogLevel, StoredBatch};
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::loader::Loader;
use tickstream_warehouse_core::maintenance::{Lease, compact, verify};
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits, Role};

use crate::common::{self, World, click, dead_letter, log, metric, performance, span, video};

#[tokio::test(flavor = "multi_thread")]
async fn events_of_each_kind_are_rows_of_events_and_of_their_own_table() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![
        click("ada", "checkout"),
        log("shop", LogLevel::Error, "no \"stock\"\nleft"),
        span("shop", 7, 12.5),
        metric("shop", "queue_length", 4.0),
        video("ada", 300.0),
        performance("ada", &[("ttfb", 20.0), ("load", 50.5)]),
    ]);
    let rejected = click("ada", "bad");
    writer
        .append_batch(&StoredBatch { dead_letters: vec![dead_letter(&rejected)], ..common::Writer::batch() });
    let counts = world.load().await;
    assert_eq!((counts.rows, counts.duplicates), (7, 0));

    let check =
        async |sql: &str, expected: &[&str]| assert_eq!(world.query(false, sql).await, expected, "{sql}");
    check(
        "SELECT event_type, count(*) FROM events GROUP BY 1 ORDER BY 1",
        &["application_metric|1", "log|1", "performance|1", "trace_span|1", "user_interaction|1", "video|1"],
    )
    .await;
    check("SELECT service, level, message FROM logs", &["shop|error|no \"stock\"\nleft"]).await;
    check(
        "SELECT trace_id, span_id, service, operation, duration_ms, status, end_time FROM spans",
        &["07070707070707070707070707070707|0707070707070707|shop|GET /orders/{id}|12.5|success|2026-11-28T09:13:54.001500Z"],
    )
    .await;
    check("SELECT service, metric_name, value, metric_type FROM metrics", &["shop|queue_length|4.0|gauge"])
        .await;
    check("SELECT video_id, video_event, startup_time_ms FROM video_analytics", &["film-7|start|300.0"])
        .await;
    check(
        "SELECT category, metric_name, value, unit FROM performance_metrics ORDER BY value",
        &["network|ttfb|20.0|ms", "network|load|50.5|ms"],
    )
    .await;
    check("SELECT code, json_text(rejected_event, 'event_name') FROM dead_letters", &["FIELD_TOO_LONG|bad"])
        .await;
    check(
        "SELECT json_text(properties, 'plan'), json_text(context, 'page'), json_text(raw_data, 'user_id') FROM events \
         WHERE event_type = 'user_interaction'",
        &["free \"trial\"|/start|ada"],
    )
    .await;
    check(
        "SELECT sender, peer, server, shard, sequence, batch_index, received_ns - 1795857234000000000, \
         _partition_key = load_date || '/' || event_type FROM events WHERE event_type = 'log'",
        &["publisher|192.0.2.7|server-1|0|1|1|5000|true"],
    )
    .await;
    // The same user is the same UUID in all kinds, and no text that the application sent.
    check(
        "SELECT count(DISTINCT user_id), bool_or(user_id = 'ada') FROM events WHERE user_id IS NOT NULL",
        &["1|false"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_again_is_one_row_over_shards_and_restarts() {
    let world = World::new();
    let (mut one, mut other) = (world.writer(0), world.writer(1));
    let events: Vec<_> = (0..300).map(|_| click("ada", "scroll")).collect();
    one.append(events.clone());
    other.append(events[..100].to_vec());
    assert_eq!(world.load().await.rows, 300);
    assert_eq!(world.load().await.rows, 0);
    // Again after a restart, within one batch, and beside new ones.
    let new = click("ada", "new");
    one.append(vec![events[7].clone(), new.clone(), new]);
    let counts = world.load().await;
    assert_eq!((counts.rows, counts.duplicates), (1, 2));
    assert_eq!(
        world.query(false, "SELECT count(*), count(DISTINCT event_id) FROM events").await,
        ["301|301"]
    );
    let report = verify::verify(&world.tables, &[world.journals()]).await.unwrap();
    assert!(report.is_right(), "{report:?}");
    assert_eq!((report.rows, report.events, report.records), (301, 301, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_the_tail_of_the_journals_without_duplicates() {
    let world = World::new();
    let mut writer = world.writer(0);
    let events: Vec<_> = (0..10).map(|_| click("ada", "scroll")).collect();
    writer.append(events.clone());
    world.load().await;
    writer.append(vec![events[0].clone(), click("bob", "buy")]);
    const COUNT: &str = "SELECT count(*), count(DISTINCT event_id) FROM events";
    assert_eq!(world.query(false, COUNT).await, ["10|10"]);
    assert_eq!(world.query(true, COUNT).await, ["11|11"]);
    assert_eq!(world.query(true, "SELECT action FROM events WHERE action = 'buy'").await, ["buy"]);
    world.load().await;
    assert_eq!(world.query(true, COUNT).await, ["11|11"]);
}

/// A loader that has loaded all, and an engine beside it.
async fn loader_and_engine(world: &World) -> (Loader, Engine) {
    let mut loader = world.loader().await;
    loader.load_all().await.unwrap();
    let ids = Ids::Shared(loader.shared());
    let limits = Limits::new(world.tables.state());
    let engine = Engine::open(&world.tables, vec![world.journals()], ids, Geo::default(), limits);
    let engine = engine.await.unwrap();
    (loader, engine)
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_beside_a_loader_see_each_event_once() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![click("ada", "first")]);
    let (mut loader, engine) = loader_and_engine(&world).await;
    let role = Role::local();
    for round in 1..=20 {
        writer.append((0..50).map(|_| click("ada", "scroll")).collect());
        if round % 3 == 0 {
            loader.load_all().await.unwrap();
        }
        let found =
            common::lines(&engine, "SELECT count(*), count(DISTINCT event_id) FROM events", &role).await;
        let expected = 1 + round * 50;
        assert_eq!(found, [format!("{expected}|{expected}")], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_beside_a_loader_that_follows_see_each_event_at_once_and_once() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![click("ada", "first")]);
    let (mut loader, engine) = loader_and_engine(&world).await;
    let role = Role::local();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let following = tokio::spawn(async move {
        loader.follow(Duration::from_millis(150), stopped, |_, result| result.unwrap()).await.unwrap();
        loader.counts()
    });
    let repeated = click("bob", "again");
    for round in 1..=60 {
        let mut events: Vec<_> = (0..50).map(|_| click("ada", "scroll")).collect();
        events.push(repeated.clone());
        writer.append(events);
        // Somebody else's version between those of the loader.
        if round % 20 == 0 {
            let mut lease = Lease::take(&world.tables).await.unwrap();
            let limits = Limits::new(world.tables.state());
            compact::compact(&world.tables, &mut lease, &compact::Options::default(), &limits).await.unwrap();
            lease.release().await;
        }
        let found =
            common::lines(&engine, "SELECT count(*), count(DISTINCT event_id) FROM events", &role).await;
        let expected = 2 + round * 50;
        assert_eq!(found, [format!("{expected}|{expected}")], "round {round}");
    }
    stop.send_replace(true);
    let counts = following.await.unwrap();
    assert_eq!((counts.rows, counts.duplicates), (2 + 60 * 50, 59));
    assert!(counts.commits > 3, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_kept_from_query_to_query_are_those_of_a_first_query() {
    let world = World::new();
    let mut writers = [world.writer(0), world.writer(1)];
    let mut loader = world.loader().await;
    loader.load_all().await.unwrap();
    loader.save().unwrap();
    let engine = world.engine(true).await;
    let role = Role::local();
    let mut sent: Vec<Event> = Vec::new();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..60 {
        for writer in &mut writers {
            let mut events: Vec<_> = (0..random.usize(..20)).map(|_| click("ada", "scroll")).collect();
            sent.extend(events.iter().cloned());
            // The same events again, from either journal.
            let again = (0..random.usize(..5)).filter_map(|_| random.choice(&sent).cloned());
            events.extend(again.collect::<Vec<_>>());
            writer.append(events);
        }
        if random.u8(..4) == 0 {
            loader.load_all().await.unwrap();
            loader.save().unwrap();
        }
        const COUNT: &str = "SELECT count(*), count(DISTINCT event_id) FROM events";
        let expected = format!("{0}|{0}", sent.len());
        assert_eq!(common::lines(&engine, COUNT, &role).await, [&*expected], "round {round}");
        assert_eq!(world.query(true, COUNT).await, [&*expected], "round {round}, first query");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_exchanged_stops_loading_by_name() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![click("ada", "one")]);
    world.load().await;
    drop(writer);
    // Another journal with the same id in the same place: its first record is another one.
    std::fs::remove_dir_all(world.journals().join("000")).unwrap();
    let mut writer = world.writer(0);
    writer.append(vec![click("bob", "other"), click("bob", "other")]);
    let mut loader = world.loader().await;
    let error = loader.load_all().await.unwrap_err();
    let text = common::chain(&error);
    assert!(text.contains("000") && text.contains("CRC"), "{text}");
    assert_eq!(world.query(false, "SELECT count(*) FROM events").await, ["1"]);
}
