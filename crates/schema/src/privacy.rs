//! Privacy rules: which fields are taken out of events, or changed, before they are stored.

use std::fmt;

use crate::plan::Plan;
use crate::privacy_rule::{PrivacyError, PrivacyRule};

mod redact;

pub use redact::Redactor;

/// The privacy rules of a server: they hold before anything is written, dead letters included.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PrivacyConfig {
    rules: Vec<PrivacyRule>,
    key: [u8; 32],
    truncate_peer: bool,
}

impl PrivacyConfig {
    /// Rules by field, of two for the same field or key the last; the key of [`PrivacyAction::Hash`](crate::PrivacyAction::Hash), with which values
    /// can be tried; `truncate_peer` stores the client's address as by [`PrivacyAction::Truncate`](crate::PrivacyAction::Truncate).
    ///
    /// # Errors
    /// A rule for which there is no field, or which can't be applied to it.
    pub fn new(rules: Vec<PrivacyRule>, key: [u8; 32], truncate_peer: bool) -> Result<Self, PrivacyError> {
        Plan::new(&rules)?;
        Ok(Self { rules, key, truncate_peer })
    }

    /// The schema with these rules.
    pub fn plan(&self) -> Plan {
        Plan::new(&self.rules).expect("new() has checked the rules")
    }

    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    pub(crate) fn truncates_peer(&self) -> bool {
        self.truncate_peer
    }
}

impl fmt::Debug for PrivacyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rules, key: _, truncate_peer } = self;
        f.debug_struct("PrivacyConfig").field("rules", rules).field("truncate_peer", truncate_peer).finish()
    }
}
