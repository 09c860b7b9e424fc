//! The floor's io_uring: multishot accept and receive, provided buffers, sends gathered once a turn.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, bail};
use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::protocol::{Asks, Peer, Protocol};

const BUFFERS: u16 = 1024;
const BUFFER_BYTES: usize = 4096;
const GROUP: u16 = 0;
/// The kind of a completion: the highest byte of its user data, above slot and generation.
const ACCEPT: u64 = 1 << 56;
const RECEIVE: u64 = 2 << 56;
const SEND: u64 = 3 << 56;

/// Listens with a long queue.
pub(crate) fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("floor at {address}"))?;
    // std listens with a queue of 128, which a storm of connections overflows; a second call of listen makes it longer.
    rustix::net::listen(&listener, 4096)?;
    Ok(listener)
}

struct Connection {
    fd: RawFd,
    generation: u32,
    open: bool,
    peer: Peer,
    /// Bytes of the send in progress, from `sent` on.
    sending: Vec<u8>,
    sent: usize,
    in_flight: bool,
    /// Whether there is something to send at the end of the turn.
    dirty: bool,
    subscribed: bool,
}

/// See the module.
pub(crate) struct Server {
    ring: IoUring,
    buffers: Buffers,
    listener: TcpListener,
    protocol: Protocol,
    connections: Vec<Connection>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    subscribers: Vec<u32>,
}

impl Server {
    pub(crate) fn new(listener: TcpListener, protocol: Protocol) -> anyhow::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(16_384)
            .build(4096)
            .context("io_uring (Linux 6.1 or later)")?;
        let buffers = Buffers::new(&ring)?;
        let (connections, free, dirty, subscribers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { ring, buffers, listener, protocol, connections, free, dirty, subscribers })
    }

    /// Serves until something fails.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        self.accept()?;
        let mut completions = Vec::with_capacity(16_384);
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
                Err(error) => return Err(error.into()),
            }
            completions.extend(self.ring.completion().map(|cqe| (cqe.user_data(), cqe.result(), cqe.flags())));
            for (data, result, flags) in completions.drain(..) {
                match data >> 56 {
                    1 => self.accepted(result, flags)?,
                    2 => self.received(data, result, flags)?,
                    _ => self.sent(data, result)?,
                }
            }
            self.buffers.publish();
            self.fan_out();
            self.send_all()?;
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> anyhow::Result<()> {
        loop {
            // SAFETY: what an entry points to stays in place until its completion: receives name no memory, sends
            // point into `sending`, which is not touched while `in_flight`.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        let entry = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd())).build().user_data(ACCEPT);
        self.push(&entry)
    }

    fn accepted(&mut self, result: i32, flags: u32) -> anyhow::Result<()> {
        if !cqueue::more(flags) {
            self.accept()?;
        }
        if result < 0 {
            return Ok(());
        }
        // SAFETY: the descriptor was just accepted and lives until it is closed in `close`.
        let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(result) };
        rustix::net::sockopt::set_tcp_nodelay(socket, true)?;
        let slot = self.free.pop().unwrap_or(self.connections.len() as u32);
        if slot as usize == self.connections.len() {
            self.connections.push(Connection {
                fd: -1,
                generation: 0,
                open: false,
                peer: Peer::default(),
                sending: Vec::new(),
                sent: 0,
                in_flight: false,
                dirty: false,
                subscribed: false,
            });
        }
        let connection = &mut self.connections[slot as usize];
        (connection.fd, connection.open) = (result, true);
        connection.generation = (connection.generation + 1) & 0xff_ffff;
        self.receive(slot)
    }

    fn receive(&mut self, slot: u32) -> anyhow::Result<()> {
        let connection = &self.connections[slot as usize];
        let data = RECEIVE | u64::from(connection.generation) << 32 | u64::from(slot);
        let entry = opcode::RecvMulti::new(Fd(connection.fd), GROUP).build().user_data(data);
        self.push(&entry)
    }

    fn received(&mut self, data: u64, result: i32, flags: u32) -> anyhow::Result<()> {
        let (slot, generation) = (data as u32, (data >> 32) as u32 & 0xff_ffff);
        let buffer = cqueue::buffer_select(flags);
        let live = self.connections.get(slot as usize).is_some_and(|c| c.open && c.generation == generation);
        let mut asks = Asks::Nothing;
        if let (Some(id), true, true) = (buffer, live, result > 0) {
            let bytes = self.buffers.get(id, result as usize);
            let peer = &mut self.connections[slot as usize].peer;
            asks = self.protocol.bytes(peer, bytes)?;
            self.mark(slot);
        }
        if let Some(id) = buffer {
            self.buffers.give_back(id);
        }
        if !live {
            return Ok(());
        }
        if asks == Asks::Subscribed {
            self.subscribers.push(slot);
            self.connections[slot as usize].subscribed = true;
            self.protocol.subscribers += 1;
        }
        let out_of_buffers = result == -libc::ENOBUFS;
        if asks == Asks::Close || (result <= 0 && !out_of_buffers) {
            self.close(slot);
        } else if !cqueue::more(flags) {
            // Buffers must be visible to the kernel before the receive is armed again.
            self.buffers.publish();
            self.receive(slot)?;
        }
        Ok(())
    }

    #[inline]
    fn mark(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if !connection.dirty && !connection.peer.out.is_empty() {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Writes each message of the turn to every subscriber.
    fn fan_out(&mut self) {
        if self.protocol.fan_out.is_empty() {
            return;
        }
        for index in 0..self.subscribers.len() {
            let slot = self.subscribers[index];
            self.connections[slot as usize].peer.out.extend_from_slice(&self.protocol.fan_out);
            self.mark(slot);
        }
        self.protocol.fan_out.clear();
    }

    fn send_all(&mut self) -> anyhow::Result<()> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let connection = &mut self.connections[slot as usize];
            connection.dirty = false;
            if connection.open && !connection.in_flight {
                connection.sending.clear();
                std::mem::swap(&mut connection.sending, &mut connection.peer.out);
                connection.sent = 0;
                self.send(slot)?;
            }
        }
        self.dirty = dirty;
        Ok(())
    }

    fn send(&mut self, slot: u32) -> anyhow::Result<()> {
        let connection = &mut self.connections[slot as usize];
        connection.in_flight = true;
        let rest = &connection.sending[connection.sent..];
        let data = SEND | u64::from(connection.generation) << 32 | u64::from(slot);
        let entry = opcode::Send::new(Fd(connection.fd), rest.as_ptr(), rest.len() as u32);
        let entry = entry.flags(libc::MSG_NOSIGNAL).build().user_data(data);
        self.push(&entry)
    }

    fn sent(&mut self, data: u64, result: i32) -> anyhow::Result<()> {
        let (slot, generation) = (data as u32, (data >> 32) as u32 & 0xff_ffff);
        let connection = &mut self.connections[slot as usize];
        if connection.generation != generation {
            return Ok(());
        }
        connection.in_flight = false;
        if !connection.open {
            self.free.push(slot);
            return Ok(());
        }
        if result <= 0 {
            self.close(slot);
            return Ok(());
        }
        connection.sent += result as usize;
        if connection.sent < connection.sending.len() {
            return self.send(slot);
        }
        self.mark(slot);
        Ok(())
    }

    fn close(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        // SAFETY: the descriptor is ours and is closed once: `open` is false from here on.
        unsafe { libc::shutdown(connection.fd, libc::SHUT_RDWR) };
        // SAFETY: as above.
        unsafe { libc::close(connection.fd) };
        connection.open = false;
        connection.peer = Peer::default();
        if std::mem::take(&mut connection.subscribed) {
            self.subscribers.retain(|subscriber| *subscriber != slot);
            self.protocol.subscribers -= 1;
        }
        // With a send under way its buffer must stay; the slot is free once it has completed.
        if !connection.in_flight {
            self.free.push(slot);
        }
    }
}

