//! Listening sockets: one per shard and address, all on the same port, so that the kernel spreads connections. All shards share the
//! socket of a Unix path, and the first to accept gets the connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::bind::{self, Bind, SocketFile};
use super::seam::{KeepAlive, ListenerId};
use forebay_base::in_use;

/// Length of the queue of connections that were not accepted yet; the kernel caps it at `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// Time that sent bytes may stay unacknowledged. Applies also to a peer that does not read.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(180);

/// A listening socket of a shard.
#[derive(Debug)]
pub struct Listener {
    id: ListenerId,
    /// The file of a Unix socket: its path is removed with the last listener, and before the socket closes (fields are dropped in
    /// this order), so that a socket bound to the path afterwards keeps it.
    file: Option<Arc<SocketFile>>,
    socket: OwnedFd,
}

impl Listener {
    pub(super) fn id(&self) -> ListenerId {
        self.id
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether peers have no address.
    pub(super) fn is_unix(&self) -> bool {
        self.file.is_some()
    }
}

/// The listening sockets of all shards, bound once when the process starts. They listen at once: connections before the shards run
/// wait in the queue.
#[derive(Debug)]
pub struct Listeners {
    binds: Vec<Bind>,
    per_shard: Vec<Vec<Listener>>,
}

impl Listeners {
    /// Binds every address once for each shard. Port 0 gives a free port, the same for all shards. With each address, the
    /// permissions of its file, if it is a Unix socket.
    ///
    /// # Errors
    /// The error names the address. `AddrInUse` also if another instance of this program holds the port: shards share it by
    /// `SO_REUSEPORT`, which would let a second instance silently take half of the devices, so each address is bound once without
    /// that option first.
    pub fn bind(binds: &[(Bind, u32)], shards: usize) -> io::Result<Self> {
        Self::bind_with(binds, shards, in_use::ATTEMPTS)
    }

    /// Binds one more address, once for each shard: the listener `id`. `all`: all addresses that are listened on together with it.
    ///
    /// # Errors
    /// Like [`Listeners::bind`].
    pub fn bind_one(id: ListenerId, one: (&Bind, u32), all: &[SocketAddr], shards: usize) -> io::Result<Self> {
        let mut per_shard: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
        let bound = bind_any(id, one, all, &mut per_shard, in_use::ATTEMPTS)?;
        Ok(Self { binds: vec![bound], per_shard })
    }

    fn bind_with(binds: &[(Bind, u32)], shards: usize, attempts: u32) -> io::Result<Self> {
        let mut bound = Vec::with_capacity(binds.len());
        let mut per_shard: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
        let all: Vec<SocketAddr> = binds.iter().filter_map(|(bind, _)| bind.tcp()).collect();
        for (index, (bind, mode)) in binds.iter().enumerate() {
            let id = ListenerId(u16::try_from(index).map_err(|_| io::Error::other("more than 65536 listeners"))?);
            bound.push(bind_any(id, (bind, *mode), &all, &mut per_shard, attempts)?);
        }
        Ok(Self { binds: bound, per_shard })
    }

    /// The addresses of the listeners, in the order of the configuration, with the real port.
    #[must_use]
    pub fn binds(&self) -> Vec<Bind> {
        self.binds.clone()
    }

    /// The internet addresses of the listeners, in the order of the configuration.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.binds.iter().filter_map(Bind::tcp).collect()
    }

    /// The sockets of each shard, by the shard's index.
    #[must_use]
    pub fn into_shards(self) -> Vec<Vec<Listener>> {
        self.per_shard
    }
}

fn bind_any(
    id: ListenerId,
    (bind, mode): (&Bind, u32),
    all: &[SocketAddr],
    per_shard: &mut [Vec<Listener>],
    attempts: u32,
) -> io::Result<Bind> {
    match bind {
        Bind::Tcp(addr) => bind_to((id, *addr), all, per_shard, attempts).map(Bind::Tcp),
        Bind::Unix(path) => bind_path(id, (path, mode), per_shard, attempts).map(|()| bind.clone()),
    }
}

/// Binds one socket for all shards.
fn bind_path(
    id: ListenerId,
    (path, mode): (&Path, u32),
    per_shard: &mut [Vec<Listener>],
    attempts: u32,
) -> io::Result<()> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()));
    let (socket, file) = in_use::wait(io::ErrorKind::AddrInUse, attempts, || bind::open(path, mode)).map_err(named)?;
    socket.listen(BACKLOG).map_err(named)?;
    let file = Arc::new(file);
    for sockets in per_shard {
        let socket = socket.try_clone().map_err(named)?.into();
        sockets.push(Listener { id, socket, file: Some(Arc::clone(&file)) });
    }
    Ok(())
}

/// A socket for each shard, and the index of each.
fn bind_to(
    (id, addr): (ListenerId, SocketAddr),
    all: &[SocketAddr],
    per_shard: &mut [Vec<Listener>],
    attempts: u32,
) -> io::Result<SocketAddr> {
    // `[::]` also takes IPv4, unless IPv4 has a listener of its own on that port.
    let only_v6 = addr.is_ipv6() && all.iter().any(|other| other.is_ipv4() && other.port() == addr.port());
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}"));
    probe(addr, only_v6, attempts).map_err(named)?;
    let mut local = addr;
    for sockets in per_shard {
        let socket = open(local, only_v6, true).map_err(named)?;
        socket.listen(BACKLOG).map_err(named)?;
        local = local_addr(&socket).map_err(named)?;
        sockets.push(Listener { id, socket: socket.into(), file: None });
    }
    Ok(local)
}

