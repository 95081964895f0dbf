//! Attacks by SQL (fault 80): files, changes, other roles' columns, resource bombs.

use std::time::Duration;

use tickstream_schema::events::LogLevel;
use tickstream_warehouse_core::query::{Engine, QueryError, Role};

use crate::common::{World, attacks, chain, click, lines, log, text};

async fn world() -> World {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append((0..2000).map(|index| click(&format!("user-{}", index % 10), "scroll")).collect());
    writer.append(vec![log("shop", LogLevel::Info, "someone@example.com came")]);
    world.load().await;
    world
}

async fn fails(engine: &Engine, sql: &str) -> QueryError {
    let role = Role::local();
    match engine.query(sql, &role).await {
        Err(error) => error,
        Ok(answer) => answer.collect().await.expect_err(sql),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_tables_can_be_read() {
    let world = world().await;
    let engine = world.engine(false).await;
    let others = [
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM secrets",
        "SELECT repeat('x', 1000000000)",
        "SELECT lpad('x', 2000000000)",
        "SELECT array_repeat(1, 1000000000)",
        "SELECT generate_series(1, 100000000000)",
    ];
    for sql in others.into_iter().chain(attacks::REFUSED) {
        let error = fails(&engine, sql).await;
        assert!(matches!(error, QueryError::Run(_) | QueryError::Refused(_)), "{sql}: {}", chain(&error));
    }
}

/// Not by a limit of time: what plans doesn't look up from it.
#[tokio::test(flavor = "multi_thread")]
async fn fault_80_short_queries_that_stand_for_very_much_are_refused_at_once() {
    let world = world().await;
    let engine = world.engine(false).await;
    for sql in attacks::unfolding() {
        let began = std::time::Instant::now();
        let error = fails(&engine, &sql).await;
        assert!(matches!(error, QueryError::Refused(_)), "{:.300}: {}", sql, chain(&error));
        assert!(began.elapsed() < Duration::from_secs(10), "{:.300}: {:?}", sql, began.elapsed());
    }
    // Regular expressions of death are none here: they are bounded, or answered in time.
    let role = Role::local();
    assert_eq!(lines(&engine, "SELECT count(*) FROM events WHERE raw_data ~ '(x+x+)+y'", &role).await, ["0"]);
    let error = fails(&engine, "SELECT count(*) FROM events WHERE raw_data ~ '((a{900}){900}){900}'").await;
    assert!(matches!(error, QueryError::Run(_)), "{}", chain(&error));
    // Long ones that are only long.
    let unions = format!("SELECT count(*) FROM ({} SELECT 1)", "SELECT 1 UNION ALL ".repeat(300));
    assert_eq!(lines(&engine, &unions, &role).await, ["301"]);
    let texts = format!("SELECT count(event_id{}) FROM events", " || ',' || event_name".repeat(100));
    assert_eq!(lines(&engine, &texts, &role).await, ["2001"]);
    let joined = "SELECT length(array_to_string(array_agg('ab'), ', ')), length(string_agg('ab', ',') || '.') FROM events";
    assert_eq!(lines(&engine, joined, &role).await, ["8002|6003"]);
    let conditions = format!(
        "SELECT count(*) FROM events WHERE event_name = 'no'{}",
        " OR event_name = 'scroll'".repeat(500)
    );
    assert_eq!(lines(&engine, &conditions, &role).await, ["2000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_role_sees_no_person_by_any_way() {
    let world = world().await;
    let engine = world.engine(false).await;
    let masked = Role::masked();
    let clear = Role::local();
    const UNIQUES: &str = "SELECT count(DISTINCT user_id) FROM events";
    // Uniques are right.
    assert_eq!(lines(&engine, UNIQUES, &masked).await, ["10"]);
    // Nothing that is shown is what a clear role sees.
    let user = &lines(&engine, "SELECT min(user_id) FROM events", &clear).await[0];
    for sql in [
        format!("SELECT count(*) FROM events WHERE user_id = '{user}'"),
        "SELECT count(*) FROM events WHERE raw_data LIKE '%user-1%'".to_owned(),
        "SELECT count(properties) + count(context) + count(peer) + count(raw_data) FROM events".to_owned(),
        "SELECT count(message) FROM logs".to_owned(),
        "SELECT count(*) FROM logs WHERE message LIKE '%example.com%'".to_owned(),
        format!(
            "SELECT count(*) FROM (SELECT * FROM events UNION ALL SELECT * FROM events) WHERE user_id = '{user}'"
        ),
    ] {
        assert_eq!(lines(&engine, &sql, &masked).await, ["0"], "{sql}");
    }
    let plan = lines(&engine, "EXPLAIN SELECT * FROM logs", &masked).await.join("\n");
    assert!(!plan.contains("log.message"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_end_at_their_limits_and_the_process_answers_on() {
    let world = world().await;
    let engine = world
        .engine_within(|limits| {
            limits.memory_bytes = 32 << 20;
            limits.spill_bytes = 64 << 20;
            limits.time = Duration::from_secs(3);
            limits.rows = 10_000;
        })
        .await;
    for sql in [
        // Time, rows, memory.
        "SELECT count(*) FROM generate_series(1, 2001) a(x) JOIN generate_series(1, 2001) b(x) ON a.x < b.x \
         JOIN generate_series(1, 2001) c(x) ON b.x < c.x",
        "SELECT * FROM generate_series(1, 100000000000)",
        "SELECT a.value FROM generate_series(1, 1000000000) a ORDER BY a.value DESC LIMIT 20000",
        "SELECT array_agg(a.raw_data) FROM events a CROSS JOIN events b",
        "SELECT string_agg(a.raw_data, ',') FROM events a CROSS JOIN events b",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    ] {
        let began = std::time::Instant::now();
        let error = fails(&engine, sql).await;
        assert!(
            matches!(error, QueryError::Time(_) | QueryError::Rows(_) | QueryError::Run(_)),
            "{sql}: {}",
            chain(&error)
        );
        assert!(began.elapsed() < Duration::from_secs(60), "{sql} took {:?}", began.elapsed());
    }
    let role = Role::local();
    assert_eq!(lines(&engine, "SELECT count(*) FROM events", &role).await, ["2001"]);
}

/// With however little memory: the answer that there is with much, or an error.
#[tokio::test(flavor = "multi_thread")]
async fn too_little_memory_or_disk_is_an_error_and_never_another_answer() {
    let world = World::new();
    let mut writer = world.writer(0);
    for day in 0..3 {
        // Several files, which the partitions of a scan share.
        writer.append((0..36).map(|index| click(&format!("user-{index}"), &format!("act-{day}"))).collect());
        writer.append(vec![log("shop", LogLevel::Info, "came"), log("cart", LogLevel::Warn, "went")]);
        world.load().await;
    }
    let joins = [
        "SELECT count(*) FROM events a JOIN events b ON a.event_id < b.event_id JOIN events c ON b.event_id < c.event_id \
         JOIN events d ON c.event_id < d.event_id WHERE d.event_name <> 'act-2'",
        "SELECT count(*), count(b.event_id) FROM events a LEFT JOIN events b ON a.event_id < b.event_id AND b.event_type = 'log'",
        "SELECT count(*), count(a.event_id) FROM events a RIGHT JOIN events b ON a.event_id < b.event_id AND a.event_type = 'log'",
        "SELECT count(*), count(a.event_id), count(b.event_id) FROM events a FULL JOIN events b \
         ON a.event_id < b.event_id AND a.event_type < b.event_type",
        "SELECT count(*) FROM events a WHERE NOT EXISTS (SELECT 1 FROM events b WHERE b.event_id < a.event_id AND b.event_type = 'log')",
        "SELECT count(*) FROM events a WHERE EXISTS (SELECT 1 FROM events b WHERE b.event_id < a.event_id AND b.event_type = 'log')",
        "SELECT count(*) FROM events a CROSS JOIN events b CROSS JOIN (SELECT * FROM events LIMIT 50) c",
        "SELECT count(*), sum(n) FROM (SELECT a.event_id, count(*) AS n FROM events a JOIN events b USING (event_type) GROUP BY 1)",
        "SELECT count(*), max(r) FROM (SELECT row_number() OVER (PARTITION BY a.event_name ORDER BY a.event_id, b.event_id) AS r \
         FROM events a CROSS JOIN events b)",
        "SELECT count(*) FROM (SELECT a.event_id, b.raw_data FROM events a CROSS JOIN events b ORDER BY 2, 1)",
        "SELECT count(*) FROM (SELECT DISTINCT a.event_id, b.event_id FROM events a CROSS JOIN events b)",
    ];
    let role = Role::local();
    let plenty = world.engine(false).await;
    let (mut answered, mut failed) = (0, 0);
    for sql in joins {
        let expected = lines(&plenty, sql, &role).await;
        for memory in [32 << 10, 128 << 10, 512 << 10, 1 << 20, 4 << 20, 16 << 20] {
            for spill in [64 << 10, 1 << 20, 1 << 30] {
                let engine =
                    world.engine_within(|limits| (limits.memory_bytes, limits.spill_bytes) = (memory, spill));
                match answer(&engine.await, sql).await {
                    Ok(lines) => {
                        assert_eq!(lines, expected, "{sql} with {memory} and {spill} bytes");
                        answered += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, QueryError::Run(_)), "{sql}: {}", chain(&error));
                        failed += 1;
                    }
                }
            }
        }
    }
    assert!(answered > 0 && failed > 0, "{answered} answered, {failed} failed");
}

/// Counts that DataFusion keeps sets in memory for: those of distinct values beside other aggregates.
#[tokio::test(flavor = "multi_thread")]
async fn distinct_counts_beside_others_are_right_and_go_to_disk() {
    let world = world().await;
    let role = Role::local();
    let engine = world.engine_within(|limits| limits.memory_bytes = 12 << 20).await;
    let numbers = "SELECT value AS n, nullif(value % 7, 3) AS m FROM generate_series(1, 1500000)";
    for (sql, expected) in [
        (
            "SELECT count(*), count(DISTINCT n), count(DISTINCT n) AS again, count(n), max(n) FROM numbers",
            "1500000|1500000|1500000|1500000|1500000",
        ),
        (
            "SELECT count(*), count(m), count(DISTINCT m), sum(m), min(m) FROM numbers",
            "1500000|1285714|6|3857142|0",
        ),
        ("SELECT count(*), count(DISTINCT n), sum(n), min(n) FROM numbers WHERE n < 0", "0|0|null|null"),
        (
            "SELECT m, count(DISTINCT n) + 1 AS d, count(*) FROM numbers GROUP BY m ORDER BY m LIMIT 1",
            "0|214286|214285",
        ),
        (
            "SELECT n % 2 AS half, count(DISTINCT m), count(*) AS c FROM numbers GROUP BY 1 HAVING count(*) > 5 ORDER BY 1 LIMIT 1",
            "0|6|750000",
        ),
        (
            "SELECT sum(d) FROM (SELECT n % 1000 AS g, count(DISTINCT n) AS d, count(*) AS c FROM numbers GROUP BY 1) WHERE d = c",
            "1500000",
        ),
        (
            "SELECT a.c, b.d FROM (SELECT count(*) AS c, count(DISTINCT m) AS d FROM numbers) a \
          CROSS JOIN (SELECT count(*) AS c, count(DISTINCT n % 5) AS d FROM numbers) b",
            "1500000|5",
        ),
    ] {
        assert_eq!(
            lines(&engine, &format!("WITH numbers AS ({numbers}) {sql}"), &role).await,
            [expected],
            "{sql}"
        );
    }
    // A filter, grouping sets and averages stay as they are.
    let others =
        "SELECT count(DISTINCT user_id) FILTER (WHERE user_id IS NOT NULL), count(*), avg(1) FROM events";
    assert_eq!(lines(&engine, others, &role).await, ["10|2001|1.0"]);
    let sets = "SELECT event_type, count(DISTINCT user_id), count(*) FROM events GROUP BY ROLLUP (event_type) ORDER BY 3 DESC LIMIT 1";
    assert_eq!(lines(&engine, sets, &role).await, ["null|10|2001"]);
}

/// Rows as text, or the error.
async fn answer(engine: &Engine, sql: &str) -> Result<Vec<String>, QueryError> {
    let answer = engine.query(sql, &Role::local()).await?;
    Ok(text(&answer.collect().await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_for_events_have_the_meaning_of_clickhouse() {
    let world = world().await;
    let engine = world.engine(false).await;
    let role = Role::local();
    let data = "(VALUES (1, 10, 'a'), (1, 20, 'b'), (1, 35, 'c'), (2, 5, 'b'), (2, 9, 'a'), (3, 1, 'a'), (3, 100, 'b')) \
                AS t(u, at, name)";
    let check =
        async |sql: &str, expected: &[&str]| assert_eq!(lines(&engine, sql, &role).await, expected, "{sql}");
    let funnel = format!(
        "SELECT u, window_funnel(20, at, name = 'a', name = 'b', name = 'c') FROM {data} GROUP BY u ORDER BY u"
    );
    check(&funnel, &["1|2", "2|1", "3|1"]).await;
    let ordered = format!(
        "SELECT window_funnel(30, 'strict_order', at, name = 'a', name = 'b', name = 'c') FROM {data}"
    );
    check(&ordered, &["3"]).await;
    let retention =
        format!("SELECT u, retention(name = 'a', name = 'b', name = 'c') FROM {data} GROUP BY u ORDER BY u");
    check(&retention, &["1|[1, 1, 1]", "2|[1, 1, 0]", "3|[1, 1, 0]"]).await;
    let sequence = format!(
        "SELECT u, sequence_match('(?1)(?t<=20)(?2)', at, name = 'a', name = 'b'), \
         sequence_count('(?1).*(?2)', at, name = 'a', name = 'b') FROM {data} GROUP BY u ORDER BY u"
    );
    check(&sequence, &["1|true|1", "2|false|0", "3|false|1"]).await;
    check(
        "SELECT round(quantile_sketch(value, 0.5) / 500.0, 1), quantile_sketch(value, 0.5) IS NULL \
         FROM generate_series(1, 1000)",
        &["1.0|false"],
    )
    .await;
    check(
        "SELECT time_bucket(INTERVAL '1 hour', TIMESTAMP '2026-11-28T09:13:54'), json_number('{\"a\":{\"b\":[1,2.5]}}', 'a.b[1]')",
        &["2026-11-28T09:00:00|2.5"],
    )
    .await;
}
