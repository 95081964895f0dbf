//! The live tap: the newest events, read from the files of the journals, for whoever may see them.
//!
//! A client asks again and again; between two requests nothing happens. So neither a slow client nor many events cost a
//! shard anything: a tap that falls behind leaves events out, and says which. Only records on stable storage are told.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tickstream_journal::{FileDirectory, Reader, journals};
use tickstream_schema::events::StoredBatch;
use tickstream_service::admin::{Answer, Call, Refusal, StatusCode, of_type};
use tickstream_service::pattern::Pattern;
use tickstream_wire::messages::Message;

use crate::shard::with_cause;
use crate::stored::{self, Filter, StoredRecord};

/// Taps at a time.
const TAPS_MAX: usize = 8;
/// A tap that nobody asks for so long is dropped.
const DROPPED_AFTER: Duration = Duration::from_secs(30);
/// Events that a tap begins with, at most.
const LINES_MAX: usize = 1_000;
/// Bytes of records that are read for these, of one journal.
const FIRST_BYTES_MAX: usize = 64 << 20;
/// Bounds of an answer; the record that reaches one is still told whole.
const EVENTS_MAX: usize = 1_000;
const BYTES_MAX: usize = 1 << 20;
/// Longest time that an answer is read for.
const READ_WITHIN: Duration = Duration::from_millis(50);
/// Age of a record beyond which the tap leaves out what lies between it and the newest.
const LATE: Duration = Duration::from_secs(10);
/// Longest time that a request waits for an event, and the interval of looks.
const WAIT: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Interval at which the directory is looked at for new journals.
const SEARCH_INTERVAL: Duration = Duration::from_secs(2);

/// The first line of an answer; each other line is an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapHead {
    /// Name of the tap, for the next request.
    pub tap: String,
    /// Sentences about events that are missing.
    #[serde(rename = "told")]
    pub warnings: Vec<String>,
}

/// The taps of a server.
#[derive(Debug)]
pub struct Taps {
    directory: PathBuf,
    open: Mutex<HashMap<String, Open>>,
}

#[derive(Debug)]
struct Open {
    tap: Arc<Mutex<Tap>>,
    asked: Instant,
}

/// Query of a request.
#[derive(Debug, PartialEq, Eq)]
enum Query {
    /// A new tap, which begins with so many events.
    New { lines: usize, filter: Filter },
    /// The tap of this name.
    Known(String),
}

impl Query {
    fn parse(call: &Call) -> Result<Self, Refusal> {
        let (mut lines, mut filter, mut tap) = (10, Filter::default(), None);
        for (key, value) in call.pairs() {
            let bad = |accepted: String| Refusal::bad_request(format!("{key}={value:?} isn't {accepted}"));
            match key {
                "tap" => tap = Some(value),
                "lines" => {
                    let number = value.parse().ok().filter(|&lines| lines <= LINES_MAX);
                    lines = number.ok_or_else(|| bad(format!("a number up to {LINES_MAX}")))?;
                }
                "kind" => {
                    for name in value.split(',') {
                        filter
                            .kinds
                            .push(stored::kind(name).map_err(|names| bad(format!("a kind; {names}")))?);
                    }
                }
                "shard" => filter.shard = Some(value.parse().map_err(|_| bad("a number".to_owned()))?),
                "producer" => {
                    let producer = stored::producer(&value);
                    filter.producer = Some(producer.map_err(|accepted| bad(format!("one: {accepted}")))?);
                }
                "user" => filter.users.push(Pattern(value)),
                "name" => filter.names.push(Pattern(value)),
                "service" => filter.services.push(Pattern(value)),
                _ => {
                    let known = "tap, lines, kind, user, name, service, shard, producer";
                    return Err(Refusal::bad_request(format!("{key:?} isn't one of {known}")));
                }
            }
        }
        Ok(tap.map_or(Self::New { lines, filter }, Self::Known))
    }
}

