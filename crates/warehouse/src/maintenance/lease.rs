//! The maintenance lease: one process at a time compacts, vacuums or erases.
//!
//! For tables on this host it is a lock of the kernel, which ends with its process. For tables in a bucket it is an
//! object with an end of its time; only who sees it ended, unchanged, may take it over.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deltalake::logstore::object_store::path::Path as StorePath;
use deltalake::logstore::object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion,
};
use serde::{Deserialize, Serialize};

use super::MaintenanceError;
use crate::store::{StoreError, Tables};

const NAME: &str = "maintenance.lease";
/// Time of a lease in a bucket. Maintenance that takes longer renews it.
const TERM: Duration = Duration::from_secs(600);

/// Content of a lease.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    /// Process and host.
    name: String,
    /// Seconds since 1970 at which it ends, in a bucket.
    until: u64,
}

/// The lease, held until it is dropped or [`Lease::release`]d.
#[derive(Debug)]
pub struct Lease(Held);

#[derive(Debug)]
enum Held {
    File(#[expect(dead_code, reason = "the lock ends with it")] File),
    Object { store: Arc<dyn ObjectStore>, path: StorePath, version: UpdateVersion },
}

impl Lease {
    /// Takes the lease.
    ///
    /// # Errors
    /// [`MaintenanceError::Held`] if somebody else has it.
    pub async fn take(tables: &Tables) -> Result<Self, MaintenanceError> {
        match tables.directory() {
            Some(_) => Self::lock(tables),
            None => Self::put(tables).await,
        }
    }

    fn lock(tables: &Tables) -> Result<Self, MaintenanceError> {
        let path = tables.state().join(NAME);
        let failed = |action| StoreError::state(action, &path);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(failed("opening"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let holder = if text.is_empty() { "another process".to_owned() } else { text };
                return Err(MaintenanceError::Held { holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed("locking")(error).into()),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(holder_name().as_bytes())
        };
        write(&mut file).map_err(failed("writing"))?;
        Ok(Self(Held::File(file)))
    }

    async fn put(tables: &Tables) -> Result<Self, MaintenanceError> {
        let store = tables.store().clone();
        let path = tables.root_path().join("_tickstream").join(NAME);
        let failed = |source: Error| MaintenanceError::delta("taking the maintenance lease")(source.into());
        let content = || {
            let holder = Holder { name: holder_name(), until: now_s() + TERM.as_secs() };
            serde_json::to_vec(&holder).expect("texts and numbers have JSON")
        };
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match store.put_opts(&path, content().into(), options).await {
            Ok(put) => return Ok(Self(Held::Object { store, path, version: put.into() })),
            Err(Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        let found = store.get(&path).await.map_err(failed)?;
        let seen = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(failed)?;
        let holder: Option<Holder> = serde_json::from_slice(&bytes).ok();
        if let Some(holder) = holder.filter(|holder| holder.until > now_s()) {
            return Err(MaintenanceError::Held { holder: holder.name });
        }
        let options = PutOptions { mode: PutMode::Update(seen), ..Default::default() };
        match store.put_opts(&path, content().into(), options).await {
            Ok(put) => Ok(Self(Held::Object { store, path, version: put.into() })),
            Err(Error::Precondition { .. }) => {
                Err(MaintenanceError::Held { holder: "another process".to_owned() })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Extends a lease in a bucket.
    ///
    /// # Errors
    /// [`MaintenanceError::Held`] if it ended and somebody else took it.
    pub async fn renew(&mut self) -> Result<(), MaintenanceError> {
        let Held::Object { store, path, version } = &mut self.0 else { return Ok(()) };
        let holder = Holder { name: holder_name(), until: now_s() + TERM.as_secs() };
        let content = serde_json::to_vec(&holder).expect("texts and numbers have JSON");
        let options = PutOptions { mode: PutMode::Update(version.clone()), ..Default::default() };
        match store.put_opts(path, content.into(), options).await {
            Ok(put) => {
                *version = put.into();
                Ok(())
            }
            Err(Error::Precondition { .. }) => {
                Err(MaintenanceError::Held { holder: "another process".to_owned() })
            }
            Err(error) => Err(MaintenanceError::delta("renewing the maintenance lease")(error.into())),
        }
    }

    /// Gives the lease back.
    pub async fn release(self) {
        if let Held::Object { store, path, .. } = self.0
            && let Err(error) = store.delete(&path).await
        {
            tracing::warn!(%error, "the maintenance lease ends by its time");
        }
    }
}

fn holder_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("process {} on {}", std::process::id(), host.trim())
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
