//! Joins by comparison that read their first side once: where memory doesn't hold it, the query fails and answers nothing wrong.
//!
//! When memory ends, DataFusion 55 runs the first side of a `NestedLoopJoinExec` a second time, to put it on disk. Scans of
//! files give each file to whoever asks first, so the second time there are none, and the join answers with no rows or with
//! some (apache/datafusion issue 24676). Its outer joins are wrong on that way, too (22641). Both are mended in later versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::{
    ChildStats, ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr,
    PlanProperties, ReplaceChildrenOptions, StatisticsArgs,
};

use super::plan_rule::PlanRule;

/// Puts a [`ReadOnceExec`] before the first side of each join by comparison.
pub const READ_ONCE: PlanRule = PlanRule {
    name: "joins that read once",
    exchange: |plan| {
        let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() else { return Ok(None) };
        let first: Arc<dyn ExecutionPlan> = Arc::new(ReadOnceExec::new(join.left().clone()));
        let anew = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        plan.clone().replace_children(vec![first, join.right().clone()], anew).map(Some)
    },
};

/// Rows of its input, each partition once; an error for who asks again.
#[derive(Debug)]
struct ReadOnceExec {
    input: Arc<dyn ExecutionPlan>,
    was_read: Vec<AtomicBool>,
}

impl ReadOnceExec {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let partitions = input.properties().partitioning.partition_count();
        Self { input, was_read: (0..partitions).map(|_| AtomicBool::new(false)).collect() }
    }
}

impl DisplayAs for ReadOnceExec {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadOnceExec")
    }
}

impl ExecutionPlan for ReadOnceExec {
    fn name(&self) -> &str {
        "ReadOnceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.pop()) {
            (Some(input), None) => Ok(Arc::new(Self::new(input))),
            _ => Err(DataFusionError::Internal("ReadOnceExec has one input".to_owned())),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let is_first =
            self.was_read.get(partition).is_some_and(|was_read| !was_read.swap(true, Ordering::Relaxed));
        if is_first {
            return self.input.execute(partition, context);
        }
        Err(DataFusionError::ResourcesExhausted(
            "a join by comparison, such as a.x < b.x, needs one of its sides in memory, and the query has not so much; \
             join by =, filter before, or raise query_memory_mib"
                .to_owned(),
        ))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(inputs[0].clone())
    }
}
