//! The task behind a publisher: keeps a connection, sends batches as far as the server lets it, and tells what became
//! of them.

use std::{convert::Infallible, sync::Arc};

use tickstream_wire::messages::GoAway;
use tokio::time::{self, Instant};

use super::{
    event::{PublishEvent, Rejection},
    options::Observer,
    pipeline::Pipeline,
    queue::Queue,
    shared::Shared,
};
use crate::{
    Error,
    backoff::Backoff,
    config::Config,
    error::retry_after,
    link::Link,
    session::{Message, PublishLimits},
};

/// PUBLISHes are packed while fewer bytes than this wait for the network: enough to keep it busy, and a heartbeat
/// isn't far behind.
const OUT_MAX: usize = 64 * 1024;

/// State that outlives a connection.
pub(crate) struct PublishDriver<Q = Pipeline> {
    config: Config,
    /// Index of the server in use.
    server: usize,
    shared: Arc<Shared<Q>>,
    observer: Observer,
    backoff: Backoff,
    leave: Option<Leave>,
    /// Batches that the last connection left unanswered.
    unanswered: usize,
}

/// Tells the handles that the task is over, also where it panics in the application's observer, or its runtime ends.
struct Over<Q>(Arc<Shared<Q>>);

impl<Q> Drop for Over<Q> {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// The server's GOAWAY on this connection.
struct Leave {
    at: Instant,
    reason: String,
}

impl<Q: Queue> PublishDriver<Q> {
    /// A driver that begins with `config.servers[server]`.
    pub fn new(
        config: Config,
        server: usize,
        shared: Arc<Shared<Q>>,
        observer: Observer,
        backoff: Backoff,
    ) -> Self {
        Self { config, server, shared, observer, backoff, leave: None, unanswered: 0 }
    }

    /// Connects to a server that takes events.
    pub async fn open(config: &Config, server: usize) -> Result<Link, Error> {
        let server = &config.servers[server];
        let link = Link::open(config, server).await?;
        match link.session.publish_limits() {
            PublishLimits { credits: 0, .. } | PublishLimits { payload_max: 0, .. } => {
                link.close().await;
                Err(Error::CollectionOff { server: server.clone() })
            }
            PublishLimits { .. } => Ok(link),
        }
    }

    /// Runs until an error ends it or nobody needs it any more; then closes. `link` is the first connection, where
    /// there is one already; `rejections` are reported first.
    pub async fn drive(mut self, link: Option<Link>, rejections: Vec<Rejection>) {
        let shared = self.shared.clone();
        let _over = Over(shared.clone());
        let mut slot = link;
        self.reject(rejections);
        let ended = tokio::select! {
            biased;
            () = shared.abandoned() => None,
            error = self.run(&mut slot) => Some(Arc::new(error)),
        };
        shared.end(ended.clone());
        if let Some(error) = ended {
            (self.observer)(PublishEvent::Ended { error });
        }
        if let Some(link) = slot {
            link.close().await;
        }
    }

    /// One connection after the other, until an error can't be cured. Each stays in `slot`, for whoever cancels.
    async fn run(&mut self, slot: &mut Option<Link>) -> Error {
        loop {
            let Err(error) = self.connection(slot).await;
            self.unanswered += self.shared.lock().pipeline.disconnected();
            if let Some(link) = slot.take() {
                self.backoff.connection_lasted(link.age());
                if matches!(error, Error::GoAway { .. }) {
                    link.close().await;
                }
            }
            if Q::ends_by(&error) {
                return error;
            }
            self.pause(error).await;
            self.server = (self.server + 1) % self.config.servers.len();
        }
    }

    async fn connection(&mut self, slot: &mut Option<Link>) -> Result<Infallible, Error> {
        let link = match slot {
            Some(link) => link,
            None => {
                let link = slot.insert(Self::open(&self.config, self.server).await?);
                self.connected(link.session.publish_limits());
                link
            }
        };
        loop {
            while let Some(message) = link.next_message()? {
                self.handle(message)?;
            }
            self.fill(link);
            self.step(link).await?;
        }
    }

    /// Puts batches into the connection's buffer.
    fn fill(&mut self, link: &mut Link) {
        let now = Instant::now();
        let publish = |link: &mut Link| {
            link.session.publish(|payload| self.shared.lock().pipeline.poll_publish(now, payload))
        };
        while link.session.out().len() < OUT_MAX && publish(link) {}
    }

    /// Waits for the first of what can happen on a connection.
    async fn step(&mut self, link: &mut Link) -> Result<(), Error> {
        let (due, is_idle) = {
            let pipeline = &self.shared.lock().pipeline;
            (pipeline.next_timeout(), pipeline.is_idle())
        };
        if let Some(leave) = &self.leave
            && (is_idle || leave.at <= Instant::now())
        {
            return Err(Error::GoAway { reason: leave.reason.clone() });
        }
        let has_room = link.session.out().len() < OUT_MAX;
        let wake = [due.filter(|_| has_room), self.leave.as_ref().map(|leave| leave.at)];
        let wake = wake.into_iter().flatten().min();
        tokio::select! {
            biased;
            progress = link.progress(true) => progress,
            () = time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => Ok(()),
            () = self.shared.called() => Ok(()),
        }
    }

    fn connected(&mut self, limits: PublishLimits) {
        let larger = self.shared.lock().pipeline.connected(limits);
        let server = self.config.servers[self.server].clone();
        let resent = std::mem::take(&mut self.unanswered);
        (self.observer)(PublishEvent::Reconnected { server, resent });
        self.reject(larger);
    }

    fn handle(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Published(ack) => {
                let acknowledged = PublishEvent::Acknowledged {
                    sequence: ack.sequence,
                    accepted: ack.accepted,
                    duplicates: ack.duplicates,
                };
                let answer = self.shared.lock().pipeline.acknowledge(ack, Instant::now())?;
                (self.observer)(acknowledged);
                if let Some(retrying) = answer.retrying {
                    (self.observer)(retrying);
                }
                self.reject(answer.rejections);
            }
            Message::GoAway(go_away) if self.leave.is_none() => self.go_away(go_away),
            // It has no subscription.
            Message::GoAway(_) | Message::Authenticated | Message::Subscribed { .. } | Message::Batch(_) => {}
        }
        Ok(())
    }

    fn reject(&mut self, rejections: Vec<Rejection>) {
        rejections
            .into_iter()
            .for_each(|rejection| (self.observer)(PublishEvent::Rejected(Box::new(rejection))));
        // Rejections before the end of a flush that they are part of.
        self.shared.tell();
    }

    fn go_away(&mut self, go_away: GoAway) {
        let retry_after = retry_after(go_away.retry_after_ms);
        let at = Instant::now() + retry_after.unwrap_or_default() + self.backoff.wait();
        self.leave = Some(Leave { at, reason: go_away.reason.clone() });
        self.shared.lock().pipeline.leave();
        (self.observer)(PublishEvent::GoAway { reason: go_away.reason, retry_after });
    }

    /// Tells the application, and waits as long as the server and the backoff want it to.
    async fn pause(&mut self, error: Error) {
        let now = Instant::now();
        let until = match self.leave.take() {
            // What a GOAWAY asked for has its jitter already.
            Some(leave) => leave.at.max(now + error.retry_after().unwrap_or_default()),
            None => now + error.retry_after().unwrap_or_default() + self.backoff.wait(),
        };
        let retry_in = until.saturating_duration_since(now);
        (self.observer)(PublishEvent::Disconnected { error, retry_in });
        time::sleep_until(until).await;
    }
}
