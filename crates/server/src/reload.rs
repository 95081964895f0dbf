//! Settings that change while the server runs: read again from where they came, and handed to whoever uses them. Those
//! that need a restart are named.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use tickstream_engine as engine;

use crate::admin::Shown;
use crate::config::{self, Config, ConfigError, File, Flags, Values};
use crate::logs::LogFilter;
use crate::serve;
use crate::tls::MaterialError;
use crate::tls::watch::Certificates;
use crate::versioned::Versioned;

/// Where a server's settings came from.
#[derive(Clone)]
pub struct Source {
    /// The flags that it was started with.
    pub flags: Flags,
    /// The file, if there is one.
    pub file: Option<PathBuf>,
}

impl Source {
    /// Reads every setting, from this process's environment, too.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(&self) -> Result<Values, ConfigError> {
        let file = self.file.as_deref().map(File::read).transpose()?;
        Values::merge(&self.flags, &|name| std::env::var_os(name), file.as_ref())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A flag may be the password.
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Why settings can't be reloaded.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Certificates(#[from] MaterialError),
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
    shown: Arc<Versioned<Shown>>,
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
        shown: Arc<Versioned<Shown>>,
    ) -> Result<Self, ConfigError> {
        let (started, values) = (source.read()?, source.read()?);
        Ok(Self { source, started, values, config, connections, settings, filter, shown })
    }

    /// Reads all settings again, and the files of `certificates`, and puts those in use that can change; says in the
    /// log which, and which can't. Answers the new settings; `None` if they, or files that they name anew, can't be
    /// used: then all stays as it was.
    pub fn reload(&mut self, certificates: Option<&mut Certificates>) -> Option<&Config> {
        match self.try_reload(certificates) {
            Ok(()) => Some(&self.config),
            Err(error) => {
                tracing::error!(%error, "the settings can't be reloaded; those in use stay");
                None
            }
        }
    }

    fn try_reload(&mut self, certificates: Option<&mut Certificates>) -> Result<(), ReloadError> {
        let values = self.source.read()?;
        let config = Config::from_merged(&values)?;
        // The last that may fail, before the first that is put to use.
        match (certificates, &config.tls) {
            (Some(certificates), Some(tls)) => certificates.change(tls)?,
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => tracing::warn!("turning TLS on or off needs a restart"),
        }
        let changed = |since: &Values, live| {
            let keys = since.changed(&values).into_iter().filter(|setting| setting.live == live);
            keys.map(|setting| setting.key).collect::<Vec<_>>().join(" ")
        };
        let (reloaded, restart) = (changed(&self.values, true), changed(&self.started, false));
        // Credentials may have changed though no setting has: in the file that one of them names.
        let engine = serve::engine_config(&config, self.connections);
        self.settings.replace(engine.expect("a valid configuration is the engine's, too"));
        if let Some(filter) = &self.filter
            && config.log_level != self.config.log_level
        {
            filter.set(&config.log_level);
        }
        let effective = config::effective(&self.started.with_live_of(&values));
        self.shown.replace(Shown { effective, token: config.admin_token.clone() });
        tracing::info!(changed = reloaded, "settings reloaded");
        if !restart.is_empty() {
            tracing::warn!(
                changed = restart,
                "settings that need a restart have changed; the old ones stay in use"
            );
        }
        (self.config, self.values) = (config, values);
        Ok(())
    }
}
