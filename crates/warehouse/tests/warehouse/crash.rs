//! The process is killed at each step of loading and maintenance; tables equal journals afterwards (fault 74).

use std::sync::Arc;
use std::time::Duration;

use tickstream_warehouse_core::loader::Loader;
use tickstream_warehouse_core::loader::suppression::Subject;
use tickstream_warehouse_core::maintenance::erase::{self, Target};
use tickstream_warehouse_core::maintenance::{Lease, compact, vacuum, verify};
use tickstream_warehouse_core::query::Limits;
use tickstream_warehouse_core::store::Tables;

use crate::common::faulty::Faulty;
use crate::common::{World, click, options};

/// More operations than any of these takes.
const OPERATIONS_MAX: i64 = 400;

/// Steps from one kill to the next: all of them take minutes.
fn stride() -> usize {
    if std::env::var_os("TICKSTREAM_CRASH_POINTS").is_some() { 1 } else { 5 }
}

/// The tables on a store that dies.
fn dying(world: &World, store: &Faulty) -> Tables {
    let uri = world.directory.path().join("tables");
    Tables::with_store(uri.to_str().unwrap(), None, Arc::new(store.clone())).unwrap()
}

async fn check(world: &World, rows: u64, what: &str) {
    let report = verify::verify(&world.tables, &[world.journals()]).await.unwrap();
    assert!(report.is_right(), "{what}: {report:?}");
    assert_eq!(report.rows, rows, "{what}: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_74_a_loader_that_is_killed_at_any_step_loses_and_doubles_nothing() {
    let world = World::new();
    let mut writer = world.writer(0);
    let mut expected = 0;
    let mut deaths = 0;
    // One load takes a few operations alone: each of them is tried.
    for operations in 0..OPERATIONS_MAX {
        let before = deaths;
        for is_done in [false, true] {
            let events: Vec<_> = (0..7).map(|_| click("ada", "scroll")).collect();
            writer.append(events.clone());
            // Half of them come again.
            writer.append(events[..3].to_vec());
            expected += 7;
            let store = Faulty::new(operations, is_done);
            let tables = dying(&world, &store);
            if let Ok(mut loader) = Loader::open(&tables, &[world.journals()], options()).await {
                let _ = loader.load_all().await;
                let _ = loader.save();
            }
            deaths += u32::from(store.has_died());
            world.load().await;
            check(&world, expected, &format!("{operations} operations, {is_done}")).await;
        }
        // Once it wasn't reached, there are no later steps.
        if deaths < before + 2 {
            break;
        }
    }
    assert!(deaths >= 4, "{deaths}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_74_maintenance_that_is_killed_at_any_step_changes_no_row() {
    let world = World::new();
    let mut writer = world.writer(0);
    let mut expected = 0;
    let mut deaths = 0;
    for operations in (0..OPERATIONS_MAX).step_by(stride()) {
        let before = deaths;
        for is_done in [false, true] {
            for _ in 0..4 {
                writer.append((0..5).map(|_| click("ada", "scroll")).collect());
                expected += 5;
                world.load().await;
            }
            let store = Faulty::new(operations, is_done);
            let tables = dying(&world, &store);
            let limits = Limits::new(tables.state());
            let options = compact::Options { files_min: 2, ..compact::Options::default() };
            let ages = vacuum::Options {
                removed_for: Duration::ZERO,
                orphaned_for: Duration::ZERO,
                orphaned_before: None,
            };
            if let Ok(mut lease) = Lease::take(&tables).await {
                let compacted = compact::compact(&tables, &mut lease, &options, &limits).await;
                if compacted.is_ok() {
                    let _ = vacuum::vacuum(&tables, &mut lease, &ages).await;
                }
            }
            deaths += u32::from(store.has_died());
            check(&world, expected, &format!("{operations} operations, {is_done}")).await;
        }
        if deaths < before + 2 {
            break;
        }
    }
    assert!(deaths >= 4, "{deaths}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_74_an_erasure_that_is_killed_at_any_step_is_complete_when_it_is_repeated() {
    let mut deaths = 0;
    for operations in (0..OPERATIONS_MAX).step_by(stride()) {
        let before = deaths;
        for is_done in [false, true] {
            let world = World::new();
            let mut writer = world.writer(0);
            for _ in 0..3 {
                writer.append(vec![click("ada", "scroll"), click("bob", "scroll")]);
                world.load().await;
            }
            let target = Target { subject: Subject::User, identifier: "ada".into() };
            let limits = Limits::new(world.tables.state());
            let options = erase::Options { grace: Duration::ZERO, ..erase::Options::default() };
            let store = Faulty::new(operations, is_done);
            let tables = dying(&world, &store);
            if let Ok(mut lease) = Lease::take(&tables).await {
                let _ = erase::erase(&tables, &mut lease, &target, &options, &limits).await;
            }
            deaths += u32::from(store.has_died());
            let mut lease = Lease::take(&world.tables).await.unwrap();
            erase::erase(&world.tables, &mut lease, &target, &options, &limits).await.unwrap();
            // The user's events still arrive, and stay out.
            writer.append(vec![click("ada", "late"), click("bob", "late")]);
            world.load().await;
            check(&world, 4, &format!("{operations} operations, {is_done}")).await;
            assert_eq!(erase::count(&world.tables, &target, &limits).await.unwrap().rows, 0);
        }
        if deaths < before + 2 {
            break;
        }
    }
    assert!(deaths >= 4, "{deaths}");
}
