//! `tickstream-journal-check`: is everything in the journals that was acknowledged, once, and nothing damaged?
//!
//! For tests that kill a server under `tickstream-load --publish --acked FILE`. It looks at every byte of every journal in
//! a server's `--journal` directory, and may run while nobody writes there.
//!
//! Exit code 0: all is as it should be. 1: something was lost, stored twice or damaged. 2: wrong usage. 3: it couldn't be
//! checked.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Parser;
use tickstream_journal::{FileDirectory, Reader, Tail, verify};

/// Faults that are told one by one.
const SHOWN_MAX: usize = 20;
/// The keys of `StoredBatch.events`, and of `Event.event_id` with the length that it always has.
const EVENTS: u64 = 3 << 3 | 2;
const EVENT_ID: [u8; 2] = [1 << 3 | 2, 16];

/// Checks the journals of a server that was killed against what it had acknowledged.
#[derive(Debug, Parser)]
#[command(name = "tickstream-journal-check", version, max_term_width = 110)]
struct Options {
    /// The server's --journal directory
    directory: PathBuf,
    /// File that `tickstream-load --publish --acked` wrote
    acked: PathBuf,
    /// Only faults
    #[arg(short, long)]
    quiet: bool,
}

/// Producer and sequence of a batch.
type Batch = ([u8; 16], u64);

/// Contents of all journals.
#[derive(Debug, Default)]
struct Found {
    journals: u64,
    records: u64,
    torn: u64,
    bytes: u64,
    /// Events of each batch.
    batches: HashMap<Batch, u64>,
    events: HashSet<u128>,
    faults: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match check(&options) {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            for fault in faults.iter().take(SHOWN_MAX) {
                println!("FAULT  {fault}");
            }
            println!("{} faults", faults.len());
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("tickstream-journal-check: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn check(options: &Options) -> anyhow::Result<Vec<String>> {
    // Before the journals: what is acknowledged meanwhile needn't be in them.
    let acked = fs::read_to_string(&options.acked).with_context(|| options.acked.display().to_string())?;
    let mut found = Found::default();
    for path in journals(&options.directory)? {
        found.journal(&path).with_context(|| path.display().to_string())?;
    }
    let mut lines = 0;
    for line in whole_lines(&acked) {
        let (batch, events) = parse(line).with_context(|| format!("a line of --acked is {line:?}"))?;
        lines += 1;
        let stored = found.batches.get(&batch).copied().unwrap_or(0);
        if stored != events {
            found.faults.push(format!("{line}: acknowledged {events} events, stored {stored}"));
        }
    }
    if !options.quiet {
        println!(
            "{lines} acknowledged batches; {} journals with {} records, {} events, {} bytes, {} torn tails",
            found.journals,
            found.records,
            found.events.len(),
            found.bytes,
            found.torn
        );
    }
    Ok(found.faults)
}

impl Found {
    fn journal(&mut self, path: &Path) -> anyhow::Result<()> {
        let report = verify(&mut FileDirectory::open(path))?;
        if let Some(damage) = report.damage {
            self.faults.push(format!("{}: {damage}", path.display()));
            return Ok(());
        }
        if report.first_sequence > 1 {
            bail!("retention has removed records, so that nothing can be said about them");
        }
        self.journals += 1;
        self.torn += u64::from(report.tail != Tail::Clean);
        self.bytes += report.bytes;
        let mut reader = Reader::new(FileDirectory::open(path), 1);
        let mut records = 0;
        while let Some(record) = reader.next_record()? {
            records += 1;
            let events = event_ids(record.payload, |id| self.events.insert(id));
            let (batch, place) = ((record.producer, record.producer_sequence), record.sequence);
            match events {
                None => self.faults.push(format!("record {place} is no StoredBatch")),
                Some((events, _)) if events != u64::from(record.events) => {
                    self.faults
                        .push(format!("record {place} says {} events, and has {events}", record.events));
                }
                Some((_, again)) if again > 0 => {
                    self.faults
                        .push(format!("record {place} has {again} events that are stored elsewhere, too"));
                }
                Some(_) => {}
            }
            match self.batches.entry(batch) {
                Entry::Vacant(entry) => {
                    entry.insert(u64::from(record.events));
                }
                Entry::Occupied(_) => {
                    self.faults.push(format!("record {place} is a batch that is stored already"));
                }
            }
        }
        if records != report.records {
            self.faults.push(format!("{} records were verified, and {records} read", report.records));
        }
        self.records += records;
        Ok(())
    }
}

/// The directories of all journals.
fn journals(all: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(all).with_context(|| all.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.is_dir());
    paths.sort_unstable();
    Ok(paths)
}

/// Without the last one, if it is still being written.
fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    let end = text.rfind('\n').map_or(0, |at| at + 1);
    text[..end].lines()
}

fn parse(line: &str) -> anyhow::Result<(Batch, u64)> {
    let mut words = line.split(' ');
    let mut next = || words.next().context("there is a word missing");
    let producer = u128::from_str_radix(next()?, 16)?.to_be_bytes();
    let sequence = next()?.parse()?;
    Ok(((producer, sequence), next()?.parse()?))
}

/// Hands over the id of each event in a `StoredBatch`. Answers how many there are, and for how many `is_new` was false;
/// `None` if it can't be read.
fn event_ids(mut payload: &[u8], mut is_new: impl FnMut(u128) -> bool) -> Option<(u64, u64)> {
    let (mut events, mut again) = (0, 0);
    while !payload.is_empty() {
        let key = varint(&mut payload)?;
        let len = match key & 7 {
            0 => {
                varint(&mut payload)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut payload)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (field, rest) = payload.split_at_checked(len)?;
        payload = rest;
        if key == EVENTS {
            // The id comes first: so the generator writes events, and the server leaves them.
            let id = field.strip_prefix(&EVENT_ID)?.first_chunk()?;
            events += 1;
            again += u64::from(!is_new(u128::from_be_bytes(*id)));
        }
    }
    Some((events, again))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tickstream_schema::events::{Event, Message, StoredBatch};

    use super::*;

    #[test]
    fn ids_are_found_among_the_other_fields() {
        let event = |id: u8| Event { event_id: vec![id; 16], platform: "web".into(), ..Event::default() };
        let batch = StoredBatch {
            receive_time_ns: 7,
            peer: "127.0.0.1".into(),
            events: vec![event(1), event(2), event(1)],
            shard: 3,
            is_partial: true,
            ..StoredBatch::default()
        };
        let mut seen = HashSet::new();
        assert_eq!(event_ids(&batch.encode_to_vec(), |id| seen.insert(id)), Some((3, 1)));
        assert!(seen.contains(&u128::from_be_bytes([2; 16])) && seen.len() == 2);
        assert_eq!(event_ids(&[0x1A, 5, 1], |_| true), None);
    }

    #[test]
    fn a_line_that_is_being_written_waits() {
        assert_eq!(whole_lines("a 1 2\nb 3").collect::<Vec<_>>(), ["a 1 2"]);
        let (batch, events) = parse("0000000000000000000000000000000f 7 100").unwrap();
        assert_eq!((batch.0[15], batch.1, events), (15, 7, 100));
        assert!(parse("0f 7").is_err());
    }
}
