//! The server's own paths.

use std::sync::Arc;

use tickstream_service::admin::{
    AdminToken, Answer, Call, Page, Program, Refusal, Router, StatusCode, json, text,
};

use super::collect::Collector;
use super::health::Health;
use super::list::List;
use super::prometheus::Metrics;
use super::report::{self, ConnectionsReport, Frame, Report};
use super::{PAGE, ServerInfo};
use crate::reload::Reloaded;
use crate::shard::{Closed, Command};

/// The server, as the admin endpoint sees it.
pub struct ServerAdmin {
    info: ServerInfo,
    collector: Arc<Collector>,
    health: Health,
    metrics: Metrics,
}

/// All paths.
pub fn router(program: &Arc<ServerAdmin>) -> Router<ServerAdmin> {
    Router::new("tickstream's admin endpoint", Arc::clone(program))
        .page(Page::new(PAGE))
        .get("/snapshot", "all counters, as JSON", |server, _| async move { server.snapshot().await })
        .get(
            "/connections",
            "offset, limit, shard, peer, mode, state; the slowest first, as JSON",
            |server, call| async move { server.connections(&call).await },
        )
        .post("/connections/{id}/close", "closes one", |server, call| async move {
            server.close(call.captures.first().map_or("", String::as_str)).await
        })
        .post("/drain", "as SIGTERM", |server, _| async move { Ok(server.drain()) })
        .post("/reload", "as SIGHUP, and answers with the settings that changed", |server, _| async move {
            server.reload().await
        })
        .post("/upgrade", "as SIGUSR2, and answers once a new process serves", |server, _| async move {
            server.upgrade().await
        })
}

impl Program for ServerAdmin {
    fn config(&self) -> String {
        self.info.visible.value().effective.clone()
    }

    fn token(&self) -> Option<AdminToken> {
        self.info.visible.value().token.clone()
    }

    /// Well while every shard's loop turns.
    fn health(&self) -> Result<(), String> {
        let sick = self.health.sick();
        if sick.is_empty() {
            return Ok(());
        }
        let lines = sick
            .iter()
            .map(|(shard, since)| format!("shard {shard}: its loop hasn't turned for {since:?}\n"));
        Err(lines.collect())
    }

    /// Ready while connections are accepted.
    fn readiness(&self) -> Result<(), String> {
        match self.info.control.command() {
            Command::Serve => self.health(),
            command => Err(format!("{}\n", report::state(command))),
        }
    }

    async fn metrics(&self) -> String {
        self.metrics.render(&*self.collector.gathered().await)
    }
}

impl ServerAdmin {
    /// Answers for `info`.
    pub fn new(info: ServerInfo) -> Self {
        Self {
            collector: Arc::new(Collector::new(Arc::clone(&info.control))),
            health: Health::new(info.control.shards()),
            metrics: Metrics::new(&info),
            info,
        }
    }

    /// Looks whether the shards turn. Call it every [`super::health::LOOK_INTERVAL`].
    pub fn look(&self) {
        self.health.look(&self.info.control);
    }

    /// Another process has taken over.
    pub fn is_handed_over(&self) -> bool {
        self.info.handle.is_handed_over()
    }

    async fn snapshot(&self) -> Result<Answer, Refusal> {
        let gathered = self.collector.gathered().await;
        let frame = Frame {
            address: self.info.address.to_string(),
            command: self.info.control.command(),
            started: self.info.started,
            cpus: self.info.cpus.clone(),
            sick: self.health.sick(),
            log_lines_lost: self.info.losses.lines(),
        };
        json(StatusCode::OK, &Report::new(&frame, &gathered))
    }

    async fn connections(&self, call: &Call) -> Result<Answer, Refusal> {
        let List { shard, filter, offset, limit } = List::parse(call, self.info.control.shards())?;
        let listed = self.collector.connections(shard, filter, offset, limit).await;
        let listed = listed.map_err(|error| Refusal::unavailable(error.to_string()))?;
        json(StatusCode::OK, &ConnectionsReport::new(offset, limit, listed))
    }

    async fn close(&self, id: &str) -> Result<Answer, Refusal> {
        let unknown = || Refusal::not_found(format!("there is no connection {id}"));
        let (shard, number) = id.split_once('-').ok_or_else(unknown)?;
        let shard = shard.parse().ok().filter(|&shard: &usize| shard < self.info.control.shards());
        let (shard, number) = shard.zip(number.parse().ok()).ok_or_else(unknown)?;
        let closed = self.collector.close(shard, number).await;
        match closed.map_err(|error| Refusal::unavailable(error.to_string()))? {
            Closed::Now => {
                tracing::info!(conn = id, "an operator closes a connection");
                Ok(text(StatusCode::OK, format!("{id} is being closed\n")))
            }
            Closed::Before => Ok(text(StatusCode::OK, format!("{id} was being closed already\n"))),
            Closed::Unknown => Err(unknown()),
        }
    }

    fn drain(&self) -> Answer {
        tracing::info!("an operator drains the server");
        self.info.handle.drain();
        text(StatusCode::ACCEPTED, "draining\n")
    }

    /// Answers once the settings are in use, or refused.
    async fn reload(&self) -> Result<Answer, Refusal> {
        tracing::info!("an operator has the settings reloaded");
        let handle = self.info.handle.clone();
        let refused = |error: &dyn std::fmt::Display| {
            Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("the settings can't be reloaded; those in use stay: {error}"),
            )
        };
        match tokio::task::spawn_blocking(move || handle.reload()).await {
            Ok(Ok(reloaded)) => Ok(text(StatusCode::OK, said_of(&reloaded))),
            Ok(Err(error)) => Err(refused(&error)),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Answers once a new process serves, or isn't going to.
    async fn upgrade(&self) -> Result<Answer, Refusal> {
        tracing::info!("an operator upgrades the server");
        let handle = self.info.handle.clone();
        let refused = |error: &dyn std::fmt::Display| {
            Refusal::failed(format!("no upgrade, this process goes on serving: {error}"))
        };
        match tokio::task::spawn_blocking(move || handle.upgrade()).await {
            Ok(Ok(pid)) => Ok(text(StatusCode::OK, format!("process {pid} serves; this one drains\n"))),
            Ok(Err(error)) => Err(refused(&error)),
            Err(error) => Err(refused(&error)),
        }
    }
}

/// The settings that changed, and those that would need a restart.
fn said_of(reloaded: &Reloaded) -> String {
    let list = |keys: &[&str]| if keys.is_empty() { "none".to_owned() } else { keys.join(" ") };
    let Reloaded { changed, need_restart } = reloaded;
    let mut said = format!("reloaded; changed: {}\n", list(changed));
    if !need_restart.is_empty() {
        said += &format!("needs a restart, the old value stays in use: {}\n", list(need_restart));
    }
    said
}
