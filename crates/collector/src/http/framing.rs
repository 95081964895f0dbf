//! Bounds of HTTP/1.1's requests, so that no proxy before us can see them otherwise.
//!
//! hyper is as lenient as RFC 9112 allows: LF alone ends a line, Transfer-Encoding wins over Content-Length, a coding before
//! `chunked` goes unread. A proxy that reads the same bytes more strictly hands over one request where hyper sees two. So
//! heads and chunks have to keep to the letter.

use hyper::{StatusCode, Uri};

/// A rule of RFC 9112 that a request breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// More bytes, or more headers, than a head may have.
    #[error("the head is too large: send fewer and shorter headers")]
    HeadTooLarge,
    /// LF without CR.
    #[error("a line of the head ends in LF alone: CR LF has to end it")]
    LineEnd,
    /// The first line.
    #[error("the first line isn't METHOD TARGET HTTP/1.1, with a target of visible ASCII characters")]
    RequestLine,
    /// A header in several lines (obsolete folding).
    #[error("a header goes on in a second line: it has to stand in one")]
    Folded,
    /// The name of a header, up to its colon.
    #[error("a line of the head isn't NAME: VALUE, with a colon right after the name")]
    HeaderName,
    /// A control character in a header.
    #[error("a header has a control character in it")]
    HeaderValue,
    /// Content-Length.
    #[error("Content-Length has to be one number, and to stand there once")]
    Length,
    /// Two lengths.
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    TwoLengths,
    /// Transfer-Encoding.
    #[error("the only Transfer-Encoding that is taken is chunked, once, and in HTTP/1.1")]
    Coding,
    /// The size of a chunk, or its end.
    #[error("a chunk of the body isn't SIZE CR LF DATA CR LF")]
    Chunk,
}

impl Problem {
    /// All that a head can have.
    pub const OF_HEADS: [Self; 9] = [
        Self::HeadTooLarge,
        Self::LineEnd,
        Self::RequestLine,
        Self::Folded,
        Self::HeaderName,
        Self::HeaderValue,
        Self::Length,
        Self::TwoLengths,
        Self::Coding,
    ];

    /// HTTP's status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// First bytes of HTTP/2 (RFC 9113, 3.4), and how many of them look like a head.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_HEAD_BYTES: usize = 18;
/// hyper takes no more.
const HEADERS_MAX: usize = 100;
/// Most bytes of a chunk's size with its extensions.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Most digits of a chunk's size.
const CHUNK_DIGITS_MAX: usize = 15;

/// A part of a connection's bytes, from its beginning on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// So many bytes are as they have to be.
    Sound(usize),
    /// Too little has come to tell.
    Unfinished,
}

/// The place in a connection's bytes up to which they were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Head,
    /// Bytes of a body, which may be any.
    Body(u64),
    /// Bytes of a chunk.
    Chunk(u64),
    ChunkSize,
    ChunkEnd,
    Trailers,
    /// HTTP/2 has frames, which hyper checks.
    Http2,
}

/// Checks the bytes of a connection, in pieces as they come.
#[derive(Debug)]
pub struct Framing {
    place: Place,
    head_bytes_max: usize,
    /// Bytes of an unfinished line, head or trailer that have no end in them.
    searched: usize,
}

impl Framing {
    /// At the beginning of a connection whose heads may have so many bytes.
    pub fn new(head_bytes_max: usize) -> Self {
        Self { place: Place::Head, head_bytes_max, searched: 0 }
    }

    /// Bytes that may be any: they needn't be shown to [`check`](Self::check).
    pub fn opaque(&self) -> u64 {
        match self.place {
            Place::Body(left) | Place::Chunk(left) => left,
            Place::Http2 => u64::MAX,
            _ => 0,
        }
    }

    /// Tells that so many opaque bytes have come.
    pub fn passed(&mut self, count: u64) {
        self.place = match self.place {
            Place::Body(left) if left <= count => Place::Head,
            Place::Body(left) => Place::Body(left - count),
            Place::Chunk(left) if left <= count => Place::ChunkEnd,
            Place::Chunk(left) => Place::Chunk(left - count),
            other => other,
        };
    }

    /// True if these bytes are part of a head, and not of a body.
    pub fn is_in_head(&self) -> bool {
        self.place == Place::Head
    }

