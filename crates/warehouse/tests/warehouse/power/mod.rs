//! Power cuts of a whole host: journals, tables, and what loader and maintenance keep beside them, on one disk that loses
//! what wasn't synced (fault 89).
//!
//! Journal, loader, compaction, vacuum and deltalake are the real ones; only the disk is simulated, below the kernel. Each
//! life ends in one of its changing calls, chosen by the seed, or after them. Publishers send again what they may have
//! sent before. At the end each acknowledged event is one row, whatever segment is gone. TICKSTREAM_POWER_CUTS sets how many
//! seeds are run, TICKSTREAM_POWER_CUT_SEED runs one. They need root and /dev/fuse; without, they say so and pass.

mod disk;
mod fuse;
mod server;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;
use tickstream_schema::events::Event;
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::loader::Loader;
use tickstream_warehouse_core::maintenance::{Lease, compact, vacuum, verify};
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits, Role};
use tickstream_warehouse_core::store::Tables;

use crate::common::{chain, click, log, options, text};
use disk::{Disk, Lie};
use fuse::Mount;
use server::Server;

/// Seeds without TICKSTREAM_POWER_CUTS.
const SEEDS: u64 = 12;
/// Seeds that a planted bug may take until it is found.
const SEEDS_OF_BUGS: u64 = 60;

type Failed = Box<dyn std::error::Error>;

/// A host with a disk, over all its lives.
struct Host {
    seed: u64,
    rng: Rng,
    directory: TempDir,
    disk: Arc<Mutex<Disk>>,
    acknowledged: BTreeSet<Vec<u8>>,
    sent: BTreeSet<Vec<u8>>,
    /// Batches that publishers may send again.
    batches: Vec<Vec<Event>>,
}

