//! The trace, as a hash and, if it is wanted, as lines.

#[derive(Debug)]
pub struct Trace {
    pub is_verbose: bool,
    hash: u64,
}

impl Trace {
    pub fn new(is_verbose: bool) -> Self {
        Self { is_verbose, hash: 0xCBF2_9CE4_8422_2325 }
    }

    pub fn number(&mut self, number: u64) {
        self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<8>();
        whole.iter().for_each(|chunk| self.number(u64::from_le_bytes(*chunk)));
        rest.iter().for_each(|byte| self.number(u64::from(*byte)));
        self.number(bytes.len() as u64);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// A hash of bytes.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut trace = Trace::new(false);
    trace.bytes(bytes);
    trace.hash()
}
