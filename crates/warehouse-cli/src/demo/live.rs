//! Live events of the demo: published as an application would.

use std::time::Duration;

use tickstream_client::{Client, Error, Publishing, fill_event};
use tickstream_service::credentials::Credentials;
use tickstream_warehouse_core::sample;
use tokio::time;

/// Time between two events.
const INTERVAL: Duration = Duration::from_millis(50);
/// Events wait so long for others of their batch.
const LINGER: Duration = Duration::from_millis(200);
/// Publishes until it is aborted, or the server ends.
///
/// # Errors
/// If the server can't be reached.
pub async fn publish(address: String, credentials: Credentials) -> Result<(), Error> {
    let client = Client::builder(address).credentials(credentials.user, credentials.pass);
    let publisher = client.publisher(Publishing::default().linger(LINGER)).await?;
    let mut due = time::interval(INTERVAL);
    for number in 0_u64.. {
        due.tick().await;
        let mut event = sample::live(number);
        fill_event(&mut event);
        if publisher.publish(&event).await.is_err() {
            break;
        }
    }
    Ok(())
}
