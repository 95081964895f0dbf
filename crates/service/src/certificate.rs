//! Validity of certificates that a program shows to others: expired ones are refused by whoever is shown them.

use std::time::{SystemTime, UNIX_EPOCH};

use x509_parser::prelude::{FromDer, X509Certificate};

/// Subject and validity of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject, for people.
    pub subject: String,
    /// When it begins, Unix seconds.
    pub begins: i64,
    /// When it ends, Unix seconds.
    pub ends: i64,
}

impl Certificate {
    /// Parses a certificate in DER; `None` if it can't be parsed.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        Some(Self {
            subject: certificate.subject().to_string(),
            begins: validity.not_before.timestamp(),
            ends: validity.not_after.timestamp(),
        })
    }

    /// True if it is valid at `now_s`, Unix seconds.
    pub fn is_valid(&self, now_s: i64) -> bool {
        (self.begins..=self.ends).contains(&now_s)
    }

    /// The end of a sentence about it, if it isn't valid, or ends within so many seconds.
    pub fn concern(&self, now_s: i64, within_s: i64) -> Option<&'static str> {
        match () {
            () if self.begins > now_s => Some("isn't valid yet"),
            () if self.ends < now_s => Some("has expired"),
            () if self.ends - now_s < within_s => Some("ends soon"),
            () => None,
        }
    }
}

/// Unix seconds.
pub fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_time_is_reported() {
        let certificate = Certificate { subject: "CN=a".to_owned(), begins: 100, ends: 200 };
        let check = |now_s, expected: Option<&str>| {
            assert_eq!(certificate.concern(now_s, 10), expected, "{now_s}");
            let is_unusable = matches!(expected, Some("isn't valid yet" | "has expired"));
            assert_eq!(certificate.is_valid(now_s), !is_unusable, "{now_s}");
        };
        check(99, Some("isn't valid yet"));
        check(100, None);
        check(190, None);
        check(191, Some("ends soon"));
        check(200, Some("ends soon"));
        check(201, Some("has expired"));
        assert_eq!(Certificate::parse(b"no certificate"), None);
    }
}
