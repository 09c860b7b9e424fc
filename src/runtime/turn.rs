//! One turn of a shard, in its order. Each step has a budget, so that none can starve those behind it; what is left
//! over comes first in the next turn, which then does not wait.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::buffers::Buffers;
use super::connections::id_of;
use super::core::{Alarm, Core};
use super::disk::Owner;
use super::mailbox::MailboxReceiver;
use super::receive::Received;
use super::ring::{Completion, Kind};
use super::seam::{ConnId, Shard};
use super::watchdog::Heartbeat;

/// Letters of one turn.
const MAIL_BUDGET: usize = 1024;
/// Answers of the kernel taken in one turn.
const COMPLETION_BUDGET: usize = 4096;
/// Receives delivered in one turn.
const READ_BUDGET: usize = 1024;
/// Answers about segments told in one turn.
const SEGMENT_BUDGET: usize = 64;
/// Timers fired in one turn.
const TIMER_BUDGET: usize = 1024;

/// A shard and all that belongs to its loop.
pub(super) struct Turn<S: Shard> {
    pub(super) shard: S,
    pub(super) core: Core<S::Mail>,
    pub(super) mailbox: MailboxReceiver<S::Mail>,
    pub(super) heartbeat: Arc<Heartbeat>,
    buffers: Buffers,
    completions: Vec<Completion>,
    /// Receives that were answered and not delivered yet.
    reads: VecDeque<Completion>,
    /// The shard was told an end after its own end of the turn: it has yet to act on it.
    told_late: bool,
}

impl<S: Shard> Turn<S> {
    pub(super) fn new(
        shard: S,
        core: Core<S::Mail>,
        buffers: Buffers,
        mailbox: MailboxReceiver<S::Mail>,
        heartbeat: Arc<Heartbeat>,
    ) -> Self {
        Self {
            shard,
            core,
            mailbox,
            heartbeat,
            buffers,
            completions: Vec::new(),
            reads: VecDeque::new(),
            told_late: false,
        }
    }

    /// Before the first turn: the shard sets up.
    pub(super) fn start(&mut self) {
        self.core.read_clocks();
        self.shard.on_start(&mut self.core);
        if let Some(segments) = &mut self.core.segments {
            segments.started();
        }
        self.tell_ends();
    }

    /// One turn.
    pub(super) fn run(&mut self) {
        self.heartbeat.turn();
        self.core.read_clocks();
        self.deliver_letters();
        self.take_answers();
        self.tell_segments();
        self.core.layers.begin_turn();
        self.deliver_reads();
        self.open_waiting();
        self.fire_timers();
        self.shard.on_turn_end(&mut self.core);
        self.told_late = self.tell_ends();
        self.core.submit_segments();
        self.core.flush_all();
        // Ends that the flushing brought about.
        self.told_late |= self.tell_ends();
        self.buffers.publish();
        self.core.arm_all();
        self.heartbeat.hold(self.core.conns.len(), self.core.pool.lent(), self.core.accepts_refused);
    }

    /// Whether the next turn has something to do without the kernel's help. Then nothing may be waited for: what was
    /// made outside completions would never go out.
    pub(super) fn has_left_over(&mut self) -> bool {
        let due = self.core.wheel.deadline().is_some_and(|at| at <= self.core.now);
        due || self.told_late
            || !self.reads.is_empty()
            || !self.mailbox.is_empty()
            || !self.core.ended.is_empty()
            || !self.core.dirty.is_empty()
            || !self.core.overdue.is_empty()
            || !self.core.late.is_empty()
            || !self.core.to_arm.is_empty()
            || self.core.layers.has_waiting()
            || self.core.has_segment_news()
            || self.core.ring.has_work()
    }

    fn deliver_letters(&mut self) {
        for _ in 0..MAIL_BUDGET {
            let Some(letter) = self.mailbox.take() else { break };
            self.shard.on_mail(&mut self.core, letter);
            self.tell_ends();
        }
    }

    fn take_answers(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.core.ring.reap(&mut completions, COMPLETION_BUDGET);
        for completion in completions.drain(..) {
            self.take_answer(completion);
            self.tell_ends();
        }
        self.completions = completions;
    }

    fn take_answer(&mut self, completion: Completion) {
        let core = &mut self.core;
        match completion.tag.kind {
            Kind::Receive | Kind::CancelReceive => self.reads.push_back(completion),
            // What the peer had sent before the connection broke is delivered before its end.
            Kind::HangUp => core.hung_up(&completion),
            Kind::Send if completion.result < 0 => self.reads.push_back(completion),
            Kind::Send => {
                if core.sent(&completion) {
                    self.shard.on_writable(core, id_of(completion.tag));
                }
            }
            Kind::Accept => {
                if let Some((id, listener)) = core.accepted(&completion) {
                    self.shard.on_accept(core, id, listener);
                }
                core.accept_next(completion.tag.slot as u16);
            }
            Kind::Connect => {
                if let Some(id) = core.connected(&completion) {
                    self.shard.on_connect(core, id);
                }
            }
            Kind::DiskWrite | Kind::DiskSync => {
                if let Some((Owner { number, sync }, result)) = core.disk.answered(&mut core.ring, &completion)
                    && let Some(segments) = &mut core.segments
                {
                    segments.synced(number, sync, result, core.now);
                }
            }
            Kind::DiskRead => {
                if let Some(fetch) = core.fetches.answered(&mut core.ring, &completion)
                    && let Some(segments) = &mut core.segments
                {
                    segments.fetched(fetch);
                }
            }
            Kind::Wake | Kind::Bell | Kind::Ignored => {}
        }
    }

