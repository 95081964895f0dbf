//! Bounds of a query before it is planned: a short one may stand for a plan, or for texts, of any size.
//!
//! A common table that names the one before it twice doubles the plan, and thirty of them make more nodes than there is memory
//! for, while the planner works without an end that a time limit could set. `x || x` on top of `x || x` doubles a text,
//! which no pool of memory counts. So first the statement is weighed: tables that it names, as if common ones were written
//! out. Then its plan, as a graph whose shared parts are looked at once: nodes, and for each column the nodes of its
//! expression and the texts that it may join, as if it were computed from tables alone.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::sql::sqlparser::ast::{self, ObjectName, Query, Visit, Visitor};
use recursive::recursive;

use super::refused::Refused;

/// Tables that a statement names, common ones written out.
const TABLES_MAX: u64 = 1_000;
/// Expressions within each other: the planner looks at each of them from each one around it.
const DEPTH_MAX: usize = 600;
/// Nodes of an unfolded plan.
const NODES_MAX: u64 = 20_000;
/// Nodes of an unfolded expression.
const SIZE_MAX: u64 = 200_000;
/// Cells of a table, or KiB of texts in the query, that one cell may be joined of.
const TEXT_MAX: u64 = 256;
/// Weight of a cell that was joined of many rows: within the memory of a query, so it is hardly to be doubled.
const JOINED_ROWS: u64 = TEXT_MAX / 2;

/// Weight of a cell.
#[derive(Clone, Copy, Debug)]
struct Cell {
    size: u64,
    text: u64,
}

/// A cell of a table.
const STORED: Cell = Cell { size: 1, text: 1 };

impl Cell {
    fn and(self, other: Self) -> Self {
        Self { size: self.size.saturating_add(other.size), text: self.text.saturating_add(other.text) }
    }

    /// Both are computed, one is kept.
    fn or(self, other: Self) -> Self {
        Self { text: self.text.max(other.text), ..self.and(other) }
    }
}

/// Weight of a plan.
#[derive(Debug)]
struct Weight {
    nodes: u64,
    columns: Vec<Cell>,
}

/// Checks that a statement, with its common tables written out, is bounded.
///
/// # Errors
/// [`Refused::Grows`], or [`Refused::TooComplex`] if too many operators stand in a row.
pub fn check_statement(statement: &ast::Statement) -> std::result::Result<(), Refused> {
    match statement.visit(&mut Tables::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refused) => Err(refused),
    }
}

/// Counts tables, query by query.
#[derive(Default)]
struct Tables {
    /// Queries around the present place, the innermost last.
    queries: Vec<Counted>,
    /// Expressions around the present place.
    depth: usize,
}

#[derive(Default)]
struct Counted {
    tables: u64,
    /// Names of its common tables, by the places of their queries.
    names: HashMap<usize, String>,
    /// Tables of its common tables that were counted.
    common: HashMap<String, u64>,
}

fn place_of(query: &Query) -> usize {
    std::ptr::from_ref(query) as usize
}

impl Visitor for Tables {
    type Break = Refused;