fn open(addr: SocketAddr, only_v6: bool, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    // Accepted sockets inherit the option: answers are gathered once a turn, so Nagle's algorithm would only add delay.
    socket.set_tcp_nodelay(true)?;
    keep_alive(&socket, Some(KeepAlive::default()))?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// A peer that disappears silently is noticed: when nothing is sent, by TCP's keep-alive; when bytes are sent, by the time that
/// they may stay unacknowledged. Accepted sockets inherit both from the listener.
pub(super) fn keep_alive(socket: &Socket, keep_alive: Option<KeepAlive>) -> io::Result<()> {
    if let Some(KeepAlive { idle, interval, probes }) = keep_alive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes))?;
    }
    // Linux ends a connection without an answer to its probes after this time, however many there were.
    let unacknowledged_max = match keep_alive {
        Some(other) if other != KeepAlive::default() => other.idle.saturating_add(other.interval * other.probes),
        _ => UNACKNOWLEDGED_MAX,
    };
    socket.set_tcp_user_timeout(Some(unacknowledged_max))
}

/// Binds without `SO_REUSEPORT`, which fails while another socket listens there.
fn probe(addr: SocketAddr, only_v6: bool, attempts: u32) -> io::Result<()> {
    in_use::wait(io::ErrorKind::AddrInUse, attempts, || open(addr, only_v6, false).map(drop))
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an internet address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::thread::sleep;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn tcp<const N: usize>(addrs: [SocketAddr; N]) -> [(Bind, u32); N] {
        addrs.map(|addr| (addr.into(), 0))
    }

    #[test]
    fn all_shards_share_one_free_port() {
        let listeners = Listeners::bind_with(&tcp([ANY, ANY]), 3, 1).unwrap();
        let addrs = listeners.local_addrs();
        assert_ne!(addrs[0].port(), 0);
        assert_ne!(addrs[0].port(), addrs[1].port());
        let shards = listeners.into_shards();
        assert_eq!(shards.len(), 3);
        for sockets in &shards {
            assert_eq!(sockets.iter().map(Listener::id).collect::<Vec<_>>(), [ListenerId(0), ListenerId(1)]);
        }
        TcpStream::connect(addrs[1]).unwrap();
    }

    /// X57: keep-alive and TCP_USER_TIMEOUT are those of the listening socket.
    #[test]
    fn accepted_sockets_inherit_what_notices_a_dead_peer() {
        let socket = open(ANY, false, false).unwrap();
        socket.listen(1).unwrap();
        let _peer = TcpStream::connect(local_addr(&socket).unwrap()).unwrap();
        let (accepted, _) = socket.accept().unwrap();
        assert!(accepted.keepalive().unwrap() && accepted.tcp_nodelay().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), KeepAlive::default().idle);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_MAX));
    }

    #[test]
    fn a_second_instance_is_noticed_and_named() {
        let first = Listeners::bind_with(&tcp([ANY]), 2, 1).unwrap();
        let addr = first.local_addrs()[0];
        let error = Listeners::bind_with(&tcp([addr]), 2, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
    }

    /// Trap 4: the port of a killed instance is free again only after a moment.
    #[test]
    fn trap_4_the_port_of_a_dying_instance_is_waited_for() {
        let first = Listeners::bind_with(&tcp([ANY]), 1, 1).unwrap();
        let addr = first.local_addrs()[0];
        let dying = std::thread::spawn(move || {
            sleep(Duration::from_millis(150));
            drop(first);
        });
        Listeners::bind_with(&tcp([addr]), 1, 600).unwrap();
        dying.join().unwrap();
    }

    #[test]
    fn trap_4_a_unix_socket_of_a_dying_instance_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let bind = [(Bind::Unix(dir.path().join("mqtt.sock")), 0o600)];
        let first = Listeners::bind(&bind, 1).unwrap();
        let dying = std::thread::spawn(move || {
            sleep(Duration::from_millis(150));
            drop(first);
        });
        Listeners::bind_with(&bind, 1, 600).unwrap();
        dying.join().unwrap();
    }

    #[test]
    fn a_unix_socket_is_one_for_all_shards_and_its_path_goes_with_it() {
        use std::os::unix::fs::{MetadataExt as _, symlink};
        use std::os::unix::net::UnixStream;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mqtt.sock");
        let bind = [(Bind::Unix(path.clone()), 0o660)];
        let first = Listeners::bind(&bind, 3).unwrap();
        assert_eq!((first.binds(), first.local_addrs()), (vec![bind[0].0.clone()], Vec::new()));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        UnixStream::connect(&path).unwrap();
        let error = Listeners::bind_with(&bind, 1, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "somebody listens there");
        let mut shards = first.into_shards();
        shards.pop();
        assert!(path.exists(), "two are left");
        drop(shards);
        assert!(!path.exists());

        // The socket file of a killed process is replaced; a file that is no socket is not.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Listeners::bind(&bind, 1).unwrap());
        std::fs::write(&path, "mine").unwrap();
        let error = Listeners::bind_with(&bind, 1, 1).unwrap_err();
        assert!(error.to_string().contains("mqtt.sock: there is a file that is not a socket"), "{error}");
        std::fs::remove_file(&path).unwrap();
        symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert!(Listeners::bind_with(&bind, 1, 1).is_err(), "a link is not followed");
    }
}
