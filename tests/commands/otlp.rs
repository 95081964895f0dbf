//! Traces of the real binary, as a collector that takes OTLP over HTTP gets them.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use crate::process::{Process, signal, tickstream};

/// Longer than anything takes that isn't broken.
const PATIENCE: Duration = Duration::from_secs(30);
const OK: &str = "200 OK";

/// A server on a port of its own, each of whose connections is traced.
struct Server {
    process: Process,
}

impl Server {
    fn start(endpoint: SocketAddr, environment: &[(&str, &str)]) -> Self {
        let mut command =
            tickstream(&["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--drain-seconds", "1"]);
        command.args(["--admin", "127.0.0.1:0", "--ticks-per-second", "50", "--otlp-sample-one-in", "1"]);
        command.args(["--otlp-endpoint", &format!("http://{endpoint}")]);
        Self { process: Process::start(command.envs(environment.iter().copied())) }
    }

    /// A client that comes, takes some ticks if it knows the password, and goes.
    fn visit(&self, pass: &str) {
        let mut watch =
            tickstream(&["watch", "--addr", self.process.started("address"), "--count", "5", "--json"]);
        watch.env("STREAM_PASS", pass);
        let output = watch.output().expect("the binary runs");
        assert_eq!(output.status.success(), pass == "s3cret", "{output:?}");
    }

    fn lost(&self) -> String {
        self.metric("tickstream_otlp_spans_dropped_total")
    }

    fn metric(&self, name: &str) -> String {
        let admin = self.process.started("admin");
        let mut stream = TcpStream::connect(admin).expect("the admin endpoint");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.expect("a metric").to_owned()
    }

    /// Tells it to end, and returns how long that took.
    fn end(&mut self) -> Duration {
        let began = Instant::now();
        signal(self.process.pid(), "TERM");
        self.process.wait(PATIENCE);
        began.elapsed()
    }
}

/// Takes requests, and answers each with the next of its answers; with 200 when these are used up.
struct Collector {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>,
}

