//! The memory that requests may hold together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bound on bytes over all requests. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    used: AtomicUsize,
    max: usize,
}

/// Bytes of a [`Budget`] that one request holds; dropped, they are free again.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(max: usize) -> Self {
        Self { inner: Arc::new(Inner { used: AtomicUsize::new(0), max }) }
    }

    /// Bytes that are reserved.
    pub fn used(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// An empty reservation.
    pub fn reservation(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }
}

impl Reservation {
    /// Reserves so many bytes more, if there are as many. Tells whether it has.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let Inner { used, max } = &*self.budget.inner;
        let more = |used: usize| used.checked_add(bytes).filter(|sum| sum <= max);
        let has_grown = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        self.bytes += if has_grown { bytes } else { 0 };
        has_grown
    }

    /// Gives back so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.inner.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_share_a_bound_and_give_back_what_they_hold() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.reservation(), budget.reservation());
        assert!(a.grow(60) && !b.grow(41) && b.grow(40) && !a.grow(1) && !a.grow(usize::MAX));
        a.shrink(10);
        assert!(b.grow(10));
        drop(a);
        assert_eq!(budget.used(), 50);
        b.shrink(usize::MAX);
        assert_eq!(budget.used(), 0);
    }
}
