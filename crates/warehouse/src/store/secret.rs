//! The secret of an installation: namespace of identifiers, and key of the list of erased ones.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hkdf};

use super::{StoreError, files};
use crate::events::Namespace;

const NAME: &str = "identity.key";
const BYTES: usize = 32;

/// Secret of an installation. Hosts that load into the same tables need the same one.
pub struct Secret([u8; BYTES]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Reads the secret in the state directory, or makes one if there is none.
    ///
    /// # Errors
    /// If it can't be read or made, or the file is no secret.
    pub fn open_or_create(state: &Path) -> Result<Self, StoreError> {
        let path = state.join(NAME);
        match Self::read(&path) {
            Err(StoreError::State { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut secret = [0; BYTES];
        SystemRandom::new().fill(&mut secret).map_err(|_| {
            StoreError::state("making", &path)(io::Error::other("the system gives no random bytes"))
        })?;
        // It gets its name when it is whole: after a power cut there is all of it, or nothing.
        let unnamed = state.join(format!("{NAME}.{}.tmp", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file =
                fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unnamed)?;
            file.write_all(&secret)?;
            file.sync_all()?;
            let named = fs::hard_link(&unnamed, &path);
            fs::remove_file(&unnamed)?;
            named?;
            files::sync_parent(&path)
        };
        match write() {
            Ok(()) => Ok(Self(secret)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(&path),
            Err(error) => Err(StoreError::state("making", &path)(error)),
        }
    }

    fn read(path: &Path) -> Result<Self, StoreError> {
        let bytes = fs::read(path).map_err(StoreError::state("reading", path))?;
        let bytes = <[u8; BYTES]>::try_from(bytes);
        let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "it must have 32 bytes");
        bytes.map(Self).map_err(wrong).map_err(StoreError::state("reading", path))
    }

    /// Namespace of users' and sessions' UUIDs.
    pub fn namespace(&self) -> Namespace {
        let derived = self.derive(b"tickstream namespace");
        Namespace::new(derived[..16].try_into().expect("sixteen of 32 bytes"))
    }

    /// Key of the list of erased identifiers.
    pub fn suppression_key(&self) -> [u8; BYTES] {
        self.derive(b"tickstream suppression")
    }

    /// Namespace of the pseudonyms that masked roles see.
    pub fn pseudonyms(&self) -> Namespace {
        let derived = self.derive(b"tickstream pseudonyms");
        Namespace::new(derived[..16].try_into().expect("sixteen of 32 bytes"))
    }

    fn derive(&self, purpose: &[u8]) -> [u8; BYTES] {
        let salt =
            hkdf::Salt::new(hkdf::HKDF_SHA256, digest::digest(&digest::SHA256, b"tickstream").as_ref());
        let key = salt.extract(&self.0);
        let mut derived = [0; BYTES];
        let purpose = [purpose];
        let material = key.expand(&purpose, hkdf::HKDF_SHA256).expect("32 bytes are asked for");
        material.fill(&mut derived).expect("32 bytes are asked for");
        derived
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_stays_and_only_its_owner_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let one = Secret::open_or_create(directory.path()).unwrap();
        let other = Secret::open_or_create(directory.path()).unwrap();
        assert_eq!(one.0, other.0);
        assert_ne!(one.suppression_key(), one.0);
        let mode = fs::metadata(directory.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(directory.path().join(NAME), b"short").unwrap();
        assert!(Secret::open_or_create(directory.path()).unwrap_err().to_string().contains("identity.key"));
    }
}
