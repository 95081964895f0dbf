//! Queries: admitted, planned over one version and its tail, run within limits.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::common::{DataFusionError, ParamValues};
use datafusion::logical_expr::{ColumnarValue, LogicalPlan, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use deltalake::DeltaTable;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answer::{Answer, AsOf, QueryError};
use super::catalog::{Catalog, Privacy};
use super::growth;
use super::guard::{self, Refused};
use super::limits::Limits;
use super::session::{self, Sessions};
use super::tail::{self, Ids};
use crate::aggregates;
use crate::derived::DERIVED;
use crate::events::Namespace;
use crate::events::enrichment::Geo;
use crate::loader::suppression::Suppression;
use crate::loader::{LoadError, shared_list};
use crate::store::{Secret, StoreError, Tables, job_tables};
use crate::tasks;

/// Rights of a querying user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Name of the user.
    pub user: String,
    /// True if personal columns are shown as they are.
    pub sees_personal: bool,
    /// Teams whose pages are shown, and no SQL of the user's own; empty: all pages and SQL.
    pub teams: Vec<String>,
}

impl Role {
    /// A user of this host, who may read the files of the tables anyway.
    pub fn local() -> Self {
        Self { user: "local".to_owned(), sees_personal: true, teams: Vec::new() }
    }

    /// The role for SQL that a page asks, after the page was found to be for this user.
    #[must_use]
    pub fn of_pages(&self) -> Self {
        Self { teams: Vec::new(), ..self.clone() }
    }

    /// A role that sees pseudonyms.
    pub fn masked() -> Self {
        Self { user: "masked".to_owned(), sees_personal: false, teams: Vec::new() }
    }
}

/// Numbers of queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries since the start.
    pub begun: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that run or wait now.
    pub running: u64,
}

/// Answers queries.
#[derive(Debug)]
pub struct Engine {
    newest: Arc<Mutex<Newest>>,
    /// Runtime that opened it.
    runtime: Handle,
    tables: Tables,
    secret: Secret,
    limits: Limits,
    sessions: Sessions,
    running: Arc<Semaphore>,
    /// Places of queries that wait.
    queue: Semaphore,
    begun: AtomicU64,
    failed: Arc<AtomicU64>,
}

/// The newest version that was read, and what reads the tail above it.
#[derive(Debug)]
struct Newest {
    table: DeltaTable,
    source: tail::Source,
    /// Time of the last query.
    used: Instant,
    /// True while a task waits to give up the rows of the tail.
    is_watched: bool,
}

/// Time without a query after which the rows of the tail are given up.
const KEPT: Duration = Duration::from_secs(10);

impl Newest {
    /// Notes a query, and gives up the rows of the tail when there are none for [`KEPT`].
    fn use_now(&mut self, newest: &Arc<Mutex<Self>>) {
        self.used = Instant::now();
        if std::mem::replace(&mut self.is_watched, true) {
            return;
        }
        let newest = Arc::downgrade(newest);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(KEPT).await;
                let Some(newest) = newest.upgrade() else { return };
                let mut newest = newest.lock().await;
                if newest.used.elapsed() >= KEPT {
                    newest.source.forget();
                    newest.is_watched = false;
                    return;
                }
            }
        });
    }
}

impl Engine {
    /// An engine over `tables` and, if there are any, the tails of `journals`.
    ///
    /// # Errors
    /// If there are no tables.
    pub async fn open(
        tables: &Tables,
        journals: Vec<PathBuf>,
        ids: Ids,
        geo: Geo,
        limits: Limits,
    ) -> Result<Self, QueryError> {
        let table = tables.open().await?;
        let secret = Secret::open_or_create(tables.state())?;
        let namespace = secret.namespace();
        let source = tail::Source::new(journals, ids, namespace, geo);
        let newest = Newest { table, source, used: Instant::now(), is_watched: false };
        let running = Arc::new(Semaphore::new(limits.concurrent));
        let queue = Semaphore::new(limits.waiting);
        let sessions = Sessions::new(limits.threads)?;
        Ok(Self {
            newest: Arc::new(Mutex::new(newest)),
            runtime: Handle::current(),
            tables: tables.clone(),
            secret,
            limits,
            sessions,
            running,
            queue,
            begun: AtomicU64::new(0),
            failed: Arc::default(),
        })
    }

    /// Numbers of its queries.
    pub fn counts(&self) -> Counts {
        let all = self.limits.concurrent + self.limits.waiting;
        let free = self.running.available_permits() + self.queue.available_permits();
        Counts {
            begun: self.begun.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            running: all.saturating_sub(free) as u64,
        }
    }

