//! Aggregates over the events of a group: `window_funnel`, `retention`, `sequence_match`, `sequence_count`.
//!
//! Rows of all groups lie in one vector and are sorted once, when the result is asked for: that is far cheaper than a
//! vector for each group.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, Int64Array,
    Int64Builder, ListBuilder, UInt8Builder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::expressions::Literal;

use super::funnel::{self, CONDITIONS_MAX, Modes};
use super::one_group::OneGroup;
use super::sequence::Pattern;

/// All aggregates.
pub fn all() -> Vec<AggregateUDF> {
    [Kind::Funnel, Kind::Retention, Kind::SequenceMatch, Kind::SequenceCount]
        .into_iter()
        .map(|kind| {
            AggregateUDF::from(EventAggregate {
                kind,
                signature: Signature::variadic_any(Volatility::Immutable),
            })
        })
        .collect()
}

/// Kind of aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// `window_funnel(window [, 'mode'…], time, condition…)`: how many steps were reached.
    Funnel,
    /// `retention(condition…)`: for each condition 1 if it and the first were met.
    Retention,
    /// `sequence_match('pattern', time, condition…)`.
    SequenceMatch,
    /// `sequence_count('pattern', time, condition…)`.
    SequenceCount,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct EventAggregate {
    kind: Kind,
    signature: Signature,
}

/// Constants of a call, and the places of its other arguments.
#[derive(Clone, Debug)]
enum Call {
    Funnel { window: u64, modes: Modes, time: usize, steps: usize },
    Retention { conditions: usize },
    Sequence { pattern: Pattern, counts: bool },
}

impl AggregateUDFImpl for EventAggregate {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Funnel => "window_funnel",
            Kind::Retention => "retention",
            Kind::SequenceMatch => "sequence_match",
            Kind::SequenceCount => "sequence_count",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Funnel | Kind::SequenceCount => DataType::Int64,
            Kind::Retention => DataType::List(Arc::new(Field::new_list_field(DataType::UInt8, true))),
            Kind::SequenceMatch => DataType::Boolean,
        })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[rows]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneGroup::new(self.groups(&args)?)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.groups(&args)
    }
}

impl EventAggregate {
    fn groups(&self, args: &AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if args.is_distinct {
            return plan_err!("{} takes no DISTINCT", self.name());
        }
        let call = self.call(args)?;
        Ok(match call {
            Call::Retention { conditions } => Box::new(Seen { conditions, groups: Vec::new() }),
            call => Box::new(EventRows { call, rows: Vec::new(), groups: 0 }),
        })
    }

    fn call(&self, args: &AccumulatorArgs<'_>) -> Result<Call> {
        let given = args.exprs.len();
        let constant = |index: usize| constant_of(args, index);
        match self.kind {
            Kind::Retention if (1..=CONDITIONS_MAX).contains(&given) => {
                Ok(Call::Retention { conditions: given })
            }
            Kind::Retention => plan_err!("retention takes 1 to {CONDITIONS_MAX} conditions"),
            Kind::SequenceMatch | Kind::SequenceCount => {
                let Some(Some(pattern)) = constant(0).map(|value| text(&value)) else {
                    return plan_err!("the pattern of {} must be a constant text", self.name());
                };
                if given < 3 || given - 2 > CONDITIONS_MAX {
                    return plan_err!(
                        "{} takes a pattern, a time and 1 to {CONDITIONS_MAX} conditions",
                        self.name()
                    );
                }
                let pattern = Pattern::parse(&pattern, given - 2);
                let pattern = pattern.map_err(|error| DataFusionError::External(Box::new(error)))?;
                Ok(Call::Sequence { pattern, counts: self.kind == Kind::SequenceCount })
            }
            Kind::Funnel => funnel_call(given, constant),
        }
    }
}

/// Value of an argument that is a constant.
pub(super) fn constant_of(args: &AccumulatorArgs<'_>, index: usize) -> Option<ScalarValue> {
    args.exprs.get(index)?.downcast_ref::<Literal>().map(|literal| literal.value().clone())
}

