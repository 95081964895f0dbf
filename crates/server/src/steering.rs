//! What operators can tell a running server: by signals, by the admin endpoint, by a program that embeds it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::keeper::Keeper;
use crate::listeners::Listeners;
use crate::notify::Notify;
use crate::reload::Reloader;
use crate::shard::{Control, Order};
use crate::upgrade::{self, UpgradeError};

/// What ending takes beyond the drain, at most: the service manager waits for it.
const AFTER_DRAIN: Duration = Duration::from_secs(10);

/// The way to a running server. Clones steer the same one. Not for shards, whose descriptor tables are their own.
#[derive(Clone, Debug)]
pub struct Steering {
    control: Arc<Control>,
    /// The process's copies of all listening sockets, until it stops accepting.
    listeners: Arc<Mutex<Option<Listeners>>>,
    /// Held by the one upgrade that is underway.
    upgrading: Arc<Mutex<()>>,
    keeper: Keeper,
    notify: Notify,
    drain: Duration,
    handed_over: Arc<AtomicBool>,
}

impl Steering {
    pub(crate) fn new(control: Arc<Control>, listeners: Listeners, keeper: Keeper, drain: Duration) -> Self {
        let listeners = Arc::new(Mutex::new(Some(listeners)));
        let handed_over = Arc::new(AtomicBool::new(false));
        let upgrading = Arc::default();
        Self { control, listeners, upgrading, keeper, notify: Notify::default(), drain, handed_over }
    }

    /// Tells the service manager from now on.
    pub(crate) fn set_notify(&mut self, notify: Notify) {
        self.notify = notify;
    }

    /// Reads settings again by `reloader` from now on.
    pub(crate) fn install(&self, reloader: Reloader) {
        self.keeper.install(reloader);
    }

    /// Closes every connection in good order, then ends.
    pub fn drain(&self) {
        self.notify.stopping(self.drain + AFTER_DRAIN);
        self.leave(Order::Drain);
    }

    /// Ends at once.
    pub fn stop(&self) {
        self.leave(Order::Stop);
    }

    /// Drains; told so again, stops.
    pub fn end(&self) {
        if self.control.order() == Order::Serve { self.drain() } else { self.stop() }
    }

    /// Reads again what can change while the server runs.
    pub fn reload(&self) {
        self.keeper.reload();
    }

    /// Starts the program again, hands it the listening sockets, and drains once it serves. Takes as long as the new
    /// process needs to start. Answers its process id.
    ///
    /// # Errors
    /// If there is no new process that serves: this one goes on.
    pub fn upgrade(&self) -> Result<u32, UpgradeError> {
        let _one = self.upgrading.lock().unwrap_or_else(PoisonError::into_inner);
        let successor = {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            upgrade::start_successor(listeners.as_ref().ok_or(UpgradeError::Draining)?)?
        };
        // Not while the sockets are locked: whoever ends this process doesn't wait for the new one.
        let pid = successor.wait(|| self.control.order() == Order::Serve)?;
        self.handed_over.store(true, Ordering::Relaxed);
        // The service goes on: its manager is told by the new process.
        self.leave(Order::Drain);
        Ok(pid)
    }

    /// Waits until no upgrade is underway: one that isn't wanted any more leaves no process behind.
    pub(crate) fn settle_upgrade(&self) {
        drop(self.upgrading.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether another process has taken over.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Relaxed)
    }

    /// Gives up the listening sockets: as soon as the shards have, too, nobody is accepted here any more.
    fn leave(&self, order: Order) {
        drop(self.listeners.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.control.give(order);
    }
}
