//! Lines of a file or of standard input, parsed on a thread of their own. Memory is bounded however long the input and
//! its lines are.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tickstream_client::{events::Event, fill_event, json};
use tokio::{sync::mpsc, time};

use super::input::Input;

/// Bytes of one line without its end. The largest event that a server takes has 128 KiB; as JSON it grows to a few times that.
const LINE_MAX: u64 = 1 << 20;
/// Lines that are parsed ahead.
const AHEAD: usize = 64;
/// Longest wait for the rest of an input that is to end.
const REST_WAIT: Duration = Duration::from_secs(2);

/// A line that isn't blank.
#[derive(Debug)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// The event, or why it is none.
    pub event: Result<Event, BadLine>,
}

/// A line that is no event.
#[derive(Debug, PartialEq)]
pub struct BadLine {
    /// The reason, with the column where there is one.
    pub problem: String,
    /// The line, or how it begins where it is too long.
    pub text: String,
}

/// The lines to come.
pub struct Lines {
    /// Ends with the input; an error is the last.
    queue: mpsc::Receiver<io::Result<Line>>,
    /// The line that was taken from the queue, until it is done with.
    current: Option<Line>,
    read: Arc<AtomicU64>,
}

impl Lines {
    /// Starts reading.
    pub fn start(input: Input, complete_only: bool) -> Self {
        Self::of(input, complete_only)
    }

    fn of(input: impl Read + Send + 'static, complete_only: bool) -> Self {
        let (sender, queue) = mpsc::channel(AHEAD);
        let read = Arc::new(AtomicU64::new(0));
        let reader = Reader {
            input: BufReader::with_capacity(1 << 16, input),
            number: 0,
            complete_only,
            read: read.clone(),
        };
        // The process doesn't wait for it: it may hang in a read for ever.
        thread::spawn(move || reader.for_each(|line| sender.blocking_send(line).is_ok()));
        Self { queue, current: None, read }
    }

    /// The first line that isn't [`done`](Self::done); `None` at the end. Cancelled, it loses no line.
    ///
    /// # Errors
    /// If the input can't be read on.
    pub async fn next(&mut self) -> io::Result<Option<&Line>> {
        if self.current.is_none() {
            self.current = self.queue.recv().await.transpose()?;
        }
        Ok(self.current.as_ref())
    }

    /// Goes on to the next line.
    pub fn done(&mut self) {
        self.current = None;
    }

    /// All lines that aren't done, of an input that was told to end.
    pub async fn rest(&mut self) -> Vec<Line> {
        let mut rest: Vec<Line> = self.current.take().into_iter().collect();
        let until = time::Instant::now() + REST_WAIT;
        while let Ok(Some(Ok(line))) = time::timeout_at(until, self.queue.recv()).await {
            rest.push(line);
        }
        rest
    }

    /// The position in the input, to be watched beside the lines.
    pub fn position(&self) -> Position {
        Position(self.read.clone())
    }
}

/// Position in an input.
pub struct Position(Arc<AtomicU64>);

impl Position {
    /// Bytes.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Reader<R> {
    input: BufReader<R>,
    number: u64,
    complete_only: bool,
    read: Arc<AtomicU64>,
}

impl<R: Read> Reader<R> {
    fn for_each(mut self, mut take: impl FnMut(io::Result<Line>) -> bool) {
        let mut line = Vec::new();
        loop {
            let taken = match self.next_line(&mut line) {
                Ok(None) => return,
                Ok(Some(is_whole)) => match self.parse(&line, is_whole) {
                    Some(event) => take(Ok(Line { number: self.number, event })),
                    None => true,
                },
                Err(error) => {
                    take(Err(error));
                    return;
                }
            };
            if !taken {
                return;
            }
        }
    }

    /// Reads the next line into `line`, without its end. Whether it is whole, or only its beginning, since it is too
    /// long; `None` at the end of the input.
    fn next_line(&mut self, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
        line.clear();
        // Behind the longest line, CR LF.
        let most = LINE_MAX + 2;
        let mut read = self.input.by_ref().take(most).read_until(b'\n', line)? as u64;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let has_end = line.last() == Some(&b'\n');
        if read == most && !has_end {
            read += self.input.skip_until(b'\n')? as u64;
        }
        if has_end {
            line.pop();
            line.pop_if(|last| *last == b'\r');
        }
        self.read.fetch_add(read, Ordering::Relaxed);
        Ok(Some(line.len() as u64 <= LINE_MAX))
    }