    /// Tells the shard what became of its segments.
    fn tell_segments(&mut self) {
        for _ in 0..SEGMENT_BUDGET {
            let now = self.core.now;
            let Some(event) = self.core.segments.as_mut().and_then(|segments| segments.next_event(now)) else { break };
            self.shard.on_segment(&mut self.core, event);
            self.tell_ends();
        }
    }

    fn deliver_reads(&mut self) {
        for _ in 0..READ_BUDGET {
            let Some(completion) = self.reads.pop_front() else { break };
            match completion.tag.kind {
                Kind::Receive => self.deliver(&completion),
                Kind::Send => _ = self.core.sent(&completion),
                _ => self.core.receive_cancelled(&completion),
            }
            self.tell_ends();
        }
    }

    fn deliver(&mut self, completion: &Completion) {
        let id = id_of(completion.tag);
        let received = self.core.received(completion);
        if let Some(buffer) = completion.buffer() {
            match received {
                Some(Received { length, is_layered: false }) => {
                    self.shard.on_bytes(&mut self.core, id, self.buffers.bytes(buffer, length));
                }
                Some(Received { length, .. }) => {
                    let wire = self.buffers.bytes_mut(buffer, length);
                    if !self.core.stands_in_line(id, wire) {
                        open(&mut self.shard, &mut self.core, id, wire);
                    }
                }
                None => {}
            }
            self.buffers.give_back(buffer);
        }
        self.core.follow_wish(id);
    }

    /// Handshakes that have waited for their turn, as far as there is time for them.
    fn open_waiting(&mut self) {
        while let Some((id, mut wire)) = self.core.next_in_line() {
            open(&mut self.shard, &mut self.core, id, &mut wire);
            self.core.follow_wish(id);
            self.tell_ends();
        }
    }

    fn fire_timers(&mut self) {
        self.core.wheel.advance(self.core.now);
        for _ in 0..TIMER_BUDGET {
            let Some(alarm) = self.core.wheel.pop() else { break };
            match alarm {
                Alarm::Shard(token) => self.shard.on_timer(&mut self.core, token),
                Alarm::Accept(index) => self.core.arm_accept(index),
                Alarm::Deadline(id) => self.core.deadline_passed(id),
                Alarm::HungUp(id) => self.core.hung_up_for_long(id),
            }
            self.tell_ends();
        }
    }

    /// Tells the shard which connections are gone. True if any was.
    fn tell_ends(&mut self) -> bool {
        let mut any = false;
        while let Some(id) = self.core.ended.pop_front() {
            if let Some(why) = self.core.conns.named(id).and_then(|conn| conn.why.take()) {
                any = true;
                self.shard.on_close(&mut self.core, id, why);
                self.core.release(id);
            }
        }
        any
    }

    /// Cancels everything and waits for the kernel's last answers: until then it may read and write our memory.
    fn tear_down(&mut self) -> io::Result<()> {
        self.core.close_listeners();
        for round in 0..2000 {
            if self.core.ring.in_flight() == 0 {
                return Ok(());
            }
            if round % 10 == 0 {
                self.core.ring.cancel_everything();
            }
            self.core.ring.submit(0)?;
            self.core.ring.reap(&mut self.completions, COMPLETION_BUDGET);
            if self.completions.is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            // A connection that was accepted meanwhile is a descriptor to be closed.
            for completion in self.completions.drain(..).filter(|completion| completion.tag.kind == Kind::Accept) {
                let _ = self.core.accepted(&completion);
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Gives bytes of the wire to the layer of a connection, and what they hold to the shard.
fn open<S: Shard>(shard: &mut S, core: &mut Core<S::Mail>, id: ConnId, wire: &mut [u8]) {
    let mut plain = core.layers.lend();
    let opened = core.open_layer(id, wire, &mut plain);
    let failed = match opened {
        Ok(Some(facts)) => {
            shard.on_ready(core, id, facts);
            None
        }
        Ok(None) => None,
        Err(error) => Some(error),
    };
    if !plain.is_empty() {
        shard.on_bytes(core, id, &plain);
    }
    core.layers.take_back(plain);
    match failed {
        None => core.bound_layers(),
        Some(error) => core.layer_failed(id, error),
    }
}

impl<S: Shard> Drop for Turn<S> {
    fn drop(&mut self) {
        if self.tear_down().is_err() {
            // The kernel still holds some of it (a disk that does not answer). A leak at the end of a thread is
            // harmless, memory that changes hands under the kernel is not.
            std::mem::forget(std::mem::take(&mut self.core.conns));
            std::mem::forget(std::mem::take(&mut self.core.disk));
            std::mem::forget(std::mem::take(&mut self.core.fetches));
            self.buffers.leak();
        }
    }
}