fn funnel_call(given: usize, constant: impl Fn(usize) -> Option<ScalarValue>) -> Result<Call> {
    let window = constant(0).map(|value| value.cast_to(&DataType::UInt64));
    let Some(Ok(ScalarValue::UInt64(Some(window)))) = window else {
        return plan_err!("the window of window_funnel must be a constant, in the unit of its time");
    };
    let mut modes = Modes::default();
    let mut time = 1;
    while let Some(mode) = constant(time).and_then(|value| text(&value)) {
        match mode.as_str() {
            "strict_deduplication" => modes.strict_deduplication = true,
            "strict_order" => modes.strict_order = true,
            "strict_increase" => modes.strict_increase = true,
            _ => {
                return plan_err!(
                    "window_funnel has no mode {mode:?}; there are strict_deduplication, strict_order, strict_increase"
                );
            }
        }
        time += 1;
    }
    let steps = given.saturating_sub(time + 1);
    if !(1..=CONDITIONS_MAX).contains(&steps) {
        return plan_err!("window_funnel takes a window, modes, a time and 1 to {CONDITIONS_MAX} conditions");
    }
    Ok(Call::Funnel { window, modes, time, steps })
}

fn text(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => text.clone(),
        _ => None,
    }
}

/// Times as numbers: integers as they are, timestamps in their own unit.
fn times(array: &ArrayRef) -> Result<Int64Array> {
    let numbers = match array.data_type() {
        kind if kind.is_integer() || matches!(kind, DataType::Timestamp(..)) => {
            cast(array, &DataType::Int64)?
        }
        kind => return exec_err!("time must be a whole number or a timestamp, not {kind}"),
    };
    Ok(numbers.as_primitive::<Int64Type>().clone())
}

/// Conditions that each row meets, bit by bit; null is false.
fn conditions(arrays: &[ArrayRef]) -> Result<Vec<u32>> {
    let mut met = vec![0; arrays.first().map_or(0, Array::len)];
    for (bit, array) in arrays.iter().enumerate() {
        let Some(array) = array.as_boolean_opt() else {
            return exec_err!("a condition must be true or false, not {}", array.data_type());
        };
        for index in array.values().set_indices() {
            if array.is_valid(index) {
                met[index] |= 1 << bit;
            }
        }
    }
    Ok(met)
}

pub(super) fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

/// Time and conditions of one row, and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    group: u32,
    time: u64,
    conditions: u32,
}

const ROW_BYTES: usize = 12;

/// Rows of all groups, for funnels and sequences.
#[derive(Debug)]
struct EventRows {
    call: Call,
    rows: Vec<Row>,
    groups: usize,
}

impl EventRows {
    /// Takes the rows of the groups to emit, sorted.
    fn take(&mut self, emit_to: EmitTo) -> (usize, Vec<Row>) {
        self.rows.sort_unstable();
        match emit_to {
            EmitTo::All => (std::mem::take(&mut self.groups), std::mem::take(&mut self.rows)),
            EmitTo::First(count) => {
                let split = self.rows.partition_point(|row| (row.group as usize) < count);
                let rest = self.rows.split_off(split);
                let taken = std::mem::replace(&mut self.rows, rest);
                self.rows.iter_mut().for_each(|row| row.group -= count as u32);
                self.groups -= count;
                (count, taken)
            }
        }
    }

    fn keeps(&self, conditions: u32) -> bool {
        // Only the strict order minds events that take no step.
        conditions != 0 || matches!(self.call, Call::Funnel { modes: Modes { strict_order: true, .. }, .. })
    }
}

/// Hands the rows of each group to `take`, also those of groups without rows.
fn each_group(groups: usize, rows: &[Row], mut take: impl FnMut(&[Row]) -> Result<()>) -> Result<()> {
    let mut rest = rows;
    for group in 0..groups {
        let length = rest.iter().take_while(|row| row.group as usize == group).count();
        let (own, after) = rest.split_at(length);
        take(own)?;
        rest = after;
    }
    Ok(())
}

