//! Alerts by rules over the answers of items: thresholds, states such as the alarm of a burn rate, missing data, and counts that
//! are unusual for their weekday and hour. A rule is a question about a time, so it can be tried on the past.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::anomaly::seasonal::{Baseline, Limits};
use crate::ask::{AskError, Asker};
use crate::filters::{CLIENT, DAY, Filters, HOUR, Parameters, encoded, literal, time_text};
use crate::table::{Table, Value};
use crate::teams::{self, Item};

/// Weeks before an hour that say what is usual.
const WEEKS: i64 = 5;

/// Rules, and what is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Address of the pages, for links: `https://insights.example.org`.
    #[serde(default)]
    pub pages: String,
    /// Address that each firing is posted to as JSON.
    pub webhook: Option<String>,
    /// Address of an Alertmanager.
    pub alertmanager: Option<String>,
    alert: Vec<Rule>,
    #[serde(default)]
    silence: Vec<Silence>,
}

/// One rule: exactly one of `above`, `below`, `is`, `is_missing`, `is_unusual` and `unusual_event`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    /// Team and item: "operations/objectives".
    #[serde(default)]
    item: String,
    /// Column whose cells are compared.
    #[serde(default)]
    column: String,
    /// Period and filters, as the page's address has them.
    #[serde(default)]
    filters: String,
    above: Option<f64>,
    below: Option<f64>,
    is: Option<String>,
    #[serde(default)]
    is_missing: bool,
    /// The item's line had an unusual value in one of the last two hours, by the streaming detector.
    #[serde(default)]
    is_unusual: bool,
    /// Event whose count in the last full hour is compared with the same hour of the weeks before.
    unusual_event: Option<String>,
}

/// A time in which a rule tells nobody.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Silence {
    alert: String,
    /// RFC 3339.
    until: String,
}

/// Rules that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// No TOML of rules.
    #[error("the file of alerts can't be read")]
    Syntax(#[from] toml::de::Error),
    /// A rule that asks nothing, or two things.
    #[error("alert {0:?} needs exactly one of above, below, is, is_missing, is_unusual and unusual_event")]
    Condition(String),
    /// An item that doesn't exist.
    #[error(
        "alert {name:?} names the item {item:?}, which doesn't exist; items are named as in the address: team/item"
    )]
    Item {
        /// Of the rule.
        name: String,
        /// As it was named.
        item: String,
    },
    /// Filters that would be left out.
    #[error("alert {name:?} can't filter by {filters:?}: {fault}")]
    Filters {
        /// Of the rule.
        name: String,
        /// As they were given.
        filters: String,
        /// Reason, for people.
        fault: String,
    },
    /// The end of a silence is no time.
    #[error("the silence of {0:?} needs until = a time such as 2026-12-01T08:00:00Z")]
    Silence(String),
}

/// A rule that fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firing {
    /// Name of the rule.
    pub name: String,
    /// Row of the answer that it is about.
    pub subject: String,
    /// Finding, for people.
    pub summary: String,
    /// Address of the page.
    pub link: String,
    /// True if a rule of silence holds now.
    pub is_silent: bool,
}

impl Rules {
    /// Reads rules.
    ///
    /// # Errors
    /// [`RulesError`] names the rule.
    pub fn read(text: &str) -> Result<Self, RulesError> {
        let rules: Self = toml::from_str(text)?;
        for rule in &rules.alert {
            rule.check()?;
        }
        let wrong = rules.silence.iter().find(|silence| Filters::until(&silence.until).is_none());
        match wrong {
            Some(silence) => Err(RulesError::Silence(silence.alert.clone())),
            None => Ok(rules),
        }
    }

    /// Rules that fire at a time, nanoseconds since 1970.
    ///
    /// # Errors
    /// [`AskError`] of the first question without an answer.
    pub async fn firing(&self, asker: Asker<'_>, now: i64) -> Result<Vec<Firing>, AskError> {
        let mut firing = Vec::new();
        for rule in &self.alert {
            let is_silent = self.silence.iter().any(|silence| {
                silence.alert == rule.name && Filters::until(&silence.until).is_some_and(|until| now < until)
            });
            for (subject, summary) in rule.findings(asker, now).await? {
                let link = rule.link(&self.pages, now);
                firing.push(Firing { name: rule.name.clone(), subject, summary, link, is_silent });
            }
        }
        Ok(firing)
    }
}

