//! The tracking plan: events and fields that the items need, compared with the tables.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ask::{AskError, Asker};
use crate::filters::{Filters, NONE, literal};
use crate::table::Value;
use crate::teams::TEAMS;

/// The plan of this program: `tracking-plan.toml`.
pub const STANDARD: &str = include_str!("tracking-plan.toml");

/// A plan.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    rule: Vec<Rule>,
}

/// Fields that events must have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name of the events; none: all of the type.
    #[serde(default)]
    pub name: String,
    /// Type of the events.
    #[serde(rename = "type")]
    pub kind: String,
    /// Paths in the stored event's JSON.
    pub needs: Vec<String>,
    /// Items that need it.
    pub why: String,
}

/// A rule, the number of its events, and for each needed path the number of events without it.
pub type CheckedRule = (String, u64, Vec<(String, u64)>);

/// A plan beside the tables.
#[derive(Debug, Default)]
pub struct Check {
    /// Rules.
    pub rules: Vec<CheckedRule>,
    /// Items without data: address and missing types of events.
    pub items: Vec<(String, Vec<&'static str>)>,
}

impl Check {
    /// True if no event breaks the plan.
    pub fn is_kept(&self) -> bool {
        self.rules.iter().all(|(_, _, missing)| missing.is_empty())
    }
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// If it is no plan.
    pub fn read(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Compares the plan with the events of a period.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn check(&self, asker: Asker<'_>, filters: &Filters) -> Result<Check, AskError> {
        let sql = filters
            .sql("SELECT event_type, count(*) AS n FROM events WHERE {period} GROUP BY event_type", NONE);
        let kinds = asker.page(&sql).await?;
        let kinds: BTreeMap<String, f64> =
            kinds.rows.iter().map(|row| (row[0].text().to_owned(), row[1].number().unwrap_or(0.0))).collect();
        let mut check = Check::default();
        for rule in &self.rule {
            check.rules.push(rule.check(asker, filters).await?);
        }
        for team in &TEAMS {
            for item in &team.items {
                let missing: Vec<_> =
                    item.kinds.iter().copied().filter(|kind| !kinds.contains_key(*kind)).collect();
                if !missing.is_empty() {
                    check.items.push((format!("{}/{}", team.name, item.name), missing));
                }
            }
        }
        Ok(check)
    }
}

impl Rule {
    async fn check(&self, asker: Asker<'_>, filters: &Filters) -> Result<CheckedRule, AskError> {
        let counts: Vec<_> = self
            .needs
            .iter()
            .enumerate()
            .map(|(place, path)| format!(", count(json_text(raw_data, {})) AS has_{place}", literal(path)))
            .collect();
        let named = if self.name.is_empty() {
            String::new()
        } else {
            format!(" AND event_name = {}", literal(&self.name))
        };
        let period = filters.sql("{period}", NONE);
        let sql = format!(
            "SELECT count(*) AS events{} FROM events WHERE {period} AND event_type = {}{named}",
            counts.concat(),
            literal(&self.kind)
        );
        let found = asker.page(&sql).await?;
        let count = |place: usize| {
            let cell = found.rows.first().and_then(|row| row.get(place));
            cell.and_then(Value::number).unwrap_or(0.0) as u64
        };
        let events = count(0);
        let without = self
            .needs
            .iter()
            .enumerate()
            .map(|(place, path)| (path.clone(), events - count(place + 1).min(events)));
        let missing = without.filter(|(_, count)| *count > 0).collect();
        let title =
            if self.name.is_empty() { self.kind.clone() } else { format!("{} ({})", self.name, self.kind) };
        Ok((title, events, missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_one_and_has_each_type_that_an_item_needs() {
        let plan = Plan::read(STANDARD).unwrap();
        for item in TEAMS.iter().flat_map(|team| &team.items) {
            for kind in item.kinds {
                assert!(plan.rule.iter().any(|rule| rule.kind == *kind), "{kind}, which {} needs", item.name);
            }
        }
        assert!(plan.rule.iter().all(|rule| !rule.why.is_empty()));
    }
}
