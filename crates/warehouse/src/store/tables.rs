//! The tables of an installation: a directory of this host, or a prefix of a bucket.
//!
//! `events/` is the Delta table. What is no data lies in the state directory of this host: the secret namespace of
//! identifiers, the ids of the newest events, locks, the list of what was erased.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltalake::arrow::datatypes::Schema;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::{StructField, StructType};
use deltalake::logstore::object_store::ObjectStore;
use deltalake::logstore::object_store::path::Path as StorePath;
use deltalake::logstore::object_store::prefix::PrefixStore;
use deltalake::logstore::{StorageConfig, default_logstore};
use deltalake::{DeltaTable, DeltaTableError, TableProperty};
use object_store::aws::AmazonS3Builder;
use url::Url;

use super::durable::DurableFileSystem;
use crate::events::columns::STATISTICS;
use crate::events::{PARTITIONS, schema};

/// Name of the table of all events.
pub const EVENTS: &str = "events";
const STATE: &str = "_tickstream";

/// Tables that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URI says no place.
    #[error("{uri:?} is no place for tables; give a directory or a URI such as s3://bucket/prefix")]
    Uri {
        /// What was given.
        uri: String,
    },
    /// Tables in a bucket need a directory of this host.
    #[error(
        "tables at {uri} need --state DIR, a directory of this host for its locks and the ids of the newest events"
    )]
    NoState {
        /// Where the tables are.
        uri: Box<Url>,
    },
    /// The bucket's settings are wrong.
    #[error("opening {uri}; its key and endpoint come from the AWS_ variables of the environment")]
    Bucket {
        /// Where the tables are.
        uri: Box<Url>,
        /// What is wrong.
        source: Box<deltalake::ObjectStoreError>,
    },
    /// Another process loads.
    #[error("{holder} loads into these tables already: it holds {}", .path.display())]
    Loading {
        /// The lock.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// No table is there.
    #[error("{uri} holds no table of events; `tickstream-warehouse load` or `run` makes it")]
    Missing {
        /// Where it would be.
        uri: Box<Url>,
    },
    /// The table has fewer columns than this program's.
    #[error(
        "the table at {uri} lacks the column {column}; `tickstream-warehouse load` or `run` of this version adds it"
    )]
    Columns {
        /// Where the table is.
        uri: Box<Url>,
        /// The first column that it lacks.
        column: String,
    },
    /// The table can't be read or written.
    #[error("{action} the table of events")]
    Delta {
        /// What was done.
        action: &'static str,
        /// What went wrong.
        source: Box<DeltaTableError>,
    },
    /// The state directory can't be used.
    #[error("{action} {}", .path.display())]
    State {
        /// What was done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl StoreError {
    pub(crate) fn delta(action: &'static str) -> impl FnOnce(DeltaTableError) -> Self {
        move |source| Self::Delta { action, source: Box::new(source) }
    }

    pub(crate) fn state(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::State { action, path, source }
    }
}

/// Place of tables.
#[derive(Clone, Debug)]
pub struct Tables {
    root: Url,
    state: PathBuf,
    store: Arc<dyn ObjectStore>,
    is_local: bool,
}

impl Tables {
    /// The tables at `uri`. Their state is in `state`, or beside them if they are in a directory of this host.
    ///
    /// # Errors
    /// [`StoreError::Uri`], [`StoreError::NoState`], or if the directories can't be made.
    pub fn at(uri: &str, state: Option<PathBuf>) -> Result<Self, StoreError> {
        Self::with_store(uri, state, Arc::new(DurableFileSystem::new()))
    }

    /// As [`Tables::at`], with another store for a local place: for tests that inject faults.
    ///
    /// # Errors
    /// As [`Tables::at`].
    pub fn with_store(
        uri: &str,
        state: Option<PathBuf>,
        local: Arc<dyn ObjectStore>,
    ) -> Result<Self, StoreError> {
        let bad = || StoreError::Uri { uri: uri.to_owned() };
        let url = Url::parse(uri).ok().filter(|url| url.scheme().len() > 1);
        let directory = match &url {
            Some(url) if url.scheme() == "file" => Some(url.to_file_path().map_err(|()| bad())?),
            Some(_) => None,
            None if uri.is_empty() => return Err(bad()),
            None => Some(PathBuf::from(uri)),
        };
        let Some(directory) = directory else {
            let mut root = url.expect("it isn't a directory");
            if !root.path().ends_with('/') {
                root.set_path(&format!("{}/", root.path()));
            }
            let state = state.ok_or_else(|| StoreError::NoState { uri: Box::new(root.clone()) })?;
            super::files::create_directories(&state).map_err(StoreError::state("creating", &state))?;
            let store = AmazonS3Builder::from_env().with_url(root.as_str()).build();
            let store = store.map_err(|source| StoreError::Bucket {
                uri: Box::new(root.clone()),
                source: Box::new(source),
            })?;
            return Ok(Self { root, state, store: Arc::new(store), is_local: false });
        };
        super::files::create_directories(&directory).map_err(StoreError::state("creating", &directory))?;
        let directory = directory.canonicalize().map_err(StoreError::state("finding", &directory))?;
        let state = state.unwrap_or_else(|| directory.join(STATE));
        super::files::create_directories(&state).map_err(StoreError::state("creating", &state))?;
        let root = Url::from_directory_path(&directory).map_err(|()| bad())?;
        Ok(Self { root, state, store: local, is_local: true })
    }

    /// Where the tables are.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// Directory of this host for what is no data.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Directory of the tables, if they are on this host.
    pub fn directory(&self) -> Option<PathBuf> {
        self.root.to_file_path().ok().filter(|_| self.is_local)
    }

    /// Where the table of events is.
    pub fn events_url(&self) -> Url {
        self.root.join("events/").expect("a relative path")
    }