impl GroupsAccumulator for EventRows {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.groups = self.groups.max(total);
        let time = match &self.call {
            Call::Funnel { time, .. } => *time,
            _ => 1,
        };
        let met = conditions(&values[time + 1..])?;
        let times = times(&values[time])?;
        for (row, &group) in groups.iter().enumerate() {
            if self.keeps(met[row]) && times.is_valid(row) && passes(filter, row) {
                // Times before 1970 stay before all others.
                let time = (times.value(row) as u64) ^ (1 << 63);
                self.rows.push(Row { group: group as u32, time, conditions: met[row] });
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (groups, rows) = self.take(emit_to);
        match &self.call {
            Call::Funnel { window, modes, steps, .. } => {
                let mut result = Int64Builder::with_capacity(groups);
                let mut taken = Vec::new();
                each_group(groups, &rows, |rows| {
                    steps_of(rows, *steps, &mut taken);
                    result.append_value(funnel::window_funnel(&taken, *steps, *window, *modes) as i64);
                    Ok(())
                })?;
                Ok(Arc::new(result.finish()))
            }
            Call::Sequence { pattern, counts } => {
                let (mut matched, mut counted) = (BooleanBuilder::new(), Int64Builder::new());
                let mut events = Vec::new();
                each_group(groups, &rows, |rows| {
                    events.clear();
                    events.extend(rows.iter().map(|row| (row.time, row.conditions)));
                    let failed = |error| DataFusionError::External(Box::new(error));
                    if *counts {
                        counted.append_value(pattern.count(&events).map_err(failed)? as i64);
                    } else {
                        matched.append_value(pattern.matches(&events).map_err(failed)?);
                    }
                    Ok(())
                })?;
                Ok(if *counts { Arc::new(counted.finish()) } else { Arc::new(matched.finish()) })
            }
            Call::Retention { .. } => exec_err!("the aggregate has no rows"),
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (groups, rows) = self.take(emit_to);
        let mut state = BinaryBuilder::new();
        let mut bytes = Vec::new();
        each_group(groups, &rows, |rows| {
            bytes.clear();
            for row in rows {
                bytes.extend_from_slice(&row.time.to_le_bytes());
                bytes.extend_from_slice(&row.conditions.to_le_bytes());
            }
            state.append_value(&bytes);
            Ok(())
        })?;
        Ok(vec![Arc::new(state.finish())])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.groups = self.groups.max(total);
        let state: &BinaryArray = values[0].as_binary();
        for (bytes, &group) in state.iter().zip(groups) {
            let (rows, _) = bytes.unwrap_or_default().as_chunks::<ROW_BYTES>();
            self.rows.extend(rows.iter().map(|row| Row {
                group: group as u32,
                time: u64::from_le_bytes(*row.first_chunk().expect("eight of twelve bytes")),
                conditions: u32::from_le_bytes(*row.last_chunk().expect("four of twelve bytes")),
            }));
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each = Self { call: self.call.clone(), rows: Vec::new(), groups: 0 };
        let groups: Vec<usize> = (0..values[0].len()).collect();
        each.update_batch(values, &groups, filter, groups.len())?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
    }
}

fn steps_of(rows: &[Row], steps: usize, taken: &mut Vec<funnel::Step>) {
    taken.clear();
    for row in rows {
        if row.conditions == 0 {
            taken.push((row.time, 0));
        }
        let mut left = row.conditions;
        while left != 0 {
            let step = left.trailing_zeros();
            left &= left - 1;
            if (step as usize) < steps {
                taken.push((row.time, step as u8 + 1));
            }
        }
    }
    // Rows are sorted by time; steps of the same time may not be.
    taken.sort_unstable();
}

/// Conditions that were met by any row of a group.
#[derive(Debug)]
struct Seen {
    conditions: usize,
    groups: Vec<u32>,
}

impl GroupsAccumulator for Seen {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.groups.resize(total.max(self.groups.len()), 0);
        let met = conditions(values)?;
        for (row, &group) in groups.iter().enumerate() {
            if passes(filter, row) {
                self.groups[group] |= met[row];
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut result = ListBuilder::new(UInt8Builder::new());
        for seen in emit_to.take_needed(&mut self.groups) {
            result.values().append_slice(&funnel::retention(seen, self.conditions));
            result.append(true);
        }
        Ok(Arc::new(result.finish()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut state = BinaryBuilder::new();
        emit_to
            .take_needed(&mut self.groups)
            .into_iter()
            .for_each(|seen| state.append_value(seen.to_le_bytes()));
        Ok(vec![Arc::new(state.finish())])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.groups.resize(total.max(self.groups.len()), 0);
        let state: &BinaryArray = values[0].as_binary();
        for (bytes, &group) in state.iter().zip(groups) {
            if let Some(Ok(seen)) = bytes.map(<[u8; 4]>::try_from) {
                self.groups[group] |= u32::from_le_bytes(seen);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each = Self { conditions: self.conditions, groups: Vec::new() };
        let groups: Vec<usize> = (0..values[0].len()).collect();
        each.update_batch(values, &groups, filter, groups.len())?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.groups.capacity() * 4
    }
}
