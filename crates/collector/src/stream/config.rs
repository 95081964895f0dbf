//! Options of a listener.

use std::{sync::Arc, time::Duration};

use tokio_rustls::rustls;

/// Options of a listener.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Most connections; beyond, new ones wait.
    pub connections: usize,
    /// Time for which a connection may be silent.
    pub idle_timeout: Duration,
    /// Time for the rest of a message whose beginning has come.
    pub message_timeout: Duration,
    /// TLS, where it is on.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            connections: 20_000,
            idle_timeout: Duration::from_secs(3600),
            message_timeout: Duration::from_secs(30),
            tls: None,
        }
    }
}
