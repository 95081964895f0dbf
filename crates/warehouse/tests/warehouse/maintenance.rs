//! Retention, aggregates, jobs and import.

use std::time::Duration;

use tickstream_schema::events::LogLevel;
use tickstream_warehouse_core::import::{self, Form};
use tickstream_warehouse_core::jobs;
use tickstream_warehouse_core::loader::suppression::Subject;
use tickstream_warehouse_core::maintenance::erase::{self, Target};
use tickstream_warehouse_core::maintenance::retention::Retention;
use tickstream_warehouse_core::maintenance::{Lease, aggregate};
use tickstream_warehouse_core::query::{Limits, Role};
use tickstream_warehouse_core::rules::{Job, Retention as Rule};
use tickstream_warehouse_core::sample::History;

use crate::common::{self, World, click, log, metric, span};

const DAY: Duration = Duration::from_secs(86_400);

fn rule(kind: Option<&str>, service: Option<&str>, keep_traces: f64) -> Rule {
    Rule { kind: kind.map(str::to_owned), service: service.map(str::to_owned), age: DAY, keep_traces }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_by_kind_service_and_trace_and_others_stay() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![
        click("ada", "scroll"),
        log("shop", LogLevel::Info, "one"),
        log("bank", LogLevel::Info, "two"),
    ]);
    writer.append((0..64).map(|trace| span("shop", trace * 4, 1.0)).collect());
    world.load().await;
    let limits = Limits::new(world.tables.state());
    let received = Duration::from_nanos(common::NOW.unix_ns);
    let apply = async |rules: Vec<Rule>, age: Duration| {
        let mut lease = Lease::take(&world.tables).await.unwrap();
        let mut retention = Retention::new(rules);
        retention.apply_at(received + age, &world.tables, &mut lease, &limits).await.unwrap()
    };
    let counts = async || {
        world.query(false, "SELECT event_type, count(*) FROM events GROUP BY 1 ORDER BY 1").await.join(" ")
    };
    // Nothing is old enough.
    assert_eq!(apply(vec![rule(None, None, 0.0)], DAY / 2).await.rows, 0);
    assert_eq!(apply(vec![rule(Some("log"), Some("shop"), 0.0)], DAY * 2).await.rows, 1);
    assert_eq!(counts().await, "log|1 trace_span|64 user_interaction|1");
    // Of the traces a half stays, always the same.
    let thinned = apply(vec![rule(Some("trace_span"), None, 0.5)], DAY * 2).await;
    assert_eq!(thinned.rows, 32);
    assert_eq!(apply(vec![rule(Some("trace_span"), None, 0.5)], DAY * 2).await.rows, 0);
    assert_eq!(apply(vec![rule(Some("log"), None, 0.0)], DAY * 2).await.rows, 1);
    assert_eq!(counts().await, "trace_span|32 user_interaction|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_equal_a_rebuild_after_late_events_and_erasures() {
    const ALL: &str = "SELECT bucket, event_type, events, users, p50 FROM counts_by_hour ORDER BY 1, 2";
    let world = World::new();
    let mut writer = world.writer(0);
    let limits = Limits::new(world.tables.state());
    let update = async || {
        let engine = world.engine(false).await;
        let mut lease = Lease::take(&world.tables).await.unwrap();
        aggregate::update(&world.tables, &mut lease, &engine).await.unwrap()
    };
    let expected = async || {
        let sql = "SELECT date_trunc('hour', timestamp), event_type, count(*), count(DISTINCT user_id) FROM events \
                   GROUP BY 1, 2 ORDER BY 1, 2";
        world.query(false, sql).await
    };
    let found = async || {
        let lines = world.query(false, ALL).await;
        let without_quantile = |line: String| line.rsplit_once('|').unwrap().0.to_owned();
        lines.into_iter().map(without_quantile).collect::<Vec<_>>()
    };
    writer.append(vec![click("ada", "scroll"), click("bob", "scroll"), metric("shop", "queue", 4.0)]);
    world.load().await;
    assert_eq!(update().await.hours, 1);
    assert_eq!(found().await, expected().await);
    // Late ones, of three days before, make their own hour dirty.
    let mut late = click("ada", "late");
    late.timestamp -= 3 * 86_400_000_000_000;
    writer.append(vec![late, click("eve", "scroll")]);
    world.load().await;
    assert_eq!(update().await.hours, 2);
    assert_eq!(found().await, expected().await);
    assert_eq!(update().await.hours, 0);
    let mut lease = Lease::take(&world.tables).await.unwrap();
    let target = Target { subject: Subject::User, identifier: "ada".into() };
    let options = erase::Options { grace: Duration::ZERO, ..erase::Options::default() };
    erase::erase(&world.tables, &mut lease, &target, &options, &limits).await.unwrap();
    drop(lease);
    update().await;
    assert_eq!(found().await, expected().await);
    // Minutes here and there, of the same hours and of others: the others of an hour stay.
    let by_minute = async |table: &str| {
        let sql = match table {
            "events" => {
                "SELECT date_trunc('minute', timestamp), event_type, event_name, count(*), count(DISTINCT user_id) FROM events \
                 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
            }
            _ => {
                "SELECT bucket, event_type, event_name, events, users FROM counts_by_minute ORDER BY 1, 2, 3"
            }
        };
        world.query(false, sql).await
    };
    for (round, minutes) in [0, 1, -7, 25, -90, 3, 0, -7, 61, 25].into_iter().enumerate() {
        let mut events = [click(&format!("person {round}"), "later"), click("ada", "scroll")];
        for event in &mut events {
            event.timestamp = event.timestamp.wrapping_add_signed(minutes * 60_000_000_000);
        }
        events[1].timestamp += 1_700_000_000_000 * (round as u64 % 2);
        writer.append(events.to_vec());
        world.load().await;
        assert!(update().await.hours <= 2);
        assert_eq!(by_minute("counts").await, by_minute("events").await, "round {round}");
    }
    // From nothing, the same.
    let kept = world.query(false, ALL).await;
    std::fs::remove_dir_all(world.directory.path().join("tables/aggregates")).unwrap();
    update().await;
    assert_eq!(world.query(false, ALL).await, kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_catch_up_and_write_each_period_once() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![click("ada", "scroll")]);
    world.load().await;
    let engine = world.engine(false).await;
    let file = world.directory.path().join("out/daily-{from}.csv");
    let job = Job {
        name: "daily".into(),
        every: DAY,
        delay: Duration::from_secs(3600),
        query: "SELECT count(*) AS n FROM events WHERE timestamp >= '{from}' AND timestamp < '{to}'".into(),
        file: Some(file),
        table: None,
        since: Some("2026-11-26T00:00:00Z".into()),
    };
    let at = |text: &str| text.parse().unwrap();
    let next = jobs::run_due(&job, &world.tables, &engine, at("2026-11-29T02:00:00Z")).await.unwrap();
    assert_eq!(next, at("2026-11-30T01:00:00Z"));
    let mut written: Vec<_> = std::fs::read_dir(world.directory.path().join("out"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
        })
        .collect();
    written.sort();
    let expected = [("26", "0"), ("27", "0"), ("28", "1")]
        .map(|(day, count)| (format!("daily-2026-11-{day}T00:00:00Z.csv"), format!("n\n{count}\n")));
    assert_eq!(written, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_s_table_has_each_period_once_and_is_asked_by_sql() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![click("ada", "scroll"), click("bob", "buy")]);
    world.load().await;
    let engine = world.engine(false).await;
    let mut job = Job {
        name: "actions".into(),
        every: DAY,
        delay: Duration::ZERO,
        query:
            "SELECT action, count(*) AS n, max(timestamp) AS last FROM events WHERE timestamp >= '{from}' \
                AND timestamp < '{to}' GROUP BY action"
                .into(),
        file: None,
        table: Some("actions".into()),
        since: Some("2026-11-27T00:00:00Z".into()),
    };
    let now = "2026-11-29T02:00:00Z".parse().unwrap();
    jobs::run_due(&job, &world.tables, &engine, now).await.unwrap();
    // After a kill between the commit and the note, the same periods come again.
    std::fs::remove_file(world.tables.state().join("jobs.json")).unwrap();
    jobs::run_due(&job, &world.tables, &engine, now).await.unwrap();
    const SQL: &str = "SELECT period, action, n FROM jobs.actions ORDER BY action";
    let expected = ["2026-11-28T00:00:00Z|buy|1", "2026-11-28T00:00:00Z|scroll|1"];
    assert_eq!(common::lines(&engine, SQL, &Role::local()).await, expected);
    // It was computed with all rights.
    assert!(engine.query(SQL, &Role::masked()).await.is_err());
    job.query = "SELECT count(*) AS n, 'x' AS other FROM events WHERE '{from}' < '{to}'".into();
    let error = jobs::run_due(&job, &world.tables, &engine, "2026-11-30T02:00:00Z".parse().unwrap()).await;
    assert!(error.unwrap_err().to_string().contains("other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_comes_once_and_wrong_objects_are_named() {
    let world = World::new();
    let path = world.directory.path().join("events.csv");
    std::fs::write(
        &path,
        "time,event,user_id,plan\n2026-11-01T00:00:00Z,signup,u-1,pro\n2026-11-02,signup,u-2,\nnever,x,y,z\n",
    )
    .unwrap();
    let report = import::import(&world.tables, Form::Csv, &path).await.unwrap();
    assert_eq!((report.imported, report.rejected), (2, 1));
    assert!(report.examples[0].contains("never"), "{report:?}");
    let again = import::import(&world.tables, Form::Csv, &path).await.unwrap();
    assert_eq!((again.imported, again.duplicates), (0, 2));
    assert_eq!(
        world
            .query(
                false,
                "SELECT event_type, event_name, json_text(properties, 'plan') FROM events ORDER BY timestamp"
            )
            .await,
        ["custom|signup|pro", "custom|signup|null"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generated_month_has_its_truth_in_the_tables() {
    let world = World::new();
    let mut history = History::new(3, common::NOW.unix_ns);
    import::import_events(&world.tables, history.by_ref(), [7; 16]).await.unwrap();
    let truth = history.truth();
    let engine = world.engine(false).await;
    let sql = "SELECT count(*), count(DISTINCT user_id), CAST(sum(json_number(raw_data, 'revenue.amount')) AS BIGINT) FROM events";
    let found = common::lines(&engine, sql, &Role::local()).await;
    assert_eq!(found, [format!("{}|{}|{}", truth.events, truth.users, truth.revenue)]);
    let sql = "SELECT count(*) FROM (SELECT user_id, window_funnel(3600000000000, timestamp_ns, event_name = 'product_viewed', \
               event_name = 'added_to_cart', event_name = 'purchased') AS steps FROM events WHERE event_type = 'user_interaction' \
               GROUP BY user_id) WHERE steps >= 3";
    assert_eq!(common::lines(&engine, sql, &Role::local()).await, [truth.funnel[2].to_string()]);
}
