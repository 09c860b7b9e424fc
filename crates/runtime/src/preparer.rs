//! The helper thread of a shard that has segments: creates files before they are needed, and deletes them. Creating allocates, and
//! deleting frees, as many blocks as a segment has; both wait for the disk, so no shard does it. Results go into a queue that the
//! shard looks at each turn, and wake the shard like a letter does.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_queue::SegQueue;
use rustix::fs::{FallocateFlags, fallocate};

use super::faults::DiskFaults;
use super::folder::{named, segment_path, set_aside, sync_folder, write_note};
use super::map::Map;
use super::seam::Append;

/// Zeroes of one write.
const ZEROES_BYTES: usize = 1 << 20;
/// The number of attempts to delete a file, and the time between two of them: a second in all.
const DELETES_MAX: u32 = 5;
const DELETE_AGAIN: Duration = Duration::from_millis(250);

/// A request to the helper. As many can be under way as the shard has segments, which its log bounds.
pub(super) enum Job {
    Create {
        segment: u64,
        bytes: u64,
    },
    /// Gives a file a second name, which stays.
    SetAside {
        segment: u64,
    },
    /// Writes the note beside the segments.
    Note(Vec<u8>),
    /// Deletes a file that the shard has let go of: its last close happens here. A map goes along to be unmapped.
    Delete {
        segment: u64,
        map: Option<Map>,
    },
}

/// A result of the helper.
pub(super) enum Done {
    Created { segment: u64, result: io::Result<(File, Option<Map>)> },
    Deleted { segment: u64, result: io::Result<()> },
}

/// The shard's end.
pub(super) struct Preparer {
    /// `None` when this is being dropped, like the thread.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    done: Arc<SegQueue<Done>>,
}

struct Worker {
    folder: PathBuf,
    append: Append,
    zeroed: bool,
    faults: Option<Arc<DiskFaults>>,
    /// A second descriptor of each file: the last close of a deleted file frees its blocks, and must happen here.
    files: HashMap<u64, File>,
    /// Files that could not be deleted, the number of attempts, and the time of the next one.
    undeleted: VecDeque<(u64, u32, Instant)>,
    done: Arc<SegQueue<Done>>,
    wake: Box<dyn Fn() + Send>,
}

