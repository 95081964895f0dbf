use proptest::prelude::*;

use super::*;

const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

fn v2(version_and_command: u8, protocol: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[version_and_command, protocol], &length, block].concat()
}

fn addresses_v4() -> Vec<u8> {
    [&[203, 0, 113, 7], &[198, 51, 100, 1], &56_324u16.to_be_bytes()[..], &443u16.to_be_bytes()].concat()
}

fn addresses_v6() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
    [&source.octets(), &source.octets(), &56_324u16.to_be_bytes()[..], &443u16.to_be_bytes()].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &u16::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
}

/// A header with `tlvs` and a right checksum behind them.
fn with_checksum(tlvs: &[u8]) -> Vec<u8> {
    let block = [addresses_v4(), tlvs.to_vec(), tlv(TLV_CRC32C, &[0; 4])].concat();
    let mut header = v2(0x21, TCP4, &block);
    let checksum = crc32c(&header).to_be_bytes();
    let at = header.len() - 4;
    header[at..].copy_from_slice(&checksum);
    header
}

/// A whole header with `expected` as its source, however it is cut, and whatever follows.
fn check(header: &[u8], expected: Option<&str>) {
    let source = expected.map(|text| text.parse().unwrap());
    let expected = Ok(Parsed::Header { len: header.len(), source });
    assert_eq!(parse(header), expected, "{}", header.escape_ascii());
    assert_eq!(parse(&[header, b"TS\x01\r\n"].concat()), expected);
    for end in 0..header.len() {
        assert_eq!(parse(&header[..end]), Ok(Parsed::Incomplete), "cut at {end}");
    }
}

/// No header. The same is said as soon as it is known, and whatever follows.
fn check_refused(bytes: &[u8], expected: ProxyError) {
    assert_eq!(parse(bytes), Err(expected), "{}", bytes.escape_ascii());
    assert_eq!(parse(&[bytes, b"\r\n more"].concat()), Err(expected));
    for end in 0..bytes.len() {
        let answer = parse(&bytes[..end]);
        assert!(answer == Ok(Parsed::Incomplete) || answer == Err(expected), "cut at {end}: {answer:?}");
    }
}

#[test]
fn a_line_names_the_source() {
    check(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", Some("192.168.0.1:56324"));
    check(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255:65535"));
    check(b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Some("0.0.0.0:0"));
    check(b"PROXY TCP6 2001:db8::7 2001:DB8::1 56324 443\r\n", Some("[2001:db8::7]:56324"));
    check(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", Some("[::ffff:192.0.2.7]:1"));
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    check(
        format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n").as_bytes(),
        Some(&format!("[{longest}]:65535")),
    );
}

#[test]
fn an_unknown_source_is_none() {
    check(b"PROXY UNKNOWN\r\n", None);
    check(b"PROXY UNKNOWN \r\n", None);
    check(b"PROXY UNKNOWN what\0ever \xff 1\r\n", None);
    let longest = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; V1_BYTES_MAX - 16], b"\r\n".to_vec()].concat();
    assert_eq!(longest.len(), V1_BYTES_MAX);
    check(&longest, None);
}

#[test]
fn a_line_must_be_exact() {
    let line = |rest: &str| format!("PROXY{rest}\r\n").into_bytes();
    for rest in ["", " ", "  TCP4 1.2.3.4 1.2.3.4 1 2", " TCP4", " tcp4 ", " UNKNOWNX", " UDP4 ", "XY"] {
        check_refused(&line(rest), ProxyError::Family);
    }
    for (rest, found) in [("", 1), ("1.2.3.4 1.2.3.4 1", 3), ("1.2.3.4  1.2.3.4 1 2", 5)] {
        check_refused(&line(&format!(" TCP4 {rest}")), ProxyError::Fields { found });
    }
    check_refused(&line(" TCP4 1.2.3.4 1.2.3.4 1 2 "), ProxyError::Fields { found: 5 });

    let (source, destination) = ("source", "destination");
    for bad in ["01.2.3.4", "1.2.3", "1.2.3.256", "::1", "a.b.c.d", "1.2.3.4\t", "\u{661}.2.3.4", ""] {
        let family = "IPv4";
        check_refused(
            &line(&format!(" TCP4 {bad} 1.2.3.4 1 2")),
            ProxyError::Address { which: source, family },
        );
        check_refused(
            &line(&format!(" TCP4 1.2.3.4 {bad} 1 2")),
            ProxyError::Address { which: destination, family },
        );
    }
    for bad in ["1.2.3.4", "::1::", "fe80::1%lo", "12345::", "1:2:3:4:5:6:7", "[::1]"] {
        let expected = ProxyError::Address { which: source, family: "IPv6" };
        check_refused(&line(&format!(" TCP6 {bad} ::1 1 2")), expected);
    }
    for bad in ["", "01", "00", "+1", "-1", "65536", "99999999999999999999", "1\t", "0x1", "1\0"] {
        check_refused(&line(&format!(" TCP4 1.2.3.4 1.2.3.4 {bad} 2")), ProxyError::Port { which: source });
        check_refused(
            &line(&format!(" TCP4 1.2.3.4 1.2.3.4 1 {bad}")),
            ProxyError::Port { which: destination },
        );
    }
}

#[test]
fn a_line_ends_with_crlf_alone() {
    check_refused(b"PROXY UNKNOWN\n", ProxyError::LineEnd { at: 13 });
    check_refused(b"PROXY UNKNOWN\rX", ProxyError::LineEnd { at: 13 });
    check_refused(b"PROXY UNKNOWN\r\r\n", ProxyError::LineEnd { at: 13 });
    check_refused(&[b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 92]].concat(), ProxyError::LineTooLong);
    let crlf_too_late = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 92], b"\r\n".to_vec()].concat();
    assert_eq!(crlf_too_late.len(), V1_BYTES_MAX + 1);
    check_refused(&crlf_too_late, ProxyError::LineTooLong);
}

