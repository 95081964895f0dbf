//! Records in the bytes of a file: lines, or several that belong together. No I/O.

use super::config::RecordConfig;

/// A record, and where it ends in the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its start in the buffer, bytes.
    pub start: usize,
    /// Behind it, with its line feed.
    pub end: usize,
    /// Without the line feeds at its end.
    pub text: &'a [u8],
}

/// The whole records at the front of the bytes. What is left may go on, unless the file `has_ended`: then it is a record,
/// too. With `is_quiet`, the last record of several lines has ended as well.
pub fn records<'a>(
    bytes: &'a [u8],
    config: &RecordConfig,
    is_quiet: bool,
    has_ended: bool,
) -> Vec<Record<'a>> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    let mut at = 0;
    while at < bytes.len() {
        let (end, is_whole) = match bytes[at..].iter().position(|byte| *byte == b'\n') {
            Some(len) => (at + len + 1, true),
            None => (bytes.len(), has_ended || bytes.len() - at >= config.bytes_max),
        };
        if !is_whole {
            break;
        }
        let is_start = config.start.as_ref().is_none_or(|start| start.is_match(trimmed(&bytes[at..end])));
        open = Some(match open.take() {
            Some((start, _)) if !is_start && end - start <= config.bytes_max => (start, end),
            before => {
                push(&mut found, bytes, before, config.bytes_max);
                (at, end)
            }
        });
        if config.start.is_none() {
            push(&mut found, bytes, open.take(), config.bytes_max);
        }
        at = end;
    }
    let is_last_whole = has_ended || (is_quiet && open.is_some_and(|(_, end)| end == bytes.len()));
    if is_last_whole {
        push(&mut found, bytes, open, config.bytes_max);
    }
    found
}

/// A record that is longer than may be is several.
fn push<'a>(found: &mut Vec<Record<'a>>, bytes: &'a [u8], open: Option<(usize, usize)>, bytes_max: usize) {
    let Some((mut start, end)) = open else { return };
    while trimmed(&bytes[start..end]).len() > bytes_max {
        let cut = start + boundary(&bytes[start..start + bytes_max]);
        found.push(Record { start, end: cut, text: &bytes[start..cut] });
        start = cut;
    }
    found.push(Record { start, end, text: trimmed(&bytes[start..end]) });
}

/// The end of the last whole character of a cut text.
fn boundary(bytes: &[u8]) -> usize {
    let tail = bytes.iter().rev().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
    let lead = bytes.len().saturating_sub(tail + 1);
    let is_cut =
        bytes.get(lead).is_some_and(|byte| *byte >= 0xC0 && (byte.leading_ones() as usize) > tail + 1);
    if is_cut && lead > 0 { lead } else { bytes.len() }
}

fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use regex::bytes::Regex;

    use super::*;

    fn config(start: Option<&str>, bytes_max: usize) -> RecordConfig {
        RecordConfig {
            start: start.map(|start| Regex::new(start).unwrap()),
            timeout: Duration::from_secs(2),
            bytes_max,
        }
    }

    fn texts(bytes: &str, config: &RecordConfig, is_quiet: bool, has_ended: bool) -> Vec<String> {
        let found = records(bytes.as_bytes(), config, is_quiet, has_ended);
        found.iter().map(|record| String::from_utf8(record.text.to_vec()).unwrap()).collect()
    }

    #[test]
    fn lines_are_records_and_half_a_line_waits() {
        let lines = config(None, 100);
        assert_eq!(texts("a\r\n\nb\nhal", &lines, true, false), ["a", "", "b"]);
        assert_eq!(texts("a\nhal", &lines, true, true), ["a", "hal"]);
        assert_eq!(texts("", &lines, true, true), [""; 0]);
    }

    #[test]
    fn fault_73_lines_that_belong_together_wait_for_the_next_record() {
        let traces = config(Some(r"^\S"), 100);
        let text = "Exception\n  at a\n  at b\nnext\n  more\n";
        assert_eq!(texts(text, &traces, false, false), ["Exception\n  at a\n  at b"]);
        assert_eq!(texts(text, &traces, true, false), ["Exception\n  at a\n  at b", "next\n  more"]);
        assert_eq!(texts("x\n  half", &traces, true, false), [""; 0], "its last line isn't whole");
        assert_eq!(texts("x\n  half", &traces, false, true), ["x\n  half"]);
        assert_eq!(texts("  no start\nx\n", &traces, true, false), ["  no start", "x"]);
    }

    #[test]
    fn long_records_are_cut_between_characters() {
        let short = config(None, 16);
        let text = format!("{}\n", "é".repeat(20));
        let found = texts(&text, &short, false, false);
        assert_eq!((found.concat().chars().count(), found.len()), (20, 3));
        assert_eq!(
            texts(&"x".repeat(40), &short, false, false).concat().len(),
            40,
            "without an end in sight"
        );
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_doubled(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), multi in any::<bool>()) {
            let config = config(multi.then_some("^[a-z]"), 16);
            let found = records(&bytes, &config, true, true);
            let mut at = 0;
            for record in &found {
                prop_assert_eq!(record.start, at);
                at = record.end;
            }
            prop_assert_eq!(at, bytes.len());
            let part = records(&bytes, &config, false, false);
            prop_assert!(part.len() <= found.len());
        }
    }
}
