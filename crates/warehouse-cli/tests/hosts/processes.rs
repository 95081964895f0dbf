//! Processes of a host: a server, a warehouse, and a publisher with a disk queue in this one.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tickstream_client::events::{Body, CustomEvent, Event, EventType};
use tickstream_client::{Client, Publisher, Publishing, fill_event};
use tickstream_server::config::Config;
use tickstream_server::serve::Server;

pub type Failed = Box<dyn std::error::Error + Send + Sync>;

const USER: &str = "ada";
const PASSWORD: &str = "s3cret";
/// Directory of the journals and port of a process that is to be a server.
const JOURNALS: &str = "TICKSTREAM_TEST_JOURNALS";
const PORT: &str = "TICKSTREAM_TEST_PORT";
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an event, about: few thousands of them fill a segment.
const EVENT_BYTES: usize = 1_800;

/// Serves until it is killed, in a process that a test started.
pub fn serve_if_asked() {
    let (Ok(journals), Ok(port)) = (std::env::var(JOURNALS), std::env::var(PORT)) else { return };
    let config = Config::from_values([
        ("stream_user", USER.to_owned()),
        ("stream_pass", PASSWORD.to_owned()),
        ("listen", format!("127.0.0.1:{port}")),
        ("shards", "1".to_owned()),
        ("journal", journals),
        ("journal_segment_mib", "4".to_owned()),
        ("journal_max_mib", "12".to_owned()),
    ]);
    let server = Server::start(config.expect("the settings are right")).expect("it starts");
    server.wait().expect("it goes on");
}

/// A process that is killed when this is dropped.
pub struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Self, Failed> {
        Ok(Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?))
    }

    /// Sends it a signal, by its name.
    pub fn signal(&self, name: &str) -> Result<(), Failed> {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status()?;
        if sent.success() { Ok(()) } else { Err(format!("the process is gone before {name}").into()) }
    }

    /// Asks it to end, and waits for it.
    pub fn end(mut self) -> Result<(), Failed> {
        self.signal("TERM")?;
        let until = Instant::now() + PATIENCE;
        while self.0.try_wait()?.is_none() {
            if Instant::now() > until {
                return Err("the process doesn't end".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Directories of a host, and what its publishers know.
pub struct Host {
    pub root: PathBuf,
    port: u16,
    sent: BTreeSet<String>,
    /// Events that a publisher took.
    pub taken: BTreeSet<String>,
    pub acknowledged: BTreeSet<String>,
}

impl Host {
    pub fn new(root: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        Self {
            root: root.to_owned(),
            port,
            sent: BTreeSet::new(),
            taken: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
        }
    }

    fn journals(&self) -> PathBuf {
        self.root.join("journals")
    }

    fn warehouse(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickstream-warehouse"));
        command.args(words).arg("--tables").arg(self.root.join("tables"));
        command
    }

    /// Starts a server, and waits until it listens.
    pub fn serve(&self) -> Result<Process, Failed> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "a_process_that_serves", "--nocapture"]);
        command.env(JOURNALS, self.journals()).env(PORT, self.port.to_string());
        let mut process = Process::start(&mut command)?;
        let until = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if process.0.try_wait()?.is_some() || Instant::now() > until {
                return Err("the server doesn't start".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Starts a warehouse that loads five times a second, and maintains the tables each second.
    pub fn load(&self) -> Result<Process, Failed> {
        let words = ["run", "--interval", "200ms", "--maintenance-interval", "1s"];
        Process::start(self.warehouse(&words).arg("--journal").arg(self.journals()))
    }

    pub async fn publisher(&self) -> Result<Publisher, Failed> {
        let options = Publishing::default()
            .linger(Duration::from_millis(20))
            .disk_queue(self.root.join("queue"), 16 << 20);
        let client = Client::builder(format!("127.0.0.1:{}", self.port)).credentials(USER, PASSWORD);
        Ok(client.publisher(options).await?)
    }

    /// Publishes events, and waits for their answers.
    pub async fn publish(&mut self, publisher: &Publisher, events: usize) -> Result<(), Failed> {
        let mut ids = Vec::new();
        for _ in 0..events {
            let event = event();
            ids.push(uuid(&event.event_id));
            self.sent.extend(ids.last().cloned());
            publisher.publish(&event).await?;
            self.taken.extend(ids.last().cloned());
        }
        publisher.flush().await?;
        self.acknowledged.extend(ids);
        Ok(())
    }

    /// Loads what is there now.
    pub fn load_once(&self) -> Result<(), Failed> {
        succeeded(&self.warehouse(&["load", "--once"]).arg("--journal").arg(self.journals()).output()?)
            .map(drop)
    }

    /// The reason if an acknowledged event isn't a row, one is there twice or was never sent, or journals and rows differ.
    pub fn check(&self) -> Result<(), Failed> {
        succeeded(&self.warehouse(&["verify"]).arg("--journal").arg(self.journals()).output()?)?;
        let query = ["query", "SELECT event_id FROM events", "--format", "csv"];
        let answer = succeeded(&self.warehouse(&query).output()?)?;
        let rows: Vec<&str> = answer.lines().skip(1).collect();
        let distinct: BTreeSet<&str> = rows.iter().copied().collect();
        let lost = self.acknowledged.iter().filter(|id| !distinct.contains(id.as_str())).count();
        let invented = distinct.iter().filter(|id| !self.sent.contains(**id)).count();
        match (lost, rows.len() - distinct.len(), invented) {
            (0, 0, 0) => Ok(()),
            (lost, doubled, invented) => {
                Err(format!("{lost} lost, {doubled} doubled, {invented} invented of {}", rows.len()).into())
            }
        }
    }
}

fn succeeded(output: &Output) -> Result<String, Failed> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{}{}", text(&output.stdout), text(&output.stderr)).into())
}

fn event() -> Event {
    let mut event = Event {
        platform: "web".into(),
        event_type: EventType::Custom.into(),
        event_name: "shown".into(),
        session_id: "session".into(),
        user_id: Some("ada".into()),
        properties: [
            ("one".to_owned(), "x".repeat(EVENT_BYTES / 2)),
            ("two".to_owned(), "y".repeat(EVENT_BYTES / 2)),
        ]
        .into(),
        body: Some(Body::Custom(CustomEvent::default())),
        ..Event::default()
    };
    fill_event(&mut event);
    event
}

fn uuid(id: &[u8]) -> String {
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}
