//! The address of a listener: an internet address, or the path of a Unix socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use socket2::{Domain, SockAddr, Socket, Type};

use super::listen::BACKLOG;
use forebay_base::in_use;

/// The prefix of a Unix socket's path in the configuration.
pub const UNIX: &str = "unix:";

/// The place of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// An internet address; port 0: any free one.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A free port, for this machine only.
impl Default for Bind {
    fn default() -> Self {
        Self::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Bind {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl Bind {
    /// The internet address, if it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }

    /// Whether only processes of this machine can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.tcp().is_none_or(|addr| addr.ip().is_loopback())
    }
}

/// `SocketFile` removes the path of a Unix socket when it is dropped: once the last of its sockets is closed.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A Unix socket that listens at a path, for a thread that is no shard. See [`open`].
///
/// # Errors
/// `AddrInUse`: another process listens there for longer than a process that was killed would, or the path is another kind of file.
pub fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let (socket, file) = in_use::wait(io::ErrorKind::AddrInUse, in_use::ATTEMPTS, || open(path, mode))?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok((UnixListener::from(OwnedFd::from(socket)), file))
}

/// A Unix socket bound to a path, with the permissions of its file. A socket without a listening process is replaced.
///
/// # Errors
/// `AddrInUse`: another process listens there, or the path is another kind of file.
pub(super) fn open(path: &Path, mode: u32) -> io::Result<(Socket, SocketFile)> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "there is a file that is not a socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile(path.to_owned());
    permit(path, mode)?;
    Ok((socket, file))
}

/// Sets the permissions of a socket's file, but not of another file that has replaced it.
fn permit(path: &Path, mode: u32) -> io::Result<()> {
    let file = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
        return Err(io::Error::other("another file has taken the socket's place"));
    }
    let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::set_permissions(handle, std::fs::Permissions::from_mode(mode))
}
