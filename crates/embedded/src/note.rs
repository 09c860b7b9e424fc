//! The note of a partition's end: the offset before which all records were on the disk. It is written after each sync of the partition
//! and not synced itself: after a power failure it may lag behind, and it is never ahead. By it a start notices that records are missing
//! at the end, where no later segment tells.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The file's name in the directory of a partition.
pub(crate) const FILE: &str = "newest";
/// The offset and its CRC32C.
const BYTES: usize = 12;

/// Makes the file, if there is none.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).open(dir.join(FILE)).map(drop)
}

/// Writes the offset into the file, which [`make`] has made: a topic that is being deleted gets no new file.
pub(crate) fn write(dir: &Path, next_offset: i64) -> io::Result<()> {
    let offset = next_offset.to_be_bytes();
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&offset);
    bytes[8..].copy_from_slice(&crc32c::crc32c(&offset).to_be_bytes());
    OpenOptions::new().write(true).open(dir.join(FILE))?.write_all_at(&bytes, 0)
}

/// The offset in the file; `None`: there is no file, or what is in it is no offset.
pub(crate) fn read(dir: &Path) -> Option<i64> {
    let path = dir.join(FILE);
    if !std::fs::metadata(&path).ok()?.is_file() {
        return None;
    }
    let mut bytes = [0; BYTES];
    File::open(path).ok()?.read_exact(&mut bytes).ok()?;
    let (offset, crc) = bytes.split_first_chunk::<8>()?;
    (crc == crc32c::crc32c(offset).to_be_bytes()).then(|| i64::from_be_bytes(*offset))
}
