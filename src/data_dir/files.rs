//! A shard's segments as plain files, for use while no shard has them open: each call is complete when it returns.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::runtime::seam::{Monotonic, WallMs};
use crate::runtime::{InFolder, evidence, in_folder, open_segment, read_note, segment_path, sync_folder, write_note};
use crate::shard::refusal;
use crate::spool::{
    AppendError, Completion, Disk, Log, ReadError, RecoverError, Recovered, Refused, Settings, recover,
};

/// The folder of one shard, and the completions for its log.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    /// The wall-clock time of new entries: the time of the recovered ones, which are only rearranged here.
    wall: WallMs,
    done: Vec<Completion>,
    /// The first error.
    failed: Option<io::Error>,
    /// The reason of the last failure to open or read a file.
    unread: RefCell<Option<io::Error>>,
}

impl Files {
    pub(crate) fn new(folder: &Path) -> Self {
        let (folder, unread) = (folder.to_owned(), RefCell::default());
        Self { folder, wall: WallMs(0), done: Vec::new(), failed: None, unread }
    }

    /// Sets the time of the recovered entries, milliseconds.
    pub(crate) fn written_at(self, wall_ms: i64) -> Self {
        Self { wall: WallMs(wall_ms), ..self }
    }

    /// Lists the folder.
    ///
    /// # Errors
    /// The error, in words for people.
    pub(crate) fn listed(&self) -> Result<InFolder, String> {
        in_folder(&self.folder).map_err(|error| format!("{}: {error}", self.folder.display()))
    }

    /// Segments by number, with the length of their files.
    ///
    /// # Errors
    /// The error, in words for people.
    pub(crate) fn found(&self) -> Result<BTreeMap<u64, u64>, String> {
        Ok(self.listed()?.segments.into_iter().collect())
    }

    /// Recovers the log; nothing is changed.
    ///
    /// # Errors
    /// The error, in words for people.
    pub(crate) fn recovered(&self, shard: usize) -> Result<Recovered, String> {
        let found = self.found()?;
        recover(self, u32::try_from(shard).unwrap_or(u32::MAX), &found).map_err(|error| self.refused(&error))
    }

    /// Why the folder's contents cannot be recovered, for an operator.
    pub(crate) fn refused(&self, error: &RecoverError) -> String {
        let unread = self.unread.take().filter(|_| matches!(error, RecoverError::Read { .. }));
        let why = unread.map(|why| format!(" ({why})")).unwrap_or_default();
        refusal(&self.folder, error, &why)
    }

    /// Writes everything that was put into the log, until the log is idle.
    ///
    /// # Errors
    /// The disk's error.
    pub(crate) fn settle(&mut self, log: &mut Log) -> io::Result<()> {
        loop {
            log.flush(self, Monotonic(0), self.wall);
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if self.done.is_empty() {
                log.write_note(self);
                let written = self.failed.take().map_or(Ok(()), Err);
                return if log.is_idle() { written } else { Err(io::Error::other(Refused::Full)) };
            }
            for completion in std::mem::take(&mut self.done) {
                log.complete(self, completion);
            }
        }
    }

    /// Puts an entry into the log; if there is no place for it, writes the pending groups first.
    ///
    /// # Errors
    /// The disk's error, or that the entry does not fit.
    pub(crate) fn put<T>(
        &mut self,
        log: &mut Log,
        mut entry: impl FnMut(&mut Log) -> Result<T, Refused>,
    ) -> io::Result<T> {
        match entry(log) {
            Ok(put) => Ok(put),
            Err(Refused::Busy) => {
                self.settle(log)?;
                entry(log).map_err(io::Error::other)
            }
            Err(refused) => Err(io::Error::other(refused)),
        }
    }

    fn wrote<T>(&mut self, result: io::Result<T>) -> Option<T> {
        result.map_err(|error| self.failed = self.failed.take().or(Some(error))).ok()
    }
}

impl Disk for Files {
    fn create(&mut self, segment: u64, bytes: u64) {
        let made = File::create_new(segment_path(&self.folder, segment)).and_then(|file| {
            file.set_len(bytes)?;
            file.sync_all()?;
            sync_folder(&self.folder)
        });
        let ok = self.wrote(made).is_some();
        self.done.push(Completion::Created { segment, ok });
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError> {
        let open = OpenOptions::new().write(true).open(segment_path(&self.folder, segment));
        let written = open.and_then(|file| file.write_all_at(bytes, at));
        self.wrote(written).ok_or(AppendError::Gone)
    }

    fn sync(&mut self, token: u64, segments: &[u64]) {
        let synced =
            segments.iter().try_for_each(|segment| File::open(segment_path(&self.folder, *segment))?.sync_all());
        let ok = self.wrote(synced).is_some();
        self.done.push(Completion::Synced { token, ok });
    }

    fn free(&mut self, segment: u64) {
        let removed = fs::remove_file(segment_path(&self.folder, segment));
        self.wrote(removed);
        self.done.push(Completion::Freed { segment });
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        read_note(&self.folder)
    }

    fn write_note(&mut self, note: &[u8]) {
        let written = write_note(&self.folder, note);
        self.wrote(written);
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let read = open_segment(&self.folder, segment).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => (ReadError::Missing, error),
            _ => (ReadError::Unopened, error),
        });
        let read = read.and_then(|file| {
            evidence::read(&file, into, at, None).map_err(|error| match error.kind() {
                // The file is shorter than it was.
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => (ReadError::Damaged, error),
                _ => (ReadError::Failed, error),
            })
        });
        read.map_err(|(what, why)| {
            self.unread.replace(Some(why));
            what
        })
    }
}

/// Settings of a log that is written to here and then closed: its segments keep their size, with room for a few more.
pub(crate) fn settings(shard: usize, found: &BTreeMap<u64, u64>) -> Settings {
    Settings {
        shard: u32::try_from(shard).unwrap_or(u32::MAX),
        segment_bytes: found.values().copied().max().unwrap_or(1 << 20),
        segments_max: found.len() as u64 + 16,
        sink_bytes_max: u64::MAX,
        data_dir_id: 0,
        seed: fastrand::u64(..),
    }
}
