//! Authentication: SCRAM-SHA-256 (RFC 7677), or everybody of this host where no users are named.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::Sink;
use pgwire::api::auth::sasl::SASLAuthStartupHandler;
use pgwire::api::auth::sasl::scram::ScramAuth;
use pgwire::api::auth::{
    AuthSource, DefaultServerParameterProvider, LoginInfo, Password, StartupHandler, finish_authentication,
    protocol_negotiation, save_startup_parameters_to_metadata,
};
use pgwire::api::{
    ClientInfo, ConnectionGuard, ConnectionHandle, ConnectionManager, PidSecretKeyGenerator,
    RandomPidSecretKeyGenerator,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::errors::error;
use crate::query::session::{POSTGRES_VERSION, SCHEMA};
use crate::serve::users::{Access, Users};

/// Startup of one connection.
pub struct Startup {
    way: Way,
    /// True if a password is taken over TLS alone.
    needs_tls: bool,
}

enum Way {
    Scram(Box<SASLAuthStartupHandler<DefaultServerParameterProvider>>),
    Local { cancellable: Arc<ConnectionManager> },
}

impl Startup {
    /// Startup of a client that may come in as `access` says.
    pub fn new(access: &Access, cancellable: Arc<ConnectionManager>, needs_tls: bool) -> Self {
        let way = match access {
            Access::Local => Way::Local { cancellable },
            Access::Users(users) => {
                let handler = SASLAuthStartupHandler::new(Arc::new(parameters()))
                    .with_scram(ScramAuth::new(Arc::new(Passwords(users.clone()))))
                    .with_pid_secret_key_generator(pids())
                    .with_connection_manager(cancellable);
                Way::Scram(Box::new(handler))
            }
        };
        Self { way, needs_tls }
    }
}

/// Numbers of connections, for requests to cancel. One counter for all: two connections never have the same.
fn pids() -> Arc<dyn PidSecretKeyGenerator> {
    static PIDS: std::sync::LazyLock<Arc<RandomPidSecretKeyGenerator>> =
        std::sync::LazyLock::new(|| Arc::new(RandomPidSecretKeyGenerator::default()));
    PIDS.clone()
}

fn parameters() -> DefaultServerParameterProvider {
    let mut parameters = DefaultServerParameterProvider::default();
    parameters.server_version = POSTGRES_VERSION.to_owned();
    parameters.search_path = SCHEMA.to_owned();
    parameters.is_superuser = false;
    parameters.default_transaction_read_only = true;
    parameters
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if self.needs_tls && !client.is_secure() {
            return Err(error(
                "28000",
                "this server takes passwords over TLS alone; connect with sslmode=require",
            ));
        }
        match &self.way {
            Way::Scram(handler) => handler.on_startup(client, message).await,
            Way::Local { cancellable } => {
                let PgWireFrontendMessage::Startup(startup) = &message else { return Ok(()) };
                protocol_negotiation(client, startup).await?;
                save_startup_parameters_to_metadata(client, startup);
                let (pid, key) = pids().generate(client);
                client.set_pid_and_secret_key(pid, key.clone());
                let (handle, guard) = cancellable.register(pid, key);
                client.session_extensions().insert::<Arc<ConnectionHandle>>(handle);
                client.session_extensions().insert::<ConnectionGuard>(guard);
                finish_authentication(client, &parameters()).await
            }
        }
    }
}

/// Salted passwords of the users.
#[derive(Debug)]
struct Passwords(Users);

#[async_trait]
#[expect(elided_lifetimes_in_paths, reason = "as the trait has it, which names no lifetime")]
impl AuthSource for Passwords {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        let salted = self.0.salted(login.user().unwrap_or_default());
        Ok(Password::new(Some(salted.salt), salted.password))
    }
}
