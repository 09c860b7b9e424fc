//! Files that Forebay creates, and files that replace others: no link is followed, created files are private to the user, and after
//! a crash a file has its old content or its new content.
//!
//! A privileged command may work in a directory that others may write (`/etc/forebay` is writable for the service's
//! group). So once the directory is open, each step goes by a handle or by a name in that directory.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

/// Permissions of a file that is made.
pub const FILE_MODE: u32 = 0o600;
/// Permissions of a directory that is made.
const DIR_MODE: u32 = 0o700;
/// The most bytes of the replaced file's name in the name of a new file.
const NAME_BYTES_MAX: usize = 128;
/// Names that are tried for a new file before the directory is given up.
const NAMES_MAX: usize = 16;

/// From now on, files that this process creates belong to its user alone.
pub fn keep_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Makes a directory and missing ones above it.
///
/// # Errors
/// The error of `mkdir`.
pub fn make_dirs(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
}

/// Opens a regular file, which `options` may create.
///
/// # Errors
/// The error of `open`; or the path is a symbolic link or another kind of file.
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    // A FIFO would block.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = options.clone();
    options.mode(FILE_MODE).custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
    regular(options.open(path).map_err(link)?)
}

/// Creates a file that must not exist yet.
///
/// # Errors
/// The error of `open` or `write`; there is no file then.
pub fn make(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = open(path, OpenOptions::new().write(true).create_new(true))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| dir_of(path)?.0.sync_all());
    written.inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// Creates a file that will replace another, under a name of our own: a file that a crash has left there is removed, of any kind.
///
/// # Errors
/// The error of `open`; or a directory with contents has the name.
pub fn make_anew(path: &Path) -> io::Result<File> {
    let options = OpenOptions::new().write(true).create_new(true).clone();
    match open(path, &options) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path).or_else(|_| std::fs::remove_dir(path))?;
            open(path, &options)
        }
        made => made,
    }
}

/// Gives a file of our own this content, whether or not the file exists.
///
/// # Errors
/// The directory cannot be written. The old file stays.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (dir, name) = dir_of(path)?;
    let fresh = Fresh::make(&dir, &name, FILE_MODE)?;
    fresh.fill(bytes)?;
    fresh.place()?;
    dir.sync_all()
}

/// Reads a small file of our own in JSON; returns the default if there is no file.
///
/// # Errors
/// The file cannot be read, or is not in this program's format; in words.
pub fn read_json<T: DeserializeOwned + Default>(path: &Path) -> Result<T, String> {
    let said = |why: String| format!("{}: {why}", path.display());
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| said(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(said(error.to_string())),
    }
}

/// A file with content to change, in its state when it was opened.
#[derive(Debug)]
pub struct Original {
    dir: File,
    name: OsString,
    known: Metadata,
    text: String,
}

impl Original {
    /// Reads a file.
    ///
    /// # Errors
    /// The error of `open` or `read`; or the path is a symbolic link or another kind of file, or the file is not UTF-8.
    pub fn read(path: &Path) -> io::Result<Self> {
        let (dir, name) = dir_of(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&dir, &name, flags, Mode::empty()).map_err(|error| link(error.into()))?;
        let mut file = regular(file.into())?;
        let known = file.metadata()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(Self { dir, name, known, text })
    }

    /// The content of the file when it was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Replaces the file by another one with the same owner, group and permissions.
    ///
    /// # Errors
    /// The directory cannot be written, or the owner cannot be set. The old file stays.
    pub fn replace(&self, text: &str) -> io::Result<()> {
        self.put(&self.name, text)
    }

    /// Copies the content that was read to another file beside this one, with the same owner, group and permissions: see [`kept`].
    ///
    /// # Errors
    /// Like [`Original::replace`].
    pub fn keep(&self) -> io::Result<()> {
        self.put(&kept_name(&self.name), &self.text)
    }

    fn put(&self, name: &OsStr, text: &str) -> io::Result<()> {
        let fresh = Fresh::make(&self.dir, name, FILE_MODE)?;
        let made = fresh.file().metadata()?;
        if (made.uid(), made.gid()) != (self.known.uid(), self.known.gid()) {
            fchown(fresh.file(), Some(self.known.uid()), Some(self.known.gid()))?;
        }
        fresh.file().set_permissions(Permissions::from_mode(self.known.mode() & 0o777))?;
        fresh.fill(text.as_bytes())?;
        fresh.place()?;
        self.dir.sync_all()
    }
}

/// The path of the copy that [`Original::keep`] makes: the same directory, the name followed by `.bak`.
#[must_use]
pub fn kept(path: &Path) -> PathBuf {
    path.with_file_name(kept_name(path.file_name().unwrap_or_default()))
}

