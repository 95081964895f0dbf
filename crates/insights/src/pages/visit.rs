//! One visit: the user, the address, and what the page is made of.

use std::sync::Arc;

use maud::Markup;
use tickstream_warehouse_core::query::{Engine, Role};

use super::names::Names;
use crate::answers::Answers;
use crate::ask::{AskError, Asker};
use crate::filters::{Filters, Parameters};

/// Style of all pages.
pub const STYLE: &str = include_str!("pages.css");

/// One request of a user.
pub struct Visit<'a> {
    /// Asks in the name of the user.
    pub asker: Asker<'a>,
    /// Answers of items.
    pub answers: &'a Arc<Answers>,
    /// Names of events for fields.
    pub names: &'a Names,
    /// Rights of the user.
    pub role: &'a Role,
    /// The warehouse.
    pub engine: &'a Engine,
    /// Parameters of the address.
    pub parameters: Parameters,
    /// Nanoseconds since 1970.
    pub now: i64,
}

impl Visit<'_> {
    /// Fails if the period can't be read: a file has no place to say that it was left out.
    pub fn check_period(&self) -> Result<(), AskError> {
        let faults = Filters::faults(&self.parameters);
        if faults.is_empty() { Ok(()) } else { Err(AskError::Period(faults.join(" "))) }
    }
}

/// Content of an answer.
pub enum Content {
    /// A page.
    Html {
        /// Title.
        title: String,
        /// Name in the menu.
        current: &'static str,
        /// Content below the menu.
        body: Markup,
    },
    /// A file for spreadsheets.
    Csv(String),
    /// A file for programs.
    Json(serde_json::Value),
    /// Another address.
    Redirect(String),
}

/// A page that can't be made.
pub enum Problem {
    /// There is no such page.
    Missing,
    /// The page isn't for this user.
    Forbidden,
    /// A question has no answer.
    Failed(Arc<AskError>),
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        Self::Failed(Arc::new(error))
    }
}

impl From<Arc<AskError>> for Problem {
    fn from(error: Arc<AskError>) -> Self {
        Self::Failed(error)
    }
}