impl Taps {
    /// Taps on the journals in `directory`.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, open: Mutex::default() }
    }

    /// Answers with the events that have come since the last request, or waits some seconds for one.
    ///
    /// # Errors
    /// A refusal that says why.
    pub async fn answer(&self, call: &Call) -> Result<Answer, Refusal> {
        let (name, tap) = match Query::parse(call)? {
            Query::New { lines, filter } => self.open(lines, filter)?,
            Query::Known(name) => self.find(name)?,
        };
        let began = Instant::now();
        loop {
            let that = Arc::clone(&tap);
            let read = tokio::task::spawn_blocking(move || {
                that.lock().unwrap_or_else(PoisonError::into_inner).read()
            });
            let news = read.await.map_err(|error| Refusal::failed(error.to_string()))?;
            if !news.is_empty() || began.elapsed() >= WAIT {
                return answer_of(name, news);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn open(&self, lines: usize, filter: Filter) -> Result<(String, Arc<Mutex<Tap>>), Refusal> {
        let mut open = self.swept();
        if open.len() >= TAPS_MAX {
            return Err(Refusal::unavailable(format!(
                "{TAPS_MAX} taps are open already; one is dropped {} s after its client has gone",
                DROPPED_AFTER.as_secs()
            )));
        }
        // Nobody guesses another's.
        let name = format!("{:016x}", std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8));
        let tap = Arc::new(Mutex::new(Tap::new(self.directory.clone(), lines, filter)));
        open.insert(name.clone(), Open { tap: Arc::clone(&tap), asked: Instant::now() });
        Ok((name, tap))
    }

    fn find(&self, name: String) -> Result<(String, Arc<Mutex<Tap>>), Refusal> {
        let mut open = self.swept();
        let Some(found) = open.get_mut(&name) else {
            return Err(Refusal::new(
                StatusCode::GONE,
                format!("the tap isn't open any more: nobody asked for {} s", DROPPED_AFTER.as_secs()),
            ));
        };
        found.asked = Instant::now();
        let tap = Arc::clone(&found.tap);
        drop(open);
        Ok((name, tap))
    }

    /// The taps that are in use.
    fn swept(&self) -> std::sync::MutexGuard<'_, HashMap<String, Open>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, open| open.asked.elapsed() < DROPPED_AFTER || Arc::strong_count(&open.tap) > 1);
        open
    }
}

fn answer_of(tap: String, news: News) -> Result<Answer, Refusal> {
    let head = TapHead { tap, warnings: news.warnings };
    let mut body = serde_json::to_vec(&head).map_err(|error| Refusal::failed(error.to_string()))?;
    body.push(b'\n');
    news.lines.iter().for_each(|line| body.extend_from_slice(line));
    Ok(of_type(StatusCode::OK, "application/x-ndjson", body))
}

/// Lines of events, and warnings beside them.
#[derive(Debug, Default)]
struct News {
    warnings: Vec<String>,
    lines: Vec<Vec<u8>>,
}

impl News {
    fn is_empty(&self) -> bool {
        self.warnings.is_empty() && self.lines.is_empty()
    }
}

/// One tap: a place in each journal.
#[derive(Debug)]
struct Tap {
    directory: PathBuf,
    filter: Filter,
    /// Events to begin with, until it has begun.
    first: Option<usize>,
    sources: Vec<Source>,
    searched: Option<Instant>,
}

#[derive(Debug)]
struct Source {
    name: String,
    path: PathBuf,
    reader: Reader<FileDirectory>,
    /// True if it can be read on.
    is_sound: bool,
}

/// A line, and where it belongs: by the time of receipt, then by place.
type Placed = ((u64, usize, u64, usize), Vec<u8>);

impl Tap {
    fn new(directory: PathBuf, lines: usize, filter: Filter) -> Self {
        Self { directory, filter, first: Some(lines), sources: Vec::new(), searched: None }
    }

    /// The events that have come; at first, the last ones that are there.
    fn read(&mut self) -> News {
        let mut news = News::default();
        self.search(&mut news);
        match self.first.take() {
            Some(lines) => self.begin(lines, &mut news),
            None => self.go_on(&mut news),
        }
        news
    }

    /// Looks for journals that are new: they are read from their begin on, unless the tap begins.
    fn search(&mut self, news: &mut News) {
        if self.searched.is_some_and(|at| at.elapsed() < SEARCH_INTERVAL) {
            return;
        }
        self.searched = Some(Instant::now());
        let paths = match journals(&self.directory) {
            Ok(paths) => paths,
            Err(error) => {
                return news
                    .warnings
                    .push(format!("the journals in {} can't be listed: {error}", self.directory.display()));
            }
        };
        for path in paths {
            if self.sources.iter().all(|source| source.path != path) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let reader = Reader::new(FileDirectory::open(&path), 0);
                self.sources.push(Source { name, path, reader, is_sound: true });
            }
        }
    }

    /// Reads the last records of each journal, and keeps the last `lines` of their events.
    fn begin(&mut self, lines: usize, news: &mut News) {
        let mut last: VecDeque<Placed> = VecDeque::new();
        for (place, source) in self.sources.iter_mut().enumerate() {
            // Each record has an event at least.
            if !source.go_back(lines as u64, news) || lines == 0 {
                continue;
            }
            let mut bytes = 0;
            while bytes < FIRST_BYTES_MAX {
                let Some(read) = source.next(&self.filter, place, news) else { break };
                bytes += read.bytes;
                last.extend(read.lines);
                while last.len() > lines {
                    last.pop_front();
                }
            }
        }
        let mut last = Vec::from(last);
        last.sort_unstable();
        let from = last.len().saturating_sub(lines);
        news.lines.extend(last.into_iter().skip(from).map(|(_, line)| line));
    }

    fn go_on(&mut self, news: &mut News) {
        let (began, mut bytes) = (Instant::now(), 0);
        let mut has_more = true;
        while std::mem::take(&mut has_more) {
            for (place, source) in self.sources.iter_mut().enumerate() {
                if news.lines.len() >= EVENTS_MAX || bytes >= BYTES_MAX || began.elapsed() >= READ_WITHIN {
                    return;
                }
                let Some(read) = source.next(&self.filter, place, news) else { continue };
                has_more = true;
                if read.is_late {
                    source.skip(read.record, news);
                    continue;
                }
                bytes += read.lines.iter().map(|(_, line)| line.len()).sum::<usize>();
                news.lines.extend(read.lines.into_iter().map(|(_, line)| line));
            }
        }
    }
}

