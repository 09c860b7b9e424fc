//! Committed offsets, on the disk: a file of small checksummed entries, the last one for a place counts. What is
//! superseded is dropped by writing the file anew.
//!
//! ```text
//! entry: length of the text (u32), CRC-32C of the text (u32), text (JSON)
//! {"g":GROUP,"t":TOPIC,"p":PARTITION,"o":OFFSET,"e":LEADER_EPOCH,"m":METADATA}   a commit
//! {"g":GROUP,"t":TOPIC,"p":PARTITION}                                          that place is forgotten
//! ```
//! A commit is answered, and seen by others, when its entry is synced. A torn tail is cut off at the start.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::embedded::disk::{Disk, replace_file};
use crate::files;

const FILE: &str = "offsets.log";
const HEAD_BYTES: usize = 8;
/// The file is written anew when it is this long and mostly superseded.
const COMPACT_FROM_BYTES: u64 = 1 << 20;

/// Where an offset is committed for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Group.
    pub(crate) group: String,
    /// Topic.
    pub(crate) topic: String,
    /// Partition.
    pub(crate) partition: i32,
}

/// What is committed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The next offset to read.
    pub(crate) offset: i64,
    /// Leader epoch as the client told it.
    pub(crate) leader_epoch: i32,
    /// The client's own words.
    pub(crate) metadata: String,
}

/// A change of one place; `None`: forgotten.
pub(crate) type Change = (Place, Option<Committed>);

/// All committed offsets.
pub(crate) type Offsets = BTreeMap<Place, Committed>;

/// Enters changes into the offsets.
pub(crate) fn apply(offsets: &mut Offsets, changes: Vec<Change>) {
    for (place, committed) in changes {
        match committed {
            Some(committed) => offsets.insert(place, committed),
            None => offsets.remove(&place),
        };
    }
}

/// The file, open for appending.
#[derive(Debug)]
pub(crate) struct OffsetFile {
    dir: PathBuf,
    file: File,
    len: u64,
    /// Length after the last writing anew.
    compact_len: u64,
    /// A sync failed: nothing more is believed until the next start.
    failed: bool,
}

fn entry(place: &Place, committed: Option<&Committed>) -> Vec<u8> {
    let mut text = json!({ "g": place.group, "t": place.topic, "p": place.partition });
    if let Some(committed) = committed {
        text["o"] = committed.offset.into();
        text["e"] = committed.leader_epoch.into();
        text["m"] = committed.metadata.as_str().into();
    }
    let text = text.to_string().into_bytes();
    let mut entry = Vec::with_capacity(HEAD_BYTES + text.len());
    entry.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    entry.extend_from_slice(&crc32c::crc32c(&text).to_be_bytes());
    entry.extend_from_slice(&text);
    entry
}

/// The first entry of some bytes, and its length.
fn read_entry(bytes: &[u8]) -> Option<(Change, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let text = rest.get(..u32::from_be_bytes(*length) as usize)?;
    if crc32c::crc32c(text) != u32::from_be_bytes(*crc) {
        return None;
    }
    let value: Value = serde_json::from_slice(text).ok()?;
    let string = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let partition = i32::try_from(value.get("p")?.as_i64()?).ok()?;
    let place = Place { group: string("g")?, topic: string("t")?, partition };
    let committed = match value.get("o") {
        None => None,
        Some(offset) => {
            let leader_epoch = i32::try_from(value.get("e")?.as_i64()?).ok()?;
            Some(Committed { offset: offset.as_i64()?, leader_epoch, metadata: string("m")? })
        }
    };
    Some(((place, committed), HEAD_BYTES + text.len()))
}

/// Reads the file back, or makes it.
pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> io::Result<(OffsetFile, Offsets)> {
    let path = dir.join(FILE);
    let is_new = !path.exists();
    let file = files::open(&path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
    let bytes = std::fs::read(&path)?;
    let mut offsets = Offsets::new();
    let mut at = 0;
    while let Some((change, length)) = bytes.get(at..).and_then(read_entry) {
        apply(&mut offsets, vec![change]);
        at += length;
    }
    if at < bytes.len() {
        let (bytes, kept) = (bytes.len() - at, at);
        tracing::warn!(file = %path.display(), bytes, kept, "truncated the unreadable end of the committed offsets");
        file.set_len(at as u64)?;
    }
    // What a killed process wrote and did not sync is about to be shown.
    disk.sync_file(&file)?;
    if is_new {
        disk.sync_dir(dir)?;
    }
    let len = at as u64;
    Ok((OffsetFile { dir: dir.to_owned(), file, len, compact_len: 0, failed: false }, offsets))
}

impl OffsetFile {
    /// Makes changes durable. An error: none of them is.
    pub(crate) fn append(&mut self, disk: &dyn Disk, changes: &[Change]) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier sync of the committed offsets failed"));
        }
        let bytes: Vec<u8> = changes.iter().flat_map(|(place, change)| entry(place, change.as_ref())).collect();
        if let Err(error) = disk.write(&self.file, &bytes, self.len) {
            self.failed = self.file.set_len(self.len).is_err();
            return Err(error);
        }
        if let Err(error) = disk.sync_file(&self.file) {
            self.failed = true;
            return Err(error);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Whether it is time for [`OffsetFile::compact`].
    pub(crate) fn is_overgrown(&self) -> bool {
        !self.failed && self.len >= COMPACT_FROM_BYTES && self.len >= self.compact_len.saturating_mul(4)
    }

    /// Writes the file anew with what counts. On an error the old one goes on.
    pub(crate) fn compact(&mut self, disk: &dyn Disk, offsets: &Offsets) -> io::Result<()> {
        let bytes: Vec<u8> = offsets.iter().flat_map(|(place, committed)| entry(place, Some(committed))).collect();
        let path = self.dir.join(FILE);
        if let Err(error) = replace_file(disk, &self.dir, FILE, &bytes) {
            // If the name means the new file already, but not durably, neither can be trusted to be found again.
            let is_old = self.file.metadata().and_then(|old| Ok(old.ino() == std::fs::metadata(&path)?.ino()));
            self.failed = !is_old.unwrap_or(false);
            return Err(error);
        }
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        self.file = opened.inspect_err(|_| self.failed = true)?;
        self.len = bytes.len() as u64;
        self.compact_len = self.len;
        Ok(())
    }
}
