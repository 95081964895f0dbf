//! Scans: conditions of SQL, and columns that are read without SQL.

use std::sync::{Arc, Mutex};

use datafusion::arrow::array::RecordBatch;
use tickstream_warehouse_core::query::{Role, Scan};

use crate::common::{World, click, lines, text};

async fn world() -> World {
    let world = World::new();
    world.writer(0).append((0..2000).map(|index| click(&format!("user-{}", index % 10), "scroll")).collect());
    world.load().await;
    world
}

/// Conditions of light columns are behind the scan, once; those of heavy columns and of identifiers stay in it.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_of_light_columns_are_behind_the_scan() {
    let world = world().await;
    let engine = world.engine(false).await;
    let role = Role::local();
    let plan = async |sql: &str| lines(&engine, &format!("EXPLAIN {sql}"), &role).await.join("\n");
    for (sql, is_behind) in [
        ("SELECT platform FROM events WHERE event_name = 'scroll' AND timestamp_ns > 5", true),
        ("SELECT count(user_id) FROM events WHERE event_name IN ('scroll', 'tap')", true),
        ("SELECT raw_data FROM events WHERE event_name = 'scroll' AND timestamp_ns > 5", false),
        ("SELECT platform FROM events WHERE user_id = 'nobody' AND timestamp_ns > 5", false),
        ("SELECT platform FROM events WHERE properties LIKE '%x%' AND timestamp_ns > 5", false),
    ] {
        let plan = plan(sql).await;
        assert_eq!(plan.contains("FilterExec"), is_behind, "{sql}: {plan}");
        let conditions = plan.split(" predicate=").nth(1).and_then(|rest| rest.split("pruning_").next());
        let conditions = conditions.unwrap_or_default();
        assert!(conditions.matches("timestamp_ns@").count() <= 1, "{sql}: {conditions}");
    }
    let behind = "SELECT count(*), count(DISTINCT user_id) FROM events WHERE event_name = 'scroll' AND platform IS NOT NULL";
    let within = format!("{behind} AND raw_data IS NOT NULL");
    assert_eq!(lines(&engine, behind, &role).await, lines(&engine, &within, &role).await);
}

/// A scan has the rows of the files and of the tail, masked where SQL masks them.
#[tokio::test(flavor = "multi_thread")]
async fn a_scan_has_the_events_of_the_tail() {
    let world = world().await;
    world.writer(1).append(vec![click("late", "tap"), click("late", "tap")]);
    let engine = world.engine(true).await;
    for role in [Role::local(), Role::masked()] {
        let found = Arc::new(Mutex::new(Vec::new()));
        let scan = Scan {
            kinds: &["user_interaction"],
            period: i64::MIN..i64::MAX,
            columns: vec!["user_id", "event_name"],
        };
        let each = {
            let found = found.clone();
            move |batch: &RecordBatch| {
                found.lock().unwrap().extend(text(std::slice::from_ref(batch)));
                Ok(())
            }
        };
        engine.scan(scan, &role, each).await.unwrap();
        let mut found = std::mem::take(&mut *found.lock().unwrap());
        found.sort();
        let sql = "SELECT user_id, event_name FROM events WHERE event_type = 'user_interaction'";
        let mut expected = lines(&engine, sql, &role).await;
        expected.sort();
        assert_eq!(found, expected, "{role:?}");
        let before =
            world.query(false, "SELECT count(*) FROM events WHERE event_type = 'user_interaction'").await;
        assert_eq!(format!("{}", found.len() - 2), before[0]);
    }
}
