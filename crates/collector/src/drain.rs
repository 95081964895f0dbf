//! The end of the collector, as tasks hear of it.

use std::time::Duration;

use tokio::{sync::watch, time};

/// Waits until the collector ends.
pub(crate) async fn begins(drain: &mut watch::Receiver<bool>) {
    // An error means that the listener is gone, which is an end, too.
    _ = drain.wait_for(|is_draining| *is_draining).await;
}

/// Waits until the collector ends, and for this time from then on.
pub(crate) async fn has_begun_for(drain: &mut watch::Receiver<bool>, patience: Duration) {
    begins(drain).await;
    time::sleep(patience).await;
}
