//! The demo's clients, and its agent that publishes events, on a thread of their own.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tickstream_client::events::Event;
use tickstream_client::{Client, Error, Mode, Publishing, fill_event};
use tickstream_schema::json::parse_event;
use tickstream_service::credentials::Credentials;
use tokio::sync::oneshot;
use tokio::time;

/// Time between two clients that connect, and between two events.
const CLIENT_INTERVAL: Duration = Duration::from_millis(10);
const EVENT_INTERVAL: Duration = Duration::from_millis(50);
/// Events wait so long for others of their batch.
const LINGER: Duration = Duration::from_millis(500);
/// Each so many clients, one subscribes to MINUTE.
const MINUTE_EVERY: u32 = 4;
/// Different users and sessions in the events.
const USERS: u64 = 50;

/// Events in turn; `USER` and `NUMBER` are replaced.
const EVENTS: [&str; 6] = [
    r#"{"platform":"web","session_id":"session-USER","user_id":"user-USER","event_type":"user_interaction","event_name":"product_viewed",
        "user_interaction":{"properties":{"screen_name":"product","element_id":"item-NUMBER","action":"view"}}}"#,
    r#"{"platform":"linux","event_type":"log","event_name":"order_stored","log":{"service":"orders","level":"info","message":"order NUMBER stored"}}"#,
    r#"{"platform":"ios","session_id":"session-USER","user_id":"user-USER","event_type":"user_interaction","event_name":"checkout_clicked",
        "user_interaction":{"properties":{"screen_name":"cart","element_id":"checkout","element_type":"button","action":"click"}}}"#,
    r#"{"platform":"linux","event_type":"log","event_name":"card_declined","user_id":"user-USER",
        "log":{"service":"payments","level":"warn","message":"the card was declined"}}"#,
    r#"{"platform":"linux","event_type":"application_metric","event_name":"queue_length",
        "application_metric":{"service":"orders","environment":"demo","metric_type":"gauge","name":"queue_length","value":NUMBER}}"#,
    r#"{"platform":"android","user_id":"user-USER","event_type":"custom","event_name":"signed_up","custom":{"schema":"sign-up/1"}}"#,
];

/// Everyone but the client that prints. Dropped, they all leave at once.
pub struct Clients {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Clients {
    /// Has so many clients connect, one after another, and events published.
    ///
    /// # Errors
    /// If there is no thread for them.
    pub fn start(address: String, credentials: &Credentials, clients: u32) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let credentials = credentials.clone();
        let everyone = async move {
            tokio::spawn(publish(address.clone(), credentials.clone()));
            tokio::spawn(connect(address, credentials, clients));
            // An error: the sender was dropped.
            _ = stopped.await;
        };
        // The runtime is dropped behind it, and all tasks and connections with it.
        let thread =
            thread::Builder::new().name("clients".to_owned()).spawn(move || runtime.block_on(everyone))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It fails only if the thread panicked, which was printed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn connect(address: String, credentials: Credentials, clients: u32) {
    for number in 1..=clients {
        let mode = if number % MINUTE_EVERY == 0 { Mode::Minute } else { Mode::Second };
        tokio::spawn(watch(address.clone(), credentials.clone(), mode));
        time::sleep(CLIENT_INTERVAL).await;
    }
}

/// Watches as one client. An error ends it; the client that prints says what is wrong.
async fn watch(address: String, credentials: Credentials, mode: Mode) -> Result<(), Error> {
    let client = Client::builder(address).credentials(credentials.user, credentials.pass).connect().await?;
    let mut ticks = client.subscribe(mode).await?;
    while let Some(update) = ticks.next().await {
        update?;
    }
    Ok(())
}

async fn publish(address: String, credentials: Credentials) -> Result<(), Error> {
    let client = Client::builder(address).credentials(credentials.user, credentials.pass);
    let publisher = client.publisher(Publishing::default().linger(LINGER)).await?;
    let mut due = time::interval(EVENT_INTERVAL);
    for number in 0.. {
        due.tick().await;
        if publisher.publish(&event(number)).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn event(number: u64) -> Event {
    let template = EVENTS[(number % EVENTS.len() as u64) as usize];
    // Consecutive ones are of different users, as they would be.
    let user = (number * 7 % USERS).to_string();
    let json = template.replace("USER", &user).replace("NUMBER", &(number % 1_000).to_string());
    let mut event = parse_event(&json).expect("a template of an event");
    fill_event(&mut event);
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_an_event() {
        for number in 0..2 * EVENTS.len() as u64 {
            let event = event(number);
            assert!(event.body.is_some() && !event.platform.is_empty(), "{event:?}");
        }
    }
}
