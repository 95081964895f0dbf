//! Lines of other programs: the standard input, `[source.stdin]`, and systemd's journal, `[source.journald]`, as
//! `journalctl` gives it.

mod journald;

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use tickstream_client::events::Event;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time,
};

use crate::{
    clock::now_ns,
    delivery::Delivery,
    drain,
    intake::{Intake, SharedIntake},
    keys::Key,
    sources::lines::Format,
    writer::{Ids, Origin},
};

/// Names of the sources, and of the keys under which their events are stored.
pub const STDIN: &str = "stdin";
/// As [`STDIN`].
pub const JOURNALD: &str = "journald";

/// Longest line, bytes; a longer one is several. An event takes 128 KiB, with all that is added.
const LINE_BYTES_MAX: u64 = 96 * 1024;
/// Most lines of a request.
const LINES_MAX: usize = 1000;
/// Time for which lines wait for others.
const LINGER: Duration = Duration::from_millis(50);
/// Pause before a journalctl that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// `[source.stdin]`, as the configuration has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdinConfig {
    format: Option<String>,
    service: Option<String>,
}

/// Lines of the standard input.
#[derive(Clone, Debug)]
pub struct StdinLines {
    format: Format,
    service: String,
}

impl StdinConfig {
    /// The lines.
    ///
    /// # Errors
    /// The fault, for people.
    pub fn lines(&self) -> Result<StdinLines, String> {
        let format = Format::named(self.format.as_deref().unwrap_or("text"));
        Ok(StdinLines {
            format: format.map_err(|problem| format!("[source.stdin] {problem}"))?,
            service: self.service.clone().unwrap_or_else(|| STDIN.to_owned()),
        })
    }
}

/// `[source.journald]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournaldConfig {
    /// The program; another one in tests.
    program: Option<PathBuf>,
    /// More arguments for it, such as `--unit=shop`.
    #[serde(default)]
    arguments: Vec<String>,
}

/// A task that reads lines.
#[derive(Debug)]
pub struct Pipe {
    drain: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Pipe {
    /// Reads the standard input to its end.
    pub fn stdin(lines: StdinLines, intake: SharedIntake) -> Self {
        let (drain, drained) = watch::channel(false);
        let mut reader = Reader::new(STDIN, intake, drained);
        let task = async move {
            let event =
                |line: &[u8], time| Some((lines.format.event(line, &lines.service, time), Vec::new()));
            _ = reader.read(tokio::io::stdin(), event, |_| {}).await;
        };
        Self { drain, task: tokio::spawn(task) }
    }

    /// Reads the journal, from the place that `state_dir` keeps.
    pub fn journald(config: JournaldConfig, state_dir: &Path, intake: SharedIntake) -> Self {
        let (drain, drained) = watch::channel(false);
        let reader = Reader::new(JOURNALD, intake, drained);
        let place = state_dir.join("journald.cursor");
        Self { drain, task: tokio::spawn(follow(config, place, reader)) }
    }

    /// Reads no more; what was read is stored, for `patience` at the most.
    pub async fn drain(self, patience: Duration) {
        self.drain.send_replace(true);
        _ = time::timeout(patience, self.task).await;
    }
}

async fn follow(config: JournaldConfig, place: PathBuf, mut reader: Reader) {
    while !*reader.drain.borrow() {
        match journalctl(&config, &place) {
            Ok(mut child) => {
                if let Some(output) = child.stdout.take() {
                    let keep = |cursor: &[u8]| {
                        if let Err(error) = keep(&place, cursor) {
                            tracing::error!(%error, "the place in the journal can't be kept: a restart sends some entries again");
                        }
                    };
                    _ = reader.read(output, journald::event, keep).await;
                }
                // It is killed with its handle.
                drop(child);
            }
            Err(error) => tracing::error!(%error, "journalctl can't be started"),
        }
        tokio::select! {
            () = time::sleep(RESTART_PAUSE) => {}
            () = drain::begins(&mut reader.drain) => {}
        }
    }
}

fn journalctl(config: &JournaldConfig, place: &Path) -> io::Result<Child> {
    let program = config.program.clone().unwrap_or_else(|| PathBuf::from("journalctl"));
    let mut command = Command::new(program);
    command.args(["--output=json", "--follow", "--no-pager", "--all"]).args(&config.arguments);
    match std::fs::read_to_string(place) {
        Ok(cursor) => command.arg(format!("--after-cursor={}", cursor.trim())),
        Err(_) => command.arg("--lines=all"),
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true).spawn()
}

fn keep(place: &Path, cursor: &[u8]) -> io::Result<()> {
    let new = place.with_extension("new");
    std::fs::write(&new, cursor)?;
    std::fs::rename(&new, place)
}

/// Reads lines, and has them stored.
struct Reader {
    name: &'static str,
    intake: SharedIntake,
    key: Arc<Key>,
    drain: watch::Receiver<bool>,
}

impl Reader {
    fn new(name: &'static str, intake: SharedIntake, drain: watch::Receiver<bool>) -> Self {
        Self { name, intake, key: Arc::new(Key::unrestricted(name)), drain }
    }

