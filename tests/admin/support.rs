//! A server with an admin endpoint, a client of its streams, and a client of its endpoint.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use tickstream_server::admin::report::Report;
use tickstream_wire::messages::{Auth, DataBatch, ErrorMsg, Message, Mode, Subscribe};
use tickstream_wire::{Decoder, FrameType, frame};

use crate::process::{Process, tickstream};

/// Content of each server's token file.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Longer than anything takes that isn't broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server on ports of its own.
pub struct Server {
    process: Process,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Server {
    /// One shard, with a token.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[], true)
    }

    pub fn start_with(args: &[&str], environment: &[(&str, &str)], token: bool) -> Self {
        Self::start_from(args, environment, token, "")
    }

    /// As [`Server::start`], with a pipe as standard input, which holds this text and ends.
    pub fn start_piped(args: &[&str], standard_input: &str) -> Self {
        Self::start_from(args, &[], true, standard_input)
    }

    fn start_from(args: &[&str], environment: &[(&str, &str)], token: bool, standard_input: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("admin.sock");
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, format!("{TOKEN}\n")).expect("a file");
        let admin = format!("127.0.0.1:0,unix:{}", socket.display());
        let mut command =
            tickstream(&["serve", "--listen", "127.0.0.1:0", "--admin", &admin, "--drain-seconds", "2"]);
        if !args.contains(&"--shards") {
            command.args(["--shards", "1"]);
        }
        if token {
            command.arg("--admin-token-file").arg(&token_file);
        }
        let (input, mut text) = std::io::pipe().expect("a pipe");
        text.write_all(standard_input.as_bytes()).expect("it fits into a pipe");
        drop(text);
        let process = Process::start(command.args(args).envs(environment.iter().copied()).stdin(input));
        let address = |key| process.started(key).split(',').next().and_then(|address| address.parse().ok());
        let (address, admin) =
            (address("address").expect("an address"), address("admin").expect("an address"));
        Self { process, address, admin, socket, _directory: directory }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[])
    }

    pub fn post(&self, path: &str, token: Option<&str>) -> Answer {
        let header = token.map(|token| format!("Authorization: Bearer {token}"));
        self.send("POST", path, &header.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Posts with this header.
    pub fn post_with(&self, path: &str, header: &str) -> Answer {
        self.send("POST", path, &[header])
    }

    pub fn post_by_unix(&self, path: &str) -> Answer {
        self.send_by_unix("POST", path)
    }

    pub fn get_by_unix(&self, path: &str) -> Answer {
        self.send_by_unix("GET", path)
    }

    fn send_by_unix(&self, method: &str, path: &str) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).expect("a unix socket");
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it reads");
        Answer::read(&mut stream)
    }

    fn send(&self, method: &str, path: &str, headers: &[&str]) -> Answer {
        let mut stream = self.connect_admin();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n", self.admin);
        stream.write_all(head.as_bytes()).expect("it reads");
        Answer::read(&mut stream)
    }

    pub fn connect_admin(&self) -> TcpStream {
        let stream = TcpStream::connect(self.admin).expect("the endpoint listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    pub fn snapshot(&self) -> Report {
        serde_json::from_str(&self.get("/snapshot").body).expect("a report")
    }

    /// Asks for the metrics until one of them has this value: what was just done may not be counted yet.
    pub fn wait_for_metric(&self, series: &str, expected: f64) -> Metrics {
        let begin = Instant::now();
        loop {
            let metrics = self.metrics();
            if metrics.get(series) == Some(expected) {
                return metrics;
            }
            assert!(begin.elapsed() < PATIENCE, "{series} is {:?}, not {expected}", metrics.get(series));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        Metrics(answer.body)
    }

    /// Asks for snapshots until one is as wanted.
    pub fn wait_until(&self, is_wanted: impl Fn(&Report) -> bool) {
        let begin = Instant::now();
        while !is_wanted(&self.snapshot()) {
            assert!(begin.elapsed() < PATIENCE, "{:?}", self.snapshot());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until it has ended, and answers with how, and all that it logged.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let status = self.process.wait(PATIENCE);
        (status, self.log())
    }
}

/// An answer of the endpoint.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// Reads until the end of the stream.
    pub fn read(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        // A reset behind the answer is no matter.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self { status: status.unwrap_or(0), head: head.to_owned(), body: body.to_owned() }
    }
}

/// Text of `/metrics`.
pub struct Metrics(pub String);

impl Metrics {
    /// The value of a series, written as Prometheus writes it.
    pub fn get(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().expect("a number"))
    }

    pub fn check(&self, series: &str, expected: f64) {
        assert_eq!(self.get(series), Some(expected), "{series} in\n{}", self.0);
    }

    /// The names of all series, without their values.
    pub fn series(&self) -> Vec<&str> {
        let samples = self.0.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect()
    }
}

