//! Accepting of TCP connections and Unix sockets [MQTT-4.2.0-1]: one multishot accept for each listener, or one connection after
//! the other if their rate is bounded.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::getpeername;

use super::connections::{Conn, Phase, Reading};
use super::core::{Alarm, Core};
use super::driver::{Completion, Driver, Kind, Tag};
use super::listen::Listener;
use super::seam::{ConnId, ListenerId, Monotonic};

/// The pause of a listener after descriptors or memory have run out. Connections wait in the kernel's queue.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A listener of this shard.
pub(super) struct Accepting {
    /// `None` once accepting has been stopped and the kernel has let go of the listener.
    listener: Option<Listener>,
    armed: bool,
    stopped: bool,
    /// Whether accepting is stopped until [`Alarm::Accept`]: the descriptors for devices are used up, or the shard has asked for a
    /// pause.
    paused: bool,
    /// The time before which no connection is accepted.
    until: Monotonic,
    /// Whether connections are accepted one by one.
    is_single: bool,
    /// Whether the listener's connections have layers.
    is_layered: bool,
}

impl Accepting {
    pub(super) fn new(listener: Listener) -> Self {
        Self {
            listener: Some(listener),
            armed: false,
            stopped: false,
            paused: false,
            until: Monotonic(0),
            is_single: false,
            is_layered: false,
        }
    }
}

fn accept_tag(index: u16) -> Tag {
    Tag { kind: Kind::Accept, slot: u32::from(index), generation: 0 }
}

impl<M: Send + 'static, D: Driver> Core<M, D> {
    /// Accepts on all listeners.
    pub(super) fn open_listeners(&mut self) {
        (0..self.accepting.len() as u16).for_each(|index| self.arm_accept(index));
    }

    /// Accepts on one more.
    pub(super) fn add_listener(&mut self, listener: Listener) {
        let is_free = |accepting: &Accepting| accepting.listener.is_none() && !accepting.armed;
        let free = self.accepting.iter().position(is_free);
        let index = free.unwrap_or(self.accepting.len());
        match self.accepting.get_mut(index) {
            Some(accepting) => *accepting = Accepting::new(listener),
            None => self.accepting.push(Accepting::new(listener)),
        }
        self.arm_accept(index as u16);
    }

    /// Stops accepting on all listeners and closes them.
    pub(super) fn close_listeners(&mut self) {
        self.close_listeners_that(|_| true);
    }

    /// Stops accepting on some of the listeners and closes them.
    pub(super) fn close_listeners_that(&mut self, are_meant: impl Fn(ListenerId) -> bool) {
        for (index, accepting) in (0..).zip(&mut self.accepting) {
            if !accepting.listener.as_ref().is_some_and(|listener| are_meant(listener.id())) {
                continue;
            }
            accepting.stopped = true;
            if accepting.armed {
                self.driver.cancel(accept_tag(index), Tag::of(Kind::Ignored));
            } else if let Some(listener) = accepting.listener.take() {
                self.driver.forget(listener.fd(), accept_tag(index));
            }
        }
    }

    fn accepting_on(&mut self, listener: ListenerId) -> Option<(u16, &mut Accepting)> {
        let is_it = |accepting: &Accepting| accepting.listener.as_ref().is_some_and(|l| l.id() == listener);
        (0..).zip(&mut self.accepting).find(|(_, accepting)| is_it(accepting))
    }

    /// The connections of this listener have layers.
    pub(super) fn mark_layered(&mut self, listener: ListenerId) {
        if let Some((_, accepting)) = self.accepting_on(listener) {
            accepting.is_layered = true;
        }
    }

    /// Accepts connections one by one from now on, or with a multishot accept.
    pub(super) fn take_singly(&mut self, listener: ListenerId, singly: bool) {
        let Some((index, accepting)) = self.accepting_on(listener) else { return };
        let is_other = std::mem::replace(&mut accepting.is_single, singly) != singly;
        // The end of the cancelled accept arms the new one.
        if is_other && accepting.armed {
            self.driver.cancel(accept_tag(index), Tag::of(Kind::Ignored));
        }
    }

    /// Does not accept on this listener before that time.
    pub(super) fn rest_until(&mut self, listener: ListenerId, until: Monotonic) {
        if let Some((_, accepting)) = self.accepting_on(listener) {
            accepting.until = until;
        }
    }

    /// Accepts the next connection of a listener that accepts one by one, unless the shard has asked for a pause.
    pub(super) fn accept_next(&mut self, index: u16) {
        let waits = |accepting: &Accepting| accepting.is_single && !accepting.armed && !accepting.paused;
        if self.accepting.get(usize::from(index)).is_some_and(waits) {
            self.arm_accept(index);
        }
    }

    pub(super) fn arm_accept(&mut self, index: u16) {
        let is_crowded = self.layers.is_crowded();
        let Some(accepting) = self.accepting.get_mut(usize::from(index)) else { return };
        if accepting.is_layered && is_crowded && !accepting.armed && accepting.listener.is_some() {
            accepting.paused = true;
            self.wheel.insert(self.now.after(EXHAUSTED_PAUSE), Alarm::Accept(index));
            return;
        }
        if self.now < accepting.until && !accepting.armed && accepting.listener.is_some() {
            accepting.paused = true;
            self.wheel.insert(accepting.until, Alarm::Accept(index));
            return;
        }
        accepting.paused = false;
        if let Some(listener) = accepting.listener.as_ref().filter(|_| !accepting.armed) {
            accepting.armed = true;
            if accepting.is_single {
                self.driver.accept_once(listener.fd(), accept_tag(index));
            } else {
                self.driver.accept(listener.fd(), accept_tag(index));
            }
        }
    }

    /// Handles the answer of an accept. Returns the connection, if it still exists.
    pub(super) fn accepted(&mut self, completion: &Completion) -> Option<(ConnId, ListenerId)> {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let fd = (completion.result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(completion.result) });
        let index = completion.tag.slot as u16;
        let is_crowded = self.layers.is_crowded();
        let accepting = self.accepting.get_mut(usize::from(index))?;
        let (listener, is_unix) = accepting.listener.as_ref().map(|listener| (listener.id(), listener.is_unix()))?;
        let stopped = accepting.stopped;
        // The kernel gives out the lowest free number, so that is how many descriptors are in use at least.
        let full = fd.as_ref().is_some_and(|fd| fd.as_raw_fd().unsigned_abs() >= self.device_descriptors_max);
        self.accepts_refused += u64::from(full);
        if full || (accepting.is_layered && is_crowded) {
            if completion.more() && !accepting.paused {
                self.driver.cancel(accept_tag(index), Tag::of(Kind::Ignored));
            }
            accepting.paused = true;
        }
        if !completion.more() {
            accepting.armed = false;
            if stopped {
                let gone = accepting.listener.take();
                gone.into_iter().for_each(|listener| self.driver.forget(listener.fd(), accept_tag(index)));
            } else if accepting.paused || is_exhausted(completion.result) {
                accepting.paused = true;
                self.wheel.insert(self.now.after(EXHAUSTED_PAUSE), Alarm::Accept(index));
            } else if !accepting.is_single {
                self.arm_accept(index);
            }
        }
        let fd = fd.filter(|_| !stopped && !full)?;
        // An error if the peer has gone again: not worth a callback.
        let peer = SocketAddr::try_from(getpeername(&fd).ok()??).ok();
        // A listener of `[::]` has mapped addresses of IPv4.
        let peer = peer.map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()));
        if peer.is_none() && !is_unix {
            return None;
        }
        let conn = Conn::new(Some(fd), peer, listener, Phase::Open, Reading::OneShot);
        Some((self.adopted(conn), listener))
    }
}