    /// Checks the next part of the bytes that weren't found sound so far.
    ///
    /// # Errors
    /// [`Problem`]; nothing can be said of what follows.
    pub fn check(&mut self, bytes: &[u8]) -> Result<Part, Problem> {
        let opaque = self.opaque();
        if opaque > 0 {
            let count = bytes.len().min(usize::try_from(opaque).unwrap_or(usize::MAX));
            self.passed(count as u64);
            return Ok(if count == 0 { Part::Unfinished } else { Part::Sound(count) });
        }
        match self.place {
            Place::Head => self.check_head(bytes),
            Place::Trailers => self.check_trailers(bytes),
            Place::ChunkSize => self.check_chunk_size(bytes),
            Place::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => Ok(self.found(2, Place::ChunkSize)),
                [] | [b'\r'] => Ok(Part::Unfinished),
                _ => Err(Problem::Chunk),
            },
            Place::Body(_) | Place::Chunk(_) | Place::Http2 => Ok(Part::Unfinished),
        }
    }

    fn found(&mut self, count: usize, place: Place) -> Part {
        (self.place, self.searched) = (place, 0);
        Part::Sound(count)
    }

    fn check_head(&mut self, bytes: &[u8]) -> Result<Part, Problem> {
        // Empty lines before a request are passed over (RFC 9112, 2.2).
        if bytes.starts_with(b"\r\n") {
            return Ok(self.found(2, Place::Head));
        }
        if bytes.starts_with(&PREFACE[..PREFACE_HEAD_BYTES]) {
            return match &bytes[..bytes.len().min(PREFACE.len())] {
                PREFACE => Ok(self.found(PREFACE.len(), Place::Http2)),
                begun if PREFACE.starts_with(begun) => Ok(Part::Unfinished),
                _ => Err(Problem::RequestLine),
            };
        }
        let Some(count) = self.end_of_lines(bytes)? else { return Ok(Part::Unfinished) };
        let place = match Length::of_head(&bytes[..count])? {
            Length::Bytes(0) => Place::Head,
            Length::Bytes(length) => Place::Body(length),
            Length::Chunked => Place::ChunkSize,
        };
        Ok(self.found(count, place))
    }

    fn check_trailers(&mut self, bytes: &[u8]) -> Result<Part, Problem> {
        if bytes.starts_with(b"\r\n") {
            return Ok(self.found(2, Place::Head));
        }
        let Some(count) = self.end_of_lines(bytes)? else { return Ok(Part::Unfinished) };
        for line in lines(&bytes[..count]) {
            header(line?)?;
        }
        Ok(self.found(count, Place::Head))
    }

    /// The end of the empty line after lines.
    fn end_of_lines(&mut self, bytes: &[u8]) -> Result<Option<usize>, Problem> {
        // The last three may be the beginning of the end.
        let from = self.searched.saturating_sub(3);
        let end = bytes[from..].windows(2).enumerate().find_map(|(at, pair)| {
            let rest = &bytes[from + at + 1..];
            match pair {
                [b'\n', b'\n'] => Some(2),
                [b'\n', b'\r'] if rest.get(1) == Some(&b'\n') => Some(3),
                _ => None,
            }
            .map(|len| from + at + len)
        });
        self.searched = bytes.len();
        match end {
            Some(end) if end <= self.head_bytes_max => Ok(Some(end)),
            None if bytes.len() <= self.head_bytes_max => Ok(None),
            _ => Err(Problem::HeadTooLarge),
        }
    }

    fn check_chunk_size(&mut self, bytes: &[u8]) -> Result<Part, Problem> {
        let seen = &bytes[..bytes.len().min(CHUNK_LINE_BYTES_MAX)];
        let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
            return if seen.len() == CHUNK_LINE_BYTES_MAX {
                Err(Problem::Chunk)
            } else {
                Ok(Part::Unfinished)
            };
        };
        let line = seen[..end].strip_suffix(b"\r").ok_or(Problem::Chunk)?;
        let (size, extensions) =
            line.split_at(line.iter().position(|byte| *byte == b';').unwrap_or(line.len()));
        let size = size.trim_ascii_end();
        if !(1..=CHUNK_DIGITS_MAX).contains(&size.len()) || !is_text(extensions) {
            return Err(Problem::Chunk);
        }
        let digit = |byte: &u8| char::from(*byte).to_digit(16).map(u64::from).ok_or(Problem::Chunk);
        let size = size.iter().try_fold(0, |size, byte| digit(byte).map(|digit| size << 4 | digit))?;
        Ok(self.found(end + 1, if size == 0 { Place::Trailers } else { Place::Chunk(size) }))
    }
}

/// The length of a body, as its head has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Chunked,
}

