//! Certificates that change while the server runs: read again, and handed to the shards if they are good.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustls::server::ProducesTickets;

use super::material::{self, Acceptor, MaterialError};
use crate::config::Tls;

/// What new handshakes use now. Shards look at the generation, and take the acceptor only when that changes.
#[derive(Debug)]
pub struct Current {
    acceptor: Mutex<Arc<Acceptor>>,
    generation: AtomicU64,
}

impl Current {
    /// How often the acceptor was replaced.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What new handshakes use.
    pub fn acceptor(&self) -> Arc<Acceptor> {
        Arc::clone(&self.lock())
    }

    fn replace(&self, acceptor: Acceptor) {
        *self.lock() = Arc::new(acceptor);
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Acceptor>> {
        // A pointer is whole even if whoever held the lock panicked.
        self.acceptor.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Reads certificates again when their files have changed.
pub struct Certificates {
    tls: Tls,
    ticketer: Arc<dyn ProducesTickets>,
    current: Arc<Current>,
    seen: Vec<Option<Stamp>>,
}

/// What changes when a file is written, replaced, or its symbolic link set to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
}

impl Certificates {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// See [`MaterialError`].
    pub fn load(tls: Tls) -> Result<Self, MaterialError> {
        let seen = stamps(&tls);
        let unusable = |source| MaterialError::Pair { cert: tls.cert.clone(), key: tls.key.clone(), source };
        let ticketer = material::ticketer().map_err(unusable)?;
        let acceptor = Acceptor::load(&tls, Arc::clone(&ticketer))?;
        let current = Current { acceptor: Mutex::new(Arc::new(acceptor)), generation: AtomicU64::new(0) };
        Ok(Self { tls, ticketer, current: Arc::new(current), seen })
    }

    /// What shards look at.
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current)
    }

    /// Reads the files again if one of them has changed since they were read last, and says in the log what came of it.
    pub fn look(&mut self) {
        let stamps = stamps(&self.tls);
        if stamps != self.seen {
            self.seen = stamps;
            self.reload();
        }
    }

    /// Reads the files again. Those that can't be used leave the old ones in use.
    pub fn reload(&mut self) {
        match Acceptor::load(&self.tls, Arc::clone(&self.ticketer)) {
            Ok(acceptor) => {
                tracing::info!(cert = %self.tls.cert.display(), expires = acceptor.expires(), "certificates reloaded");
                self.current.replace(acceptor);
            }
            Err(error) => tracing::error!(%error, "new certificates can't be used; the old ones stay in use"),
        }
    }
}

fn stamps(tls: &Tls) -> Vec<Option<Stamp>> {
    let ca = tls.clients.as_ref().map(|clients| &clients.ca);
    [Some(&tls.cert), Some(&tls.key), ca].into_iter().flatten().map(stamp).collect()
}

fn stamp(path: &PathBuf) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
    })
}
