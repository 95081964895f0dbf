//! Settings that change while the server runs: read again from where they came, and handed to whoever uses them. Those
//! that need a restart are named.

use std::num::NonZeroU32;
use std::sync::Arc;

use tickstream_engine as engine;

use tickstream_service::logs::LogFilter;
use tickstream_service::settings::{self, About, AnySetting, ValueError};
use tickstream_service::standard;

use crate::config::users::UsersChange;
use crate::config::{AdminToken, Config, ConfigError, Source, Values};
use crate::engine_config::engine_config;
use crate::tls::MaterialError;
use crate::tls::watch::Certificates;
use crate::versioned::Versioned;

/// The settings that the admin endpoint uses while the server runs. Reloading replaces them.
#[derive(Clone, Debug)]
pub struct VisibleConfig {
    /// The settings in use, as `/config` shows them.
    pub effective: String,
    /// The token that changes need on TCP; `None`: they are refused there.
    pub token: Option<AdminToken>,
    /// The level of the log that an operator has set since the start; `None`: that of the settings.
    pub log_level: Option<String>,
}

impl VisibleConfig {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self { effective: config.effective.clone(), token: config.admin_token.clone(), log_level: None }
    }
}

/// The outcome of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that have another value from now on.
    pub changed: Vec<Change>,
    /// Settings whose new value needs a restart: the old one stays in use.
    pub need_restart: Vec<Change>,
    /// Users of the file.
    pub users: UsersChange,
}

/// A setting with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub key: &'static str,
    /// The value before, as it may be shown.
    pub old: String,
    /// The value now.
    pub new: String,
}

/// Keys of settings, with spaces between them.
fn keys(changes: &[Change]) -> String {
    changes.iter().map(|change| change.key).collect::<Vec<_>>().join(" ")
}

/// Levels of the log: the one before, and the one in use from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevels {
    /// The level before.
    pub old: String,
    /// The level from now on.
    pub new: String,
}

/// A level of the log that can't be set.
#[derive(Debug, thiserror::Error)]
pub enum LogLevelError {
    /// The level isn't one.
    #[error("log_level = {level:?} {reason}")]
    Level {
        /// The text that was given.
        level: String,
        /// The reason.
        reason: ValueError,
    },
    /// The log isn't the server's.
    #[error("the log was set up by the program that this server runs in: set its level there")]
    NoLog,
    /// The server ends.
    #[error("the server is ending")]
    Ending,
}

