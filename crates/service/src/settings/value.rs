//! The value of one setting, as text, with its origin.

use super::error::{ConfigError, WrongValue};
use super::origin::Origin;
use super::table::AnySetting;
use super::value_error::ValueError;
use std::ffi::OsString;

/// One setting's value, as text. Has no `Debug`, since it may be a secret.
#[derive(Clone)]
pub struct Value {
    /// Its setting.
    pub setting: &'static dyn AnySetting,
    /// The text.
    pub text: String,
    /// Its origin.
    pub origin: Origin,
}

impl Value {
    pub(super) fn default(setting: &'static dyn AnySetting) -> Self {
        let text = setting.about().default.unwrap_or_default().to_owned();
        Self { setting, text, origin: Origin::Default }
    }

    /// A value as the system gave it.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if it isn't text.
    pub(super) fn of_system(
        setting: &'static dyn AnySetting,
        raw: OsString,
        origin: Origin,
    ) -> Result<Self, ConfigError> {
        match raw.into_string() {
            Ok(text) => Ok(Self { setting, text, origin }),
            Err(raw) => {
                let text = raw.to_string_lossy().into_owned();
                Err(Self { setting, text, origin }.invalid(ValueError::NotUtf8))
            }
        }
    }

    /// The value as it may be shown.
    pub fn shown(&self) -> &str {
        if self.setting.about().secret { "***" } else { &self.text }
    }

    /// Tells a value from none; an empty one counts where the setting has no meaning for it.
    pub fn is_set(&self) -> bool {
        !self.text.is_empty() || self.origin != Origin::Default && self.setting.about().empty.is_none()
    }

    /// Any source but the default has it.
    pub fn is_given(&self) -> bool {
        self.origin != Origin::Default
    }

    /// Its key.
    pub fn key(&self) -> &'static str {
        self.setting.about().key
    }

    /// The error that this value isn't accepted.
    pub fn invalid(&self, reason: impl Into<ValueError>) -> ConfigError {
        let (key, value, origin) = (self.key(), self.shown().to_owned(), self.origin.clone());
        ConfigError::Value(Box::new(WrongValue { key, value, origin, reason: reason.into() }))
    }
}
