//! Measures analyses and pages over generated events: `speed DIRECTORY EVENTS [PART…]`. Tables that are there already are used again.
//! Parts are `update`, `explore` and `pages`; without one, all are measured.
//!
//! A month of a shop: persons with visits of some minutes, steps of a funnel, devices that sign in later, spans, logs, host
//! metrics and a bill. Each figure is the median of five, after one that isn't counted; two threads.

mod events;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use events::Shop;
use tickstream_insights::answers::Answers;
use tickstream_insights::ask::Asker;
use tickstream_insights::filters::{Filters, Parameters, now};
use tickstream_insights::pages::Site;
use tickstream_insights::teams::TEAMS;
use tickstream_insights::transform;
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::import::import_events;
use tickstream_warehouse_core::maintenance::{Lease, compact};
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits, Role};
use tickstream_warehouse_core::serve::Pages;
use tickstream_warehouse_core::store::Tables;

/// Threads of one query.
const THREADS: usize = 2;
/// Runs of one question, without the first.
const RUNS: usize = 5;
/// Events of one import.
const IMPORT: u64 = 2_000_000;
/// Events that come late, for an update.
const LATE: u64 = 100_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(events)) = (arguments.next(), arguments.next()) else {
        return Err("usage: speed DIRECTORY EVENTS [update|explore|pages]…".into());
    };
    let parts: Vec<String> = arguments.collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .thread_stack_size(16 << 20)
        .build()?;
    runtime.block_on(run(PathBuf::from(directory), events.parse()?, &parts))
}

async fn run(directory: PathBuf, events: u64, parts: &[String]) -> Result<(), Failure> {
    let tables = Tables::at(directory.to_str().ok_or("the directory's name is no UTF-8")?, None)?;
    if tables.open_named("events").await?.is_none() {
        make(&tables, events).await?;
    }
    let mut limits = Limits::new(tables.state());
    (limits.threads, limits.time, limits.memory_bytes) = (THREADS, Duration::from_secs(3_600), 2 << 30);
    let ids = Ids::Files(tables.state().to_owned());
    let engine = Arc::new(Engine::open(&tables, Vec::new(), ids, Geo::default(), limits).await?);
    println!("{:<44} {:>12}", "question", "ms");
    let is_asked = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    if is_asked("update") {
        update(&tables, &engine, events).await?;
    }
    if is_asked("explore") {
        explore(&engine).await?;
    }
    if is_asked("pages") {
        pages(&engine).await?;
    }
    Ok(())
}

/// Imports a month of events, and compacts them as the warehouse does.
async fn make(tables: &Tables, events: u64) -> Result<(), Failure> {
    let mut shop = Shop::new(now());
    for part in 0..events.div_ceil(IMPORT) {
        let count = IMPORT.min(events - part * IMPORT);
        let begun = Instant::now();
        import_events(tables, shop.by_ref().take(count as usize), [part as u8 + 1; 16]).await?;
        eprintln!("{count} events in {:.1} s", begun.elapsed().as_secs_f64());
    }
    let mut lease = Lease::take(tables).await?;
    let options = compact::Options { files_min: 2, ..compact::Options::default() };
    let report = compact::compact(tables, &mut lease, &options, &Limits::new(tables.state())).await?;
    eprintln!("{report:?}");
    Ok(())
}

/// Rebuilds the derived tables, then brings them up to date after late events.
async fn update(tables: &Tables, engine: &Engine, events: u64) -> Result<(), Failure> {
    let mut lease = Lease::take(tables).await?;
    let begun = Instant::now();
    let done = transform::update(tables, &mut lease, engine, true).await?;
    shown("rebuild of all derived tables", begun.elapsed());
    eprintln!("{done:?}");
    let mut late = Shop::late(now(), events);
    import_events(tables, late.by_ref().take(LATE as usize), new_origin()).await?;
    let begun = Instant::now();
    transform::update(tables, &mut lease, engine, false).await?;
    let took = begun.elapsed();
    shown("update after 100,000 events of a day", took);
    println!("{:<44} {:>12.0}", "  events/s", LATE as f64 / took.as_secs_f64());
    Ok(())
}

/// An origin that no import has had.
fn new_origin() -> [u8; 16] {
    let mut origin = [0; 16];
    origin[..8].copy_from_slice(&now().to_le_bytes());
    origin
}

/// Questions of Explore, and a session's time line.
async fn explore(engine: &Arc<Engine>) -> Result<(), Failure> {
    let site = Site::new(engine.clone(), Arc::new(Answers::new(engine.clone()).with_patience(Duration::MAX)));
    let session =
        engine.query("SELECT max(session_id) FROM events WHERE timestamp_ns > 0", &Role::local()).await?;
    let session = session.collect().await?;
    let session = tickstream_warehouse_core::query::format::texts(&session[0], 0)?.concat();
    let steps =
        "step=product_viewed&step=added_to_cart&step=checkout_begun&step=address_given&step=purchased";
    let questions = [
        ("funnel of 5 steps", "/explore", format!("kind=funnel&{steps}&window=7")),
        ("retention of 8 weeks", "/explore", "kind=retention&days=56".to_owned()),
        ("paths", "/explore", "kind=paths".to_owned()),
        ("a session's time line", &format!("/session/{session}"), String::new()),
    ];
    for (name, path, query) in questions {
        let took = median(async || asked(&site, path, &query).await).await?;
        shown(name, took);
    }
    Ok(())
}

/// Each item computed, and each team's page as visitors get it.
async fn pages(engine: &Arc<Engine>) -> Result<(), Failure> {
    let answers = Arc::new(Answers::new(engine.clone()));
    let site = Site::new(engine.clone(), answers);
    let role = Role::local();
    for team in &TEAMS {
        for item in &team.items {
            let filters = Filters::read(&Parameters::default(), item.days, now());
            let begun = Instant::now();
            Asker::new(engine, &role).item(item, &filters).await?;
            shown(&format!("  {}/{}, computed", team.name, item.name), begun.elapsed());
        }
        let path = format!("/{}", team.name);
        let begun = Instant::now();
        asked(&site, &path, "").await?;
        shown(&format!("/{}, first visit", team.name), begun.elapsed());
        let took = median(async || asked(&site, &path, "").await).await?;
        shown(&format!("/{}", team.name), took);
    }
    Ok(())
}

async fn asked(site: &Site, path: &str, query: &str) -> Result<(), Failure> {
    let page = site.page(path, query, &Role::local()).await;
    let body = String::from_utf8_lossy(&page.body);
    if page.status != 200 || body.contains("No answer") {
        return Err(format!("{path}?{query}: {} {body}", page.status).into());
    }
    Ok(())
}

async fn median(mut run: impl AsyncFnMut() -> Result<(), Failure>) -> Result<Duration, Failure> {
    run().await?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        run().await?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times[RUNS / 2])
}

fn shown(name: &str, took: Duration) {
    println!("{name:<44} {:>12.1}", took.as_secs_f64() * 1e3);
}
