//! Files of dead letters: JSON lines that are appended, synced and only then acknowledged, on an ordinary thread for each file,
//! since a disk blocks and a core must not. A file that has reached its size is renamed (`name.1`, `name.2`, …), and the oldest
//! is deleted. A failed write is tried again every second; until then no letter is acknowledged, and senders to full queues wait.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use forebay_base::files;

/// Letters of one sync, at most.
const GROUP_MAX: usize = 1_024;
/// The wait before a failed write is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The wait before a shard with a full mailbox gets its message again.
const TELL_AGAIN: Duration = Duration::from_millis(1);

/// A sink's file of letters, with its bounds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The current file; older ones are beside it.
    pub path: PathBuf,
    /// The size in bytes after which a new file begins. A longer letter has a file to itself.
    pub bytes_max: u64,
    /// The number of files, with the current one; at least 1.
    pub files: u32,
}

/// A line for a file.
#[derive(Debug)]
pub struct Letter {
    /// The shard that waits for the letter.
    pub shard: usize,
    /// The sink's place in the configuration; sinks may share a file. A bridge's file is for that bridge alone: see [`Ways::bridges`].
    pub sink: usize,
    /// The line, with its end.
    pub line: Vec<u8>,
}

/// The channels to the files; `None`: there is no file.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// The channel of each sink, by its place in the configuration.
    pub sinks: Vec<Option<Sender<Letter>>>,
    /// The channel of each bridge. A letter has the number there that the bridge's shard has given to this use of the file.
    pub bridges: Vec<Option<Sender<Letter>>>,
}

/// Called on the file's thread: this many letters of a shard and a sink, the oldest first, are on disk. `false`: the shard's
/// mailbox is full; it is called again, with the number by then.
pub type Answer = Arc<dyn Fn(usize, usize, u32) -> bool + Send + Sync>;

/// Letters that were deleted with the oldest file, of all files of the process.
static DELETED: AtomicU64 = AtomicU64::new(0);

/// The number of letters that were deleted with the oldest file, read or not.
#[must_use]
pub fn deleted() -> u64 {
    DELETED.load(Ordering::Relaxed)
}

/// Opens a file, and starts its thread, which ends when the last sender is dropped.
///
/// # Errors
/// The file, or its folder, cannot be written, or the thread cannot be made.
pub fn start(settings: Settings, answer: Answer) -> io::Result<Sender<Letter>> {
    let mut log = Log::open(settings)?;
    let (post, letters) = channel();
    std::thread::Builder::new().name("dead-letters".into()).spawn(move || serve(&mut log, &letters, &*answer))?;
    Ok(post)
}

/// Checks that a file could be opened for letters; creates no file and no folder.
///
/// # Errors
/// The obstacle.
pub fn may_write(path: &Path) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return files::open(path, OpenOptions::new().append(true)).map(drop);
    }
    // Folders that are missing are made.
    let folder = folder_of(path);
    let there = folder.ancestors().find(|folder| folder.exists()).filter(|folder| !folder.as_os_str().is_empty());
    probe(there.unwrap_or(Path::new(".")))
}

