//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tickstream_warehouse_core::import::Form;
use tickstream_warehouse_core::query::Format;

/// Loads tickstream's journals into Delta tables, keeps them in order, and answers SQL.
#[derive(Debug, Parser)]
#[command(name = "tickstream-warehouse", version, arg_required_else_help = true)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load what the journals have and what comes, keep the tables in order, and answer SQL over HTTP
    Run(Run),
    /// Load what the journals have now, and end
    Load(Load),
    /// Answer one SQL query
    Query(Query),
    /// Show the tables: kinds, rows, files, bytes
    Tables(Place),
    /// Bring the tables up to date that are derived from events: sessions, groups of errors, costs shared out
    Transform(Transform),
    /// Make few large files of many small ones
    Compact(Place),
    /// Remove files that no version in use names
    Vacuum(Vacuum),
    /// Compute device, system, browser, channel and place of stored events anew
    Enrich(Enrich),
    /// Compare the rows with the journals; the exit code is 1 if they differ
    Verify(Verify),
    /// Erase a user or a session from the tables
    Erase(Erase),
    /// Write all that the tables have of a user, as JSON lines, or the costs in FOCUS' columns
    Export(Export),
    /// Import events, costs or findings from a file
    Import(Import),
    /// Write a team's page as a file
    Report(Report),
    /// Say which alert rules fire; the exit code is 1 if one does
    Alerts(Alerts),
    /// Compare the events with the tracking plan
    #[command(subcommand)]
    Plan(Plan),
    /// Say what of this host and these tables stands in the way
    Doctor(Doctor),
    /// Run a server and a warehouse with a month of generated events, then live ones
    Demo(Demo),
}

/// Place of the tables.
#[derive(Args, Debug)]
pub struct Place {
    /// Directory of the tables, or their URI: s3://bucket/prefix
    #[arg(long, value_name = "URI")]
    pub tables: String,
    /// Directory of this host for locks, ids of the newest events and the secret of identifiers
    ///
    /// For tables in a directory it is _tickstream beside them.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// `run`; its settings are those of the module `settings`.
#[derive(Args, Debug)]
pub struct Run {
    /// TOML file of settings; flags and variables come before it
    #[arg(long, value_name = "FILE", env = "TICKSTREAM_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the effective settings, and end
    #[arg(long)]
    pub print_config: bool,
}

/// `load`
#[derive(Args, Debug)]
pub struct Load {
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Directory that `tickstream serve --journal` was given, or one journal's
    #[arg(long, value_name = "DIR", required = true, num_args = 1..)]
    pub journal: Vec<PathBuf>,
    /// End when all that is there now is loaded
    #[arg(long, required = true)]
    pub once: bool,
    /// Go on with the journal in this directory although it has lost records or isn't the one that was loaded
    #[arg(long, value_name = "DIR")]
    pub accept: Vec<PathBuf>,
}

/// `query`
#[derive(Args, Debug)]
pub struct Query {
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Journals whose newest events the answer has, too
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub journal: Vec<PathBuf>,
    /// One SELECT, EXPLAIN or SHOW
    #[arg(value_name = "SQL")]
    pub sql: Option<String>,
    /// Form of the answer: table, csv, json (an object a line) or parquet
    #[arg(long, default_value = "table")]
    pub format: Format,
    /// Show pseudonyms instead of users and sessions, and no personal contents
    #[arg(long)]
    pub masked: bool,
    /// Seconds that the query may take
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub time: Option<Duration>,
    /// Memory that the query may take, MiB; sorts, joins and aggregates that need more go to disk
    #[arg(long, value_name = "MIB")]
    pub memory: Option<usize>,
    /// Rows that the answer may have
    #[arg(long, value_name = "ROWS")]
    pub rows: Option<u64>,
}

/// `alerts`
#[derive(Args, Debug)]
pub struct Alerts {
    /// File of rules
    #[arg(value_name = "FILE")]
    pub rules: PathBuf,
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Journals whose newest events count, too
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub journal: Vec<PathBuf>,
    /// Try the rules at this time of the past (RFC 3339) instead of now
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Try the rules at each hour of so many days before
    #[arg(long, value_name = "DAYS")]
    pub past_days: Option<u32>,
    /// Tell the webhook and the Alertmanager of the file; those that are silenced aren't told
    #[arg(long, conflicts_with = "past_days")]
    pub send: bool,
}

/// `plan`
#[derive(Debug, Subcommand)]
pub enum Plan {
    /// List events that lack a needed field, and items without data; the exit code is 1 if an event breaks the plan
    Check(PlanCheck),
}

/// `plan check`
#[derive(Args, Debug)]
pub struct PlanCheck {
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Days before now whose events are compared
    #[arg(long, value_name = "DAYS", default_value_t = 30.0)]
    pub days: f64,
    /// Plan instead of the standard one
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
}

/// `report`
#[derive(Args, Debug)]
pub struct Report {
    /// marketing, product, engineering, video, operations, security or cost
    #[arg(value_name = "TEAM")]
    pub team: String,
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Journals whose newest events the report has, too
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub journal: Vec<PathBuf>,
    /// Form of the report: html, csv or json
    #[arg(long, default_value = "html")]
    pub format: tickstream_insights::pages::Format,
    /// Period and filters as the page's address has them, such as "days=7&platform=web"
    #[arg(long, value_name = "QUERY", default_value = "")]
    pub filters: String,
    /// Show pseudonyms instead of users and sessions, and no personal contents
    #[arg(long)]
    pub masked: bool,
}

/// `transform`
#[derive(Args, Debug)]
pub struct Transform {
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Compute all parts from the events, not only those in which something changed; the rows are the same
    #[arg(long)]
    pub rebuild: bool,
}

/// `vacuum`
#[derive(Args, Debug)]
pub struct Vacuum {
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Seconds since a commit gave a file up, from which it is removed
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub removed_for: Duration,
    /// Seconds since a file was written that no commit names, from which it is removed
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub orphaned_for: Duration,
}

/// `enrich`
#[derive(Args, Debug)]
pub struct Enrich {
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Database of addresses in MaxMind's format; without it, country and city stay as they are
    #[arg(long, value_name = "FILE")]
    pub geoip: Option<PathBuf>,
    /// Rows of the present version, too, and not only those of older ones
    #[arg(long)]
    pub all: bool,
}

/// `verify`
#[derive(Args, Debug)]
pub struct Verify {
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Directory that `tickstream serve --journal` was given, or one journal's
    #[arg(long, value_name = "DIR", required = true, num_args = 1..)]
    pub journal: Vec<PathBuf>,
}

/// Rows to erase.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Person {
    /// The user's id, as applications send it
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,
    /// The session's id, as applications send it
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// The device's or browser's anonymous id, as applications send it
    #[arg(long, value_name = "ID")]
    pub device: Option<String>,
    /// A condition in SQL over the columns of events; later events that meet it are loaded
    #[arg(long, value_name = "SQL")]
    pub condition: Option<String>,
}

