//! `lag` and `lead` over rows that are sorted by partition: whole batches at a time, whatever the number of partitions.
//!
//! DataFusion's `BoundedWindowAggExec` cuts each partition out of its batches and keeps a state for it. With a million sessions
//! of ten events each, that takes longer than to read and sort them.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use datafusion::arrow::compute::{concat, interleave, partition};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, ScalarValue, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::functions_window::lead_lag::WindowShift;
use datafusion::physical_expr::window::StandardWindowExpr;
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::expressions::Literal;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowUDFExpr};
use datafusion::physical_plan::{
    ChildStats, ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, InputOrderMode,
    PhysicalExpr, PlanProperties, ReplaceChildrenOptions, StatisticsArgs, WindowExpr,
};
use futures::{StreamExt, stream};

use super::plan_rule::PlanRule;

/// Farthest row that is looked for, in rows: so many are in memory.
const DISTANCE_MAX: usize = 1024;

/// Puts a [`LagLeadExec`] in the place of windows that have `lag` and `lead` alone.
pub const LAG_LEAD: PlanRule = PlanRule {
    name: "lag and lead of whole batches",
    exchange: |plan| {
        let exec = plan.downcast_ref::<BoundedWindowAggExec>().and_then(LagLeadExec::of);
        Ok(exec.map(|exec| Arc::new(exec) as _))
    },
};

/// A value of another row of the same partition.
#[derive(Clone, Debug)]
struct Shift {
    value: Arc<dyn PhysicalExpr>,
    /// Rows to the other one: less than 0 for those before.
    distance: isize,
}

impl Shift {
    /// The shift of a window's expression; `None` if it is no `lag` or `lead`, has a default, or reaches too far.
    fn of(expression: &dyn WindowExpr) -> Option<Self> {
        let standard = expression.as_any().downcast_ref::<StandardWindowExpr>()?;
        let function = standard.get_standard_func_expr();
        let call = function.as_any().downcast_ref::<WindowUDFExpr>()?;
        call.fun().inner().downcast_ref::<WindowShift>()?;
        let has_default = call.args().get(2).is_some_and(|default| {
            default.downcast_ref::<Literal>().is_none_or(|literal| !literal.value().is_null())
        });
        // The rows that it needs around one amid many say how far it looks, also where a window was turned around. With
        // IGNORE NULLS it may need them all.
        const ROW: usize = 1 << 20;
        let needed = function.create_evaluator().ok()?.get_range(ROW, 2 * ROW).ok()?;
        let distance = match (ROW.checked_sub(needed.start)?, needed.end.checked_sub(ROW)?) {
            (before @ 1..=DISTANCE_MAX, 1) => -(before as isize),
            (0, after @ 1..=DISTANCE_MAX) => after as isize,
            _ => return None,
        };
        let value = function.expressions().into_iter().next()?;
        // `lag(x, 0)` and `lead(x, 1)` need the same rows.
        let is_itself =
            call.args().get(1).and_then(|offset| offset.downcast_ref::<Literal>()).is_some_and(|offset| {
                ScalarValue::new_zero(&offset.value().data_type()).is_ok_and(|zero| zero == *offset.value())
            });
        (!has_default && !is_itself).then_some(Self { value, distance })
    }
}

/// Columns of its input and, behind them, values of rows before and after.
#[derive(Debug)]
struct LagLeadExec {
    /// The window that it stands for: its properties are the same.
    window: Arc<dyn ExecutionPlan>,
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    shifts: Vec<Shift>,
}

impl LagLeadExec {
    /// `None` if the window has other functions, or its input isn't sorted by partition.
    fn of(window: &BoundedWindowAggExec) -> Option<Self> {
        if window.input_order_mode != InputOrderMode::Sorted {
            return None;
        }
        let shifts = window.window_expr().iter().map(|expression| Shift::of(expression.as_ref()));
        Some(Self {
            shifts: shifts.collect::<Option<_>>()?,
            keys: window.window_expr().first()?.partition_by().to_vec(),
            input: window.input().clone(),
            window: Arc::new(window.clone()),
        })
    }
}

impl DisplayAs for LagLeadExec {
    fn fmt_as(&self, form: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LagLeadExec of ")?;
        let window = self.window.downcast_ref::<BoundedWindowAggExec>();
        window.map_or(Ok(()), |window| window.fmt_as(form, f))
    }
}