impl Preparer {
    /// Starts the thread; `wake` is called on it after each [`Done`]. Dropping the returned value waits for the thread, which
    /// finishes all requests first.
    pub(super) fn start(
        name: String,
        folder: PathBuf,
        (append, zeroed): (Append, bool),
        faults: Option<Arc<DiskFaults>>,
        existing: HashMap<u64, File>,
        wake: Box<dyn Fn() + Send>,
    ) -> io::Result<Self> {
        let (jobs, asked) = channel();
        let done = Arc::new(SegQueue::new());
        let (undeleted, told) = (VecDeque::new(), Arc::clone(&done));
        let worker = Worker { folder, append, zeroed, faults, files: existing, undeleted, done: told, wake };
        let thread = std::thread::Builder::new().name(name).spawn(move || worker.run(&asked))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), done })
    }

    /// Sends a request to the thread. False: the thread is gone.
    pub(super) fn ask(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }

    pub(super) fn take(&self) -> Option<Done> {
        self.done.pop()
    }

    pub(super) fn has_done(&self) -> bool {
        !self.done.is_empty()
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn run(mut self, asked: &Receiver<Job>) {
        loop {
            let job = match self.undeleted.front() {
                None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((_, _, at)) => asked.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match job {
                Ok(Job::Create { segment, bytes }) => {
                    let result = self.create(segment, bytes);
                    self.tell(Done::Created { segment, result });
                }
                Ok(Job::SetAside { segment }) => set_aside(&self.folder, segment),
                Ok(Job::Note(note)) => {
                    // Without the note the next process only knows less.
                    if let Err(error) = write_note(&self.folder, &note) {
                        tracing::warn!("{}: the note of the newest segment: {error}", self.folder.display());
                    }
                }
                Ok(Job::Delete { segment, map }) => {
                    drop(map);
                    self.delete(segment, 1);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some((segment, tries, _)) = self.undeleted.pop_front_if(|(_, _, at)| *at <= Instant::now()) {
                self.delete(segment, tries + 1);
            }
        }
    }

    fn tell(&self, done: Done) {
        self.done.push(done);
        (self.wake)();
    }

    fn create(&mut self, segment: u64, bytes: u64) -> io::Result<(File, Option<Map>)> {
        let path = segment_path(&self.folder, segment);
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let made = self.furnish(&file, bytes).and_then(|map| Ok((file.try_clone()?, map)));
        match made {
            Ok((second, map)) => {
                self.files.insert(segment, second);
                Ok((file, map))
            }
            Err(error) => {
                // Half a segment is of no use. If it cannot be deleted either, the next process finds it empty.
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn furnish(&self, file: &File, bytes: u64) -> io::Result<Option<Map>> {
        if let Some(faults) = &self.faults {
            faults.create()?;
        }
        fallocate(file, FallocateFlags::empty(), 0, bytes)?;
        let map = match self.append {
            Append::Written if self.zeroed => {
                write_zeroes(file, bytes)?;
                None
            }
            Append::Written => None,
            Append::Mapped => {
                let map = Map::new(file, bytes)?;
                if !map.populate()? {
                    write_zeroes(file, bytes)?;
                }
                Some(map)
            }
        };
        // Length and blocks; and the pages that populating has made dirty, or the first group would carry them all.
        file.sync_all()?;
        sync_folder(&self.folder)?;
        Ok(map)
    }

    fn delete(&mut self, segment: u64, tries: u32) {
        let failing = self.faults.as_ref().map_or(Ok(()), |faults| faults.delete());
        let result = match failing.and_then(|()| std::fs::remove_file(segment_path(&self.folder, segment))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(_) if tries < DELETES_MAX => {
                return self.undeleted.push_back((segment, tries, Instant::now() + DELETE_AGAIN));
            }
            result => result,
        };
        self.files.remove(&segment);
        // If this fails, a power cut may restore the file; the next process finds it, and nothing depends on it.
        let _ = sync_folder(&self.folder);
        self.tell(Done::Deleted { segment, result });
    }
}

/// Writes the whole file once, so that later writes go over blocks that have been written: their syncs then change
/// nothing in the file system's own records.
fn write_zeroes(file: &File, bytes: u64) -> io::Result<()> {
    let zeroes = vec![0; ZEROES_BYTES];
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(ZEROES_BYTES as u64);
        file.write_all_at(&zeroes[..length as usize], at)?;
        at += length;
    }
    Ok(())
}

/// Opens the existing files, twice each, and makes them durable: a process that was killed may have left bytes in the page cache
/// alone, and no bytes may be acted on that a power cut can still take back.
pub(super) fn open_existing(folder: &Path) -> io::Result<Vec<(u64, u64, File, File)>> {
    let mut opened = Vec::new();
    for (segment, bytes) in super::folder::segments_in(folder)? {
        let path = segment_path(folder, segment);
        let failed = |error: io::Error| named(&path, &error);
        let file = File::options().read(true).write(true).open(&path).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let second = file.try_clone()?;
        opened.push((segment, bytes, file, second));
    }
    sync_folder(folder)?;
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::super::folder::read_note;
    use super::*;

    #[test]
    fn what_was_asked_is_done_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_owned();
        let start = (Append::Written, false);
        let preparer =
            Preparer::start("test".to_owned(), folder, start, None, HashMap::new(), Box::new(|| {})).unwrap();
        for segment in 0..4 {
            assert!(preparer.ask(Job::Create { segment, bytes: 1 << 20 }));
        }
        assert!(preparer.ask(Job::Note(b"the last".to_vec())));
        drop(preparer);
        assert_eq!(read_note(dir.path()).as_deref(), Some(&b"the last"[..]));
    }
}
