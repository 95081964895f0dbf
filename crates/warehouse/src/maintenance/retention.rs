//! Retention: rows go when they are older than their rule says.
//!
//! A rule is applied to a file once all of its rows are old enough: files without other rows go whole, the others are
//! written anew. Files hold one day at most, so rows stay up to a day longer than the rule's age.

use std::collections::HashSet;
use std::time::Duration;

use datafusion::functions::expr_fn::right;
use datafusion::logical_expr::{Expr, col, lit};
use serde_json::Value;

use super::rewrite::{self, FileOf};
use super::{Lease, MaintenanceError};
use crate::query::Limits;
use crate::rules::Retention as Rule;
use crate::store::Tables;

/// Bytes of a rewritten file, at most about.
const FILE_BYTES: usize = 128 << 20;

/// Numbers of one application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows that went.
    pub rows: u64,
    /// Files that went or were written anew.
    pub files: u64,
}

/// Applies rules, and remembers which files have nothing left to do.
#[derive(Debug)]
pub struct Retention {
    rules: Vec<Rule>,
    /// Files by rule that hold no rows of it.
    done: HashSet<(usize, String)>,
}

impl Retention {
    /// Applies these rules.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules, done: HashSet::new() }
    }

    /// Applies the rules as of now.
    ///
    /// # Errors
    /// If files can't be read or written. What was committed stays.
    pub async fn apply(
        &mut self,
        tables: &Tables,
        lease: &mut Lease,
        limits: &Limits,
    ) -> Result<Report, MaintenanceError> {
        let now = Duration::from_nanos(crate::loader::now_ns());
        self.apply_at(now, tables, lease, limits).await
    }

    /// Applies the rules as of `now`, since 1970.
    ///
    /// # Errors
    /// As [`Retention::apply`].
    pub async fn apply_at(
        &mut self,
        now: Duration,
        tables: &Tables,
        lease: &mut Lease,
        limits: &Limits,
    ) -> Result<Report, MaintenanceError> {
        let mut report = Report::default();
        if self.rules.is_empty() {
            return Ok(report);
        }
        let mut table = tables.open().await?;
        for (index, rule) in self.rules.iter().enumerate() {
            lease.renew().await?;
            let oldest_kept = i64::try_from(now.saturating_sub(rule.age).as_nanos()).unwrap_or(i64::MAX);
            for file in rewrite::files(&table)? {
                let is_of_kind = rule.kind.as_ref().is_none_or(|kind| *kind == file.key.event_type);
                let key = (index, file.add.path.clone());
                if !is_of_kind
                    || newest(&file).is_none_or(|newest| newest >= oldest_kept)
                    || self.done.contains(&key)
                {
                    continue;
                }
                let removed = match predicate(rule) {
                    None => rewrite::remove(&mut table, &file).await?,
                    Some(predicate) => {
                        rewrite::without(&mut table, &file, &predicate, FILE_BYTES, limits).await?
                    }
                };
                match removed {
                    Some(removed) if removed.rows > 0 => {
                        report.rows += removed.rows;
                        report.files += 1;
                        // What was written in its place has nothing left to do.
                        self.done.extend(removed.written.into_iter().map(|path| (index, path)));
                    }
                    Some(_) => {
                        self.done.insert(key);
                    }
                    None => {}
                }
            }
        }
        Ok(report)
    }
}

/// Newest time of receipt in a file, as its statistics have it.
fn newest(file: &FileOf) -> Option<i64> {
    let statistics: Value = serde_json::from_str(file.add.stats.as_ref()?).ok()?;
    statistics.get("maxValues")?.get("received_ns")?.as_i64()
}

/// Rows of a file that go; `None`: all.
fn predicate(rule: &Rule) -> Option<Expr> {
    let service = rule.service.as_ref().map(|service| col("service").eq(lit(service.clone())));
    let traces = (rule.keep_traces > 0.0).then(|| {
        // Ids of traces are random, in their last digits also where others begin with a time.
        let bound = format!("{:04x}", (rule.keep_traces * 65_536.0) as u32);
        col("trace_id").is_null().or(right(col("trace_id"), lit(4_i64)).gt_eq(lit(bound)))
    });
    match (service, traces) {
        (Some(service), Some(traces)) => Some(service.and(traces)),
        (one, other) => one.or(other),
    }
}
