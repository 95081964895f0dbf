//! Points of a drawing: each has an address, which lists the events behind it, and conditions on them.

use chrono::{DateTime, SecondsFormat};

use super::number::{NOTHING, cell};
use crate::filters::{Columns, Filters, IS, LINE, Parameters, encoded, literal};
use crate::table::{Table, Value};

/// Name of a point's column where each cell of a table is a point.
const CELL: &str = "cell";

/// Addresses of the events behind the points of one drawing.
#[derive(Debug)]
pub struct Points {
    address: String,
    named: Columns,
}

impl Points {
    /// Points of an answer for a period, at the path that lists their events.
    pub fn new(path: &str, named: Columns, parameters: &Parameters, filters: &Filters) -> Self {
        let exact = |ns| DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let (from, to) = (exact(filters.from), exact(filters.to));
        let kept = parameters.with(&[("days", ""), ("live", ""), ("from", &from), ("to", &to)]);
        Self { address: format!("{path}?{kept}"), named }
    }

    /// Address of a point by its columns and values.
    pub fn of(&self, values: &[(&str, &str)]) -> String {
        let values =
            values.iter().map(|(column, value)| format!("&{IS}{}={}", encoded(column), encoded(value)));
        std::iter::once(self.address.clone()).chain(values).collect()
    }

    /// Address without a point, which a script completes with `is.series`, `from` and `to`.
    pub fn of_line(&self) -> String {
        format!("{}&{LINE}=1", self.address)
    }

    /// Address of a value of a line, whose time is the period.
    pub fn of_value(&self, series: &str) -> String {
        format!("{}&{IS}series={}", self.of_line(), encoded(series))
    }

    /// Address of a row; none if its columns don't name a point.
    pub fn of_row(&self, table: &Table, row: &[Value]) -> Option<String> {
        let is_by_cell = self.named.iter().any(|(column, _)| *column == CELL);
        if is_by_cell { None } else { self.of_columns(table, row, None) }
    }

    /// Address of a cell with a number, where cells are points.
    pub fn of_cell(&self, table: &Table, row: &[Value], place: usize) -> Option<String> {
        let is_by_cell = self.named.iter().any(|(column, _)| *column == CELL);
        let is_point = is_by_cell && row[place].number().is_some();
        if is_point { self.of_columns(table, row, Some((CELL, table.columns[place].clone()))) } else { None }
    }

    fn of_columns(&self, table: &Table, row: &[Value], more: Option<(&str, String)>) -> Option<String> {
        let in_row =
            self.named.iter().filter_map(|(column, _)| Some((*column, cell(&row[table.place(column)?]))));
        let all: Vec<_> = in_row.chain(more).collect();
        let all: Vec<_> = all.iter().map(|(column, value)| (*column, value.as_str())).collect();
        // A parameter without a value is none.
        let is_point = !all.is_empty() && all.iter().all(|(_, value)| !value.is_empty());
        is_point.then(|| self.of(&all))
    }
}

/// Conditions of the point of an address: columns that are named, and SQL.
pub fn conditions(named: Columns, parameters: &Parameters) -> (Vec<(&'static str, String)>, String) {
    let value = |column: &str| parameters.get(&format!("{IS}{column}")).map(str::to_owned);
    let point: Vec<_> = named.iter().filter_map(|(column, _)| Some((*column, value(column)?))).collect();
    let mut sql = String::new();
    for (column, condition) in named {
        let Some((_, value)) = point.iter().find(|(other, _)| other == column) else { continue };
        let is_nothing = value == NOTHING;
        let value = literal(value);
        sql.push_str(" AND ");
        let is_whole = condition.contains("{value}");
        sql.push_str(&if is_whole {
            condition.replace("{value}", &value)
        } else if is_nothing {
            format!("coalesce({condition}, {value}) = {value}")
        } else {
            format!("{condition} = {value}")
        });
    }
    (point, sql)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::DAY;

    const NAMED: Columns = &[("channel", "channel"), ("subject", "(a = {value} OR b = {value})")];

    #[test]
    fn a_value_of_a_point_stays_a_literal() {
        let parameters =
            Parameters::parse("is.channel=x%27+OR+1%3D1+--{value}&is.subject={value}&is.other=1");
        let (point, sql) = conditions(NAMED, &parameters);
        assert_eq!(point.len(), 2);
        assert_eq!(sql, " AND channel = 'x'' OR 1=1 --{value}' AND (a = '{value}' OR b = '{value}')");
    }

    #[test]
    fn a_row_leads_to_its_own_values_in_the_period_of_the_answer() {
        let filters = Filters::read(&Parameters::default(), 1.0, 2 * DAY);
        let parameters = Parameters::parse("days=1&live=1&country=DE");
        let points = Points::new("/team/item/behind", NAMED, &parameters, &filters);
        let mut table = Table::new(&["channel", "n"]);
        table.rows.push(vec!["a&b".into(), 1.0.into()]);
        table.rows.push(vec![Value::Null, 1.0.into()]);
        let address = points.of_row(&table, &table.rows[0]).unwrap();
        let query = Parameters::parse(address.split_once('?').unwrap().1);
        assert_eq!(query.get("is.channel"), Some("a&b"));
        assert_eq!((query.get("country"), query.get("days"), query.get("live")), (Some("DE"), None, None));
        assert_eq!(Filters::read(&query, 9.0, 9 * DAY).from, filters.from);
        // A cell without a text is named, too, as the page shows it.
        assert!(points.of_row(&table, &table.rows[1]).unwrap().ends_with("&is.channel=%E2%80%93"));
        assert_eq!(points.of_row(&Table::new(&["n"]), &[1.0.into()]), None);
        assert_eq!(points.of_row(&table, &["".into(), 1.0.into()]), None);
        assert_eq!(points.of_cell(&table, &table.rows[0], 1), None);
    }
}
