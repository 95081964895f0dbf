//! The server's part of the admin endpoint, whose HTTP is `tickstream-service`'s.
//!
//! - `routes`: the server's own paths; [`Page`](tickstream_service::admin::Page): the live page;
//! - `collect`: asks the shards, at most ten times a second however many ask for it; `health` doesn't ask them, but
//!   looks at their liveness counters;
//! - [`history`]: an hour of it; [`tap`]: the newest events;
//! - [`report`]: what is told as JSON; `prometheus` and `families`: what is told to Prometheus.
//!
//! Nothing of it runs on a shard but the answers of `shard/inspector.rs`.

mod collect;
mod families;
mod health;
pub mod history;
mod list;
#[cfg(test)]
mod page_tests;
mod prometheus;
pub mod report;
mod routes;
pub mod tap;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tickstream_service::admin::{Admin, AdminError, Endpoint};
use tickstream_service::logs::LogLosses;
use tickstream_service::otlp::Lost;

use crate::handle::ServerHandle;
use crate::reload::VisibleConfig;
use crate::shard::Control;
use crate::threads::Place;
use crate::versioned::Versioned;
use routes::ServerAdmin;

/// The live page: one file, which reads `/snapshot` each second.
const PAGE: &str = include_str!("page.html");

/// The server, for the admin endpoint.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// The shards.
    pub control: Arc<Control>,
    /// Commands to the server.
    pub handle: ServerHandle,
    /// Their address.
    pub address: SocketAddr,
    /// The CPU of each.
    pub cpus: Vec<usize>,
    /// Directory of the journals; `None`: it collects no events.
    pub journals: Option<PathBuf>,
    /// Start of the server.
    pub started: SystemTime,
    /// Lines that the log lost.
    pub losses: LogLosses,
    /// Spans that were lost.
    pub spans_lost: Lost,
    /// Settings, as they are in use at the time.
    pub visible: Arc<Versioned<VisibleConfig>>,
}

/// The running endpoint. Dropping this ends it, and removes its unix sockets.
#[derive(Debug)]
pub struct Serving {
    admin: Admin,
    place: Place,
}

impl Serving {
    /// Ends it once the requests that have begun are answered.
    pub fn finish(self) {
        self.admin.finish();
    }

    /// Logs what an operator should know of it.
    pub fn log(&self) {
        self.place.log();
        if !self.admin.is_local() {
            tracing::info!(
                "the admin endpoint isn't on the loopback: everyone who can connect to it can read from it"
            );
        }
    }
}

/// Begins to answer, on a thread of its own, until another process has taken over.
///
/// # Errors
/// See [`Endpoint::serve`].
pub fn serve(endpoint: Endpoint, info: ServerInfo) -> Result<Serving, AdminError> {
    let place = Place::beside(&info.cpus);
    let settle = {
        let place = place.clone();
        move || place.take("the admin endpoint")
    };
    let program = Arc::new(ServerAdmin::new(info));
    let admin = endpoint.serve(routes::router(&program), settle, look_until_handed_over(program))?;
    Ok(Serving { admin, place })
}

/// Looks at the shards, and ends once another process has taken over: it answers at the same addresses from then on.
async fn look_until_handed_over(program: Arc<ServerAdmin>) {
    let mut sampled: Option<Instant> = None;
    while !program.is_handed_over() {
        program.look();
        if sampled.is_none_or(|at| at.elapsed() >= history::INTERVAL) {
            sampled = Some(Instant::now());
            // Beside the looks: shards may take half a second to answer.
            tokio::spawn(Arc::clone(&program).sample());
        }
        tokio::time::sleep(health::LOOK_INTERVAL).await;
    }
}
