//! Memory that a disk can be written from without a copy: aligned, in whole blocks, reused.

use std::{fmt, ops::Range};

/// Alignment of offsets, lengths and memory of every write, bytes. O_DIRECT asks for the device's logical block,
/// which is 512 or 4096.
pub const BLOCK: usize = 4096;
/// Bytes that a power cut leaves whole or doesn't touch: the smallest sector of any disk.
pub(crate) const SECTOR: usize = 512;

/// Rounds up to whole blocks.
pub(crate) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK)
}

/// Index of the first byte that isn't zero.
pub(crate) fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    // Chunks first: the compiler makes vector code of the inner loop.
    let start = bytes.chunks(64).position(|chunk| chunk.iter().fold(0, |all, &byte| all | byte) != 0)? * 64;
    bytes[start..].iter().position(|&byte| byte != 0).map(|at| start + at)
}

/// Aligned memory, of which [`Buffer::to_write`] is to be written.
///
/// A buffer moves into an operation and comes back with its completion, so nobody can change bytes that are being written.
pub struct Buffer {
    /// Never grows, so its address never changes; up to `BLOCK - 1` bytes in front are left out.
    memory: Box<[u8]>,
    start: usize,
    capacity: usize,
    to_write: Range<usize>,
}

impl Buffer {
    /// Zeroed memory of `capacity` bytes, a multiple of [`BLOCK`].
    pub fn new(capacity: usize) -> Self {
        assert!(capacity.is_multiple_of(BLOCK), "a buffer of {capacity} bytes isn't whole blocks");
        let memory = vec![0; capacity + BLOCK - 1].into_boxed_slice();
        let start = memory.as_ptr().align_offset(BLOCK);
        assert!(start < BLOCK, "memory can be aligned");
        Self { memory, start, capacity, to_write: 0..0 }
    }

    /// No memory: stands where a buffer was that is on its way.
    pub(crate) fn absent() -> Self {
        Self { memory: Box::default(), start: 0, capacity: 0, to_write: 0..0 }
    }

    /// The bytes that an operation writes: aligned, whole blocks.
    pub fn to_write(&self) -> &[u8] {
        &self.bytes()[self.to_write.clone()]
    }

    /// Says what is to be written.
    pub(crate) fn set_to_write(&mut self, range: Range<usize>) {
        assert!(
            range.start.is_multiple_of(BLOCK) && range.end.is_multiple_of(BLOCK),
            "{range:?}: not whole blocks"
        );
        assert!(range.end <= self.capacity);
        self.to_write = range;
    }

    /// Takes `bytes`, whole blocks, off the front of what is to be written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.set_to_write(self.to_write.start + bytes..self.to_write.end);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.capacity]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.capacity]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("capacity", &self.capacity).field("to_write", &self.to_write).finish()
    }
}

/// A bounded number of buffers of one size, made when they are first needed.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Vec<Buffer>,
    made: usize,
    max: usize,
    capacity: usize,
}

impl Pool {
    pub fn new(max: usize, capacity: usize) -> Self {
        Self { free: Vec::with_capacity(max), made: 0, max, capacity }
    }

    pub fn take(&mut self) -> Option<Buffer> {
        if let Some(buffer) = self.free.pop() {
            return Some(buffer);
        }
        (self.made < self.max).then(|| {
            self.made += 1;
            Buffer::new(self.capacity)
        })
    }

    pub fn give(&mut self, buffer: Buffer) {
        self.free.push(buffer);
        debug_assert!(self.free.len() <= self.made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_wherever_the_allocator_puts_it() {
        for blocks in 1..20 {
            let mut buffer = Buffer::new(blocks * BLOCK);
            buffer.set_to_write(0..blocks * BLOCK);
            assert_eq!(buffer.to_write().len(), blocks * BLOCK);
            assert_eq!(buffer.to_write().as_ptr().align_offset(BLOCK), 0);
            let moved = Box::new(buffer);
            assert_eq!(moved.to_write().as_ptr().align_offset(BLOCK), 0);
        }
    }

    #[test]
    fn a_pool_gives_no_more_than_its_bound() {
        let mut pool = Pool::new(2, BLOCK);
        let first = pool.take().unwrap();
        let _second = pool.take().unwrap();
        assert!(pool.take().is_none());
        pool.give(first);
        assert!(pool.take().is_some());
    }

    #[test]
    fn the_first_byte_that_is_not_zero_is_found() {
        let mut bytes = [0; 200];
        assert_eq!(first_nonzero(&bytes), None);
        for at in (0..200).rev() {
            bytes[at] = 1;
            assert_eq!(first_nonzero(&bytes), Some(at));
        }
    }
}
