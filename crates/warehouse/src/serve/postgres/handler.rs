//! Queries of one connection, and their answers.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch};
use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as EngineStatement;
use futures::channel::oneshot;
use futures::{Sink, Stream, StreamExt, future, stream};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, ConnectionHandle, METADATA_USER, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::DataRow;
use pgwire::messages::response::TransactionStatus;

use super::errors::{Failure, error, of_query};
use super::parameters;
use super::statement::{Parser, Prepared};
use crate::query::{Answer, Engine, Role};
use crate::serve::users::Access;

/// Answers the queries of a connection.
pub struct Handler {
    engine: Arc<Engine>,
    access: Access,
    statements: Arc<Statements>,
}

/// Parses statements, and knows their columns.
pub struct Statements {
    engine: Arc<Engine>,
    parser: Parser,
}

impl Handler {
    /// A handler for a new connection.
    pub fn new(engine: Arc<Engine>, access: Access) -> Self {
        let statements = Arc::new(Statements { engine: engine.clone(), parser: Parser::default() });
        Self { engine, access, statements }
    }

    /// Role of the user that was authenticated.
    fn role<C: ClientInfo + ?Sized>(&self, client: &C) -> PgWireResult<Role> {
        match &self.access {
            Access::Local => Ok(Role::local()),
            Access::Users(users) => {
                let name = client.metadata().get(METADATA_USER).map_or("", String::as_str);
                users.role_of(name).ok_or_else(|| error("28000", "there is no such user"))
            }
        }
    }

    async fn answer<C: ClientInfo>(
        &self,
        client: &C,
        prepared: &Prepared,
        portal: Option<&Portal<Prepared>>,
    ) -> PgWireResult<Response> {
        let is_aborted = client.transaction_status() == TransactionStatus::Error;
        Ok(match prepared {
            Prepared::Commit if is_aborted => Response::TransactionEnd(Tag::new("ROLLBACK")),
            Prepared::Commit => Response::TransactionEnd(Tag::new("COMMIT")),
            Prepared::Rollback => Response::TransactionEnd(Tag::new("ROLLBACK")),
            _ if is_aborted => {
                return Err(error("25P02", "a query of this transaction failed; end it with ROLLBACK"));
            }
            Prepared::Begin => Response::TransactionStart(Tag::new("BEGIN")),
            Prepared::Ignored(tag) => Response::Execution(Tag::new(tag)),
            Prepared::Show { name, value } => Response::Query(shown(name, value)?),
            Prepared::Query { statement, .. } => {
                Response::Query(self.rows(client, statement.as_ref().clone(), portal).await?)
            }
        })
    }

    async fn rows<C: ClientInfo>(
        &self,
        client: &C,
        statement: EngineStatement,
        portal: Option<&Portal<Prepared>>,
    ) -> PgWireResult<QueryResponse> {
        let role = self.role(client)?;
        let values = |plan: &LogicalPlan| match portal {
            Some(portal) => parameters::values(plan, portal).map_err(Failure::from),
            None => Ok(None),
        };
        let answer = self.engine.run(statement, &role, values).await.map_err(PgWireError::from)?;
        let format = portal.map_or(Format::UnifiedText, |portal| portal.result_column_format.clone());
        let fields = Arc::new(arrow_schema_to_pg_fields(&answer.schema, &format, None)?);
        let handle = client.session_extensions().get::<Arc<ConnectionHandle>>();
        let handle = handle.map(|handle| Arc::clone(handle.as_ref()));
        Ok(QueryResponse::new(fields.clone(), encoded(answer, fields, handle)))
    }
}

/// Rows of an answer, until it ends or its client cancels it.
fn encoded(
    answer: Answer,
    fields: Arc<Vec<FieldInfo>>,
    handle: Option<Arc<ConnectionHandle>>,
) -> impl Stream<Item = PgWireResult<DataRow>> + Send {
    struct State {
        answer: Pin<Box<Answer>>,
        handle: Option<Arc<ConnectionHandle>>,
        cancelled: Option<oneshot::Receiver<()>>,
    }
    let state = State { answer: Box::pin(answer), handle, cancelled: None };
    let batches = stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        // Begun with the first row: `pgwire` itself listens while the query is planned.
        if let Some(handle) = state.handle.take() {
            state.cancelled = Some(handle.start_query().await);
        }
        let next = match &mut state.cancelled {
            Some(cancelled) => match future::select(state.answer.next(), cancelled).await {
                future::Either::Left((next, _)) => next,
                future::Either::Right(_) => return Some((Err(PgWireError::QueryCanceled), None)),
            },
            None => state.answer.next().await,
        };
        match next? {
            Ok(batch) => Some((Ok(batch), Some(state))),
            Err(error) => Some((Err(of_query(&error)), None)),
        }
    });
    batches.flat_map(move |batch| match batch {
        Ok(batch) => stream::iter(encode_recordbatch(fields.clone(), batch)).boxed(),
        Err(error) => stream::iter([Err(error)]).boxed(),
    })
}

fn shown(name: &str, value: &str) -> PgWireResult<QueryResponse> {
    let fields = Arc::new(shown_fields(name));
    let mut encoder = DataRowEncoder::new(fields.clone());
    encoder.encode_field(&Some(value))?;
    let row = encoder.take_row();
    let mut response = QueryResponse::new(fields, stream::iter([Ok(row)]));
    response.set_command_tag("SHOW");
    Ok(response)
}

fn shown_fields(name: &str) -> Vec<FieldInfo> {
    vec![FieldInfo::new(name.to_owned(), None, None, Type::TEXT, FieldFormat::Text)]
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn do_query<C>(&self, client: &mut C, sql: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match self.statements.parser.parse(sql, client.metadata())? {
            None => Ok(vec![Response::EmptyQuery]),
            Some(prepared) => Ok(vec![self.answer(client, &prepared, None).await?]),
        }
    }
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Prepared;
    type QueryParser = Statements;

    fn query_parser(&self) -> Arc<Statements> {
        self.statements.clone()
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.answer(client, &portal.statement.statement, Some(portal)).await
    }
}

#[async_trait]
impl QueryParser for Statements {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, client: &C, sql: &str, _: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut prepared = self.parser.parse(sql, client.metadata())?;
        if let Some(Prepared::Query { statement, plan }) = &mut prepared {
            let made = self.engine.plan(statement.as_ref().clone()).await;
            *plan = Some(Arc::new(made.map_err(|error| of_query(&error))?));
        }
        Ok(prepared)
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        match prepared {
            Prepared::Query { plan: Some(plan), .. } => parameters::types(plan),
            _ => Ok(Vec::new()),
        }
    }

    fn get_result_schema(
        &self,
        prepared: &Prepared,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        match prepared {
            Prepared::Query { plan: Some(plan), .. } => arrow_schema_to_pg_fields(
                plan.schema().as_arrow(),
                format.unwrap_or(&Format::UnifiedText),
                None,
            ),
            Prepared::Show { name, .. } => Ok(shown_fields(name)),
            _ => Ok(Vec::new()),
        }
    }
}
