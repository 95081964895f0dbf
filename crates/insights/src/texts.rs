//! Distinct texts with numbers: columns of many rows and few values.

use std::collections::HashMap;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;

/// Distinct texts; number 0 is the empty one.
#[derive(Clone, Debug)]
pub struct Texts {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { numbers: HashMap::from([(String::new(), 0)]), texts: vec![String::new()] }
    }
}

impl Texts {
    /// Number of a text, which is taken in if it is new.
    pub fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.numbers.insert(text.to_owned(), number);
        self.texts.push(text.to_owned());
        number
    }

    /// The text of a number.
    pub fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }

    /// Number of texts, with the empty one.
    pub fn count(&self) -> usize {
        self.texts.len()
    }

    /// Numbers of a column's texts; 0 where there is none. The same text again is found by its view, without a look at its bytes.
    ///
    /// # Errors
    /// If the column has a type without texts.
    pub fn column(&mut self, column: &ArrayRef) -> Result<Vec<u32>, ArrowError> {
        let column = cast(column, &DataType::Utf8View)?;
        let column: &StringViewArray = column.as_string_view();
        let mut known: Option<(u128, u32)> = None;
        let number = |row: usize| {
            if !column.is_valid(row) {
                return 0;
            }
            let view = column.views()[row];
            match known.filter(|(before, _)| *before == view) {
                Some((_, number)) => number,
                None => {
                    let number = self.number(column.value(row));
                    known = Some((view, number));
                    number
                }
            }
        };
        Ok((0..column.len()).map(number).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::StringArray;

    use super::*;

    #[test]
    fn columns_become_numbers_and_back() {
        let mut texts = Texts::default();
        let long = "a text that is longer than a view";
        let column: ArrayRef =
            Arc::new(StringArray::from(vec![Some(long), None, Some("a"), Some("a"), Some(""), Some(long)]));
        assert_eq!(texts.column(&column).unwrap(), [1, 0, 2, 2, 0, 1]);
        assert_eq!((texts.number("a"), texts.count()), (2, 3));
        assert_eq!((texts.text(1), texts.text(2)), (long, "a"));
    }
}
