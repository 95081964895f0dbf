//! Live events of the demo: published as an application would.

use std::time::Duration;

use tickstream_client::{Client, Error, Publishing, fill_event};
use tickstream_schema::json::parse_event;
use tickstream_service::credentials::Credentials;
use tokio::time;

/// Time between two events.
const INTERVAL: Duration = Duration::from_millis(50);
/// Events wait so long for others of their batch.
const LINGER: Duration = Duration::from_millis(200);
/// Visitors at the same time.
const USERS: u64 = 50;

/// Events in turn; `USER` and `NUMBER` are replaced.
const EVENTS: [&str; 4] = [
    r#"{"platform":"web","session_id":"live-USER","user_id":"user-USER","event_type":"user_interaction","event_name":"product_viewed",
        "user_interaction":{"properties":{"screen_name":"product","element_id":"item-NUMBER","action":"view"}}}"#,
    r#"{"platform":"linux","event_type":"log","event_name":"log","log":{"service":"orders","level":"info","message":"order NUMBER stored"}}"#,
    r#"{"platform":"ios","session_id":"live-USER","user_id":"user-USER","event_type":"user_interaction","event_name":"added_to_cart",
        "user_interaction":{"properties":{"screen_name":"product","action":"add"}}}"#,
    r#"{"platform":"linux","event_type":"application_metric","event_name":"queue_length",
        "application_metric":{"service":"orders","metric_type":"gauge","name":"queue_length","value":NUMBER}}"#,
];

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
        let template = EVENTS[(number % EVENTS.len() as u64) as usize];
        let user = (number * 7 % USERS).to_string();
        let json = template.replace("USER", &user).replace("NUMBER", &(number % 1_000).to_string());
        let mut event = parse_event(&json).expect("a template of an event");
        fill_event(&mut event);
        if publisher.publish(&event).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_an_event() {
        for template in EVENTS {
            parse_event(&template.replace("USER", "1").replace("NUMBER", "2")).unwrap();
        }
    }
}