impl Host {
    fn new(seed: u64, lie: Option<Lie>) -> Self {
        let mut rng = Rng::with_seed(seed);
        Self {
            seed,
            disk: Arc::new(Mutex::new(Disk::new(rng.u64(..), lie))),
            rng,
            directory: tempfile::tempdir().expect("a temporary directory"),
            acknowledged: BTreeSet::new(),
            sent: BTreeSet::new(),
            batches: Vec::new(),
        }
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn tables(&self) -> Result<Tables, Failed> {
        Ok(Tables::at(self.root().join("tables").to_str().expect("UTF-8"), None)?)
    }

    /// All lives; the reason if an event is lost or doubled, or a start fails.
    async fn run(mut self) -> Result<u64, String> {
        let mut calls = 0;
        for _ in 0..self.rng.u32(1..4) {
            let mount = self.mount()?;
            mount.disk().set_fuse(self.rng.u64(1..700));
            let outcome = self.live().await;
            let mut disk = mount.disk();
            if let Err(error) = outcome
                && !disk.is_dark()
            {
                return Err(format!("seed {}: failed with power: {}", self.seed, chain(&*error)));
            }
            calls += disk.calls;
            disk.cut_power();
        }
        let mount = self.mount()?;
        let checked = self.check().await;
        drop(mount);
        checked.map(|()| calls).map_err(|error| format!("seed {}: {}", self.seed, chain(&*error)))
    }

    fn mount(&self) -> Result<Mount, String> {
        Mount::new(self.disk.clone(), self.root()).map_err(|error| error.to_string())
    }

    fn journals(&self) -> std::path::PathBuf {
        self.root().join("journals")
    }

    fn server(&mut self) -> Result<Server, Failed> {
        Server::open(&self.journals().join("000"), self.rng.u64(..))
    }

    async fn live(&mut self) -> Result<(), Failed> {
        let mut server = self.server()?;
        let tables = self.tables()?;
        let mut loader = None;
        for _ in 0..self.rng.u32(5..30) {
            match self.rng.u8(..16) {
                0..7 => self.publish(&mut server)?,
                7..11 => {
                    if loader.is_none() {
                        loader = Some(Loader::open(&tables, &[self.journals()], options()).await?);
                    }
                    if let Some(loader) = &mut loader {
                        loader.load_all().await?;
                    }
                }
                11..13 => server.retain()?,
                13 => {
                    if let Some(loader) = &mut loader {
                        loader.save()?;
                    }
                }
                _ if loader.is_some() => maintain(&tables).await?,
                _ => {}
            }
        }
        Ok(())
    }

    fn publish(&mut self, server: &mut Server) -> Result<(), Failed> {
        let again = self.batches.len();
        let batch = match self.rng.u8(..4) {
            0 if again > 0 => self.batches[self.rng.usize(..again)].clone(),
            _ => {
                let user = format!("user-{}", self.rng.u8(..5));
                let batch: Vec<Event> = (0..self.rng.u8(1..6))
                    .map(|number| match number % 2 {
                        0 => click(&user, "scroll"),
                        _ => log("shop", tickstream_schema::events::LogLevel::Info, "came"),
                    })
                    .collect();
                self.batches.push(batch.clone());
                batch
            }
        };
        self.sent.extend(batch.iter().map(|event| event.event_id.clone()));
        server.publish(&batch, &mut self.acknowledged)?;
        Ok(())
    }

    /// After the last cut: all that is left is loaded, and compared.
    async fn check(&mut self) -> Result<(), Failed> {
        drop(self.server()?);
        let tables = self.tables()?;
        let mut loader = Loader::open(&tables, &[self.journals()], options()).await?;
        loader.load_all().await?;
        let report = verify::verify(&tables, &[self.journals()]).await?;
        if !report.is_right() {
            return Err(format!("{report:?}").into());
        }
        let ids = Ids::Files(tables.state().to_owned());
        let engine =
            Engine::open(&tables, Vec::new(), ids, Geo::default(), Limits::new(tables.state())).await?;
        let answer = engine.query("SELECT event_id FROM events", &Role::local()).await?;
        let rows: Vec<String> = text(&answer.collect().await?);
        let distinct: BTreeSet<_> = rows.iter().cloned().collect();
        let named = |ids: &BTreeSet<Vec<u8>>| ids.iter().map(|id| uuid(id)).collect::<BTreeSet<String>>();
        let (acknowledged, sent) = (named(&self.acknowledged), named(&self.sent));
        let (lost, invented) =
            (acknowledged.difference(&distinct).count(), distinct.difference(&sent).count());
        let doubled = rows.len() - distinct.len();
        match (lost, doubled, invented) {
            (0, 0, 0) => Ok(()),
            _ => Err(format!("{lost} events lost, {doubled} doubled, {invented} invented").into()),
        }
    }
}

async fn maintain(tables: &Tables) -> Result<(), Failed> {
    let limits = Limits::new(tables.state());
    let merged = compact::Options { files_min: 2, ..compact::Options::default() };
    let ages =
        vacuum::Options { removed_for: Duration::ZERO, orphaned_for: Duration::ZERO, orphaned_before: None };
    let mut lease = Lease::take(tables).await?;
    compact::compact(tables, &mut lease, &merged, &limits).await?;
    vacuum::vacuum(tables, &mut lease, &ages).await?;
    Ok(())
}

fn uuid(id: &[u8]) -> String {
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// True if a disk can be mounted here.
fn can_mount() -> bool {
    let directory = tempfile::tempdir().expect("a temporary directory");
    match Mount::new(Arc::new(Mutex::new(Disk::new(0, None))), directory.path()) {
        Ok(_) => true,
        Err(error) => {
            eprintln!("not run: a disk can't be mounted here: {error}");
            false
        }
    }
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_89_a_power_cut_of_the_host_loses_and_doubles_nothing() {
    if !can_mount() {
        return;
    }
    let seeds = match number_of("TICKSTREAM_POWER_CUT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_of("TICKSTREAM_POWER_CUTS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        Host::new(seed, None).run().await.unwrap();
    }
}

/// A disk that answers a sync and does nothing is as a program without that sync.
#[tokio::test(flavor = "multi_thread")]
async fn fault_89_each_missing_sync_is_found() {
    if !can_mount() {
        return;
    }
    for lie in [Lie::Rows, Lie::Log, Lie::Directories] {
        let mut found = None;
        for seed in 0..SEEDS_OF_BUGS {
            if let Err(reason) = Host::new(seed, Some(lie)).run().await {
                found = Some(reason);
                break;
            }
        }
        let found = found.unwrap_or_else(|| panic!("nobody notices that {lie:?} aren't synced"));
        println!("{lie:?}: {found}");
    }
}
