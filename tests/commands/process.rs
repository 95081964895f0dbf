//! The real binary as a process that ends with its test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The binary, with HUP as a terminal leaves it: programs that are started by nohup ignore it, and so do their children.
pub fn binary() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_tickstream")]);
    command
}

/// The binary with nothing of ours in its environment but a user and its password.
pub fn tickstream(args: &[&str]) -> Command {
    let mut command = binary();
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("STREAM_USER", "ada").env("STREAM_PASS", "s3cret");
    command
}

/// Sends a signal by its name: INT, TERM, …
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Measures how long a thread waits for a CPU: what a busy machine adds to every bound of time.
pub struct Metronome {
    /// Microseconds.
    worst: Arc<AtomicU64>,
}

impl Metronome {
    const PERIOD: Duration = Duration::from_millis(20);

    pub fn start() -> Self {
        let worst = Arc::new(AtomicU64::new(0));
        let measured = Arc::downgrade(&worst);
        std::thread::spawn(move || {
            while let Some(worst) = measured.upgrade() {
                let began = Instant::now();
                std::thread::sleep(Self::PERIOD);
                let late = began.elapsed().saturating_sub(Self::PERIOD);
                worst.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
            }
        });
        Self { worst }
    }

    /// The longest wait so far.
    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.load(Ordering::Relaxed))
    }
}

/// A server or a collector, with its log. It doesn't outlive the test.
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    /// The line of its log that says that it serves or collects.
    started: serde_json::Value,
}

impl Process {
    /// Starts it, and waits until it serves or collects.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut this = Self { child, log: Arc::default(), reader: None, started: serde_json::Value::Null };
        let mut lines = lines.lines().map_while(Result::ok);
        // Another thread may have something to say first.
        while this.started.is_null() {
            let line = lines.next().unwrap_or_else(|| panic!("{command:?} doesn't start: {}", this.log()));
            this.log.lock().unwrap().push_str(&(line.clone() + "\n"));
            let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if said["message"] == "serving" || said["message"] == "collecting" {
                this.started = said;
            }
        }
        // Goes on reading, so that the process can go on logging.
        let log = Arc::clone(&this.log);
        this.reader = Some(std::thread::spawn(move || {
            lines.for_each(|line| log.lock().unwrap().push_str(&(line + "\n")));
        }));
        this
    }

    /// A text of the line that says that it serves: "address", "admin".
    pub fn started(&self, key: &str) -> &str {
        self.started[key].as_str().unwrap_or_else(|| panic!("no {key} in {}", self.started))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has ended; its log is complete then.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(begin.elapsed() < patience, "it doesn't end");
            std::thread::sleep(Duration::from_millis(10));
        };
        self.reader.take().map(JoinHandle::join);
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
