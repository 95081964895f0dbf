//! Files of the tables that are damaged: the query that needs one names it, others go on.

use std::path::{Path, PathBuf};

use deltalake::protocol::checkpoints;
use tickstream_schema::events::LogLevel;
use tickstream_warehouse_core::maintenance::verify;
use tickstream_warehouse_core::query::{Engine, Role};

use crate::common::{World, chain, click, lines, log};

/// Files below a directory whose path has all of these parts.
fn files(directory: &Path, parts: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, parts));
        } else if parts.iter().all(|part| path.to_str().unwrap().contains(part)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

async fn error_of(engine: &Engine, sql: &str) -> String {
    match engine.query(sql, &Role::local()).await {
        Err(error) => chain(&error),
        Ok(answer) => match answer.collect().await {
            Err(error) => chain(&error),
            Ok(rows) => panic!("{sql} was answered: {rows:?}"),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_77_a_damaged_file_is_named_and_other_queries_go_on() {
    const LOGS: &str = "SELECT count(DISTINCT raw_data) FROM events WHERE event_type = 'log'";
    const CLICKS: &str = "SELECT count(DISTINCT raw_data) FROM events WHERE event_type = 'user_interaction'";
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append((0..50).map(|_| log("shop", LogLevel::Info, "something happened")).collect());
    writer.append(vec![click("ada", "scroll")]);
    world.load().await;
    let engine = world.engine(false).await;
    let path =
        files(&world.directory.path().join("tables/events"), &["event_type=log", ".parquet"]).remove(0);
    let name = path.file_name().unwrap().to_str().unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    let middle = whole.len() / 4;
    flipped[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x5A);
    let damages: [Option<&[u8]>; 4] = [Some(&whole[..whole.len() / 2]), Some(&[]), Some(&flipped), None];
    for damage in damages {
        match damage {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = error_of(&engine, LOGS).await;
        assert!(error.contains(name) || error.contains("verify"), "{error}");
        let report = verify::verify(&world.tables, &[world.journals()]).await.unwrap();
        assert!(
            !report.is_right() && report.damaged.len() == 1 && report.damaged[0].contains(name),
            "{report:?}"
        );
        assert_eq!(lines(&engine, CLICKS, &Role::local()).await, ["1"]);
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(lines(&engine, LOGS, &Role::local()).await, ["50"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_78_a_torn_entry_of_the_log_is_named_and_a_missing_checkpoint_is_not_needed() {
    const COUNT: &str = "SELECT count(*) FROM events";
    let world = World::new();
    let mut writer = world.writer(0);
    for round in 0..6 {
        writer.append((0..20).map(|_| click("ada", "scroll")).collect());
        world.load().await;
        if round == 3 {
            checkpoints::create_checkpoint(&world.tables.open().await.unwrap(), None).await.unwrap();
        }
    }
    let log = world.directory.path().join("tables/events/_delta_log");
    let checkpoints = files(&log, &[".checkpoint.parquet"]);
    assert!(!checkpoints.is_empty());
    assert_eq!(world.query(true, COUNT).await, ["120"]);
    // What names the checkpoint is lost; then the checkpoint itself, whose entries are still there.
    std::fs::remove_file(log.join("_last_checkpoint")).unwrap();
    assert_eq!(world.query(true, COUNT).await, ["120"]);
    checkpoints.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(world.query(true, COUNT).await, ["120"]);
    writer.append(vec![click("ada", "scroll")]);
    world.load().await;
    assert_eq!(world.query(false, COUNT).await, ["121"]);
    // A torn entry can't come from a power cut; a broken disk may make one.
    let last = files(&log, &[".json"]).pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
    let error = chain(&world.tables.open().await.err().expect("it is torn"));
    let version: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    assert!(error.contains(&version.to_string()), "{error}");
}