    /// To the end, or until the collector ends. `event` makes an event of a line, and a place; `keep` gets the place up to
    /// which all are stored.
    async fn read(
        &mut self,
        input: impl AsyncRead + Unpin,
        event: impl Fn(&[u8], u64) -> Option<(Event, Vec<u8>)>,
        keep: impl Fn(&[u8]),
    ) -> io::Result<()> {
        let mut input = BufReader::new(input);
        let mut part = Vec::new();
        loop {
            let lines = self.gather(&mut input, &mut part).await?;
            if lines.is_empty() {
                return Ok(());
            }
            let origin = self.origin();
            let mut writer = self.intake.writer(&origin, Ids::New, LINES_MAX as u32);
            let mut place = Vec::new();
            for line in &lines {
                if let Some((mut event, at)) = event(line, writer.receive_time()) {
                    // One that is read again after a crash is the same.
                    if !at.is_empty() {
                        event.event_id = writer.id_of_parts(&[self.name.as_bytes(), &at]);
                    }
                    writer.event(event);
                    place = at;
                }
            }
            let request = writer.finish().unwrap_or_default();
            let intake: &Intake = &self.intake;
            // What has no place can't be read again.
            let drain = (!place.is_empty()).then(|| self.drain.clone());
            let delivery = Delivery { intake, origin: &origin, until: None, drain };
            if delivery.deliver(&request).await.is_err() {
                return Ok(());
            }
            if !place.is_empty() {
                keep(&place);
            }
            if *self.drain.borrow() && input.buffer().is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits for a line, and takes those that follow within a moment, or until the collector ends. What has come of the next
    /// one stays in `part`. None: the input has ended, or the collector has.
    async fn gather(
        &mut self,
        input: &mut BufReader<impl AsyncRead + Unpin>,
        part: &mut Vec<u8>,
    ) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        let mut until = None;
        while lines.len() < LINES_MAX {
            let wait = async {
                match until {
                    Some(until) => time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                read = read_line(input, part) => {
                    // The end, unless a line without one is left before it.
                    if read? == 0 && part.is_empty() {
                        break;
                    }
                    lines.push(std::mem::take(part));
                    until.get_or_insert_with(|| time::Instant::now() + LINGER);
                }
                () = wait => break,
                () = drain::begins(&mut self.drain) => break,
            }
        }
        Ok(lines)
    }

    fn origin(&self) -> Origin {
        Origin {
            key: self.key.clone(),
            source: self.name,
            address: None,
            user_agent: String::new(),
            headers: Vec::new(),
            receive_time: now_ns(),
            send_time: 0,
        }
    }
}

/// Appends a line without its end. Gives the bytes that were read.
async fn read_line(input: &mut BufReader<impl AsyncRead + Unpin>, line: &mut Vec<u8>) -> io::Result<usize> {
    let left = LINE_BYTES_MAX.saturating_sub(line.len() as u64);
    let read = input.take(left).read_until(b'\n', line).await?;
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use tickstream_client::Client;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::{
        rules::Rules,
        upstream::{Upstream, UpstreamConfig},
    };

    fn reader() -> (watch::Sender<bool>, Reader) {
        let config =
            UpstreamConfig { connections: 1, queue_bytes: 1 << 20, answer_timeout: Duration::from_secs(1) };
        let builder = |_| Client::builder("127.0.0.1:1").credentials("collector", "secret");
        let upstream = Arc::new(Upstream::start(config, builder).unwrap());
        let (drain, drained) = watch::channel(false);
        (drain, Reader::new(STDIN, Arc::new(Intake::new(upstream, None, 1 << 20, Rules::default())), drained))
    }

    #[tokio::test]
    async fn lines_wait_for_no_other_s_rest_and_are_taken_when_the_collector_ends() {
        let (drain, mut reader) = reader();
        let (mut program, output) = tokio::io::duplex(1024);
        let (mut input, mut part) = (BufReader::new(output), Vec::new());
        let mut gathered = async || {
            let gathered = reader.gather(&mut input, &mut part);
            time::timeout(Duration::from_secs(20), gathered).await.expect("it waits for a rest").unwrap()
        };
        program.write_all(b"one\ntwo\nthe re").await.unwrap();
        assert_eq!(gathered().await, [b"one", b"two"]);
        program.write_all(b"st\n").await.unwrap();
        drain.send_replace(true);
        assert_eq!(gathered().await, [b"the rest"]);
        program.write_all(b"without an end").await.unwrap();
        drop(program);
        assert_eq!(gathered().await, [b"without an end"]);
        assert!(gathered().await.is_empty());
    }
}
