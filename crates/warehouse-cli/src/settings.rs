//! Settings of `run`: one entry each, from which flags, variables, file and help come.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use tickstream_service::settings::{Flags, Setting, Table, ValueError, flags, kind};
use tickstream_service::standard::Standard;

/// Every setting of `run`.
pub static TABLE: Table = Table {
    command: "tickstream-warehouse run",
    groups: &[Settings::SECTIONS, Standard::SECTIONS],
    former_variables: &[],
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

tickstream_service::settings! {
    /// Settings of `run`, each valid by itself.
    pub struct Settings, handles in setting;

    section "Tables" {
        /// Directory of the tables, or their URI: s3://bucket/prefix.
        tables: String = text().value_name("URI");
        /// Directory of this host for locks, ids of the newest events and the secret of identifiers.
        state: Option<PathBuf> = kind::path().or_none("_tickstream beside tables in a directory");
    }

    section "Loading" {
        /// Directories that `tickstream serve --journal` was given, or single journals; repeat the flag, or part them by commas.
        journal: Vec<PathBuf> = paths().or_none_of_them("none: nothing is loaded");
        /// Directories of journals to go on with although they have lost records or aren't those that were loaded.
        accept: Vec<PathBuf> = paths().or_none_of_them("none");
        /// Time between two commits, at least.
        interval: Duration = kind::duration(Duration::from_millis(50), HOUR).default("1s");
        /// URL of a ClickHouse that gets the events, too: http://user:password@host:8123/database.
        clickhouse: Option<String> = optional_text().or_none("none").value_name("URL").secret();
        /// Database of addresses in MaxMind's format, for the columns country and city.
        geoip: Option<PathBuf> = kind::path().or_none("none: the columns are empty");
    }

    section "Queries" {
        /// Address for POST /v1/query. Without users it must be one of the loopback.
        http: Option<SocketAddr> = kind::optional_address().or_none("none");
        /// Address for clients of PostgreSQL. Without users it must be one of the loopback.
        postgres: Option<SocketAddr> = kind::optional_address().or_none("none");
        /// TOML file of users: [[user]] with name, password_file and sees_personal.
        users: Option<PathBuf> = kind::path().or_none("none: every process of this host may ask, and sees all");
        /// Certificate chain for both wires, PEM.
        tls_certificate: Option<PathBuf> = kind::path().or_none("none: no TLS");
        /// Private key of the certificate, PEM.
        tls_key: Option<PathBuf> = kind::path().or_none("none");
        /// Time that a query may take.
        query_time: Duration = kind::duration(SECOND, HOUR).default("60s");
        /// Memory that a query may take; sorts, joins and aggregates that need more go to disk.
        query_memory_mib: u32 = kind::integer(16, 1 << 20, "MiB").default("512");
        /// Rows that an answer may have.
        query_rows: u32 = kind::integer(1, u32::MAX, "").default("10000000");
        /// Queries that run at the same time; more of them wait.
        queries_max: u32 = kind::integer(1, 1_000, "").default("4");
    }

    section "Maintenance" {
        /// Time between two rounds of compaction, vacuum, retention and jobs.
        maintenance_interval: Duration = kind::duration(SECOND, DAY).default("60s");
        /// TOML file of rules: [[retention]], [[job]].
        rules: Option<PathBuf> = kind::path().or_none("none: everything is kept, no job runs");
    }
}

const fn text() -> Setting<String> {
    kind::text(|| "a text".to_owned(), |text| Ok(text.to_owned()))
}

const fn optional_text() -> Setting<Option<String>> {
    kind::text(|| "a URL".to_owned(), |text| Ok(Some(text.to_owned())))
}

const fn paths() -> Setting<Vec<PathBuf>> {
    kind::text(|| "paths, parted by commas".to_owned(), read_paths)
}

fn read_paths(text: &str) -> Result<Vec<PathBuf>, ValueError> {
    Ok(text.split(',').map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from).collect())
}

/// Settings that are lists, whose flags may be repeated.
const LISTS: [&str; 2] = ["journal", "accept"];

/// A flag for each setting.
pub fn args() -> impl Iterator<Item = Arg> {
    flags::args(&TABLE).map(|arg| {
        let is_list = LISTS.iter().any(|list| arg.get_id() == list);
        if is_list { arg.action(ArgAction::Append).num_args(1..) } else { arg }
    })
}

/// The flags that were given.
pub fn given(matches: &ArgMatches) -> Flags {
    let mut given = flags::given(matches, &TABLE);
    for list in LISTS {
        if let Some(first) = given.get_mut(list)
            && let Some(all) = matches.get_many::<OsString>(list)
        {
            *first = all.cloned().collect::<Vec<_>>().join(std::ffi::OsStr::new(","));
        }
    }
    given
}
