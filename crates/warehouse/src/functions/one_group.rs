//! An accumulator for groups as one without groups.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{Array, ArrayRef, BinaryArray};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

/// An aggregate without GROUP BY: one group.
pub(super) struct OneGroup {
    /// A lock, because an accumulator must be shareable; it is never contended.
    groups: Mutex<Box<dyn GroupsAccumulator>>,
}

impl std::fmt::Debug for OneGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OneGroup")
    }
}

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let groups = vec![0; values.first().map_or(0, Array::len)];
        self.groups_mut().update_batch(values, &groups, None, 1)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let groups = vec![0; states.first().map_or(0, Array::len)];
        self.groups_mut().merge_batch(states, &groups, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.make_group()?;
        ScalarValue::try_from_array(&self.groups_mut().evaluate(EmitTo::All)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.make_group()?;
        let states = self.groups_mut().state(EmitTo::All)?;
        states.iter().map(|state| ScalarValue::try_from_array(state, 0)).collect()
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.lock().unwrap_or_else(PoisonError::into_inner).size()
    }
}

impl OneGroup {
    pub(super) fn new(groups: Box<dyn GroupsAccumulator>) -> Self {
        Self { groups: Mutex::new(groups) }
    }

    fn groups_mut(&mut self) -> &mut dyn GroupsAccumulator {
        self.groups.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut()
    }

    /// The one group is there also without rows.
    fn make_group(&mut self) -> Result<()> {
        let none: ArrayRef = Arc::new(BinaryArray::from(Vec::<&[u8]>::new()));
        self.groups_mut().merge_batch(&[none], &[], 1)
    }
}
