//! The two handles of an application: a client that is connected, and its subscription.

use tickstream_wire::messages::Mode;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{Error, StreamUpdate, config::Config, driver::Driver, feed::Wanted, link::Link, outbox::Outbox};

/// A client that is connected and authenticated, but not yet subscribed.
///
/// The client heartbeats by itself. If its connection is lost, [`Client::subscribe`] says why. Dropped, it closes.
#[derive(Debug)]
pub struct Client {
    task: Task,
}

/// The ticks of one server after the other.
///
/// Dropped, it closes in the background; [`Subscription::close`] waits for it.
#[derive(Debug)]
pub struct Subscription {
    task: Task,
}

/// The way to the task that owns the connection, which ends when this is dropped.
#[derive(Debug)]
struct Task {
    wanted: watch::Sender<Option<Wanted>>,
    events: mpsc::Receiver<Result<StreamUpdate, Error>>,
    handle: JoinHandle<()>,
}

impl Client {
    pub(crate) async fn connect(config: Config) -> Result<Self, Error> {
        let mut failure = Error::Closed;
        for server in 0..config.servers.len() {
            match Link::open(&config, &config.servers[server]).await {
                Ok(link) => {
                    return Ok(Self { task: Task::spawn(config, server, link) });
                }
                Err(error) if error.is_retryable() => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    /// Subscribes to the ticks that become due from now on, and waits until the server has accepted.
    ///
    /// # Errors
    /// Whatever ended the connection since [`Builder::connect`](crate::Builder::connect), or ends it now.
    pub async fn subscribe(self, mode: Mode) -> Result<Subscription, Error> {
        self.start(Wanted { mode, resume_after: None }).await
    }

    /// Subscribes to the ticks after the sequence `resume_after`, as far back as the server keeps them, for an
    /// application that remembers where it was. What the server no longer keeps comes as [`StreamUpdate::Gap`].
    ///
    /// # Errors
    /// Those of [`Client::subscribe`].
    pub async fn subscribe_after(self, mode: Mode, resume_after: u64) -> Result<Subscription, Error> {
        self.start(Wanted { mode, resume_after: Some(resume_after) }).await
    }

    /// Closes the connection in good order, which takes 2 s at the most.
    pub async fn close(self) {
        self.task.close().await;
    }

    async fn start(mut self, wanted: Wanted) -> Result<Subscription, Error> {
        // Where the task has ended, the queue says why.
        _ = self.task.wanted.send(Some(wanted));
        loop {
            match self.task.events.recv().await {
                Some(Ok(StreamUpdate::Subscribed { .. })) => return Ok(Subscription { task: self.task }),
                // A GOAWAY; the task acts on it.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(Error::Closed),
            }
        }
    }
}

impl Subscription {
    /// The next event; after an error, which ends the subscription, `None`.
    ///
    /// An application that doesn't call it slows the server down and in the end loses its connection, which is
    /// made again when it calls. Cancelled (in a `select!`), it loses no event.
    pub async fn next(&mut self) -> Option<Result<StreamUpdate, Error>> {
        self.task.events.recv().await
    }

    /// Changes the mode. Batches of the old one may still come, until [`StreamUpdate::Subscribed`] tells of the new one;
    /// those of the new one start with the next tick that becomes due. The last call counts; asking for the mode
    /// that it is in does nothing.
    ///
    /// # Errors
    /// [`Error::Closed`] if the subscription is over.
    pub fn change_mode(&self, mode: Mode) -> Result<(), Error> {
        self.task.wanted.send(Some(Wanted { mode, resume_after: None })).map_err(|_| Error::Closed)
    }

    /// Closes the connection in good order, which takes 2 s at the most. Events not yet taken are lost.
    pub async fn close(self) {
        self.task.close().await;
    }
}

impl Task {
    fn spawn(config: Config, server: usize, link: Link) -> Self {
        let (wanted, watch) = watch::channel(None);
        let (sender, events) = mpsc::channel(config.queue);
        let driver = Driver::new(config, server, watch, Outbox::new(sender));
        Self { wanted, events, handle: tokio::spawn(driver.drive(link)) }
    }

    async fn close(self) {
        drop(self.events);
        // It fails only if the runtime ends before the task.
        _ = self.handle.await;
    }
}