fn is_exhausted(result: i32) -> bool {
    matches!(-result, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpStream;

    use super::*;
    use crate::epoll::Epoll;
    use crate::listen::Listeners;
    use crate::ring::Ring;
    use crate::seam::Io as _;
    use crate::{Settings, mailboxes};

    /// A core with one listener, and its address.
    fn listening<D: Driver>(settings: &Settings) -> (Core<(), D>, SocketAddr) {
        let listeners = Listeners::bind(&[(SocketAddr::from(([127, 0, 0, 1], 0)).into(), 0)], 1).unwrap();
        let addr = listeners.local_addrs()[0];
        let accepting = listeners.into_shards().remove(0).into_iter().map(Accepting::new).collect();
        let (post, _mail) = mailboxes(1, 1).unwrap();
        (Core::new(0, settings, D::new(8).unwrap(), accepting, post), addr)
    }

    /// Lets the kernel release all operations under way.
    fn end(mut core: Core<(), impl Driver>) {
        core.driver.cancel_everything();
        while core.driver.in_flight() > 0 {
            core.driver.submit(1).unwrap();
            core.driver.reap(&mut Vec::new(), 8);
        }
    }

    /// X48: descriptors above the number are kept for Kafka, the disk and control: connections are turned away, and later accepted.
    #[test]
    fn descriptors_are_kept_for_others() {
        descriptors_are_kept_for_others_over::<Ring>();
        descriptors_are_kept_for_others_over::<Epoll>();
    }

    fn descriptors_are_kept_for_others_over<D: Driver>() {
        let (mut core, addr) = listening::<D>(&Settings { device_descriptors_max: 3, ..Settings::default() });
        core.open_listeners();
        let mut peer = TcpStream::connect(addr).unwrap();
        let mut answers = Vec::new();
        while core.accepting[0].armed {
            core.driver.submit(1).unwrap();
            core.driver.reap(&mut answers, 8);
            for answer in answers.drain(..).filter(|answer| answer.tag.kind == Kind::Accept) {
                assert!(core.accepted(&answer).is_none());
            }
        }
        assert_eq!((core.accepts_refused, core.conns.len()), (1, 0));
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "closed");
        core.wheel.advance(core.now.after(EXHAUSTED_PAUSE * 2));
        assert!(matches!(core.wheel.pop(), Some(Alarm::Accept(0))), "not at once: that would spin");
        core.device_descriptors_max = u32::MAX;
        core.arm_accept(0);
        let _peer = TcpStream::connect(addr).unwrap();
        core.driver.submit(1).unwrap();
        core.driver.reap(&mut answers, 1);
        assert!(core.accepted(&answers[0]).is_some());
        end(core);
    }

    /// X47: each of four connections in the kernel's queue is accepted when its time has come, and none before.
    #[test]
    fn one_by_one_with_a_pause_after_each() {
        one_by_one_with_a_pause_after_each_over::<Ring>();
        one_by_one_with_a_pause_after_each_over::<Epoll>();
    }

    fn one_by_one_with_a_pause_after_each_over<D: Driver>() {
        let (mut core, addr) = listening::<D>(&Settings::default());
        core.take_singly(ListenerId(0), true);
        let peers: Vec<_> = (0..4).map(|_| TcpStream::connect(addr).unwrap()).collect();
        core.open_listeners();
        let mut answers = Vec::new();
        for count in 1..=peers.len() {
            core.driver.submit(1).unwrap();
            core.driver.reap(&mut answers, 8);
            assert_eq!(answers.len(), 1, "one by one");
            assert!(!answers[0].more() && core.accepted(&answers[0]).is_some());
            answers.clear();
            let until = core.now.after(Duration::from_millis(50));
            core.rest_until(ListenerId(0), until);
            core.accept_next(0);
            assert!(core.accepting[0].paused && !core.accepting[0].armed && core.driver.in_flight() == 0, "{count}");
            core.wheel.advance(core.now);
            assert!(core.wheel.pop().is_none(), "not before its time");
            core.now = until.after(Duration::from_millis(2));
            core.wheel.advance(core.now);
            let Some(Alarm::Accept(0)) = core.wheel.pop() else { panic!("accepting was not resumed") };
            core.arm_accept(0);
            assert!(core.accepting[0].armed);
        }
        // Back to multishot: the accept that is armed is cancelled first.
        core.take_singly(ListenerId(0), false);
        while core.accepting[0].is_single || core.accepting[0].armed {
            core.driver.submit(1).unwrap();
            core.driver.reap(&mut answers, 8);
            let of_accept = answers.drain(..).filter(|answer| answer.tag.kind == Kind::Accept);
            let ended: Vec<_> = of_accept.collect();
            ended.iter().for_each(|answer| assert!(core.accepted(answer).is_none()));
            if !ended.is_empty() {
                break;
            }
        }
        assert!(core.accepting[0].armed && !core.accepting[0].is_single);
        end(core);
    }

    /// X4: while the queue of handshakes is full, connections to listeners with layers wait in the kernel, and others do not.
    #[test]
    fn listeners_with_layers_wait_while_handshakes_are_in_line() {
        listeners_with_layers_wait_while_handshakes_are_in_line_over::<Ring>();
        listeners_with_layers_wait_while_handshakes_are_in_line_over::<Epoll>();
    }

    fn listeners_with_layers_wait_while_handshakes_are_in_line_over<D: Driver>() {
        for is_layered in [true, false] {
            let (mut core, addr) = listening::<D>(&Settings::default());
            if is_layered {
                core.mark_layered(ListenerId(0));
            }
            core.layers.crowd();
            core.open_listeners();
            assert_eq!(core.accepting[0].armed, !is_layered);
            let _peer = TcpStream::connect(addr).unwrap();
            if is_layered {
                core.wheel.advance(core.now.after(EXHAUSTED_PAUSE * 2));
                assert!(matches!(core.wheel.pop(), Some(Alarm::Accept(0))), "not at once: that would spin");
                while core.next_in_line().is_some() {}
                core.arm_accept(0);
            }
            let mut answers = Vec::new();
            core.driver.submit(1).unwrap();
            core.driver.reap(&mut answers, 1);
            assert!(core.accepted(&answers[0]).is_some());
            end(core);
        }
    }

    /// Out of descriptors: the listener pauses, then accepts again; new connections wait in the kernel until then.
    #[test]
    fn an_exhausted_listener_pauses_and_goes_on() {
        an_exhausted_listener_pauses_and_goes_on_over::<Ring>();
        an_exhausted_listener_pauses_and_goes_on_over::<Epoll>();
    }

    fn an_exhausted_listener_pauses_and_goes_on_over<D: Driver>() {
        let (mut core, addr) = listening::<D>(&Settings::default());
        core.accepting[0].armed = true;
        assert!(core.accepted(&Completion::last(accept_tag(0), -libc::EMFILE)).is_none());
        assert!(!core.accepting[0].armed);
        core.wheel.advance(core.now);
        assert!(core.wheel.pop().is_none(), "not at once: that would spin");
        core.wheel.advance(core.now.after(EXHAUSTED_PAUSE * 2));
        assert!(matches!(core.wheel.pop(), Some(Alarm::Accept(0))));

        let peer = TcpStream::connect(addr).unwrap();
        core.arm_accept(0);
        let mut answers = Vec::new();
        core.driver.submit(1).unwrap();
        core.driver.reap(&mut answers, 1);
        let (conn, listener) = core.accepted(&answers[0]).unwrap();
        assert_eq!((listener, core.peer(conn)), (ListenerId(0), peer.local_addr().ok()));
        end(core);
    }
}
