//! Order of sources: flag over environment over file over default. Values are still text here.

use super::error::ConfigError;
use super::file::File;
use super::origin::Origin;
use super::table::{About, AnySetting, Setting, Table, VARIABLE_PREFIX};
use super::value::Value;
use std::{collections::BTreeMap, ffi::OsString};

/// Looks up an environment variable. A parameter, so that tests need not change their process's environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Flags that were given, by setting key.
pub type Flags = BTreeMap<&'static str, OsString>;

/// The effective value of every setting, not yet parsed.
pub struct Values {
    table: &'static Table,
    values: Vec<Value>,
}

impl Values {
    /// Merges the sources, the strongest first.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`] for a value that isn't text.
    /// [`ConfigError::FormerVariable`] for one that is set under a name that it doesn't have any more.
    pub fn merge(
        table: &'static Table,
        flags: &Flags,
        env: Environment<'_>,
        file: Option<&File>,
    ) -> Result<Self, ConfigError> {
        for former in table.former_variables {
            let new = current_variable(table, former);
            if env(former).is_some() && env(&new).is_none() {
                return Err(ConfigError::FormerVariable { former, new });
            }
        }
        let effective = |setting: &'static dyn AnySetting| {
            let about = setting.about();
            let flag = || Some((flags.get(about.key)?.clone(), Origin::Flag(about.flag())));
            let variable = || Some((env(&about.variable())?, Origin::Environment(about.variable())));
            if let Some((raw, origin)) = flag().or_else(variable) {
                return Value::of_system(setting, raw, origin);
            }
            let in_file = file.and_then(|file| file.get(setting));
            Ok(in_file.unwrap_or_else(|| Value::default(setting)))
        };
        let values = table.settings().map(effective).collect::<Result<_, _>>()?;
        Ok(Self { table, values })
    }

    /// The defaults, but for these.
    ///
    /// # Errors
    ///
    /// [`ConfigError::UnknownKey`].
    pub fn of_program<'a, V: Into<String>>(
        table: &'static Table,
        values: impl IntoIterator<Item = (&'a str, V)>,
    ) -> Result<Self, ConfigError> {
        let mut effective: Vec<Value> = table.settings().map(Value::default).collect();
        for (key, text) in values {
            let Some(value) = effective.iter_mut().find(|value| value.key() == key) else {
                return Err(ConfigError::unknown_key(table, key, "program".to_owned()));
            };
            (value.text, value.origin) = (text.into(), Origin::Program);
        }
        Ok(Self { table, values: effective })
    }

    /// These values, but those of `other` for the settings that are put to use while the server runs.
    pub fn with_used_of(&self, other: &Self, is_used: impl Fn(&About) -> bool) -> Self {
        let pairs = self.values.iter().zip(&other.values);
        let newer = pairs.map(|(old, new)| if is_used(new.setting.about()) { new } else { old }.clone());
        Self { table: self.table, values: newer.collect() }
    }

    /// The settings that have another value in `other`.
    pub fn changed(&self, other: &Self) -> Vec<&'static dyn AnySetting> {
        let pairs = self.values.iter().zip(&other.values);
        pairs.filter(|(old, new)| old.text != new.text).map(|(old, _)| old.setting).collect()
    }

    /// The table that they belong to.
    pub fn table(&self) -> &'static Table {
        self.table
    }

    /// The value of a setting, as text. Of one that isn't in the table: its default.
    pub fn get(&self, setting: &'static dyn AnySetting) -> Value {
        let value = self.values.iter().find(|value| value.key() == setting.about().key);
        value.cloned().unwrap_or_else(|| Value::default(setting))
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if it isn't accepted.
    pub fn read<T: Sync>(&self, setting: &'static Setting<T>) -> Result<T, ConfigError> {
        let value = self.get(setting);
        setting.read(&value.text).map_err(|reason| value.invalid(reason))
    }
}

/// The name that a former variable has now: that of the setting whose key it was made of, or else by the same rule.
fn current_variable(table: &Table, former: &str) -> String {
    let short = former.strip_prefix("STREAM_").unwrap_or(former);
    let keys = [former.to_ascii_lowercase(), short.to_ascii_lowercase()];
    let setting = keys.iter().find_map(|key| table.find(key));
    setting.map_or_else(|| format!("{VARIABLE_PREFIX}{short}"), |setting| setting.about().variable())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::{TABLE, setting};
    use std::path::Path;

    fn check(flag: Option<&str>, variable: Option<&str>, toml: &str, expected: (&str, &str)) {
        let flags: Flags = flag.map(|flag| ("shards", flag.into())).into_iter().collect();
        let env = |name: &str| variable.filter(|_| name == "TICKSTREAM_SHARDS").map(OsString::from);
        let file = File::parse(&TABLE, Path::new("t.toml"), toml).unwrap();
        let values = Values::merge(&TABLE, &flags, &env, Some(&file)).unwrap();
        let value = values.get(&setting::shards);
        assert_eq!((value.text.as_str(), value.origin.to_string().as_str()), expected);
    }

    #[test]
    fn flag_over_environment_over_file_over_default() {
        check(Some("4"), Some("3"), "shards = 2", ("4", "flag --shards"));
        check(None, Some("3"), "shards = 2", ("3", "environment TICKSTREAM_SHARDS"));
        check(None, None, "\nshards = 2", ("2", "file t.toml, line 2"));
        check(None, None, "", ("", "default"));
        check(None, Some(""), "shards = 2", ("", "environment TICKSTREAM_SHARDS"));
    }

    #[test]
    fn a_value_must_be_text() {
        use std::os::unix::ffi::OsStringExt;
        let broken = || OsString::from_vec(vec![b'a', 0xff]);
        for (variable, shown) in [("TICKSTREAM_LISTEN", "a\u{fffd}"), ("STREAM_PASS", "***")] {
            let env = |name: &str| (name == variable).then(broken);
            let error = Values::merge(&TABLE, &Flags::new(), &env, None).err().unwrap().to_string();
            assert!(error.contains(shown) && error.contains("is not valid UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_former_variable_is_an_error_that_names_the_new_one() {
        let check = |set: &[&str], expected: Option<&str>| {
            let env = |name: &str| set.contains(&name).then(|| OsString::from("1"));
            let error = Values::merge(&TABLE, &Flags::new(), &env, None).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected, "{set:?}");
        };
        let shards = "the environment variable STREAM_SHARDS is set, which is now called TICKSTREAM_SHARDS: rename it, or \
                      unset it";
        check(&["STREAM_SHARDS"], Some(shards));
        check(&["STREAM_SHARDS", "TICKSTREAM_SHARDS"], None);
        check(&["SHARDS"], None);
        let file = "the environment variable STREAM_PASS_FILE is set, which is now called \
                    TICKSTREAM_STREAM_PASS_FILE: rename it, or unset it";
        check(&["STREAM_PASS_FILE"], Some(file));
    }

    #[test]
    fn a_program_s_key_must_be_known() {
        let error = Values::of_program(&TABLE, [("lisen", "x")]).err().unwrap().to_string();
        assert!(error.contains("unknown key \"lisen\" (from program)"), "{error}");
    }
}
