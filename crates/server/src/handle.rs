//! Commands to a running server: of signals, of the admin endpoint, of a program that embeds it.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tickstream_service::notify::Notify;
use tickstream_service::settings::kept;

use crate::journal_lock::{self, JournalLock};
use crate::listeners::Listeners;
use crate::maintenance::Maintenance;
use crate::reload::{LogLevelError, LogLevels, ReloadError, Reloaded, Reloader};
use crate::shard::{Command, Control};
use crate::upgrade::{self, UpgradeError};

/// Longest time that ending takes beyond the drain: the service manager waits for it.
const AFTER_DRAIN: Duration = Duration::from_secs(10);

/// The way to a running server. Clones steer the same one. Not for shards, whose descriptor tables are their own.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    leaving: Arc<Leaving>,
    /// To the thread that starts new processes.
    upgrades: Sender<Upgrade>,
    maintenance: Maintenance,
    notify: Notify,
    drain: Duration,
}

/// Takes the outcome of an upgrade.
type Upgrade = Sender<Result<u32, UpgradeError>>;

/// The way in which this process stops serving, with or without another that takes over.
#[derive(Debug)]
struct Leaving {
    control: Arc<Control>,
    /// The process's copies of all listening sockets, until it stops accepting.
    listeners: Mutex<Option<Listeners>>,
    /// The lock of the journals' directory, for as long as there is the process.
    journals: Option<JournalLock>,
    /// Held by the one upgrade that is underway.
    upgrading: Mutex<()>,
    handed_over: AtomicBool,
}

impl ServerHandle {
    /// Call it on a thread that may run wherever the process may: a new process inherits its CPUs and its niceness.
    ///
    /// # Errors
    /// If the thread that starts new processes can't be started itself.
    pub(crate) fn new(
        control: Arc<Control>,
        listeners: Listeners,
        journals: Option<JournalLock>,
        maintenance: Maintenance,
        drain: Duration,
    ) -> io::Result<Self> {
        let leaving = Arc::new(Leaving {
            control,
            listeners: Mutex::new(Some(listeners)),
            journals,
            upgrading: Mutex::default(),
            handed_over: AtomicBool::new(false),
        });
        let (upgrades, wanted) = mpsc::channel::<Upgrade>();
        let thread = thread::Builder::new().name("upgrades".to_owned());
        let upgrade = {
            let leaving = Arc::clone(&leaving);
            move || {
                for sender in wanted {
                    // Whoever asked may be gone.
                    let _ = sender.send(leaving.upgrade());
                }
            }
        };
        thread.spawn(upgrade)?;
        Ok(Self { leaving, upgrades, maintenance, notify: Notify::default(), drain })
    }

    /// Tells the service manager from now on.
    pub(crate) fn set_notify(&mut self, notify: Notify) {
        self.notify = notify;
    }

    /// Reads settings again by `reloader` from now on.
    pub(crate) fn install(&self, reloader: Reloader) {
        self.maintenance.install(reloader);
    }

    /// Closes every connection in good order, then ends.
    pub fn drain(&self) {
        self.notify.stopping(self.drain + AFTER_DRAIN);
        self.leaving.leave(Command::Drain);
    }

    /// Ends at once.
    pub fn stop(&self) {
        self.leaving.leave(Command::Stop);
    }

    /// Drains; told so again, stops.
    pub fn end(&self) {
        if self.leaving.control.command() == Command::Serve { self.drain() } else { self.stop() }
    }

    /// Reads settings again, and uses those that can change while the server runs.
    ///
    /// # Errors
    /// If they can't be used: those in use stay.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        self.maintenance.reload()
    }

    /// Sets the level of the log until the next start; without a `level`, tells it.
    ///
    /// # Errors
    /// If it is no level, or the log isn't the server's: then it stays.
    pub fn log_level(&self, level: Option<String>) -> Result<LogLevels, LogLevelError> {
        self.maintenance.log_level(level)
    }

    /// Starts the program again, hands it the listening sockets, and drains once it serves. Takes as long as the new
    /// process needs to start. Answers its process id.
    ///
    /// # Errors
    /// If there is no new process that serves: this one goes on.
    pub fn upgrade(&self) -> Result<u32, UpgradeError> {
        let (sender, receiver) = mpsc::channel();
        self.upgrades.send(sender).map_err(|_| UpgradeError::Draining)?;
        receiver.recv().map_err(|_| UpgradeError::Draining)?
    }

    /// As [`ServerHandle::upgrade`], without waiting for what comes of it: the log says so.
    pub(crate) fn begin_upgrade(&self) {
        let (sender, _) = mpsc::channel();
        let _ = self.upgrades.send(sender);
    }

    /// Waits until no upgrade is underway: one that isn't wanted any more leaves no process behind.
    pub(crate) fn settle_upgrade(&self) {
        drop(self.leaving.upgrading.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells whether another process has taken over.
    pub fn is_handed_over(&self) -> bool {
        self.leaving.handed_over.load(Ordering::Relaxed)
    }
}

impl Leaving {
    /// Hands over to a new process, and logs what came of it.
    fn upgrade(&self) -> Result<u32, UpgradeError> {
        let upgraded = self.hand_over();
        match &upgraded {
            Ok(pid) => tracing::info!(pid, "a new process serves; this one drains"),
            Err(error) => tracing::error!(%error, "no upgrade: this process goes on serving"),
        }
        upgraded
    }

    fn hand_over(&self) -> Result<u32, UpgradeError> {
        let _one = self.upgrading.lock().unwrap_or_else(PoisonError::into_inner);
        let successor = {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = kept::hand_over().map_err(UpgradeError::Settings)?;
            let kept = kept.iter().map(|(variable, descriptor)| (*variable, descriptor.as_fd()));
            let lock = self.journals.iter().map(|lock| (journal_lock::HANDED_OVER, lock.as_fd()));
            let others: Vec<_> = kept.chain(lock).collect();
            upgrade::start_successor(listeners.as_ref().ok_or(UpgradeError::Draining)?, &others)?
        };
        // Not while the sockets are locked: whoever ends this process doesn't wait for the new one.
        let pid = successor.wait(|| self.control.command() == Command::Serve)?;
        self.handed_over.store(true, Ordering::Relaxed);
        // The service goes on: its manager is told by the new process.
        self.leave(Command::Drain);
        Ok(pid)
    }

    /// Gives up the listening sockets: as soon as the shards have, too, nobody is accepted here any more.
    fn leave(&self, command: Command) {
        drop(self.listeners.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.control.issue(command);
    }
}