impl Rule {
    fn item(&self) -> Option<&'static Item> {
        let (team, item) = self.item.split_once('/')?;
        teams::team(team)?.item(item)
    }

    fn check(&self) -> Result<(), RulesError> {
        let conditions = [
            self.above.is_some(),
            self.below.is_some(),
            self.is.is_some(),
            self.is_missing,
            self.is_unusual,
            self.unusual_event.is_some(),
        ];
        if conditions.into_iter().filter(|is_set| *is_set).count() != 1 {
            return Err(RulesError::Condition(self.name.clone()));
        }
        if self.unusual_event.is_none() && self.item().is_none() {
            return Err(RulesError::Item { name: self.name.clone(), item: self.item.clone() });
        }
        let (name, filters) = (self.name.clone(), self.filters.clone());
        self.fault().map_or(Ok(()), |fault| Err(RulesError::Filters { name, filters, fault }))
    }

    /// Reason why the filters aren't what the rule means.
    fn fault(&self) -> Option<String> {
        let parameters = Parameters::parse(&self.filters);
        let known = self.item().map_or(CLIENT, |item| item.filters).iter().map(|(name, _)| *name);
        let known: Vec<_> = ["days", "from", "to"].into_iter().chain(known).collect();
        let unknown = parameters.names().find(|name| !known.contains(name));
        let unknown = unknown.map(|name| format!("there is no {name}; there are {}", known.join(", ")));
        unknown.or_else(|| Filters::faults(&parameters).into_iter().next())
    }

    fn link(&self, pages: &str, now: i64) -> String {
        let to = encoded(&time_text(now));
        match &self.unusual_event {
            Some(event) => format!("{pages}/explore?kind=trend&event={}&to={to}", encoded(event)),
            None if self.filters.is_empty() => format!("{pages}/{}?to={to}", self.item),
            None => format!("{pages}/{}?{}&to={to}", self.item, self.filters),
        }
    }

    /// Subjects and summaries of what is found.
    async fn findings(&self, asker: Asker<'_>, now: i64) -> Result<Vec<(String, String)>, AskError> {
        if let Some(event) = &self.unusual_event {
            return Ok(unusual(asker, event, now).await?.into_iter().collect());
        }
        let Some(item) = self.item() else { return Ok(Vec::new()) };
        let filters = Filters::read(&Parameters::parse(&self.filters), item.days, now);
        if self.is_unusual {
            let found = asker.unusual(item, &filters).await?;
            let recent = found.into_iter().filter(|unusual| now - unusual.time <= 2 * HOUR);
            return Ok(recent.map(|unusual| (unusual.series.clone(), unusual.summary())).collect());
        }
        let table = asker.item(item, &filters).await?.table;
        if self.is_missing {
            let is_empty = table.rows.is_empty();
            return Ok(is_empty.then(|| (self.item.clone(), item.empty.to_owned())).into_iter().collect());
        }
        Ok(self.rows(&table))
    }

    fn rows(&self, table: &Table) -> Vec<(String, String)> {
        let Some(place) = table.place(&self.column) else {
            // A rule that can never fire must not be silent, nor stop the others.
            let columns = table.columns.join(", ");
            return vec![(
                "the rule itself".to_owned(),
                format!("{} has no column {:?}; it has {columns}", self.item, self.column),
            )];
        };
        let fires = |value: &Value| match value.number() {
            Some(number) => {
                self.above.is_some_and(|above| number > above)
                    || self.below.is_some_and(|below| number < below)
            }
            None => self.is.as_deref().is_some_and(|is| value.text() == is),
        };
        let firing = table.rows.iter().filter(|row| fires(&row[place]));
        firing.map(|row| (row[0].plain(), format!("{} is {}", self.column, row[place].plain()))).collect()
    }
}

/// The last full hour of an event beside the same hour of the weeks before.
async fn unusual(asker: Asker<'_>, event: &str, now: i64) -> Result<Option<(String, String)>, AskError> {
    let end = now.div_euclid(HOUR) * HOUR;
    let filters = Filters { from: end - WEEKS * 7 * DAY - HOUR, to: end, values: Vec::new() };
    let period = filters.sql("{period}", CLIENT);
    let sql = format!(
        "SELECT timestamp_ns / {HOUR} AS hour, count(*) AS n FROM events WHERE {period} AND event_name = {} GROUP BY 1",
        literal(event)
    );
    let counts = asker.page(&sql).await?;
    let mut hours = std::collections::BTreeMap::new();
    for row in &counts.rows {
        if let (Value::Integer(hour), Some(count)) = (&row[0], row[1].number()) {
            hours.insert(*hour, count);
        }
    }
    let last = end / HOUR - 1;
    // Hours without an event count as 0, from the first event on.
    let Some(first) = hours.keys().next().copied() else { return Ok(None) };
    let count = hours.get(&last).copied().unwrap_or(0.0);
    let before: Vec<_> =
        (first..last).map(|hour| (hour * 3_600, hours.get(&hour).copied().unwrap_or(0.0))).collect();
    let found = Baseline::new(&before).assess(last * 3_600, count, &Limits::default());
    Ok(found.filter(|found| found.is_anomaly).map(|found| {
        let (low, high) = found.usual;
        (event.to_owned(), format!("{count} in an hour, usual are {low:.0} to {high:.0}"))
    }))
}

impl Firing {
    /// For a webhook.
    pub fn json(&self, now: i64) -> Json {
        json!({"alert": self.name, "subject": self.subject, "summary": self.summary, "link": self.link, "at": time_text(now)})
    }

    /// For Alertmanager's `POST /api/v2/alerts`.
    pub fn alertmanager(&self, now: i64) -> Json {
        json!({"labels": {"alertname": self.name, "subject": self.subject}, "annotations": {"summary": self.summary},
            "generatorURL": self.link, "startsAt": time_text(now)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_checked() {
        let rules =
            "[[alert]]\nname = \"a\"\nitem = \"operations/objectives\"\ncolumn = \"alarm\"\nis = \"page\"\n";
        Rules::read(rules).unwrap();
        assert!(matches!(Rules::read(&format!("{rules}above = 1.0\n")), Err(RulesError::Condition(_))));
        assert!(matches!(Rules::read(&rules.replace("objectives", "x")), Err(RulesError::Item { .. })));
        let filtered = |filters: &str| Rules::read(&format!("{rules}filters = \"{filters}\"\n"));
        assert!(filtered("days=3&service=payments").is_ok());
        for wrong in ["day=3", "days=-3", "to=tomorrow", "country=DE"] {
            assert!(matches!(filtered(wrong), Err(RulesError::Filters { .. })), "{wrong}");
        }
        let silence = format!("{rules}[[silence]]\nalert = \"a\"\nuntil = \"tomorrow\"\n");
        assert!(matches!(Rules::read(&silence), Err(RulesError::Silence(_))));
    }
}
