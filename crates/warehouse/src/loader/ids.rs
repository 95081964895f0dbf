//! Ids of events that are in the table: those that the id files don't have yet, and those of others' commits.

use std::path::Path;

use deltalake::DeltaTable;
use deltalake::arrow::array::{Array, AsArray};
use deltalake::kernel::Action;
use deltalake::logstore::get_actions;
use deltalake::logstore::object_store::ObjectStoreExt;
use deltalake::logstore::object_store::path::Path as StorePath;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{LoadError, log_error};
use crate::dedup::{Dedup, EventId, Sizes};
use crate::events::text;

/// Opens the id files in `directory`, and adds the ids of later versions. Files that are damaged are made again.
pub async fn restore(table: &mut DeltaTable, directory: &Path, sizes: Sizes) -> Result<Dedup, LoadError> {
    let version = table.version().unwrap_or_default();
    match Dedup::open(directory, sizes) {
        Ok(mut dedup) => {
            let Some(covered) = dedup.covered() else {
                read_all(table, &mut dedup, sizes).await?;
                return Ok(dedup);
            };
            match of_versions(table, covered + 1, version).await? {
                Some(ids) => dedup.insert(ids, version),
                None => read_all(table, &mut dedup, sizes).await?,
            }
            Ok(dedup)
        }
        Err(error) => {
            tracing::warn!(error = super::with_sources(&error), "the id files are made again from the table");
            std::fs::remove_dir_all(directory)
                .map_err(crate::store::StoreError::state("removing", directory))?;
            let mut dedup = Dedup::open(directory, sizes)?;
            read_all(table, &mut dedup, sizes).await?;
            Ok(dedup)
        }
    }
}

/// Ids that the versions `first` to `last` added; `None` if the log or a file of them is gone.
pub async fn of_versions(
    table: &mut DeltaTable,
    first: u64,
    last: u64,
) -> Result<Option<Vec<EventId>>, LoadError> {
    let mut ids = Vec::new();
    for version in first..=last {
        let entry = table.log_store().read_commit_entry(version).await.map_err(log_error)?;
        let Some(entry) = entry else { return Ok(None) };
        for action in get_actions(version, &entry).map_err(log_error)? {
            let Action::Add(add) = action else { continue };
            if !add.data_change {
                continue;
            }
            match of_file(table, &add.path).await {
                Ok(of_file) => ids.extend(of_file),
                Err(_) if is_gone(table, &add.path).await => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Some(ids))
}

/// Inserts the newest ids of the whole table, file by file.
pub async fn read_all(table: &mut DeltaTable, dedup: &mut Dedup, sizes: Sizes) -> Result<(), LoadError> {
    let state = table.snapshot().map_err(log_error)?;
    let version = state.version();
    let mut files: Vec<(i64, String)> =
        state.log_data().iter().map(|file| (file.modification_time(), file.path().into_owned())).collect();
    files.sort_unstable();
    let kept = newest(table, &files, sizes.kept);
    for (_, path) in &files[kept..] {
        let ids = of_file(table, path).await?;
        dedup.insert(ids, version);
        dedup.spill()?;
    }
    // A version without files has ids, too: none.
    dedup.insert([], version);
    Ok(dedup.save()?)
}

/// Inserts all ids of the table, without files of ids: for a process beside the loader.
pub async fn read_into_memory(table: &DeltaTable, dedup: &mut Dedup) -> Result<(), LoadError> {
    let state = table.snapshot().map_err(log_error)?;
    let version = state.version();
    let paths: Vec<String> = state.log_data().iter().map(|file| file.path().into_owned()).collect();
    for path in paths {
        dedup.insert(of_file(table, &path).await?, version);
    }
    dedup.insert([], version);
    Ok(())
}

/// Index of the first file that must be read, so that at least `kept` ids are.
fn newest(table: &DeltaTable, files: &[(i64, String)], kept: u64) -> usize {
    let Ok(state) = table.snapshot() else { return 0 };
    let rows: std::collections::HashMap<String, u64> = state
        .log_data()
        .iter()
        .map(|file| (file.path().into_owned(), file.num_records().unwrap_or_default() as u64))
        .collect();
    let mut sum = 0;
    for (index, (_, path)) in files.iter().enumerate().rev() {
        sum += rows.get(path).copied().unwrap_or_default();
        if sum >= kept {
            return index;
        }
    }
    0
}

pub async fn of_file(table: &DeltaTable, path: &str) -> Result<Vec<EventId>, LoadError> {
    let failed =
        |source: Box<dyn std::error::Error + Send + Sync>| LoadError::Ids { path: path.to_owned(), source };
    let location = StorePath::parse(path).map_err(|error| failed(error.into()))?;
    let bytes =
        table.object_store().get(&location).await.map_err(|error| failed(error.into()))?.bytes().await;
    let bytes = bytes.map_err(|error| failed(error.into()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| failed(error.into()))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["event_id"]);
    let reader = builder.with_projection(mask).build().map_err(|error| failed(error.into()))?;
    let mut ids = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| failed(error.into()))?;
        let column = batch.column(0).as_string::<i32>();
        ids.reserve(column.len());
        ids.extend(column.iter().flatten().filter_map(|id| text::parse_uuid(id.as_bytes())));
    }
    Ok(ids)
}

async fn is_gone(table: &DeltaTable, path: &str) -> bool {
    use deltalake::logstore::object_store::Error;
    let Ok(location) = StorePath::parse(path) else { return false };
    matches!(table.object_store().head(&location).await, Err(Error::NotFound { .. }))
}
