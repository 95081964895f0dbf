//! Rules that exchange single operators of a plan.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

/// The operator that takes the place of another; `None`: that one stays.
type Exchanged = Option<Arc<dyn ExecutionPlan>>;

/// Exchanges operators of a plan, from its leaves up.
#[derive(Debug)]
pub struct PlanRule {
    /// Name for EXPLAIN VERBOSE.
    pub name: &'static str,
    /// Decision about each operator.
    pub exchange: fn(&Arc<dyn ExecutionPlan>) -> Result<Exchanged>,
}

impl PhysicalOptimizerRule for PlanRule {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let exchanged = plan.transform_up(|plan| match (self.exchange)(&plan)? {
            Some(other) => Ok(Transformed::yes(other)),
            None => Ok(Transformed::no(plan)),
        });
        Ok(exchanged?.data)
    }

    fn name(&self) -> &str {
        self.name
    }

    fn schema_check(&self) -> bool {
        true
    }
}
