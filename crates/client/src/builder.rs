//! A client in the making.

use std::time::Duration;

use crate::{
    BatchPublisher, BatchPublishing, Client, Error, Publisher, Publishing, TlsConfig,
    config::{Config, Credentials},
};

/// A client in the making: [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before connect()"]
pub struct Builder {
    config: Config,
}

impl Client {
    /// A client of `server`, `host:port`.
    pub fn builder(server: impl Into<String>) -> Builder {
        Builder::new(server.into())
    }
}

impl Builder {
    fn new(server: String) -> Self {
        Self { config: Config::new(server) }
    }

    /// Adds a server, `host:port`. The client goes from one to the next when a server fails or sends it away; all
    /// of them number their ticks alike.
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.config.servers.push(server.into());
        self
    }

    /// Sets the user's name and password, 1 to 255 bytes each. Without them, [`Builder::connect`] fails.
    pub fn credentials(mut self, username: impl Into<String>, password: impl Into<String>) -> Self {
        self.config.credentials = Credentials { username: username.into(), password: password.into() };
        self
    }

    /// Speaks TLS 1.3 with all servers. Without it nothing is encrypted: the password crosses the network in the
    /// clear.
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// Sets how long resolving a server's name, connecting to it and agreeing on TLS may take: 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// Sets how long the server may take to answer credentials and subscriptions: 10 s by default.
    pub fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.config.reply_timeout = timeout;
        self
    }

    /// Sets the waits between attempts to reconnect: 250 ms and 30 s by default.
    ///
    /// A wait is uniform between zero and a ceiling, plus what the server asked for. The ceiling is `min` at first
    /// and doubles with each attempt up to `max`; a connection that lasts `max` or longer sets it back.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.config.backoff_min = min;
        self.config.backoff_max = max;
        self
    }

    /// Sets how many events wait for the application before the client stops reading: 16 by default.
    ///
    /// A batch takes at most eight times the bytes of its payload, so the client's memory is bounded by
    /// `queue` × [`max_payload`](Self::max_payload) × 8, by default 32 MiB, if a server does its worst; a batch of
    /// one tick takes some 100 bytes.
    pub fn queue(mut self, events: usize) -> Self {
        self.config.queue = events;
        self
    }

    /// Sets the largest payload to take from a server, bytes: 256 KiB by default. Where the server announces a
    /// smaller limit, that one holds. Raise it for a server whose `max_msg_size` is larger.
    pub fn max_payload(mut self, bytes: u32) -> Self {
        self.config.payload_max = bytes;
        self
    }

    /// Connects and authenticates, at the first server that can be had; it goes over the list once.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::TlsConfig`] for settings that can't work; the first error that isn't retryable, such as wrong
    /// credentials; or, if no server can be had, the last server's.
    pub async fn connect(self) -> Result<Client, Error> {
        Client::connect(self.config()?).await
    }

    /// Connects and authenticates, as [`connect`](Self::connect) does, at the first server that takes events.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect); and [`Error::CollectionOff`], if no server takes any.
    pub async fn publisher(self, publishing: Publishing) -> Result<Publisher, Error> {
        Publisher::connect(self.config()?, publishing).await
    }

    /// Starts a [`BatchPublisher`]. It connects in a task of its own, to the first server of the list at first.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::TlsConfig`] for settings that can't work.
    pub fn batch_publisher(self, publishing: BatchPublishing) -> Result<BatchPublisher, Error> {
        Ok(BatchPublisher::start(self.config()?, publishing))
    }

    pub(crate) fn config(self) -> Result<Config, Error> {
        self.config.check()?;
        Ok(self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> Builder {
        Builder::new("localhost:1".into()).credentials("alice", "hunter2")
    }

    #[test]
    fn the_password_stays_out_of_debug() {
        let debug = format!("{:?}", builder());
        assert!(debug.contains("alice") && !debug.contains("hunter2"), "{debug}");
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let check = |builder: Builder, expected: Option<&str>| match builder.config() {
            Ok(_) => assert_eq!(expected, None),
            Err(Error::Config { setting, .. }) => assert_eq!(Some(setting), expected),
            Err(other) => panic!("{other:?}"),
        };
        check(builder(), None);
        check(Builder::new("localhost:1".into()), Some("credentials"));
        check(builder().credentials("alice", "x".repeat(255)), None);
        check(builder().credentials("alice", "x".repeat(256)), Some("credentials"));
        check(builder().connect_timeout(Duration::ZERO), Some("timeouts and backoff"));
        check(builder().reply_timeout(Duration::MAX), Some("timeouts and backoff"));
        check(builder().backoff(2 * Duration::from_millis(1), Duration::from_millis(1)), Some("backoff"));
        check(builder().queue(0), Some("queue"));
        check(builder().queue(usize::MAX), Some("queue"));
        check(builder().max_payload(0), Some("max_payload"));
    }
}
