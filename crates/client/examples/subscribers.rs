//! Many subscriptions in one process, and counts of what happened to them: `subscribers CLIENTS SECONDS SERVER...`.
//!
//! The user is STREAM_USER, the password STREAM_PASS. Says `subscribed` once every client is, and at the end prints one
//! line of JSON. `scripts/drain` uses it.

use std::{env, process::exit, sync::Arc, time::Duration};

use tickstream_client::{Client, Error, Mode, StreamUpdate};
use tokio::{runtime, sync::Semaphore, time};

/// Clients that connect at once.
const CONNECTING_MAX: usize = 256;

/// Counts of one client, or of all of them.
#[derive(Default)]
struct Counts {
    ticks: u64,
    gaps: u64,
    /// Ticks whose sequence isn't one above the last.
    out_of_order: u64,
    goaways: u64,
    disconnected: u64,
    /// Reconnected to another server than the first.
    moved: u64,
    failed: u64,
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [clients, seconds, servers @ ..] = arguments.as_slice() else { usage() };
    let (Ok(clients), Ok(seconds)) = (clients.parse::<u64>(), seconds.parse::<u64>()) else { usage() };
    if servers.is_empty() {
        usage();
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let counts = runtime.block_on(run(clients, Duration::from_secs(seconds), servers.to_vec()))?;
    println!(
        "{{\"clients\":{clients},\"ticks\":{},\"gaps\":{},\"out_of_order\":{},\"goaways\":{},\"disconnected\":{},\
         \"moved\":{},\"failed\":{}}}",
        counts.ticks,
        counts.gaps,
        counts.out_of_order,
        counts.goaways,
        counts.disconnected,
        counts.moved,
        counts.failed
    );
    Ok(())
}

fn usage() -> ! {
    eprintln!("usage: subscribers CLIENTS SECONDS SERVER...");
    exit(2)
}

async fn run(clients: u64, lasts: Duration, servers: Vec<String>) -> Result<Counts, Error> {
    let servers: Arc<[String]> = servers.into();
    let gate = Arc::new(Semaphore::new(CONNECTING_MAX));
    let mut joining = Vec::new();
    for _ in 0..clients {
        let (servers, gate) = (Arc::clone(&servers), Arc::clone(&gate));
        joining.push(tokio::spawn(async move {
            let _permit = gate.acquire().await;
            let (user, password) = (env::var("STREAM_USER"), env::var("STREAM_PASS"));
            let builder = Client::builder(servers[0].clone())
                .credentials(user.unwrap_or_default(), password.unwrap_or_default())
                .connect_timeout(Duration::from_secs(10));
            let builder = servers[1..].iter().fold(builder, |builder, server| builder.server(server.clone()));
            builder.connect().await?.subscribe(Mode::Second).await
        }));
    }
    let mut subscriptions = Vec::new();
    for join in joining {
        subscriptions.push(join.await.expect("no client panics")?);
    }
    println!("subscribed");
    let end = time::Instant::now() + lasts;
    let mut following = Vec::new();
    for mut subscription in subscriptions {
        let servers = Arc::clone(&servers);
        following.push(tokio::spawn(async move {
            let (mut counts, mut last) = (Counts::default(), None);
            while let Ok(Some(event)) = time::timeout_at(end, subscription.next()).await {
                match event {
                    Ok(StreamUpdate::Batch(batch)) => {
                        for tick in batch.ticks {
                            counts.out_of_order +=
                                u64::from(last.is_some_and(|last| tick.sequence != last + 1));
                            last = Some(tick.sequence);
                            counts.ticks += 1;
                        }
                    }
                    Ok(StreamUpdate::Gap { .. } | StreamUpdate::Reset { .. }) => counts.gaps += 1,
                    Ok(StreamUpdate::GoAway { .. }) => counts.goaways += 1,
                    Ok(StreamUpdate::Disconnected { .. }) => counts.disconnected += 1,
                    Ok(StreamUpdate::Reconnected { server, .. }) => {
                        counts.moved += u64::from(server != servers[0]);
                    }
                    Ok(StreamUpdate::Subscribed { .. }) => {}
                    Err(_) => counts.failed += 1,
                }
            }
            counts
        }));
    }
    let mut sum = Counts::default();
    for client in following {
        let counts = client.await.expect("no client panics");
        sum.ticks += counts.ticks;
        sum.gaps += counts.gaps;
        sum.out_of_order += counts.out_of_order;
        sum.goaways += counts.goaways;
        sum.disconnected += counts.disconnected;
        sum.moved += counts.moved;
        sum.failed += counts.failed;
    }
    Ok(sum)
}