fn kept_name(name: &OsStr) -> OsString {
    let mut kept = name.to_owned();
    kept.push(".bak");
    kept
}

/// A new file beside the one that it will replace: removed if it is dropped before that.
#[derive(Debug)]
pub struct Fresh<'a> {
    dir: &'a File,
    name: &'a OsStr,
    fresh: OsString,
    file: File,
    is_placed: bool,
}

impl<'a> Fresh<'a> {
    /// Creates a file with these permissions, less the umask, in a directory, to replace the file `name` there.
    ///
    /// # Errors
    /// The error of `open`.
    pub fn make(dir: &'a File, name: &'a OsStr, mode: u32) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut tried = 0;
        loop {
            let mut fresh = OsString::from(".");
            // A name may have 255 bytes, and this one has to fit wherever the replaced file's does.
            fresh.push(OsStr::from_bytes(&name.as_bytes()[..name.len().min(NAME_BYTES_MAX)]));
            fresh.push(format!(".{:016x}.new", fastrand::u64(..)));
            match openat(dir, &fresh, flags, Mode::from_raw_mode(mode)) {
                Ok(file) => return Ok(Self { dir, name, fresh, file: file.into(), is_placed: false }),
                Err(rustix::io::Errno::EXIST) if tried < NAMES_MAX => tried += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Writes the content and syncs it.
    ///
    /// # Errors
    /// The error of `write` or `fsync`.
    pub fn fill(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes)?;
        self.file.sync_all()
    }

    /// Replaces the other file. The caller syncs the directory.
    ///
    /// # Errors
    /// The error of `rename`.
    pub fn place(mut self) -> io::Result<()> {
        renameat(self.dir, &self.fresh, self.dir, self.name)?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = unlinkat(self.dir, &self.fresh, AtFlags::empty());
        }
    }
}

/// The directory of a path, and its name there.
///
/// # Errors
/// The path ends in no name, or the directory cannot be opened.
pub fn dir_of(path: &Path) -> io::Result<(File, OsString)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    let dir =
        path.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned);
    Ok((File::open(dir)?, name))
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// The kernel's error for a link that was not followed, in words.
fn link(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return io::Error::other("it is a symbolic link, which is not followed here; name the file that it leads to");
    }
    error
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn owner_and_permissions_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let original = Original::read(&file).unwrap();
        assert_eq!(original.text(), "old");
        original.replace("new").unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("new", 0o640));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        original.keep().unwrap();
        let kept = kept(&file);
        assert_eq!((fs::read_to_string(&kept).unwrap().as_str(), mode(&kept)), ("old", 0o640));
        assert_eq!(kept.file_name().unwrap(), "a.toml.bak");
    }

    /// Finding S1: whatever is planted, the file that a link leads to is neither read nor written.
    #[test]
    fn finding_s1_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, file) = (dir.path().join("target"), dir.path().join("file"));
        fs::write(&target, "kept").unwrap();
        symlink(&target, &file).unwrap();
        let is_link = |error: io::Error| assert!(error.to_string().contains("symbolic link"), "{error}");
        is_link(Original::read(&file).unwrap_err());
        is_link(open(&file, OpenOptions::new().append(true).create(true)).unwrap_err());
        assert_eq!(make(&file, b"new").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        // A temporary file's name may be in use.
        replace(&file, b"new").unwrap();
        assert!(fs::symlink_metadata(&file).unwrap().is_file());
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), mode(&file)), ("kept", 0o600));

        // The replacement gets the owner and permissions of the file that was read, whatever is there by now.
        let original = Original::read(&file).unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o666)).unwrap();
        fs::remove_file(&file).unwrap();
        symlink(&target, &file).unwrap();
        original.replace("more").unwrap();
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), mode(&file)), ("kept", 0o600));

        let (fifo, text) = (dir.path().join("fifo"), "not a regular file");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(Original::read(&fifo).unwrap_err().to_string().contains(text));
    }

    #[test]
    fn what_cannot_be_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        fs::write(&file, "old").unwrap();
        let original = Original::read(&file).unwrap();
        // A directory in its place cannot be replaced.
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(original.replace("new").is_err() && replace(&file, b"new").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn directories_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        make_dirs(&dir.path().join("a/b")).unwrap();
        assert_eq!((mode(&dir.path().join("a")), mode(&dir.path().join("a/b"))), (0o700, 0o700));
        make(&dir.path().join("a/c"), b"").unwrap();
        assert_eq!(mode(&dir.path().join("a/c")), 0o600);
    }
}
