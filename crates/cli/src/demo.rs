//! `tickstream demo`: a server with clients and events, and everything else to try, until one Ctrl-C.

mod clients;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use tickstream_client::Mode;
use tickstream_server::config::{Config, ConfigError};
use tickstream_server::serve::{ServeError, Server};
use tickstream_service::admin::AdminAddress;
use tickstream_service::credentials::Credentials;
use tickstream_service::logs::LogGuard;
use tickstream_service::text::counted;

use crate::cli::{DemoArgs, WatchArgs};
use crate::watch::{self, WatchError};
use clients::Clients;

/// Bytes of the password before they are written in hexadecimal.
const PASSWORD_BYTES: usize = 16;
/// Clients, and ticks a second over all of them: the demo stays light, whatever the rate.
const CLIENTS: u32 = 200;
const CLIENT_TICKS_PER_SECOND: u32 = 20_000;

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The configuration, most likely the address.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The client.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// No randomness for a password.
    #[error("can't read /dev/urandom: {0}")]
    Random(io::Error),
    /// No place for the journal.
    #[error("can't make a temporary directory for the journal: {0}")]
    Directory(io::Error),
    /// No thread for the clients.
    #[error("can't start a thread for the clients: {0}")]
    Thread(io::Error),
}

/// Runs server and clients until the count is reached, a signal or a failure.
///
/// # Errors
/// See [`DemoError`].
pub fn run(args: &DemoArgs, log: &LogGuard) -> Result<(), DemoError> {
    let credentials = Credentials { user: "demo".to_owned(), pass: password().map_err(DemoError::Random)? };
    // Removed at the end.
    let journal =
        tempfile::Builder::new().prefix("tickstream-demo-").tempdir().map_err(DemoError::Directory)?;
    let config = Config::from_values([
        ("stream_user", credentials.user.clone()),
        ("stream_pass", credentials.pass.clone()),
        ("listen", args.listen.to_string()),
        ("shards", "1".to_owned()),
        ("ticks_per_second", args.ticks_per_second.to_string()),
        ("admin", "127.0.0.1:0".to_owned()),
        ("journal", journal.path().display().to_string()),
        ("journal_segment_mib", "4".to_owned()),
        ("journal_max_mib", "64".to_owned()),
        ("drain_seconds", "2s".to_owned()),
    ])?;
    let (server, admin) = Server::start_with_admin(config, log)?;
    let address = reachable(server.address()).to_string();
    let clients = args.clients.unwrap_or(CLIENTS.min(CLIENT_TICKS_PER_SECOND / args.ticks_per_second.get()));
    if !args.json {
        let admin = admin.as_ref().and_then(|(_, addresses)| addresses.first());
        introduce(args, (&address, &credentials), (clients, admin, journal.path()));
    }
    let clients = Clients::start(address.clone(), &credentials, clients).map_err(DemoError::Thread)?;
    let watched = watch::run(&WatchArgs {
        addrs: vec![address],
        credentials,
        tls: None,
        mode: args.mode,
        resume_after: None,
        count: args.count,
        json: args.json,
    });
    drop(clients);
    // Not at once: a shard hears of the clients that have left.
    server.drain();
    server.wait()?;
    Ok(watched?)
}

fn introduce(
    args: &DemoArgs,
    (address, Credentials { user, pass }): (&str, &Credentials),
    (clients, admin, journal): (u32, Option<&AdminAddress>, &Path),
) {
    let ticks = match args.mode {
        Mode::Second => format!("{} a second", counted(u64::from(args.ticks_per_second.get()), "tick")),
        Mode::Minute => "a tick each minute, on the minute".to_owned(),
    };
    let clients = counted(clients.into(), "client");
    let admin = admin.map_or_else(String::new, ToString::to_string);
    let journal = journal.display();
    // A closed standard output is found out by the first tick.
    let _ = writeln!(
        io::stdout(),
        "serving on {address}, {ticks}; {clients} and 20 events a second\n\
         Ctrl-C ends it. To try:\n\n\
         the page     http://{admin}/\n\
         a terminal   tickstream top --admin {admin}\n\
         ticks        STREAM_USER={user} STREAM_PASS={pass} tickstream watch --addr {address}\n\
         events       tickstream events tail -f --format text {journal}\n\
         how many     tickstream events stats {journal}\n"
    );
}

/// An address that reaches a server which listens on `address`, from this host.
fn reachable(mut address: std::net::SocketAddr) -> std::net::SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn password() -> io::Result<String> {
    let mut random = [0; PASSWORD_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
