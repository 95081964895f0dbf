//! One privacy rule: a field, and its treatment.

use std::str::FromStr;

/// The treatment of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivacyRule {
    /// The field, by its way from the event in the names of the schema: `user_id`, `trace_span.attributes.http_url`,
    /// `properties.email` for one key of a map, also in maps and lists inside, `properties` or `properties.*` for all its
    /// values. Maps of texts and their maps of Values are one.
    pub path: String,
    /// Its treatment.
    pub action: PrivacyAction,
}

/// The treatment that a privacy rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivacyAction {
    /// The field is left out. For every kind of field; of a map by its name alone: all its entries.
    Drop,
    /// The text, or the value of a map, becomes `***`.
    Mask,
    /// The value becomes the first half of its HMAC-SHA-256: a text 32 hexadecimal digits, an id as many bytes as it
    /// has, other bytes 16, a value in a map that is no text 32 digits. Equal values stay equal.
    Hash,
    /// An IPv4 address becomes its /24, an IPv6 address its /48; what is neither becomes `***`.
    Truncate,
}

impl PrivacyAction {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Drop, Self::Mask, Self::Hash, Self::Truncate];

    /// Its name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Mask => "mask",
            Self::Hash => "hash",
            Self::Truncate => "truncate",
        }
    }
}

/// `path=action`
impl FromStr for PrivacyRule {
    type Err = PrivacyError;

    fn from_str(text: &str) -> Result<Self, PrivacyError> {
        let parsed = text.rsplit_once('=').and_then(|(path, name)| {
            let action = PrivacyAction::ALL.into_iter().find(|action| action.as_str() == name)?;
            Some(Self { path: path.to_owned(), action })
        });
        parsed.ok_or_else(|| PrivacyError::Syntax { rule: text.to_owned() })
    }
}

/// A privacy rule that can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivacyError {
    /// A rule that isn't `path=action`.
    #[error(
        "the privacy rule {rule:?} must be a field and one of drop, mask, hash and truncate: user_id=hash"
    )]
    Syntax {
        /// As it was written.
        rule: String,
    },
    /// The schema has no such field.
    #[error("the privacy rule for {path:?} names no field of an event; docs/events.md lists them")]
    Path {
        /// As it was named.
        path: String,
    },
    /// The field can't be treated like that.
    #[error(
        "{path:?} can't be treated with {}: texts take all actions, ids and bytes drop and hash, other fields drop, and \
         event_id, timestamp and event_type none",
        .action.as_str()
    )]
    Action {
        /// The field.
        path: String,
        /// The treatment.
        action: PrivacyAction,
    },
}
