//! `[[source.scrape]]` of the configuration file: names and defaults are Prometheus'.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::relabel::{LabelMap, Rule, RuleConfig};
use crate::durations::duration;

/// A job, as the file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobConfig {
    job_name: String,
    scrape_interval: Option<String>,
    scrape_timeout: Option<String>,
    metrics_path: Option<String>,
    scheme: Option<String>,
    #[serde(default)]
    honor_labels: bool,
    honor_timestamps: Option<bool>,
    #[serde(default)]
    params: BTreeMap<String, Vec<String>>,
    body_size_limit: Option<u64>,
    sample_limit: Option<usize>,
    ca_file: Option<PathBuf>,
    bearer_token_file: Option<PathBuf>,
    #[serde(default)]
    static_configs: Vec<StaticConfig>,
    #[serde(default)]
    file_sd_configs: Vec<FileDiscovery>,
    #[serde(default)]
    http_sd_configs: Vec<HttpDiscovery>,
    #[serde(default)]
    relabel_configs: Vec<RuleConfig>,
    #[serde(default)]
    metric_relabel_configs: Vec<RuleConfig>,
}

/// Targets with labels; also the elements of discovered lists.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct StaticConfig {
    /// Addresses: a host, and a port unless the scheme's own is right.
    pub targets: Vec<String>,
    /// Labels of each target.
    #[serde(default)]
    pub labels: LabelMap,
}

/// Lists of targets in files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDiscovery {
    /// Paths of JSON files; the last part may have asterisks.
    pub files: Vec<String>,
    /// Time between readings.
    pub refresh_interval: Option<String>,
}

/// A list of targets at an address.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpDiscovery {
    /// The address, of scheme http or https.
    pub url: String,
    /// Time between requests.
    pub refresh_interval: Option<String>,
}

/// A job that can run.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name, which is the label `job`.
    pub name: String,
    /// Time between scrapes of a target.
    pub interval: Duration,
    /// Longest scrape.
    pub timeout: Duration,
    /// Path of the metrics.
    pub path: String,
    /// http or https.
    pub scheme: String,
    /// Labels of the exporter win over the target's.
    pub honor_labels: bool,
    /// Timestamps of the exporter are taken.
    pub honor_timestamps: bool,
    /// Parameters of the query.
    pub params: BTreeMap<String, Vec<String>>,
    /// Most bytes of an answer, unpacked.
    pub body_bytes_max: usize,
    /// Most samples of an answer.
    pub samples_max: usize,
    /// PEM file with the authorities of https; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// File with a token for `Authorization: Bearer`, read for each scrape.
    pub token_file: Option<PathBuf>,
    /// Lists of targets.
    pub discoveries: Vec<(Discovery, Duration)>,
    /// Rules for targets.
    pub target_rules: Vec<Rule>,
    /// Rules for series.
    pub series_rules: Vec<Rule>,
}

/// Source of the list of targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// In the configuration.
    Static(Vec<StaticConfig>),
    /// In files.
    Files(Vec<String>),
    /// At an address.
    Http(String),
}

const REFRESH: Duration = Duration::from_secs(60);
const BODY_BYTES_MAX: u64 = 16 << 20;
const SAMPLES_MAX: usize = 200_000;

impl JobConfig {
    /// The job.
    ///
    /// # Errors
    /// The fault and its place, for people.
    pub fn job(&self) -> Result<Job, String> {
        self.read().map_err(|problem| format!("[[source.scrape]] {}: {problem}", self.job_name))
    }

