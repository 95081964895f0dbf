//! `demo`: a server and a warehouse in one process, a month of generated events, then live ones.

mod live;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tickstream_insights::transform;
use tickstream_server::config::Config;
use tickstream_server::serve::Server;
use tickstream_service::credentials::Credentials;
use tickstream_service::logs::LogGuard;
use tickstream_service::settings::Values;
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::import;
use tickstream_warehouse_core::maintenance::Lease;
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits, Role};
use tickstream_warehouse_core::sample::{History, Truth, planted};
use tickstream_warehouse_core::store::Tables;

use crate::args::Demo;
use crate::place::maintenance_limits;
use crate::run;
use crate::settings::TABLE;

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// If server or warehouse can't start, or end early.
pub async fn run(args: &Demo, log: &LogGuard) -> Result<ExitCode> {
    let temporary;
    let directory = match &args.directory {
        Some(directory) => directory.as_path(),
        None => {
            temporary = tempfile::Builder::new().prefix("tickstream-demo-").tempdir()?;
            temporary.path()
        }
    };
    let (tables_path, journal) = (directory.join("tables"), directory.join("journals"));
    let tables = Tables::at(tables_path.to_str().context("the directory's name is no UTF-8")?, None)?;
    println!("making {} days of events …", args.days);
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let mut history = History::new(u64::from(args.days), now_ns);
    let report = import::import_events(&tables, history.by_ref(), *b"tickstream demo.").await?;
    let truth = history.truth();
    let is_new = report.imported == truth.events;
    compare(&tables, &truth, is_new).await?;
    // Facts that the teams' pages show: channels, an experiment, an outage, an attack, a bill.
    let (planted, _) = planted::planted(now_ns);
    let addresses = directory.join("addresses.mmdb");
    std::fs::write(&addresses, planted::addresses::database())?;
    let geo = Geo::read(&addresses)?;
    import::import_events_with(&tables, planted.into_iter(), *b"tickstream plant", geo).await?;
    derive(&tables).await?;

    let credentials = Credentials { user: "demo".to_owned(), pass: random_password()? };
    let config = Config::from_values([
        ("stream_user", credentials.user.clone()),
        ("stream_pass", credentials.pass.clone()),
        ("listen", args.listen.to_string()),
        ("shards", "1".to_owned()),
        ("journal", journal.display().to_string()),
        ("journal_segment_mib", "4".to_owned()),
        ("journal_max_mib", "64".to_owned()),
    ])?;
    let (server, _admin) = Server::start_with_admin(config, log)?;
    let address = server.address().to_string();
    let publisher = tokio::spawn(live::publish(address.clone(), credentials.clone()));
    let values = Values::of_program(
        &TABLE,
        [
            ("tables", tables_path.display().to_string()),
            ("journal", journal.display().to_string()),
            ("geoip", addresses.display().to_string()),
            ("http", args.http.to_string()),
            ("postgres", args.postgres.to_string()),
        ],
    )?;
    introduce(
        args,
        &tables_path.display().to_string(),
        &journal.display().to_string(),
        &address,
        &credentials,
    );
    let ended = run::run(&values, log).await;
    publisher.abort();
    server.stop();
    tokio::task::spawn_blocking(move || server.wait()).await??;
    ended
}

/// Computes sessions, groups of errors and costs shared out.
async fn derive(tables: &Tables) -> Result<()> {
    let ids = Ids::Files(tables.state().to_owned());
    let engine = Engine::open(tables, Vec::new(), ids, Geo::default(), maintenance_limits(tables)).await?;
    let mut lease = Lease::take(tables).await?;
    transform::update(tables, &mut lease, &engine, false).await?;
    lease.release().await;
    Ok(())
}

/// Asks the tables what the generator knows.
async fn compare(tables: &Tables, truth: &Truth, is_new: bool) -> Result<()> {
    let ids = Ids::Files(tables.state().to_owned());
    let engine = Engine::open(tables, Vec::new(), ids, Geo::default(), Limits::new(tables.state())).await?;
    println!("{:<34} {:>10} {:>10}", "", "generated", "by SQL");
    for (what, sql, expected) in questions(truth) {
        let batches = engine.query(&sql, &Role::local()).await?.collect().await?;
        let found = tickstream_warehouse_core::query::format::texts(&batches[0], 0)?.concat();
        println!("{what:<34} {expected:>10} {found:>10}");
        if is_new && found != expected.to_string() {
            anyhow::bail!("the tables say {found} for {what}, the generator {expected}: please report this");
        }
    }
    Ok(())
}

/// Questions whose answers are known.
fn questions(truth: &Truth) -> Vec<(&'static str, String, u64)> {
    let funnel = "SELECT user_id, window_funnel(3600000000000, timestamp_ns, event_name = 'product_viewed', \
                  event_name = 'added_to_cart', event_name = 'purchased') AS steps FROM events \
                  WHERE event_type = 'user_interaction' GROUP BY user_id";
    let reached = |steps: u32| format!("SELECT count(*) FROM ({funnel}) WHERE steps >= {steps}");
    vec![
        ("events", "SELECT count(*) FROM events".to_owned(), truth.events),
        ("users", "SELECT count(DISTINCT user_id) FROM events".to_owned(), truth.users),
        ("funnel: viewed a product", reached(1), truth.funnel[0]),
        ("funnel: then put it into the cart", reached(2), truth.funnel[1]),
        ("funnel: then paid, within an hour", reached(3), truth.funnel[2]),
        (
            "revenue, euros",
            "SELECT CAST(sum(json_number(raw_data, 'revenue.amount')) AS BIGINT) FROM events".to_owned(),
            truth.revenue,
        ),
        (
            "log lines of level error",
            "SELECT count(*) FROM logs WHERE level = 'error'".to_owned(),
            truth.errors,
        ),
        ("video views", "SELECT count(DISTINCT view_id) FROM video_analytics".to_owned(), truth.views),
    ]
}

fn introduce(args: &Demo, tables: &str, journal: &str, address: &str, credentials: &Credentials) {
    let Credentials { user, pass } = credentials;
    println!(
        "\nserver and warehouse run; some 20 events a second come live; Ctrl-C ends both. To try:\n\n\
         pages        http://{}/\n\
         psql         psql 'host={} port={} user=demo dbname=tickstream' -c 'SELECT event_name, count(*) FROM events GROUP BY 1'\n\
         HTTP         curl -d 'SELECT * FROM logs ORDER BY timestamp DESC LIMIT 5' http://{}/v1/query\n\
         command      tickstream-warehouse query --tables {tables} --journal {journal} 'SELECT count(*) FROM events'\n\
         DuckDB       SELECT event_type, count(*) FROM delta_scan('{tables}/events') GROUP BY 1\n\
         publish      STREAM_USER={user} STREAM_PASS={pass} tickstream publish --addr {address} FILE\n",
        args.http,
        args.postgres.ip(),
        args.postgres.port(),
        args.http,
    );
}

fn random_password() -> Result<String> {
    use std::io::Read;
    let mut random = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
