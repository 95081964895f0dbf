//! `json_text`, `json_number` and their like: values of a JSON text by path, in SQL.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringBuilder,
    TimestampNanosecondBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::json_path::{self, Path};

/// Type of the value that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    /// A text: strings without quotes, other values as JSON has them.
    Text,
    /// The value's own JSON.
    Json,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// A truth value.
    Boolean,
    /// A time of RFC 3339.
    Time,
    /// The elements of an array, each as its own JSON.
    Elements,
}

/// Names of the functions.
pub const TEXT: &str = "json_text";
/// The value's own JSON.
pub const JSON: &str = "json_value";
/// A number.
pub const NUMBER: &str = "json_number";
/// A whole number.
pub const INTEGER: &str = "json_integer";
/// A truth value.
pub const BOOLEAN: &str = "json_boolean";
/// A time.
pub const TIME: &str = "json_time";
/// The elements of an array.
pub const ELEMENTS: &str = "json_elements";

/// All functions of this kind.
pub fn all() -> Vec<ScalarUDF> {
    let functions = [
        (TEXT, Wanted::Text),
        (JSON, Wanted::Json),
        (NUMBER, Wanted::Number),
        (INTEGER, Wanted::Integer),
        (BOOLEAN, Wanted::Boolean),
        (TIME, Wanted::Time),
        (ELEMENTS, Wanted::Elements),
    ];
    functions.into_iter().map(|(name, wanted)| ScalarUDF::from(JsonFunction::new(name, wanted))).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    name: &'static str,
    wanted: Wanted,
    signature: Signature,
}

impl JsonFunction {
    fn new(name: &'static str, wanted: Wanted) -> Self {
        let texts = [DataType::Utf8, DataType::Utf8View, DataType::LargeUtf8];
        let signatures = texts.map(|text| TypeSignature::Exact(vec![text, DataType::Utf8])).to_vec();
        Self { name, wanted, signature: Signature::one_of(signatures, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.wanted {
            Wanted::Text | Wanted::Json => DataType::Utf8,
            Wanted::Number => DataType::Float64,
            Wanted::Integer => DataType::Int64,
            Wanted::Boolean => DataType::Boolean,
            Wanted::Time => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            Wanted::Elements => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [json, path] = args.args.as_slice() else {
            return exec_err!("{} takes a JSON text and a path", self.name);
        };
        let path = match path {
            ColumnarValue::Scalar(ScalarValue::Utf8(Some(path))) => path,
            ColumnarValue::Scalar(ScalarValue::Utf8(None)) => {
                return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_field.data_type())?));
            }
            _ => return exec_err!("the path of {} must be a constant", self.name),
        };
        let path = Path::parse(path).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let is_scalar = matches!(json, ColumnarValue::Scalar(_));
        let array = json.to_array(if is_scalar { 1 } else { args.number_rows })?;
        let found = find_all(&array, &path, self.wanted)?;
        if is_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?));
        }
        Ok(ColumnarValue::Array(found))
    }
}

/// Hands each text of an array of texts to `take`.
fn each_text(array: &ArrayRef, mut take: impl FnMut(Option<&str>)) -> Result<()> {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().iter().for_each(take),
        DataType::Utf8 => array.as_string::<i32>().iter().for_each(take),
        _ => cast(array, &DataType::Utf8)?.as_string::<i32>().iter().for_each(&mut take),
    }
    Ok(())
}

fn find_all(array: &ArrayRef, path: &Path, wanted: Wanted) -> Result<ArrayRef> {
    let rows = array.len();
    let find = |json: Option<&str>| json.and_then(|json| path.find(json).map(str::to_owned));
    Ok(match wanted {
        Wanted::Text => {
            let mut builder = StringBuilder::with_capacity(rows, rows * 16);
            each_text(array, |json| {
                builder.append_option(json.and_then(|json| path.find(json)).and_then(json_path::text));
            })?;
            Arc::new(builder.finish())
        }
        Wanted::Json => {
            let mut builder = StringBuilder::with_capacity(rows, rows * 16);
            each_text(array, |json| builder.append_option(json.and_then(|json| path.find(json))))?;
            Arc::new(builder.finish())
        }
        Wanted::Number => {
            let mut builder = Float64Builder::with_capacity(rows);
            each_text(array, |json| {
                builder.append_option(json.and_then(|json| path.find(json)).and_then(json_path::number));
            })?;
            Arc::new(builder.finish())
        }
        Wanted::Integer => {
            let mut builder = Int64Builder::with_capacity(rows);
            each_text(array, |json| {
                let value = json.and_then(|json| path.find(json));
                builder.append_option(value.and_then(|value| value.trim_matches('"').parse().ok()));
            })?;
            Arc::new(builder.finish())
        }
        Wanted::Boolean => {
            let mut builder = BooleanBuilder::with_capacity(rows);
            each_text(array, |json| builder.append_option(find(json).and_then(|value| value.parse().ok())))?;
            Arc::new(builder.finish())
        }
        Wanted::Time => {
            let mut builder = TimestampNanosecondBuilder::with_capacity(rows).with_timezone("UTC");
            each_text(array, |json| builder.append_option(find(json).as_deref().and_then(nanoseconds)))?;
            Arc::new(builder.finish())
        }
        Wanted::Elements => {
            let mut builder = ListBuilder::new(StringBuilder::new());
            each_text(array, |json| match json.and_then(|json| path.find(json)) {
                None => builder.append_null(),
                Some(list) => {
                    json_path::elements(list).for_each(|element| builder.values().append_value(element));
                    builder.append(true);
                }
            })?;
            Arc::new(builder.finish())
        }
    })
}

fn nanoseconds(quoted: &str) -> Option<i64> {
    let time = chrono::DateTime::parse_from_rfc3339(quoted.trim_matches('"')).ok()?;
    time.timestamp_nanos_opt()
}
