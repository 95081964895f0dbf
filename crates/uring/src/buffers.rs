//! Buffers that the kernel picks from when bytes arrive: memory for what is being received, not for each
//! connection.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Number of the only buffer group of a ring.
pub(crate) const GROUP: u16 = 0;
/// The kernel wants the ring of entries page-aligned.
const PAGE: usize = 4_096;

/// Received bytes, until they are recycled.
#[derive(Debug)]
#[must_use = "a buffer that isn't recycled is lost"]
pub struct Received {
    id: u16,
    len: usize,
}

impl Received {
    /// Bytes that a completion with this buffer and result received.
    pub(crate) fn new(id: u16, result: i32) -> Self {
        Self { id, len: result.max(0) as usize }
    }
}

/// A ring of provided buffers.
pub(crate) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    /// A power of two.
    buffers: u16,
    buffer_bytes: u32,
    tail: u16,
}

impl BufferRing {
    /// Registers a new ring of `buffers`, a power of two, under [`GROUP`]. It must be dropped after the io_uring.
    pub fn register(submitter: &Submitter<'_>, buffers: u16, buffer_bytes: u32) -> io::Result<Self> {
        let mut this = Self::allocate(buffers, buffer_bytes);
        // SAFETY: the entries are page-aligned memory for `buffers` of them (`entries_layout`), freed only by this
        // value's `drop`. The only caller keeps it until its io_uring is dropped (field order of `Ring`).
        unsafe { submitter.register_buf_ring_with_flags(this.entries.as_ptr() as u64, buffers, GROUP, 0)? };
        this.provide_all();
        Ok(this)
    }

    /// Memory that no io_uring knows of yet.
    fn allocate(buffers: u16, buffer_bytes: u32) -> Self {
        assert!(buffers.is_power_of_two() && buffer_bytes > 0, "the kernel takes a power of two of buffers");
        Self {
            entries: allocate(entries_layout(buffers)).cast(),
            bytes: allocate(bytes_layout(buffers, buffer_bytes)),
            buffers,
            buffer_bytes,
            tail: 0,
        }
    }

    fn provide_all(&mut self) {
        for id in 0..self.buffers {
            self.provide(id);
        }
    }

    pub fn bytes(&self, received: &Received) -> &[u8] {
        let (start, len) = self.place(received);
        // SAFETY: within the allocation (`place`), which was zeroed, so that all of it may be read. The kernel doesn't
        // touch the buffer until it is provided again, which needs `self` exclusively.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().add(start), len) }
    }

    pub fn bytes_mut(&mut self, received: &mut Received) -> &mut [u8] {
        let (start, len) = self.place(received);
        // SAFETY: as in `bytes`; nothing else has these bytes, since `self` is borrowed with them.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr().add(start), len) }
    }

    /// Offset and length of received bytes, within `bytes_layout`.
    fn place(&self, received: &Received) -> (usize, usize) {
        debug_assert!(received.id < self.buffers && received.len <= self.buffer_bytes as usize);
        let buffer_bytes = self.buffer_bytes as usize;
        (self.masked(received.id) * buffer_bytes, received.len.min(buffer_bytes))
    }

    /// A number below that of the buffers.
    fn masked(&self, number: u16) -> usize {
        usize::from(number & (self.buffers - 1))
    }

    #[allow(clippy::needless_pass_by_value, reason = "it must not be used afterwards")]
    pub fn recycle(&mut self, received: Received) {
        self.provide(received.id & (self.buffers - 1));
    }

    /// Buffers ever provided, as the kernel counts them.
    #[cfg(test)]
    pub fn tail(&self) -> u16 {
        self.tail
    }

    /// Does as the kernel: takes the entry at `head`, and writes into its buffer. Answers with the buffer's number.
    #[cfg(any(test, feature = "simulated"))]
    pub fn fill(&self, head: u16, bytes: &[u8]) -> u16 {
        let buffer_bytes = self.buffer_bytes as usize;
        assert!(head != self.tail && bytes.len() <= buffer_bytes, "no buffer for {} bytes", bytes.len());
        // SAFETY: as the kernel: it reads entries below the tail, and writes into buffers that are its own.
        unsafe {
            let entry = &*self.entries.as_ptr().add(self.masked(head));
            assert_eq!(entry.len(), self.buffer_bytes);
            let start = self.bytes.as_ptr().add(usize::from(entry.bid()) * buffer_bytes);
            assert_eq!(entry.addr(), start as u64);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
            entry.bid()
        }
    }