impl ExecutionPlan for LagLeadExec {
    fn name(&self) -> &str {
        "LagLeadExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.window.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        self.window.input_distribution_requirements()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.window.apply_expressions(visit)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let window = self.window.clone().replace_children(children, options)?;
        let exec = window.downcast_ref::<BoundedWindowAggExec>().and_then(Self::of);
        // Over another input it may be a window again.
        Ok(exec.map_or(window, |exec| Arc::new(exec) as Arc<dyn ExecutionPlan>))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let rows = Rows::new(self.schema(), self.keys.clone(), self.shifts.clone());
        let state = (input, rows);
        let batches = stream::try_unfold(state, |(mut input, mut rows)| async move {
            loop {
                if let Some(batch) = rows.next()? {
                    return Ok(Some((batch, (input, rows))));
                }
                match input.next().await {
                    Some(batch) => rows.push(batch?)?,
                    None if rows.is_complete => return Ok(None),
                    None => rows.is_complete = true,
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.window.child_stats_requests(partition)
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.window.statistics_from_inputs(inputs, args)
    }
}

/// A batch of the input.
struct Batch {
    rows: RecordBatch,
    /// Values of each shift.
    values: Vec<ArrayRef>,
    /// Number of each row's partition.
    partitions: Vec<u64>,
}

/// Batches of which a next row may need values.
struct Rows {
    schema: SchemaRef,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    shifts: Vec<Shift>,
    /// Most rows before and after.
    reach: (usize, usize),
    batches: VecDeque<Batch>,
    /// The first of them that wasn't given out.
    next: usize,
    /// Keys of the last row, and its partition.
    last: Option<(Vec<ArrayRef>, u64)>,
    /// True if no batch comes any more.
    is_complete: bool,
}

impl Rows {
    fn new(schema: SchemaRef, keys: Vec<Arc<dyn PhysicalExpr>>, shifts: Vec<Shift>) -> Self {
        let most = |sign: isize| shifts.iter().map(|shift| (shift.distance * sign).max(0)).max();
        let reach = (most(-1).unwrap_or(0) as usize, most(1).unwrap_or(0) as usize);
        Self {
            schema,
            keys,
            shifts,
            reach,
            batches: VecDeque::new(),
            next: 0,
            last: None,
            is_complete: false,
        }
    }

    fn push(&mut self, rows: RecordBatch) -> Result<()> {
        let count = rows.num_rows();
        if count == 0 {
            return Ok(());
        }
        let array = |expression: &Arc<dyn PhysicalExpr>| expression.evaluate(&rows)?.into_array(count);
        let keys = self.keys.iter().map(array).collect::<Result<Vec<_>>>()?;
        let values = self.shifts.iter().map(|shift| array(&shift.value)).collect::<Result<_>>()?;
        let mut number = match &self.last {
            None => 0,
            Some((last, number)) => number + u64::from(!is_same(last, &keys)?),
        };
        let mut partitions = Vec::with_capacity(count);
        if keys.is_empty() {
            partitions.resize(count, number);
        } else {
            for (index, range) in partition(&keys)?.ranges().into_iter().enumerate() {
                number += u64::from(index > 0);
                partitions.resize(range.end, number);
            }
        }
        self.last = Some((keys.iter().map(|key| key.slice(count - 1, 1)).collect(), number));
        self.batches.push_back(Batch { rows, values, partitions });
        Ok(())
    }

    /// The next batch, if all rows that it needs are there.
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let behind: usize = self.batches.iter().skip(self.next + 1).map(|batch| batch.rows.num_rows()).sum();
        let is_ready = self.is_complete || behind >= self.reach.1;
        let Some(batch) = self.batches.get(self.next).filter(|_| is_ready) else { return Ok(None) };
        let mut columns = batch.rows.columns().to_vec();
        for (index, shift) in self.shifts.iter().enumerate() {
            columns.push(self.shifted(index, shift.distance)?);
        }
        self.next += 1;
        // The oldest ones go, while enough rows before the next batch stay.
        let rows_of = |batch: &Batch| batch.rows.num_rows();
        let mut before: usize = self.batches.iter().take(self.next).map(rows_of).sum();
        while self.next > 0 && before - self.batches.front().map_or(0, rows_of) >= self.reach.0 {
            before -= self.batches.pop_front().as_ref().map_or(0, rows_of);
            self.next -= 1;
        }
        Ok(Some(RecordBatch::try_new(self.schema.clone(), columns)?))
    }

    /// Values at a distance from the rows of the next batch; null where that row is of another partition.
    fn shifted(&self, shift: usize, distance: isize) -> Result<ArrayRef> {
        let batch = &self.batches[self.next];
        let mut arrays: Vec<&dyn Array> =
            self.batches.iter().map(|batch| batch.values[shift].as_ref()).collect();
        let null = new_null_array(arrays[self.next].data_type(), 1);
        let absent = (arrays.len(), 0);
        arrays.push(null.as_ref());
        let places: Vec<_> = (0..batch.partitions.len())
            .map(|row| match self.place(row as isize + distance) {
                Some((index, other)) if self.batches[index].partitions[other] == batch.partitions[row] => {
                    (index, other)
                }
                _ => absent,
            })
            .collect();
        Ok(interleave(&arrays, &places)?)
    }

    /// Batch and row of a row that is counted from the first one of the next batch.
    fn place(&self, mut row: isize) -> Option<(usize, usize)> {
        let mut index = self.next;
        while row < 0 {
            index = index.checked_sub(1)?;
            row += self.batches[index].partitions.len() as isize;
        }
        loop {
            let rows = self.batches.get(index)?.partitions.len() as isize;
            if row < rows {
                return Some((index, row as usize));
            }
            row -= rows;
            index += 1;
        }
    }
}

/// True if the first row of `keys` has the keys of the row `last`.
fn is_same(last: &[ArrayRef], keys: &[ArrayRef]) -> Result<bool> {
    if keys.is_empty() {
        return Ok(true);
    }
    let both = last.iter().zip(keys).map(|(last, key)| concat(&[last.as_ref(), key.slice(0, 1).as_ref()]));
    let both = both.collect::<Result<Vec<_>, _>>().map_err(DataFusionError::from)?;
    Ok(partition(&both)?.len() == 1)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// Rows of sessions of some lengths, among them none and null, in batches.
    fn table(seed: u64) -> MemTable {
        let mut random = fastrand::Rng::with_seed(seed);
        let schema = Arc::new(Schema::new(vec![
            Field::new("session", DataType::Utf8, true),
            Field::new("time", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
        ]));
        let batches = (0..random.usize(1..6)).map(|_| {
            let rows = random.usize(0..60);
            let sessions = random.u32(1..20);
            let session: StringArray = (0..rows)
                .map(|_| random.u8(..).ge(&20).then(|| format!("session {}", random.u32(..sessions))))
                .collect();
            let time: Int64Array = (0..rows).map(|_| Some(random.i64(..))).collect();
            let name: StringArray = (0..rows)
                .map(|_| random.u8(..).ge(&50).then(|| format!("event {}", random.u8(..5))))
                .collect();
            RecordBatch::try_new(schema.clone(), vec![Arc::new(session), Arc::new(time), Arc::new(name)])
                .unwrap()
        });
        MemTable::try_new(schema.clone(), vec![batches.collect()]).unwrap()
    }

    /// Answer of a statement, and its plan.
    async fn ask(sql: &str, seed: u64, is_ours: bool) -> (String, String) {
        let batch_rows = fastrand::Rng::with_seed(seed).usize(1..40);
        let config = SessionConfig::new().with_batch_size(batch_rows).with_target_partitions(2);
        let mut state = SessionStateBuilder::new().with_default_features().with_config(config);
        if is_ours {
            state = state.with_physical_optimizer_rule(Arc::new(LAG_LEAD));
        }
        let context = SessionContext::new_with_state(state.build());
        context.register_table("events", Arc::new(table(seed))).unwrap();
        let text = async |sql: &str| {
            let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
            pretty_format_batches(&batches).unwrap().to_string()
        };
        (text(&format!("{sql} ORDER BY session, time")).await, text(&format!("EXPLAIN {sql}")).await)
    }

    #[tokio::test]
    async fn answers_are_those_of_datafusion() {
        const OVER: &str = "OVER (PARTITION BY session ORDER BY time)";
        const BACK: &str = "OVER (PARTITION BY session ORDER BY time DESC)";
        for seed in 0..60 {
            for columns in [
                format!("lead(name) {OVER}"),
                format!("lag(time) {OVER}, time - lag(time, 3) {OVER}, lead(session, 2) {OVER}"),
                format!("lead(name, -2) {OVER}, lag(name, 40) {OVER}"),
                format!("lag(name) {OVER}, lag(name) {BACK}"),
                "lag(name, 2) OVER (ORDER BY time), lead(time, 55) OVER (ORDER BY time)".to_owned(),
                "lead(name) OVER (PARTITION BY session, name IS NULL ORDER BY time)".to_owned(),
            ] {
                let sql = format!("SELECT session, time, {columns} FROM events");
                let (ours, plan) = ask(&sql, seed, true).await;
                let (theirs, _) = ask(&sql, seed, false).await;
                assert_eq!(ours, theirs, "{sql} with seed {seed}");
                assert!(plan.contains("LagLeadExec"), "{plan}");
            }
        }
    }

    #[tokio::test]
    async fn other_windows_stay_with_datafusion() {
        for call in [
            "lead(name, 1, 'nothing')",
            "lead(name, 0)",
            "lag(name, 0)",
            "lag(name, 5000)",
            "lag(name) IGNORE NULLS",
            "lead(name) IGNORE NULLS",
            "row_number()",
            "count(*)",
        ] {
            let sql =
                format!("SELECT session, time, {call} OVER (PARTITION BY session ORDER BY time) FROM events");
            let (ours, plan) = ask(&sql, 7, true).await;
            assert!(!plan.contains("LagLeadExec"), "{plan}");
            assert_eq!(ours, ask(&sql, 7, false).await.0);
        }
    }
}
