//! The PROXY protocol's header, versions 1 and 2, which a load balancer puts before a client's bytes.
//!
//! The specification is HAProxy's `doc/proxy-protocol.txt`; the section numbers here are its. Whoever may send one
//! is decided elsewhere: these are only its bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tickstream_wire::frame::crc32c;

/// Longest header of version 1 with its CRLF, bytes (section 2.1).
const V1_BYTES_MAX: usize = 107;
/// Longest header of version 2 that is taken, bytes. The format allows 65,551; proxies keep it below 536, so that it
/// fits the smallest segment (section 2).
pub(crate) const V2_BYTES_MAX: usize = 8_192;

const V1_SIGNATURE: &[u8] = b"PROXY";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, protocol, length.
const V2_FIXED: usize = 16;

/// The type of the TLV that holds the header's CRC32C.
const TLV_CRC32C: u8 = 0x03;
/// Type and length of a TLV.
const TLV_FIXED: usize = 3;

/// Meaning of a connection's first bytes.
///
/// Only [`Parsed::Incomplete`] changes as more bytes come: any other answer, and any error, stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// So far a header, whose end isn't there.
    Incomplete,
    /// No header begins like this.
    NotProxy,
    /// A whole header; the client's own bytes begin behind it.
    Header {
        /// Its bytes.
        len: usize,
        /// The client's address. `None` where the proxy speaks for itself or can't say (UNKNOWN, LOCAL, UNSPEC), or
        /// where the client didn't come over TCP: then the connection's own address holds.
        source: Option<SocketAddr>,
    },
}

/// Bytes that begin as a PROXY header and are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("a PROXY v1 line has no CRLF in its first {V1_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("a PROXY v1 line has a CR without LF, or an LF without CR, at byte {at}")]
    LineEnd { at: usize },
    #[error("a PROXY v1 line must go on with \" TCP4 \", \" TCP6 \" or \" UNKNOWN\"")]
    Family,
    #[error("a PROXY v1 line has {found} fields behind its family instead of 4, with one space between them")]
    Fields { found: usize },
    #[error("the {which} address of a PROXY v1 line is no {family} address")]
    Address { which: &'static str, family: &'static str },
    #[error("the {which} port of a PROXY v1 line is no decimal number from 0 to 65535 without leading zeros")]
    Port { which: &'static str },
    #[error("version {found} of a binary PROXY header is not supported; supported: 2")]
    Version { found: u8 },
    #[error("command {found} of a PROXY v2 header is neither LOCAL (0) nor PROXY (1)")]
    Command { found: u8 },
    #[error("0x{found:02x} is no combination of address family and transport of a PROXY v2 header")]
    Protocol { found: u8 },
    #[error("a PROXY v2 header of {bytes} bytes is above the limit of {V2_BYTES_MAX} bytes")]
    TooLong { bytes: usize },
    #[error(
        "a PROXY v2 header announces {announced} bytes, protocol 0x{protocol:02x} alone has {needed} of addresses"
    )]
    NoRoom { protocol: u8, announced: usize, needed: usize },
    #[error("the TLV at byte {at} of a PROXY v2 header goes beyond the header's end")]
    Tlv { at: usize },
    #[error("a PROXY v2 header has more than one CRC32C, or one that isn't 4 bytes long, at byte {at}")]
    ChecksumForm { at: usize },
    #[error("CRC32C of a PROXY v2 header is 0x{computed:08x}, the header says 0x{found:08x}")]
    Checksum { computed: u32, found: u32 },
}

/// Reads the header at the start of `bytes`, which are all that the peer has sent so far.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    if begins_with(bytes, V1_SIGNATURE) {
        if bytes.len() < V1_SIGNATURE.len() { Ok(Parsed::Incomplete) } else { parse_v1(bytes) }
    } else if begins_with(bytes, V2_SIGNATURE) {
        if bytes.len() < V2_SIGNATURE.len() { Ok(Parsed::Incomplete) } else { parse_v2(bytes) }
    } else {
        Ok(Parsed::NotProxy)
    }
}

