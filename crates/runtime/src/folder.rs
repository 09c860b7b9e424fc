//! The folder of segment files: their names, its contents, its lock, and the guarantees of its file system. No function here is for
//! a shard's turn: every call may wait for the disk.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock, statfs};

use forebay_base::files;

/// The suffix of a segment file's name, after its number in twenty digits, so that names sort by number.
const SUFFIX: &str = ".segment";
/// The suffix of a segment that is set aside.
const DAMAGED: &str = ".damaged";
/// Files that are set aside in a folder, at most: they take room beside that of the spool.
const DAMAGED_MAX: usize = 8;
/// The note beside the segments, and the one that is about to replace it.
const NOTE: &str = "newest";
const NEXT_NOTE: &str = "newest.new";
/// The most that is read of a note.
const NOTE_BYTES_MAX: u64 = 4 << 10;
/// The locked file; not the folder, which cannot be opened for writing, and NFS locks nothing else.
const LOCK: &str = "lock";

const BTRFS: u64 = 0x9123_683e;
const ZFS: u64 = 0x2fc1_2fc1;
const BCACHEFS: u64 = 0xca45_1a4e;
const F2FS: u64 = 0xf2f5_2010;
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
const NFS: u64 = 0x6969;
const CIFS: u64 = 0xff53_4d42;
const SMB2: u64 = 0xfe53_4d42;

/// The file of segment `number` in `folder`.
#[must_use]
pub fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}{SUFFIX}"))
}

/// Opens a segment's file for reading. An entry with its name that is no file counts as missing, and is not waited for.
///
/// # Errors
/// The errors of `open`; [`io::ErrorKind::NotFound`]: there is no such file.
pub fn open_segment(folder: &Path, number: u64) -> io::Result<File> {
    // A pipe would block.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(segment_path(folder, number))?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// The contents of a folder of segments.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct InFolder {
    /// The segments, by number, each with the length of its file in bytes. Links to files are followed.
    pub segments: Vec<(u64, u64)>,
    /// Names of segments that are not files: folders, pipes and the like. They are left alone.
    pub others: Vec<String>,
}

/// The contents of a folder of segments. Other names than those of segments are ignored.
///
/// # Errors
/// The folder cannot be read, or the type of an entry cannot be determined, such as a link to nowhere.
pub fn in_folder(folder: &Path) -> io::Result<InFolder> {
    let mut found = InFolder::default();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).filter(|digits| digits.len() == 20);
        let Some(number) = digits.and_then(|digits| digits.parse().ok()) else { continue };
        let path = folder.join(&name);
        match fs::metadata(&path) {
            Ok(file) if file.is_file() => found.segments.push((number, file.len())),
            Ok(_) => found.others.push(name.to_string_lossy().into_owned()),
            Err(error) => return Err(named(&path, &error)),
        }
    }
    found.segments.sort_unstable();
    found.others.sort_unstable();
    Ok(found)
}

/// The segments of [`in_folder`].
///
/// # Errors
/// Like [`in_folder`].
pub fn segments_in(folder: &Path) -> io::Result<Vec<(u64, u64)>> {
    in_folder(folder).map(|found| found.segments)
}

/// An error with the path of its file.
pub(super) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The note beside the segments of a folder. `None`: there is none; empty: unreadable.
#[must_use]
pub fn read_note(folder: &Path) -> Option<Vec<u8>> {
    let path = note_path(folder);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Ok(file) if file.is_file() && file.len() <= NOTE_BYTES_MAX => Some(fs::read(path).unwrap_or_default()),
        _ => Some(Vec::new()),
    }
}

/// The file of the note beside the segments of a folder.
#[must_use]
pub fn note_path(folder: &Path) -> PathBuf {
    folder.join(NOTE)
}

/// Writes the note and replaces the previous one. A crash leaves either; after this has returned, the new one.
///
/// # Errors
/// The disk's error; the previous note stays then.
pub fn write_note(folder: &Path, note: &[u8]) -> io::Result<()> {
    let next = folder.join(NEXT_NOTE);
    let mut file = files::make_anew(&next)?;
    file.write_all(note)?;
    file.sync_data()?;
    fs::rename(next, note_path(folder))?;
    sync_folder(folder)
}

/// Gives a segment's file a second name, under which it stays when the segment is freed, until an operator removes it. Does nothing
/// if enough files are kept so, or if the file system does not support it: a copy for a later inspection is not worth stopping for.
pub(super) fn set_aside(folder: &Path, number: u64) {
    let damaged = |entry: &io::Result<fs::DirEntry>| {
        entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|end| *end == DAMAGED[1..]))
    };
    let kept = fs::read_dir(folder).map_or(DAMAGED_MAX, |entries| entries.filter(damaged).count());
    let to = folder.join(format!("{number:020}{DAMAGED}"));
    if kept < DAMAGED_MAX && !to.exists() {
        let linked = fs::hard_link(segment_path(folder, number), &to).and_then(|()| sync_folder(folder));
        match linked {
            Ok(()) => tracing::warn!("damaged segment kept as {} until it is removed by hand", to.display()),
            Err(error) => tracing::warn!("damaged segment {number} cannot be kept: {error}"),
        }
    }
}

