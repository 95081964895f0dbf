//! Configuration: a file's text, and variables (fault 43).

use std::collections::BTreeMap;
use std::path::Path;

use tickstream_server::config::{Config, TABLE};
use tickstream_server::placement::Machine;
use tickstream_service::settings::{File, Flags, Values};

/// TOML up to the first zero byte; behind it, lines of `NAME=value` for the environment.
///
/// # Panics
/// If something other than an error comes of it, or an error that shows a secret or doesn't say what is wrong.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (toml, variables) = text.split_once('\0').unwrap_or((text, ""));
    let variables: BTreeMap<_, _> = variables.lines().filter_map(|line| line.split_once('=')).collect();
    let environment = |name: &str| variables.get(name).map(Into::into);
    let file = match File::parse(&TABLE, Path::new("tickstream.toml"), toml) {
        Ok(file) => Some(file),
        Err(error) => {
            assert!(error.to_string().len() > 8, "{error}");
            None
        }
    };
    let machine = Machine { allowed: vec![0, 1, 2, 3], nodes: BTreeMap::new() };
    let merged = Values::merge(&TABLE, &Flags::new(), &environment, file.as_ref());
    match merged.and_then(|values| Config::for_checks(&values, &machine)) {
        Ok(config) => {
            assert!(config.settings.heartbeat_interval < config.settings.heartbeat_timeout);
            assert!(!config.cpus.is_empty());
        }
        Err(error) => assert!(error.to_string().len() > 8, "{error}"),
    }
}
