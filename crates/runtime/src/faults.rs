//! A disk that fails on request, for tests: between the segments and the ring, so that the layers above see what a bad disk would
//! show them. Without faults nothing here runs. The service has faults only if it is built with the feature `faults` and
//! FOREBAY_FAULTS names a file (`faults_file`).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The faults of a disk. Shared with the test, and changed while the shard runs.
#[derive(Debug, Default)]
pub struct DiskFaults {
    hold_us: AtomicU64,
    sync_delay_us: AtomicU64,
    create_delay_us: AtomicU64,
    sync_error: AtomicI32,
    append_error: AtomicI32,
    create_error: AtomicI32,
    read_error: AtomicI32,
    unreadable_from: AtomicU64,
    unreadable_bytes: AtomicU64,
    /// The disk itself reads nothing; successful reads come from the page cache.
    away: AtomicBool,
    /// The next read that fails is the last one.
    comes_back: AtomicBool,
    reads: AtomicU64,
    delete_error: AtomicI32,
    write_bytes_max: AtomicU64,
    withhold_syncs: AtomicBool,
}

impl DiskFaults {
    /// Delays writes to the kernel by this much, together with their sync. Until then they are lost if the process dies, as with a
    /// power failure (if appends are written, not mapped).
    pub fn hold_writes(&self, by: Duration) {
        self.hold_us.store(by.as_micros() as u64, Relaxed);
    }

    /// Delays the report of each sync by this much (whole milliseconds, at most a tick of the timers more).
    pub fn delay_syncs(&self, by: Duration) {
        self.sync_delay_us.store(by.as_micros() as u64, Relaxed);
    }

    /// Delays the creation of each segment by this much.
    pub fn delay_creates(&self, by: Duration) {
        self.create_delay_us.store(by.as_micros() as u64, Relaxed);
    }

    /// Fails syncs with this errno; 0: no more.
    pub fn fail_syncs(&self, errno: i32) {
        self.sync_error.store(errno, Relaxed);
    }

    /// Fails appends with this errno (`ENOSPC`); 0: no more.
    pub fn fail_appends(&self, errno: i32) {
        self.append_error.store(errno, Relaxed);
    }

    /// Fails the creation of segments with this errno; 0: no more.
    pub fn fail_creates(&self, errno: i32) {
        self.create_error.store(errno, Relaxed);
    }

    /// Fails reads with this errno; 0: no more.
    pub fn fail_reads(&self, errno: i32) {
        self.unreadable(0, u64::MAX, errno);
    }

    /// Fails reads of these bytes of each segment with this errno; 0: no more. Like with a kernel, a longer read stops short of
    /// them.
    pub fn unreadable(&self, from: u64, bytes: u64, errno: i32) {
        self.unreadable_from.store(from, Relaxed);
        self.unreadable_bytes.store(bytes, Relaxed);
        self.read_error.store(errno, Relaxed);
        self.away.store(false, Relaxed);
    }

    /// The disk gives nothing; the page cache has all but these bytes.
    pub fn cached_but(&self, from: u64, bytes: u64, errno: i32) {
        self.unreadable(from, bytes, errno);
        self.away.store(true, Relaxed);
    }

    /// The next read that fails is the last one.
    pub fn come_back(&self) {
        self.comes_back.store(true, Relaxed);
    }

    /// The number of reads of the disk.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    /// Segments are not deleted, with this errno; 0: again they are.
    pub fn fail_deletes(&self, errno: i32) {
        self.delete_error.store(errno, Relaxed);
    }

    /// A write takes no more than this in one go; 0: as much as there is.
    pub fn shorten_writes(&self, bytes: u64) {
        self.write_bytes_max.store(bytes, Relaxed);
    }

    /// Gives writes from now on to the kernel without their sync, and answers none of them: the state of a process that is killed
    /// between the two.
    pub fn withhold_syncs(&self, withhold: bool) {
        self.withhold_syncs.store(withhold, Relaxed);
    }

    pub(super) fn withholds_syncs(&self) -> bool {
        self.withhold_syncs.load(Relaxed)
    }

    pub(super) fn hold(&self) -> Duration {
        Duration::from_micros(self.hold_us.load(Relaxed))
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_micros(self.sync_delay_us.load(Relaxed))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        failing(&self.sync_error)
    }

    pub(super) fn append(&self) -> io::Result<()> {
        failing(&self.append_error)
    }

    /// The result of a read of bytes `at` to `at + count`: how many are read, or the error.
    pub(super) fn read(&self, at: u64, count: usize) -> io::Result<usize> {
        self.reads.fetch_add(1, Relaxed);
        let from = self.unreadable_from.load(Relaxed);
        let end = from.saturating_add(self.unreadable_bytes.load(Relaxed));
        if at < end && at + count as u64 > from {
            failing(&self.read_error).map(|()| count).or_else(|error| match from.saturating_sub(at) {
                0 => {
                    if self.comes_back.swap(false, Relaxed) {
                        self.read_error.store(0, Relaxed);
                    }
                    Err(error)
                }
                readable => Ok(readable as usize),
            })
        } else {
            Ok(count)
        }
    }

    /// Like [`DiskFaults::read`], for a read past the page cache.
    pub(super) fn read_direct(&self, at: u64, count: usize) -> io::Result<usize> {
        if self.away.load(Relaxed) { failing(&self.read_error).map(|()| count) } else { self.read(at, count) }
    }

    pub(super) fn delete(&self) -> io::Result<()> {
        failing(&self.delete_error)
    }

    /// Sleeps, so it is for the helper thread only.
    pub(super) fn create(&self) -> io::Result<()> {
        std::thread::sleep(Duration::from_micros(self.create_delay_us.load(Relaxed)));
        failing(&self.create_error)
    }

    pub(super) fn write_max(&self) -> usize {
        match self.write_bytes_max.load(Relaxed) {
            0 => usize::MAX,
            bytes => bytes as usize,
        }
    }
}

fn failing(errno: &AtomicI32) -> io::Result<()> {
    match errno.load(Relaxed) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