impl Collector {
    fn start(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (taken, mut answers) = (Arc::clone(&requests), VecDeque::from(answers.to_vec()));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.expect("a connection"));
                let Some(request) = read_request(&mut stream) else { continue };
                taken.lock().unwrap().push(request);
                let status = answers.pop_front().unwrap_or(OK);
                write!(stream.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").expect("it reads");
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        self.requests.lock().unwrap().iter().map(|(_, request)| request.clone()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let scopes =
            self.requests().into_iter().flat_map(|it| it.resource_spans).flat_map(|it| it.scope_spans);
        scopes.flat_map(|it| it.spans).collect()
    }

    /// The span with this value of this attribute, once it is there.
    fn span(&self, key: &str, value: &str) -> Span {
        let is_meant = |span: &Span| attribute(&span.attributes, key).as_deref() == Some(value);
        wait_for(&format!("{key} = {value}"), || self.spans().into_iter().find(is_meant))
    }
}

/// Its head, but for what is in its body.
fn read_request(stream: &mut impl BufRead) -> Option<(String, ExportTraceServiceRequest)> {
    let head: Vec<String> =
        stream.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let length =
        head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length?];
    stream.read_exact(&mut body).ok()?;
    Some((head.join("\n"), ExportTraceServiceRequest::decode(&body[..]).expect("protobuf")))
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    })
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "no {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_connection_is_a_span_with_its_reason() {
    let collector = Collector::start(&[]);
    let server = Server::start(collector.address, &[]);
    server.visit("s3cret");
    server.visit("wrong");
    let left = collector.span("tickstream.close.reason", "peer_closed");
    let of = |span: &Span, key: &str| attribute(&span.attributes, key).unwrap_or_default();
    assert_eq!(left.name, "connection");
    assert_eq!(of(&left, "network.peer.address"), "127.0.0.1");
    assert_eq!(of(&left, "tickstream.connection"), "0-1");
    assert_eq!(of(&left, "tickstream.mode"), "SECOND");
    assert!(of(&left, "tickstream.bytes_sent").parse::<u64>().unwrap() > 50, "{left:?}");
    assert_eq!((left.trace_id.len(), left.span_id.len(), left.status.clone()), (16, 8, None));
    let took_ms = (left.end_time_unix_nano - left.start_time_unix_nano) / 1_000_000;
    assert!((50..30_000).contains(&took_ms), "{took_ms}");

    let refused = collector.span("tickstream.close.reason", "auth_failed");
    assert_eq!(refused.status.as_ref().map(|status| status.code()), Some(StatusCode::Error));
    assert_eq!(of(&refused, "error.type"), "auth_failed");
    assert_ne!(refused.trace_id, left.trace_id);

    let head = collector.requests.lock().unwrap()[0].0.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\n"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    let resource = collector.requests()[0].resource_spans[0].resource.clone().unwrap().attributes;
    let of = |key| attribute(&resource, key).unwrap_or_default();
    assert_eq!(of("service.name"), "tickstream");
    assert_eq!(of("service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(of("process.pid"), server.process.pid().to_string());
    assert!(!of("host.name").is_empty());
    assert_eq!(of("service.instance.id").len(), 36);
    assert_eq!(server.lost(), "0");
}

/// `TICKSTREAM_CHAOS` is for builds with debug assertions.
#[cfg(debug_assertions)]
#[test]
fn a_slow_pass_is_a_span() {
    let collector = Collector::start(&[]);
    let _server = Server::start(collector.address, &[("TICKSTREAM_CHAOS", "stall:0:300")]);
    let took = |span: &Span| span.end_time_unix_nano - span.start_time_unix_nano;
    let is_meant = |span: &Span| span.name == "slow pass" && took(span) >= 200_000_000;
    let pass = wait_for("slow pass", || collector.spans().into_iter().find(is_meant));
    assert_eq!(attribute(&pass.attributes, "tickstream.shard").as_deref(), Some("0"));
    assert!(attribute(&pass.attributes, "tickstream.pass.completions").is_some());
}

#[test]
fn an_endpoint_that_is_down_is_logged_once_and_disturbs_nobody() {
    let mut server = Server::start(nobody(), &[]);
    for _ in 0..3 {
        server.visit("s3cret");
        std::thread::sleep(Duration::from_millis(1_100));
    }
    wait_for("line of the log", || server.process.log().contains("can't connect: ").then_some(()));
    assert_eq!(server.process.log().matches("traces aren't exported").count(), 1, "{}", server.process.log());
    assert!(server.end() < PATIENCE);
    wait_for("line of the log", || {
        server.process.log().contains("last spans couldn't be exported").then_some(())
    });
}

#[test]
fn what_an_endpoint_cannot_take_now_is_sent_again_and_what_it_never_takes_is_lost() {
    let collector = Collector::start(&["503 Service Unavailable", OK, "400 Bad Request"]);
    let server = Server::start(collector.address, &[]);
    server.visit("s3cret");
    wait_for("second request", || (collector.requests().len() >= 2).then_some(()));
    let requests = collector.requests();
    assert_eq!(requests[0], requests[1]);
    assert_eq!(server.lost(), "0");
    server.visit("s3cret");
    wait_for("lost span", || (server.lost() == "1").then_some(()));
    server.visit("wrong");
    collector.span("tickstream.close.reason", "auth_failed");
    assert_eq!(collector.requests().len(), 4);
}

#[test]
fn ending_exports_what_is_left() {
    let collector = Collector::start(&[]);
    let mut server = Server::start(collector.address, &[]);
    let stream = TcpStream::connect(server.process.started("address")).expect("a port");
    wait_for("connection", || (server.metric("active_connections{shard=\"0\"}") == "1").then_some(()));
    server.end();
    drop(stream);
    collector.span("tickstream.connection", "0-1");
}

#[test]
fn an_endpoint_that_hangs_delays_the_end_by_two_seconds_at_most() {
    // Connections are taken by the kernel, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = Server::start(listener.local_addr().unwrap(), &[]);
    server.visit("s3cret");
    std::thread::sleep(Duration::from_millis(1_500));
    let took = server.end();
    // A drain without clients takes no time; what is beyond two seconds is for a crowded machine.
    assert!(took >= Duration::from_millis(1_500) && took < Duration::from_secs(6), "{took:?}");
}