impl Length {
    /// Of a whole head, its empty line included.
    fn of_head(head: &[u8]) -> Result<Self, Problem> {
        let mut lines = lines(head);
        let first = lines.next().ok_or(Problem::RequestLine)??;
        let is_http11 = is_http11(first).ok_or(Problem::RequestLine)?;
        let (mut length, mut is_chunked) = (None, false);
        for (index, line) in lines.enumerate() {
            let (name, value) = header(line?)?;
            if index >= HEADERS_MAX {
                return Err(Problem::HeadTooLarge);
            }
            if name.eq_ignore_ascii_case(b"content-length") {
                let number = Some(value).filter(|_| length.is_none()).and_then(number);
                length = Some(number.ok_or(Problem::Length)?);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                if is_chunked || !is_http11 || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Problem::Coding);
                }
                is_chunked = true;
            }
        }
        match length {
            Some(_) if is_chunked => Err(Problem::TwoLengths),
            None if is_chunked => Ok(Self::Chunked),
            _ => Ok(Self::Bytes(length.unwrap_or(0))),
        }
    }
}

/// Lines up to the empty one, without their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = Result<&[u8], Problem>> {
    let lines = head.split_inclusive(|byte| *byte == b'\n');
    lines
        .map(|line| line.strip_suffix(b"\r\n").ok_or(Problem::LineEnd))
        .take_while(|line| line.is_err() || line.is_ok_and(|line| !line.is_empty()))
}

/// True for HTTP/1.1, false for 1.0. `None`: it is no first line of a request.
fn is_http11(line: &[u8]) -> Option<bool> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_request = words.next().is_none()
        && is_token(method)
        && target.iter().all(u8::is_ascii_graphic)
        && Uri::try_from(target).is_ok();
    match version {
        b"HTTP/1.1" if is_request => Some(true),
        b"HTTP/1.0" if is_request => Some(false),
        _ => None,
    }
}

fn header(line: &[u8]) -> Result<(&[u8], &[u8]), Problem> {
    if line.first().is_some_and(|first| matches!(first, b' ' | b'\t')) {
        return Err(Problem::Folded);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Problem::HeaderName)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    match (is_token(name), is_text(value)) {
        (false, _) => Err(Problem::HeaderName),
        (_, false) => Err(Problem::HeaderValue),
        _ => Ok((name, value)),
    }
}

