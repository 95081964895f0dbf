//! The server's own paths.

use std::sync::Arc;

use tickstream_service::admin::{
    AdminToken, Answer, Call, Page, Program, Refusal, Router, StatusCode, json, text,
};

use super::collect::{CollectError, Collector};
use super::health::Health;
use super::history::History;
use super::list::List;
use super::prometheus::Metrics;
use super::report::{
    self, AddressesReport, ClosedReport, ConnectionReport, ConnectionsReport, Frame, Report,
};
use super::tap::Taps;
use super::{PAGE, ServerInfo};
use crate::config::users::UsersChange;
use crate::reload::{Change, LogLevelError, LogLevels, Reloaded};
use crate::shard::{self, Closed, Command, Filter, Sort};

/// The server, as the admin endpoint sees it.
pub struct ServerAdmin {
    info: ServerInfo,
    collector: Arc<Collector>,
    health: Health,
    metrics: Metrics,
    taps: Option<Taps>,
    history: History,
}

/// All paths.
pub fn router(program: &Arc<ServerAdmin>) -> Router<ServerAdmin> {
    Router::new("tickstream's admin endpoint", Arc::clone(program))
        .page(Page::new(PAGE))
        .get("/snapshot", "all counters, as JSON", |server, _| async move { server.snapshot().await })
        .get(
            "/connections",
            "limit, after, sort, order, shard, peer, user, client, subject, mode, state, lag_ms, search; as JSON",
            |server, call| async move { server.connections(&call).await },
        )
        .post("/connections/close", "closes those of a query as above", |server, call| async move {
            server.close_all(&call).await
        })
        .get("/connections/{id}", "one, as JSON", |server, call| async move {
            server.connection(call.captures.first().map_or("", String::as_str)).await
        })
        .post("/connections/{id}/close", "closes one", |server, call| async move {
            server.close(call.captures.first().map_or("", String::as_str)).await
        })
        .get("/addresses", "those with the most connections, as JSON", |server, _| async move {
            server.addresses().await
        })
        .get("/history", "an hour of totals, as JSON", |server, _| async move {
            json(StatusCode::OK, &server.history.report(report::unix_ms(server.info.started)))
        })
        .get_guarded(
            "/events",
            "tap, lines, kind, user, name, service, shard, producer; the newest events, as lines of JSON",
            |server, call| async move {
                let none = || Refusal::not_found("this server collects no events: the setting journal is empty");
                server.taps.as_ref().ok_or_else(none)?.answer(&call).await
            },
        )
        .post("/drain", "as SIGTERM", |server, _| async move { Ok(server.drain()) })
        .post("/reload", "as SIGHUP, and answers with the settings that changed", |server, _| async move {
            server.reload().await
        })
        .get("/log-level", "the level of the log in use", |server, _| async move { server.log_level(None).await })
        .post("/log-level", "level; sets it until the next start", |server, call| async move {
            let level = call.pairs().find_map(|(key, value)| (key == "level").then_some(value));
            let missing = || Refusal::bad_request("/log-level?level= needs a level, such as debug");
            server.log_level(Some(level.ok_or_else(missing)?)).await
        })
        .post("/upgrade", "as SIGUSR2, and answers once a new process serves", |server, _| async move {
            server.upgrade().await
        })
}

