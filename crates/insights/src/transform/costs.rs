//! `cost_analysis`: each cost of the bill shared out to owners. A part for each day.
//!
//! A cost with the tag feature, campaign, tenant or team goes to it *directly*. Another one of a resource whose CPU was
//! measured on that day is shared by *use*: the measured part goes to the features (screens) by their events of the day, the rest is
//! *idle*. Others are *shared* by the events of the day. Where there were none, it is *unallocated*. The parts of each cost sum to it, to
//! the billionth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, RecordBatch, StringArray, UInt32Array,
};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::arrow::error::ArrowError;
use tickstream_warehouse_core::derived::{AMOUNT_SCALE, COST_ANALYSIS, Kind};
use tickstream_warehouse_core::maintenance::changes::since;
use tickstream_warehouse_core::maintenance::{Exchange, Part};

use super::{DAY_NS, DirtyDays, Done, TransformError, Work, between, day_name, runs, text, texts};
use crate::cost::{Allocation, IDLE, Nanos, UNALLOCATED};

/// Kinds of events that change costs and their shares.
const KINDS: [&str; 5] = ["cost", "infrastructure_metric", "user_interaction", "custom", "video"];
/// Tags that name an owner, in the order in which they count.
const TAGS: [&str; 4] = ["feature", "campaign", "tenant", "team"];
/// Columns before those of FOCUS: the cost's id and time, and the owner's part.
const BEFORE: usize = 6;

/// Brings the table up to date.
pub async fn update(work: &Work<'_>) -> Result<Option<Done>, TransformError> {
    let mut exchange = Exchange::begin(work.tables, &COST_ANALYSIS).await?;
    let version = work.version();
    if !work.is_rebuild && exchange.seen() == Some(version) {
        return Ok(None);
    }
    let mut dirty = DirtyDays::of(&KINDS);
    let seen = exchange.seen().filter(|_| !work.is_rebuild);
    let is_all = !since(&work.events, seen, &mut dirty).await?;
    let sql = format!("SELECT DISTINCT timestamp_ns / {DAY_NS} FROM events WHERE event_type = 'cost'");
    let with_costs = work.integers(&sql).await?;
    let has_part = |day: &i64| exchange.has(&day_name(*day));
    let days: BTreeSet<i64> = match is_all {
        true => with_costs,
        // A day whose costs went has a part to be given up.
        false => dirty.days.into_iter().filter(|day| with_costs.contains(day) || has_part(day)).collect(),
    };
    for (first, last) in runs(&days) {
        let (used, busy) = (use_of(work, first, last).await?, busy_of(work, first, last).await?);
        for day in first..=last {
            let uses = used.get(&day).cloned().unwrap_or_default();
            let mut rows = Vec::new();
            work.each(&costs_sql(day), |batch| {
                let busy = |resource: &str| busy.get(&(day, resource.to_owned())).copied();
                rows.push(shared_out(batch, &uses, &busy)?);
                Ok(())
            })
            .await?;
            rows.retain(|batch| batch.num_rows() > 0);
            exchange.give(Part { name: day_name(day), rows }).await?;
        }
    }
    let (parts, rows) = exchange.commit(version, is_all).await?;
    Ok(Some(Done { table: COST_ANALYSIS.name, parts, rows }))
}

/// Costs of a day: tags, id, then all columns of FOCUS; sorted, so that the rows are always the same.
fn costs_sql(day: i64) -> String {
    let tags = TAGS.map(|tag| format!("json_text(raw_data, 'cost.tags.{tag}')"));
    let columns = COST_ANALYSIS.columns[BEFORE..].iter().map(|(name, kind)| {
        let function = match kind {
            Kind::Amount | Kind::Number => "json_number",
            Kind::Time => "json_time",
            _ if *name == "tags" => "json_value",
            _ => "json_text",
        };
        format!("{function}(raw_data, 'cost.{name}') AS {name}")
    });
    let columns: Vec<_> = columns.collect();
    format!(
        "SELECT {}, event_id, timestamp_ns, {} FROM events WHERE event_type = 'cost' AND {} ORDER BY timestamp_ns, event_id",
        tags.join(", "),
        columns.join(", "),
        between(day, day)
    )
}

