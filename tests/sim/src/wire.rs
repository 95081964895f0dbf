//! Frames and payloads, written from docs/protocol.md a second time: nothing here calls the crate that is tested.

pub const AUTH: u8 = 1;
pub const SUBSCRIBE: u8 = 2;
pub const HEARTBEAT: u8 = 3;
pub const DATA_BATCH: u8 = 4;
pub const ERROR: u8 = 5;
pub const ACK: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const PUBLISH: u8 = 0x10;
pub const PUBLISH_ACK: u8 = 0x11;

pub const OVERHEAD: usize = 12;

/// CRC32C, reflected, a byte at a time.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)])
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b'T', b'S', 1, kind];
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.extend(crc32c(payload).to_be_bytes());
    bytes
}

pub fn auth(user: &str, pass: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    for (tag, text) in [(0x0a, user), (0x12, pass)] {
        if !text.is_empty() {
            payload.push(tag);
            put_varint(&mut payload, text.len() as u64);
            payload.extend(text.as_bytes());
        }
    }
    frame(AUTH, &payload)
}

pub fn subscribe(mode: u64, resume_after: Option<u64>) -> Vec<u8> {
    let mut payload = Vec::new();
    if mode != 0 {
        payload.push(0x08);
        put_varint(&mut payload, mode);
    }
    if let Some(after) = resume_after {
        payload.push(0x10);
        put_varint(&mut payload, after);
    }
    frame(SUBSCRIBE, &payload)
}

/// Field `number`, bytes or text; there even where it is empty.
pub fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Field `number`, unless it is 0.
pub fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        put_varint(out, number << 3);
        put_varint(out, value);
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Kind and payload of `bytes` that must be exactly one whole frame.
pub fn open(bytes: &[u8]) -> Result<(u8, &[u8]), String> {
    if bytes.len() < OVERHEAD || bytes[..3] != *b"TS\x01" {
        return Err(format!("no frame: {bytes:02x?}"));
    }
    let length = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
    if bytes.len() != length + OVERHEAD {
        return Err(format!("Length is {length}, the frame has {} bytes", bytes.len()));
    }
    let (payload, crc) = bytes[8..].split_at(length);
    if crc != crc32c(payload).to_be_bytes() {
        return Err("its CRC is wrong".to_owned());
    }
    Ok((bytes[3], payload))
}

/// One field of a protobuf message.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Number(u64),
    /// Of eight bytes.
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message; those of four bytes are passed over.
pub fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let (number, wire_type) = (key >> 3, key & 7);
        if number == 0 || key > u64::from(u32::MAX) {
            return Err(format!("field {number}"));
        }
        match wire_type {
            0 => found.push((number, Value::Number(varint(&mut bytes)?))),
            2 => {
                let length = varint(&mut bytes)?;
                let length = usize::try_from(length).ok().filter(|&length| length <= bytes.len());
                let (value, rest) = bytes.split_at(length.ok_or("a field is longer than the message")?);
                found.push((number, Value::Bytes(value)));
                bytes = rest;
            }
            1 => {
                let (value, rest) = bytes.split_first_chunk().ok_or("a field is longer than the message")?;
                found.push((number, Value::Fixed(u64::from_le_bytes(*value))));
                bytes = rest;
            }
            5 => bytes = bytes.get(4..).ok_or("a field is longer than the message")?,
            other => return Err(format!("wire type {other}")),
        }
    }
    Ok(found)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0_u64;
    for shift in 0..10 {
        let (&byte, rest) = bytes.split_first().ok_or("a varint without an end")?;
        *bytes = rest;
        if shift == 9 && byte > 1 {
            return Err("a varint above 64 bits".to_owned());
        }
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a varint of more than ten bytes".to_owned())
}

/// Numbers of a message by field, up to field 9, and the same for text.
#[derive(Debug, Default)]
pub struct Message {
    pub numbers: [Option<u64>; 10],
    pub texts: [Option<String>; 10],
}

impl Message {
    pub fn number(&self, field: usize) -> u64 {
        self.numbers[field].unwrap_or(0)
    }

    pub fn text(&self, field: usize) -> &str {
        self.texts[field].as_deref().unwrap_or("")
    }
}

/// A message whose fields `texts` are strings and `numbers` are numbers; unknown fields are passed over.
pub fn message(payload: &[u8], numbers: &[u64], texts: &[u64]) -> Result<Message, String> {
    let mut message = Message::default();
    for (field, value) in fields(payload)? {
        match value {
            Value::Number(number) if numbers.contains(&field) => {
                message.numbers[field as usize] = Some(number);
            }
            Value::Bytes(bytes) if texts.contains(&field) => {
                let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
                message.texts[field as usize] = Some(text.to_owned());
            }
            _ if numbers.contains(&field) || texts.contains(&field) => {
                return Err(format!("field {field} has the wrong wire type"));
            }
            _ => {}
        }
    }
    Ok(message)
}

/// First sequence, mode and labels of a DATA_BATCH.
pub fn batch(payload: &[u8]) -> Result<(u64, u64, Vec<u64>), String> {
    let (mut first, mut version, mut mode, mut labels) = (0, 0, None, Vec::new());
    for (field, value) in fields(payload)? {
        match (field, value) {
            (1, Value::Number(number)) => version = number,
            (2, Value::Bytes(tick)) => {
                let tick = message(tick, &[1, 2], &[])?;
                if mode.replace(tick.number(1)).is_some_and(|mode| mode != tick.number(1)) {
                    return Err("ticks of two modes".to_owned());
                }
                labels.push(tick.number(2));
            }
            (3, Value::Number(number)) => first = number,
            _ => return Err(format!("field {field} of a DATA_BATCH")),
        }
    }
    match (version, mode) {
        (1, Some(mode)) => Ok((first, mode, labels)),
        (1, None) => Err("a DATA_BATCH without ticks".to_owned()),
        _ => Err(format!("schema_version {version}")),
    }
}