impl Program for ServerAdmin {
    fn config(&self) -> String {
        let visible = self.info.visible.value();
        match &visible.log_level {
            Some(level) => format!(
                "{}\n# log_level {level:?} is in use: an operator has set it since the start.\n",
                visible.effective
            ),
            None => visible.effective.clone(),
        }
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
            history: History::default(),
            taps: info.journals.clone().map(Taps::new),
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

    /// Takes a sample for the history.
    pub async fn sample(self: Arc<Self>) {
        self.history.take(&self.report().await);
    }

    async fn snapshot(&self) -> Result<Answer, Refusal> {
        json(StatusCode::OK, &self.report().await)
    }

    async fn report(&self) -> Report {
        let gathered = self.collector.gathered().await;
        let frame = Frame {
            address: self.info.address.to_string(),
            command: self.info.control.command(),
            started: self.info.started,
            cpus: self.info.cpus.clone(),
            sick: self.health.sick(),
            log_lines_lost: self.info.losses.lines(),
        };
        Report::new(&frame, &gathered)
    }

    /// Addresses with the most connections.
    async fn addresses(&self) -> Result<Answer, Refusal> {
        let counted = self.collector.addresses().await;
        let counted = counted.map_err(|error| Refusal::unavailable(error.to_string()))?;
        json(StatusCode::OK, &AddressesReport::new(counted))
    }

    async fn connections(&self, call: &Call) -> Result<Answer, Refusal> {
        let List { shard, page, offset } = List::parse(call, self.info.control.shards())?;
        let limit = page.most;
        let listed = self.collector.connections(shard, page, offset).await;
        let listed = listed.map_err(|error| Refusal::unavailable(error.to_string()))?;
        json(StatusCode::OK, &ConnectionsReport::new(offset, limit, listed))
    }

    async fn connection(&self, id: &str) -> Result<Answer, Refusal> {
        let (shard, number) = self.find(id)?;
        let filter = Filter { number: Some(number), ..Filter::default() };
        let page = shard::Page { most: 1, filter, sort: Sort::default(), after: None };
        let listed = self.collector.connections(Some(shard), page, 0).await;
        let mut listed = listed.map_err(|error| Refusal::unavailable(error.to_string()))?;
        match (listed.connections.pop(), listed.missing.is_empty()) {
            (Some(found), _) => json(StatusCode::OK, &ConnectionReport::from(found)),
            (None, true) => Err(unknown(id)),
            (None, false) => Err(Refusal::unavailable(CollectError::Silent(shard).to_string())),
        }
    }

    async fn close_all(&self, call: &Call) -> Result<Answer, Refusal> {
        let (shard, filter) = List::parse_filter(call, self.info.control.shards())?;
        let closed = self.collector.close_all(shard, filter).await;
        let (closed, missing_shards) = closed.map_err(|error| Refusal::unavailable(error.to_string()))?;
        tracing::info!(which = call.query, closed, "an operator closes connections");
        json(StatusCode::OK, &ClosedReport { closed, missing_shards })
    }

    /// Shard and number of a connection's id.
    fn find(&self, id: &str) -> Result<(usize, u64), Refusal> {
        let (shard, number) = id.split_once('-').ok_or_else(|| unknown(id))?;
        let shard = shard.parse().ok().filter(|&shard: &usize| shard < self.info.control.shards());
        shard.zip(number.parse().ok()).ok_or_else(|| unknown(id))
    }

    async fn close(&self, id: &str) -> Result<Answer, Refusal> {
        let (shard, number) = self.find(id)?;
        let closed = self.collector.close(shard, number).await;
        match closed.map_err(|error| Refusal::unavailable(error.to_string()))? {
            Closed::Now => {
                tracing::info!(conn = id, "an operator closes a connection");
                Ok(text(StatusCode::OK, format!("{id} is being closed\n")))
            }
            Closed::Before => Ok(text(StatusCode::OK, format!("{id} was being closed already\n"))),
            Closed::Unknown => Err(unknown(id)),
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

    async fn log_level(&self, level: Option<String>) -> Result<Answer, Refusal> {
        let handle = self.info.handle.clone();
        match tokio::task::spawn_blocking(move || handle.log_level(level)).await {
            Ok(Ok(LogLevels { old, new })) if old == new => Ok(text(StatusCode::OK, format!("{new}\n"))),
            Ok(Ok(LogLevels { old, new })) => Ok(text(StatusCode::OK, format!("{new}, before {old}\n"))),
            Ok(Err(error @ LogLevelError::Level { .. })) => Err(Refusal::bad_request(error.to_string())),
            Ok(Err(error)) => Err(Refusal::unavailable(error.to_string())),
            Err(error) => Err(Refusal::failed(error.to_string())),
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

fn unknown(id: &str) -> Refusal {
    Refusal::not_found(format!("there is no connection {id}"))
}

/// The settings that changed with their values, those that would need a restart, and the users that changed.
fn said_of(reloaded: &Reloaded) -> String {
    let list = |changes: &[Change]| {
        let keys: Vec<_> = changes.iter().map(|change| change.key).collect();
        if keys.is_empty() { "none".to_owned() } else { keys.join(" ") }
    };
    let values = |changes: &[Change]| {
        let line = |Change { key, old, new }: &Change| format!("  {key}: {old:?} -> {new:?}\n");
        changes.iter().map(line).collect::<String>()
    };
    let Reloaded { changed, need_restart, users } = reloaded;
    let mut said = format!("reloaded; changed: {}\n{}", list(changed), values(changed));
    if !need_restart.is_empty() {
        said += &format!(
            "needs a restart, the old value stays in use: {}\n{}",
            list(need_restart),
            values(need_restart)
        );
    }
    let UsersChange { added, removed, changed } = users;
    for (what, names) in [("added", added), ("removed", removed), ("changed", changed)] {
        if !names.is_empty() {
            said += &format!("users {what}: {}\n", names.join(" "));
        }
    }
    said
}