    /// Checks that each buffer is in the ring once, of which the kernel has taken those before `head`.
    #[cfg(any(test, feature = "simulated"))]
    pub fn check_all_are_back(&self, head: u16) {
        assert_eq!(self.tail.wrapping_sub(head), self.buffers, "buffers that are in the ring");
        // SAFETY: within the ring.
        let number = |index| unsafe { (*self.entries.as_ptr().add(usize::from(index))).bid() };
        let numbers: std::collections::BTreeSet<_> = (0..self.buffers).map(number).collect();
        assert_eq!(numbers.len(), usize::from(self.buffers), "one is in the ring twice");
    }

    /// Appends a buffer to the ring.
    fn provide(&mut self, id: u16) {
        let index = self.masked(self.tail);
        // SAFETY: `index` is within the ring, and `id` within the buffers: `provide_all` counts up to their number,
        // `recycle` takes the remainder by it. There are as many entries as buffers, and each buffer is provided once
        // at a time (`Received` can't be copied), so the entry at the tail is one that the kernel is done with. It
        // reads it again only after it saw the new tail, which is stored behind it; the tail is written nowhere else.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(index);
            entry.set_addr(self.bytes.as_ptr().add(usize::from(id) * self.buffer_bytes as usize) as u64);
            entry.set_len(self.buffer_bytes);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: `allocate` took them with these layouts, whose numbers never change, nothing else frees them, and what `bytes` lent out borrows
        // this value. The kernel is done with them: the io_uring went first (see `register`), and with DEFER_TASKRUN
        // a RECV writes only while the thread is inside io_uring_enter.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.buffers));
            dealloc(self.bytes.as_ptr(), bytes_layout(self.buffers, self.buffer_bytes));
        }
    }
}

fn entries_layout(buffers: u16) -> Layout {
    let bytes = (usize::from(buffers) * size_of::<BufRingEntry>()).next_multiple_of(PAGE);
    Layout::from_size_align(bytes, PAGE).expect("at most 512 KiB")
}

fn bytes_layout(buffers: u16, buffer_bytes: u32) -> Layout {
    Layout::from_size_align(usize::from(buffers) * buffer_bytes as usize, PAGE)
        .expect("fits the address space")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: both layouts are above 0 bytes, for neither of their numbers is 0 (`BufferRing::allocate`).
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

// Miri runs these. It knows no io_uring: here the test is the kernel.
#[cfg(test)]
mod tests {
    use super::*;

    const BUFFERS: u16 = 512;
    const BUFFER_BYTES: usize = 1_024;

    /// The completion of bytes that the kernel has written.
    fn fill(ring: &BufferRing, head: u16, text: &[u8]) -> Received {
        Received::new(ring.fill(head, text), text.len() as i32)
    }

    #[test]
    fn each_buffer_goes_out_and_comes_back_with_its_own_bytes() {
        let mut ring = BufferRing::allocate(BUFFERS, BUFFER_BYTES as u32);
        ring.provide_all();
        assert_eq!(ring.tail(), BUFFERS);
        let mut out: Vec<_> = (0..BUFFERS).map(|head| fill(&ring, head, &head.to_be_bytes())).collect();
        // Back in another order than they went out, and out again.
        for (head, mut received) in out.drain(..).rev().enumerate() {
            let expected = (BUFFERS - 1 - head as u16).to_be_bytes();
            let bytes = ring.bytes_mut(&mut received);
            assert_eq!(bytes, expected);
            bytes[0] ^= 0xff;
            ring.recycle(received);
        }
        let again = fill(&ring, BUFFERS, b"whole");
        assert_eq!(ring.bytes(&again), b"whole");
        ring.recycle(again);
    }

    #[test]
    fn the_tail_wraps_and_the_longest_bytes_fit() {
        let mut ring = BufferRing::allocate(BUFFERS, BUFFER_BYTES as u32);
        ring.provide_all();
        let longest = [7; BUFFER_BYTES];
        ring.tail = u16::MAX - BUFFERS / 2;
        ring.provide_all();
        for head in [u16::MAX, 0, 1] {
            let received = fill(&ring, head, &longest);
            assert_eq!(ring.bytes(&received), longest);
            ring.recycle(received);
        }
    }
}
