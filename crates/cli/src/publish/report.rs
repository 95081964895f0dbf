//! Output of `publish`: problems as they come, how far it is on a terminal, and a summary at the end. A problem is on
//! disk, among the dead letters, before it is said.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tickstream_client::{
    Progress, PublishError, PublishEvent, Rejection, Unanswered, events::Event, json::write_event,
    with_causes,
};

use super::lines::{BadLine, Line};
use crate::cli::OutputFile;
use tickstream_service::text::{can_draw, counted, json as safe_json, one_line, push_json_line};

/// Lines that are named one by one; of further ones there is only a count.
const NAMED_MAX: u64 = 50;

/// Everything said and counted so far.
pub struct Report {
    bar: Option<ProgressBar>,
    dead_letters: DeadLetters,
    bad_lines: u64,
    /// Number of the last line that was taken.
    last_line: u64,
    named: u64,
    /// Lines that were read and not published.
    unsent: u64,
    /// The loss of the server was mentioned.
    is_lost: bool,
    /// The server's refusal to take events at present was mentioned.
    is_retrying: bool,
    started: Instant,
}

/// The file of dead letters, if one is wanted.
struct DeadLetters {
    file: Option<OutputFile>,
    /// The first failure; nothing is written after it.
    error: Option<io::Error>,
}

/// The result of a run.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    progress: Progress,
    bad_lines: u64,
    unsent: u64,
    elapsed: Duration,
}

impl Report {
    /// A report that shows progress if standard error is a terminal; `length` is the input's.
    pub fn new(dead_letters: Option<OutputFile>, length: Option<u64>) -> Self {
        Self {
            bar: can_draw(&io::stderr()).then(|| bar(length)),
            dead_letters: DeadLetters { file: dead_letters, error: None },
            bad_lines: 0,
            last_line: 0,
            named: 0,
            unsent: 0,
            is_lost: false,
            is_retrying: false,
            started: Instant::now(),
        }
    }

    /// Takes what the publisher tells.
    pub fn take(&mut self, event: PublishEvent) {
        match event {
            PublishEvent::Acknowledged { accepted, duplicates, .. } => {
                (self.is_lost, self.is_retrying) = (false, self.is_retrying && accepted + duplicates == 0);
            }
            PublishEvent::Rejected(rejection) => self.rejected(&rejection),
            PublishEvent::Retrying { code, message, .. } => {
                if !std::mem::replace(&mut self.is_retrying, true) {
                    let message = if message.is_empty() { message } else { format!(" ({message})") };
                    self.say(&format!(
                        "the server can't take events at present: {code}{message}; trying again"
                    ));
                }
            }
            PublishEvent::Disconnected { error, .. } => {
                if !std::mem::replace(&mut self.is_lost, true) {
                    self.say(&format!("no server: {}; trying again", with_causes(&error)));
                }
            }
            PublishEvent::Reconnected { server, resent } => {
                let again = if resent == 1 { "goes again" } else { "go again" };
                let resent = counted(resent as u64, "batch");
                self.say(&format!("connected to {server} again; {resent} {again}"));
            }
            PublishEvent::GoAway { reason, .. } => {
                self.is_lost = true;
                self.say(&format!("the server says goodbye: {reason}; going to the next one"));
            }
            // There is no disk queue; and the publisher's next answer to us is this error.
            PublishEvent::DiskQueueDamaged { .. } | PublishEvent::Ended { .. } => {}
        }
    }

    /// A line was published, or named. False where dead letters can't be written, so that no more are to be read.
    pub fn taken(&mut self, line: u64) -> bool {
        self.last_line = line;
        self.dead_letters.error.is_none()
    }

    /// A line that is no event.
    pub fn bad_line(&mut self, number: u64, bad: &BadLine) {
        self.bad_lines += 1;
        self.dead_letters.bad_line(number, bad);
        self.name(number, &bad.problem);
    }

    /// An event that no batch can hold.
    pub fn too_large(&mut self, number: u64, event: &Event, error: &PublishError) {
        self.bad_lines += 1;
        let problem = error.to_string();
        self.dead_letters.event(number, ("BAD_LINE", &problem), event);
        self.name(number, &problem);
    }

    fn rejected(&mut self, Rejection { tag, event, code, message }: &Rejection) {
        self.dead_letters.event(*tag, (code, message), event);
        self.name(*tag, &format!("{code}: {message}"));
    }

    /// Draws the progress on a terminal. `read` is bytes of the input.
    pub fn show(&mut self, progress: &Progress, read: u64) {
        let Some(bar) = &self.bar else { return };
        // The number of those that were rejected is said, too.
        self.dead_letters.sync();
        let answered = progress.published - progress.unanswered;
        let rate = answered as f64 / self.started.elapsed().as_secs_f64();
        let Progress { accepted, duplicates, rejected, unanswered, .. } = progress;
        bar.set_position(read);
        bar.set_message(format!(
            "{rate:.0} events/s  stored {accepted}  duplicates {duplicates}  rejected {rejected}  bad lines {}  waiting \
             {unanswered}",
            self.bad_lines
        ));
    }

    /// A signal ended the input.
    pub fn stopped(&self) {
        self.say(&format!("stopped after line {}; the lines behind it weren't published", self.last_line));
    }

