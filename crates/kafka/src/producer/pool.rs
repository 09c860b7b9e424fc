//! Memory of one producer: reusable batch buffers by size, and the account of all memory in use. Buffers unused for a while
//! are freed ([`Pool::release`]).

use std::rc::Rc;

use super::expire::Expiries;
use super::hashes::Hashes;
use super::numbers::Numbers;
use super::tickets::{SPAN_BYTES, Tickets};
use forebay_base::limits::{UNUSED_BUFFERS_KEPT_BYTES, UNUSED_BUFFERS_RELEASED_BYTES};

/// Smallest buffer of a batch.
pub(super) const BUFFER_MIN: usize = 1024;

/// Charge for every batch beside its buffer: its place in a queue, header, shared count, a small list of tickets.
pub(super) const BATCH_COST: usize = 1024;

/// Spans that a small list of tickets has room for; they are within [`BATCH_COST`].
const SPANS_SMALL: usize = 24;

/// Maximum number of unused ticket lists, of each kind.
const TICKETS_KEPT: usize = 64;

/// Maximum length of an unused list of deadlines or hashes.
const TERMS_KEPT: usize = 64;

/// Buffers of 2^10 to 2^31 bytes.
const CLASSES: usize = 32;

/// The buffers and the account.
#[derive(Debug)]
pub(super) struct Pool {
    /// Free buffers, by the logarithm of their capacity.
    free: [Vec<Vec<u8>>; CLASSES],
    /// Buffers of each size that were free at every moment since the last check.
    unused: [usize; CLASSES],
    free_bytes: usize,
    /// Buffers given back while the wire client or the kernel still held them.
    lent: Vec<Rc<Vec<u8>>>,
    small: Vec<Tickets>,
    large: Vec<Tickets>,
    /// Large ticket lists that were free at every moment since the last check.
    large_unused: usize,
    expiries: Vec<Expiries>,
    hashes: Vec<Hashes>,
    numbers: Vec<Numbers>,
    used: usize,
    limit: usize,
    /// How often memory was given back.
    freed: u64,
    /// Number of batches opened.
    batches: u64,
}

