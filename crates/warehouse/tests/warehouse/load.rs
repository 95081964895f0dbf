//! Journals become rows, each event once.

use tickstream_schema::events::{LogLevel, StoredBatch};
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::maintenance::verify;

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

#[tokio::test(flavor = "multi_thread")]
async fn queries_beside_a_loader_see_each_event_once() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![click("ada", "first")]);
    let mut loader = world.loader().await;
    loader.load_all().await.unwrap();
    let ids = tickstream_warehouse_core::query::tail::Ids::Shared(loader.ids());
    let limits = tickstream_warehouse_core::query::Limits::new(world.tables.state());
    let engine = tickstream_warehouse_core::query::Engine::open(
        &world.tables,
        vec![world.journals()],
        ids,
        Geo::default(),
        limits,
    );
    let engine = engine.await.unwrap();
    let role = tickstream_warehouse_core::query::Role::local();
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
