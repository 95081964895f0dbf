//! Kinds of values: one description for the parser, the help and the errors.

use super::parse;
use super::range::{DurationRange, IntegerRange, SizeRange};
use super::value_error::ValueError;
use std::fmt;
use std::time::Duration;

/// A type of values, with the range that is accepted, and how a value becomes a `T`. Displayed, it says what is accepted.
pub enum Kind<T: 'static> {
    /// A whole number.
    Integer(IntegerRange, fn(u32) -> T),
    /// A time span.
    Duration(DurationRange, fn(Duration) -> T),
    /// A number of bytes, with or without a unit.
    Size(SizeRange, fn(u32) -> T),
    /// One of these words.
    Choice(&'static [(&'static str, T)], fn(&T) -> T),
    /// Text that a function reads.
    Text {
        /// For people, such as "a path".
        accepts: fn() -> String,
        /// A number in the file is a value, too.
        takes_number: bool,
        /// Its reader.
        read: fn(&str) -> Result<T, ValueError>,
    },
}

impl<T> Kind<T> {
    /// Reads a text that isn't empty.
    pub(super) fn read(&self, text: &str) -> Result<T, ValueError> {
        match self {
            Self::Integer(range, read) => parse::integer(text, *range).map(read),
            Self::Duration(range, read) => parse::duration(text, *range).map(read),
            Self::Size(range, read) => parse::size(text, *range).map(read),
            Self::Choice(words, copy) => {
                let found = words.iter().find(|(word, _)| *word == text);
                found.map(|(_, value)| copy(value)).ok_or_else(|| ValueError::Choice(self.to_string()))
            }
            Self::Text { read, .. } => read(text),
        }
    }

    pub(super) fn takes_number(&self) -> bool {
        // Also a duration, so that its parser can ask for the unit, as it does everywhere else.
        matches!(
            self,
            Self::Integer(..) | Self::Size(..) | Self::Duration(..) | Self::Text { takes_number: true, .. }
        )
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Integer(..) | Self::Duration(DurationRange { bare: Some(_), .. }, _))
    }

    pub(super) const fn with_bare(self, unit: Duration) -> Self {
        match self {
            Self::Duration(range, read) => Self::Duration(range.with_bare(unit), read),
            other => other,
        }
    }
}

impl<T> Clone for Kind<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Kind<T> {}

impl<T> fmt::Display for Kind<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(range, _) => range.fmt(f),
            Self::Duration(range, _) => range.fmt(f),
            Self::Size(range, _) => range.fmt(f),
            Self::Choice(words, _) => {
                f.write_str(&words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or "))
            }
            Self::Text { accepts, .. } => f.write_str(&accepts()),
        }
    }
}