impl Pool {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            free: std::array::from_fn(|_| Vec::new()),
            unused: [0; CLASSES],
            free_bytes: 0,
            lent: Vec::new(),
            small: Vec::new(),
            large: Vec::new(),
            large_unused: 0,
            expiries: Vec::new(),
            hashes: Vec::new(),
            numbers: Vec::new(),
            used: 0,
            limit,
            freed: 0,
            batches: 0,
        }
    }

    /// Raises the bound; a lower one changes nothing.
    pub(super) fn raise_limit(&mut self, limit: usize) {
        self.limit = self.limit.max(limit);
    }

    /// Bytes in use.
    pub(super) const fn used(&self) -> usize {
        self.used
    }

    /// How often memory was given back.
    pub(super) const fn freed(&self) -> u64 {
        self.freed
    }

    /// The serial of a new batch.
    pub(super) const fn next_serial(&mut self) -> u64 {
        self.batches += 1;
        self.batches
    }

    /// Bytes in use and bytes of unused buffers.
    pub(super) const fn total(&self) -> usize {
        self.used + self.free_bytes
    }

    /// Charges memory outside of the pool; free buffers make way for it.
    pub(super) fn charge(&mut self, bytes: usize) {
        self.used += bytes;
        if self.total() > self.limit {
            self.trim(0);
        }
    }

    pub(super) const fn refund(&mut self, bytes: usize) {
        debug_assert!(self.used >= bytes);
        self.freed = self.freed.wrapping_add(1);
        self.used = self.used.saturating_sub(bytes);
    }

    /// An empty buffer of at least `capacity` bytes; a new one has exactly that many.
    pub(super) fn take(&mut self, capacity: usize) -> Vec<u8> {
        let kept = if capacity.is_power_of_two() { self.take_free(capacity.trailing_zeros() as usize) } else { None };
        let buffer = kept.unwrap_or_else(|| {
            self.trim(capacity);
            Vec::with_capacity(capacity)
        });
        self.used += buffer.capacity();
        buffer
    }

    /// The most recently used free buffer of a size.
    fn take_free(&mut self, class: usize) -> Option<Vec<u8>> {
        let free = self.free.get_mut(class)?;
        let buffer = free.pop()?;
        self.unused[class] = self.unused[class].min(free.len());
        self.free_bytes -= buffer.capacity();
        Some(buffer)
    }

    /// The most recently used free large list of tickets, if it is short enough.
    fn take_large(&mut self, extra_max: usize) -> Option<Tickets> {
        let tickets = self.large.pop_if(|tickets| extra(tickets) <= extra_max)?;
        self.large_unused = self.large_unused.min(self.large.len());
        self.free_bytes -= extra(&tickets);
        Some(tickets)
    }

    /// Frees unused buffers, large ones first, until `more` bytes have room.
    fn trim(&mut self, more: usize) {
        for class in (0..CLASSES).rev() {
            while self.total() + more > self.limit && self.take_free(class).is_some() {}
        }
        while self.total() + more > self.limit && self.take_large(usize::MAX).is_some() {}
    }

    /// Whether more is unused than may always be kept.
    pub(super) const fn keeps_much(&self) -> bool {
        self.free_bytes > UNUSED_BUFFERS_KEPT_BYTES
    }

    /// Bytes of unused buffers.
    pub(super) const fn unused_bytes(&self) -> usize {
        self.free_bytes
    }

    /// Frees buffers that nothing has used since the last check, while much is unused, large ones first; a part per call, since the
    /// system takes its time for each page. Returns whether that was all: then the next check begins.
    pub(super) fn release(&mut self) -> bool {
        let least = UNUSED_BUFFERS_KEPT_BYTES.max(self.free_bytes.saturating_sub(UNUSED_BUFFERS_RELEASED_BYTES));
        for class in (0..CLASSES).rev() {
            while self.unused[class] > 0 && self.free_bytes > least {
                let count = self.unused[class] - 1;
                drop(self.take_free(class));
                self.unused[class] = count;
            }
        }
        while self.large_unused > 0 && self.free_bytes > least {
            let count = self.large_unused - 1;
            drop(self.take_large(usize::MAX));
            self.large_unused = count;
        }
        if self.keeps_much() && (self.large_unused > 0 || self.unused.iter().any(|count| *count > 0)) {
            return false;
        }
        self.unused = std::array::from_fn(|class| self.free[class].len());
        self.large_unused = self.large.len();
        true
    }

    /// Takes a buffer back.
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        self.refund(capacity);
        if capacity.is_power_of_two() && self.total() + capacity <= self.limit {
            buffer.clear();
            if let Some(class) = self.free.get_mut(capacity.trailing_zeros() as usize) {
                class.push(buffer);
                self.free_bytes += capacity;
            }
        }
    }

    /// Takes a shared buffer back: at once, or when the last other holder drops it.
    pub(super) fn give_shared(&mut self, buffer: Rc<Vec<u8>>) {
        match Rc::try_unwrap(buffer) {
            Ok(buffer) => self.give(buffer),
            Err(shared) => self.lent.push(shared),
        }
    }

    /// Collects lent buffers that have become free.
    pub(super) fn sweep(&mut self) {
        if self.lent.is_empty() {
            return;
        }
        for shared in std::mem::take(&mut self.lent) {
            self.give_shared(shared);
        }
    }

    /// An empty list for about `spans` spans, if that keeps the memory in use below `ceiling`; else a small one.
    pub(super) fn take_tickets(&mut self, spans: usize, ceiling: usize) -> Tickets {
        if spans > SPANS_SMALL
            && let Some(tickets) = self.take_large(ceiling.saturating_sub(self.used))
        {
            self.used += extra(&tickets);
            return tickets;
        }
        self.small.pop().unwrap_or_else(|| Tickets::with_capacity(SPANS_SMALL))
    }

    /// An empty list of deadlines; the caller charges for it.
    pub(super) fn take_expiries(&mut self) -> Expiries {
        self.expiries.pop().unwrap_or_default()
    }

    /// An empty list of hashes; the caller charges for it.
    pub(super) fn take_hashes(&mut self) -> Hashes {
        self.hashes.pop().unwrap_or_default()
    }

    /// An empty list of numbers; the caller charges for it.
    pub(super) fn take_numbers(&mut self) -> Numbers {
        self.numbers.pop().unwrap_or_default()
    }

    /// Takes a list of numbers back, refunded already.
    pub(super) fn give_numbers(&mut self, mut numbers: Numbers) {
        if (1..=TERMS_KEPT).contains(&numbers.capacity()) && self.numbers.len() < TICKETS_KEPT {
            numbers.clear();
            self.numbers.push(numbers);
        }
    }

    /// Takes both lists back, refunded already. Long ones are freed.
    pub(super) fn give_terms(&mut self, mut expiries: Expiries, mut hashes: Hashes) {
        if (1..=TERMS_KEPT).contains(&expiries.capacity()) && self.expiries.len() < TICKETS_KEPT {
            expiries.clear();
            self.expiries.push(expiries);
        }
        if (1..=TERMS_KEPT).contains(&hashes.capacity()) && self.hashes.len() < TICKETS_KEPT {
            hashes.clear();
            self.hashes.push(hashes);
        }
    }

    /// Takes a list back.
    pub(super) fn give_tickets(&mut self, mut tickets: Tickets) {
        tickets.clear();
        let extra = extra(&tickets);
        self.refund(extra);
        if extra == 0 && self.small.len() < TICKETS_KEPT {
            self.small.push(tickets);
        } else if extra > 0 && self.large.len() < TICKETS_KEPT && self.total() + extra <= self.limit {
            self.free_bytes += extra;
            self.large.push(tickets);
        }
    }
}

