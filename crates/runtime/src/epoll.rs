//! The driver for kernels and containers without io_uring: level-triggered `epoll` for sockets, a few ordinary threads for files (`files`).
//!
//! `Epoll` answers as a ring does. Sends and connects are tried at once, and other operations when their socket is ready; an
//! operation that would block is kept, and its socket is watched. A busy shard therefore makes one `epoll_wait` per turn and one
//! call per read and write, where a ring makes one call for all of them.
//!
//! A socket is watched for what its operations want. The end of an operation does not change that, because the next operation is usually of
//! the same kind; an event that no operation wants removes the socket from the set.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use io_uring::types::BufRingEntry;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::driver::{Completion, Driver, Kind, Tag};
use super::files::{Files, Job, What};
use super::seam::Monotonic;
use super::sockets::{Input, Output, Socket, Stock, result};

/// The most events of one wait.
const EVENTS_MAX: usize = 1024;
/// Receives from one socket after one wait; the next wait reports the socket again if bytes are left.
const RECEIVES_MAX: usize = 16;
/// Connections accepted on one listener after one wait.
const ACCEPTS_MAX: usize = 64;

/// The upper half of an event's `u64`: the owner of the slot in the lower half.
const OF_CONNECTION: u64 = 0;
const OF_LISTENER: u64 = 1 << 32;
const OF_BELL: u64 = 2 << 32;
const OF_FILES: u64 = 3 << 32;

/// The place of a socket: a connection's slot, or a listener's index.
#[derive(Clone, Copy, Debug)]
struct Place {
    is_listener: bool,
    slot: u32,
}

impl Place {
    fn of(tag: Tag) -> Self {
        Self { is_listener: tag.kind == Kind::Accept, slot: tag.slot }
    }

    fn data(self) -> EventData {
        EventData::new_u64(if self.is_listener { OF_LISTENER } else { OF_CONNECTION } | u64::from(self.slot))
    }
}

pub(super) struct Epoll {
    set: OwnedFd,
    events: Vec<Event>,
    connections: Vec<Socket>,
    listeners: Vec<Socket>,
    stock: Option<Stock>,
    answers: VecDeque<Completion>,
    /// Operations that have not been answered for the last time, or that have and the answer is not reaped yet.
    in_flight: usize,
    wake_at: Option<Monotonic>,
    bell: Option<RawFd>,
    files: Option<Files>,
}

