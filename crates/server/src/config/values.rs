//! Where each value comes from: flag over environment over file over default. Values are still text here.

use super::{
    ConfigError, File,
    error::WrongValue,
    parse::ValueError,
    settings::{self, Setting},
};
use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf};

/// Looks up an environment variable. A parameter, so that tests need not change their process's environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What flags were given, by setting key.
pub type Flags = BTreeMap<&'static str, OsString>;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag, named without its dashes.
    Flag(String),
    /// An environment variable.
    Environment(&'static str),
    /// The configuration file.
    File {
        /// As it was given.
        path: PathBuf,
        /// Line of the key, from 1.
        line: usize,
    },
    /// [`Config::from_values`](super::Config::from_values).
    Program,
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { path, line } => write!(f, "file {}, line {line}", path.display()),
            Self::Program => f.write_str("program"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One setting's value, as text. Has no `Debug`, since it may be a secret.
#[derive(Clone)]
pub(crate) struct Value {
    pub(crate) setting: &'static Setting,
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

impl Value {
    fn default(setting: &'static Setting) -> Self {
        let text = setting.default.unwrap_or_default().to_owned();
        Self { setting, text, origin: Origin::Default }
    }

    /// The value as it may be shown.
    pub(crate) fn shown(&self) -> &str {
        if self.setting.secret { "***" } else { &self.text }
    }

    /// Whether anybody gave a value; an empty one counts where the setting has no meaning for it.
    pub(crate) fn is_set(&self) -> bool {
        !self.text.is_empty() || self.origin != Origin::Default && self.setting.empty.is_none()
    }

    /// Whether anybody said anything.
    pub(crate) fn is_given(&self) -> bool {
        self.origin != Origin::Default
    }

    pub(crate) fn invalid(&self, reason: impl Into<ValueError>) -> ConfigError {
        let (key, value, origin) = (self.setting.key, self.shown().to_owned(), self.origin.clone());
        ConfigError::Value(Box::new(WrongValue { key, value, origin, reason: reason.into() }))
    }
}

/// The effective value of every setting, not yet parsed.
pub struct Values(Vec<Value>);

impl Values {
    /// Merges the sources, the strongest first.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`] for a value that isn't text.
    pub fn merge(flags: &Flags, env: Environment<'_>, file: Option<&File>) -> Result<Self, ConfigError> {
        Self::merge_of(settings::settings(), flags, env, file)
    }

    /// The same of the settings of a client, which has no file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`] for a value that isn't text.
    pub fn of_client(flags: &Flags, env: Environment<'_>) -> Result<Self, ConfigError> {
        Self::merge_of(settings::client_settings(), flags, env, None)
    }

    fn merge_of(
        settings: impl Iterator<Item = &'static Setting>,
        flags: &Flags,
        env: Environment<'_>,
        file: Option<&File>,
    ) -> Result<Self, ConfigError> {
        let effective = |setting: &'static Setting| {
            let flag = || Some((flags.get(setting.key)?.clone(), Origin::Flag(setting.flag())));
            let variable = || Some((env(setting.env)?, Origin::Environment(setting.env)));
            if let Some((raw, origin)) = flag().or_else(variable) {
                return into_text(setting, raw, origin);
            }
            let in_file = file.and_then(|file| file.get(setting));
            Ok(in_file.unwrap_or_else(|| Value::default(setting)))
        };
        settings.map(effective).collect::<Result<_, _>>().map(Self)
    }

    /// The defaults, but for these.
    ///
    /// # Errors
    ///
    /// [`ConfigError::UnknownKey`].
    pub fn of_program<'a, V: Into<String>>(
        values: impl IntoIterator<Item = (&'a str, V)>,
    ) -> Result<Self, ConfigError> {
        let mut effective: Vec<Value> = settings::settings().map(Value::default).collect();
        for (key, text) in values {
            let Some(value) = effective.iter_mut().find(|value| value.setting.key == key) else {
                return Err(ConfigError::UnknownKey { key: key.to_owned(), place: "program".to_owned() });
            };
            (value.text, value.origin) = (text.into(), Origin::Program);
        }
        Ok(Self(effective))
    }

    /// These values, but those of `other` for what changes while the server runs.
    pub fn with_live_of(&self, other: &Self) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self(pairs.map(|(old, new)| if new.setting.live { new } else { old }.clone()).collect())
    }

    /// The settings that have another value in `other`: keys.
    pub fn changed(&self, other: &Self) -> Vec<&'static Setting> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(old, new)| old.text != new.text).map(|(old, _)| old.setting).collect()
    }

    /// The value of a key, which must be one of the table's.
    pub(crate) fn get(&self, key: &str) -> &Value {
        let value = self.0.iter().find(|value| value.setting.key == key);
        value.unwrap_or_else(|| unreachable!("{key} is not in the table of settings"))
    }
}

fn into_text(setting: &'static Setting, raw: OsString, origin: Origin) -> Result<Value, ConfigError> {
    match raw.into_string() {
        Ok(text) => Ok(Value { setting, text, origin }),
        Err(raw) => {
            let text = raw.to_string_lossy().into_owned();
            Err(Value { setting, text, origin }.invalid(ValueError::NotUtf8))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn check(flag: Option<&str>, variable: Option<&str>, toml: &str, expected: (&str, &str)) {
        let flags: Flags = flag.map(|flag| ("shards", flag.into())).into_iter().collect();
        let env = |name: &str| variable.filter(|_| name == "STREAM_SHARDS").map(OsString::from);
        let file = File::parse(Path::new("t.toml"), toml).unwrap();
        let values = Values::merge(&flags, &env, Some(&file)).unwrap();
        let value = values.get("shards");
        assert_eq!((value.text.as_str(), value.origin.to_string().as_str()), expected);
    }

    #[test]
    fn flag_over_environment_over_file_over_default() {
        check(Some("4"), Some("3"), "shards = 2", ("4", "flag --shards"));
        check(None, Some("3"), "shards = 2", ("3", "environment STREAM_SHARDS"));
        check(None, None, "\nshards = 2", ("2", "file t.toml, line 2"));
        check(None, None, "", ("", "default"));
        check(None, Some(""), "shards = 2", ("", "environment STREAM_SHARDS"));
    }

    #[test]
    fn a_value_must_be_text() {
        use std::os::unix::ffi::OsStringExt;
        let broken = || OsString::from_vec(vec![b'a', 0xff]);
        for (variable, shown) in [("STREAM_LISTEN", "a\u{fffd}"), ("STREAM_PASS", "***")] {
            let env = |name: &str| (name == variable).then(broken);
            let error = Values::merge(&Flags::new(), &env, None).err().unwrap().to_string();
            assert!(error.contains(shown) && error.contains("is not valid UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_program_s_key_must_be_known() {
        let error = Values::of_program([("lisen", "x")]).err().unwrap().to_string();
        assert!(error.contains("unknown key \"lisen\" (from program)"), "{error}");
    }
}