    /// Limits of its queries.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// An identifier of an application as the tables have it.
    pub fn identifier(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.secret.namespace().map(text.as_bytes())).into_owned()
    }

    /// Starts a query; its rows come as they are found.
    ///
    /// # Errors
    /// [`QueryError`] if it isn't admitted or can't be started.
    pub async fn query(&self, sql: &str, role: &Role) -> Result<Answer, QueryError> {
        let statement = guard::admit(sql)?;
        self.run(statement, role, |_| Ok(None)).await
    }

    /// Plans a statement that was admitted over tables without rows: for its columns and parameters.
    ///
    /// # Errors
    /// [`QueryError::Run`] if it can't be planned.
    pub async fn plan(&self, statement: Statement) -> Result<LogicalPlan, QueryError> {
        let context = self.sessions.without_rows()?;
        self.add_jobs(&context, &statement).await?;
        let plan = context.state().statement_to_plan(statement).await?;
        guard::check_plan(&plan)?;
        growth::check(&plan)?;
        Ok(plan)
    }

    /// Starts a statement that was admitted. `parameters` gives the values of the plan's placeholders.
    ///
    /// # Errors
    /// [`QueryError`] if it can't be started.
    pub async fn run<E>(
        &self,
        statement: Statement,
        role: &Role,
        parameters: impl FnOnce(&LogicalPlan) -> Result<Option<ParamValues>, E>,
    ) -> Result<Answer, E>
    where
        E: From<QueryError>,
    {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let started = self.start(statement, role, parameters).await;
        if started.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        started
    }

    async fn start<E>(
        &self,
        statement: Statement,
        role: &Role,
        parameters: impl FnOnce(&LogicalPlan) -> Result<Option<ParamValues>, E>,
    ) -> Result<Answer, E>
    where
        E: From<QueryError>,
    {
        if !role.teams.is_empty() {
            return Err(E::from(Refused::Pages.into()));
        }
        let deadline = Instant::now() + self.limits.time;
        let late = || QueryError::Time(self.limits.time);
        let failed = |error: DataFusionError| E::from(error.into());
        let permit = self.permit(deadline).await?;
        let started = tokio::time::timeout_at(deadline, async {
            // They are opened for queries that name them alone.
            let text = statement.to_string().to_lowercase();
            let (context, as_of) = self.session(role, |name| text.contains(name)).await?;
            if role.sees_personal {
                self.add_jobs(&context, &statement).await?;
            }
            let mut plan = context.state().statement_to_plan(statement).await.map_err(failed)?;
            guard::check_plan(&plan).map_err(failed)?;
            if let Some(values) = parameters(&plan)? {
                plan = plan.replace_params_with_values(&values).map_err(failed)?;
            }
            growth::check(&plan).map_err(QueryError::from)?;
            let rows = context.execute_logical_plan(plan).await.map_err(failed)?;
            Ok::<_, E>((rows.execute_stream().await.map_err(failed)?, as_of))
        });
        let (rows, as_of) = started.await.map_err(|_| late())??;
        Ok(Answer::new(rows, as_of, &self.limits, deadline, self.failed.clone(), permit))
    }

    /// Runs `read` over the newest version and the tail above it, admitted and counted as a query.
    ///
    /// # Errors
    /// [`QueryError`] if it isn't admitted, and that of `read`.
    pub(super) async fn admitted<T>(
        &self,
        role: &Role,
        read: impl AsyncFnOnce(DeltaTable, tail::Tail) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + self.limits.time;
        let answered = async {
            if !role.teams.is_empty() {
                return Err(Refused::Pages.into());
            }
            let _permit = self.permit(deadline).await?;
            let reading = async {
                let (table, tail) = self.pin().await?;
                read(table, tail).await
            };
            tokio::time::timeout_at(deadline, reading)
                .await
                .map_err(|_| QueryError::Time(self.limits.time))?
        };
        let answer = answered.await;
        self.failed.fetch_add(u64::from(answer.is_err()), Ordering::Relaxed);
        answer
    }

    /// Names pseudonyms for those who don't see identifiers.
    pub(super) fn pseudonyms(&self) -> Namespace {
        self.secret.pseudonyms()
    }

    async fn permit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, QueryError> {
        if let Ok(permit) = self.running.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = self.limits.waiting;
        let Ok(_place) = self.queue.try_acquire() else { return Err(QueryError::Busy { waiting }) };
        match tokio::time::timeout_at(deadline, self.running.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(QueryError::Busy { waiting }),
        }
    }

    /// The newest version of the table of events.
    ///
    /// # Errors
    /// If the log can't be read.
    pub async fn version(&self) -> Result<u64, QueryError> {
        let mut newest = self.newest.lock().await;
        let Newest { table, source, .. } = &mut *newest;
        Ok(source.version(table).await?)
    }

    /// Watermarks of the newest version: journals, and the last record of each.
    ///
    /// # Errors
    /// If the tables can't be read.
    pub async fn positions(&self) -> Result<Vec<(String, u64)>, QueryError> {
        let mut newest = self.newest.lock().await;
        let Newest { table, source, .. } = &mut *newest;
        table.update_state().await.map_err(StoreError::delta("reading"))?;
        let loaded = source.watermarks(table).await?;
        let positions = loaded.positions.values();
        Ok(positions.map(|position| (position.journal.to_string(), position.sequence)).collect())
    }

    /// A session over the newest version and the tail above it.
    ///
    /// # Errors
    /// If tables or journals can't be read.
    async fn session(
        &self,
        role: &Role,
        wants: impl Fn(&str) -> bool,
    ) -> Result<(SessionContext, AsOf), QueryError> {
        let (table, tail) = self.pin().await?;
        let version = table.version().unwrap_or_default();
        let snapshot = table.snapshot().map_err(StoreError::delta("reading"))?.snapshot().clone();
        let provider = table.table_provider().with_eager_snapshot(snapshot).await?;
        let privacy = match role.sees_personal {
            true => Privacy::Clear,
            false => Privacy::Masked(Arc::new(pseudonym(self.secret.pseudonyms()))),
        };
        let mut catalog = Catalog::new(provider, &tail.rows, privacy)?;
        let mut opened = Vec::new();
        if wants("counts_by_")
            && let Some(aggregates) = self.tables.open_named(aggregates::NAME).await?
        {
            catalog = catalog.with_aggregates(Some(aggregates.table_provider().await?));
            opened.push(aggregates);
        }
        for derived in DERIVED.into_iter().filter(|derived| wants(derived.name)) {
            if let Some(table) = self.tables.open_named(derived.name).await? {
                catalog = catalog.with_derived(derived, table.table_provider().await?);
                opened.push(table);
            }
        }
        let context = self.sessions.over(catalog, &role.user, self.limits.runtime()?)?;
        for table in std::iter::once(&table).chain(&opened) {
            table.update_datafusion_session(&context.state()).map_err(StoreError::delta("reading"))?;
        }
        Ok((context, AsOf { version, journals: tail.places }))
    }

    /// Adds the tables of jobs that a statement names. They were computed with all rights, so only roles with these have them.
    async fn add_jobs(&self, context: &SessionContext, statement: &Statement) -> Result<(), QueryError> {
        let schema = MemorySchemaProvider::new();
        for named in context.state().resolve_table_references(statement)? {
            if named.schema() != Some(session::JOBS) || !job_tables::is_name(named.table()) {
                continue;
            }
            let Some(table) = self.tables.open_named(&job_tables::place_of(named.table())).await? else {
                continue;
            };
            table.update_datafusion_session(&context.state()).map_err(StoreError::delta("reading"))?;
            schema.register_table(named.table().to_owned(), table.table_provider().await?)?;
        }
        if let Some(catalog) = context.catalog(session::CATALOG) {
            catalog.register_schema(session::JOBS, Arc::new(schema))?;
        }
        Ok(())
    }

    /// The newest version, and the tail above it. It is read on the runtime that opened the engine: other queries wait for it,
    /// so it mustn't wait for a CPU as long as a task in the background may.
    async fn pin(&self) -> Result<(DeltaTable, tail::Tail), QueryError> {
        let (newest, tables, key) = (self.newest.clone(), self.tables.clone(), self.secret.suppression_key());
        // A query that is given up takes its task with it.
        let mut pinning = JoinSet::new();
        pinning.spawn_on(async move { pin(&newest, &tables, &key).await }, &self.runtime);
        tasks::next(&mut pinning).await.expect("a task was started")
    }
}