impl Driver for Epoll {
    fn new(_entries: u32) -> io::Result<Self> {
        Ok(Self {
            set: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
            connections: Vec::new(),
            listeners: Vec::new(),
            stock: None,
            answers: VecDeque::new(),
            in_flight: 0,
            wake_at: None,
            bell: None,
            files: None,
        })
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    unsafe fn register_buffers(&mut self, addr: u64, entries: u16) -> io::Result<()> {
        self.stock = Some(Stock { entries: addr as *const BufRingEntry, count: entries, head: 0 });
        Ok(())
    }

    fn open_files(&mut self, shard: usize) -> io::Result<()> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&self.set, &bell, EventData::new_u64(OF_FILES), EventFlags::IN)?;
        self.files = Some(Files::start(shard, bell)?);
        Ok(())
    }

    fn accept(&mut self, socket: BorrowedFd<'_>, tag: Tag) {
        self.begin_accept(socket, tag, Input::Always);
    }

    fn accept_once(&mut self, socket: BorrowedFd<'_>, tag: Tag) {
        self.begin_accept(socket, tag, Input::Once);
    }

    fn receive_once(&mut self, socket: BorrowedFd<'_>, tag: Tag) {
        self.begin(socket, tag, |socket| socket.input = Input::Once);
    }

    fn receive_always(&mut self, socket: BorrowedFd<'_>, tag: Tag) {
        self.begin(socket, tag, |socket| socket.input = Input::Always);
    }

    fn poll_hang_up(&mut self, socket: BorrowedFd<'_>, tag: Tag) {
        self.begin(socket, tag, |socket| socket.hang_up = true);
    }

    fn cancel(&mut self, target: Tag, tag: Tag) {
        let is_found = self.end(target);
        if is_found {
            self.answers.push_back(Completion::last(target, -libc::ECANCELED));
        }
        self.answer_at_once(tag, if is_found { 0 } else { -libc::ENOENT });
    }

    fn cancel_everything(&mut self) {
        for (is_listener, slots) in [(false, self.connections.len()), (true, self.listeners.len())] {
            for slot in 0..slots as u32 {
                self.cancel_all_of(Place { is_listener, slot });
            }
        }
        if self.bell.take().is_some() {
            self.answers.push_back(Completion::last(Tag::of(Kind::Bell), -libc::ECANCELED));
        }
        if let Some(files) = &self.files {
            files.cancel(&mut self.answers);
        }
        self.answer_at_once(Tag::of(Kind::Ignored), 0);
    }

    fn forget(&mut self, socket: BorrowedFd<'_>, tag: Tag) {
        let Some(known) = self.socket(Place::of(tag)) else { return };
        if mem::replace(known, Socket::NONE).watched.is_some() {
            // An error means that the socket is not in the set.
            let _ = epoll::delete(&self.set, socket);
        }
    }

    fn poll_bell(&mut self, bell: BorrowedFd<'_>) {
        self.in_flight += 1;
        match epoll::add(&self.set, bell, EventData::new_u64(OF_BELL), EventFlags::IN) {
            Ok(()) | Err(Errno::EXIST) => self.bell = Some(bell.as_raw_fd()),
            Err(error) => self.answers.push_back(Completion::last(Tag::of(Kind::Bell), -error.raw_os_error())),
        }
    }

    fn bell_armed(&self) -> bool {
        self.bell.is_some()
    }

    fn wake_by(&mut self, at: Monotonic) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    unsafe fn send(&mut self, socket: BorrowedFd<'_>, bytes: *const u8, length: u32, tag: Tag) {
        self.begin_output(socket, tag, Output::Bytes(bytes, length));
    }

    unsafe fn send_pieces(&mut self, socket: BorrowedFd<'_>, header: *const libc::msghdr, tag: Tag) {
        self.begin_output(socket, tag, Output::Pieces(header));
    }

    unsafe fn connect(&mut self, socket: BorrowedFd<'_>, addr: *const socket2::SockAddr, tag: Tag) {
        let begun = set_non_blocking(socket).and_then(|()| {
            // SAFETY: readable, says the caller; the kernel copies it within the call.
            let connected = unsafe {
                let addr = &*addr;
                libc::connect(socket.as_raw_fd(), addr.as_ptr().cast(), addr.len())
            };
            result(connected as isize)
        });
        match begun {
            Err(libc::EINPROGRESS | libc::EINTR) => {
                self.begin(socket, tag, |socket| socket.output = Some(Box::new(Output::Connect)));
            }
            outcome => self.answer_at_once(tag, outcome.map_or_else(|errno| -errno, |_| 0)),
        }
    }

    unsafe fn write_and_sync(&mut self, file: BorrowedFd<'_>, bytes: *const u8, length: u32, offset: u64, slot: u32) {
        self.begin_file(2, slot, Job { fd: file.as_raw_fd(), slot, what: What::WriteAndSync(bytes, length, offset) });
    }

    unsafe fn write(&mut self, file: BorrowedFd<'_>, bytes: *const u8, length: u32, offset: u64, slot: u32) {
        self.begin_file(1, slot, Job { fd: file.as_raw_fd(), slot, what: What::Write(bytes, length, offset) });
    }

    unsafe fn sync(&mut self, file: BorrowedFd<'_>, slot: u32) {
        self.begin_file(1, slot, Job { fd: file.as_raw_fd(), slot, what: What::Sync });
    }

    unsafe fn read(&mut self, file: BorrowedFd<'_>, into: *mut u8, length: u32, offset: u64, slot: u32) {
        self.begin_file(1, slot, Job { fd: file.as_raw_fd(), slot, what: What::Read(into, length, offset) });
    }

    fn submit(&mut self, wait: usize) -> io::Result<()> {
        let sleeps = wait > 0 && self.answers.is_empty();
        let timeout = if sleeps { self.wake_at.map(until) } else { Some(Timespec { tv_sec: 0, tv_nsec: 0 }) };
        self.wake_at = None;
        let mut events = mem::take(&mut self.events);
        events.clear();
        let waited = epoll::wait(&self.set, spare_capacity(&mut events), timeout.as_ref());
        for event in events.drain(..) {
            self.ready(event.data.u64(), event.flags);
        }
        self.events = events;
        match waited {
            Err(error) if error != Errno::INTR => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn has_work(&mut self) -> bool {
        !self.answers.is_empty()
    }

    fn reap(&mut self, into: &mut impl Extend<Completion>, limit: usize) {
        let limit = limit.min(self.answers.len());
        self.in_flight -= self.answers.iter().take(limit).filter(|answer| !answer.more()).count();
        into.extend(self.answers.drain(..limit));
    }
}

impl Epoll {
    fn socket(&mut self, place: Place) -> Option<&mut Socket> {
        let sockets = if place.is_listener { &mut self.listeners } else { &mut self.connections };
        sockets.get_mut(place.slot as usize)
    }

    /// Keeps an operation until its socket is ready.
    fn begin(&mut self, socket: BorrowedFd<'_>, tag: Tag, set: impl FnOnce(&mut Socket)) {
        self.in_flight += 1;
        let place = Place::of(tag);
        let sockets = if place.is_listener { &mut self.listeners } else { &mut self.connections };
        let slot = place.slot as usize;
        if sockets.len() <= slot {
            sockets.resize_with(slot + 1, || Socket::NONE);
        }
        let known = &mut sockets[slot];
        (known.fd, known.generation) = (socket.as_raw_fd(), tag.generation);
        set(known);
        let wanted = known.wanted();
        if known.watched.is_some_and(|watched| watched.contains(wanted)) {
            return;
        }
        if let Err(error) = self.watch(place, wanted) {
            // A socket outside the set would never answer its operation.
            self.end(tag);
            self.answers.push_back(Completion::last(tag, -error.raw_os_error()));
        }
    }

    /// Ends an operation. False: no such operation is under way.
    fn end(&mut self, tag: Tag) -> bool {
        let Some(socket) = self.socket(Place::of(tag)).filter(|socket| socket.generation == tag.generation) else {
            return false;
        };
        match tag.kind {
            Kind::Accept | Kind::Receive => mem::replace(&mut socket.input, Input::None) != Input::None,
            Kind::HangUp => mem::take(&mut socket.hang_up),
            Kind::Send | Kind::Connect => socket.output.take().is_some(),
            _ => false,
        }
    }

    /// Watches a socket for exactly `wanted`; an empty `wanted` removes the socket from the set.
    fn watch(&mut self, place: Place, wanted: EventFlags) -> Result<(), Errno> {
        let sockets = if place.is_listener { &mut self.listeners } else { &mut self.connections };
        let Some(known) = sockets.get_mut(place.slot as usize) else { return Ok(()) };
        // SAFETY: `forget` is called before a socket is closed, and clears its entry.
        let socket = unsafe { BorrowedFd::borrow_raw(known.fd) };
        let outcome = match known.watched {
            Some(_) if wanted.is_empty() => epoll::delete(&self.set, socket),
            Some(_) => epoll::modify(&self.set, socket, place.data(), wanted),
            None if wanted.is_empty() => Ok(()),
            None => epoll::add(&self.set, socket, place.data(), wanted),
        };
        known.watched = Some(wanted).filter(|wanted| !wanted.is_empty() && outcome.is_ok());
        outcome
    }

    /// The events that a wait would end with.
    #[cfg(test)]
    pub(super) fn events(&self) -> usize {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.set, spare_capacity(&mut events), Some(&now)).unwrap()
    }

    fn answer_at_once(&mut self, tag: Tag, result: i32) {
        self.in_flight += 1;
        self.answers.push_back(Completion::last(tag, result));
    }

    /// Handles one event.
    fn ready(&mut self, data: u64, flags: EventFlags) {
        let slot = data as u32;
        match data & !u64::from(u32::MAX) {
            OF_BELL => {
                let Some(bell) = self.bell else { return };
                // SAFETY: the mailbox, and with it its bell, outlives the loop that this driver is in.
                hush(unsafe { BorrowedFd::borrow_raw(bell) });
                self.answers.push_back(Completion::last(Tag::of(Kind::Bell), 0).with(true, None));
            }
            OF_FILES => {
                if let Some(files) = &self.files {
                    hush(files.bell());
                    files.take(&mut self.answers);
                }
            }
            class => self.serve(Place { is_listener: class == OF_LISTENER, slot }, flags),
        }
    }

    fn serve(&mut self, place: Place, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        let Some(socket) = self.socket(place) else { return };
        let generation = socket.generation;
        let tag = |kind| Tag { kind, slot: place.slot, generation };
        let reads = socket.input != Input::None && (broken || flags.contains(EventFlags::IN));
        let hangs_up = socket.hang_up && (broken || flags.contains(EventFlags::RDHUP));
        let writes = socket.output.is_some() && (broken || flags.contains(EventFlags::OUT));
        if reads && place.is_listener {
            self.accept_some(place);
        } else if reads {
            self.receive(place, RECEIVES_MAX);
        }
        if writes {
            self.write_on(place);
        }
        if hangs_up && self.end(tag(Kind::HangUp)) {
            self.answers.push_back(Completion::last(tag(Kind::HangUp), flags.bits() as i32));
        }
        if !(reads || hangs_up || writes)
            && let Some(wanted) = self.socket(place).map(|socket| socket.wanted())
        {
            // If this fails, the event recurs.
            let _ = self.watch(place, wanted);
        }
    }

    fn begin_accept(&mut self, socket: BorrowedFd<'_>, tag: Tag, input: Input) {
        // A process has one driver, so no ring ever gets this listener, which a ring would need in blocking mode.
        match set_non_blocking(socket) {
            Ok(()) => self.begin(socket, tag, |socket| socket.input = input),
            Err(errno) => self.answer_at_once(tag, -errno),
        }
    }

    fn accept_some(&mut self, place: Place) {
        for _ in 0..ACCEPTS_MAX {
            let Some(socket) = self.socket(place) else { return };
            let (input, null) = (socket.input, std::ptr::null_mut());
            let tag = Tag { kind: Kind::Accept, slot: place.slot, generation: socket.generation };
            // SAFETY: no address is asked for.
            let accepted = result(unsafe { libc::accept4(socket.fd, null, null.cast(), libc::SOCK_CLOEXEC) } as isize);
            let answer = match accepted {
                Err(libc::EAGAIN | libc::EINTR) => return,
                Err(errno) => Completion::last(tag, -errno),
                Ok(fd) => Completion::last(tag, fd).with(input == Input::Always, None),
            };
            self.answers.push_back(answer);
            if !answer.more() {
                self.end(tag);
                return;
            }
        }
    }

    /// Receives up to `most` buffers. False: the socket has no more bytes, or no receive is under way.
    fn receive(&mut self, place: Place, most: usize) -> bool {
        for _ in 0..most {
            let Some(socket) = self.socket(place).filter(|socket| socket.input != Input::None) else { return false };
            let (fd, input) = (socket.fd, socket.input);
            let tag = Tag { kind: Kind::Receive, slot: place.slot, generation: socket.generation };
            let Some((buffer, into, length)) = self.stock.as_ref().and_then(Stock::next) else {
                self.end(tag);
                self.answers.push_back(Completion::last(tag, -libc::ENOBUFS));
                return false;
            };
            // SAFETY: a buffer of the stock is written by nobody else until it is taken and answered.
            let received = result(unsafe { libc::recv(fd, into.cast(), length, libc::MSG_DONTWAIT) });
            let answer = match received {
                Err(libc::EAGAIN | libc::EINTR) => return false,
                Err(errno) => Completion::last(tag, -errno),
                Ok(0) => Completion::last(tag, 0),
                Ok(count) => {
                    self.stock.iter_mut().for_each(Stock::take);
                    Completion::last(tag, count).with(input == Input::Always, Some(buffer))
                }
            };
            self.answers.push_back(answer);
            if !answer.more() {
                self.end(tag);
                return false;
            }
            if answer.result < length as i32 {
                return false;
            }
        }
        true
    }

    fn begin_output(&mut self, socket: BorrowedFd<'_>, tag: Tag, output: Output) {
        match output.attempt(socket.as_raw_fd()) {
            Err(libc::EAGAIN | libc::EINTR) => {
                self.begin(socket, tag, |socket| socket.output = Some(Box::new(output)));
            }
            outcome => {
                self.in_flight += 1;
                self.written(tag, outcome);
            }
        }
    }

    /// Continues the output of a socket that has room again.
    fn write_on(&mut self, place: Place) {
        let Some(socket) = self.socket(place) else { return };
        let Some(output) = socket.output.as_deref().copied() else { return };
        let kind = if matches!(output, Output::Connect) { Kind::Connect } else { Kind::Send };
        let tag = Tag { kind, slot: place.slot, generation: socket.generation };
        match output.attempt(socket.fd) {
            Err(libc::EAGAIN | libc::EINTR) => {}
            outcome => {
                self.end(tag);
                self.written(tag, outcome);
            }
        }
    }

    fn written(&mut self, tag: Tag, outcome: Result<i32, i32>) {
        if outcome.is_err() && tag.kind == Kind::Send {
            // Bytes that the peer sent before it broke the connection are delivered before the failure.
            while self.receive(Place::of(tag), RECEIVES_MAX) {}
        }
        self.answers.push_back(Completion::last(tag, outcome.unwrap_or_else(|errno| -errno)));
    }

    fn cancel_all_of(&mut self, place: Place) {
        let Some(socket) = self.socket(place) else { return };
        let generation = socket.generation;
        let kinds = if place.is_listener { [Kind::Accept].as_slice() } else { &[Kind::Receive, Kind::HangUp] };
        let output = socket.output.as_deref().map(|output| match output {
            Output::Connect => Kind::Connect,
            _ => Kind::Send,
        });
        for kind in kinds.iter().copied().chain(output) {
            let tag = Tag { kind, slot: place.slot, generation };
            if self.end(tag) {
                self.answers.push_back(Completion::last(tag, -libc::ECANCELED));
            }
        }
    }

    fn begin_file(&mut self, answers: usize, slot: u32, job: Job) {
        self.in_flight += answers;
        match &self.files {
            Some(files) => files.ask(job),
            // `open_files` precedes every operation on a file.
            None => self.answers.extend(job.what.refused(slot, -libc::EBADF)),
        }
    }
}

fn set_non_blocking(socket: BorrowedFd<'_>) -> Result<(), i32> {
    rustix::io::ioctl_fionbio(socket, true).map_err(Errno::raw_os_error)
}

/// Resets an eventfd's count.
fn hush(bell: BorrowedFd<'_>) {
    // An error means that the count was zero already.
    let _ = rustix::io::read(bell, &mut [0; 8]);
}

/// The time until `at`, rounded up to milliseconds, the resolution of `epoll_wait`; rounded up, so that the timer is due when the wait ends.
fn until(at: Monotonic) -> Timespec {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Monotonic(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs());
    let ms = i64::try_from(at.since(now).as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    // A longer wait ends early, and the loop waits again.
    let ms = ms.min(i64::from(i32::MAX));
    Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 }
}
