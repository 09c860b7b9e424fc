//! Committed offsets on disk: a file of small checksummed entries, of which the last one for a place counts. Superseded entries
//! are dropped when the file is rewritten.
//!
//! ```text
//! entry: length of the text (u32), CRC-32C of the text (u32), text (JSON)
//! {"g":GROUP,"t":TOPIC,"p":PARTITION,"o":OFFSET,"e":LEADER_EPOCH,"m":METADATA}   a commit
//! {"g":GROUP,"t":TOPIC,"p":PARTITION}                                          that place is forgotten
//! ```
//! A commit is answered, and visible to others, when its entry is synced. A torn tail is cut off at startup, and damage between
//! entries loses only the entries that it hits.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::aside::free_name;
use crate::disk::{Disk, replace_file};
use crate::partition::Findings;
use forebay_base::files;

/// The file's name.
pub(crate) const FILE: &str = "offsets.log";
/// The name of an empty file that is there once [`FILE`] has an entry: without one, entries are lost.
const BEGUN: &str = "offsets.begun";
const HEAD_BYTES: usize = 8;
/// The longest entry: names of a group and a topic and a client's metadata are below 32 KiB each, and JSON may make six bytes
/// of one.
const ENTRY_BYTES_MAX: usize = 512 << 10;
/// The file is rewritten when it is this long and mostly superseded.
const COMPACT_FROM_BYTES: u64 = 1 << 20;

/// The place that an offset is committed for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Group.
    pub(crate) group: String,
    /// Topic.
    pub(crate) topic: String,
    /// Partition.
    pub(crate) partition: i32,
}

/// The committed offset of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The next offset to read.
    pub(crate) offset: i64,
    /// Leader epoch as the client sent it.
    pub(crate) leader_epoch: i32,
    /// The client's metadata.
    pub(crate) metadata: String,
}

/// A change of one place; `None`: the place is forgotten.
pub(crate) type Change = (Place, Option<Committed>);

/// All committed offsets.
pub(crate) type Offsets = BTreeMap<Place, Committed>;

/// Applies changes to the offsets.
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
    /// Length after the last rewrite.
    compact_len: u64,
    /// Whether a sync failed: then nothing more is trusted until the log is opened again.
    failed: bool,
    /// Whether [`BEGUN`] is there.
    is_begun: bool,
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