/// Events of each feature, by day.
async fn use_of(
    work: &Work<'_>,
    first: i64,
    last: i64,
) -> Result<HashMap<i64, BTreeMap<String, f64>>, TransformError> {
    let sql = format!(
        "SELECT timestamp_ns / {DAY_NS}, screen_name, count(*) FROM events WHERE event_type IN ('user_interaction', 'custom', 'video') \
         AND screen_name IS NOT NULL AND {} GROUP BY 1, 2",
        between(first, last)
    );
    let mut found: HashMap<i64, BTreeMap<String, f64>> = HashMap::new();
    work.each(&sql, |batch| {
        let (days, features) = (batch.column(0).as_primitive::<Int64Type>(), texts(batch, 1)?);
        let events = batch.column(2).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let of_day = found.entry(days.value(row)).or_default();
            of_day.insert(text(&features, row).to_owned(), events.value(row) as f64);
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

/// Mean share of its CPU that each resource used, by day. The values are summed up in their order, so that it is always the same.
async fn busy_of(
    work: &Work<'_>,
    first: i64,
    last: i64,
) -> Result<HashMap<(i64, String), f64>, TransformError> {
    let sql = format!(
        "SELECT timestamp_ns / {DAY_NS}, resource_id, array_agg(json_number(raw_data, 'infrastructure_metric.measurements.cpu_usage')) \
         FROM events WHERE event_type = 'infrastructure_metric' AND resource_id IS NOT NULL AND {} GROUP BY 1, 2",
        between(first, last)
    );
    let mut found = HashMap::new();
    work.each(&sql, |batch| {
        let (days, resources) = (batch.column(0).as_primitive::<Int64Type>(), texts(batch, 1)?);
        let usages = batch.column(2).as_list::<i32>();
        for row in 0..batch.num_rows() {
            let usages = cast(&usages.value(row), &DataType::Float64)?;
            let mut usages: Vec<f64> = usages.as_primitive::<Float64Type>().iter().flatten().collect();
            usages.sort_by(f64::total_cmp);
            if !usages.is_empty() {
                let mean = usages.iter().sum::<f64>() / usages.len() as f64;
                found.insert((days.value(row), text(&resources, row).to_owned()), mean.clamp(0.0, 1.0));
            }
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

/// One owner's part of a cost.
struct Shared {
    row: u32,
    owner: String,
    owner_kind: &'static str,
    allocation: &'static str,
    share: f64,
    /// Billed, effective, list and contracted cost.
    amounts: [Option<Nanos>; 4],
    /// Pricing and consumed quantity.
    quantities: [Option<f64>; 2],
}

/// Rows of the table for some costs.
fn shared_out(
    batch: &RecordBatch,
    uses: &BTreeMap<String, f64>,
    busy: &dyn Fn(&str) -> Option<f64>,
) -> Result<RecordBatch, ArrowError> {
    let tags: Vec<_> = (0..TAGS.len()).map(|place| texts(batch, place)).collect::<Result<_, _>>()?;
    let place_of = |name: &str| batch.schema().index_of(name);
    let resources = texts(batch, place_of("resource_id")?)?;
    let numbers = |names: &[&str]| -> Result<Vec<ArrayRef>, ArrowError> {
        names.iter().map(|name| cast(batch.column(place_of(name)?), &DataType::Float64)).collect()
    };
    let amounts = numbers(&["billed_cost", "effective_cost", "list_cost", "contracted_cost"])?;
    let quantities = numbers(&["pricing_quantity", "consumed_quantity"])?;
    let number = |column: &ArrayRef, row: usize| {
        let column = column.as_primitive::<Float64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let mut parts = Vec::new();
    for row in 0..batch.num_rows() {
        let tagged = TAGS.iter().zip(&tags).find(|(_, values)| !text(values, row).is_empty());
        let busy = busy(text(&resources, row)).filter(|_| !uses.is_empty());
        let (rule, owner_kind, kind) = match (tagged, busy) {
            (Some((tag, values)), _) => (Allocation::Direct(text(values, row).to_owned()), *tag, "direct"),
            (None, Some(busy)) => {
                let all: f64 = uses.values().sum();
                let used =
                    uses.iter().map(|(feature, events)| (feature.clone(), busy * events / all)).collect();
                (Allocation::ByUse { used, capacity: Some(1.0) }, "feature", "use")
            }
            (None, None) => (Allocation::ByUse { used: uses.clone(), capacity: None }, "feature", "shared"),
        };
        let costs = amounts.iter().map(|column| number(column, row).map(nanos));
        let costs: [Option<Nanos>; 4] = costs.collect::<Vec<_>>().try_into().unwrap_or_default();
        for (owner, share, amounts) in rule.parts(&costs) {
            let (owner_kind, allocation) = match owner.as_str() {
                IDLE => ("", "idle"),
                UNALLOCATED => ("", "unallocated"),
                _ => (owner_kind, kind),
            };
            let amounts = amounts.try_into().unwrap_or_default();
            let quantities = std::array::from_fn(|of| number(&quantities[of], row).map(|all| all * share));
            parts.push(Shared { row: row as u32, owner, owner_kind, allocation, share, amounts, quantities });
        }
    }
    rows_of(batch, &parts)
}

/// Billionths of a cost.
fn nanos(cost: f64) -> Nanos {
    (cost * 1e9).round() as Nanos
}

fn rows_of(batch: &RecordBatch, parts: &[Shared]) -> Result<RecordBatch, ArrowError> {
    let rows = UInt32Array::from_iter_values(parts.iter().map(|part| part.row));
    let text = |of: fn(&Shared) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter(
            parts.iter().map(|part| Some(of(part)).filter(|text| !text.is_empty())),
        ))
    };
    let amount = |place: usize| -> Result<ArrayRef, ArrowError> {
        let amounts = Decimal128Array::from_iter(parts.iter().map(|part| part.amounts[place]));
        Ok(Arc::new(amounts.with_precision_and_scale(38, AMOUNT_SCALE)?))
    };
    let quantity = |place: usize| -> ArrayRef {
        Arc::new(Float64Array::from_iter(parts.iter().map(|part| part.quantities[place])))
    };
    let mut columns = vec![
        take(batch.column(TAGS.len()), &rows, None)?,
        take(batch.column(TAGS.len() + 1), &rows, None)?,
        text(|part| &part.owner),
        text(|part| part.owner_kind),
        text(|part| part.allocation),
        Arc::new(Float64Array::from_iter_values(parts.iter().map(|part| part.share))),
    ];
    for place in 0..4 {
        columns.push(amount(place)?);
    }
    columns.push(quantity(0));
    columns.push(quantity(1));
    // The other columns are those of the cost.
    for (name, _) in &COST_ANALYSIS.columns[columns.len()..] {
        columns.push(take(batch.column(batch.schema().index_of(name)?), &rows, None)?);
    }
    let fields = COST_ANALYSIS.file_schema();
    let columns = columns.iter().zip(fields.fields()).map(|(column, field)| cast(column, field.data_type()));
    RecordBatch::try_new(fields.clone(), columns.collect::<Result<_, _>>()?)
}
