//! The settings of a client, and their rules.

use std::{fmt, time::Duration};

use crate::{Error, TlsConfig};

/// Settings that the builder was given; [`Config::check`] checks them.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub servers: Vec<String>,
    pub credentials: Credentials,
    pub tls: Option<TlsConfig>,
    pub connect_timeout: Duration,
    pub reply_timeout: Duration,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    pub queue: usize,
    pub payload_max: u32,
}

/// A user's name and password; the latter stays out of Debug.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    pub username: String,
    pub password: String,
}

impl Config {
    /// The defaults, without credentials.
    pub(crate) fn new(server: String) -> Self {
        Self {
            servers: vec![server],
            credentials: Credentials::default(),
            tls: None,
            connect_timeout: Duration::from_secs(10),
            reply_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            queue: 16,
            payload_max: 256 * 1024,
        }
    }

    /// Checks every rule.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Credentials { username, password } = &self.credentials;
        let durations = [self.connect_timeout, self.reply_timeout, self.backoff_min, self.backoff_max];
        // Checked here, or a slip in the second server would show when the first one fails.
        rule("server", self.servers.iter().all(|server| is_host_and_port(server)), "host:port is needed")?;
        rule(
            "credentials",
            [username, password].iter().all(|text| (1..=255).contains(&text.len())),
            "1 to 255 bytes each",
        )?;
        rule(
            "timeouts and backoff",
            durations.iter().all(|time| (MS..=DAY).contains(time)),
            "1 ms to a day each",
        )?;
        rule("backoff", self.backoff_min <= self.backoff_max, "the minimum is above the maximum")?;
        rule("queue", (1..=65_536).contains(&self.queue), "1 to 65,536 events")?;
        rule("max_payload", self.payload_max >= PAYLOAD_MAX_LEAST, "at least 4,096 bytes")?;
        if let Some(tls) = &self.tls {
            for server in &self.servers {
                tls.name_of(server)?;
            }
        }
        Ok(())
    }
}

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Room for every message but a batch: what the protocol allows before AUTH.
const PAYLOAD_MAX_LEAST: u32 = 4096;

fn rule(setting: &'static str, holds: bool, problem: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Config { setting, problem }) }
}

fn is_host_and_port(server: &str) -> bool {
    server.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}
