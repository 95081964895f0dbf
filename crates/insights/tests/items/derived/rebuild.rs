//! Kept tables equal a rebuild, whatever came, went or was killed.

#[path = "../../../../warehouse/tests/warehouse/common/faulty.rs"]
#[allow(dead_code, reason = "a part of its faults is used")]
mod faulty;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tickstream_insights::transform;
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::loader::suppression::Subject;
use tickstream_warehouse_core::maintenance::Lease;
use tickstream_warehouse_core::maintenance::erase;
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits, Role};
use tickstream_warehouse_core::store::Tables;

use super::chance::Chance;
use super::{DAY, MINUTE, START, Store, TABLES, click, event, lines};

#[tokio::test(flavor = "multi_thread")]
async fn updates_after_late_events_duplicates_merges_and_erasures_equal_a_rebuild() {
    let seeds: u64 = std::env::var("TICKSTREAM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(3);
    for seed in 0..seeds {
        let (mut store, mut chance) = (Store::new(), Chance::new(seed));
        for step in 0..10 {
            // Few at a time, so that days are computed in pieces, or all at once.
            store.events_max = [30, 200, transform::EVENTS_MAX][chance.random.usize(..3)];
            store.load(chance.batch()).await;
            match chance.random.u8(..8) {
                0 => store.erase(Subject::User, &format!("user-{}", chance.random.u8(..4))).await,
                1 => store.erase(Subject::Device, &format!("device-{}", chance.random.u8(..6))).await,
                2 => store.compact().await,
                // More comes before the tables are brought up to date.
                3 => continue,
                _ => {}
            }
            store.update(false).await;
            let kept = store.rows().await;
            let counts = independent(&store).await;
            assert_eq!(sessions_of(&kept[1]), counts, "seed {seed}, step {step}");
            // The next update builds upon this one.
            let copy = store.copy();
            copy.update(true).await;
            for ((kept, rebuilt), sql) in kept.iter().zip(copy.rows().await).zip(TABLES) {
                assert_eq!(*kept, rebuilt, "seed {seed}, step {step}: {sql}");
            }
        }
        store.update(false).await;
        assert!(store.update(false).await.is_empty(), "nothing changed since then");
    }
}

/// Person, begin and number of events of the kept sessions.
fn sessions_of(rows: &[String]) -> BTreeSet<(String, String, String)> {
    let cell = |row: &String, place: usize| row.split('|').nth(place).unwrap().to_owned();
    rows.iter().map(|row| (cell(row, 0), cell(row, 3), cell(row, 6))).collect()
}

/// Sessions by the rule alone, over all events at once, with the identities of the table.
async fn independent(store: &Store) -> BTreeSet<(String, String, String)> {
    let engine = store.engine().await;
    let persons: BTreeMap<String, String> =
        lines(&engine, "SELECT id, person FROM user_identities", &Role::local())
            .await
            .into_iter()
            .map(|line| line.split_once('|').map(|(id, person)| (id.to_owned(), person.to_owned())).unwrap())
            .collect();
    let sql = "SELECT coalesce(user_id, anonymous_id), timestamp_ns FROM events WHERE event_type IN ('user_interaction', 'custom', 'video') \
               AND coalesce(user_id, anonymous_id) IS NOT NULL ORDER BY timestamp_ns";
    let mut found = BTreeSet::new();
    let mut open = BTreeMap::<String, (i64, i64, u32)>::new();
    for line in lines(&engine, sql, &Role::local()).await {
        let (id, time) = line.split_once('|').unwrap();
        let (person, time) =
            (persons.get(id).cloned().unwrap_or(id.to_owned()), time.parse::<i64>().unwrap());
        let begun = open.entry(person.clone()).or_insert((time, time, 0));
        if time - begun.1 > 30 * MINUTE || time - begun.0 > 1_440 * MINUTE {
            found.insert((person, begun.0.to_string(), begun.2.to_string()));
            *begun = (time, time, 0);
        }
        *begun = (begun.0, time, begun.2 + 1);
    }
    let rest =
        open.into_iter().map(|(person, (begin, _, count))| (person, begin.to_string(), count.to_string()));
    found.extend(rest);
    found
}

/// Fault 84 of the list: identities that are merged, then unmerged by an erasure, count as if they had been known before.
#[tokio::test(flavor = "multi_thread")]
async fn fault_84_identities_that_are_merged_and_unmerged_count_as_if_known_before() {
    let mut store = Store::new();
    let device = json!({"anonymous_id": "phone"});
    let visits: Vec<_> = (0..4).map(|n| click(n, START + i64::from(n) * DAY, &device)).collect();
    let by_user =
        (4..8).map(|n| click(n, START + i64::from(n - 4) * DAY + 10 * MINUTE, &json!({"user_id": "anna"})));
    store.load(visits.into_iter().chain(by_user).collect()).await;
    store.update(false).await;
    let count = async |store: &Store| {
        let sql = "SELECT count(*), count(DISTINCT person), sum(ids) FROM user_sessions";
        lines(&store.engine().await, sql, &Role::local()).await.concat()
    };
    assert_eq!(count(&store).await, "8|2|8");
    // The last day's sign-in joins all days.
    let sign_in = event(
        9,
        START + 3 * DAY,
        "identify",
        "identify",
        &json!({"identify": {}, "user_id": "anna", "anonymous_id": "phone"}),
    );
    store.load(vec![sign_in]).await;
    let done = store.update(false).await;
    assert_eq!(count(&store).await, "4|1|8");
    assert!(done[0].parts > 0, "{done:?}");
    // The sign-in goes with the condition that erases it: they are two again.
    let options = erase::Options { grace: Duration::ZERO, ..erase::Options::default() };
    let limits = Limits::new(store.tables.state());
    let mut lease = Lease::take(&store.tables).await.unwrap();
    erase::erase_where(&store.tables, &mut lease, "event_type = 'identify'", false, &options, &limits)
        .await
        .unwrap();
    drop(lease);
    store.update(false).await;
    assert_eq!(count(&store).await, "8|2|8");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_parts_in_which_something_changed_are_computed() {
    let mut store = Store::new();
    let (anna, bert) = (json!({"user_id": "anna"}), json!({"user_id": "bert"}));
    let each_day = |n: u32, who: &Value| click(n, START + i64::from(n % 6) * DAY + 300 * MINUTE, who);
    store.load((0..6).map(|n| each_day(n, &anna)).chain((6..12).map(|n| each_day(n, &bert))).collect()).await;
    store.update(false).await;
    assert!(store.update(false).await.is_empty());
    // A late event of one person: its day, one bucket. The day before has the same rows again.
    store.load(vec![click(20, START + 2 * DAY + 310 * MINUTE, &anna)]).await;
    let done = store.update(false).await;
    assert_eq!((done[0].table, done[0].parts), ("user_sessions", 1), "{done:?}");
    let sql = "SELECT sum(events), count(*) FROM user_sessions";
    assert_eq!(lines(&store.engine().await, sql, &Role::local()).await, ["13|12"]);
}

/// Fault 74 for derived tables: an update that is killed at any step leaves what the next one makes whole.
#[tokio::test(flavor = "multi_thread")]
async fn fault_74_an_update_that_is_killed_at_any_step_is_made_whole_by_the_next() {
    let (mut store, mut chance) = (Store::new(), Chance::new(99));
    store.load(chance.batch()).await;
    store.update(false).await;
    let mut deaths = 0;
    let stride = if std::env::var_os("TICKSTREAM_CRASH_POINTS").is_some() { 1 } else { 7 };
    for operations in (0..200).step_by(stride) {
        let before = deaths;
        for is_done in [false, true] {
            store.load(chance.batch()).await;
            let faults = faulty::Faulty::new(operations, is_done);
            let tables = dying(store.directory.path(), &faults);
            let ids = Ids::Files(tables.state().to_owned());
            let limits = Limits::new(tables.state());
            if let Ok(mut lease) = Lease::take(&tables).await
                && let Ok(engine) = Engine::open(&tables, Vec::new(), ids, Geo::default(), limits).await
            {
                let _ = transform::update(&tables, &mut lease, &engine, false).await;
            }
            deaths += u32::from(faults.has_died());
            store.update(false).await;
            let kept = store.rows().await;
            store.update(true).await;
            assert_eq!(kept, store.rows().await, "{operations} operations, {is_done}");
        }
        if deaths < before + 2 {
            break;
        }
    }
    assert!(deaths >= 4, "{deaths}");
}

fn dying(directory: &Path, faults: &faulty::Faulty) -> Tables {
    let uri = directory.join("tables");
    Tables::with_store(uri.to_str().unwrap(), None, Arc::new(faults.clone())).unwrap()
}
