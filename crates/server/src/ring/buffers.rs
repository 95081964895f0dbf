//! Buffers that the kernel picks from when bytes arrive: memory for what is being received, not for each
//! connection.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The buffer group's number.
pub(super) const GROUP: u16 = 0;
/// Buffers of a shard; a power of two. They are handled and given back one after the other, so that few are
/// out at a time; when all are, the kernel ends the multishot RECV and it is armed again.
const BUFFERS: u16 = 512;
/// Bytes of one buffer. Clients of the tick stream send tens of bytes at a time.
const BUFFER_BYTES: usize = 1_024;
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
    /// What a completion with this buffer and result received.
    pub(super) fn new(id: u16, result: i32) -> Self {
        Self { id, len: result.max(0) as usize }
    }
}

/// A ring of provided buffers.
pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    tail: u16,
}

impl BufferRing {
    /// Registers a new ring of buffers under [`GROUP`]. It must be dropped after the io_uring.
    pub fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let mut this = Self::allocate();
        // SAFETY: the entries are page-aligned memory for BUFFERS of them (`entries_layout`), freed only by this
        // value's `drop`. The only caller keeps it until its io_uring is dropped (field order of `SocketRing`).
        unsafe { submitter.register_buf_ring_with_flags(this.entries.as_ptr() as u64, BUFFERS, GROUP, 0)? };
        this.provide_all();
        Ok(this)
    }

    /// Memory that no io_uring knows of yet.
    fn allocate() -> Self {
        Self {
            entries: allocate(Self::entries_layout()).cast(),
            bytes: allocate(Self::bytes_layout()),
            tail: 0,
        }
    }

    fn provide_all(&mut self) {
        for id in 0..BUFFERS {
            self.provide(id);
        }
    }

    pub fn bytes(&mut self, received: &mut Received) -> &mut [u8] {
        debug_assert!(received.id < BUFFERS && received.len <= BUFFER_BYTES);
        let start = usize::from(received.id % BUFFERS) * BUFFER_BYTES;
        // SAFETY: within the allocation, by the bounds of both numbers, which was zeroed, so that all of it may be
        // read. The kernel doesn't touch the buffer until it is provided again, which takes `received` by value.
        // Nobody else has these bytes: `received` is the one that names them, and is borrowed with them.
        unsafe {
            std::slice::from_raw_parts_mut(self.bytes.as_ptr().add(start), received.len.min(BUFFER_BYTES))
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "it must not be used afterwards")]
    pub fn recycle(&mut self, received: Received) {
        self.provide(received.id % BUFFERS);
    }

    /// How many buffers were ever provided, as the kernel counts them.
    #[cfg(test)]
    pub fn tail(&self) -> u16 {
        self.tail
    }

    /// What the kernel does: takes the entry at `head`, and writes into its buffer. Answers with the buffer's number.
    #[cfg(test)]
    pub fn fill(&self, head: u16, bytes: &[u8]) -> u16 {
        assert!(head != self.tail && bytes.len() <= BUFFER_BYTES, "no buffer for {} bytes", bytes.len());
        // SAFETY: as the kernel: it reads entries below the tail, and writes into buffers that are its own.
        unsafe {
            let entry = &*self.entries.as_ptr().add(usize::from(head % BUFFERS));
            assert_eq!(entry.len() as usize, BUFFER_BYTES);
            let start = self.bytes.as_ptr().add(usize::from(entry.bid()) * BUFFER_BYTES);
            assert_eq!(entry.addr(), start as u64);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
            entry.bid()
        }
    }

    /// That each buffer is in the ring once, of which the kernel has taken what was before `head`.
    #[cfg(test)]
    pub fn check_all_are_back(&self, head: u16) {
        assert_eq!(self.tail.wrapping_sub(head), BUFFERS, "buffers that are in the ring");
        // SAFETY: within the ring.
        let number = |index| unsafe { (*self.entries.as_ptr().add(usize::from(index))).bid() };
        let numbers: std::collections::BTreeSet<_> = (0..BUFFERS).map(number).collect();
        assert_eq!(numbers.len(), usize::from(BUFFERS), "one is in the ring twice");
    }

    /// Appends a buffer to the ring.
    fn provide(&mut self, id: u16) {
        let index = usize::from(self.tail % BUFFERS);
        // SAFETY: `index` is within the ring, and `id` within the buffers: `provide_all` counts up to BUFFERS,
        // `recycle` takes the remainder by it. There are as many entries as buffers, and each buffer is provided once
        // at a time (`Received` can't be copied), so the entry at the tail is one that the kernel is done with. It
        // reads it again only after it saw the new tail, which is stored behind it; the tail is written nowhere else.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(index);
            entry.set_addr(self.bytes.as_ptr().add(usize::from(id) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    fn entries_layout() -> Layout {
        let bytes = (usize::from(BUFFERS) * size_of::<BufRingEntry>()).next_multiple_of(PAGE);
        Layout::from_size_align(bytes, PAGE).expect("a constant layout")
    }

    fn bytes_layout() -> Layout {
        Layout::from_size_align(usize::from(BUFFERS) * BUFFER_BYTES, PAGE).expect("a constant layout")
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: `allocate` took them with these layouts, nothing else frees them, and what `bytes` lent out borrows
        // this value. The kernel is done with them: the io_uring went first (see `register`), and with DEFER_TASKRUN
        // a RECV writes only while the thread is inside io_uring_enter.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Self::entries_layout());
            dealloc(self.bytes.as_ptr(), Self::bytes_layout());
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: both layouts are of constants above 0 bytes.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

// `tests/miri` runs these under Miri, which knows no io_uring: here the test is the kernel.
#[cfg(test)]
mod tests {
    use super::*;

    /// What a completion says of bytes that the kernel has written.
    fn fill(ring: &BufferRing, head: u16, text: &[u8]) -> Received {
        Received::new(ring.fill(head, text), text.len() as i32)
    }

    #[test]
    fn each_buffer_goes_out_and_comes_back_with_its_own_bytes() {
        let mut ring = BufferRing::allocate();
        ring.provide_all();
        assert_eq!(ring.tail(), BUFFERS);
        let mut out: Vec<_> = (0..BUFFERS).map(|head| fill(&ring, head, &head.to_be_bytes())).collect();
        // Back in another order than they went out, and out again.
        for (head, mut received) in out.drain(..).rev().enumerate() {
            let expected = (BUFFERS - 1 - head as u16).to_be_bytes();
            let bytes = ring.bytes(&mut received);
            assert_eq!(bytes, expected);
            bytes[0] ^= 0xff;
            ring.recycle(received);
        }
        let mut again = fill(&ring, BUFFERS, b"whole");
        assert_eq!(ring.bytes(&mut again), b"whole");
        ring.recycle(again);
    }

    #[test]
    fn the_tail_wraps_and_the_longest_bytes_fit() {
        let mut ring = BufferRing::allocate();
        ring.provide_all();
        let longest = [7; BUFFER_BYTES];
        ring.tail = u16::MAX - BUFFERS / 2;
        ring.provide_all();
        for head in [u16::MAX, 0, 1] {
            let mut received = fill(&ring, head, &longest);
            assert_eq!(ring.bytes(&mut received), longest);
            ring.recycle(received);
        }
    }
}