    fn pre_visit_expr(&mut self, _expression: &ast::Expr) -> ControlFlow<Refused> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            ControlFlow::Break(Refused::TooComplex)
        } else {
            ControlFlow::Continue(())
        }
    }

    fn post_visit_expr(&mut self, _expression: &ast::Expr) -> ControlFlow<Refused> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refused> {
        let common = query.with.iter().flat_map(|with| &with.cte_tables);
        let names =
            common.map(|table| (place_of(&table.query), table.alias.name.value.to_lowercase())).collect();
        self.queries.push(Counted { names, ..Counted::default() });
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Refused> {
        let name = relation.to_string().to_lowercase();
        let known =
            self.queries.iter().rev().find_map(|query| query.common.get(name.trim_matches('"')).copied());
        if let Some(query) = self.queries.last_mut() {
            query.tables = query.tables.saturating_add(known.unwrap_or(1));
            if query.tables > TABLES_MAX {
                return ControlFlow::Break(Refused::Grows);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Refused> {
        let Some(counted) = self.queries.pop() else { return ControlFlow::Continue(()) };
        if let Some(around) = self.queries.last_mut() {
            match around.names.get(&place_of(query)) {
                Some(name) => {
                    around.common.insert(name.clone(), counted.tables.max(1));
                }
                None => around.tables = around.tables.saturating_add(counted.tables),
            }
            if around.tables > TABLES_MAX {
                return ControlFlow::Break(Refused::Grows);
            }
        }
        ControlFlow::Continue(())
    }
}

/// Checks that a plan, unfolded, is bounded.
///
/// # Errors
/// [`Refused::Grows`].
pub fn check(plan: &LogicalPlan) -> std::result::Result<(), Refused> {
    let mut scale = Scale::default();
    let weight = scale.plan(plan).map_err(|source| Refused::Syntax(Box::new(source)))?;
    if weight.nodes > NODES_MAX || scale.most.size > SIZE_MAX || scale.most.text > TEXT_MAX {
        return Err(Refused::Grows);
    }
    Ok(())
}

struct Scale {
    known: HashMap<usize, Rc<Weight>>,
    /// The largest cell anywhere.
    most: Cell,
}

impl Default for Scale {
    fn default() -> Self {
        Self { known: HashMap::new(), most: STORED }
    }
}

impl Scale {
    // Thousands of operators in a row are a tree as deep.
    #[recursive]
    fn plan(&mut self, plan: &LogicalPlan) -> Result<Rc<Weight>> {
        // Shared parts lie at the same place.
        let place = std::ptr::from_ref(plan) as usize;
        if let Some(known) = self.known.get(&place) {
            return Ok(known.clone());
        }
        let inputs = plan.inputs().into_iter().map(|input| Ok((input, self.plan(input)?)));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let mut nodes = inputs.iter().fold(1_u64, |sum, (_, weight)| sum.saturating_add(weight.nodes));
        let mut cells = Vec::new();
        plan.apply_expressions(|expression| {
            let cell = self.expression(expression, &inputs, &mut nodes)?;
            self.most.size = self.most.size.max(cell.size);
            self.most.text = self.most.text.max(cell.text);
            cells.push(cell);
            Ok(TreeNodeRecursion::Continue)
        })?;
        let columns = match plan {
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_)
                if cells.len() == plan.schema().fields().len() =>
            {
                cells
            }
            _ => carried(plan, &inputs),
        };
        let weight = Rc::new(Weight { nodes, columns });
        self.known.insert(place, weight.clone());
        Ok(weight)
    }

    #[recursive]
    fn expression(
        &mut self,
        expression: &Expr,
        inputs: &[(&LogicalPlan, Rc<Weight>)],
        nodes: &mut u64,
    ) -> Result<Cell> {
        let subquery = match expression {
            Expr::Column(column) => return Ok(cell_of(column, inputs)),
            Expr::Literal(value, _) => return Ok(literal(value)),
            Expr::ScalarSubquery(subquery) => Some(&subquery.subquery),
            Expr::Exists(exists) => Some(&exists.subquery.subquery),
            Expr::InSubquery(within) => Some(&within.subquery.subquery),
            Expr::SetComparison(any) => Some(&any.subquery.subquery),
            _ => None,
        };
        let mut own = Cell { size: 1, text: 0 };
        if let Some(subquery) = subquery {
            let weight = self.plan(subquery)?;
            *nodes = nodes.saturating_add(weight.nodes);
            own = weight.columns.iter().fold(own, |sum, cell| sum.or(*cell));
        }
        let mut parts = Vec::new();
        expression.apply_children(|part| {
            parts.push(self.expression(part, inputs, nodes)?);
            Ok(TreeNodeRecursion::Continue)
        })?;
        let all = |own: Cell, join: fn(Cell, Cell) -> Cell| parts.iter().copied().fold(own, join);
        Ok(match expression {
            Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => all(own, Cell::and),
            Expr::ScalarFunction(function) => {
                let mut cell = all(own, Cell::and);
                match function.name() {
                    // Each place that matches becomes the third argument; the first, or the second, stands between all others.
                    "replace" | "regexp_replace" => cell.text = times(&parts, &function.args, 0, 2),
                    "concat_ws" => {
                        let rows = parts.len() as u64;
                        let between = parts.first().map_or(0, |first| first.text.saturating_mul(rows));
                        cell.text = cell.text.saturating_add(between);
                    }
                    "array_to_string" => {
                        let (list, between) = (parts.first(), parts.get(1));
                        let between = between.map_or(1, |between| between.text.max(1));
                        cell.text = list.map_or(1, |list| list.text.saturating_mul(between));
                    }
                    _ => {}
                }
                cell
            }
            Expr::AggregateFunction(function) => {
                let is_joined = matches!(function.func.name(), "string_agg" | "array_agg");
                Cell { text: if is_joined { JOINED_ROWS } else { 1 }, ..all(own, Cell::or) }
            }
            // The body of a function is computed for each element of a list.
            Expr::HigherOrderFunction(_) => {
                let text = parts.iter().fold(1_u64, |text, part| text.saturating_mul(part.text.max(1)));
                Cell { text, ..all(own, Cell::and) }
            }
            Expr::LambdaVariable(_) => STORED,
            Expr::WindowFunction(_) => Cell { text: 1, ..all(own, Cell::or) },
            _ => all(own, Cell::or),
        })
    }
}

/// Text of a function that may put its argument `by` into each place of the argument `of`.
fn times(parts: &[Cell], arguments: &[Expr], of: usize, by: usize) -> u64 {
    let base = parts.get(of).map_or(1, |cell| cell.text.max(1));
    match arguments.get(by) {
        Some(Expr::Literal(value, _)) => base.saturating_mul(bytes(value).max(1)),
        Some(_) => u64::MAX,
        None => base,
    }
}

/// Cells of a plan whose columns are those of its inputs.
fn carried(plan: &LogicalPlan, inputs: &[(&LogicalPlan, Rc<Weight>)]) -> Vec<Cell> {
    let fields = plan.schema().fields().len();
    let largest = inputs
        .iter()
        .flat_map(|(_, weight)| &weight.columns)
        .fold(STORED, |most, cell| Cell { size: most.size.max(cell.size), text: most.text.max(cell.text) });
    match inputs {
        [(_, only)] if only.columns.len() == fields => only.columns.clone(),
        _ if matches!(plan, LogicalPlan::Join(_)) => {
            plan.schema().columns().iter().map(|column| cell_of(column, inputs)).collect()
        }
        _ => vec![largest; fields],
    }
}

fn cell_of(column: &Column, inputs: &[(&LogicalPlan, Rc<Weight>)]) -> Cell {
    let found = inputs.iter().find_map(|(input, weight)| {
        let index = input.schema().maybe_index_of_column(column)?;
        weight.columns.get(index).copied()
    });
    found.unwrap_or(STORED)
}

fn literal(value: &ScalarValue) -> Cell {
    Cell { size: 1, text: bytes(value) / 1024 }
}

fn bytes(value: &ScalarValue) -> u64 {
    match value.try_as_str() {
        Some(text) => text.map_or(0, str::len) as u64,
        None => value.size() as u64 / 8,
    }
}
