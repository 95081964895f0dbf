//! Sources that the collector goes to by itself, and rules for all events: tables of the configuration file.

use serde::Deserialize;

use crate::{
    files::config::{FileConfig, Files},
    host::{HostConfig, HostMetrics},
    pipes::{JournaldConfig, StdinConfig, StdinLines},
    rules::{RuleConfig, Rules},
    scrape::config::{Job, JobConfig},
};

/// Names of the tables.
pub const TABLES: &[&str] = &["source", crate::rules::TABLE];

/// Sources that the collector goes to by itself.
#[derive(Clone, Debug, Default)]
pub struct SourceConfig {
    /// Files to follow.
    pub files: Vec<Files>,
    /// Exporters to scrape.
    pub jobs: Vec<Job>,
    /// The host and its control groups.
    pub host: Option<HostMetrics>,
    /// The standard input.
    pub stdin: Option<StdinLines>,
    /// systemd's journal.
    pub journald: Option<JournaldConfig>,
    /// Rules for the events of all sources.
    pub rules: Rules,
}

/// Why the table can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct SourceError {
    /// Offset of the mistake in the file, where it is known.
    pub offset: usize,
    /// For people.
    pub problem: String,
}

#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    source: Tables,
    #[serde(default)]
    rule: Vec<RuleConfig>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    file: Vec<FileConfig>,
    #[serde(default)]
    scrape: Vec<JobConfig>,
    host: Option<HostConfig>,
    stdin: Option<StdinConfig>,
    journald: Option<JournaldConfig>,
}

impl SourceConfig {
    /// Of the text of a configuration file.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let File { source, rule } = toml::from_str(text).map_err(|error| SourceError {
            offset: error.span().map_or(0, |span| span.start),
            problem: error.message().to_owned(),
        })?;
        let wrong = |problem| SourceError { offset: 0, problem };
        Ok(Self {
            files: source.file.iter().map(FileConfig::files).collect::<Result<_, _>>().map_err(wrong)?,
            jobs: source.scrape.iter().map(JobConfig::job).collect::<Result<_, _>>().map_err(wrong)?,
            stdin: source.stdin.as_ref().map(StdinConfig::lines).transpose().map_err(wrong)?,
            journald: source.journald,
            rules: Rules::new(&rule).map_err(wrong)?,
            host: source.host.as_ref().map(HostConfig::metrics).transpose().map_err(wrong)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_stand_beside_settings() {
        let text = "http = \"127.0.0.1:1\"\n[[source.file]]\npaths = [\"/a\"]\n[[source.file]]\npaths = [\"/b\"]\n\
            [[source.scrape]]\njob_name = \"j\"\n[[source.scrape.static_configs]]\ntargets = [\"a\"]\n[source.host]\n";
        let config = SourceConfig::parse(text).unwrap();
        assert_eq!((config.files.len(), config.jobs.len(), config.host.is_some()), (2, 1, true));
        let none = SourceConfig::parse("http = \"x\"").unwrap();
        assert!(
            none.files.is_empty() && none.jobs.is_empty() && none.host.is_none() && none.rules.is_empty()
        );
        let error = SourceConfig::parse("a = 1\n[[source.files]]\n").unwrap_err();
        assert!(error.problem.contains("unknown field `files`") && error.offset > 0, "{error:?}");
        let error = SourceConfig::parse("[[source.file]]\npaths = []").unwrap_err();
        assert!(error.problem.contains("paths is empty"), "{error:?}");
    }
}