/// The cost of a list beyond [`BATCH_COST`].
pub(super) fn extra(tickets: &Tickets) -> usize {
    (tickets.capacity() * SPAN_BYTES).saturating_sub(SPANS_SMALL * SPAN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_the_account_is_exact() {
        let mut pool = Pool::new(10_000);
        let a = pool.take(4096);
        let b = pool.take(1500);
        assert_eq!(pool.used(), 5596);
        let address = a.as_ptr();
        pool.give(a);
        pool.give(b);
        assert_eq!((pool.used(), pool.total()), (0, 4096), "odd sizes are let go");
        let again = pool.take(4096);
        assert_eq!(again.as_ptr(), address);
    }

    #[test]
    fn free_buffers_make_way() {
        let mut pool = Pool::new(10_000);
        let a = pool.take(4096);
        let b = pool.take(4096);
        pool.give(a);
        pool.give(b);
        assert_eq!(pool.total(), 8192);
        let _large = pool.take(8192);
        assert_eq!(pool.total(), 8192);
    }

    #[test]
    fn what_is_not_used_between_two_looks_is_let_go_of_in_parts() {
        const BUFFER: usize = 1 << 20;
        let mut pool = Pool::new(64 << 20);
        let taken: Vec<_> = (0..20).map(|_| pool.take(BUFFER)).collect();
        assert!(!pool.keeps_much());
        taken.into_iter().for_each(|buffer| pool.give(buffer));
        assert!(pool.keeps_much() && pool.release(), "all have been used since the last look");
        assert_eq!(pool.unused_bytes(), 20 * BUFFER);
        // Three buffers at a time are.
        let taken: Vec<_> = (0..3).map(|_| pool.take(BUFFER)).collect();
        taken.into_iter().for_each(|buffer| pool.give(buffer));
        let kept = std::iter::repeat_with(|| (pool.release(), pool.unused_bytes() / BUFFER)).take(5);
        assert_eq!(kept.collect::<Vec<_>>(), [(false, 16), (false, 12), (false, 8), (false, 4), (true, 3)]);
        assert!(pool.release(), "nothing of these has been used, and one MiB may always be kept");
        assert_eq!((pool.unused_bytes(), pool.keeps_much(), pool.used()), (BUFFER, false, 0));
    }

    #[test]
    fn a_lent_buffer_stays_on_the_account_until_it_is_free() {
        let mut pool = Pool::new(10_000);
        let shared = Rc::new(pool.take(1024));
        let holder = Rc::clone(&shared);
        pool.give_shared(shared);
        pool.sweep();
        assert_eq!(pool.used(), 1024);
        drop(holder);
        pool.sweep();
        assert_eq!((pool.used(), pool.total()), (0, 1024));
    }
}
