//! What `publish` says: what is wrong as it comes, how far it is on a terminal, and a summary at the end.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tickstream_client::{Progress, PublishEvent, Rejection, Unanswered, json::write_event, with_causes};

use super::lines::BadLine;

/// Lines that are named one by one; of further ones there is only a count.
const NAMED_MAX: u64 = 50;

/// What was said and counted so far.
pub struct Report {
    bar: Option<ProgressBar>,
    dead_letters: Option<BufWriter<File>>,
    dead_letters_error: Option<io::Error>,
    bad_lines: u64,
    named: u64,
    /// It was said that there is no server.
    is_lost: bool,
    /// It was said that the server takes nothing.
    is_retrying: bool,
    started: Instant,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    progress: Progress,
    bad_lines: u64,
    elapsed: Duration,
}

impl Report {
    /// A report that shows progress if standard error is a terminal; `length` is the input's.
    ///
    /// # Errors
    /// If the file of dead letters can't be made.
    pub fn new(dead_letters: Option<&Path>, length: Option<u64>) -> io::Result<Self> {
        Ok(Self {
            bar: io::stderr().is_terminal().then(|| bar(length)),
            dead_letters: dead_letters.map(File::create).transpose()?.map(BufWriter::new),
            dead_letters_error: None,
            bad_lines: 0,
            named: 0,
            is_lost: false,
            is_retrying: false,
            started: Instant::now(),
        })
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
                self.say(&format!("connected to {server} again; {resent} batches go again"));
            }
            PublishEvent::GoAway { reason, .. } => {
                self.is_lost = true;
                self.say(&format!("the server says goodbye: {reason}; going to the next one"));
            }
            // The publisher's next answer to us is this error.
            PublishEvent::Ended { .. } => {}
        }
    }

    /// A line that is no event.
    pub fn bad_line(&mut self, number: u64, bad: &BadLine) {
        self.bad_lines += 1;
        self.name(number, &bad.problem);
        let letter = json!({"line": number, "code": "BAD_LINE", "message": bad.problem, "text": bad.text});
        self.dead_letter(letter.to_string().as_bytes());
    }

    fn rejected(&mut self, Rejection { tag, event, code, message }: &Rejection) {
        self.name(*tag, &format!("{code}: {message}"));
        let mut letter = format!(
            r#"{{"line":{tag},"code":{},"message":{},"event":"#,
            serde_json::Value::from(&code[..]),
            serde_json::Value::from(&message[..])
        )
        .into_bytes();
        write_event(event, &mut letter);
        letter.push(b'}');
        self.dead_letter(&letter);
    }

    /// How far it is, for a terminal. `read` is bytes of the input.
    pub fn show(&self, progress: &Progress, read: u64) {
        let Some(bar) = &self.bar else { return };
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

    /// What has no answer.
    pub fn unanswered(&self, left: &[Unanswered]) {
        let Some(first) = left.first() else { return };
        let sent = left.iter().filter(|left| left.was_sent).count();
        self.say(&format!(
            "{} events have no answer, the first of them line {}; {sent} were sent and may be stored",
            left.len(),
            first.tag
        ));
    }

    /// Ends it.
    ///
    /// # Errors
    /// If a dead letter couldn't be written.
    pub fn end(&mut self, progress: Progress) -> io::Result<Summary> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let flushed = self.dead_letters.as_mut().map_or(Ok(()), BufWriter::flush);
        match self.dead_letters_error.take() {
            Some(error) => Err(error),
            None => flushed,
        }?;
        Ok(Summary { progress, bad_lines: self.bad_lines, elapsed: self.started.elapsed() })
    }

    /// Says something, above the progress.
    pub fn say(&self, text: &str) {
        let say = || drop(writeln!(io::stderr(), "{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    fn name(&mut self, line: u64, problem: &str) {
        self.named += 1;
        match self.named {
            ..=NAMED_MAX => self.say(&format!("line {line}: {problem}")),
            named if named == NAMED_MAX + 1 => self.say("further lines are only counted"),
            _ => {}
        }
    }

    fn dead_letter(&mut self, letter: &[u8]) {
        if let Some(file) = &mut self.dead_letters
            && let Err(error) = file.write_all(letter).and_then(|()| file.write_all(b"\n"))
        {
            self.dead_letters_error.get_or_insert(error);
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
    /// Whether every line that isn't blank is stored.
    pub fn is_complete(&self) -> bool {
        self.bad_lines == 0 && self.progress.rejected == 0 && self.progress.unanswered == 0
    }

    /// For people, one line; or an object.
    pub fn print(&self, out: &mut impl Write, as_json: bool) -> io::Result<()> {
        let Self { progress, bad_lines, elapsed } = self;
        let Progress { published, accepted, duplicates, rejected, retried, unanswered } = progress;
        let rate = (accepted + duplicates) as f64 / elapsed.as_secs_f64();
        if as_json {
            let summary = json!({
                "published": published, "accepted": accepted, "duplicates": duplicates, "rejected": rejected,
                "bad_lines": bad_lines, "retried": retried, "unanswered": unanswered,
                "seconds": elapsed.as_secs_f64(),
            });
            return writeln!(out, "{summary}");
        }
        write!(out, "{published} events: {accepted} stored, {duplicates} duplicates, {rejected} rejected, ")?;
        writeln!(
            out,
            "{unanswered} without an answer; {bad_lines} bad lines; {:.1} s, {rate:.0} events/s",
            elapsed.as_secs_f64()
        )
    }
}
