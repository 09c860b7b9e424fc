//! Segments as real files, for shards whose clock and sockets are simulated: what is asked is done before the call returns, and told by
//! the next event.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use forebay::runtime::seam::{SegmentEvent, Segments};
use forebay::runtime::{in_folder, read_note, segment_path, write_note};

/// The folder of a shard.
pub(crate) struct Folder {
    path: PathBuf,
    files: BTreeMap<u64, (File, u64)>,
    events: VecDeque<SegmentEvent>,
}

impl Folder {
    /// Opens what lies there, as a start does.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for (segment, bytes) in in_folder(path)?.segments {
            let file = OpenOptions::new().read(true).write(true).open(segment_path(path, segment))?;
            files.insert(segment, (file, bytes));
        }
        Ok(Self { path: path.to_owned(), files, events: VecDeque::new() })
    }

    /// What the shard is told next.
    pub(crate) fn event(&mut self) -> Option<SegmentEvent> {
        self.events.pop_front()
    }

    /// Segments that there are.
    pub(crate) fn segments(&self) -> usize {
        self.files.len()
    }
}

impl Segments for Folder {
    fn create(&mut self, segment: u64, bytes: u64) {
        let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
        let made = options.open(segment_path(&self.path, segment)).and_then(|file| {
            file.set_len(bytes)?;
            self.files.insert(segment, (file, bytes));
            Ok(())
        });
        self.events.push_back(SegmentEvent::Created { segment, result: made });
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.files.get(&segment).ok_or(io::ErrorKind::NotFound)?.0.write_all_at(bytes, at)
    }

    fn sync(&mut self, token: u64, _segments: &[u64]) {
        self.events.push_back(SegmentEvent::Synced { token, result: Ok(()) });
    }

    fn free(&mut self, segment: u64) {
        self.files.remove(&segment);
        let result = match fs::remove_file(segment_path(&self.path, segment)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        self.events.push_back(SegmentEvent::Freed { segment, result });
    }

    fn set_aside(&mut self, segment: u64) {
        let aside = self.path.join(format!("{segment:020}.damaged"));
        let _ = fs::hard_link(segment_path(&self.path, segment), aside);
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        read_note(&self.path)
    }

    fn write_note(&mut self, note: &[u8]) {
        // A start knows less without it, and that is all.
        let _ = write_note(&self.path, note);
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.files.get(&segment).ok_or(io::ErrorKind::NotFound)?.0.read_exact_at(into, at)
    }

    fn existing(&self) -> Vec<(u64, u64)> {
        self.files.iter().map(|(segment, (_, bytes))| (*segment, *bytes)).collect()
    }
}