/// Makes created, renamed or deleted entries of `folder` survive a power cut.
///
/// # Errors
/// The folder cannot be opened or synced: none of that is certain then.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The lock of a folder, held while this exists. The kernel releases it when the process ends, in any way.
#[derive(Debug)]
pub struct FolderLock(#[allow(dead_code, reason = "held, not read")] File);

impl FolderLock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: a live process has it. Others: the file cannot be made.
    pub fn take(folder: &Path) -> io::Result<Self> {
        let path = folder.join(LOCK);
        let options = File::options().create(true).truncate(false).write(true).clone();
        let file = files::open(&path, &options).map_err(|error| named(&path, &error))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self(file))
    }

    /// Keeps other users out while the folder is read, and creates nothing in it. `None`: the folder was never locked.
    ///
    /// # Errors
    /// Like [`FolderLock::take`].
    pub fn share(folder: &Path) -> io::Result<Option<Self>> {
        let path = folder.join(LOCK);
        let file = match files::open(&path, File::options().read(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| named(&path, &error))?,
        };
        flock(&file, FlockOperation::NonBlockingLockShared)?;
        Ok(Some(Self(file)))
    }
}

/// Advice for an operator on the file system below `folder` before a spool is put there. `None`: no advice.
///
/// # Errors
/// The kernel does not report the file system.
pub fn file_system_advice(folder: &Path) -> io::Result<Option<&'static str>> {
    Ok(advice(u64::from(statfs(folder)?.f_type as u32)))
}

fn advice(magic: u64) -> Option<&'static str> {
    Some(match magic {
        BTRFS | ZFS | BCACHEFS | F2FS => {
            "this file system does not keep preallocated space (copy on write): a full disk stops the spool in the middle of a segment. Put data_dir on ext4 or XFS, or keep space free"
        }
        TMPFS | RAMFS => "this file system is in memory: nothing in it survives a reboot. Put data_dir on a disk",
        NFS | CIFS | SMB2 => {
            "this is a network file system: syncs depend on the network and the server, and locks may not exclude a second service. Put data_dir on a local disk"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_number_and_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for number in [7, u64::MAX, 0, 10] {
            fs::write(segment_path(dir.path(), number), vec![0; number.min(20) as usize]).unwrap();
        }
        for other in ["lock", "7.segment", "x.segment", "0000000000000000000x.segment", "99999999999999999999.segment"]
        {
            fs::write(dir.path().join(other), b"").unwrap();
        }
        assert_eq!(segments_in(dir.path()).unwrap(), [(0, 0), (7, 7), (10, 10), (u64::MAX, 20)]);
        sync_folder(dir.path()).unwrap();
    }

    /// Findings L9 and L10: a link counts as the file that it leads to, and an entry that is no file is no segment.
    #[test]
    fn finding_l9_links_are_followed_and_pipes_are_no_segments() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, vec![0; 4_000]).unwrap();
        std::os::unix::fs::symlink(&elsewhere, segment_path(dir.path(), 1)).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, segment_path(dir.path(), 2), rustix::fs::Mode::RUSR).unwrap();
        fs::create_dir(segment_path(dir.path(), 3)).unwrap();
        let found = in_folder(dir.path()).unwrap();
        assert_eq!(found.segments, [(1, 4_000)]);
        assert_eq!(found.others, ["00000000000000000002.segment", "00000000000000000003.segment"]);
        fs::remove_file(&elsewhere).unwrap();
        let error = in_folder(dir.path()).unwrap_err().to_string();
        assert!(error.contains("00000000000000000001.segment"), "{error}");
    }

    #[test]
    fn a_note_takes_the_place_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_note(dir.path()), None);
        for note in [&b"one"[..], b"two"] {
            write_note(dir.path(), note).unwrap();
            assert_eq!(read_note(dir.path()).unwrap(), note);
        }
        fs::write(dir.path().join(NOTE), vec![1; 5_000]).unwrap();
        assert_eq!(read_note(dir.path()).unwrap(), b"", "longer than any note");
    }

    #[test]
    fn a_folder_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let first = FolderLock::take(dir.path()).unwrap();
        assert_eq!(FolderLock::take(dir.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(FolderLock::share(dir.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        let reader = FolderLock::share(dir.path()).unwrap().unwrap();
        assert!(FolderLock::share(dir.path()).unwrap().is_some(), "readers share it");
        assert_eq!(FolderLock::take(dir.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(reader);
        FolderLock::take(dir.path()).unwrap();
        assert!(FolderLock::share(tempfile::tempdir().unwrap().path()).unwrap().is_none(), "nothing is made");
    }

    #[test]
    fn what_a_file_system_does_not_keep_is_said() {
        assert!(advice(BTRFS).unwrap().contains("ext4"));
        assert!(advice(TMPFS).unwrap().contains("memory"));
        assert!(advice(0xef53).is_none() && advice(0x5846_5342).is_none(), "ext4, XFS");
        let memory = Path::new("/dev/shm");
        if fs::read_to_string("/proc/mounts").unwrap().contains(" /dev/shm tmpfs ") {
            assert_eq!(file_system_advice(memory).unwrap(), advice(TMPFS));
        }
    }
}
