//! The allocator: its free memory is returned to the system.

/// Free bytes at the end of a thread's heap beyond which it is given back to the system, and the size from which an allocation gets
/// a mapping of its own. By default glibc raises both, to 64 and 32 MiB, after large allocations; and [`trim_heap`] does not reach
/// the free bytes at the end of a shard's heap.
#[cfg(target_env = "gnu")]
const FREE_BYTES: libc::c_int = 2 << 20;

/// Makes the allocator keep little free memory. To be called before the first shard starts.
pub fn configure_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called from any thread at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, FREE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, FREE_BYTES);
    }
}

/// Gives free memory inside all of the allocator's heaps back to the system, page by page. Holds each heap's lock during that, so a
/// shard that allocates then waits for it: some 20 to 30 ms for 100 MiB. For ordinary threads, rarely.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