    /// `None` for a blank line.
    fn parse(&self, line: &[u8], is_whole: bool) -> Option<Result<Event, BadLine>> {
        let line = line.trim_ascii();
        let bad = |problem: String| {
            // Enough to find it by, where it is too long to be kept.
            let line = if is_whole { line } else { &line[..line.len().min(200)] };
            Some(Err(BadLine { problem, text: String::from_utf8_lossy(line).into_owned() }))
        };
        if !is_whole {
            return bad(format!("longer than {LINE_MAX} bytes"));
        }
        if line.is_empty() {
            return None;
        }
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => return bad(format!("column {}: not UTF-8", error.valid_up_to() + 1)),
        };
        let mut event = match json::parse_event(text) {
            Ok(event) => event,
            Err(error) => return bad(error.to_string()),
        };
        if self.complete_only {
            let missing = [("event_id", event.event_id.is_empty()), ("timestamp", event.timestamp == 0)];
            if let Some((field, _)) = missing.into_iter().find(|(_, is_missing)| *is_missing) {
                return bad(format!("no {field}"));
            }
        } else {
            fill_event(&mut event);
        }
        Some(Ok(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of the lines that aren't blank, with an event's name or a problem.
    fn check(input: &[u8], complete_only: bool, expected: &[(u64, Result<&str, &str>)]) {
        let mut lines = Lines::of(io::Cursor::new(input.to_vec()), complete_only);
        let mut found = Vec::new();
        while let Some(line) = lines.queue.blocking_recv() {
            let Line { number, event } = line.unwrap();
            found.push((number, event.map(|event| event.event_name).map_err(|bad| bad.problem)));
        }
        let found: Vec<_> =
            found.iter().map(|(number, event)| (*number, event.as_deref().map_err(String::as_str))).collect();
        assert_eq!(found, expected);
        assert_eq!(lines.position().get(), input.len() as u64);
    }

    #[test]
    fn lines_are_numbered_and_bad_ones_named() {
        let input = b"{\"event_name\":\"a\"}\n\n  \r\n{\"event_name\":\"b\"}\r\n{\"nmae\":1}\n\xff{}\n{\"event_name\":\"c\"}";
        let unknown = tickstream_schema::json::parse_event("{\"nmae\":1}").unwrap_err().to_string();
        assert!(
            unknown.starts_with("column 7: nmae: no such key; there are event_id, timestamp"),
            "{unknown}"
        );
        let expected =
            [(1, Ok("a")), (4, Ok("b")), (5, Err(&*unknown)), (6, Err("column 1: not UTF-8")), (7, Ok("c"))];
        check(input, false, &expected);
        check(b"", false, &[]);
        check(b"\n", false, &[]);
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let name = "x".repeat(LINE_MAX as usize);
        let input = format!("{{\"event_name\":\"{name}{name}\"}}\n{{\"event_name\":\"a\"}}\n{name}x");
        let long = Err("longer than 1048576 bytes");
        let expected = [(1, long), (2, Ok("a")), (3, long)];
        check(input.as_bytes(), false, &expected);
    }

    #[test]
    fn a_line_may_have_a_mebibyte_and_no_byte_more() {
        let line = |bytes: u64| {
            let (start, end) = ("{\"event_name\":\"a\"", "}");
            format!("{start}{}{end}", " ".repeat(bytes as usize - start.len() - end.len()))
        };
        let long = Err("longer than 1048576 bytes");
        for end in ["\n", "\r\n", ""] {
            for (bytes, expected) in
                [(LINE_MAX - 1, Ok("a")), (LINE_MAX, Ok("a")), (LINE_MAX + 1, long), (LINE_MAX + 2, long)]
            {
                let mut input = line(bytes) + end;
                let mut all = vec![(1, expected)];
                if !end.is_empty() {
                    input += "{\"event_name\":\"b\"}";
                    all.push((2, Ok("b")));
                }
                check(input.as_bytes(), false, &all);
            }
        }
    }

    #[test]
    fn ids_and_times_are_given_or_asked_for() {
        let complete = "{\"event_name\":\"c\",\"event_id\":\"01\",\"timestamp\":7}";
        let input =
            format!("{{\"event_name\":\"a\"}}\n{{\"event_name\":\"b\",\"event_id\":\"01\"}}\n{complete}\n");
        check(input.as_bytes(), true, &[(1, Err("no event_id")), (2, Err("no timestamp")), (3, Ok("c"))]);
        let mut lines = Lines::of(io::Cursor::new(input.into_bytes()), false);
        let first = lines.queue.blocking_recv().unwrap().unwrap().event.unwrap();
        assert!(first.event_id.len() == 16 && first.timestamp > 0);
        let third = lines.queue.blocking_recv().and_then(|_| lines.queue.blocking_recv()).unwrap();
        assert_eq!(third.unwrap().event.unwrap().timestamp, 7);
    }
}
