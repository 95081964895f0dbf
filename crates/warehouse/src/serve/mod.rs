//! Wires that queries come over.

pub mod http;
pub mod pages;
pub mod postgres;
pub mod tls;
pub mod users;

use std::time::Duration;

use tokio::sync::watch;

pub use pages::{Making, Page, Pages};
pub use users::{Access, Users, UsersError};

/// Pause after a wrong password.
const WRONG_PASSWORD_PAUSE: Duration = Duration::from_millis(250);

/// Waits until the process is to end, or its end was dropped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
