//! Resources of an instance that was killed: its addresses, the lock of its data directory, and the locked memory of its rings. The
//! kernel takes a process down in the background, so a process that starts right after the kill finds these in use for some
//! milliseconds.

use std::io;
use std::thread::sleep;
use std::time::Duration;

/// A second in all: a resource in use after that belongs to another instance.
pub const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// Takes a resource that may still be in use: retries `take` while its error is `in_use`, at most `attempts` times in all.
///
/// # Errors
/// The last error of `take`.
pub fn wait<T>(in_use: io::ErrorKind, attempts: u32, mut take: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..attempts {
        match take() {
            Err(error) if error.kind() == in_use => sleep(PAUSE),
            taken => return taken,
        }
    }
    take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_tried_again_and_nothing_else() {
        let tried = |said: &[io::ErrorKind], attempts| {
            let mut at = 0;
            let taken = wait(io::ErrorKind::AddrInUse, attempts, || {
                at += 1;
                said.get(at - 1).map_or(Ok(at), |kind| Err((*kind).into()))
            });
            (taken.map_err(|error| error.kind()), at)
        };
        use io::ErrorKind::{AddrInUse, PermissionDenied};
        assert_eq!(tried(&[], 3), (Ok(1), 1));
        assert_eq!(tried(&[AddrInUse, AddrInUse], 3), (Ok(3), 3));
        assert_eq!(tried(&[AddrInUse; 3], 3), (Err(AddrInUse), 3));
        assert_eq!(tried(&[AddrInUse, PermissionDenied], 3), (Err(PermissionDenied), 2));
    }
}
