//! Settings that change while the server runs: read again from where they came, and handed to whoever uses them. Those
//! that need a restart are named.

use std::num::NonZeroU32;
use std::sync::Arc;

use tickstream_engine as engine;

use tickstream_service::logs::LogFilter;
use tickstream_service::settings::{self, About};

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
}

impl VisibleConfig {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self { effective: config.effective.clone(), token: config.admin_token.clone() }
    }
}

/// The outcome of a reload: keys of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that have another value from now on.
    pub changed: Vec<&'static str>,
    /// Settings whose new value needs a restart: the old one stays in use.
    pub need_restart: Vec<&'static str>,
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
        Ok(Self { source, started, values, config, connections, settings, filter, visible })
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
            Ok(Reloaded { changed, need_restart }) => {
                tracing::info!(changed = changed.join(" "), "settings reloaded");
                if !need_restart.is_empty() {
                    tracing::warn!(
                        changed = need_restart.join(" "),
                        "settings that need a restart have changed; the old ones stay in use"
                    );
                }
            }
            Err(error) => tracing::error!(%error, "the settings can't be reloaded; those in use stay"),
        }
        reloaded
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
        // Credentials may have changed though no setting has: in the file that one of them names.
        self.settings.replace(engine);
        if let Some(filter) = &self.filter
            && config.standard.log_level != self.config.standard.log_level
        {
            filter.set(&config.standard.log_level);
        }
        let effective = settings::effective(&used);
        self.visible.replace(VisibleConfig { effective, token: config.admin_token.clone() });
        (self.config, self.values) = (config, values);
        Ok(reloaded)
    }
}

/// The settings in use once `values` were read, after `started` at the start and `last` before; `keeps_tls`: those for TLS need a
/// restart.
fn put_to_use(started: &Values, last: &Values, values: &Values, keeps_tls: bool) -> (Values, Reloaded) {
    let is_used = |about: &About| about.live && !(keeps_tls && about.key.starts_with("tls_"));
    let changed = |since: &Values, used| {
        let settings = since.changed(values).into_iter().map(|setting| setting.about());
        settings.filter(|about| is_used(about) == used).map(|about| about.key).collect()
    };
    let reloaded = Reloaded { changed: changed(last, true), need_restart: changed(started, false) };
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
            assert_eq!(reloaded.need_restart, need_restart);
            let shown = settings::effective(&used);
            assert_eq!(shown.contains(cert), !cert.is_empty() && !shown.is_empty(), "{shown}");
            assert!(reloaded.changed.contains(&"auth_timeout"));
        };
        check(&secured, &plain, "/c.pem", true, &["shards", "tls_cert", "tls_key"]);
        let (used, reloaded) = put_to_use(&plain, &plain, &secured, true);
        assert_eq!(reloaded.need_restart, ["shards", "tls_cert", "tls_key"]);
        assert!(!settings::effective(&used).contains("/c.pem"));
        // Other files are put to use at once.
        let other =
            read(&[("tls_cert", "/d.pem"), ("tls_key", "/k.pem"), ("auth_timeout", "8s"), ("shards", "3")]);
        check(&secured, &other, "/d.pem", false, &[]);
    }
}