/// RFC 9110's `token`.
fn is_token(bytes: &[u8]) -> bool {
    let is_char = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_char)
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7F))
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD_BYTES_MAX: usize = 300;

    /// Checks bytes that come in pieces of this size: how many are sound, and what is wrong with those that follow.
    fn checked(bytes: &[u8], piece: usize) -> (usize, Option<Problem>) {
        let mut framing = Framing::new(HEAD_BYTES_MAX);
        let (mut sound, mut come) = (0, 0);
        loop {
            match framing.check(&bytes[sound..come]) {
                Ok(Part::Sound(count)) => sound += count,
                Ok(Part::Unfinished) if come == bytes.len() => return (sound, None),
                Ok(Part::Unfinished) => come = bytes.len().min(come + piece),
                Err(problem) => return (sound, Some(problem)),
            }
        }
    }

    fn problem(text: &str) -> Option<Problem> {
        let in_pieces = checked(text.as_bytes(), 1);
        assert_eq!(checked(text.as_bytes(), text.len()), in_pieces, "{text:?}");
        in_pieces.1
    }

    #[test]
    fn requests_that_keep_to_the_letter_pass_whole() {
        let requests = "\r\nGET /a?b=%20 HTTP/1.1\r\nhost: h\r\nempty:\r\nx:\t\u{e4} y \r\n\r\n\
                        POST http://h/b HTTP/1.0\r\ncontent-length:  5 \r\n\r\n\n\r\n\r\n\
                        POST /c HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n\
                        5\r\nGET /\r\n00A ;name=\"a;b\"\r\n0123456789\r\n0\r\n\r\n\
                        POST /d HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nafter: all\r\n\r\n\
                        OPTIONS * HTTP/1.1\r\n\r\n";
        assert_eq!(checked(requests.as_bytes(), requests.len()), (requests.len(), None));
        for piece in 1..20 {
            assert_eq!(checked(requests.as_bytes(), piece), (requests.len(), None), "{piece}");
        }
        let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        assert_eq!(checked(http2, 3), (http2.len(), None));
    }

    #[test]
    fn each_rule_has_its_problem() {
        let cases = [
            ("GET / HTTP/1.1\nhost: h\n\n", Problem::LineEnd),
            ("GET / HTTP/1.1\r\nhost: h\ncontent-length: 1\r\n\r\n", Problem::LineEnd),
            ("GET / HTTP/1.1\r\nhost: h\r\n\n", Problem::LineEnd),
            ("GET / HTTP/1.1\r\nhost: h\n\r\n", Problem::LineEnd),
            ("\nGET / HTTP/1.1\r\nhost: h\r\n\r\n", Problem::LineEnd),
            ("GET  / HTTP/1.1\r\n\r\n", Problem::RequestLine),
            ("GET /a b HTTP/1.1\r\n\r\n", Problem::RequestLine),
            ("G(T / HTTP/1.1\r\n\r\n", Problem::RequestLine),
            ("GET / HTTP/1.2\r\n\r\n", Problem::RequestLine),
            ("GET /\r\n\r\n", Problem::RequestLine),
            ("PRI * HTTP/2.0\r\nhost: h\r\n\r\n", Problem::RequestLine),
            ("PRI * HTTP/2.0\r\n\r\nSMALL\r\n", Problem::RequestLine),
            ("GET /\u{e4} HTTP/1.1\r\n\r\n", Problem::RequestLine),
            ("GET / HTTP/1.1\r\nhost: h\r\n x\r\n\r\n", Problem::Folded),
            ("GET / HTTP/1.1\r\n host: h\r\n\r\n", Problem::Folded),
            ("GET / HTTP/1.1\r\nhost : h\r\n\r\n", Problem::HeaderName),
            ("GET / HTTP/1.1\r\nho\0st: h\r\n\r\n", Problem::HeaderName),
            ("GET / HTTP/1.1\r\n: h\r\n\r\n", Problem::HeaderName),
            ("GET / HTTP/1.1\r\nhost\r\n\r\n", Problem::HeaderName),
            ("GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n", Problem::HeaderValue),
            ("GET / HTTP/1.1\r\nhost: a\0b\r\n\r\n", Problem::HeaderValue),
            ("GET / HTTP/1.1\r\ncontent-length: +5\r\n\r\n", Problem::Length),
            ("GET / HTTP/1.1\r\ncontent-length:\r\n\r\n", Problem::Length),
            ("GET / HTTP/1.1\r\ncontent-length: 5, 5\r\n\r\n", Problem::Length),
            ("GET / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n", Problem::Length),
            ("GET / HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\n", Problem::Length),
            (
                "GET / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
                Problem::TwoLengths,
            ),
            (
                "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
                Problem::TwoLengths,
            ),
            ("GET / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", Problem::Coding),
            ("GET / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n", Problem::Coding),
            (
                "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
                Problem::Coding,
            ),
            ("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", Problem::Coding),
        ];
        for (text, expected) in cases {
            assert_eq!(problem(text), Some(expected), "{text:?}");
        }
        let chunks = ["5\nabcde\r\n", "\r\n", "g\r\n", "-1\r\n", "0x1\r\n", "1;a\nb\r\n", "1;a\rb\r\nx\r\n"];
        let more = ["1\r\nxy", "1\r\nx\n", "1\r\nx\r\r", "1111111111111111\r\n"];
        let long = format!("1;{}\r\nx\r\n", "y".repeat(CHUNK_LINE_BYTES_MAX));
        for chunk in chunks.into_iter().chain(more).chain([&long[..]]) {
            let text = format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
            assert_eq!(problem(&text), Some(Problem::Chunk), "{chunk:?}");
        }
    }

    #[test]
    fn heads_and_trailers_are_bounded() {
        let head = |len: usize| format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(len));
        let spare = HEAD_BYTES_MAX - head(0).len();
        assert_eq!(problem(&head(spare)), None);
        assert_eq!(problem(&head(spare + 1)), Some(Problem::HeadTooLarge));
        assert_eq!(problem(&"x".repeat(HEAD_BYTES_MAX + 1)), Some(Problem::HeadTooLarge));
        let trailers = format!(
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: {}",
            "y".repeat(HEAD_BYTES_MAX)
        );
        assert_eq!(problem(&trailers), Some(Problem::HeadTooLarge));
        let headers = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(count));
        assert_eq!(Length::of_head(headers(HEADERS_MAX).as_bytes()), Ok(Length::Bytes(0)));
        assert_eq!(Length::of_head(headers(HEADERS_MAX + 1).as_bytes()), Err(Problem::HeadTooLarge));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "GET / HTTP/1.1", "\r\n", "\r\n\r\n", "\n", "\r", "host: h", "content-length: 3", "transfer-encoding: chunked",
                    "3\r\nabc\r\n", "0\r\n\r\n", " ", "abc", "\0", "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
                ]),
                0..20,
            ),
            piece in 1_usize..9,
        ) {
            let text = words.concat();
            prop_assert_eq!(checked(text.as_bytes(), piece), checked(text.as_bytes(), text.len().max(1)));
        }
    }
}
