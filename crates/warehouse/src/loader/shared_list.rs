//! The list of erased identifiers of tables in a bucket: hosts that load into them have the same one.
//!
//! The list lies beside the tables; each host's state directory has a copy, which is brought up to date where it is opened.

use deltalake::logstore::object_store::path::Path;
use deltalake::logstore::object_store::{Error, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};

use super::suppression::{LIST, Subject, Suppression, SuppressionError};
use crate::store::{Tables, files};

/// Times that an addition is tried, while other hosts add, too.
const ATTEMPTS: u32 = 16;

/// Brings the copy in the state directory up to date. Tables of this host have their list there.
///
/// # Errors
/// If the bucket can't be read, or the copy can't be written.
pub async fn pull(tables: &Tables) -> Result<Option<UpdateVersion>, SuppressionError> {
    if tables.directory().is_some() {
        return Ok(None);
    }
    let found = match tables.store().get(&place(tables)).await {
        Ok(found) => found,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
    let bytes = found.bytes().await?;
    let path = tables.state().join(LIST);
    if std::fs::read(&path).ok().as_deref() != Some(&bytes) {
        files::write_synced(&path, &bytes).map_err(|source| SuppressionError::Io {
            action: "writing",
            path,
            source,
        })?;
    }
    Ok(Some(version))
}

/// Adds identifiers to the list, on stable storage and in the bucket when this returns. The new version.
///
/// # Errors
/// If it can't be written, or other hosts add all the time.
pub async fn add(
    tables: &Tables,
    suppression: &mut Suppression,
    identifiers: &[(Subject, &[u8])],
) -> Result<u64, SuppressionError> {
    for _ in 0..ATTEMPTS {
        let before = pull(tables).await?;
        suppression.reload()?;
        let version = suppression.add(identifiers)?;
        if tables.directory().is_some() {
            return Ok(version);
        }
        let path = tables.state().join(LIST);
        let bytes = std::fs::read(&path).map_err(|source| SuppressionError::Io {
            action: "reading",
            path,
            source,
        })?;
        let mode = before.map_or(PutMode::Create, PutMode::Update);
        let options = PutOptions { mode, ..Default::default() };
        match tables.store().put_opts(&place(tables), bytes.into(), options).await {
            Ok(_) => return Ok(version),
            // Another host added meanwhile: once more on top of it.
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(SuppressionError::Outpaced { attempts: ATTEMPTS })
}

fn place(tables: &Tables) -> Path {
    tables.root_path().join("_tickstream").join(LIST)
}
