//! Hosts with a server, a warehouse and a publisher with a disk queue: their power is cut, their processes stand still.
//!
//! TICKSTREAM_POWER_CUTS sets how many hosts live their lives, TICKSTREAM_POWER_CUT_SEED runs one of them. Cuts need root
//! and /dev/fuse; without, the test says so and passes.

#[path = "../../../warehouse/tests/warehouse/power/disk.rs"]
#[expect(dead_code, reason = "the warehouse's own test plants bugs")]
mod disk;
#[path = "../../../warehouse/tests/warehouse/power/fuse.rs"]
mod fuse;
mod processes;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;

use disk::Disk;
use fuse::Mount;
use processes::{Failed, Host};
use tickstream_warehouse_core::loader::with_sources;

const SEEDS: u64 = 2;
const LIVES: u32 = 4;
/// Time of a process that stands still.
const PAUSE: Duration = Duration::from_secs(30);
/// Longest wait for what a process did before.
const CATCHES_UP: Duration = Duration::from_secs(60);

/// Not a test: other tests start it as a server.
#[test]
fn a_process_that_serves() {
    processes::serve_if_asked();
}

/// One life: everything runs until the disk goes dark in the middle of it.
async fn live(host: &mut Host, mount: &Mount, rng: &mut Rng) -> Result<(), Failed> {
    let server = host.serve()?;
    if host.acknowledged.is_empty() {
        // From here on the server keeps what isn't loaded.
        host.load_once()?;
    }
    let warehouse = host.load()?;
    let publisher = host.publisher().await?;
    let time = Duration::from_millis(rng.u64(200..2_500));
    let publishing = async {
        loop {
            host.publish(&publisher, 100).await?;
        }
    };
    let published: Result<Result<(), Failed>, _> = tokio::time::timeout(time, publishing).await;
    if let Ok(Err(error)) = published {
        return Err(error);
    }
    mount.disk().set_fuse(rng.u64(1..80));
    let last = host.publish(&publisher, 100);
    let _ = tokio::time::timeout(Duration::from_millis(500), last).await;
    // Whatever is still on its way meets a dark disk.
    mount.disk().set_fuse(0);
    drop((server, warehouse));
    // It writes nothing more when the power is back.
    publisher.close(Duration::ZERO).await;
    Ok(())
}

async fn lives_of(seed: u64) -> Result<(), Failed> {
    let mut rng = Rng::with_seed(seed);
    let directory = tempfile::tempdir()?;
    let mut host = Host::new(directory.path());
    let disk = Arc::new(Mutex::new(Disk::new(rng.u64(..), None)));
    for _ in 0..LIVES {
        let mount = Mount::new(disk.clone(), directory.path())?;
        live(&mut host, &mount, &mut rng).await?;
        mount.disk().cut_power();
    }
    let mount = Mount::new(disk.clone(), directory.path())?;
    let (server, warehouse) = (host.serve()?, host.load()?);
    // What is in the queue goes, too.
    let left = host.publisher().await?.close(CATCHES_UP).await;
    assert!(left.is_empty(), "{} events have no answer", left.len());
    server.end()?;
    warehouse.end()?;
    host.load_once()?;
    host.check()?;
    drop(mount);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_89_a_power_cut_of_server_warehouse_and_queue_together_loses_and_doubles_nothing() {
    let directory = tempfile::tempdir().unwrap();
    if let Err(error) = Mount::new(Arc::new(Mutex::new(Disk::new(0, None))), directory.path()) {
        eprintln!("not run: a disk can't be mounted here: {error}");
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("TICKSTREAM_POWER_CUT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TICKSTREAM_POWER_CUTS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        lives_of(seed).await.unwrap_or_else(|error| panic!("seed {seed}: {}", with_sources(&*error)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_90_each_process_stands_still_for_half_a_minute_and_catches_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::new(directory.path());
    let server = host.serve().unwrap();
    host.load_once().unwrap();
    let warehouse = host.load().unwrap();
    let publisher = host.publisher().await.unwrap();
    host.publish(&publisher, 100).await.unwrap();

    // Events go on while the warehouse stands still, with the lock and perhaps in the midst of a commit.
    warehouse.signal("STOP").unwrap();
    let pausing = async {
        loop {
            host.publish(&publisher, 5).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(PAUSE, pausing).await.is_err());
    warehouse.signal("CONT").unwrap();

    // Nobody gets an answer while the server stands still; then all do.
    server.signal("STOP").unwrap();
    let waiting = tokio::time::timeout(PAUSE, host.publish(&publisher, 100)).await;
    server.signal("CONT").unwrap();
    assert!(waiting.is_err(), "a server that stands still answers");
    tokio::time::timeout(CATCHES_UP, host.publish(&publisher, 100)).await.unwrap().unwrap();

    let left = publisher.close(CATCHES_UP).await;
    assert!(left.is_empty(), "{} events have no answer", left.len());
    host.acknowledged.clone_from(&host.taken);
    server.end().unwrap();
    // It loads what is there, and ends.
    warehouse.end().unwrap();
    host.check().unwrap();
}
