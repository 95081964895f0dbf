//! Certificates that change while the server runs: read again, and handed to the shards if they are good.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::ProducesTickets;

use tickstream_service::certificate::{Certificate, now_s};

use super::material::{self, Acceptor, MaterialError};
use crate::config::Tls;
use crate::versioned::Versioned;

/// Reads certificates again when their files have changed.
pub struct Certificates {
    tls: Tls,
    ticketer: Arc<dyn ProducesTickets>,
    current: Arc<Versioned<Acceptor>>,
    seen: Vec<Option<Stamp>>,
}

/// Values that change when a file is written, replaced, or its symbolic link set to another.
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
        Ok(Self { tls, ticketer, current: Arc::new(Versioned::new(acceptor)), seen })
    }

    /// Certificates that new handshakes use.
    pub fn current(&self) -> Arc<Versioned<Acceptor>> {
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
            Ok(acceptor) => self.install(acceptor),
            Err(error) => tracing::error!(%error, "new certificates can't be used; the old ones stay in use"),
        }
    }

    /// Says in the log if the certificate in use, or one that is sent behind it, ends within so many seconds or isn't valid
    /// now. Answers whether one does.
    pub fn warn_of_end(&self, within_s: i64) -> bool {
        let (acceptor, now_s) = (self.current.value(), now_s());
        let cert = self.tls.cert.display();
        let left_s = acceptor.expires() - now_s;
        if left_s < within_s {
            tracing::warn!(%cert, days = left_s / 86_400, "the certificate in use ends soon: renew it");
        }
        let ending =
            acceptor.issuers().iter().filter_map(|issuer| Some((issuer, issuer.concern(now_s, within_s)?)));
        for (Certificate { subject, ends, .. }, what) in ending.clone() {
            let days = (ends - now_s) / 86_400;
            tracing::warn!(%cert, %subject, days, "a certificate behind the server's own {what}: clients may refuse it; renew it");
        }
        left_s < within_s || ending.count() > 0
    }

    /// Reads the files that `tls` names from now on. If they are those from before, it is [`Certificates::reload`].
    ///
    /// # Errors
    /// If others can't be used: then nothing has changed.
    pub fn change(&mut self, tls: &Tls) -> Result<(), MaterialError> {
        if *tls == self.tls {
            self.reload();
            return Ok(());
        }
        let seen = stamps(tls);
        let acceptor = Acceptor::load(tls, Arc::clone(&self.ticketer))?;
        (self.tls, self.seen) = (tls.clone(), seen);
        self.install(acceptor);
        Ok(())
    }

    fn install(&self, acceptor: Acceptor) {
        tracing::info!(cert = %self.tls.cert.display(), expires = acceptor.expires(), "certificates reloaded");
        self.current.replace(acceptor);
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_certificate_behind_the_server_s_own_that_has_ended_is_warned_of() {
        let pem = |from_year, to_year| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(from_year, 1, 1);
            params.not_after = rcgen::date_time_ymd(to_year, 1, 1);
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        };
        let (own, key) = pem(2020, 4096);
        let check = |behind: &str, is_warned| {
            let directory = tempfile::tempdir().unwrap();
            let tls = Tls {
                cert: directory.path().join("cert.pem"),
                key: directory.path().join("key.pem"),
                clients: None,
            };
            fs::write(&tls.cert, format!("{own}{behind}")).unwrap();
            fs::write(&tls.key, &key).unwrap();
            let certificates = Certificates::load(tls).unwrap();
            assert_eq!(certificates.warn_of_end(86_400), is_warned);
        };
        check("", false);
        check(&pem(2020, 4096).0, false);
        check(&pem(2020, 2021).0, true);
        check(&pem(4000, 4096).0, true);
    }
}