    /// Store whose paths begin at the root of the file system or bucket.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The newest version of the table of events.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none.
    pub async fn open(&self) -> Result<DeltaTable, StoreError> {
        let Some(table) = self.open_named(EVENTS).await? else {
            return Err(StoreError::Missing { uri: Box::new(self.events_url()) });
        };
        match missing_columns(&table)?.first() {
            Some(missing) => {
                Err(StoreError::Columns { uri: Box::new(self.events_url()), column: missing.name().clone() })
            }
            None => Ok(table),
        }
    }

    /// The newest version of the table of events, which is made if there is none. Columns that a version of this program
    /// added are added to it.
    ///
    /// # Errors
    /// If it can't be made, read or extended.
    pub async fn open_or_create(&self) -> Result<DeltaTable, StoreError> {
        let table = match self.open_named(EVENTS).await? {
            Some(table) => table,
            None => match self.create().await {
                Ok(table) => table,
                // Somebody else was faster.
                Err(error) => self.open().await.map_err(|_| error)?,
            },
        };
        let missing = missing_columns(&table)?;
        if missing.is_empty() {
            return Ok(table);
        }
        let added = table.add_columns().with_fields(missing).await;
        added.map_err(StoreError::delta("adding columns to"))
    }

    fn unloaded(&self, url: &Url) -> DeltaTable {
        let path = StorePath::from_url_path(url.path()).expect("a URL's path");
        let prefixed = Arc::new(PrefixStore::new(self.store.clone(), path));
        DeltaTable::new(default_logstore(prefixed, self.store.clone(), url, &StorageConfig::default()))
    }

    /// Where another table is.
    fn url_of(&self, name: &str) -> Url {
        self.root.join(&format!("{name}/")).expect("a relative path")
    }

    /// The newest version of another table; `None` if there is none.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn open_named(&self, name: &str) -> Result<Option<DeltaTable>, StoreError> {
        let mut table = self.unloaded(&self.url_of(name));
        let is_there = table.verify_deltatable_existence().await.map_err(StoreError::delta("looking for"))?;
        if is_there {
            table.load().await.map_err(StoreError::delta("reading"))?;
        }
        Ok(is_there.then_some(table))
    }

    /// Names of the directories in a directory below the root, with the latter's own.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn names_below(&self, directory: &str) -> Result<Vec<String>, StoreError> {
        let path = self.root_path().join(directory);
        let listed = self.store.list_with_delimiter(Some(&path)).await;
        let listed = listed.map_err(|error| StoreError::delta("looking for")(error.into()))?;
        let names = listed.common_prefixes.iter().filter_map(StorePath::filename);
        Ok(names.map(|name| format!("{directory}/{name}")).collect())
    }

    /// Where the tables are, in the store.
    pub fn root_path(&self) -> StorePath {
        StorePath::from_url_path(self.root.path()).expect("a URL's path")
    }

    /// The newest version of another table, which is made if there is none.
    ///
    /// # Errors
    /// If it can't be made or read.
    pub async fn open_or_create_named(
        &self,
        name: &str,
        columns: &Schema,
        partitions: &[&str],
    ) -> Result<DeltaTable, StoreError> {
        if let Some(table) = self.open_named(name).await? {
            return Ok(table);
        }
        let fields: StructType = columns.try_into_kernel().expect("columns have types of Delta");
        self.unloaded(&self.url_of(name))
            .create()
            .with_table_name(name)
            .with_columns(fields.fields().cloned().collect::<Vec<StructField>>())
            .with_partition_columns(partitions.iter().copied())
            .with_configuration(properties(&[]))
            .await
            .map_err(StoreError::delta("creating"))
    }

    async fn create(&self) -> Result<DeltaTable, StoreError> {
        let fields: StructType = schema().as_ref().try_into_kernel().expect("columns have types of Delta");
        let fields: Vec<StructField> = fields.fields().cloned().collect();
        self.unloaded(&self.events_url())
            .create()
            .with_table_name(EVENTS)
            .with_columns(fields)
            .with_partition_columns(PARTITIONS)
            .with_configuration(properties(&STATISTICS))
            .await
            .map_err(StoreError::delta("creating"))
    }
}

/// Columns of this version that a table lacks.
fn missing_columns(table: &DeltaTable) -> Result<Vec<StructField>, StoreError> {
    let found = table.snapshot().map_err(StoreError::delta("reading"))?.snapshot().arrow_schema();
    let fields: StructType = schema().as_ref().try_into_kernel().expect("columns have types of Delta");
    Ok(fields.fields().filter(|field| found.field_with_name(field.name()).is_err()).cloned().collect())
}

/// Properties of a table whose log has statistics of these columns.
fn properties(statistics: &[&str]) -> Vec<(String, Option<String>)> {
    let properties = [
        (TableProperty::DataSkippingStatsColumns, statistics.join(",")),
        (TableProperty::CheckpointInterval, "100".to_owned()),
        // Old entries of the log and removed files are of no use for longer: nobody travels in time here.
        (TableProperty::LogRetentionDuration, "interval 1 hour".to_owned()),
        (TableProperty::DeletedFileRetentionDuration, "interval 1 hour".to_owned()),
    ];
    let properties = properties.into_iter().filter(|(_, value)| !value.is_empty());
    properties.map(|(property, value)| (property.as_ref().to_owned(), Some(value))).collect()
}

/// Values of a file's partition columns.
pub fn partition_values(key: &crate::events::rows::PartitionKey) -> HashMap<String, Option<String>> {
    let values = [&key.load_date, &key.event_type];
    PARTITIONS.iter().zip(values).map(|(name, value)| ((*name).to_owned(), Some(value.clone()))).collect()
}
