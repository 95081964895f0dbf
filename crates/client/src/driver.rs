//! The task behind a client: keeps a connection, and turns what comes over it into events.

use std::convert::Infallible;

use tokio::{
    sync::watch,
    time::{self, Instant},
};

use crate::{
    Error, StreamUpdate,
    backoff::Backoff,
    config::Config,
    error::retry_after,
    feed::{Feed, Wanted},
    link::Link,
    outbox::Outbox,
    session::Message,
};

/// State that outlives a connection. Until a subscription was accepted, the first error is the last.
pub(crate) struct Driver {
    config: Config,
    /// Index of the server in use.
    server: usize,
    wanted: watch::Receiver<Option<Wanted>>,
    feed: Feed,
    outbox: Outbox,
    backoff: Backoff,
    leave: Option<Leave>,
    is_reconnect: bool,
}

/// The server's GOAWAY on this connection.
struct Leave {
    at: Instant,
    reason: String,
}

impl Driver {
    /// A driver whose connection to `config.servers[server]` stands.
    pub fn new(
        config: Config,
        server: usize,
        wanted: watch::Receiver<Option<Wanted>>,
        outbox: Outbox,
    ) -> Self {
        let backoff = Backoff::new(config.backoff_min, config.backoff_max, fastrand::Rng::new());
        Self {
            config,
            server,
            wanted,
            feed: Feed::default(),
            outbox,
            backoff,
            leave: None,
            is_reconnect: false,
        }
    }

    /// Runs until an error ends the subscription or the application has gone; then closes.
    pub async fn drive(mut self, link: Link) {
        let application = self.outbox.queue();
        let mut link = Some(link);
        tokio::select! {
            biased;
            () = application.closed() => {}
            () = self.run(&mut link) => {}
        }
        if let Some(link) = link {
            link.close().await;
        }
    }

    /// One connection after the other, until an error can't be cured. Each stays in `slot`, for whoever cancels.
    async fn run(&mut self, slot: &mut Option<Link>) {
        loop {
            let Err(error) = self.connection(slot).await;
            if let Some(link) = slot.take() {
                self.backoff.connection_lasted(link.age());
            }
            if self.feed.mode().is_none() || !error.is_retryable() {
                return self.outbox.end(error).await;
            }
            self.pause(error).await;
            self.server = (self.server + 1) % self.config.servers.len();
        }
    }

    async fn connection(&mut self, slot: &mut Option<Link>) -> Result<Infallible, Error> {
        let link = match slot {
            Some(link) => link,
            None => slot.insert(Link::open(&self.config, &self.config.servers[self.server]).await?),
        };
        loop {
            while !self.outbox.is_blocked()
                && let Some(message) = link.next_message()?
            {
                self.handle(message, link)?;
            }
            self.subscribe(link);
            self.step(link).await?;
        }
    }

    /// Waits for the first of what can happen on a connection. The application's slowness holds up reading,
    /// nothing else.
    async fn step(&mut self, link: &mut Link) -> Result<(), Error> {
        let blocked = self.outbox.is_blocked();
        let leave = self.leave.as_ref().filter(|_| self.feed.mode().is_some());
        tokio::select! {
            biased;
            () = time::sleep_until(leave.map_or_else(Instant::now, |leave| leave.at)), if leave.is_some() => {
                Err(Error::GoAway { reason: leave.map(|leave| leave.reason.clone()).unwrap_or_default() })
            }
            () = self.outbox.flush(), if blocked => {
                link.session.resumed_reading(Instant::now());
                Ok(())
            }
            // An error means that the application has gone, which drive() sees.
            Ok(()) = self.wanted.changed() => Ok(()),
            progress = link.progress(!blocked) => progress,
        }
    }

    /// Asks for what the application wants, if the server doesn't know yet.
    fn subscribe(&mut self, link: &mut Link) {
        let Some(wanted) = *self.wanted.borrow_and_update() else {
            return;
        };
        if !link.session.is_waiting() && link.session.mode() != Some(wanted.mode) {
            link.session.subscribe(self.feed.request(wanted), Instant::now());
        }
    }

    fn handle(&mut self, message: Message, link: &Link) -> Result<(), Error> {
        match message {
            // The session takes no answers to PUBLISHes that it hasn't sent.
            Message::Authenticated | Message::Published(_) => {}
            Message::Subscribed { request, next_sequence, server_time_ms } => {
                if std::mem::take(&mut self.is_reconnect) {
                    let server = self.config.servers[self.server].clone();
                    self.outbox.push(StreamUpdate::Reconnected { server, next_sequence });
                }
                self.feed.synchronize(server_time_ms, link.read_at());
                let (is_new_mode, reset) = self.feed.accepted(&request, next_sequence);
                if is_new_mode {
                    self.outbox.push(StreamUpdate::Subscribed { mode: request.mode(), next_sequence });
                }
                reset.into_iter().for_each(|event| self.outbox.push(event));
            }
            Message::Batch(batch) => {
                let events = self.feed.batch(&batch, link.read_at())?;
                events.into_iter().flatten().for_each(|event| self.outbox.push(event));
            }
            Message::GoAway(go_away) if self.leave.is_none() => {
                let retry_after = retry_after(go_away.retry_after_ms);
                let at = Instant::now() + retry_after.unwrap_or_default() + self.backoff.wait();
                self.leave = Some(Leave { at, reason: go_away.reason.clone() });
                self.outbox.push(StreamUpdate::GoAway { reason: go_away.reason, retry_after });
            }
            Message::GoAway(_) => {}
        }
        Ok(())
    }

    /// Tells the application, and waits as long as the server and the backoff want it to. An application that
    /// doesn't listen is waited for, or its events would pile up attempt by attempt.
    async fn pause(&mut self, error: Error) {
        let now = Instant::now();
        let until = match self.leave.take() {
            // What a GOAWAY asked for has its jitter already.
            Some(leave) => leave.at.max(now + error.retry_after().unwrap_or_default()),
            None => now + error.retry_after().unwrap_or_default() + self.backoff.wait(),
        };
        self.is_reconnect = true;
        self.outbox
            .push(StreamUpdate::Disconnected { error, retry_in: until.saturating_duration_since(now) });
        self.outbox.flush().await;
        time::sleep_until(until).await;
    }
}
