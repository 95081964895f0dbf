//! Values of the texts of a column, each computed once for a dictionary.

use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::arrow::error::ArrowError;

/// Place of a row's text if there is none, or it isn't needed.
const NOWHERE: u32 = u32::MAX;

/// Values of the texts of one dictionary; the next one takes its place.
#[derive(Debug)]
pub struct Memo<T> {
    dictionary: Option<StringArray>,
    values: Vec<T>,
    is_known: Vec<bool>,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { dictionary: None, values: Vec::new(), is_known: Vec::new() }
    }
}

impl<T: Copy> Memo<T> {
    /// Values of a column's rows: `none` where there is no text or it isn't needed. `compute` has the values of those places of the
    /// dictionary that come for the first time.
    ///
    /// # Errors
    /// If the column isn't one of texts.
    pub fn rows(
        &mut self,
        batch: &RecordBatch,
        column: &str,
        none: T,
        is_needed: impl Fn(usize) -> bool,
        compute: impl FnOnce(&StringArray, &[usize]) -> Vec<T>,
    ) -> Result<Vec<T>, ArrowError> {
        let Some(column) = batch.column_by_name(column) else { return Ok(vec![none; batch.num_rows()]) };
        let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let column = cast(column, &kind)?;
        let column = column.as_dictionary::<Int32Type>();
        let texts: &StringArray = column.values().as_string();
        self.begin(texts, none);
        let (keys, nulls) = (column.keys().values(), column.keys().nulls());
        let (mut places, mut new) = (vec![NOWHERE; keys.len()], Vec::new());
        for (row, key) in keys.iter().enumerate() {
            if is_needed(row) && nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                places[row] = *key as u32;
                let is_known = &mut self.is_known[*key as usize];
                if !*is_known {
                    *is_known = true;
                    new.push(*key as usize);
                }
            }
        }
        if !new.is_empty() {
            for (place, value) in new.iter().zip(compute(texts, &new)) {
                self.values[*place] = value;
            }
        }
        let mut values = vec![none; places.len()];
        for (value, place) in values.iter_mut().zip(places) {
            if place != NOWHERE {
                *value = self.values[place as usize];
            }
        }
        Ok(values)
    }

    /// Forgets the dictionary of before, if this is another one.
    fn begin(&mut self, texts: &StringArray, none: T) {
        let at = |texts: &StringArray| (texts.value_offsets().as_ptr(), texts.len());
        // The one of before is kept, so that no other has its place in memory.
        if self.dictionary.as_ref().map(at) != Some(at(texts)) {
            self.values.clear();
            self.values.resize(texts.len(), none);
            self.is_known.clear();
            self.is_known.resize(texts.len(), false);
            self.dictionary = Some(texts.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, DictionaryArray};

    use super::*;

    #[test]
    fn each_text_of_a_dictionary_is_computed_once() {
        let column: DictionaryArray<Int32Type> =
            [Some("a"), None, Some("long"), Some("a"), Some("b")].into_iter().collect();
        let column: ArrayRef = Arc::new(column);
        let batch = RecordBatch::try_from_iter([("name", column)]).unwrap();
        let mut memo = Memo::default();
        let mut computed = Vec::new();
        let mut lengths = |memo: &mut Memo<usize>, batch: &RecordBatch, name: &str| {
            memo.rows(
                batch,
                name,
                0,
                |row| row < 4,
                |texts, new| {
                    computed.push(new.len());
                    new.iter().map(|place| texts.value(*place).len()).collect()
                },
            )
            .unwrap()
        };
        assert_eq!(lengths(&mut memo, &batch, "name"), [1, 0, 4, 1, 0]);
        assert_eq!(lengths(&mut memo, &batch.slice(2, 3), "name"), [4, 1, 1]);
        assert_eq!(lengths(&mut memo, &batch, "other"), [0; 5]);
        assert_eq!(computed, [2, 1], "\"b\" is needed in the second batch alone");
    }
}
