//! Numbers by name that a version of the table keeps: Delta's application transactions.
//!
//! The library reads one at a time, each by going through the log. Here all are read at once.

use std::collections::BTreeMap;

use deltalake::arrow::array::{Array, AsArray};
use deltalake::arrow::datatypes::Int64Type;
use deltalake::kernel::Action;
use deltalake::logstore::get_actions;
use deltalake::logstore::object_store::ObjectStoreExt;
use deltalake::logstore::object_store::path::Path;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::{DeltaTable, DeltaTableError};
use futures::TryStreamExt;

/// All numbers of the version that `table` has.
///
/// # Errors
/// If the log can't be read.
pub async fn numbers(table: &DeltaTable) -> Result<BTreeMap<String, i64>, DeltaTableError> {
    let last = table.snapshot()?.version();
    let mut numbers = BTreeMap::new();
    let mut next = 0;
    if let Some((version, path)) = checkpoint(table, last).await? {
        read_checkpoint(table, path, &mut numbers).await?;
        next = version + 1;
    }
    for version in next..=last {
        let entry = table.log_store().read_commit_entry(version).await?;
        let entry = entry
            .ok_or_else(|| DeltaTableError::Generic(format!("version {version} is missing in the log")))?;
        for action in get_actions(version, &entry)? {
            if let Action::Txn(number) = action {
                numbers.insert(number.app_id, number.version);
            }
        }
    }
    Ok(numbers)
}

/// The newest checkpoint that isn't newer than a version.
async fn checkpoint(table: &DeltaTable, last: u64) -> Result<Option<(u64, Path)>, DeltaTableError> {
    let listed: Vec<_> = table.object_store().list(Some(&Path::from("_delta_log"))).try_collect().await?;
    let of = |path: &Path| {
        let name = path.filename()?.strip_suffix(".checkpoint.parquet")?;
        name.parse().ok().filter(|version| *version <= last)
    };
    Ok(listed.into_iter().filter_map(|file| Some((of(&file.location)?, file.location))).max())
}

async fn read_checkpoint(
    table: &DeltaTable,
    path: Path,
    numbers: &mut BTreeMap<String, i64>,
) -> Result<(), DeltaTableError> {
    let bytes = table.object_store().get(&path).await?.bytes().await?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["txn.appId", "txn.version"]);
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let Some(transactions) = batch.column_by_name("txn").and_then(|column| column.as_struct_opt()) else {
            continue;
        };
        let (Some(names), Some(versions)) =
            (transactions.column_by_name("appId"), transactions.column_by_name("version"))
        else {
            continue;
        };
        let (names, versions) = (names.as_string::<i32>(), versions.as_primitive::<Int64Type>());
        for row in (0..transactions.len()).filter(|row| transactions.is_valid(*row) && names.is_valid(*row)) {
            numbers.insert(names.value(row).to_owned(), versions.value(row));
        }
    }
    Ok(())
}
