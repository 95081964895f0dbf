//! `tickstream demo`: a server with credentials made up for the occasion, and a client that watches it.

use std::fs::File;
use std::io::{self, Read, Write};

use tickstream_client::Mode;

use crate::cli::{DemoArgs, WatchArgs};
use crate::watch::{self, WatchError};
use tickstream_server::config::{Config, ConfigError, Credentials};
use tickstream_server::serve::{ServeError, Server};

/// Bytes of the password before they are written in hexadecimal.
const PASSWORD_BYTES: usize = 16;

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
}

/// Runs server and client until the count is reached, Ctrl-C or a failure.
///
/// # Errors
/// See [`DemoError`].
pub fn run(args: &DemoArgs) -> Result<(), DemoError> {
    let credentials = Credentials { user: "demo".to_owned(), pass: password().map_err(DemoError::Random)? };
    let server = Server::start(Config::from_values([
        ("stream_user", credentials.user.clone()),
        ("stream_pass", credentials.pass.clone()),
        ("listen", args.listen.to_string()),
        ("shards", "1".to_owned()),
        ("ticks_per_second", args.ticks_per_second.to_string()),
    ])?)?;
    if !args.json {
        introduce(&server, &credentials, args.mode);
    }
    let watched = watch::run(&WatchArgs {
        addrs: vec![reachable(server.address()).to_string()],
        credentials,
        tls: None,
        mode: args.mode,
        resume_after: None,
        count: args.count,
        json: args.json,
    });
    server.stop();
    server.wait()?;
    Ok(watched?)
}

fn introduce(server: &Server, credentials: &Credentials, mode: Mode) {
    let (user, pass, address) = (&credentials.user, &credentials.pass, reachable(server.address()));
    let ticks = match mode {
        Mode::Second => "a tick each second",
        Mode::Minute => "a tick each minute, on the minute",
    };
    // A closed standard output is found out by the first tick.
    let _ = writeln!(
        io::stdout(),
        "serving on {address}, {ticks}; Ctrl-C ends it. From another terminal:\n    \
         STREAM_USER={user} STREAM_PASS={pass} tickstream watch --addr {address}\n"
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
