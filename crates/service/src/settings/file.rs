//! The configuration file: flat TOML, one key per setting.

use super::error::ConfigError;
use super::kept::read_bounded;
use super::origin::Origin;
use super::table::{AnySetting, Table};
use super::value::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use toml::de::{DeTable, DeValue};

/// Longest file that is read, bytes: far above every setting with a page of comments.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A configuration file that was read; its keys are known, and its values have the right TOML type. Has no
/// `Debug`, since it may hold a secret.
pub struct File {
    path: PathBuf,
    values: BTreeMap<&'static str, Entry>,
}

struct Entry {
    text: String,
    line: usize,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if it can't be read, and those of [`File::parse`].
    pub fn read(table: &Table, path: &Path) -> Result<Self, ConfigError> {
        Self::parse(table, path, &text(path)?)
    }

    /// Reads TOML text; `path` is for errors and origins.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Syntax`], [`ConfigError::UnknownKey`] and [`ConfigError::WrongType`].
    pub fn parse(table: &Table, path: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::parse_beside(table, &[], path, text)
    }

    /// Reads TOML text beside tables with these names, which the program reads itself.
    ///
    /// # Errors
    ///
    /// As [`File::parse`].
    pub fn parse_beside(
        table: &Table,
        own_tables: &[&str],
        path: &Path,
        text: &str,
    ) -> Result<Self, ConfigError> {
        let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
        let parsed = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: line_at(error.span().map_or(0, |span| span.start)),
            // The message alone: the error as a whole quotes the line, which may hold the password.
            message: error.message().trim_end().replace('\n', "; "),
        })?;
        // In the order of the file, so that the first mistake is told first.
        let mut entries: Vec<_> = parsed.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);

        let mut values = BTreeMap::new();
        for (key, value) in entries {
            let line = line_at(key.span().start);
            if own_tables.contains(&&key.get_ref()[..]) {
                continue;
            }
            let Some(setting) = table.find(key.get_ref()) else {
                let place = format!("file {}, line {line}", path.display());
                return Err(ConfigError::unknown_key(table, key.get_ref(), place));
            };
            let text = into_text(setting, value.get_ref()).ok_or_else(|| ConfigError::WrongType {
                path: path.to_owned(),
                line,
                key: setting.about().key,
                found: type_name(value.get_ref()),
                accepted: setting.accepts(),
            })?;
            values.insert(setting.about().key, Entry { text, line });
        }
        Ok(Self { path: path.to_owned(), values })
    }

    /// The setting's value, if the file has one.
    pub(crate) fn get(&self, setting: &'static dyn AnySetting) -> Option<Value> {
        let Entry { text, line } = self.values.get(setting.about().key)?;
        let origin = Origin::File { path: self.path.clone(), line: *line };
        Some(Value { setting, text: text.clone(), origin })
    }
}

/// The text of a configuration file.
///
/// # Errors
/// [`ConfigError::File`].
pub fn text(path: &Path) -> Result<String, ConfigError> {
    read_bounded(path, FILE_BYTES_MAX).map_err(|reason| ConfigError::File { path: path.to_owned(), reason })
}

/// A string fits every setting; a number some.
fn into_text(setting: &dyn AnySetting, value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if setting.takes_number() => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        _ => None,
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::TABLE;

    fn check(toml: &str, key: &str, expected: Result<(&str, usize), &str>) {
        let result = File::parse(&TABLE, Path::new("dir/t.toml"), toml);
        match (result, expected) {
            (Ok(file), Ok((text, line))) => {
                let entry = &file.values[key];
                assert_eq!((entry.text.as_str(), entry.line), (text, line));
            }
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (Ok(_), Err(expected)) => panic!("no error where {expected:?} is due"),
            (Err(error), Ok(_)) => panic!("{error}"),
        }
    }

    #[test]
    fn strings_and_numbers_are_read() {
        check("# x\n\nlisten = \"[::]:1\"", "listen", Ok(("[::]:1", 3)));
        check("shards = 4", "shards", Ok(("4", 1)));
        check("shards = 0x1_0", "shards", Ok(("16", 1)));
        check("shards = \"4\"", "shards", Ok(("4", 1)));
        check("max_msg_size = 65_536", "max_msg_size", Ok(("65536", 1)));
        check("heartbeat_interval = 15", "heartbeat_interval", Ok(("15", 1)));
        check("cpus = 3", "cpus", Ok(("3", 1)));
    }

    #[test]
    fn wrong_types_are_named() {
        check(
            "listen = \"x\"\nticks_per_second = true",
            "",
            Err("dir/t.toml:2: ticks_per_second is a boolean; accepted: a whole number from 1 to 10000000"),
        );
        check("shards = 1.5", "", Err("shards is a number with a fraction"));
        check("cpus = [0, 1]", "", Err("cpus is an array; accepted: CPU numbers and ranges, such as 0-3,8"));
        check("stream_pass = 12345", "", Err("stream_pass is a number; accepted: text of 1 to 255 bytes"));
        check("listen = 1979-05-27", "", Err("listen is a date"));
        check("[listen]\nport = 1", "", Err("dir/t.toml:1: listen is a table"));
    }

    #[test]
    fn unknown_keys_are_named_with_what_may_be_meant() {
        let expected = "unknown key \"heartbeat\" (from file dir/t.toml, line 2); did you mean \"heartbeat_timeout\"? `tickstream";
        check("shards = 1\nheartbeat = \"1s\"\nlisten = 1", "", Err(expected));
        check("[server]\nlisten = \"x\"", "", Err("unknown key \"server\""));
    }

    #[test]
    fn tables_that_the_program_reads_itself_are_left_alone() {
        let toml = "shards = 4\n[[source.file]]\npaths = [\"x\"]\n[source.host]\ninterval = 1";
        let file = File::parse_beside(&TABLE, &["source"], Path::new("t.toml"), toml).unwrap();
        assert_eq!(file.values["shards"].text, "4");
        assert!(File::parse(&TABLE, Path::new("t.toml"), toml).is_err());
    }

    #[test]
    fn syntax_errors_have_a_line_and_no_secret() {
        check("shards = 1\nlisten = \n", "", Err("dir/t.toml:2: "));
        check("shards = 1\nshards = 2", "", Err("dir/t.toml:2: duplicate key"));
        for broken in ["stream_pass = hunter2", "stream_pass = \"hunter2", "stream_pass = \"hunter2\" x"] {
            let error = File::parse(&TABLE, Path::new("t.toml"), broken).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = File::read(&TABLE, &dir.path().join("absent.toml")).err().unwrap().to_string();
        assert!(
            error.contains("can't read the configuration file") && error.contains("absent.toml"),
            "{error}"
        );
    }
}
