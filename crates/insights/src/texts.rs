//! Distinct texts with numbers: columns of many rows and few values.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;

/// Views of one column whose numbers are kept at hand.
const VIEWS: usize = 256;

/// Distinct texts; number 0 is the empty one.
#[derive(Clone, Debug)]
pub struct Texts {
    numbers: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    texts: Vec<Arc<str>>,
}

impl Default for Texts {
    fn default() -> Self {
        let empty = Arc::<str>::from("");
        Self { numbers: HashMap::from_iter([(empty.clone(), 0)]), texts: vec![empty] }
    }
}

impl Texts {
    /// Number of a text, which is taken in if it is new.
    pub fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        let text = Arc::<str>::from(text);
        self.numbers.insert(text.clone(), number);
        self.texts.push(text);
        number
    }

    /// Number of a text that was taken in.
    pub fn known(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// The text of a number.
    pub fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }

    /// Number of texts, with the empty one.
    pub fn count(&self) -> usize {
        self.texts.len()
    }

    /// Numbers of a column's texts; 0 where there is none.
    ///
    /// # Errors
    /// If the column has a type without texts.
    pub fn column(&mut self, column: &ArrayRef) -> Result<Vec<u32>, ArrowError> {
        self.first(&[column])
    }

    /// Numbers of the texts of each row's first column that has one; 0 where none has. The same text again is found by its view,
    /// without a look at its bytes.
    ///
    /// # Errors
    /// If a column has a type without texts.
    pub fn first(&mut self, columns: &[&ArrayRef]) -> Result<Vec<u32>, ArrowError> {
        let columns: Result<Vec<_>, _> =
            columns.iter().map(|column| cast(column, &DataType::Utf8View)).collect();
        let columns = columns?;
        let rows = columns.first().map_or(0, |column| column.len());
        let mut columns: Vec<(&StringViewArray, _)> =
            columns.iter().map(|column| (column.as_string_view(), [(0, 0); VIEWS])).collect();
        let number = |row: usize| {
            for (column, known) in &mut columns {
                // The view of an empty text is 0, as that of a null may be.
                let view = column.views()[row];
                if view == 0 || !column.is_valid(row) {
                    continue;
                }
                let known = &mut known[place(view)];
                if known.0 != view {
                    *known = (view, self.number(column.value(row)));
                }
                return known.1;
            }
            0
        };
        Ok((0..rows).map(number).collect())
    }
}

/// Place of a view among those at hand.
fn place(view: u128) -> usize {
    let mixed = (view as u64 ^ (view >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 56) as usize % VIEWS
}

#[cfg(test)]
mod tests {
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
        let other: ArrayRef = Arc::new(StringArray::from(vec!["b", "a", "", "b", "b", ""]));
        assert_eq!(texts.first(&[&column, &other]).unwrap(), [1, 2, 2, 2, 3, 1]);
        assert_eq!(texts.first(&[&other, &column]).unwrap(), [3, 2, 2, 3, 3, 1]);
    }
}