/// Creates a file in a folder, and removes it.
fn probe(folder: &Path) -> io::Result<()> {
    let probe = folder.join(format!(".forebay-probe-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&probe)?;
    std::fs::remove_file(probe)
}

/// The folder of a file.
#[must_use]
pub fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn serve(log: &mut Log, letters: &Receiver<Letter>, answer: &(dyn Fn(usize, usize, u32) -> bool + Send + Sync)) {
    let mut owed = Owed::default();
    loop {
        let first = if owed.0.is_empty() {
            letters.recv().map_err(RecvTimeoutError::from)
        } else {
            letters.recv_timeout(TELL_AGAIN)
        };
        let mut group = match first {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout) => {
                owed.tell(answer);
                continue;
            }
            // Every shard has ended: the pending acknowledgements are not needed.
            Err(RecvTimeoutError::Disconnected) => return,
        };
        group.extend(letters.try_iter().take(GROUP_MAX - 1));
        // The letters of one shard need not be adjacent; their order is that of the queue.
        let mut from = 0;
        while from < group.len() {
            match log.write(&group[from..]) {
                Ok(count) => {
                    let written = &group[from..from + count];
                    written.iter().for_each(|letter| *owed.0.entry((letter.shard, letter.sink)).or_default() += 1);
                    owed.tell(answer);
                    from += count;
                }
                Err(error) => {
                    let file = log.settings.path.display();
                    tracing::error!(%file, %error, "cannot write dead letters; retrying");
                    std::thread::sleep(AGAIN);
                }
            }
        }
    }
}

/// Letters on disk that are not acknowledged yet, by shard and sink: numbers only, so a shard with a full mailbox holds up no
/// other, and nothing grows.
#[derive(Default)]
struct Owed(BTreeMap<(usize, usize), u32>);

impl Owed {
    fn tell(&mut self, answer: &(dyn Fn(usize, usize, u32) -> bool + Send + Sync)) {
        self.0.retain(|(shard, sink), count| !answer(*shard, *sink, *count));
    }
}

/// A file and its predecessors.
struct Log {
    settings: Settings,
    file: File,
    /// Bytes that are known to be good.
    len: u64,
    /// Whether the directory entry is on disk.
    named: bool,
}

impl Log {
    fn open(settings: Settings) -> io::Result<Self> {
        files::make_dirs(&folder_of(&settings.path))?;
        let file = open(&settings.path)?;
        let mut log = Self { settings, file, len: 0, named: false };
        log.len = log.end_last_line()?;
        log.sync_folder()?;
        log.named = true;
        Ok(log)
    }

    /// The file's length, once its last line has an end. An unended line that somebody has edited or put there gets its end; a
    /// letter that a crash has torn, which was not acknowledged, is removed. A file that is nothing but that may be another one, and
    /// is kept aside.
    fn end_last_line(&mut self) -> io::Result<u64> {
        let (whole, len) = (self.whole_lines()?, self.file.metadata()?.len());
        if whole == len {
            return Ok(len);
        }
        self.file.seek(SeekFrom::Start(whole))?;
        let mut first = [0];
        self.file.read_exact(&mut first)?;
        self.file.seek(SeekFrom::Start(whole))?;
        let line = io::BufReader::new((&self.file).take(len - whole));
        // All letters are objects, and only a torn one begins as one and is not.
        let ends_early =
            |line| serde_json::from_reader::<_, serde::de::IgnoredAny>(line).is_err_and(|why| why.is_eof());
        let is_torn = first == *b"{" && ends_early(line);
        let (file, bytes) = (self.settings.path.display(), len - whole);
        if is_torn && whole == 0 {
            let aside = self.aside();
            tracing::warn!(%file, bytes, aside = %aside.display(), "the dead-letter file has no line end, and its end is missing: it is kept aside");
            std::fs::rename(&self.settings.path, aside)?;
            (self.file, self.named) = (open(&self.settings.path)?, false);
            return Ok(0);
        }
        if is_torn {
            tracing::warn!(%file, bytes, "the last dead letter is torn, its publisher or record is not done with: removed");
            self.file.set_len(whole)?;
            return Ok(whole);
        }
        tracing::warn!(%file, bytes, "the last line of the dead-letter file has no end: it is kept, and ended");
        self.file.write_all(b"\n")?;
        Ok(len + 1)
    }

    /// A name beside the file that no file has.
    fn aside(&self) -> PathBuf {
        let named = |number: u32| {
            let mut name = self.settings.path.clone().into_os_string();
            name.push(if number == 1 { ".aside".to_owned() } else { format!(".aside-{number}") });
            PathBuf::from(name)
        };
        (1..u32::MAX).map(named).find(|name| name.symlink_metadata().is_err()).unwrap_or_else(|| named(u32::MAX))
    }

    /// Bytes up to the last line's end.
    fn whole_lines(&mut self) -> io::Result<u64> {
        const PIECE: u64 = 64 * 1024;
        let mut end = self.file.metadata()?.len();
        let mut piece = Vec::new();
        while end > 0 {
            let start = end.saturating_sub(PIECE);
            piece.resize(usize::try_from(end - start).unwrap_or_default(), 0);
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(&mut piece)?;
            if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
                return Ok(start + at as u64 + 1);
            }
            end = start;
        }
        Ok(0)
    }

    /// Writes and syncs as many letters as fit into the current file, or into the next one. Returns their number.
    fn write(&mut self, letters: &[Letter]) -> io::Result<usize> {
        let Some(first) = letters.first() else { return Ok(0) };
        self.look_after()?;
        if self.len > 0 && self.len + first.line.len() as u64 > self.settings.bytes_max {
            self.rotate()?;
        }
        if !self.named {
            self.sync_folder()?;
            self.named = true;
        }
        // A failed attempt may have left a part.
        self.file.set_len(self.len)?;
        let mut buffer = Vec::new();
        let mut count = 0;
        for letter in letters {
            let more = (buffer.len() + letter.line.len()) as u64;
            if count > 0 && self.len + more > self.settings.bytes_max {
                break;
            }
            buffer.extend_from_slice(&letter.line);
            count += 1;
        }
        self.file.write_all(&buffer)?;
        self.file.sync_data()?;
        self.len += buffer.len() as u64;
        Ok(count)
    }

    /// Checks the file's name: if somebody has moved or deleted the file, a new one is created. A file that was emptied in place
    /// goes on at its end.
    fn look_after(&mut self) -> io::Result<()> {
        let own = self.file.metadata()?;
        let named = match std::fs::symlink_metadata(&self.settings.path) {
            Ok(named) => (named.dev(), named.ino()) == (own.dev(), own.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if named {
            if own.len() < self.len {
                self.len = self.end_last_line()?;
            }
            return Ok(());
        }
        // The bytes of a failed attempt were not acknowledged, and are written again.
        if own.len() > self.len {
            self.file.set_len(self.len)?;
        }
        let file = self.settings.path.display();
        tracing::info!(%file, "the dead-letter file was moved or deleted; writing a new one");
        files::make_dirs(&folder_of(&self.settings.path))?;
        self.file = open(&self.settings.path)?;
        (self.len, self.named) = (0, false);
        self.len = self.end_last_line()?;
        Ok(())
    }

    /// Rotates the files. Every step may fail, and is then repeated.
    fn rotate(&mut self) -> io::Result<()> {
        let elder = |number: u32| {
            let mut name = self.settings.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        match self.settings.files {
            // An earlier attempt has done this step.
            _ if !self.settings.path.exists() => {}
            0 | 1 => {
                let lost = lines_of(&self.settings.path);
                std::fs::remove_file(&self.settings.path)?;
                self.count_deleted(lost);
            }
            files => {
                // The oldest file is about to be overwritten, if there is one before it.
                let oldest = elder(files - 1);
                if oldest.exists() && (files == 2 || elder(files - 2).exists()) {
                    let lost = lines_of(&oldest);
                    std::fs::remove_file(&oldest)?;
                    self.count_deleted(lost);
                }
                for number in (1..files - 1).rev() {
                    if elder(number).exists() {
                        std::fs::rename(elder(number), elder(number + 1))?;
                    }
                }
                std::fs::rename(&self.settings.path, elder(1))?;
            }
        }
        self.file = open(&self.settings.path)?;
        (self.len, self.named) = (0, false);
        Ok(())
    }

    fn count_deleted(&self, letters: u64) {
        if letters > 0 {
            DELETED.fetch_add(letters, Ordering::Relaxed);
            let file = self.settings.path.display();
            tracing::warn!(%file, letters, "dead-letter files are full; deleted the oldest, with its dead letters");
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(folder_of(&self.settings.path))?.sync_all()
    }
}

/// The number of lines of a file; 0 if it cannot be read.
fn lines_of(path: &Path) -> u64 {
    let Ok(mut file) = File::open(path) else { return 0 };
    let (mut piece, mut lines) = (vec![0; 64 * 1024], 0);
    while let Ok(count @ 1..) = file.read(&mut piece) {
        lines += piece[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    lines
}

/// Opens a file for this process alone: two writers would cut each other's lines and rename each other's files.
fn open(path: &Path) -> io::Result<File> {
    let file = files::open(path, OpenOptions::new().read(true).append(true).create(true))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::other("another process is writing to it; each process needs its own file"))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(lines: &[&str]) -> Vec<Letter> {
        lines.iter().map(|line| Letter { shard: 0, sink: 0, line: format!("{line}\n").into_bytes() }).collect()
    }

    fn log(path: &Path, bytes_max: u64, files: u32) -> Log {
        Log::open(Settings { path: path.to_owned(), bytes_max, files }).expect("a log")
    }

    fn write_all(log: &mut Log, lines: &[&str]) {
        let letters = letters(lines);
        let mut from = 0;
        while from < letters.len() {
            from += log.write(&letters[from..]).expect("written");
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name().into_string().unwrap();
        let mut names: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_belongs_to_one_process_also_after_it_was_followed_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        let settings = || Settings { path: path.clone(), bytes_max: 10, files: 2 };
        let mut first = log(&path, 10, 2);
        for round in ["11111", "22222"] {
            let error = Log::open(settings()).err().expect("it is in use");
            assert!(error.to_string().contains("another process is writing to it"), "{error}");
            write_all(&mut first, &[round]);
        }
        assert_eq!(names(folder.path()), ["dead.jsonl", "dead.jsonl.1"]);
        drop(first);
        assert!(Log::open(settings()).is_ok());
    }

    #[test]
    fn files_follow_each_other_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/dead.jsonl");
        let mut log = log(&path, 10, 3);
        let before = deleted();
        write_all(&mut log, &["1111", "2222", "3333", "longer than a file", "4444", "5555", "6666"]);
        assert_eq!(names(path.parent().unwrap()), ["dead.jsonl", "dead.jsonl.1", "dead.jsonl.2"]);
        let read = |name: &str| std::fs::read_to_string(path.with_file_name(name)).unwrap();
        assert_eq!(read("dead.jsonl"), "6666\n");
        assert_eq!(read("dead.jsonl.1"), "4444\n5555\n");
        assert_eq!(read("dead.jsonl.2"), "longer than a file\n");
        // Other tests may delete letters, too.
        assert!(deleted() >= before + 3, "1111, 2222 and 3333 went");
    }

    /// Files are missing between two steps of a failed rotation, and where somebody has tidied up.
    #[test]
    fn a_file_that_is_not_there_is_no_reason_to_write_no_more() {
        for files in [1, 3] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("dead.jsonl");
            let mut log = log(&path, 10, files);
            write_all(&mut log, &["1111", "2222"]);
            std::fs::remove_file(&path).unwrap();
            write_all(&mut log, &["3333"]);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "3333\n");
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_followed_by_a_new_one_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        let read = |name: &str| std::fs::read_to_string(path.with_file_name(name)).unwrap();
        let mut log = log(&path, 1 << 20, 3);
        write_all(&mut log, &["1111"]);
        std::fs::rename(&path, path.with_file_name("by-hand")).unwrap();
        write_all(&mut log, &["2222"]);
        // A new file is put in its place, as logrotate does with `create`.
        std::fs::rename(&path, path.with_file_name("again")).unwrap();
        std::fs::write(&path, "").unwrap();
        write_all(&mut log, &["3333"]);
        assert_eq!([read("by-hand"), read("again"), read("dead.jsonl")], ["1111\n", "2222\n", "3333\n"]);
        std::fs::remove_file(&path).unwrap();
        write_all(&mut log, &["4444"]);
        assert_eq!(read("dead.jsonl"), "4444\n");
    }

    /// Finding S1: a planted link is not followed, when the thread starts or later.
    #[test]
    fn finding_s1_a_planted_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("dead.jsonl"), folder.path().join("target"));
        std::fs::write(&target, "kept").unwrap();
        let plant = || std::os::unix::fs::symlink(&target, &path).unwrap();
        plant();
        let settings = Settings { path: path.clone(), bytes_max: 10, files: 2 };
        assert!(may_write(&path).unwrap_err().to_string().contains("symbolic link"));
        assert!(Log::open(settings).err().unwrap().to_string().contains("symbolic link"));
        std::fs::remove_file(&path).unwrap();
        let mut log = log(&path, 10, 2);
        write_all(&mut log, &["1111"]);
        std::fs::remove_file(&path).unwrap();
        plant();
        let letter = Letter { shard: 0, sink: 0, line: b"2222\n".to_vec() };
        assert!(log.write(&[letter]).unwrap_err().to_string().contains("symbolic link"));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "kept");
    }

    #[test]
    fn a_file_that_was_emptied_goes_on_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        let mut log = log(&path, 1 << 20, 3);
        write_all(&mut log, &["1111"]);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        write_all(&mut log, &["2222"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2222\n");
    }

    #[test]
    fn a_shard_that_cannot_hear_is_told_later_and_holds_up_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { path: folder.path().join("dead.jsonl"), bytes_max: 1 << 20, files: 2 };
        let (tell, told) = channel();
        let deaf = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let ears = Arc::clone(&deaf);
        let answer = move |shard, _, count| {
            let hears = shard != 0 || !ears.load(std::sync::atomic::Ordering::SeqCst);
            hears && tell.send((shard, count)).is_ok()
        };
        let post = start(settings, Arc::new(answer)).expect("started");
        let hear = || told.recv_timeout(Duration::from_secs(60)).expect("an answer");
        for _ in 0..3 {
            for shard in [0, 1] {
                post.send(Letter { shard, sink: 0, line: b"line\n".to_vec() }).unwrap();
            }
            assert_eq!(hear(), (1, 1));
        }
        deaf.store(false, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(hear(), (0, 3), "nothing is lost, nothing told twice");
    }

    #[test]
    fn one_file_alone_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        write_all(&mut log(&path, 10, 1), &["1111", "2222", "3333"]);
        assert_eq!(names(folder.path()), ["dead.jsonl"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "3333\n");
    }

    #[test]
    fn a_torn_line_goes_and_what_stood_before_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        std::fs::write(&path, format!("whole\n{{\"a\":\"{}", "x".repeat(200_000))).unwrap();
        write_all(&mut log(&path, 1 << 20, 2), &["next"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\nnext\n");
    }

    /// Finding Q55: what has no line end at all may be no torn letter: it is kept aside, whatever is there already. What is whole stays where it is.
    #[test]
    fn finding_q55_a_file_without_any_line_end_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        for (there, aside) in [("{\"a\":", "dead.jsonl.aside"), ("{\"b\":[1, 2", "dead.jsonl.aside-2")] {
            std::fs::write(&path, there).unwrap();
            write_all(&mut log(&path, 1 << 20, 2), &["next"]);
            assert_eq!((read("dead.jsonl"), read(aside)), ("next\n".to_owned(), there.to_owned()));
        }
        for there in ["{\"a\":1}{\"b\":2}", "whole\n{\"a\":1} and more"] {
            std::fs::write(&path, there).unwrap();
            write_all(&mut log(&path, 1 << 20, 2), &["next"]);
            assert_eq!(read("dead.jsonl"), format!("{there}\nnext\n"));
        }
        assert_eq!(names(folder.path()), ["dead.jsonl", "dead.jsonl.aside", "dead.jsonl.aside-2"]);
    }

    /// Finding L8: a letter on a line without its end is kept, and so is a file of another program.
    #[test]
    fn finding_l8_a_last_line_without_an_end_is_kept() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(200_000));
        for there in ["whole\n{\"a\":1}", "{\"a\":1}", "no letter at all", &long] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("dead.jsonl");
            std::fs::write(&path, there).unwrap();
            let mut log = log(&path, 1 << 20, 2);
            write_all(&mut log, &["next"]);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{there}\nnext\n"));
            // The same holds for a file that somebody puts in its place while the service runs.
            std::fs::rename(&path, folder.path().join("by-hand")).unwrap();
            std::fs::write(&path, there).unwrap();
            write_all(&mut log, &["later"]);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{there}\nlater\n"));
        }
    }

    #[test]
    fn a_shard_hears_of_its_letters_when_they_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        let (tell, told) = channel();
        let settings = Settings { path: path.clone(), bytes_max: 1 << 20, files: 2 };
        let answer = move |shard: usize, sink: usize, count| sink == shard + 5 && tell.send((shard, count)).is_ok();
        let post = start(settings, Arc::new(answer)).expect("started");
        for shard in [0, 1, 0] {
            post.send(Letter { shard, sink: shard + 5, line: b"line\n".to_vec() }).unwrap();
        }
        let mut counts = [0; 2];
        while counts != [2, 1] {
            let (shard, count) = told.recv_timeout(Duration::from_secs(60)).expect("an answer");
            counts[shard] += count;
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\nline\nline\n");
    }

    #[test]
    fn a_folder_where_the_file_should_be_is_said_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { path: folder.path().to_owned(), bytes_max: 1, files: 1 };
        assert!(start(settings, Arc::new(|_, _, _| true)).is_err());
        assert!(may_write(folder.path()).is_err());
        assert!(may_write(&folder.path().join("made/when/needed")).is_ok());
        assert!(may_write(&folder.path().join("file")).is_ok());
        assert_eq!(names(folder.path()), Vec::<String>::new());
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(may_write(&folder.path().join("file/below")).is_err());
    }
}
