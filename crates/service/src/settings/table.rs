//! The table of settings: one entry for each, typed, from which everything else is made.

use super::accepted::Kind;
use super::value_error::ValueError;
use std::fmt;

/// Begins the name of every variable, but for those that an entry names by itself.
pub const VARIABLE_PREFIX: &str = "TICKSTREAM_";

/// All settings of a program.
#[derive(Debug)]
pub struct Table {
    /// The command that lists them with `--help`.
    pub command: &'static str,
    /// Sections, in order.
    pub groups: &'static [&'static [Section]],
    /// Names that variables had before. One that is still set is an error that names the new one: otherwise a limit or a
    /// certificate would be gone without a word.
    pub former_variables: &'static [&'static str],
}

impl Table {
    /// All sections, in order.
    pub fn sections(&self) -> impl Iterator<Item = &'static Section> + use<> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// All settings, in order.
    pub fn settings(&self) -> impl Iterator<Item = &'static dyn AnySetting> + use<> {
        self.sections().flat_map(|section| section.settings.iter().copied())
    }

    /// The setting with this key.
    pub fn find(&self, key: &str) -> Option<&'static dyn AnySetting> {
        self.settings().find(|setting| setting.about().key == key)
    }
}

/// Settings that belong together, under one heading.
#[derive(Debug)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// Its settings.
    pub settings: &'static [&'static dyn AnySetting],
}

/// The untyped part of a setting.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The key in the TOML file; the flag is the same in kebab-case.
    pub key: &'static str,
    /// One or two sentences.
    pub help: &'static str,
    /// Stands for the value in the help.
    pub value_name: &'static str,
    /// The default, as one would write it; `None` where there is none.
    pub default: Option<&'static str>,
    /// The meaning of an empty value; `None` where a value is needed.
    pub empty: Option<&'static str>,
    /// The variable, if it isn't named after the key.
    pub variable: Option<&'static str>,
    /// Must never be shown.
    pub secret: bool,
    /// Takes effect on a reload.
    pub live: bool,
}

impl About {
    /// The flag, without its dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable: [`VARIABLE_PREFIX`] and the key in upper case, unless the entry names another.
    pub fn variable(&self) -> String {
        match self.variable {
            Some(variable) => variable.to_owned(),
            None => format!("{VARIABLE_PREFIX}{}", self.key.to_ascii_uppercase()),
        }
    }

    /// The default for people: the value, or the meaning of having none.
    pub fn default_text(&self) -> &'static str {
        match self.default {
            Some("") | None => self.empty.unwrap_or("none"),
            Some(default) => default,
        }
    }
}

/// A setting of any type.
pub trait AnySetting: Sync + fmt::Debug {
    /// Key, help and the rest.
    fn about(&self) -> &About;
    /// Accepted values, for people.
    fn accepts(&self) -> String;
    /// A number in the file is a value, too.
    fn takes_number(&self) -> bool;
    /// A number in the file is the usual way to write it.
    fn is_number(&self) -> bool;
    /// Reads a value and forgets it.
    ///
    /// # Errors
    /// The reason why it isn't accepted.
    fn check(&self, text: &str) -> Result<(), ValueError>;
}

/// A setting that is read as a `T`. The constructors in [`kind`](super::kind) begin one; the macro
/// [`settings!`](crate::settings!) gives it its key and its help.
pub struct Setting<T: 'static> {
    about: About,
    kind: Kind<T>,
    /// The value of an empty text.
    empty: Option<fn() -> T>,
}

impl<T> Clone for Setting<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Setting<T> {}

impl<T> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.about.fmt(f)
    }
}

impl<T> Setting<T> {
    /// A setting of this kind, without a key yet.
    pub const fn new(kind: Kind<T>, value_name: &'static str) -> Self {
        let about = About {
            key: "",
            help: "",
            value_name,
            default: None,
            empty: None,
            variable: None,
            secret: false,
            live: false,
        };
        Self { about, kind, empty: None }
    }

    /// Gives it its key and its help. Spaces around the help, as doc comments have them, are left out when it is shown.
    pub const fn named(self, key: &'static str, help: &'static str) -> Self {
        Self { about: About { key, help: help.trim_ascii(), ..self.about }, ..self }
    }

    /// The value where nobody sets one.
    pub const fn default(self, default: &'static str) -> Self {
        Self { about: About { default: Some(default), ..self.about }, ..self }
    }

    /// Another variable than the one that is named after the key.
    pub const fn variable(self, variable: &'static str) -> Self {
        Self { about: About { variable: Some(variable), ..self.about }, ..self }
    }

    /// Another word for the value in the help.
    pub const fn value_name(self, value_name: &'static str) -> Self {
        Self { about: About { value_name, ..self.about }, ..self }
    }

    /// Never shown.
    pub const fn secret(self) -> Self {
        Self { about: About { secret: true, ..self.about }, ..self }
    }

    /// Takes effect on a reload.
    pub const fn live(self) -> Self {
        Self { about: About { live: true, ..self.about }, ..self }
    }

    /// Accepts an empty text, the default, which means `meaning`.
    pub const fn empty_is(self, meaning: &'static str, value: fn() -> T) -> Self {
        let about = About { default: Some(""), empty: Some(meaning), ..self.about };
        Self { about, empty: Some(value), ..self }
    }

    pub(super) const fn map_duration(self, bare: std::time::Duration) -> Self {
        Self { kind: self.kind.with_bare(bare), ..self }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// The reason why it isn't accepted.
    pub fn read(&self, text: &str) -> Result<T, ValueError> {
        match self.empty {
            Some(empty) if text.is_empty() => Ok(empty()),
            _ if text.is_empty() => Err(ValueError::Empty(self.kind.to_string())),
            _ => self.kind.read(text),
        }
    }
}

impl<T> Setting<Option<T>> {
    /// Accepts an empty text, the default: there is no value, which means `meaning`.
    pub const fn or_none(self, meaning: &'static str) -> Self {
        self.empty_is(meaning, || None)
    }
}

impl<T> Setting<Vec<T>> {
    /// Accepts an empty text, the default: an empty list, which means `meaning`.
    pub const fn or_none_of_them(self, meaning: &'static str) -> Self {
        self.empty_is(meaning, Vec::new)
    }
}

impl<T: Sync> AnySetting for Setting<T> {
    fn about(&self) -> &About {
        &self.about
    }

    fn accepts(&self) -> String {
        self.kind.to_string()
    }

    fn takes_number(&self) -> bool {
        self.kind.takes_number()
    }

    fn is_number(&self) -> bool {
        self.kind.is_number()
    }

    fn check(&self, text: &str) -> Result<(), ValueError> {
        self.read(text).map(drop)
    }
}
