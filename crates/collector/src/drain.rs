//! The end of the collector, as tasks hear of it.

use tokio::sync::watch;

/// Waits until the collector ends.
pub(crate) async fn begins(drain: &mut watch::Receiver<bool>) {
    // An error means that the listener is gone, which is an end, too.
    _ = drain.wait_for(|is_draining| *is_draining).await;
}
