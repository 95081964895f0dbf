//! Tables: what SQL answers, and what pages, CSV and JSON are made of.

use chrono::{DateTime, SecondsFormat};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType};
use datafusion::arrow::error::ArrowError;

/// A cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// A text, of an event or of a rule.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// Nanoseconds since 1970.
    Time(i64),
}

impl Value {
    /// The number, of either kind.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Number(number) => Some(*number),
            Self::Time(time) => Some(*time as f64),
            Self::Null | Self::Text(_) => None,
        }
    }

    /// The text; empty where it is none.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    /// As CSV and JSON have it, without quotes.
    pub fn plain(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Text(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Time(time) => {
                DateTime::from_timestamp_nanos(*time).to_rfc3339_opts(SecondsFormat::AutoSi, true)
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Integer(number) => (*number).into(),
            Self::Number(number) => (*number).into(),
            Self::Text(_) | Self::Time(_) => self.plain().into(),
        }
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(number as i64)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Rows with named columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names, with the unit after a comma: "share, %".
    pub columns: Vec<String>,
    /// Rows, each with a cell for each column.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    /// Rows of an answer.
    ///
    /// # Errors
    /// If a column has a type without a text.
    pub fn read(columns: Vec<String>, batches: &[RecordBatch]) -> Result<Self, ArrowError> {
        let mut table = Self { columns, rows: Vec::new() };
        for batch in batches {
            let mut columns = Vec::with_capacity(batch.num_columns());
            for column in batch.columns() {
                columns.push(cells(column)?.into_iter());
            }
            for _ in 0..batch.num_rows() {
                table.rows.push(columns.iter_mut().map(|cells| cells.next().unwrap_or_default()).collect());
            }
        }
        Ok(table)
    }

    /// Place of a column.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// Cells of a column; none where there is no such column.
    pub fn column(&self, name: &str) -> impl Iterator<Item = &Value> {
        let place = self.place(name);
        self.rows.iter().filter_map(move |row| row.get(place?))
    }

    /// As CSV of RFC 4180. Texts that a spreadsheet would take for a formula get an apostrophe before them (OWASP, "CSV
    /// injection").
    pub fn csv(&self) -> String {
        let mut out = String::new();
        line(&mut out, self.columns.iter().map(|name| guarded(name)));
        for row in &self.rows {
            line(
                &mut out,
                row.iter().map(|cell| match cell {
                    Value::Text(text) => guarded(text),
                    cell => cell.plain(),
                }),
            );
        }
        out
    }

    /// As a JSON list of objects.
    pub fn json(&self) -> serde_json::Value {
        let object = |row: &Vec<Value>| -> serde_json::Value {
            self.columns.iter().cloned().zip(row.iter().map(Value::json)).collect()
        };
        self.rows.iter().map(object).collect()
    }
}

fn line(out: &mut String, cells: impl Iterator<Item = String>) {
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            out.push(',');
        }
        if cell.contains(['"', ',', '\n', '\r']) {
            out.push_str(&format!("\"{}\"", cell.replace('"', "\"\"")));
        } else {
            out.push_str(&cell);
        }
    }
    out.push_str("\r\n");
}

/// A text that no spreadsheet takes for a formula.
fn guarded(text: &str) -> String {
    // Spreadsheets skip spaces before a formula, and take full-width signs for plain ones.
    let first = text.trim_start().chars().next();
    let is_formula = first
        .is_some_and(|first| matches!(first, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '|' | '%'))
        || text.starts_with(['\t', '\r', '\n']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

fn cells(column: &dyn Array) -> Result<Vec<Value>, ArrowError> {
    let read = |kind: &DataType| cast(column, kind);
    Ok(match column.data_type() {
        kind if kind.is_integer() => {
            let numbers = read(&DataType::Int64)?;
            numbers
                .as_primitive::<Int64Type>()
                .iter()
                .map(|cell| cell.map_or(Value::Null, Value::Integer))
                .collect()
        }
        kind if kind.is_numeric() => {
            let numbers = read(&DataType::Float64)?;
            let finite = |cell: Option<f64>| cell.filter(|number| number.is_finite());
            numbers.as_primitive::<Float64Type>().iter().map(|cell| finite(cell).into()).collect()
        }
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            let times = read(&DataType::Timestamp(TimeUnit::Nanosecond, None))?;
            let times = times.as_primitive::<TimestampNanosecondType>().iter();
            times.map(|cell| cell.map_or(Value::Null, Value::Time)).collect()
        }
        _ => {
            let texts = read(&DataType::Utf8)?;
            texts.as_string::<i32>().iter().map(Value::from).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_has_no_formula_and_is_quoted() {
        let mut table = Table::new(&["name", "n"]);
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "＝1", "a,b", "say \"hi\"", "plain"] {
            table.rows.push(vec![text.into(), Value::Integer(-1)]);
        }
        let csv = table.csv();
        let lines: Vec<_> = csv.split("\r\n").collect();
        assert_eq!(lines[0], "name,n");
        assert!(lines[1..8].iter().all(|line| line.starts_with('\'')), "{csv}");
        assert_eq!(lines[8..], ["\"a,b\",-1", "\"say \"\"hi\"\"\",-1", "plain,-1", ""]);
    }

    #[test]
    fn json_has_types() {
        let mut table = Table::new(&["at", "n", "x", "none"]);
        table.rows.push(vec![Value::Time(0), Value::Integer(1), Value::Number(0.5), Value::Null]);
        let expected = serde_json::json!([{"at": "1970-01-01T00:00:00Z", "n": 1, "x": 0.5, "none": null}]);
        assert_eq!(table.json(), expected);
    }
}
