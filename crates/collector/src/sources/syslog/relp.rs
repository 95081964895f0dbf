//! RELP: syslog with an answer to each message. <https://github.com/rsyslog/librelp/blob/master/doc/relp.html>
//!
//! A frame is `number SP command SP length [SP data] LF`. The answer to a message is given when it is stored.

use tickstream_client::events::Event;

use super::{MESSAGE_BYTES_MAX, message};
use crate::{
    outcome::{Malformed, Rejection},
    stream::StreamDecoder,
    writer::EventWriter,
};

/// RELP over TCP or TLS.
#[derive(Debug, Default)]
pub struct RelpStream {
    answers: Vec<Answer>,
}

/// An answer that is owed.
#[derive(Debug)]
struct Answer {
    number: u32,
    reply: Reply,
}

#[derive(Debug)]
enum Reply {
    /// To the message with this index.
    Message(u32),
    /// To anything else.
    Text(String),
    /// To the end of the session.
    Close,
}

/// More than a frame has beside its data: numbers and the command are short.
const HEADER_BYTES_MAX: usize = 64;
/// Offer of this side: version 0, and messages.
const OFFER: &str = "200 OK\nrelp_version=0\nrelp_software=tickstream\ncommands=syslog";

struct Frame<'a> {
    number: u32,
    command: &'a str,
    data: &'a [u8],
    len: usize,
}

impl StreamDecoder for RelpStream {
    fn name(&self) -> &'static str {
        "relp"
    }

    fn decode(&mut self, bytes: &[u8], writer: &mut EventWriter<'_>) -> Result<usize, Malformed> {
        let (mut at, mut index) = (0, 0);
        while writer.has_room() {
            let Some(frame) = frame(&bytes[at..])? else { break };
            at += frame.len;
            let reply = match frame.command {
                "syslog" => {
                    // The sender repeats what has no answer, in a new session with new numbers: the text has to tell.
                    let event_id = writer.id_of_parts(&[b"relp", frame.data]);
                    writer.event(Event { event_id, ..message::event(frame.data, writer.receive_time()) });
                    index += 1;
                    Reply::Message(index - 1)
                }
                "open" => Reply::Text(OFFER.to_owned()),
                "close" => Reply::Close,
                other => Reply::Text(format!("500 there is no command {other}")),
            };
            self.answers.push(Answer { number: frame.number, reply });
        }
        Ok(at)
    }

    fn acknowledge(&mut self, rejected: &[Rejection], out: &mut Vec<u8>) {
        for Answer { number, reply } in self.answers.drain(..) {
            match reply {
                Reply::Message(index) => {
                    let found = rejected.binary_search_by_key(&index, |rejection| rejection.index);
                    match found {
                        Ok(at) => answer(out, number, &refusal(&rejected[at])),
                        Err(_) => answer(out, number, "200 OK"),
                    }
                }
                Reply::Text(text) => answer(out, number, &text),
                Reply::Close => {
                    answer(out, number, "");
                    out.extend_from_slice(b"0 serverclose 0\n");
                }
            }
        }
    }

    fn message_bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX + HEADER_BYTES_MAX
    }
}

fn answer(out: &mut Vec<u8>, number: u32, data: &str) {
    let space = if data.is_empty() { "" } else { " " };
    out.extend(format!("{number} rsp {}{space}{data}\n", data.len()).into_bytes());
}

/// A message that can't be stored: sending it again won't help, and the sender isn't told otherwise.
fn refusal(rejection: &Rejection) -> String {
    format!("500 {}: {}", rejection.code, rejection.message).replace('\n', " ")
}

