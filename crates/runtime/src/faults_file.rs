//! A disk that fails on request from outside the process: FOREBAY_FAULTS names a file with a line for each fault, `sync_delay_ms =
//! 50`. The file is read again while the process runs. Only in builds with the feature `faults`: others refuse the variable
//! (`config`).

use std::io;
use std::sync::Arc;

use super::faults::DiskFaults;

#[cfg(not(feature = "faults"))]
pub(super) fn of_environment() -> io::Result<Option<Arc<DiskFaults>>> {
    Ok(None)
}

#[cfg(feature = "faults")]
pub(super) use with_feature::of_environment;

/// Applies the contents of a file; a fault that it does not name is off.
#[cfg(any(feature = "faults", test))]
fn apply(text: &str, faults: &DiskFaults) -> Result<(), String> {
    use std::time::Duration;

    const NAMES: [&str; 12] = [
        "hold_writes_ms",
        "sync_delay_ms",
        "create_delay_ms",
        "sync_errno",
        "append_errno",
        "create_errno",
        "delete_errno",
        "write_bytes_max",
        "withhold_syncs",
        "read_errno",
        "unreadable_from",
        "unreadable_bytes",
    ];
    let mut values = [0_u64; NAMES.len()];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once('=').ok_or_else(|| format!("{line:?}: expected NAME = NUMBER"))?;
        let place = NAMES.iter().position(|known| *known == name.trim());
        let place = place.ok_or_else(|| format!("{line:?}: there are {}", NAMES.join(", ")))?;
        values[place] = value.trim().parse().map_err(|_| format!("{line:?}: expected a whole number"))?;
    }
    let [hold, sync, create, sync_errno, append_errno, create_errno, delete_errno, write_max, withhold, reading @ ..] =
        values;
    let [read_errno, unreadable_from, unreadable_bytes] = reading;
    let errno = |value: u64| i32::try_from(value).map_err(|_| format!("{value} is not an errno"));
    let (sync_errno, append_errno) = (errno(sync_errno)?, errno(append_errno)?);
    let (create_errno, delete_errno, read_errno) = (errno(create_errno)?, errno(delete_errno)?, errno(read_errno)?);
    faults.hold_writes(Duration::from_millis(hold));
    faults.delay_syncs(Duration::from_millis(sync));
    faults.delay_creates(Duration::from_millis(create));
    faults.fail_syncs(sync_errno);
    faults.fail_appends(append_errno);
    faults.fail_creates(create_errno);
    faults.fail_deletes(delete_errno);
    faults.shorten_writes(write_max);
    faults.withhold_syncs(withhold != 0);
    let unreadable_bytes = if unreadable_bytes == 0 { u64::MAX } else { unreadable_bytes };
    faults.unreadable(unreadable_from, unreadable_bytes, read_errno);
    Ok(())
}

#[cfg(feature = "faults")]
mod with_feature {
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use super::{Arc, DiskFaults, apply, io};

    const VARIABLE: &str = "FOREBAY_FAULTS";
    const LOOKED_AT_EVERY: Duration = Duration::from_millis(10);
    /// The faults of the disk, for all shards.
    static DISK: Mutex<Option<Arc<DiskFaults>>> = Mutex::new(None);

    /// The faults of the file that FOREBAY_FAULTS names. The file has to be there.
    pub(crate) fn of_environment() -> io::Result<Option<Arc<DiskFaults>>> {
        let Some(path) = std::env::var_os(VARIABLE).map(PathBuf::from) else { return Ok(None) };
        let mut disk = DISK.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.is_none() {
            let faults = Arc::new(DiskFaults::default());
            let text = std::fs::read_to_string(&path)?;
            take(&path, &text, &faults).map_err(io::Error::other)?;
            let watched = Arc::clone(&faults);
            std::thread::Builder::new().name("faults".into()).spawn(move || watch(&path, text, &watched))?;
            *disk = Some(faults);
        }
        Ok(disk.clone())
    }

    fn watch(path: &Path, mut known: String, faults: &DiskFaults) {
        loop {
            std::thread::sleep(LOOKED_AT_EVERY);
            let Ok(text) = std::fs::read_to_string(path) else { continue };
            if text != known {
                if let Err(why) = take(path, &text, faults) {
                    tracing::error!("{why}");
                }
                known = text;
            }
        }
    }

    fn take(path: &Path, text: &str, faults: &DiskFaults) -> Result<(), String> {
        apply(text, faults).map_err(|why| format!("{VARIABLE}: {}: {why}", path.display()))?;
        tracing::warn!(faults = text.trim().replace('\n', ", "), "the disk behaves as {VARIABLE} says");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_is_wrong_and_what_it_leaves_out_is_well() {
        let faults = DiskFaults::default();
        apply("# all of them\nhold_writes_ms = 20\nsync_delay_ms=5\n sync_errno = 5\nappend_errno = 28\n", &faults)
            .unwrap();
        assert_eq!((faults.hold().as_millis(), faults.delay().as_millis()), (20, 5));
        assert_eq!(faults.sync().unwrap_err().raw_os_error(), Some(5));
        assert_eq!(faults.append().unwrap_err().raw_os_error(), Some(28));
        apply("read_errno = 5\nunreadable_from = 512\nunreadable_bytes = 512", &faults).unwrap();
        assert!(!faults.withholds_syncs());
        assert_eq!(faults.read(0, 1024).unwrap(), 512);
        assert_eq!(faults.read(600, 1).unwrap_err().raw_os_error(), Some(5));
        assert_eq!(faults.read(1024, 1024).unwrap(), 1024);
        apply("sync_delay_ms = 7", &faults).unwrap();
        assert!(faults.read(600, 1).is_ok());
        assert_eq!((faults.hold().as_millis(), faults.delay().as_millis()), (0, 7));
        assert!(faults.sync().is_ok() && faults.append().is_ok() && faults.write_max() == usize::MAX);
    }

    #[test]
    fn a_bad_file_changes_nothing_and_says_why() {
        let faults = DiskFaults::default();
        apply("sync_delay_ms = 7", &faults).unwrap();
        for bad in ["sync_delay_ms = 9\nsync_delay", "sync_delay_ms = 9\nsink_delay_ms = 1", "sync_delay_ms = 9s"] {
            assert!(apply(bad, &faults).unwrap_err().contains('"'), "{bad}");
            assert_eq!(faults.delay().as_millis(), 7);
        }
    }
}
