//! Answers: an item's SQL through the warehouse, within the user's rights and limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use futures::StreamExt;
use tickstream_warehouse_core::query::{Engine, QueryError, Role};

use crate::anomaly::streaming::{Cause, Detector};
use crate::filters::{DAY, Filters, HOUR, PERSONS, time_text};
use crate::journeys::{Journeys, Reader, Selection};
use crate::table::{Table, Value};
use crate::teams::{Compute, Gaps, Item, Team};

/// A question that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// SQL failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A column of the answer can't be shown.
    #[error("a column of the answer can't be shown")]
    Column(#[from] ArrowError),
    /// The address or the rule has a period that can't be read.
    #[error("the period can't be read: {0}")]
    Period(String),
    /// The task that computes the answer ended without one.
    #[error("the computation of the answer stopped")]
    Stopped(#[from] tokio::task::JoinError),
}

/// Asks SQL in the name of users.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    engine: &'a Engine,
    role: &'a Role,
}

/// An item's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// SQL of the answer, as it was asked.
    pub sql: String,
    /// Rows.
    pub table: Table,
    /// The headline's figure of this period and of the one before.
    pub figures: [Option<f64>; 2],
    /// Line over time: bucket, series, value.
    pub trend: Option<Table>,
}

/// An hour in which a line was unusual.
#[derive(Clone, Debug, PartialEq)]
pub struct Unusual {
    /// Name of the line.
    pub series: String,
    /// Begin of the hour, nanoseconds since 1970.
    pub time: i64,
    /// Its value.
    pub value: f64,
    /// Cause of the alarm.
    pub cause: Cause,
}

impl Unusual {
    /// A sentence about it.
    pub fn summary(&self) -> String {
        format!("{} in the hour from {}: {}", self.value, time_text(self.time), self.cause.text())
    }
}

impl Cause {
    /// The cause, for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Value => "far from its recent mean",
            Self::Level => "its level changed",
            Self::Spread => "it scatters more than before",
            Self::Season => "unlike the same hour of the day before",
            Self::Range => "outside of all before",
        }
    }
}

/// Time in which lines are watched.
const WATCHED: i64 = 28 * DAY;
const HOURS_A_DAY: usize = 24;
/// Hours of a line before its first alarm.
const WARMUP: u64 = 72;

impl<'a> Asker<'a> {
    /// Questions of a user with this role.
    pub fn new(engine: &'a Engine, role: &'a Role) -> Self {
        Self { engine, role }
    }

    /// True if the user may see a team's page.
    pub fn sees(&self, team: &Team) -> bool {
        self.role.teams.is_empty() || self.role.teams.iter().any(|name| name == team.name)
    }

    /// True if the user may see what isn't a team's page: Explore and time lines.
    pub fn sees_all(&self) -> bool {
        self.role.teams.is_empty()
    }

