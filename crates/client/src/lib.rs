//! A client of tickstream: ticks, once each and in order, for as long as the application wants them; and events, which
//! are stored when they are acknowledged.
//!
//! ```no_run
//! use tickstream_client::{Client, Mode, StreamUpdate};
//!
//! # async fn ticks() -> Result<(), tickstream_client::Error> {
//! let client = Client::builder("ticks.example.net:7400")
//!     .server("ticks-2.example.net:7400")
//!     .credentials("alice", "correct horse battery staple")
//!     .connect()
//!     .await?;
//! let mut ticks = client.subscribe(Mode::Second).await?;
//! while let Some(event) = ticks.next().await {
//!     match event? {
//!         StreamUpdate::Batch(batch) => println!("{} ticks from {}", batch.ticks.len(), batch.first_sequence),
//!         StreamUpdate::Gap { expected, got } => eprintln!("the server left out {expected} to {}", got - 1),
//!         StreamUpdate::Reset { expected, got } => eprintln!("after {}, the server goes on with {got}", expected - 1),
//!         StreamUpdate::Disconnected { error, retry_in } => eprintln!("{error}; again in {retry_in:?}"),
//!         StreamUpdate::Subscribed { .. } | StreamUpdate::Reconnected { .. } | StreamUpdate::GoAway { .. } => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it takes care of
//!
//! A background task owns the connection. It sends the heartbeats however slow the application is, finds dead
//! links, and, once a subscription was accepted, reconnects (over all the servers it was given, with jittered
//! exponential backoff) and resumes after the last tick that it has seen. Until then errors go to the caller of
//! [`Builder::connect`] and [`Client::subscribe`], who knows whether it is worth trying again:
//! [`Error::is_retryable`].
//!
//! A subscription ends by [`Subscription::close`] or drop, or by an error that no reconnect can cure, such as
//! wrong credentials: that one is the last item of [`Subscription::next`].
//!
//! # What it guarantees
//!
//! - While a subscription stays in one mode, sequences strictly increase, across reconnects too. A tick that was
//!   delivered is never delivered again; ticks that the server left out come as [`StreamUpdate::Gap`].
//! - Memory is bounded, whatever the server sends: see [`Builder::queue`]. When the application doesn't take its
//!   batches, the task stops reading, and TCP slows the server down. A server ends such a connection after a
//!   while; the ticks are then replayed as far back as it keeps them.
//! - Nothing that a server sends makes it panic: what isn't the protocol becomes an [`Error`].
//!
//! # Publishing
//!
//! ```no_run
//! use std::time::Duration;
//! use tickstream_client::{Client, PublishEvent, Publishing, events::{Body, Log, LogLevel}, new_event};
//!
//! # async fn publish() -> Result<(), Box<dyn std::error::Error>> {
//! let publishing = Publishing::default().linger(Duration::from_secs(1)).observer(|event| match event {
//!     PublishEvent::Rejected(rejection) => eprintln!("{}: {}", rejection.code, rejection.message),
//!     PublishEvent::Disconnected { error, retry_in } => eprintln!("{error}; again in {retry_in:?}"),
//!     _ => {}
//! });
//! let publisher = Client::builder("events.example.net:7400")
//!     .credentials("alice", "correct horse battery staple")
//!     .publisher(publishing)
//!     .await?;
//! let log = Log {
//!     service: "payments".into(),
//!     level: LogLevel::Error.into(),
//!     message: "the card was declined".into(),
//!     ..Log::default()
//! };
//! publisher.publish(&new_event("linux", "payment_failed", Body::Log(log))).await?;
//! publisher.flush().await?;
//! let left = publisher.close(Duration::from_secs(10)).await;
//! assert!(left.is_empty(), "{} events have no answer", left.len());
//! # Ok(())
//! # }
//! ```
//!
//! A [`Publisher`] has a connection and a task of its own. It guarantees, as long as it isn't dropped, closed or ended by an error that no reconnect cures:
//!
//! - Each event that [`Publisher::publish`] took gets one final answer: it is on the server's stable storage, or it was
//!   rejected for good, which the [observer](Publishing::observer) is told. Events that the server can't take at
//!   present go again, in another batch, after a random wait that grows.
//! - A batch without an answer goes again on the next connection, under the number and with the events that it had, so
//!   the server stores it once.
//! - Memory is bounded: see [`Publishing::queue`].
//! - No more batches are on the way than the server gives credits for, none larger than it takes, and none before the
//!   time for which it asked.
//!
//! [`Publisher::close`] gives back what an application that ends leaves without an answer; with a
//! [disk queue](Publishing::disk_queue), the next start sends it. docs/publishing.md tells more.
//!
//! # Encryption
//!
//! [`Builder::tls`] makes the client speak TLS 1.3, and nothing older, with certificates of its own where the server
//! asks for them (mutual TLS). It checks the server's certificate, resumes sessions when it reconnects, and ends with
//! close_notify. Without it the password crosses the network in the clear.
//!
//! The client needs a tokio runtime with I/O and time enabled.

#![forbid(unsafe_code)]

mod backoff;
mod builder;
mod client;
mod config;
mod cursor;
mod dial;
mod driver;
mod error;
mod feed;
mod link;
mod outbox;
mod publish;
mod session;
mod tls;
mod tls_error;
mod transport;
mod update;

pub use builder::Builder;
pub use client::{Client, Subscription};
pub use error::{BadMessage, Error, Operation, with_causes};
pub use publish::{
    BatchAnswer, BatchPublisher, BatchPublishing, BatchRejection, Compression, EncodedBatch, Progress,
    PublishError, PublishEvent, Publisher, PublisherStatus, Publishing, Rejection, SubmitError, Unanswered,
    fill_event, new_event, new_event_id,
};
pub use rustls::AlertDescription;
pub use tickstream_schema::events;
/// Events as JSON lines.
#[cfg(feature = "json")]
pub use tickstream_schema::json;
pub use tickstream_wire::messages::Mode;
pub use tickstream_wire::{ErrorCode, FrameError, FrameType};
pub use tls::TlsConfig;
pub use tls_error::{TlsConfigError, TlsError};
pub use update::{Batch, StreamUpdate, Tick};
