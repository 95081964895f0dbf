//! `[[source.file]]` of the configuration file.

use std::time::Duration;

use regex::bytes::Regex;
use serde::Deserialize;

use crate::{durations::duration, sources::lines::Format};

/// Files to follow, as the configuration has them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    paths: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    start_at: Option<String>,
    format: Option<String>,
    service: Option<String>,
    multiline_start: Option<String>,
    multiline_timeout: Option<String>,
    line_bytes_max: Option<usize>,
}

/// Files to follow.
#[derive(Clone, Debug)]
pub struct Files {
    /// Patterns of paths.
    pub paths: Vec<String>,
    /// Patterns of paths that aren't followed.
    pub exclude: Vec<String>,
    /// A file that is there at the first start is read from its beginning; else from its end.
    pub from_beginning: bool,
    /// The lines' format.
    pub format: Format,
    /// The service of all lines; `None`: the file's name says it.
    pub service: Option<String>,
    /// Rules by which lines make records.
    pub records: RecordConfig,
}

/// Rules by which lines make records.
#[derive(Clone, Debug)]
pub struct RecordConfig {
    /// A line that matches begins a record, others go on with it; `None`: each line is one.
    pub start: Option<Regex>,
    /// Time after which a record has ended for which no further line comes.
    pub timeout: Duration,
    /// Most bytes; a longer one is several.
    pub bytes_max: usize,
}

/// An event takes 128 KiB, with all that is added.
const RECORD_BYTES_MAX: usize = 96 * 1024;

impl FileConfig {
    /// The files.
    ///
    /// # Errors
    /// The fault, for people.
    pub fn files(&self) -> Result<Files, String> {
        self.read().map_err(|problem| format!("[[source.file]] {}: {problem}", self.paths.join(", ")))
    }

    fn read(&self) -> Result<Files, String> {
        if self.paths.is_empty() {
            return Err("paths is empty".to_owned());
        }
        let from_beginning = match self.start_at.as_deref().unwrap_or("beginning") {
            "beginning" => true,
            "end" => false,
            other => return Err(format!("start_at is \"{other}\"; \"beginning\" and \"end\" are known")),
        };
        let start = self.multiline_start.as_deref().map(Regex::new).transpose();
        Ok(Files {
            paths: self.paths.clone(),
            exclude: self.exclude.clone(),
            from_beginning,
            format: Format::named(self.format.as_deref().unwrap_or("text"))?,
            service: self.service.clone(),
            records: RecordConfig {
                start: start.map_err(|error| format!("multiline_start: {error}"))?,
                timeout: duration(
                    "multiline_timeout",
                    self.multiline_timeout.as_deref(),
                    Duration::from_secs(2),
                )?,
                bytes_max: self.line_bytes_max.unwrap_or(RECORD_BYTES_MAX).clamp(16, RECORD_BYTES_MAX),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let files = |toml: &str| {
            toml::from_str::<FileConfig>(toml)
                .map_err(|error| error.to_string())
                .and_then(|config| config.files())
        };
        assert!(files("paths = [\"/a\"]").is_ok_and(|files| files.from_beginning));
        for (toml, expected) in [
            ("paths = []", "paths is empty"),
            ("paths = [\"/a\"]\nstart_at = \"middle\"", "start_at is \"middle\""),
            ("paths = [\"/a\"]\nformat = \"xml\"", "there is no format \"xml\""),
            ("paths = [\"/a\"]\nmultiline_start = \"(\"", "multiline_start"),
            ("paths = [\"/a\"]\nmultiline_timeout = \"0s\"", "multiline_timeout"),
            ("path = \"/a\"", "unknown field"),
        ] {
            assert!(files(toml).unwrap_err().contains(expected), "{toml}: {:?}", files(toml));
        }
    }
}