#[test]
fn a_binary_header_names_the_source() {
    check(&v2(0x21, TCP4, &addresses_v4()), Some("203.0.113.7:56324"));
    check(&v2(0x21, TCP6, &addresses_v6()), Some("[2001:db8::7]:56324"));
    check(&v2(0x21, 0x12, &addresses_v4()), None);
    check(&v2(0x21, 0x22, &addresses_v6()), None);
    check(&v2(0x21, 0x31, &[0x41; 216]), None);
    check(&v2(0x21, 0x32, &[0x41; 216]), None);
    check(&v2(0x21, 0x00, &[]), None);
    check(&v2(0x21, 0x00, b"what isn't said"), None);
    check(&v2(0x20, 0x00, &[]), None);
    check(&v2(0x20, TCP4, &[]), None);
    check(&v2(0x20, 0xff, b"is discarded"), None);
}

#[test]
fn tlvs_are_skipped_and_the_checksum_is_checked() {
    let with = |tlvs: &[u8]| v2(0x21, TCP4, &[addresses_v4(), tlvs.to_vec()].concat());
    let source = Some("203.0.113.7:56324");
    let noise = [tlv(0x01, b"h2"), tlv(0x04, b""), tlv(0xee, &[7; 300])].concat();
    check(&with(&noise), source);
    check(&with_checksum(&[]), source);
    check(&with_checksum(&noise), source);

    let at = V2_FIXED + 12;
    for cut in [&b"\x01"[..], b"\x01\x00", b"\x01\x00\x01", b"\x01\xff\xff...."] {
        check_refused(&with(cut), ProxyError::Tlv { at });
    }
    check_refused(&with(&tlv(TLV_CRC32C, &[0; 3])), ProxyError::ChecksumForm { at });
    let twice = [tlv(TLV_CRC32C, &[0; 4]), tlv(TLV_CRC32C, &[0; 4])].concat();
    check_refused(&with(&twice), ProxyError::ChecksumForm { at: at + 7 });

    let header = with_checksum(&noise);
    for bit in V2_FIXED * 8..header.len() * 8 {
        let mut flipped = header.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&flipped).is_err() || !contains_checksum(&flipped), "bit {bit}");
    }
}

/// True if a flipped bit left a TLV of the checksum's type where it can be found.
fn contains_checksum(header: &[u8]) -> bool {
    let mut at = V2_FIXED + 12;
    while at < header.len() {
        if header[at] == TLV_CRC32C {
            return true;
        }
        at += TLV_FIXED + usize::from(u16::from_be_bytes([header[at + 1], header[at + 2]]));
    }
    false
}

