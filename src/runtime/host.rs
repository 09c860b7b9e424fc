//! What the preflight asks of the runtime.

use std::io;

use super::ring::Ring;

/// Makes a ring like the shards', and drops it.
///
/// # Errors
/// Why the kernel gives none: switched off, forbidden in this container, too old, or no memory to lock.
pub fn probe() -> io::Result<()> {
    const ENTRIES: u32 = 8;
    Ring::new(ENTRIES).map(drop)
}

/// The CPUs that this process may run on, in order.
#[must_use]
pub fn cpus() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}
