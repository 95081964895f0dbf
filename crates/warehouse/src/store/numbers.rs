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

/// Number of derived tables: the version of the table of events that was looked at.
pub const EVENTS_VERSION: &str = "tickstream.events";

/// Versions that are read one by one; where more are new, the newest checkpoint is read again.
const STEPS_MAX: u64 = 200;

/// Numbers of the version that was read last.
#[derive(Debug, Default)]
pub struct Numbers {
    version: Option<u64>,
    numbers: BTreeMap<String, i64>,
}

impl Numbers {
    /// All numbers of the version that `table` has.
    ///
    /// # Errors
    /// If the log can't be read.
    pub async fn of(&mut self, table: &DeltaTable) -> Result<&BTreeMap<String, i64>, DeltaTableError> {
        let last = table.snapshot()?.version();
        let known = self.version.take();
        let is_read = match known {
            Some(known) if known <= last && last - known <= STEPS_MAX => {
                self.read_entries(table, known + 1, last).await?
            }
            _ => false,
        };
        if !is_read {
            self.read_all(table, last).await?;
        }
        self.version = Some(last);
        Ok(&self.numbers)
    }

    async fn read_all(&mut self, table: &DeltaTable, last: u64) -> Result<(), DeltaTableError> {
        self.numbers.clear();
        let mut next = 0;
        if let Some((version, path)) = checkpoint(table, last).await? {
            read_checkpoint(table, path, &mut self.numbers).await?;
            next = version + 1;
        }
        if self.read_entries(table, next, last).await? {
            return Ok(());
        }
        Err(DeltaTableError::Generic(format!("versions from {next} to {last} are missing in the log")))
    }

    /// Reads entries of the log; false if one is gone.
    async fn read_entries(
        &mut self,
        table: &DeltaTable,
        first: u64,
        last: u64,
    ) -> Result<bool, DeltaTableError> {
        for version in first..=last {
            let Some(entry) = table.log_store().read_commit_entry(version).await? else { return Ok(false) };
            for action in get_actions(version, &entry)? {
                if let Action::Txn(number) = action {
                    self.numbers.insert(number.app_id, number.version);
                }
            }
        }
        Ok(true)
    }
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
