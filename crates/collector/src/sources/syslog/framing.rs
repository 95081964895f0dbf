//! Messages in a stream of bytes: each with its length in front, or each on a line. A sender may mix them.

use super::{MESSAGE_BYTES_MAX, NAME, message};
use crate::{outcome::Malformed, stream::StreamDecoder, writer::EventWriter};

/// Syslog over TCP or TLS.
#[derive(Debug, Default)]
pub struct SyslogStream;

/// Digits of the largest length.
const LENGTH_DIGITS_MAX: usize = 6;

/// The front of a stream.
enum Frame<'a> {
    /// A message, and the bytes that it takes.
    Message(&'a [u8], usize),
    /// More has to come.
    Part,
    /// Nothing that follows can be understood.
    Broken(String),
}

impl StreamDecoder for SyslogStream {
    fn name(&self) -> &'static str {
        NAME
    }

    fn decode(&mut self, bytes: &[u8], writer: &mut EventWriter<'_>) -> Result<usize, Malformed> {
        let mut at = 0;
        while writer.has_room() {
            match frame(&bytes[at..]) {
                Frame::Message(text, len) => {
                    at += len;
                    take(text, writer);
                }
                Frame::Part => break,
                Frame::Broken(problem) => return Err(Malformed(problem)),
            }
        }
        Ok(at)
    }

    /// The last line may lack its end. A counted message that isn't whole is nothing: its sender knows that it broke off.
    fn end(&mut self, bytes: &[u8], writer: &mut EventWriter<'_>) {
        let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_counted =
            digits > 0 && !bytes.starts_with(b"0") && bytes.get(digits).is_none_or(|byte| *byte == b' ');
        if !is_counted {
            take(bytes, writer);
        }
    }

    fn has_acknowledgements(&self) -> bool {
        false
    }

    fn message_bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX + LENGTH_DIGITS_MAX + 1
    }
}

fn take(text: &[u8], writer: &mut EventWriter<'_>) {
    if !text.is_empty() {
        writer.event(message::event(text, writer.receive_time()));
    }
}

fn frame(bytes: &[u8]) -> Frame<'_> {
    match bytes.first() {
        None => Frame::Part,
        Some(b'1'..=b'9') => counted(bytes),
        Some(_) => line(bytes),
    }
}

fn counted(bytes: &[u8]) -> Frame<'_> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length = std::str::from_utf8(&bytes[..digits]).ok().and_then(|text| text.parse::<usize>().ok());
    match (bytes.get(digits), length) {
        (None, _) if digits <= LENGTH_DIGITS_MAX => Frame::Part,
        (Some(b' '), Some(length)) if length <= MESSAGE_BYTES_MAX => {
            let end = digits + 1 + length;
            match bytes.get(digits + 1..end) {
                // Some senders end a counted message by a line feed, which others count.
                Some(text) => Frame::Message(text.strip_suffix(b"\n").unwrap_or(text), end),
                None => Frame::Part,
            }
        }
        (Some(b' '), _) => Frame::Broken(format!("a message has more than {MESSAGE_BYTES_MAX} bytes")),
        // A line that begins with a digit.
        _ => line(bytes),
    }
}

fn line(bytes: &[u8]) -> Frame<'_> {
    match bytes.iter().position(|byte| matches!(byte, b'\n' | 0)) {
        Some(end) => Frame::Message(bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), end + 1),
        None if bytes.len() > MESSAGE_BYTES_MAX => {
            Frame::Broken(format!("a line has more than {MESSAGE_BYTES_MAX} bytes"))
        }
        None => Frame::Part,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tickstream_client::events::Body;

    use super::*;
    use crate::{
        keys::Key,
        upstream::BatchLimits,
        writer::{
            Ids,
            tests::{decoded, origin},
        },
    };

    /// Messages of a stream that comes in pieces of the given sizes.
    fn messages(stream: &[u8], pieces: &[usize]) -> Result<Vec<String>, Malformed> {
        let origin = origin(Key::unrestricted("k"));
        let limits = BatchLimits { events: 2048, bytes: 400_000 };
        let (mut buffer, mut found, mut decoder) = (Vec::new(), Vec::new(), SyslogStream);
        let writer = || EventWriter::new(&origin, Ids::New, limits, 3);
        let mut take = |writer: EventWriter<'_>| {
            let text = |body| match body {
                Some(Body::Log(log)) => log.message,
                other => panic!("{other:?}"),
            };
            found.extend(decoded(&writer.finish().unwrap()).into_iter().map(|event| text(event.body)));
        };
        let (mut at, mut pieces) = (0, pieces.iter().cycle());
        while at < stream.len() {
            let end = (at + pieces.next().unwrap()).min(stream.len());
            buffer.extend_from_slice(&stream[at..end]);
            at = end;
            loop {
                let mut writer = writer();
                let consumed = decoder.decode(&buffer, &mut writer)?;
                take(writer);
                buffer.drain(..consumed);
                if consumed == 0 {
                    break;
                }
            }
        }
        let mut writer = writer();
        decoder.end(&buffer, &mut writer);
        take(writer);
        Ok(found)
    }

    #[test]
    fn counted_messages_and_lines_may_follow_each_other() {
        let stream = b"19 <13>1 - - - - - - a<13>host b: line\r\n23 <13>1 - - - - - - b\nc d<13>h e: nul\0\n<13>h e: last";
        for piece in [1, 2, 7, 1000] {
            assert_eq!(
                messages(stream, &[piece]).unwrap(),
                ["a", "line", "b\nc d", "nul", "last"],
                "{piece}"
            );
        }
    }

    #[test]
    fn a_last_line_needs_no_end_and_a_counted_message_all_its_bytes() {
        for (stream, expected) in [
            (&b"<13>h a: b"[..], &["b"][..]),
            (b"no priority", &["no priority"]),
            (b"7up was sold", &["7up was sold"]),
            (b"12 <13>h a: b", &[]),
            (b"12", &[]),
            (b"", &[]),
        ] {
            assert_eq!(messages(stream, &[5]).unwrap(), expected, "{stream:?}");
        }
    }

    #[test]
    fn streams_that_cannot_be_followed_end() {
        assert!(messages(b"65537 <13>", &[1000]).is_err());
        assert!(messages(&[b'x'; 70_000], &[1000]).is_err());
        assert!(messages(b"9999999 <13>", &[1000]).is_err());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            texts in proptest::collection::vec(("[!-9;-~][ -9;-~]{0,39}", any::<bool>()), 1..8),
            pieces in proptest::collection::vec(1..30_usize, 1..5),
        ) {
            let mut stream = Vec::new();
            for (text, is_counted) in &texts {
                let message = format!("<13>1 - - - - - - {text}");
                let frame = if *is_counted { format!("{} {message}", message.len()) } else { format!("{message}\n") };
                stream.extend(frame.into_bytes());
            }
            let expected: Vec<_> = texts.iter().map(|(text, _)| text.clone()).collect();
            prop_assert_eq!(messages(&stream, &pieces).unwrap(), expected);
        }

        #[test]
        fn no_bytes_make_it_panic(stream in proptest::collection::vec(any::<u8>(), 0..300), piece in 1..50_usize) {
            _ = messages(&stream, &[piece]);
        }
    }
}