/// A client that does as little as the test wants.
pub struct Client {
    stream: TcpStream,
    decoder: Decoder,
    /// Frames that came, of every type.
    pub frames: u64,
    /// Bytes that came.
    pub bytes: u64,
    /// Ticks that came.
    pub ticks: u64,
    /// The code of the ERROR that came.
    pub error: Option<ErrorMsg>,
}

impl Client {
    pub fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).expect("the server listens");
        Self { stream, decoder: Decoder::new(), frames: 0, bytes: 0, ticks: 0, error: None }
    }

    pub fn subscribed(server: &Server, mode: Mode, resume_after: Option<u64>) -> Self {
        let mut client = Self::connect(server);
        client.authenticate("s3cret");
        client.send(&frame::seal(&Subscribe { mode: mode.into(), resume_after }));
        client
    }

    pub fn authenticate(&mut self, password: &str) {
        self.send(&frame::seal(&Auth { username: "ada".into(), password: password.into(), client: None }));
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub fn peer(&self) -> SocketAddr {
        self.stream.local_addr().expect("an address")
    }

    /// Closes its side, so that the server need not wait for that.
    pub fn hang_up(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Reads until so many ticks came.
    pub fn read_ticks(&mut self, ticks: u64) {
        self.read_until(|client| client.ticks >= ticks);
        assert!(self.ticks >= ticks, "the server closed: {:?}", self.error);
    }

    /// Reads until the server closes.
    pub fn read_to_end(&mut self) {
        self.read_until(|_| false);
    }

    fn read_until(&mut self, is_done: impl Fn(&Self) -> bool) {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut buffer = [0; 65_536];
        while !is_done(self) {
            let length = self.stream.read(&mut buffer).expect("something within the timeout");
            if length == 0 {
                return;
            }
            self.bytes += length as u64;
            let mut bytes = &buffer[..length];
            let mut decoder = std::mem::take(&mut self.decoder);
            while let Some(frame) = decoder.next(&mut bytes, u32::MAX).expect("a frame") {
                self.see(frame.kind, frame.payload);
            }
            self.decoder = decoder;
        }
    }

    fn see(&mut self, kind: u8, payload: &[u8]) {
        self.frames += 1;
        match FrameType::from_byte(kind) {
            Some(FrameType::DataBatch) => {
                self.ticks += DataBatch::decode(payload).expect("a batch").ticks.len() as u64;
            }
            Some(FrameType::Error) => self.error = Some(ErrorMsg::decode(payload).expect("an error")),
            _ => {}
        }
    }
}

/// True if a tool is there. In CI, tests must be complete, so it has to be.
pub fn has_tool(name: &str) -> bool {
    let has = Command::new(name).arg("--version").output().is_ok();
    assert!(
        has || std::env::var_os("CI").is_none(),
        "{name} isn't installed: scripts/install-deps installs it"
    );
    if !has {
        // Not by eprintln!, which is captured where a test passes.
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        writeln!(std::io::stderr(), "left out {test}: {name} isn't installed")
            .expect("standard error is open");
    }
    has
}
