//! Sketches as SQL: `uniques`, `quantile_sketch`, and their states, which are stored and merged.
//!
//! | function | takes | gives |
//! | --- | --- | --- |
//! | `uniques` | a text | distinct values, about |
//! | `uniques_state` | a text | the sketch |
//! | `uniques_merge` | sketches | distinct values of all, about |
//! | `quantile_sketch` | a number, a quantile | the value at the quantile |
//! | `quantile_state` | a number | the sketch |
//! | `quantile_merge` | sketches, a quantile | the value at the quantile of all |

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Float64Builder, Int64Builder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

use super::aggregates::{constant_of, passes};
use super::hyperloglog::HyperLogLog;
use super::one_group::OneGroup;
use super::sketch::Sketch;

/// All of them.
pub fn all() -> Vec<AggregateUDF> {
    [
        ("uniques", Kind { sketch: Which::Uniques, takes_states: false, gives_state: false }),
        ("uniques_state", Kind { sketch: Which::Uniques, takes_states: false, gives_state: true }),
        ("uniques_merge", Kind { sketch: Which::Uniques, takes_states: true, gives_state: false }),
        ("quantile_sketch", Kind { sketch: Which::Quantile, takes_states: false, gives_state: false }),
        ("quantile_state", Kind { sketch: Which::Quantile, takes_states: false, gives_state: true }),
        ("quantile_merge", Kind { sketch: Which::Quantile, takes_states: true, gives_state: false }),
    ]
    .into_iter()
    .map(|(name, kind)| {
        AggregateUDF::from(SketchAggregate {
            name,
            kind,
            signature: Signature::variadic_any(Volatility::Immutable),
        })
    })
    .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    Uniques,
    Quantile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    sketch: Which,
    takes_states: bool,
    gives_state: bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SketchAggregate {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl AggregateUDFImpl for SketchAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind { gives_state: true, .. } => DataType::Binary,
            Kind { sketch: Which::Uniques, .. } => DataType::Int64,
            Kind { sketch: Which::Quantile, .. } => DataType::Float64,
        })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[sketch]", args.name), DataType::Binary, true))])
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

impl SketchAggregate {
    fn groups(&self, args: &AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if args.is_distinct {
            return plan_err!("{} takes no DISTINCT", self.name);
        }
        let needs_quantile = self.kind.sketch == Which::Quantile && !self.kind.gives_state;
        let expected = 1 + usize::from(needs_quantile);
        if args.exprs.len() != expected {
            return plan_err!("{} takes {expected} arguments", self.name);
        }
        let quantile = if needs_quantile {
            match constant_of(args, 1).map(|value| value.cast_to(&DataType::Float64)) {
                Some(Ok(ScalarValue::Float64(Some(quantile)))) if (0.0..=1.0).contains(&quantile) => quantile,
                _ => return plan_err!("the quantile of {} must be a constant from 0 to 1", self.name),
            }
        } else {
            0.0
        };
        Ok(match self.kind.sketch {
            Which::Uniques => Box::new(Groups::<HyperLogLog>::new(self.kind, quantile)),
            Which::Quantile => Box::new(Groups::<Sketch>::new(self.kind, quantile)),
        })
    }
}

/// A sketch that values are added to, and others of its kind.
trait Mergeable: Clone + Default + Send + Sync + std::fmt::Debug + 'static {
    fn add_all(
        groups: &mut [Self],
        values: &ArrayRef,
        of: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()>;
    fn merge(&mut self, other: &Self);
    fn to_bytes(&self) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
    fn memory_bytes(&self) -> usize;
    fn results(groups: Vec<Self>, quantile: f64) -> ArrayRef;
}

impl Mergeable for HyperLogLog {
    fn add_all(
        groups: &mut [Self],
        values: &ArrayRef,
        of: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let texts = cast(values, &DataType::Utf8)?;
        for (row, text) in texts.as_string::<i32>().iter().enumerate() {
            if let Some(text) = text.filter(|_| passes(filter, row)) {
                groups[of[row]].add(text.as_bytes());
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        Self::merge(self, other);
    }

    fn to_bytes(&self) -> Vec<u8> {
        Self::to_bytes(self)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_bytes(bytes)
    }

    fn memory_bytes(&self) -> usize {
        Self::memory_bytes(self)
    }

    fn results(groups: Vec<Self>, _: f64) -> ArrayRef {
        let mut counts = Int64Builder::with_capacity(groups.len());
        groups.iter().for_each(|group| counts.append_value(group.count() as i64));
        Arc::new(counts.finish())
    }
}

impl Mergeable for Sketch {
    fn add_all(
        groups: &mut [Self],
        values: &ArrayRef,
        of: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let numbers = cast(values, &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        for row in 0..numbers.len() {
            if numbers.is_valid(row) && passes(filter, row) {
                groups[of[row]].add(numbers.value(row));
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        Self::merge(self, other);
    }

    fn to_bytes(&self) -> Vec<u8> {
        Self::to_bytes(self)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_bytes(bytes)
    }

    fn memory_bytes(&self) -> usize {
        Self::memory_bytes(self)
    }

    fn results(groups: Vec<Self>, quantile: f64) -> ArrayRef {
        let mut values = Float64Builder::with_capacity(groups.len());
        groups.iter().for_each(|group| values.append_option(group.quantile(quantile)));
        Arc::new(values.finish())
    }
}

/// A sketch for each group.
#[derive(Debug)]
struct Groups<S> {
    kind: Kind,
    quantile: f64,
    groups: Vec<S>,
    /// Bytes of memory when they were counted last, and batches since then.
    counted: (usize, u32),
}

/// Batches between two counts of the memory: a count looks at each group.
const COUNT_INTERVAL: u32 = 16;

impl<S: Mergeable> Groups<S> {
    fn new(kind: Kind, quantile: f64) -> Self {
        Self { kind, quantile, groups: Vec::new(), counted: (0, 0) }
    }

    fn add_states(&mut self, states: &ArrayRef, of: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let states = cast(states, &DataType::Binary)?;
        for (row, state) in states.as_binary::<i32>().iter().enumerate() {
            if let Some(sketch) = state.filter(|_| passes(filter, row)).and_then(S::from_bytes) {
                self.groups[of[row]].merge(&sketch);
            }
        }
        Ok(())
    }

    fn resize(&mut self, total: usize) {
        self.groups.resize(total.max(self.groups.len()), S::default());
        self.counted.1 += 1;
        if self.counted.1 >= COUNT_INTERVAL || self.counted.0 == 0 {
            self.counted = (self.groups.iter().map(S::memory_bytes).sum(), 0);
        }
    }
}

impl<S: Mergeable> GroupsAccumulator for Groups<S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.resize(total);
        if self.kind.takes_states {
            return self.add_states(&values[0], groups, filter);
        }
        S::add_all(&mut self.groups, &values[0], groups, filter)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        if self.kind.gives_state {
            return Ok(self.state(emit_to)?.remove(0));
        }
        Ok(S::results(emit_to.take_needed(&mut self.groups), self.quantile))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut state = BinaryBuilder::new();
        emit_to.take_needed(&mut self.groups).iter().for_each(|sketch| state.append_value(sketch.to_bytes()));
        Ok(vec![Arc::new(state.finish())])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.resize(total);
        self.add_states(&values[0], groups, None)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each = Self::new(self.kind, self.quantile);
        let groups: Vec<usize> = (0..values[0].len()).collect();
        each.update_batch(values, &groups, filter, groups.len())?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.counted.0.max(self.groups.capacity() * size_of::<S>())
    }
}