    /// Events without an answer, and lines that were read and not published.
    pub fn unanswered(&mut self, left: &[Unanswered], unsent: Vec<Line>) {
        for Unanswered { tag, event, was_sent } in left {
            let message = if *was_sent { "sent, and may be stored" } else { "not sent" };
            self.dead_letters.event(*tag, ("UNANSWERED", message), event);
        }
        let first_unsent = unsent.first().map(|line| line.number);
        self.unsent = unsent.len() as u64;
        for Line { number, event } in unsent {
            match event {
                Ok(event) => self.dead_letters.event(number, ("UNANSWERED", "not sent"), &event),
                Err(bad) => self.dead_letters.bad_line(number, &bad),
            }
        }
        self.dead_letters.sync();
        if let Some(first) = left.first() {
            let sent = left.iter().filter(|left| left.was_sent).count();
            let (have, were) =
                (if left.len() == 1 { "has" } else { "have" }, if sent == 1 { "was" } else { "were" });
            self.say(&format!(
                "{} {have} no answer, the first of them line {}; {sent} {were} sent and may be stored",
                counted(left.len() as u64, "event"),
                first.tag
            ));
        }
        if let Some(first) = first_unsent {
            let were = if self.unsent == 1 { "was" } else { "were" };
            self.say(&format!(
                "{} {were} read and not sent, from line {first} on",
                counted(self.unsent, "line")
            ));
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// If a dead letter couldn't be written.
    pub fn end(&mut self, progress: Progress) -> io::Result<Summary> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.dead_letters.sync();
        if let Some(error) = self.dead_letters.error.take() {
            return Err(error);
        }
        let Self { bad_lines, unsent, .. } = *self;
        Ok(Summary { progress, bad_lines, unsent, elapsed: self.started.elapsed() })
    }

    /// Says something, above the progress. It is one line, whoever's words are in it.
    pub fn say(&self, text: &str) {
        let say = || drop(writeln!(io::stderr(), "{}", one_line(text)));
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    fn name(&mut self, line: u64, problem: &str) {
        self.named += 1;
        match self.named {
            ..=NAMED_MAX => {
                self.dead_letters.sync();
                let lost = if self.dead_letters.error.is_some() { " (not in the dead letters)" } else { "" };
                self.say(&format!("line {line}: {problem}{lost}"));
            }
            named if named == NAMED_MAX + 1 => self.say("further lines are only counted"),
            _ => {}
        }
    }
}

impl DeadLetters {
    fn bad_line(&mut self, line: u64, bad: &BadLine) {
        let mut letter = Vec::new();
        let value = json!({"line": line, "code": "BAD_LINE", "message": bad.problem, "text": bad.text});
        push_json_line(&mut letter, &value);
        self.write(&letter);
    }

    fn event(&mut self, line: u64, (code, message): (&str, &str), event: &Event) {
        if self.file.is_none() {
            return;
        }
        let (code, message) = (serde_json::Value::from(code), serde_json::Value::from(message));
        let mut letter =
            format!(r#"{{"line":{line},"code":{code},"message":{message},"event":"#).into_bytes();
        write_event(event, &mut letter);
        letter.extend_from_slice(b"}\n");
        let letter = String::from_utf8_lossy(&letter);
        self.write(safe_json(&letter).as_bytes());
    }

    fn write(&mut self, letter: &[u8]) {
        if let (Some(file), None) = (&mut self.file, &self.error) {
            self.error = file.write_all(letter).err();
        }
    }

    fn sync(&mut self) {
        if let (Some(file), None) = (&mut self.file, &self.error) {
            self.error = file.sync().err();
        }
    }
}

fn bar(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => {
            (ProgressBar::new(length), "{elapsed:>4} {bytes:>10}/{total_bytes} {percent:>3} %  {wide_msg}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {elapsed:>4} {bytes:>10}  {wide_msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("a template that indicatif knows"))
}

impl Summary {
    /// True if every line that isn't blank is stored.
    pub fn is_complete(&self) -> bool {
        let Progress { rejected, unanswered, .. } = self.progress;
        [self.bad_lines, rejected, unanswered, self.unsent] == [0; 4]
    }

    /// For people, one line; or an object.
    pub fn print(&self, out: &mut impl Write, as_json: bool) -> io::Result<()> {
        let Self { progress, bad_lines, unsent, elapsed } = self;
        let Progress { published, accepted, duplicates, rejected, retried, unanswered } = progress;
        let rate = (accepted + duplicates) as f64 / elapsed.as_secs_f64();
        if as_json {
            let summary = json!({
                "published": published, "accepted": accepted, "duplicates": duplicates, "rejected": rejected,
                "bad_lines": bad_lines, "retried": retried, "unanswered": unanswered, "unsent": unsent,
                "seconds": elapsed.as_secs_f64(),
            });
            writeln!(out, "{summary}")?;
            return out.flush();
        }
        let mut line = format!(
            "{}: {accepted} stored, {}, {rejected} rejected, {unanswered} without an answer; {}; {:.1} s, {rate:.0} events/s",
            counted(*published, "event"),
            counted(*duplicates, "duplicate"),
            counted(*bad_lines, "bad line"),
            elapsed.as_secs_f64()
        );
        if *unsent > 0 {
            line += &format!("; {} read and not sent", counted(*unsent, "line"));
        }
        writeln!(out, "{line}")?;
        out.flush()
    }
}