/// The provided buffers and the ring that the kernel takes them from.
struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: Vec<u8>,
    tail: u16,
}

impl Buffers {
    fn new(ring: &IoUring) -> anyhow::Result<Self> {
        let bytes = usize::from(BUFFERS) * size_of::<BufRingEntry>();
        // SAFETY: an anonymous map of its own, page-aligned as the kernel wants it, kept until the process ends.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if map == libc::MAP_FAILED {
            bail!("no memory for the buffer ring");
        }
        let entries = NonNull::new(map.cast::<BufRingEntry>()).context("mmap")?;
        // SAFETY: the map is as large as BUFFERS entries and is never unmapped.
        unsafe { ring.submitter().register_buf_ring_with_flags(map as u64, BUFFERS, GROUP, 0) }
            .context("provided buffers (Linux 5.19 or later)")?;
        let mut buffers = Self { entries, memory: vec![0; usize::from(BUFFERS) * BUFFER_BYTES], tail: 0 };
        (0..BUFFERS).for_each(|id| buffers.give_back(id));
        buffers.publish();
        Ok(buffers)
    }

    #[inline]
    fn get(&self, id: u16, length: usize) -> &[u8] {
        let at = usize::from(id) * BUFFER_BYTES;
        &self.memory[at..at + length.min(BUFFER_BYTES)]
    }

    #[inline]
    fn give_back(&mut self, id: u16) {
        let at = usize::from(id) * BUFFER_BYTES;
        let address = self.memory[at..].as_mut_ptr() as u64;
        // SAFETY: the index is below BUFFERS, so the entry is within the map; the kernel reads it only once the tail
        // is published.
        let entry = unsafe { self.entries.add(usize::from(self.tail & (BUFFERS - 1))).as_mut() };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the tail lies within the map, aligned, and is shared with the kernel as an atomic.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
