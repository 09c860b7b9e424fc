//! The allocator: what is free in it goes back to the system.

/// Free memory at the end of a thread's heap beyond which that is given back as it comes free, and the size from which an allocation is
/// mapped by itself. By default glibc raises both, to 64 and 32 MiB, as large allocations come and go; and what is free at the end of
/// a shard's heap [`trim_heap`] does not reach.
#[cfg(target_env = "gnu")]
const FREE_BYTES: libc::c_int = 2 << 20;

/// Has the allocator keep little of what is free. Before the first shard starts.
pub fn configure_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called from any thread at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, FREE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, FREE_BYTES);
    }
}

/// Gives free memory inside all of the allocator's heaps back to the system, page by page. It holds each heap's lock meanwhile, so a
/// shard that allocates just then waits for it: some 20 to 30 ms for 100 MiB. For ordinary threads, seldom.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
