//! Sends prepared bytes to a collector over several connections, as fast as it answers or at a steady rate.
//!
//!     tickstream-sender-load ADDR TEMPLATE CONNECTIONS SECONDS [RATE | stream]
//!
//! TEMPLATE is a file with one request of HTTP/1.1, head and body; each `@@@@@@@@` in it becomes a number of its own for
//! each request, so that no two have the same body. RATE is requests a second over all connections; their latency then
//! counts from when they were due. With `stream`, the bytes are written without waiting for answers, as syslog has it.
//! Prints one line of JSON.

use std::{
    env,
    error::Error,
    fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

const PLACE: &[u8; 8] = b"@@@@@@@@";
/// Numbers of one connection's requests begin at its index times this.
const NUMBERS: u64 = 1_000_000;
/// Pause after a refusal.
const PAUSE: Duration = Duration::from_millis(5);

struct Plan {
    address: String,
    template: Vec<u8>,
    connections: u32,
    duration: Duration,
    /// Requests a second over all connections.
    rate: Option<f64>,
    is_stream: bool,
}

#[derive(Default)]
struct Counts {
    answered: u64,
    refused: u64,
    latencies: Vec<Duration>,
}

fn main() -> ExitCode {
    match plan().and_then(|plan| run(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tickstream-sender-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan() -> Result<Plan, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, template, connections, seconds, rest @ ..] = &arguments[..] else {
        return Err("usage: ADDR TEMPLATE CONNECTIONS SECONDS [RATE | stream]".into());
    };
    let is_stream = rest.first().is_some_and(|word| word == "stream");
    let rate = rest.first().filter(|_| !is_stream).map(|rate| rate.parse()).transpose()?;
    Ok(Plan {
        address: address.clone(),
        template: fs::read(template)?,
        connections: connections.parse()?,
        duration: Duration::from_secs_f64(seconds.parse()?),
        rate,
        is_stream,
    })
}

fn run(plan: &Plan) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let counts: Vec<io::Result<Counts>> = thread::scope(|scope| {
        let send =
            move |index| if plan.is_stream { stream(plan, started) } else { requests(plan, index, started) };
        let threads: Vec<_> = (0..plan.connections).map(|index| scope.spawn(move || send(index))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a connection doesn't panic")).collect()
    });
    let mut all = Counts::default();
    for counts in counts {
        let counts = counts?;
        all.answered += counts.answered;
        all.refused += counts.refused;
        all.latencies.extend(counts.latencies);
    }
    all.latencies.sort_unstable();
    let quantile = |q: f64| {
        let at = (all.latencies.len() as f64 * q) as usize;
        all.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    println!(
        r#"{{"answered":{},"refused":{},"seconds":{:.3},"p50_ms":{:.2},"p99_ms":{:.2},"max_ms":{:.2}}}"#,
        all.answered,
        all.refused,
        started.elapsed().as_secs_f64(),
        quantile(0.5),
        quantile(0.99),
        quantile(1.0_f64.next_down()),
    );
    Ok(())
}

/// One request after the other, each when the one before is answered and it is due.
fn requests(plan: &Plan, index: u32, started: Instant) -> io::Result<Counts> {
    let mut socket = TcpStream::connect(&plan.address)?;
    socket.set_nodelay(true)?;
    let mut bytes = plan.template.clone();
    let starts = 0..bytes.len().saturating_sub(PLACE.len() - 1);
    let places: Vec<usize> = starts.filter(|at| bytes[*at..].starts_with(PLACE)).collect();
    let interval = plan.rate.map(|rate| Duration::from_secs_f64(f64::from(plan.connections) / rate));
    let offset = interval.unwrap_or_default() * index / plan.connections;
    let mut counts = Counts::default();
    let mut buffer = Vec::new();
    for number in 0.. {
        let due = interval.map_or_else(Instant::now, |interval| started + offset + interval * number);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if due >= started + plan.duration {
            break;
        }
        let text = format!("{:08}", u64::from(index) * NUMBERS + u64::from(number));
        for place in &places {
            bytes[*place..][..PLACE.len()].copy_from_slice(text.as_bytes());
        }
        socket.write_all(&bytes)?;
        if is_success(&mut socket, &mut buffer)? {
            counts.answered += 1;
            counts.latencies.push(due.elapsed());
        } else {
            counts.refused += 1;
            thread::sleep(PAUSE);
        }
    }
    Ok(counts)
}

/// Reads an answer to its end: whether its status is a success.
fn is_success(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.clear();
    let mut piece = [0; 16 * 1024];
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        let read = socket.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.extend_from_slice(&piece[..read]);
    };
    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let missing = (end + length.unwrap_or(0)).saturating_sub(buffer.len());
    io::copy(&mut socket.take(missing as u64), &mut io::sink())?;
    Ok(head.starts_with("http/1.1 2"))
}

/// The template again and again, as fast as the other side reads.
fn stream(plan: &Plan, started: Instant) -> io::Result<Counts> {
    let mut socket = TcpStream::connect(&plan.address)?;
    let mut counts = Counts::default();
    while started.elapsed() < plan.duration {
        socket.write_all(&plan.template)?;
        counts.answered += 1;
    }
    socket.shutdown(Shutdown::Write)?;
    io::copy(&mut socket, &mut io::sink())?;
    Ok(counts)
}
