//! Items: a question with its SQL, definition and drawing.

use crate::filters::{Columns, Filters};
use crate::journeys::{Journeys, Selection};
use crate::table::Table;

/// A team's page.
#[derive(Debug)]
pub struct Team {
    /// Name in addresses and in the file of users.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Its items.
    pub items: [Item; 5],
}

/// A question with its answer.
#[derive(Debug)]
pub struct Item {
    /// Name in addresses.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Question that it answers, for people.
    pub question: &'static str,
    /// Formula and unit, for people.
    pub definition: &'static str,
    /// Usual period, days.
    pub days: f64,
    /// Kinds of events that it needs.
    pub kinds: &'static [&'static str],
    /// Reason and remedy when it has no rows.
    pub empty: &'static str,
    /// Filters that its tables have columns for.
    pub filters: Columns,
    /// Template of its SQL.
    pub sql: &'static str,
    /// Computes the answer of the rows that SQL gives.
    pub compute: Compute,
    /// Figure at the top.
    pub headline: Headline,
    /// Drawing of the answer.
    pub chart: Chart,
    /// Events behind a point of the drawing or a row of the table, and behind a point of the line if that has no others.
    pub behind: Behind,
    /// Template of SQL for a line over time: bucket, series, value.
    pub trend: Option<Trend>,
}

/// Computes an answer of what SQL gives.
#[derive(Clone, Copy, Debug)]
pub enum Compute {
    /// Of rows.
    Rows(fn(Table, &Filters) -> Table),
    /// Of events of persons that a scan reads: the same as SQL gives, which has the columns that [`crate::journeys::Reader::add`] needs.
    Selected(fn(&Filters) -> Selection, fn(&Journeys, &Filters) -> Table),
    /// Of the same. SQL gives the answer itself, and the line, slower.
    Counted {
        /// Events to read.
        select: fn(&Filters) -> Vec<Selection>,
        /// The answer.
        answer: fn(&Journeys, &Filters) -> Table,
        /// The line over time.
        trend: fn(&Journeys, &Filters) -> Table,
    },
}

/// A figure of an answer, to compare with the period before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headline {
    /// Sum of a column.
    Sum(&'static str),
    /// Sum of a column by sum of another, percent.
    Share(&'static str, &'static str),
    /// The rest of a share: a title, a column and the one that it is a part of, percent.
    Rest(&'static str, &'static str, &'static str),
    /// First cell of a column.
    First(&'static str),
    /// Last cell of a column; its title and the column.
    Last(&'static str, &'static str),
    /// Sum of a column; its title and the column.
    Total(&'static str, &'static str),
    /// Number of rows.
    Rows(&'static str),
}

/// Drawing of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chart {
    /// Bars: column of labels, column of values.
    Bars(&'static str, &'static str),
    /// The same with a column that stands beside the value.
    BarsBeside(&'static str, &'static str, &'static str),
    /// Steps of a funnel: column of labels, column of values.
    Steps(&'static str, &'static str),
    /// A cell for each number of the table, darker for more.
    Grid,
    /// Bands between events: column of paths, column of values.
    Flows(&'static str, &'static str),
    /// None but the table.
    Table,
}

/// A line over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trend {
    /// Template of SQL: bucket, series, value.
    pub sql: &'static str,
    /// Title with the unit.
    pub title: &'static str,
    /// Meaning of a time without a row.
    pub gaps: Gaps,
    /// Events behind a point of the line; the item's own where there are none.
    pub behind: Option<Behind>,
}

/// Meaning of a time without a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// Zero: values are counts or sums.
    Zero,
    /// Unknown: the line is open there.
    Open,
}

/// Events behind the points of a drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Meaning of the rows, for people.
    pub what: &'static str,
    /// Template of SQL after FROM, which ends with a condition: rows with `event_id` and `timestamp_ns`.
    pub rows: &'static str,
    /// Columns of the answer that name a point, and their conditions on the rows. A condition has the mark `{value}`; an expression
    /// without it must equal the value.
    pub named: Columns,
}

impl Team {
    /// An item by its name.
    pub fn item(&self, name: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.name == name)
    }
}

impl Headline {
    /// Name of the figure.
    pub fn title(&self) -> String {
        match self {
            Self::Sum(title) | Self::First(title) | Self::Last(title, _) | Self::Total(title, _) => {
                (*title).to_owned()
            }
            Self::Share(part, whole) => format!("{part} / {whole}, %"),
            Self::Rest(title, ..) | Self::Rows(title) => (*title).to_owned(),
        }
    }

    /// The figure; none of an empty answer.
    pub fn of(&self, table: &Table) -> Option<f64> {
        let sum = |column: &str| {
            let numbers: Vec<_> = table.column(column).filter_map(|cell| cell.number()).collect();
            (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>())
        };
        match self {
            Self::Sum(column) | Self::Total(_, column) => sum(column),
            Self::First(column) => table.column(column).next()?.number(),
            Self::Last(_, column) => table.column(column).last()?.number(),
            Self::Share(part, whole) => share(sum(part)?, sum(whole)?),
            Self::Rest(_, part, whole) => share(sum(part)?, sum(whole)?).map(|share| 100.0 - share),
            Self::Rows(_) => Some(table.rows.len() as f64),
        }
    }
}

/// A part of a whole, percent.
fn share(part: f64, whole: f64) -> Option<f64> {
    (whole != 0.0).then(|| part / whole * 100.0)
}

/// The rows are the answer.
pub fn as_asked(table: Table, _: &Filters) -> Table {
    table
}
