//! A thousand queries at once, and one user with very many events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tickstream_warehouse_core::query::{QueryError, Role};

use crate::common::{World, click, lines};

#[tokio::test(flavor = "multi_thread")]
async fn fault_80_a_thousand_queries_at_once_are_answered_or_refused() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append((0..100).map(|_| click("ada", "scroll")).collect());
    world.load().await;
    let engine = Arc::new(world.engine(false).await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let engine = engine.clone();
        tasks.spawn(async move {
            let role = Role::local();
            let answer = engine.query("SELECT count(*) FROM events", &role).await?;
            let rows = answer.collect().await?;
            Ok::<_, QueryError>(rows[0].num_rows())
        });
    }
    let (mut answered, mut refused) = (0, 0);
    while let Some(ended) = tasks.join_next().await {
        match ended.unwrap() {
            Ok(rows) => {
                assert_eq!(rows, 1);
                answered += 1;
            }
            Err(QueryError::Busy { .. }) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(answered >= engine.limits().waiting && refused > 0, "{answered} answered, {refused} refused");
    assert_eq!(lines(&engine, "SELECT count(*) FROM events", &Role::local()).await, ["100"]);
    assert_eq!(engine.counts().running, 0);
}

/// Ten times the events of one user take about ten times as long, not a hundred times.
#[tokio::test(flavor = "multi_thread")]
async fn fault_95_one_user_with_very_many_events_is_no_quadratic_query() {
    let world = World::new();
    world.tables.open_or_create().await.unwrap();
    let engine = world.engine(false).await;
    let funnel = |events: u32| {
        format!(
            "SELECT window_funnel(100, t, n % 3 = 0, n % 3 = 1, n % 3 = 2), retention(n % 3 = 0, n % 5 = 1), \
             sequence_count('(?1).*(?2)', t, n % 3 = 0, n % 3 = 1), uniques(CAST(n AS VARCHAR)), \
             quantile_sketch(CAST(n AS DOUBLE), 0.5) FROM (SELECT value AS t, value AS n FROM generate_series(1, {events}))"
        )
    };
    let timed = async |events: u32| {
        let began = Instant::now();
        assert_eq!(lines(&engine, &funnel(events), &Role::local()).await.len(), 1);
        began.elapsed()
    };
    timed(1_000).await;
    let (few, many) = (timed(50_000).await, timed(500_000).await);
    assert!(many < few * 40 + Duration::from_millis(200), "{few:?} for 50,000, {many:?} for 500,000");
}
