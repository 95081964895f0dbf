//! The PostgreSQL wire: psql, psycopg, SQLAlchemy, Grafana and others ask over it, and can only read.
//!
//! `pgwire` reads and writes its messages. What is here: who may come in (`startup`), what a statement may do
//! (`statement`), its answer (`handler`), and bounds on what a client may send (`bounded`, `connection`).

mod bounded;
mod connection;
mod errors;
mod handler;
mod parameters;
mod startup;
mod statement;

use std::sync::Arc;
use std::time::Duration;

use pgwire::api::ConnectionManager;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::{Access, stopped};
use crate::query::Engine;

/// Connections at the same time.
const CONNECTIONS_MAX: usize = 64;

/// State that all connections share.
struct Shared {
    engine: Arc<Engine>,
    access: Access,
    tls: Option<TlsAcceptor>,
    /// Queries that can be cancelled.
    cancellable: Arc<ConnectionManager>,
}

/// Serves queries until `stop` is set; answers that were begun are finished.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<Engine>,
    access: Access,
    tls: Option<TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
) {
    let shared = Arc::new(Shared { engine, access, tls, cancellable: Arc::new(ConnectionManager::new()) });
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        let Ok((socket, peer)) = accepted else {
            // No descriptors are left, for example: others must end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // A client that finds no place sees its connection closed.
        let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
        let (shared, stop) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = connection::run(socket, peer, &shared, stop).await {
                tracing::debug!(%peer, %error, "PostgreSQL connection");
            }
            drop(permit);
        });
    }
    // All permits are back when all connections have ended.
    let _ = connections.acquire_many(CONNECTIONS_MAX as u32).await;
}