#[test]
fn a_binary_header_must_be_exact() {
    for version in [0, 1, 3, 15] {
        check_refused(&v2(version << 4 | 1, TCP4, &addresses_v4()), ProxyError::Version { found: version });
    }
    for command in 2..16 {
        check_refused(&v2(0x20 | command, TCP4, &addresses_v4()), ProxyError::Command { found: command });
    }
    for protocol in (0..=255).filter(|byte| ![0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32].contains(byte)) {
        check_refused(&v2(0x21, protocol, &[0; 216]), ProxyError::Protocol { found: protocol });
    }
    for (protocol, needed) in [(TCP4, 12), (0x12, 12), (TCP6, 36), (0x22, 36), (0x31, 216), (0x32, 216)] {
        let announced = needed - 1;
        check_refused(
            &v2(0x21, protocol, &vec![0; announced]),
            ProxyError::NoRoom { protocol, announced, needed },
        );
    }
}

#[test]
fn a_header_above_the_limit_is_refused_from_its_length() {
    let block = |bytes: usize| [addresses_v4(), tlv(0x04, &vec![0; bytes - 15])].concat();
    // A client's certificate in a TLV (PP2_SUBTYPE_SSL_CLIENT_CERT), as HAProxy sends it.
    for bytes in [1_239, 4_096] {
        check(&v2(0x21, TCP4, &block(bytes - V2_FIXED)), Some("203.0.113.7:56324"));
    }
    check(&v2(0x21, TCP4, &block(V2_BYTES_MAX - V2_FIXED)), Some("203.0.113.7:56324"));
    let too_long = v2(0x21, TCP4, &block(V2_BYTES_MAX - V2_FIXED + 1));
    check_refused(&too_long[..V2_FIXED], ProxyError::TooLong { bytes: V2_BYTES_MAX + 1 });
    let longest = [V2_SIGNATURE, &[0x20, 0, 0xff, 0xff]].concat();
    check_refused(&longest, ProxyError::TooLong { bytes: 65_551 });
}

#[test]
fn what_is_no_header_is_known_at_its_first_wrong_byte() {
    assert_eq!(parse(b""), Ok(Parsed::Incomplete));
    for bytes in
        [&b"TS\x01\x01"[..], b"PROXx", b"\r\n\r\n\0\r\nQUIT\r", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"]
    {
        assert_eq!(parse(bytes), Ok(Parsed::NotProxy), "{}", bytes.escape_ascii());
    }
}

/// Bytes that get far: a header of either version in which a few bytes were changed.
fn near_headers() -> impl Strategy<Value = Vec<u8>> {
    let valid = prop::sample::select(vec![
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nTS".to_vec(),
        b"PROXY TCP6 2001:db8::7 ::1 1 2\r\nTS".to_vec(),
        with_checksum(&tlv(0x01, b"h2")),
        v2(0x21, TCP6, &addresses_v6()),
        v2(0x21, 0x31, &[0; 220]),
    ]);
    let line = "PROXY (TCP4|TCP6|UNKNOWN)[ 0-9a-f:.\r\n]{0,120}";
    let binary = (0..2u8, any::<u8>(), prop::collection::vec(any::<u8>(), 0..300));
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (0..3, valid, line, binary, changes).prop_map(
        |(which, valid, line, (command, protocol, block), changes)| {
            let mut header = match which {
                0 => valid,
                1 => line.into_bytes(),
                _ => v2(0x20 | command, protocol & 0x33, &block),
            };
            for (at, byte) in changes {
                let at = at.index(header.len());
                header[at] = byte;
            }
            header
        },
    )
}

/// An answer that isn't "incomplete" holds for whatever follows, and never reaches beyond what is there.
fn check_prefixes(bytes: &[u8]) {
    let mut answer = Ok(Parsed::Incomplete);
    for end in 0..=bytes.len() {
        let next = parse(&bytes[..end]);
        if answer != Ok(Parsed::Incomplete) {
            assert_eq!(next, answer, "at {end} of {}", bytes.escape_ascii());
        }
        if let Ok(Parsed::Header { len, .. }) = next {
            assert!(len <= end && len <= V2_BYTES_MAX);
        }
        answer = next;
    }
    assert!(bytes.len() < V2_BYTES_MAX || answer != Ok(Parsed::Incomplete), "still incomplete");
}

proptest! {
    #[test]
    fn the_answer_does_not_depend_on_the_split(bytes in near_headers()) {
        check_prefixes(&bytes);
    }

    #[test]
    fn any_bytes_are_answered(
        signature in prop::sample::select(vec![&b""[..], V1_SIGNATURE, V2_SIGNATURE]),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        check_prefixes(&[signature, &rest].concat());
    }
}