/// The first entry in some bytes, and its length.
fn read_entry(bytes: &[u8]) -> Option<(Change, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = Some(u32::from_be_bytes(*length) as usize).filter(|length| *length <= ENTRY_BYTES_MAX - HEAD_BYTES)?;
    // Most invalid entries fail this check already.
    let text = rest.get(..length).filter(|text| text.first() == Some(&b'{') && text.last() == Some(&b'}'))?;
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

/// Reads the file, or creates it. Unreadable bytes are skipped, up to the next readable entry: then the whole file is kept
/// under another name, and rewritten with the valid entries. Only if nothing readable follows is it a torn tail: it is cut off,
/// and nothing in it was ever answered.
pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> io::Result<(OffsetFile, Offsets, Findings)> {
    let path = dir.join(FILE);
    let is_new = !path.exists();
    let file = files::open(&path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
    let file_len = file.metadata()?.len();
    let mut reader = EntryReader::new(&file);
    let mut offsets = Offsets::new();
    let (mut findings, mut len) = (Findings::default(), 0);
    while let Some((change, at, length)) = reader.next()? {
        if at > len {
            findings.holes += 1;
            tracing::error!(file = %path.display(), position = len, bytes = at - len, "unreadable bytes between committed \
                offsets; what was committed there is lost, and what it had replaced may be back");
        }
        apply(&mut offsets, vec![change]);
        len = at + length;
    }
    if len < file_len {
        let bytes = file_len - len;
        tracing::warn!(file = %path.display(), bytes, kept = len, "truncated an incomplete write at the end of the \
            committed offsets; nothing in it had been acknowledged");
        findings.bytes_cut = bytes;
        if findings.holes == 0 {
            file.set_len(len)?;
        }
    }
    let mut is_begun = dir.join(BEGUN).exists();
    if is_begun && len == 0 {
        findings.files += 1;
        // A note that stays is reported once more.
        drop(std::fs::remove_file(dir.join(BEGUN)));
        is_begun = false;
    }
    let mut opened = OffsetFile { dir: dir.to_owned(), file, len, compact_len: 0, failed: false, is_begun };
    if len > 0 {
        opened.note_begun();
    }
    if findings.holes > 0 {
        let aside = free_name(&path, "damaged")?;
        std::fs::hard_link(&path, &aside)?;
        opened.compact(disk, &offsets)?;
        tracing::error!(file = %aside.display(), "the damaged file of the committed offsets is kept under this name");
    }
    // Entries that a killed process wrote and did not sync are about to be shown.
    disk.sync_file(&opened.file)?;
    if is_new {
        disk.sync_dir(dir)?;
    }
    Ok((opened, offsets, findings))
}

/// Reads entries one after the other, whatever bytes are between them. The reader holds at most two entries of the longest size.
struct EntryReader<'a> {
    file: &'a File,
    bytes: Vec<u8>,
    /// Position in `bytes` of the next possible entry, and position in the file of `bytes`.
    at: usize,
    begin: u64,
    is_whole: bool,
}

impl<'a> EntryReader<'a> {
    fn new(file: &'a File) -> Self {
        Self { file, bytes: Vec::new(), at: 0, begin: 0, is_whole: false }
    }

    /// The next entry, its position, and its length.
    fn next(&mut self) -> io::Result<Option<(Change, u64, u64)>> {
        loop {
            if !self.is_whole && self.bytes.len() - self.at < ENTRY_BYTES_MAX {
                self.fill()?;
            }
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            if rest.len() < HEAD_BYTES {
                return Ok(None);
            }
            if let Some((change, length)) = read_entry(rest) {
                let at = self.begin + self.at as u64;
                self.at += length;
                return Ok(Some((change, at, length as u64)));
            }
            self.at += 1;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.bytes.drain(..self.at);
        self.begin += self.at as u64;
        self.at = 0;
        while !self.is_whole && self.bytes.len() < 2 * ENTRY_BYTES_MAX {
            let had = self.bytes.len();
            self.bytes.resize(2 * ENTRY_BYTES_MAX, 0);
            let got = self.file.read_at(&mut self.bytes[had..], self.begin + had as u64)?;
            self.bytes.truncate(had + got);
            self.is_whole = got == 0;
        }
        Ok(())
    }
}

impl OffsetFile {
    /// Notes that the file has an entry. The note is not synced: after a power failure it may be missing, and a loss be silent.
    fn note_begun(&mut self) {
        if !self.is_begun {
            let path = self.dir.join(BEGUN);
            let made = files::open(&path, OpenOptions::new().write(true).create(true).truncate(false));
            self.is_begun = made.is_ok();
        }
    }

    /// Makes changes durable. On an error none of them is.
    pub(crate) fn append(&mut self, disk: &dyn Disk, changes: &[Change]) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier sync of the committed offsets failed"));
        }
        let entries: Vec<Vec<u8>> = changes.iter().map(|(place, change)| entry(place, change.as_ref())).collect();
        if entries.iter().any(|entry| entry.len() > ENTRY_BYTES_MAX) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the names of a committed offset are too long"));
        }
        let bytes = entries.concat();
        if let Err(error) = disk.write(&self.file, &bytes, self.len) {
            self.failed = self.file.set_len(self.len).is_err();
            return Err(error);
        }
        if let Err(error) = disk.sync_file(&self.file) {
            self.failed = true;
            return Err(error);
        }
        self.len += bytes.len() as u64;
        self.note_begun();
        Ok(())
    }

    /// Whether [`OffsetFile::compact`] is due.
    pub(crate) fn is_overgrown(&self) -> bool {
        !self.failed && self.len >= COMPACT_FROM_BYTES && self.len >= self.compact_len.saturating_mul(4)
    }

    /// Rewrites the file with the current offsets. On an error the old file stays in use.
    pub(crate) fn compact(&mut self, disk: &dyn Disk, offsets: &Offsets) -> io::Result<()> {
        let mut bytes: Vec<u8> = offsets.iter().flat_map(|(place, committed)| entry(place, Some(committed))).collect();
        if bytes.is_empty() {
            // A file without an entry has lost its entries.
            bytes = entry(&Place { group: String::new(), topic: String::new(), partition: 0 }, None);
        }
        let path = self.dir.join(FILE);
        if let Err(error) = replace_file(disk, &self.dir, FILE, &bytes) {
            // If the name refers to the new file already, but not durably, neither file is certain to be found again.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::KernelDisk;

    fn place(partition: i32) -> Place {
        Place { group: "group".into(), topic: "topic".into(), partition }
    }

    fn committed(offset: i64) -> Option<Committed> {
        Some(Committed { offset, leader_epoch: -1, metadata: "words".into() })
    }

    /// Commits eight places once each; returns the position of each entry.
    fn eight(dir: &Path) -> Vec<u64> {
        let (mut file, ..) = open(&KernelDisk, dir).unwrap();
        let mut starts = vec![0];
        for partition in 0..8 {
            file.append(&KernelDisk, &[(place(partition), committed(100 + i64::from(partition)))]).unwrap();
            starts.push(file.len);
        }
        starts
    }

    fn partitions(offsets: &Offsets) -> Vec<i32> {
        offsets.keys().map(|place| place.partition).collect()
    }

    #[test]
    fn finding_l2_a_bad_bit_costs_its_entry_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let starts = eight(dir.path());
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..8 * starts[7] as usize {
            let mut rotten = whole.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &rotten).unwrap();
            let hit = starts.iter().rposition(|start| *start <= (bit / 8) as u64).unwrap() as i32;
            let expected: Vec<i32> = (0..8).filter(|partition| *partition != hit).collect();
            let (file, offsets, findings) = open(&KernelDisk, dir.path()).unwrap();
            assert_eq!((partitions(&offsets), findings.holes), (expected.clone(), 1), "bit {bit}");
            drop(file);
            let aside = dir.path().join("offsets.log.damaged");
            assert_eq!(std::fs::read(&aside).unwrap(), rotten, "nothing is thrown away");
            std::fs::remove_file(aside).unwrap();
            let (_, offsets, findings) = open(&KernelDisk, dir.path()).unwrap();
            assert_eq!((partitions(&offsets), findings.holes), (expected, 0), "it is mended");
        }
    }

    #[test]
    fn finding_l2_a_tail_torn_at_any_byte_is_cut_to_the_last_whole_entry() {
        let dir = tempfile::tempdir().unwrap();
        let starts = eight(dir.path());
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for cut in starts[6]..=starts[8] {
            std::fs::write(&path, &whole[..cut as usize]).unwrap();
            let kept = starts.iter().rposition(|start| *start <= cut).unwrap();
            let (mut file, offsets, findings) = open(&KernelDisk, dir.path()).unwrap();
            assert_eq!((offsets.len(), findings.holes, findings.bytes_cut), (kept, 0, cut - starts[kept]));
            file.append(&KernelDisk, &[(place(9), committed(1))]).unwrap();
            assert_eq!(open(&KernelDisk, dir.path()).unwrap().1.len(), kept + 1);
        }
    }

    /// Damage longer than one read, together with a torn tail.
    #[test]
    fn finding_l2_long_damage_is_stepped_over() {
        let dir = tempfile::tempdir().unwrap();
        eight(dir.path());
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for fill in [0, b'{', 0xff] {
            let damage = vec![fill; 3 * ENTRY_BYTES_MAX + 17];
            std::fs::write(&path, [&whole[..], &damage, &whole, &[1, 2, 3]].concat()).unwrap();
            let (file, offsets, findings) = open(&KernelDisk, dir.path()).unwrap();
            assert_eq!((offsets.len(), findings.holes, findings.bytes_cut), (8, 1, 3));
            assert_eq!(file.len, std::fs::metadata(&path).unwrap().len());
        }
    }
}
