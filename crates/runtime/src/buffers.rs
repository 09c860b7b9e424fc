//! The receive buffers, shared by all connections of a shard: the kernel picks one when bytes arrive, so an idle connection holds
//! none. A buffer is lent to the shard for one `on_bytes` and returned after that.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::driver::Driver;

/// Buffers that a shard begins with. Each buffer that was ever used is 4 KiB of memory, and the kernel uses them in rotation: all
/// of them after a while, however few a turn needs.
pub(super) const BUFFERS_AT_FIRST: u16 = 64;
/// Bytes of one buffer. Smaller costs completions, larger costs cache (measured: 4 KiB).
pub(super) const BUFFER_BYTES: usize = 4096;
const PAGE_BYTES: usize = 4096;

/// A mapping: first the entries the kernel takes buffers from, then the buffers.
pub(super) struct Buffers {
    map: NonNull<u8>,
    map_bytes: usize,
    entries_bytes: usize,
    /// Buffers that there may be, a power of two.
    count: u16,
    /// Buffers in use: those below this number.
    used: u16,
    /// Whether a receive has found none since the last publishing.
    ran_out: bool,
    /// Our side of the tail; the kernel sees it when published.
    tail: u16,
    published: u16,
}

impl Buffers {
    /// Maps and registers `count` buffers (a power of two). The kernel gets [`BUFFERS_AT_FIRST`] of them, and twice as many each
    /// time it runs out.
    pub(super) fn new(driver: &mut impl Driver, count: u16) -> io::Result<Self> {
        if !count.is_power_of_two() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "receive buffers: not a power of two"));
        }
        let entries_bytes = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES);
        let map_bytes = entries_bytes + usize::from(count) * BUFFER_BYTES;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping, nobody else's memory.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), map_bytes, protection, flags, -1, 0) };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        let mut buffers = Self { map, map_bytes, entries_bytes, count, used: 0, ran_out: false, tail: 0, published: 0 };
        // SAFETY: page-aligned, large enough, and unmapped only when the driver is gone (see `turn`).
        unsafe { driver.register_buffers(map.as_ptr() as u64, count)? };
        buffers.use_until(BUFFERS_AT_FIRST.min(count));
        buffers.publish();
        Ok(buffers)
    }

    /// Hands out those below this number that are not in use yet.
    fn use_until(&mut self, number: u16) {
        (self.used..number).for_each(|id| self.give_back(id));
        self.used = number;
    }

    /// Notes that a receive has found no buffer: with the next publishing there are twice as many, as far as there may be.
    pub(super) fn ran_out(&mut self) {
        self.ran_out = self.used < self.count;
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        debug_assert!(id < self.count);
        // SAFETY: ids are below `count`, so this stays in the mapping.
        unsafe { self.map.add(self.entries_bytes + usize::from(id) * BUFFER_BYTES) }
    }

    /// The bytes that the kernel wrote into buffer `id`.
    pub(super) fn bytes(&self, id: u16, length: usize) -> &[u8] {
        // SAFETY: inside the mapping, zeroed at first, and the kernel does not touch the buffer between the
        // completion that named it and the publishing of its return, for which `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts(self.buffer(id).as_ptr(), length.min(BUFFER_BYTES)) }
    }

    /// The bytes that the kernel wrote into buffer `id`, mutable.
    pub(super) fn bytes_mut(&mut self, id: u16, length: usize) -> &mut [u8] {
        // SAFETY: as in `bytes`; and `self` is borrowed mutably, so nobody else looks at it.
        unsafe { std::slice::from_raw_parts_mut(self.buffer(id).as_ptr(), length.min(BUFFER_BYTES)) }
    }

    /// Returns a buffer. The kernel may use it once that is published.
    pub(super) fn give_back(&mut self, id: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        let addr = self.buffer(id).as_ptr() as u64;
        // SAFETY: an entry of our mapping that the kernel does not read before the tail passes it. Only the fields
        // of a buffer are written: the tail lies in the reserved field of entry 0.
        let entry = unsafe { self.map.cast::<BufRingEntry>().add(index).as_mut() };
        entry.set_addr(addr);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Publishes returned buffers to the kernel. Must precede the arming of a receive that had run out of buffers: else it runs out
    /// again at once.
    pub(super) fn publish(&mut self) {
        if std::mem::take(&mut self.ran_out) {
            self.use_until(self.used * 2);
        }
        if self.published != self.tail {
            // SAFETY: the tail is 16 bits in entry 0 of our mapping, aligned; the kernel only reads it.
            let tail =
                unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.map.cast::<BufRingEntry>().as_ptr()).cast_mut()) };
            tail.store(self.tail, Ordering::Release);
            self.published = self.tail;
        }
    }

    /// Gives the mapping up without unmapping it: the kernel may still write into it.
    pub(super) fn leak(&mut self) {
        self.map_bytes = 0;
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.map_bytes > 0 {
            // SAFETY: our mapping. `turn` has seen every receive end before it drops us.
            unsafe { libc::munmap(self.map.as_ptr().cast(), self.map_bytes) };
        }
    }
}