    fn read(&self) -> Result<Job, String> {
        let interval = duration("scrape_interval", self.scrape_interval.as_deref(), Duration::from_secs(60))?;
        let timeout = duration(
            "scrape_timeout",
            self.scrape_timeout.as_deref(),
            interval.min(Duration::from_secs(10)),
        )?;
        let scheme = self.scheme.clone().unwrap_or_else(|| "http".to_owned());
        if timeout > interval {
            return Err("scrape_timeout is longer than scrape_interval".to_owned());
        }
        if !matches!(&scheme[..], "http" | "https") {
            return Err(format!("scheme is {scheme}; http and https are known"));
        }
        let path = self.metrics_path.clone().unwrap_or_else(|| "/metrics".to_owned());
        if !path.starts_with('/') {
            return Err(format!("metrics_path is {path}; it begins with a slash"));
        }
        let rules =
            |configs: &[RuleConfig]| configs.iter().map(RuleConfig::rule).collect::<Result<Vec<_>, _>>();
        Ok(Job {
            name: self.job_name.clone(),
            interval,
            timeout,
            path,
            scheme,
            honor_labels: self.honor_labels,
            honor_timestamps: self.honor_timestamps.unwrap_or(true),
            params: self.params.clone(),
            body_bytes_max: self.body_size_limit.unwrap_or(BODY_BYTES_MAX).clamp(1, 1 << 30) as usize,
            samples_max: self.sample_limit.unwrap_or(SAMPLES_MAX),
            ca_file: self.ca_file.clone(),
            token_file: self.bearer_token_file.clone(),
            discoveries: self.discoveries()?,
            target_rules: rules(&self.relabel_configs)?,
            series_rules: rules(&self.metric_relabel_configs)?,
        })
    }

    fn discoveries(&self) -> Result<Vec<(Discovery, Duration)>, String> {
        let mut found = Vec::new();
        if !self.static_configs.is_empty() {
            found.push((Discovery::Static(self.static_configs.clone()), Duration::MAX));
        }
        for FileDiscovery { files, refresh_interval } in &self.file_sd_configs {
            let every = duration("refresh_interval", refresh_interval.as_deref(), REFRESH)?;
            found.push((Discovery::Files(files.clone()), every));
        }
        for HttpDiscovery { url, refresh_interval } in &self.http_sd_configs {
            let every = duration("refresh_interval", refresh_interval.as_deref(), REFRESH)?;
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(format!("{url} is no address of http or https"));
            }
            found.push((Discovery::Http(url.clone()), every));
        }
        if found.is_empty() { Err("it has no targets".to_owned()) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(toml: &str) -> Result<Job, String> {
        toml::from_str::<JobConfig>(toml).map_err(|error| error.to_string())?.job()
    }

    #[test]
    fn a_job_has_prometheus_defaults() {
        let job = job(
            "job_name = \"node\"\nscrape_interval = \"1m30s\"\n[[static_configs]]\ntargets = [\"a:9100\"]\nlabels = { env = \"x\" }\n\
             [[relabel_configs]]\nsource_labels = [\"env\"]\ntarget_label = \"e\"",
        )
        .unwrap();
        assert_eq!((job.interval, job.timeout), (Duration::from_secs(90), Duration::from_secs(10)));
        assert_eq!((&job.path[..], &job.scheme[..], job.honor_timestamps), ("/metrics", "http", true));
        assert_eq!((job.discoveries.len(), job.target_rules.len()), (1, 1));
    }

    #[test]
    fn mistakes_are_named() {
        let with = |line: &str| format!("job_name = \"j\"\n{line}\n[[static_configs]]\ntargets = [\"a\"]");
        for (toml, expected) in [
            ("job_name = \"j\"".to_owned(), "no targets"),
            (with("scrape_interval = \"soon\""), "scrape_interval is \"soon\""),
            (with("scrape_interval = \"1s\"\nscrape_timeout = \"2s\""), "longer than"),
            (with("scheme = \"ftp\""), "scheme is ftp"),
            (with("metrics_path = \"metrics\""), "begins with a slash"),
            (with("nonsense = 1"), "unknown field"),
            ("job_name = \"j\"\n[[http_sd_configs]]\nurl = \"file:///etc/passwd\"".to_owned(), "no address"),
        ] {
            let problem = job(&toml).unwrap_err();
            assert!(problem.contains(expected), "{toml}: {problem}");
        }
    }
}
