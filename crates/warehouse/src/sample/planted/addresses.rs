//! A database of addresses in MaxMind's format for the ranges that documentation uses (RFC 5737): generated events have places.

/// Ranges of 256 addresses with country and city.
const PLACES: [([u8; 3], &str, &str); 3] =
    [([192, 0, 2], "DE", "Berlin"), ([198, 51, 100], "BR", "Recife"), ([203, 0, 113], "JP", "Osaka")];
/// Bits of an address that choose a range.
const PREFIX: usize = 24;
/// No node and no place.
const NOTHING: u32 = u32::MAX;

/// A node of the tree: what follows the bit 0, and the bit 1.
type Node = [Next; 2];

#[derive(Clone, Copy)]
enum Next {
    Node(u32),
    /// Offset in the section of data.
    Place(u32),
}

/// The database, as a file has it.
pub fn database() -> Vec<u8> {
    let (mut nodes, mut data) = (vec![[Next::Node(NOTHING); 2]], Vec::new());
    for (range, country, city) in PLACES {
        let offset = data.len() as u32;
        place(&mut data, country, city);
        insert(&mut nodes, range, offset);
    }
    let count = nodes.len() as u32;
    let mut file = Vec::new();
    for next in nodes.iter().flatten() {
        let record = match next {
            Next::Node(NOTHING) => count,
            Next::Node(node) => *node,
            // Sixteen bytes of nothing stand between the tree and the data.
            Next::Place(offset) => count + 16 + offset,
        };
        file.extend_from_slice(&record.to_be_bytes()[1..]);
    }
    file.extend_from_slice(&[0; 16]);
    file.append(&mut data);
    metadata(&mut file, count);
    file
}

fn insert(nodes: &mut Vec<Node>, range: [u8; 3], offset: u32) {
    let bits = u32::from_be_bytes([range[0], range[1], range[2], 0]);
    let mut at = 0;
    for depth in 0..PREFIX {
        let side = (bits >> (31 - depth) & 1) as usize;
        if depth == PREFIX - 1 {
            nodes[at][side] = Next::Place(offset);
            return;
        }
        at = match nodes[at][side] {
            Next::Node(node) if node != NOTHING => node as usize,
            _ => {
                nodes.push([Next::Node(NOTHING); 2]);
                let node = nodes.len() - 1;
                nodes[at][side] = Next::Node(node as u32);
                node
            }
        };
    }
}

fn place(data: &mut Vec<u8>, country: &str, city: &str) {
    map(data, 2);
    text(data, "country");
    map(data, 1);
    text(data, "iso_code");
    text(data, country);
    text(data, "city");
    map(data, 1);
    text(data, "names");
    map(data, 1);
    text(data, "en");
    text(data, city);
}

fn metadata(file: &mut Vec<u8>, count: u32) {
    file.extend_from_slice(b"\xAB\xCD\xEFMaxMind.com");
    map(file, 9);
    for (name, number, kind) in [
        ("node_count", u64::from(count), 6),
        ("record_size", 24, 5),
        ("ip_version", 4, 5),
        ("binary_format_major_version", 2, 5),
        ("binary_format_minor_version", 0, 5),
    ] {
        text(file, name);
        unsigned(file, kind, number);
    }
    text(file, "build_epoch");
    // A type beyond 7 stands in a byte of its own: 9, 8 bytes.
    file.extend_from_slice(&[8, 2]);
    file.extend_from_slice(&1_795_857_234_u64.to_be_bytes());
    text(file, "database_type");
    text(file, "tickstream-demo-City");
    text(file, "languages");
    // 11, an array of one.
    file.extend_from_slice(&[1, 4]);
    text(file, "en");
    text(file, "description");
    map(file, 1);
    text(file, "en");
    text(file, "addresses of RFC 5737");
}

fn map(into: &mut Vec<u8>, pairs: u8) {
    into.push(7 << 5 | pairs);
}

fn text(into: &mut Vec<u8>, text: &str) {
    // Longer ones than 28 bytes would need another byte for their length.
    debug_assert!(text.len() < 29, "{text}");
    into.push(2 << 5 | text.len() as u8);
    into.extend_from_slice(text.as_bytes());
}

fn unsigned(into: &mut Vec<u8>, kind: u8, number: u64) {
    let bytes = number.to_be_bytes();
    let used = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    into.push(kind << 5 | used.len() as u8);
    into.extend_from_slice(used);
}
