//! Rules of an installation, in a TOML file: how long rows are kept, and scheduled queries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::store::job_tables;

/// Rules that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The file can't be read.
    #[error("reading {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The file has no rules.
    #[error("{} has rules that can't be read", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: Box<toml::de::Error>,
    },
    /// A rule makes no sense.
    #[error("{}: {reason}", .path.display())]
    Rule {
        /// The file.
        path: PathBuf,
        /// Rule, and the problem with it.
        reason: String,
    },
}

/// All rules.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Times for which rows are kept.
    #[serde(default)]
    pub retention: Vec<Retention>,
    /// Scheduled queries.
    #[serde(default, rename = "job")]
    pub jobs: Vec<Job>,
}

/// Rows that go when they are old.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Kind of events; all if there is none.
    pub kind: Option<String>,
    /// Service; all if there is none.
    pub service: Option<String>,
    /// Age since they were received.
    #[serde(deserialize_with = "duration")]
    pub age: Duration,
    /// Part of the traces that stays, from 0 to 1: whole traces, by their id. Rows without a trace go.
    #[serde(default)]
    pub keep_traces: f64,
}

/// A scheduled query.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Name: letters, digits, `_` and `-`.
    pub name: String,
    /// Length of a period.
    #[serde(deserialize_with = "duration")]
    pub every: Duration,
    /// Time after a period's end at which its query runs, for late events.
    #[serde(default, deserialize_with = "duration")]
    pub delay: Duration,
    /// SELECT, in which `{from}` and `{to}` stand for the bounds of the period, as texts of RFC 3339.
    pub query: String,
    /// File of each period's answer, whose name has `{from}`; its extension is csv, json or parquet.
    pub file: Option<PathBuf>,
    /// Table of the answers, which SQL reads as `jobs.NAME`: letters, digits and `_`.
    pub table: Option<String>,
    /// Beginning of the first period, RFC 3339; without it, jobs begin with the period in which they are first seen.
    pub since: Option<String>,
}

/// Reads a text such as `30 days`.
pub(crate) fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

impl Rules {
    /// Reads rules.
    ///
    /// # Errors
    /// [`RulesError`] names the file and the rule.
    pub fn read(path: &Path) -> Result<Self, RulesError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| RulesError::Read { path: path.to_owned(), source })?;
        let rules: Self = toml::from_str(&text)
            .map_err(|source| RulesError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        let wrong = rules.retention.iter().find_map(Retention::problem);
        let wrong = wrong.or_else(|| rules.jobs.iter().find_map(Job::problem));
        match wrong {
            Some(reason) => Err(RulesError::Rule { path: path.to_owned(), reason }),
            None => Ok(rules),
        }
    }
}

impl Retention {
    fn problem(&self) -> Option<String> {
        if !(0.0..1.0).contains(&self.keep_traces) {
            return Some(format!("keep_traces = {} isn't from 0 to below 1", self.keep_traces));
        }
        (self.age < Duration::from_secs(3600)).then(|| "an age of retention is at least 1h".to_owned())
    }
}

impl Job {
    fn problem(&self) -> Option<String> {
        let name = &self.name;
        let is_name = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
        if name.is_empty() || !name.chars().all(is_name) {
            return Some(format!("the job's name {name:?} has more than letters, digits, _ and -"));
        }
        if self.every < Duration::from_secs(60) {
            return Some(format!("the job {name} runs more often than once a minute"));
        }
        match (&self.file, &self.table) {
            (Some(file), None) if !file.to_string_lossy().contains("{from}") => {
                return Some(format!(
                    "the file of the job {name} lacks {{from}}: each period would replace the one before"
                ));
            }
            (None, Some(table)) if !job_tables::is_name(table) => {
                return Some(format!(
                    "the table {table:?} of the job {name} is no word of small letters, digits and _"
                ));
            }
            (Some(_), None) | (None, Some(_)) => {}
            _ => return Some(format!("the job {name} needs either a file or a table")),
        }
        if let Err(error) =
            crate::query::guard::admit(&self.query.replace("{from}", "x").replace("{to}", "x"))
        {
            return Some(format!("the query of the job {name}: {error}"));
        }
        let since = self.since.as_deref().map(chrono::DateTime::parse_from_rfc3339);
        matches!(since, Some(Err(_))).then(|| format!("since of the job {name} is no time of RFC 3339"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(usize, usize), &str>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        match (Rules::read(file.path()), expected) {
            (Ok(rules), Ok(expected)) => assert_eq!((rules.retention.len(), rules.jobs.len()), expected),
            (Err(error), Err(part)) => {
                let text = crate::loader::with_sources(&error);
                assert!(text.contains(part), "{text}");
            }
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn rules_are_read_and_wrong_ones_are_named() {
        check("", Ok((0, 0)));
        check(
            "[[retention]]\nkind = \"log\"\nage = \"30 days\"\n[[retention]]\nkind = \"trace_span\"\nage = \"7days\"\nkeep_traces = 0.1\n\
             [[job]]\nname = \"daily\"\nevery = \"1day\"\nquery = \"SELECT '{from}', '{to}'\"\nfile = \"/x/{from}.csv\"\n",
            Ok((2, 1)),
        );
        check("[[retention]]\nage = \"1s\"\n", Err("at least 1h"));
        check("[[retention]]\nage = \"1day\"\nkeep_traces = 2.0\n", Err("keep_traces"));
        check("[[retention]]\nages = \"1day\"\n", Err("ages"));
        let job = |query: &str, file: &str| {
            format!("[[job]]\nname = \"x\"\nevery = \"1h\"\nquery = \"{query}\"\nfile = \"{file}\"\n")
        };
        check(&job("SELECT 1", "/x.csv"), Err("{from}"));
        check(
            &format!("{}table = \"x\"\n", job("SELECT 1", "/x{from}.csv")),
            Err("either a file or a table"),
        );
        check(&job("DROP TABLE events", "/x{from}.csv"), Err("read-only"));
    }
}
