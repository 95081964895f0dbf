//! gRPC's unary calls over HTTP/2: five bytes before a message, a status in the trailers. The few rules of it that a
//! collector needs: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use prost::Message;

use super::{DecodeError, Encoding, Head, Refusal, Reply, decode};
use crate::outcome::Malformed;

/// gRPC's status codes that a collector answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    InvalidArgument = 3,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// True if a request is a gRPC call. One of gRPC-Web isn't: its answer would be another.
pub(crate) fn is_call(head: &Head) -> bool {
    matches!(&head.media_type()[..], "application/grpc" | "application/grpc+proto")
}

/// The message of a unary call.
pub(super) fn message<'a>(head: &Head, body: &'a [u8], bytes_max: usize) -> Result<Cow<'a, [u8]>, Refusal> {
    let malformed = |problem: &str| Refusal::Malformed(Malformed(problem.to_owned()));
    let (flag, rest) = body.split_first().ok_or_else(|| malformed("the call has no message"))?;
    let (length, message) =
        rest.split_first_chunk::<4>().ok_or_else(|| malformed("the message ends within its length"))?;
    if message.len() != u32::from_be_bytes(*length) as usize {
        return Err(malformed("the call needs exactly one message, as long as it says"));
    }
    let encoding = match flag {
        0 => Encoding::Identity,
        1 => Encoding::from_header(head.header("grpc-encoding"))
            .filter(|encoding| *encoding != Encoding::Identity)
            .ok_or_else(|| {
                Refusal::Unsupported("grpc-encoding may be gzip, deflate, zstd or snappy".to_owned())
            })?,
        _ => return Err(malformed("the message's flag is neither 0 nor 1")),
    };
    decode(encoding, message, bytes_max).map_err(|error| match error {
        DecodeError::TooLarge(bytes_max) => Refusal::TooLarge { bytes_max },
        DecodeError::Broken(problem) => malformed(&problem),
    })
}

/// A success with this message.
pub(super) fn success(message: &[u8]) -> Reply {
    let mut body = Vec::with_capacity(5 + message.len());
    body.push(0);
    body.extend((message.len() as u32).to_be_bytes());
    body.extend_from_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Reply::new(StatusCode::OK, "application/grpc", Bytes::from(body)).with_trailers(trailers)
}

/// An error. Where sending again helps, its details say when (google.rpc.RetryInfo).
pub(super) fn refusal(refusal: &Refusal) -> Reply {
    let (code, message) = (code(refusal), refusal.to_string());
    let mut reply = Reply::empty(StatusCode::OK);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(code as u16));
    if let Ok(value) = HeaderValue::from_str(&percent_encoded(&message)) {
        headers.insert("grpc-message", value);
    }
    if code == Code::Unimplemented {
        // What the client may use instead.
        headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,gzip,deflate,zstd,snappy"));
    }
    let status = Status { code: code as i32, message, details: details(refusal) };
    if let Ok(value) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(status.encode_to_vec())) {
        headers.insert("grpc-status-details-bin", value);
    }
    reply
}

fn code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Malformed(_)
        | Refusal::Framing(_)
        | Refusal::TooManyEvents(_)
        | Refusal::TooLarge { .. } => Code::InvalidArgument,
        Refusal::Unauthorized => Code::Unauthenticated,
        Refusal::Origin(_) => Code::PermissionDenied,
        Refusal::NotFound | Refusal::Method(_) | Refusal::Unsupported(_) => Code::Unimplemented,
        Refusal::Unavailable(unavailable) if unavailable.cause.is_quota() => Code::ResourceExhausted,
        Refusal::Partly(_) if refusal.status() == StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        Refusal::Slow(_) | Refusal::Incomplete | Refusal::Unavailable(_) | Refusal::Partly(_) => {
            Code::Unavailable
        }
    }
}

/// google.rpc.Status
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// google.protobuf.Any
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// google.rpc.RetryInfo
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// google.protobuf.Duration
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn details(refusal: &Refusal) -> Vec<Any> {
    let info = refusal.retry_after().map(|time| RetryInfo {
        retry_delay: Some(Delay { seconds: time.as_secs() as i64, nanos: time.subsec_nanos() as i32 }),
    });
    let any = |info: RetryInfo| Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: info.encode_to_vec(),
    };
    info.map(any).into_iter().collect()
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        http::head::tests::head,
        outcome::{Cause, Unavailable},
    };

    fn call(body: &[u8], headers: &[(&str, &str)]) -> Result<Vec<u8>, Refusal> {
        message(&head("POST", "/s/m", headers), body, 100).map(Cow::into_owned)
    }

    #[test]
    fn a_call_has_one_message() {
        assert_eq!(call(b"\0\0\0\0\x02hi", &[]).unwrap(), b"hi");
        assert_eq!(call(b"\0\0\0\0\0", &[]).unwrap(), b"");
        for broken in [&b""[..], b"\0\0\0", b"\0\0\0\0\x02h", b"\0\0\0\0\x01hi", b"\x02\0\0\0\x02hi"] {
            assert!(matches!(call(broken, &[]), Err(Refusal::Malformed(_))), "{broken:?}");
        }
        assert!(matches!(call(b"\x01\0\0\0\x02hi", &[]), Err(Refusal::Unsupported(_))));
        assert!(matches!(
            call(b"\x01\0\0\0\x02hi", &[("grpc-encoding", "gzip")]),
            Err(Refusal::Malformed(_))
        ));
    }

    #[test]
    fn an_error_says_when_to_come_again() {
        let unavailable = Unavailable { cause: Cause::KeyQuota, retry_after: Duration::from_millis(1500) };
        let mut reply = refusal(&unavailable.into());
        let headers = reply.headers_mut();
        assert_eq!(headers["grpc-status"], "8");
        let status = STANDARD_NO_PAD.decode(headers["grpc-status-details-bin"].as_bytes()).unwrap();
        let status = Status::decode(&status[..]).unwrap();
        let delay = RetryInfo::decode(&status.details[0].value[..]).unwrap().retry_delay.unwrap();
        assert_eq!((delay.seconds, delay.nanos), (1, 500_000_000));
        assert_eq!(percent_encoded("100 %\n"), "100 %25%0A");
    }
}
