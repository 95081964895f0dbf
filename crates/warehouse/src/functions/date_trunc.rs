//! `date_trunc(unit, time)` by arithmetic where that is exact: units up to a week, times in UTC.
//!
//! DataFusion's takes the way of calendars and time zones for each row, which costs six times as much.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::datetime::date_trunc;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// The first Monday of 1970.
const MONDAY: i64 = 4 * DAY;

/// The function.
pub fn function() -> ScalarUDF {
    ScalarUDF::from(DateTrunc { signature: date_trunc().signature().clone() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    signature: Signature,
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        "date_trunc"
    }

    fn aliases(&self) -> &[String] {
        // That of DataFusion has them, and stays.
        &[]
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        date_trunc().inner().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        date_trunc().inner().return_field_from_args(args)
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        date_trunc().inner().output_ordering(input)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Scalar(unit), ColumnarValue::Array(times)] if is_utc(times.data_type()) => {
                match length(unit) {
                    Some((length, origin)) => Ok(ColumnarValue::Array(truncated(times, length, origin))),
                    None => date_trunc().invoke_with_args(args),
                }
            }
            _ => date_trunc().invoke_with_args(args),
        }
    }
}

/// True for times in microseconds whose days are those of UTC.
fn is_utc(of: &DataType) -> bool {
    match of {
        DataType::Timestamp(TimeUnit::Microsecond, None) => true,
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => matches!(&**zone, "UTC" | "Z" | "+00:00"),
        _ => false,
    }
}

/// Length of a unit and a time at which one begins, microseconds.
fn length(unit: &ScalarValue) -> Option<(i64, i64)> {
    match unit.try_as_str()??.to_ascii_lowercase().as_str() {
        "second" => Some((SECOND, 0)),
        "minute" => Some((60 * SECOND, 0)),
        "hour" => Some((3_600 * SECOND, 0)),
        "day" => Some((DAY, 0)),
        "week" => Some((7 * DAY, MONDAY)),
        _ => None,
    }
}

fn truncated(times: &ArrayRef, length: i64, origin: i64) -> ArrayRef {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let begin = |time: i64| time.saturating_sub(time.saturating_sub(origin).rem_euclid(length));
    let begins = times.unary::<_, TimestampMicrosecondType>(begin);
    Arc::new(begins.with_data_type(times.data_type().clone()))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::TimestampMicrosecondArray;
    use datafusion::arrow::datatypes::Field;
    use datafusion::common::config::ConfigOptions;

    use super::*;

    fn call(function: &ScalarUDF, unit: &str, times: &ArrayRef) -> ArrayRef {
        let field = |name: &str, of: &DataType| Arc::new(Field::new(name, of.clone(), true));
        let args = ScalarFunctionArgs {
            args: vec![
                ColumnarValue::Scalar(ScalarValue::Utf8(Some(unit.to_owned()))),
                ColumnarValue::Array(times.clone()),
            ],
            arg_fields: vec![field("unit", &DataType::Utf8), field("time", times.data_type())],
            number_rows: times.len(),
            return_field: field("begin", times.data_type()),
            config_options: Arc::new(ConfigOptions::default()),
        };
        function.invoke_with_args(args).unwrap().into_array(times.len()).unwrap()
    }

    #[test]
    fn begins_are_those_of_datafusion() {
        let mut random = fastrand::Rng::with_seed(55);
        let times = (0..2_000).map(|_| Some(random.i64(-4_000 * DAY..40_000 * DAY)));
        let times =
            times.chain([None, Some(0), Some(-1), Some(MONDAY), Some(MONDAY - 1)]).collect::<Vec<_>>();
        for zone in [None, Some("UTC"), Some("+00:00"), Some("Europe/Berlin")] {
            let times = TimestampMicrosecondArray::from(times.clone()).with_timezone_opt(zone);
            let times: ArrayRef = Arc::new(times);
            for unit in ["second", "minute", "Hour", "day", "week", "month", "quarter", "year"] {
                let (found, expected) = (call(&function(), unit, &times), call(&date_trunc(), unit, &times));
                assert_eq!(&found, &expected, "{unit} {zone:?}");
            }
        }
    }
}
