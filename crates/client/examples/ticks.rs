//! Prints ticks, and what happens to their subscription:
//!
//! ```sh
//! TICKSTREAM_PASSWORD=secret cargo run --example ticks -- 127.0.0.1:7400 alice second
//! ```

use std::env;

use tickstream_client::{Client, Mode, StreamUpdate, with_causes};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [server, username, mode] = &arguments[..] else {
        return Err("usage: TICKSTREAM_PASSWORD=… ticks <host:port> <user> <second|minute>".into());
    };
    let mode = match mode.as_str() {
        "second" => Mode::Second,
        "minute" => Mode::Minute,
        other => return Err(format!("no mode {other}: second or minute").into()),
    };
    // Not an argument: every user of the machine sees those.
    let password = env::var("TICKSTREAM_PASSWORD")?;

    let client = Client::builder(server).credentials(username, password).connect().await?;
    let mut ticks = client.subscribe(mode).await?;
    while let Some(event) = ticks.next().await {
        print(event?);
    }
    Ok(())
}

fn print(event: StreamUpdate) {
    match event {
        StreamUpdate::Batch(batch) => {
            for tick in batch.ticks {
                println!("{:?} {} due at {} ms", batch.mode, tick.sequence, tick.epoch_ms);
            }
        }
        StreamUpdate::Gap { expected, got } => println!("the server left out {expected} to {}", got - 1),
        StreamUpdate::Reset { expected, got } => println!("the server goes on with {got}, behind {expected}"),
        StreamUpdate::Subscribed { mode, next_sequence } => println!("{mode:?} from {next_sequence}"),
        StreamUpdate::Disconnected { error, retry_in } => {
            println!("{}; again in {retry_in:?}", with_causes(&error));
        }
        StreamUpdate::Reconnected { server, next_sequence } => {
            println!("{server} goes on at {next_sequence}");
        }
        StreamUpdate::GoAway { reason, retry_after } => println!("to leave in {retry_after:?}: {reason}"),
    }
}
