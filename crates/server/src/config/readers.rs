//! Settings that only the server has kinds of, and errors that only it knows.

use super::users::UsersError;
use crate::placement::{self, PlacementError};
use std::net::SocketAddr;
use tickstream_engine::{Network, NetworkError, PrivacyError, PrivacyRule};
use tickstream_service::settings::{IntegerRange, Kind, Setting, ValueError, kind};

/// Bytes of a name.
const NAME_BYTES_MAX: usize = 255;

/// A value that the server can't use. Each message continues the sentence that begins with key, value and origin.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// Journals that can't be so small.
    #[error(
        "must be at least {least}: three segments for each shard (shards = {shards}), one that is full, one that is written, one \
         that is made ready"
    )]
    JournalSize {
        /// The number of shards that share it.
        shards: usize,
        /// The least, MiB.
        least: u64,
    },
    /// Privacy rules that can't be applied.
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
    /// Too long, or with control characters.
    #[error("is no name; accepted: {}, without control characters", accepted_name())]
    Name,
    /// A file without a usable key. Nothing of it is shown.
    #[error("must hold 64 hexadecimal digits, such as `openssl rand -hex 32` makes")]
    PrivacyKey,
    /// A file of users that can't be used.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// CPUs that can't be used.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// No network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A cross-field rule: this must not be below another setting.
    #[error("must be at least {other} ({value}), so that each shard gets one")]
    LessThan {
        /// The other setting.
        other: &'static str,
        /// Its value.
        value: usize,
    },
    /// A cross-field rule: two listeners at one address would share its connections.
    #[error("is also where {other} ({value}) accepts connections; give {own} another port")]
    Overlaps {
        /// The other setting.
        other: &'static str,
        /// Its value.
        value: SocketAddr,
        /// This one's value.
        own: SocketAddr,
    },
}

impl From<SettingError> for ValueError {
    fn from(error: SettingError) -> Self {
        Self::program(error)
    }
}

/// CPU numbers in list syntax.
pub fn read_cpus(text: &str) -> Result<Option<Vec<usize>>, ValueError> {
    Ok(Some(placement::parse_cpus(text).map_err(SettingError::from)?))
}

/// A whole number, of which 0 is one, for a setting that may be empty.
pub const fn optional_integer(min: u32, max: u32) -> Setting<Option<u32>> {
    Setting::new(Kind::Integer(IntegerRange { min, max, unit: "" }, Some), "N")
}

/// Networks with commas between them.
pub const fn networks() -> Setting<Vec<Network>> {
    let accepts = || "networks and addresses, such as 10.0.0.0/8,2001:db8::/32".to_owned();
    kind::text(accepts, read_networks).value_name("NETWORKS")
}

fn read_networks(text: &str) -> Result<Vec<Network>, ValueError> {
    let networks = text.split(',').map(|network| network.trim().parse().map_err(SettingError::Network));
    Ok(networks.collect::<Result<_, _>>()?)
}

/// Text in a record.
pub const fn name() -> Setting<Option<String>> {
    kind::text(accepted_name, read_name).value_name("NAME")
}

fn accepted_name() -> String {
    format!("text of 1 to {NAME_BYTES_MAX} bytes")
}

fn read_name(text: &str) -> Result<Option<String>, ValueError> {
    let is_name = text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control);
    if is_name { Ok(Some(text.to_owned())) } else { Err(SettingError::Name.into()) }
}

/// Fields of events, and what is done to each.
pub const fn privacy_rules() -> Setting<Vec<PrivacyRule>> {
    let accepts = || {
        "fields of events with drop, mask, hash or truncate, such as user_id=hash,log.message=mask".to_owned()
    };
    kind::text(accepts, read_privacy_rules).value_name("RULES")
}

fn read_privacy_rules(text: &str) -> Result<Vec<PrivacyRule>, ValueError> {
    let rules = text.split(',').map(str::trim).filter(|rule| !rule.is_empty());
    Ok(rules.map(|rule| rule.parse().map_err(SettingError::Privacy)).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_may_have_spaces() {
        assert_eq!(read_networks("10.0.0.0/8, ::1").unwrap().len(), 2);
    }
}