    /// Rows of SQL that the user wrote.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn sql(&self, sql: &str) -> Result<Table, AskError> {
        self.rows(sql, self.role).await
    }

    /// Rows of SQL of a page that the user may see.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn page(&self, sql: &str) -> Result<Table, AskError> {
        self.rows(sql, &self.role.of_pages()).await
    }

    /// Events of persons, by SQL with the columns that [`Reader::add`] needs: what scans are checked with.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn journeys(&self, sql: &str) -> Result<Journeys, AskError> {
        let reader = Reader::default();
        // They are summed up here, however many there are.
        let answer = self.engine.query(sql, &self.role.of_pages()).await?;
        let mut answer = answer.with_rows_max(u64::MAX);
        while let Some(batch) = answer.next().await {
            reader.add(&batch?)?;
        }
        drop(answer);
        Ok(reader.finish(&self.persons().await?)?)
    }

    /// Events of persons, by scans.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn selected(&self, selections: Vec<Selection>) -> Result<Journeys, AskError> {
        let persons = self.persons().await?;
        let reader = Arc::new(Reader::default());
        for selection in selections {
            let (scan, reads) = (selection.scan(), reader.clone());
            let each = move |batch: &RecordBatch| reads.select(&selection, batch);
            self.engine.scan(scan, &self.role.of_pages(), each).await?;
        }
        Ok(reader.finish(&persons)?)
    }

    /// Persons of ids that belong to another.
    async fn persons(&self) -> Result<Vec<RecordBatch>, AskError> {
        Ok(self.engine.query(PERSONS, &self.role.of_pages()).await?.collect().await?)
    }

    /// The answer to an item's question, and the figure of the period before.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn item(&self, item: &Item, filters: &Filters) -> Result<Answer, AskError> {
        let sql = filters.sql(item.sql, item.filters);
        let (table, line) = self.compute(item, &sql, filters).await?;
        let before = filters.before();
        let (earlier, _) = self.compute(item, &before.sql(item.sql, item.filters), &before).await?;
        let trend = match (line, item.trend) {
            (Some(line), _) => Some(line),
            (None, Some(trend)) => Some(self.page(&filters.sql(trend.sql, item.filters)).await?),
            (None, None) => None,
        };
        let figures = [item.headline.of(&table), item.headline.of(&earlier)];
        Ok(Answer { sql, table, figures, trend })
    }

    /// Hours of the four weeks before `to` in which a line of the item was unusual, oldest first; none if it has no line by hours.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn unusual(&self, item: &Item, filters: &Filters) -> Result<Vec<Unusual>, AskError> {
        let Some(trend) = item.trend.filter(|trend| trend.sql.contains("{bucket}")) else {
            return Ok(Vec::new());
        };
        // An hour that isn't over has few events for no other reason.
        let are_counts = trend.gaps == Gaps::Zero;
        let to = if are_counts { filters.to.div_euclid(HOUR) * HOUR } else { filters.to };
        let weeks = Filters { from: (to - WATCHED).max(0), to, ..filters.clone() };
        let rows = self.page(&weeks.sql_by(trend.sql, item.filters, "date_trunc('hour', timestamp)")).await?;
        let mut series = BTreeMap::<String, Vec<(i64, f64)>>::new();
        for row in &rows.rows {
            if let ([Value::Time(time), name, ..], Some(value)) = (row.as_slice(), row[2].number()) {
                series.entry(name.plain()).or_default().push((*time, value));
            }
        }
        let mut found = Vec::new();
        for (series, mut points) in series {
            if are_counts {
                points = with_zeros(&points, to);
            }
            let mut detector = Detector::new(WARMUP, HOURS_A_DAY);
            for (time, value) in points {
                if let Some(cause) = detector.push(value) {
                    found.push(Unusual { series: series.clone(), time, value, cause });
                }
            }
        }
        found.sort_by_key(|unusual| unusual.time);
        Ok(found)
    }

    /// The answer, and its line over time if the same events give both.
    async fn compute(
        &self,
        item: &Item,
        sql: &str,
        filters: &Filters,
    ) -> Result<(Table, Option<Table>), AskError> {
        Ok(match item.compute {
            Compute::Rows(compute) => (compute(self.page(sql).await?, filters), None),
            Compute::Selected(select, compute) => {
                (compute(&self.selected(vec![select(filters)]).await?, filters), None)
            }
            Compute::Counted { select, answer, trend } => {
                let events = self.selected(select(filters)).await?;
                (answer(&events, filters), Some(trend(&events, filters)))
            }
        })
    }

    async fn rows(&self, sql: &str, role: &Role) -> Result<Table, AskError> {
        let answer = self.engine.query(sql, role).await?;
        let columns = answer.schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(Table::read(columns, &answer.collect().await?)?)
    }
}

/// Counts by hour from the first one to `to`, 0 where there was nothing.
fn with_zeros(points: &[(i64, f64)], to: i64) -> Vec<(i64, f64)> {
    let known: BTreeMap<i64, f64> = points.iter().copied().collect();
    let Some((first, _)) = known.first_key_value() else { return Vec::new() };
    let hours = (*first..to).step_by(HOUR as usize);
    hours.map(|hour| (hour, known.get(&hour).copied().unwrap_or(0.0))).collect()
}