async fn pin(
    newest: &Arc<Mutex<Newest>>,
    tables: &Tables,
    suppression_key: &[u8],
) -> Result<(DeltaTable, tail::Tail), QueryError> {
    // Retention may remove a segment, and a merge an id file, while they are read: begin again then.
    const ATTEMPTS: usize = 3;
    let mut attempt = 1;
    loop {
        let mut guard = newest.lock().await;
        if guard.source.is_empty() {
            guard.table.update_state().await.map_err(StoreError::delta("reading"))?;
            return Ok((guard.table.clone(), tail::Tail::default()));
        }
        guard.use_now(newest);
        let Newest { table, source, .. } = &mut *guard;
        shared_list::pull(tables).await.map_err(LoadError::from)?;
        let mut suppression = Suppression::open(tables.state(), suppression_key).map_err(LoadError::from)?;
        match source.read(table, &mut suppression).await {
            Ok(tail) => return Ok((table.clone(), tail)),
            Err(LoadError::Source(_) | LoadError::Dedup(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Replaces identifiers by others, always the same for the same.
fn pseudonym(namespace: Namespace) -> ScalarUDF {
    let replace = move |args: &[ColumnarValue]| -> Result<ColumnarValue, DataFusionError> {
        let array = args[0].to_array(1)?;
        let replaced: ArrayRef =
            Arc::new(masked_texts(cast(&array, &DataType::Utf8)?.as_string::<i32>(), &namespace));
        Ok(ColumnarValue::Array(cast(&replaced, array.data_type())?))
    };
    create_udf("pseudonym", vec![DataType::Utf8], DataType::Utf8, Volatility::Immutable, Arc::new(replace))
}

/// Pseudonyms of identifiers.
pub(super) fn masked_texts(texts: &StringArray, namespace: &Namespace) -> StringArray {
    let mut builder = StringBuilder::with_capacity(texts.len(), texts.len() * 36);
    for text in texts {
        // A UUID is mapped, too: with a text before it, it is none.
        let mapped = text.map(|text| namespace.map(format!("masked {text}").as_bytes()));
        builder.append_option(mapped.as_ref().and_then(|mapped| std::str::from_utf8(mapped).ok()));
    }
    builder.finish()
}