/// A record that was read.
struct Read {
    record: u64,
    bytes: usize,
    is_late: bool,
    lines: Vec<Placed>,
}

impl Source {
    /// Goes to the end, less so many records. False if it can't be read.
    fn go_back(&mut self, records: u64, news: &mut News) -> bool {
        if let Err(error) = self.reader.skip_to_end() {
            self.leave(&with_cause(&error), news);
            return false;
        }
        if records > 0 {
            let from = self.reader.position().saturating_sub(records);
            self.reader = Reader::new(FileDirectory::open(&self.path), from);
        }
        true
    }

    /// The next record, with the lines of the events that are meant.
    fn next(&mut self, filter: &Filter, place: usize, news: &mut News) -> Option<Read> {
        if !self.is_sound {
            return None;
        }
        let record = match self.reader.next_record() {
            Ok(record) => record?,
            Err(error) => {
                let error = with_cause(&error);
                self.leave(&error, news);
                return None;
            }
        };
        let (sequence, bytes) = (record.sequence, record.payload.len());
        let stored = match StoredBatch::decode(record.payload) {
            Ok(stored) => stored,
            Err(error) => {
                let error = format!("record {sequence} isn't a batch of events: {error}");
                self.leave(&error, news);
                return None;
            }
        };
        let record = StoredRecord {
            journal: &self.name,
            record: sequence,
            producer: record.producer,
            sequence: record.producer_sequence,
            stored: &stored,
        };
        let mut lines = Vec::new();
        if filter.takes_record(&record) {
            for (index, _) in stored.events.iter().enumerate().filter(|(_, event)| filter.takes(event)) {
                let mut line = Vec::new();
                stored::event(&mut line, record, index, false);
                lines.push(((stored.receive_time_ns, place, sequence, index), line));
            }
        }
        let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        let is_late = now_ns.saturating_sub(stored.receive_time_ns) > LATE.as_nanos() as u64;
        Some(Read { record: sequence, bytes, is_late, lines })
    }

    /// Leaves out a record and all behind it that are there.
    fn skip(&mut self, record: u64, news: &mut News) {
        if let Err(error) = self.reader.skip_to_end() {
            return self.leave(&with_cause(&error), news);
        }
        let last = self.reader.position().saturating_sub(1).max(record);
        news.warnings.push(format!(
            "the tap was too slow: records {record} to {last} of journal {} were left out",
            self.name
        ));
    }

    /// Says why the journal isn't read on.
    fn leave(&mut self, error: &str, news: &mut News) {
        self.is_sound = false;
        news.warnings.push(format!("journal {} isn't shown any more: {error}", self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_a_filter_or_a_tap() {
        let parse = |query: &str| Query::parse(&Call { captures: vec![], query: query.to_owned() });
        let check = |query: &str, expected: &str| {
            let text = format!("{:?}", parse(query).map_err(|refusal| refusal.text().to_owned()));
            assert!(text.contains(expected), "{query}: {text}");
        };
        check("", "New { lines: 10");
        check("tap=ab", "Known(\"ab\")");
        check("lines=0&kind=log,video&user=a%2A&name=b&service=c", "kinds: [Log, Video]");
        check("user=a%2A&user=b", "users: [Pattern(\"a*\"), Pattern(\"b\")]");
        check("lines=1001", "a number up to 1000");
        check("kind=odd", "isn't a kind; accepted: user_interaction");
        check("producer=1", "32 hexadecimal digits");
        check("since=1h", "\\\"since\\\" isn't one of tap");
    }

    #[test]
    fn taps_are_few_and_are_found_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let taps = Taps::new(folder.path().to_owned());
        let names: Vec<_> = (0..TAPS_MAX).map(|_| taps.open(1, Filter::default()).unwrap().0).collect();
        let refused = taps.open(1, Filter::default()).unwrap_err();
        assert!(refused.text().contains("8 taps are open"), "{}", refused.text());
        assert!(taps.find(names[3].clone()).is_ok());
        assert!(taps.find("0".to_owned()).unwrap_err().text().contains("isn't open any more"));
    }
}
