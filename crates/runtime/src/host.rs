//! The preflight's checks of the runtime.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use super::buffers::Buffers;
use super::driver::{Driver, Kind, Tag};
use super::ring::Ring;

/// Makes a ring like the shards', receives a byte by it, and drops it: each of the ring's system calls, and the newest of its
/// features.
///
/// # Errors
/// The reason why the kernel provides none: switched off, forbidden in this container, too old, or no memory to lock.
pub fn probe() -> io::Result<()> {
    const ENTRIES: u16 = 8;
    const BYTE: u8 = 7;
    let (receiver, mut sender) = UnixStream::pair()?;
    sender.write_all(&[BYTE])?;
    let mut ring = Ring::new(ENTRIES.into())?;
    let buffers = Buffers::new(&mut ring, ENTRIES)?;
    ring.receive_always(receiver.as_fd(), Tag::of(Kind::Receive));
    // The end of the receive is the second answer.
    drop(sender);
    let (mut answers, mut is_received) = (Vec::new(), false);
    while ring.in_flight() > 0 {
        ring.submit(1)?;
        ring.reap(&mut answers, ENTRIES.into());
        for answer in answers.drain(..) {
            let count = answer.count()?;
            is_received |= answer.buffer().is_some_and(|buffer| buffers.bytes(buffer, count) == [BYTE]);
        }
    }
    drop(ring);
    if is_received { Ok(()) } else { Err(io::Error::other("a ring did not receive what was sent")) }
}

/// The CPUs that this process may run on, in order.
#[must_use]
pub fn cpus() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}