/// True if `bytes` are `signature`, with or without more behind it, or the beginning of it.
fn begins_with(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

// ---- Version 1 ----------------------------------------------------------------------------------------------

fn parse_v1(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let Some(end) = v1_end(bytes)? else {
        return Ok(Parsed::Incomplete);
    };
    let source = v1_source(&bytes[V1_SIGNATURE.len()..end])?;
    Ok(Parsed::Header { len: end + 2, source })
}

/// Index of the line's CRLF; `None` if it may still come.
fn v1_end(bytes: &[u8]) -> Result<Option<usize>, ProxyError> {
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX - 1)];
    match line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        None if line.len() == V1_BYTES_MAX - 1 => Err(ProxyError::LineTooLong),
        None => Ok(None),
        Some(at) if line[at] == b'\n' => Err(ProxyError::LineEnd { at }),
        Some(at) => match bytes.get(at + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some(at)),
            Some(_) => Err(ProxyError::LineEnd { at }),
        },
    }
}

/// The source in what is between "PROXY" and CRLF.
fn v1_source(line: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    if line == b" UNKNOWN" || line.starts_with(b" UNKNOWN ") {
        // "the receiver must ignore anything presented before the CRLF"
        return Ok(None);
    }
    if let Some(fields) = line.strip_prefix(b" TCP4 ") {
        v1_fields::<Ipv4Addr>(fields, "IPv4").map(Some)
    } else if let Some(fields) = line.strip_prefix(b" TCP6 ") {
        // An IPv4 address in IPv6 form is taken in dotted notation too, since inet_ntop() writes it so.
        v1_fields::<Ipv6Addr>(fields, "IPv6").map(Some)
    } else {
        Err(ProxyError::Family)
    }
}

fn v1_fields<A>(fields: &[u8], family: &'static str) -> Result<SocketAddr, ProxyError>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let fields: Vec<_> = fields.split(|&byte| byte == b' ').collect();
    let &[source, destination, source_port, destination_port] = fields.as_slice() else {
        return Err(ProxyError::Fields { found: fields.len() });
    };
    let address = |field, which| {
        let text = str::from_utf8(field).ok();
        text.and_then(|text| text.parse::<A>().ok()).ok_or(ProxyError::Address { which, family })
    };
    let source = address(source, "source")?;
    address(destination, "destination")?;
    let source_port = v1_port(source_port, "source")?;
    v1_port(destination_port, "destination")?;
    Ok(SocketAddr::new(source.into(), source_port))
}

fn v1_port(field: &[u8], which: &'static str) -> Result<u16, ProxyError> {
    // `parse` alone would take a sign and leading zeros.
    let canonical = field.iter().all(u8::is_ascii_digit) && (field.len() == 1 || !field.starts_with(b"0"));
    let text = str::from_utf8(field).ok().filter(|_| canonical);
    text.and_then(|text| text.parse().ok()).ok_or(ProxyError::Port { which })
}

// ---- Version 2 ----------------------------------------------------------------------------------------------

/// Address family and transport: all combinations that there are (section 2.2).
#[derive(Clone, Copy)]
enum Protocol {
    Unspec,
    Tcp4,
    Udp4,
    Tcp6,
    Udp6,
    Unix,
}

impl Protocol {
    fn from_byte(byte: u8) -> Result<Self, ProxyError> {
        Ok(match byte {
            0x00 => Self::Unspec,
            0x11 => Self::Tcp4,
            0x12 => Self::Udp4,
            0x21 => Self::Tcp6,
            0x22 => Self::Udp6,
            0x31 | 0x32 => Self::Unix,
            _ => return Err(ProxyError::Protocol { found: byte }),
        })
    }