/// The frame at the front; `None`: more has to come.
fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let malformed = |problem: &str| Malformed(format!("no RELP frame: {problem}"));
    let head = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
    let mut at = 0;
    let mut field = |ends: &[u8]| {
        let end = head[at..].iter().position(|byte| ends.contains(byte))?;
        let text = &head[at..at + end];
        let terminator = head[at + end];
        at += end + 1;
        Some((text, terminator))
    };
    let (Some((number, _)), Some((command, _)), Some((length, terminator))) =
        (field(b" "), field(b" "), field(b" \n"))
    else {
        return if head.len() < HEADER_BYTES_MAX {
            Ok(None)
        } else {
            Err(malformed("its header is too long"))
        };
    };
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let parsed = |bytes| text(bytes)?.parse::<u32>().ok();
    let number = parsed(number).ok_or_else(|| malformed("its number is none"))?;
    let length = parsed(length).ok_or_else(|| malformed("its length is none"))? as usize;
    let command = text(command).ok_or_else(|| malformed("its command is no text"))?;
    if length > MESSAGE_BYTES_MAX {
        return Err(malformed("its data is too long"));
    }
    if length == 0 {
        // Some senders put a space before data that isn't there.
        let len = match (terminator, bytes.get(at)) {
            (b'\n', _) => at,
            (_, Some(b'\n')) => at + 1,
            (_, None) => return Ok(None),
            (_, Some(_)) => return Err(malformed("it doesn't end by a line feed")),
        };
        return Ok(Some(Frame { number, command, data: b"", len }));
    }
    match (terminator, bytes.get(at..at + length), bytes.get(at + length)) {
        (b'\n', ..) => Err(malformed("its data is missing")),
        (_, Some(data), Some(b'\n')) => Ok(Some(Frame { number, command, data, len: at + length + 1 })),
        (_, Some(_), Some(_)) => Err(malformed("it doesn't end by a line feed")),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        keys::Key,
        upstream::BatchLimits,
        writer::{
            Ids,
            tests::{decoded, origin},
        },
    };

    fn decode(decoder: &mut RelpStream, bytes: &[u8]) -> Result<(usize, usize), Malformed> {
        let origin = origin(Key::unrestricted("k"));
        let limits = BatchLimits { events: 2048, bytes: 400_000 };
        let mut writer = EventWriter::new(&origin, Ids::OfBody(bytes), limits, 100);
        let consumed = decoder.decode(bytes, &mut writer)?;
        Ok((consumed, decoded(&writer.finish().unwrap()).len()))
    }

    #[test]
    fn each_message_has_its_answer() {
        let mut decoder = RelpStream::default();
        let session = b"1 open 30 relp_version=0\ncommands=syslog\n2 syslog 9 <13>h a: \n3 syslog 6 <13>hi\n4 close 0\n5 sys";
        assert_eq!(decode(&mut decoder, session).unwrap(), (session.len() - 5, 2));
        let mut out = Vec::new();
        decoder.acknowledge(&[Rejection::last(1, "EVENT_TOO_LARGE", "split\nit")], &mut out);
        let answers = String::from_utf8(out).unwrap();
        assert!(answers.starts_with("1 rsp 62 200 OK\nrelp_version=0\n"), "{answers}");
        assert!(
            answers.ends_with(
                "\n2 rsp 6 200 OK\n3 rsp 29 500 EVENT_TOO_LARGE: split it\n4 rsp 0\n0 serverclose 0\n"
            ),
            "{answers}"
        );
        assert_eq!(decode(&mut decoder, b"6 nonsense 0\n").unwrap(), (13, 0));
        let mut out = Vec::new();
        decoder.acknowledge(&[], &mut out);
        assert!(out.starts_with(b"6 rsp 32 500 "), "{out:?}");
    }

    #[test]
    fn frames_that_are_none_end_the_session() {
        for broken in [
            "x syslog 1 a\n",
            "1 syslog x a\n",
            "1 syslog 1 ab",
            "1 syslog 5\n",
            "1 syslog 65537 a",
            "1 syslog 0 a",
            &"1".repeat(100),
        ] {
            assert!(decode(&mut RelpStream::default(), broken.as_bytes()).is_err(), "{broken}");
        }
        for part in ["", "1", "1 syslog", "1 syslog 5 ab", "1 syslog 2 ab", "1 syslog 0 "] {
            assert_eq!(decode(&mut RelpStream::default(), part.as_bytes()).unwrap(), (0, 0), "{part}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in "[0-9a-z \n]{0,80}") {
            _ = decode(&mut RelpStream::default(), bytes.as_bytes());
        }
    }
}