/// Settings that can't be reloaded: those in use stay.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file for TLS.
    #[error(transparent)]
    Certificates(#[from] MaterialError),
    /// The engine refuses the settings.
    #[error(transparent)]
    Engine(#[from] engine::ConfigError),
    /// The server ends.
    #[error("the server is ending")]
    Ending,
}

/// Reads settings again.
pub struct Reloader {
    source: Source,
    /// The settings that it started with, which those that need a restart stay at.
    started: Values,
    /// The settings that were read last.
    values: Values,
    /// The settings in use.
    config: Config,
    /// Connections of each shard: what the machine allows doesn't change.
    connections: NonZeroU32,
    settings: Arc<Versioned<engine::Config>>,
    filter: Option<LogFilter>,
    /// The level of the log that an operator has set.
    log_level: Option<String>,
    visible: Arc<Versioned<VisibleConfig>>,
}

impl Reloader {
    /// A reloader of a server that runs with `config`, which was read from `source`.
    ///
    /// # Errors
    /// If the settings can't be read again.
    pub fn new(
        source: Source,
        config: Config,
        connections: NonZeroU32,
        settings: Arc<Versioned<engine::Config>>,
        filter: Option<LogFilter>,
        visible: Arc<Versioned<VisibleConfig>>,
    ) -> Result<Self, ConfigError> {
        let (started, values) = (read(&source)?, read(&source)?);
        Ok(Self { source, started, values, config, connections, settings, filter, log_level: None, visible })
    }

    /// The settings in use.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Reads all settings again, and the files of `certificates`, and puts those in use that can change; says in the
    /// log which, and which can't.
    ///
    /// # Errors
    /// If they, or files that they name anew, can't be used: then all stays as it was.
    pub fn reload(&mut self, certificates: Option<&mut Certificates>) -> Result<Reloaded, ReloadError> {
        let reloaded = self.try_reload(certificates);
        match &reloaded {
            Ok(Reloaded { changed, need_restart, users }) => {
                tracing::info!(changed = keys(changed), "settings reloaded");
                if !users.is_empty() {
                    let UsersChange { added, removed, changed } = users;
                    tracing::info!(?added, ?removed, ?changed, "users have changed");
                }
                if !need_restart.is_empty() {
                    tracing::warn!(
                        changed = keys(need_restart),
                        "settings that need a restart have changed; the old ones stay in use"
                    );
                }
            }
            Err(error) => tracing::error!(%error, "the settings can't be reloaded; those in use stay"),
        }
        reloaded
    }

    /// Has the log go on with another level, until a reload brings a new one or the server ends; without a `level`,
    /// answers with the one in use.
    ///
    /// # Errors
    /// See [`LogLevelError`]; the level stays.
    pub fn log_level(&mut self, level: Option<&str>) -> Result<LogLevels, LogLevelError> {
        let old = self.log_level.clone().unwrap_or_else(|| self.config.standard.log_level.clone());
        let Some(level) = level else { return Ok(LogLevels { new: old.clone(), old }) };
        let read = standard::setting::log_level.read(level);
        let new = read.map_err(|reason| LogLevelError::Level { level: level.to_owned(), reason })?;
        self.filter.as_ref().ok_or(LogLevelError::NoLog)?.set(&new);
        self.log_level = Some(new.clone()).filter(|new| *new != self.config.standard.log_level);
        let visible = VisibleConfig { log_level: self.log_level.clone(), ..(*self.visible.value()).clone() };
        self.visible.replace(visible);
        tracing::info!(old, new, "an operator has set the level of the log");
        Ok(LogLevels { old, new })
    }

    fn try_reload(&mut self, certificates: Option<&mut Certificates>) -> Result<Reloaded, ReloadError> {
        let values = read(&self.source)?;
        let config = Config::from_merged(&values)?;
        let engine = engine_config(&config, self.connections)?;
        // Turning TLS on or off needs a restart.
        let keeps_tls = certificates.is_some() != config.tls.is_some();
        // The last that may fail, before the first that is put to use.
        if let (Some(certificates), Some(tls)) = (certificates, &config.tls) {
            certificates.change(tls)?;
        }
        let (used, reloaded) = put_to_use(&self.started, &self.values, &values, keeps_tls);
        let users = UsersChange::between(&self.config.users, &config.users);
        let reloaded = Reloaded { users, ..reloaded };
        // Credentials may have changed though no setting has: in the file that one of them names.
        self.settings.replace(engine);
        if let Some(filter) = &self.filter
            && config.standard.log_level != self.config.standard.log_level
        {
            filter.set(&config.standard.log_level);
            self.log_level = None;
        }
        let effective = settings::effective(&used);
        let (token, log_level) = (config.admin_token.clone(), self.log_level.clone());
        self.visible.replace(VisibleConfig { effective, token, log_level });
        (self.config, self.values) = (config, values);
        Ok(reloaded)
    }
}

/// The settings in use once `values` were read, after `started` at the start and `last` before; `keeps_tls`: those for TLS need a
/// restart.
fn put_to_use(started: &Values, last: &Values, values: &Values, keeps_tls: bool) -> (Values, Reloaded) {
    let is_used = |about: &About| about.live && !(keeps_tls && about.key.starts_with("tls_"));
    let changed = |since: &Values, used| {
        let settings = since.changed(values).into_iter().filter(|setting| is_used(setting.about()) == used);
        let change = |setting: &'static dyn AnySetting| Change {
            key: setting.about().key,
            old: since.get(setting).shown().to_owned(),
            new: values.get(setting).shown().to_owned(),
        };
        settings.map(change).collect()
    };
    let reloaded = Reloaded {
        changed: changed(last, true),
        need_restart: changed(started, false),
        users: UsersChange::default(),
    };
    (started.with_used_of(values, is_used), reloaded)
}

fn read(source: &Source) -> Result<Values, ConfigError> {
    source.read(&|name| std::env::var_os(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TABLE;

    #[test]
    fn tls_that_is_turned_on_or_off_is_not_in_use_before_a_restart() {
        let read =
            |values: &[(&'static str, &str)]| Values::of_program(&TABLE, values.iter().copied()).unwrap();
        let (plain, secured) = (
            read(&[]),
            read(&[("tls_cert", "/c.pem"), ("tls_key", "/k.pem"), ("auth_timeout", "7s"), ("shards", "3")]),
        );
        let check = |from: &Values, to: &Values, cert: &str, keeps_tls, need_restart: &[&str]| {
            let (used, reloaded) = put_to_use(from, from, to, keeps_tls);
            assert_eq!(keys(&reloaded.need_restart), need_restart.join(" "));
            let shown = settings::effective(&used);
            assert_eq!(shown.contains(cert), !cert.is_empty() && !shown.is_empty(), "{shown}");
            assert!(reloaded.changed.iter().any(|change| change.key == "auth_timeout"));
        };
        check(&secured, &plain, "/c.pem", true, &["shards", "tls_cert", "tls_key"]);
        let (used, reloaded) = put_to_use(&plain, &plain, &secured, true);
        assert_eq!(keys(&reloaded.need_restart), "shards tls_cert tls_key");
        assert!(!settings::effective(&used).contains("/c.pem"));
        // Other files are put to use at once.
        let other =
            read(&[("tls_cert", "/d.pem"), ("tls_key", "/k.pem"), ("auth_timeout", "8s"), ("shards", "3")]);
        check(&secured, &other, "/d.pem", false, &[]);
    }
}