    /// Bytes of both addresses and ports.
    fn address_bytes(self) -> usize {
        match self {
            Self::Unspec => 0,
            Self::Tcp4 | Self::Udp4 => 2 * 4 + 2 * 2,
            Self::Tcp6 | Self::Udp6 => 2 * 16 + 2 * 2,
            Self::Unix => 2 * 108,
        }
    }

    /// The source in `block`, which holds at least [`Protocol::address_bytes`].
    fn source(self, block: &[u8]) -> Option<SocketAddr> {
        let port = |at: usize| Some(u16::from_be_bytes(*block.get(at..)?.first_chunk()?));
        match self {
            Self::Tcp4 => {
                Some(SocketAddr::new(Ipv4Addr::from(*block.first_chunk::<4>()?).into(), port(2 * 4)?))
            }
            Self::Tcp6 => {
                Some(SocketAddr::new(Ipv6Addr::from(*block.first_chunk::<16>()?).into(), port(2 * 16)?))
            }
            Self::Unspec | Self::Udp4 | Self::Udp6 | Self::Unix => None,
        }
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    // Each byte is checked as soon as it is there.
    let Some(&version_and_command) = bytes.get(12) else {
        return Ok(Parsed::Incomplete);
    };
    let (version, command) = (version_and_command >> 4, version_and_command & 0x0f);
    if version != 2 {
        return Err(ProxyError::Version { found: version });
    }
    if command > 1 {
        return Err(ProxyError::Command { found: command });
    }
    let is_local = command == 0;

    let Some(&protocol_byte) = bytes.get(13) else {
        return Ok(Parsed::Incomplete);
    };
    // LOCAL: "discard the protocol block including the family which is ignored"
    let protocol = if is_local { Protocol::Unspec } else { Protocol::from_byte(protocol_byte)? };

    let Some(&length) = bytes.get(14..).and_then(<[u8]>::first_chunk) else {
        return Ok(Parsed::Incomplete);
    };
    let announced = usize::from(u16::from_be_bytes(length));
    let len = V2_FIXED + announced;
    if len > V2_BYTES_MAX {
        return Err(ProxyError::TooLong { bytes: len });
    }
    let needed = protocol.address_bytes();
    if announced < needed {
        return Err(ProxyError::NoRoom { protocol: protocol_byte, announced, needed });
    }
    let Some(header) = bytes.get(..len) else {
        return Ok(Parsed::Incomplete);
    };
    // Whether a block without a family begins with addresses isn't said: nothing in it can be found.
    if !matches!(protocol, Protocol::Unspec) {
        check_tlvs(header, V2_FIXED + needed)?;
    }
    Ok(Parsed::Header { len, source: protocol.source(&header[V2_FIXED..]) })
}

/// Walks over the TLVs from byte `at` to the end of `header`, and checks the checksum if there is one.
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), ProxyError> {
    let mut checksum_at = None;
    while at < header.len() {
        let Some(&[kind, high, low]) = header[at..].first_chunk::<TLV_FIXED>() else {
            return Err(ProxyError::Tlv { at });
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value_at = at + TLV_FIXED;
        if length > header.len() - value_at {
            return Err(ProxyError::Tlv { at });
        }
        if kind == TLV_CRC32C && (length != 4 || checksum_at.replace(value_at).is_some()) {
            return Err(ProxyError::ChecksumForm { at });
        }
        at = value_at + length;
    }
    checksum_at.map_or(Ok(()), |at| check_checksum(header, at))
}

/// Compares the checksum at byte `at` with that of the header in which it is zero (section 2.2.3).
fn check_checksum(header: &[u8], at: usize) -> Result<(), ProxyError> {
    let mut zeroed = header.to_vec();
    let field = &mut zeroed[at..at + 4];
    let found = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
    field.fill(0);
    let computed = crc32c(&zeroed);
    if computed == found { Ok(()) } else { Err(ProxyError::Checksum { computed, found }) }
}

#[cfg(test)]
mod tests;
