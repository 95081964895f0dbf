//! Operator's commands: questions to a running server's admin endpoint, and changes through it.
//!
//! One module for each command with something to print: `status`, `connections`, `connection`, `kick`. `upgrade`, one
//! request that waits for the new process, is in `main.rs`.

mod connection;
mod connections;
mod kick;
mod status;

use std::io::{self, Write};

use tickstream_service::admin::AdminAddress;
use tickstream_service::text;

use crate::admin_client::{AdminClient, AdminClientError, PATIENCE, advice, with_query};
use crate::exit;

pub use connections::ConnectionsArgs;
pub use kick::KickArgs;

/// An operator's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorArgs {
    /// The server.
    pub admin: AdminClient,
    /// The action.
    pub action: OperatorAction,
}

/// Action of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorAction {
    /// Say how the server is.
    Status {
        /// The server's answer, as JSON.
        json: bool,
    },
    /// List connections.
    Connections(ConnectionsArgs),
    /// Show one connection.
    Connection {
        /// Shard and number.
        id: String,
        /// As JSON.
        json: bool,
    },
    /// Close connections.
    Kick(KickArgs),
    /// End in good order.
    Drain,
    /// Read the settings again.
    Reload,
    /// Show or set the level of the log.
    LogLevel(Option<String>),
}

/// Conditions on connections, as the endpoint's query has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which(pub Vec<(&'static str, String)>);

impl Which {
    /// Keys and values of a query.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// The conditions, for people.
    pub fn shown(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(key, value)| format!("{key} {value}")).collect();
        words.join(", ")
    }
}

/// Reasons for which a command fails.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The endpoint.
    #[error("the admin endpoint at {address}: {source}{}", advice(source))]
    Admin {
        /// Its address.
        address: AdminAddress,
        /// The reason.
        source: AdminClientError,
    },
    /// There is no such connection.
    #[error(
        "the server at {address} has no connection {id}; `tickstream connections` lists those that it has"
    )]
    NoConnection {
        /// The server's address.
        address: AdminAddress,
        /// Shard and number.
        id: String,
    },
    /// There is nobody to ask.
    #[error(
        "kick asks before it closes connections, and standard input is no terminal: add --yes to do without the question"
    )]
    NoTerminal,
    /// The operator said no.
    #[error("nothing was closed")]
    Declined,
    /// The terminal.
    #[error("can't use the terminal: {0}")]
    Terminal(io::Error),
    /// Signals.
    #[error("signals can't be caught: {0}")]
    Signals(io::Error),
    /// Standard output.
    #[error("can't write to standard output: {0}")]
    Output(io::Error),
}

impl OperatorError {
    /// The exit code of the command.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Admin { source, .. } => source.exit_code(),
            Self::NoTerminal => exit::USAGE,
            _ => exit::FAILURE,
        }
    }
}

/// Runs the command. Whoever closes standard output has seen enough.
///
/// # Errors
/// See [`OperatorError`].
pub fn run(args: &OperatorArgs) -> Result<(), OperatorError> {
    let OperatorArgs { admin, action } = args;
    // One line each, so that foreign text forges no other.
    let line = |said: &str| print(&format!("{}\n", text::one_line(said.trim_end())));
    let done = match action {
        OperatorAction::Status { json } => status::run(admin, *json),
        OperatorAction::Connections(args) => connections::run(admin, args),
        OperatorAction::Connection { id, json } => connection::run(admin, id, *json),
        OperatorAction::Kick(args) => kick::run(admin, args),
        OperatorAction::Drain => post(admin, "/drain").and_then(|said| line(&said)),
        OperatorAction::Reload => post(admin, "/reload").and_then(|said| print(&text::lines(&said))),
        OperatorAction::LogLevel(Some(level)) => {
            post(admin, &with_query("/log-level", [("level", level.as_str())])).and_then(|said| line(&said))
        }
        OperatorAction::LogLevel(None) => {
            let level = admin.get("/log-level", PATIENCE).map_err(failed(admin))?;
            line(&String::from_utf8_lossy(&level))
        }
    };
    match done {
        Err(OperatorError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

fn post(admin: &AdminClient, path: &str) -> Result<String, OperatorError> {
    // A reload reads files, and closing many connections takes the shards some passes.
    admin.post(path, PATIENCE * 10).map_err(failed(admin))
}

fn failed(admin: &AdminClient) -> impl Fn(AdminClientError) -> OperatorError {
    |source| OperatorError::Admin { address: admin.address.clone(), source }
}

/// The error of a question about one connection.
fn failed_of(admin: &AdminClient, id: &str) -> impl Fn(AdminClientError) -> OperatorError {
    |source| match source {
        AdminClientError::Refused { status: 404, text } if text.contains("no connection") => {
            OperatorError::NoConnection { address: admin.address.clone(), id: id.to_owned() }
        }
        source => failed(admin)(source),
    }
}

fn print(text: &str) -> Result<(), OperatorError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(OperatorError::Output)
}