/// `erase`
#[derive(Args, Debug)]
pub struct Erase {
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Journals that may have such events, too: how long they keep them is told
    #[arg(long, value_name = "DIR")]
    pub journal: Vec<PathBuf>,
    /// Person who is erased.
    #[command(flatten)]
    pub person: Person,
    /// ClickHouse that mirrors the tables, from which the rows are deleted, too
    #[arg(long, value_name = "URL")]
    pub clickhouse: Option<String>,
    /// Count what would be erased, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Seconds to wait before old files are removed: queries that began earlier end within them
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub grace: Duration,
}

/// `export`
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Export {
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Journals whose newest events are exported, too
    #[arg(long, value_name = "DIR", conflicts_with = "focus")]
    pub journal: Vec<PathBuf>,
    /// The user's id, as applications send it: all events as JSON lines
    #[arg(long, value_name = "ID", group = "what")]
    pub user: Option<String>,
    /// The costs of cost_analysis as CSV with the columns of FOCUS 1.0, shared out to owners
    #[arg(long, group = "what")]
    pub focus: bool,
    /// Period of the costs as a page's address has it, such as "from=2026-11-01&to=2026-12-01"
    #[arg(long, value_name = "QUERY", default_value = "days=30", conflicts_with = "user")]
    pub filters: String,
}

/// `import`
#[derive(Args, Debug)]
pub struct Import {
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Form of the files: json, csv, parquet, focus, ad-spend, sarif, cyclonedx or cloudwatch
    #[arg(long)]
    pub format: Form,
    /// Files to import; the same file is imported once
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// `doctor`
#[derive(Args, Debug)]
pub struct Doctor {
    /// Place of the tables.
    #[command(flatten)]
    pub place: Place,
    /// Directory that `tickstream serve --journal` was given, or one journal's
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub journal: Vec<PathBuf>,
}

/// `demo`
#[derive(Args, Debug)]
pub struct Demo {
    /// Directory for journals and tables, which stays; without it, a temporary one
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Days of generated events
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub days: u32,
    /// Address of the server, for what publishes
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub listen: SocketAddr,
    /// Address for POST /v1/query
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7480")]
    pub http: SocketAddr,
    /// Address for clients of PostgreSQL
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7432")]
    pub postgres: SocketAddr,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
