//! A turn of a shard, in its order. Each step has a budget, so that none can starve the later ones; work that exceeds it comes
//! first in the next turn, which then does not wait.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::buffers::Buffers;
use super::connections::id_of;
use super::core::{Alarm, Core};
use super::disk::Owner;
use super::driver::{Completion, Driver, Kind};
use super::layers::Unread;
use super::mailbox::MailboxReceiver;
use super::reads::Read;
use super::receive::Received;
use super::seam::{ConnId, Io as _, Shard};
use super::watchdog::Heartbeat;
use forebay_base::limits::{QUANTUM_BYTES, ROUNDS_TIME};

/// Letters of one turn.
const MAIL_BUDGET: usize = 1024;
/// Answers of the kernel taken in one turn.
const COMPLETION_BUDGET: usize = 4096;
/// Answers about segments delivered in one turn.
const SEGMENT_BUDGET: usize = 64;
/// Timers fired in one turn.
const TIMER_BUDGET: usize = 1024;

/// A shard and all that belongs to its loop.
pub(super) struct Turn<S: Shard, D: Driver> {
    pub(super) shard: S,
    pub(super) core: Core<S::Mail, D>,
    pub(super) mailbox: MailboxReceiver<S::Mail>,
    pub(super) heartbeat: Arc<Heartbeat>,
    buffers: Buffers,
    /// Answers of the kernel that have not been looked at.
    answers: VecDeque<Completion>,
    /// The shard was told of an end after its own end of the turn, and has not acted on it yet.
    told_late: bool,
}

impl<S: Shard, D: Driver> Turn<S, D> {
    pub(super) fn new(
        shard: S,
        core: Core<S::Mail, D>,
        buffers: Buffers,
        mailbox: MailboxReceiver<S::Mail>,
        heartbeat: Arc<Heartbeat>,
    ) -> Self {
        Self { shard, core, mailbox, heartbeat, buffers, answers: VecDeque::new(), told_late: false }
    }

    /// Lets the shard set up, before the first turn.
    pub(super) fn start(&mut self) {
        self.core.read_clocks();
        self.shard.on_start(&mut self.core);
        if let Some(segments) = &mut self.core.segments {
            segments.started();
        }
        self.tell_ends();
    }

    /// Runs a turn.
    pub(super) fn run(&mut self) {
        self.heartbeat.turn();
        self.core.read_clocks();
        self.core.goes_on = false;
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

    /// Whether the next turn has something to do without the kernel's help. The loop must not wait then: submissions made outside
    /// completions would never go out.
    pub(super) fn has_left_over(&mut self) -> bool {
        let due = self.core.wheel.deadline().is_some_and(|at| at <= self.core.now);
        due || self.told_late
            || self.core.goes_on
            || self.core.reads.waiting() > 0
            || !self.answers.is_empty()
            || !self.mailbox.is_empty()
            || !self.core.ended.is_empty()
            || !self.core.dirty.is_empty()
            || !self.core.overdue.is_empty()
            || !self.core.late.is_empty()
            || !self.core.to_arm.is_empty()
            || self.core.layers.has_waiting()
            || self.core.has_segment_news()
            || self.core.driver.has_work()
    }

    fn deliver_letters(&mut self) {
        for taken in 1..=MAIL_BUDGET {
            let Some(letter) = self.mailbox.take() else { break };
            self.shard.on_mail(&mut self.core, letter);
            self.tell_ends();
            if self.core.is_over_after(taken) {
                break;
            }
        }
    }

    fn take_answers(&mut self) {
        self.core.driver.reap(&mut self.answers, COMPLETION_BUDGET);
        for taken in 1.. {
            let Some(completion) = self.answers.pop_front() else { break };
            self.take_answer(completion);
            self.tell_ends();
            if self.core.is_over_after(taken) {
                break;
            }
        }
    }

    fn take_answer(&mut self, completion: Completion) {
        let core = &mut self.core;
        match completion.tag.kind {
            // Bytes that the peer sent before the connection broke are delivered before its end.
            Kind::Receive | Kind::CancelReceive => self.queue_read(completion),
            Kind::Send if completion.result < 0 => self.queue_read(completion),
            Kind::HangUp => core.hung_up(&completion),
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
                if let Some((Owner { number, sync }, result)) = core.disk.answered(&mut core.driver, &completion)
                    && let Some(segments) = &mut core.segments
                {
                    segments.synced(number, sync, result, core.now);
                }
            }
            Kind::DiskRead => {
                if let Some(fetch) = core.fetches.answered(&mut core.driver, &completion)
                    && let Some(segments) = &mut core.segments
                {
                    segments.fetched(fetch);
                }
            }
            Kind::Wake | Kind::Bell | Kind::Ignored => {}
        }
    }

    /// Delivers the events of the shard's segments.
    fn tell_segments(&mut self) {
        for _ in 0..SEGMENT_BUDGET {
            let now = self.core.now;
            let Some(event) = self.core.segments.as_mut().and_then(|segments| segments.next_event(now)) else { break };
            self.shard.on_segment(&mut self.core, event);
            self.tell_ends();
        }
    }

    fn queue_read(&mut self, completion: Completion) {
        if !self.core.queue_read(completion)
            && let Some(buffer) = completion.buffer()
        {
            self.buffers.give_back(buffer);
        }
    }

    /// Serves the connections in the line in rounds: each has its quantum, then the next one. Connections that a turn has not
    /// served come first in the next turn.
    fn deliver_reads(&mut self) {
        loop {
            let round = self.core.reads.waiting();
            for served in 1..=round {
                let Some(slot) = self.core.reads.next() else { break };
                self.serve(slot);
                self.tell_ends();
                if self.core.is_over_after(served) {
                    return;
                }
            }
            if self.core.reads.waiting() == 0 || self.core.elapsed() >= ROUNDS_TIME {
                return;
            }
        }
    }

    /// Gives the shard the bytes received on a connection, as far as its quantum goes.
    fn serve(&mut self, slot: u32) {
        let Some(id) = self.core.begin_quantum(slot) else { return };
        let mut bytes = 0;
        let mut is_whole = self.deliver_unread(id);
        while is_whole && bytes < QUANTUM_BYTES && self.core.quantum > 0 {
            let Some(read) = self.core.next_read(id) else { break };
            bytes += read.completion.count().unwrap_or(0);
            is_whole = match read.completion.tag.kind {
                Kind::Receive => self.deliver(id, read),
                Kind::Send => {
                    let _ = self.core.sent(&read.completion);
                    true
                }
                _ => {
                    self.core.receive_cancelled(&read.completion);
                    true
                }
            };
        }
        self.core.end_quantum(id);
    }

    /// Delivers bytes that a layer has opened and the shard has not taken. True: none of them are left.
    fn deliver_unread(&mut self, id: ConnId) -> bool {
        let Some(mut unread) = self.core.take_unread(id) else { return true };
        let from = unread.from;
        unread.from += self.shard.on_bytes(&mut self.core, id, &unread.plain[from..]);
        self.core.keep_unread(id, unread)
    }

    /// Gives the shard the bytes of a receive. False: the shard has left some.
    fn deliver(&mut self, id: ConnId, read: Read) -> bool {
        let completion = &read.completion;
        let received = match read.from {
            0 => self.core.received(completion),
            // The other contents of the answer have been noted before.
            _ => self.core.is_open(id).then(|| Received { length: completion.count().unwrap_or(0), is_layered: false }),
        };
        let Some(buffer) = completion.buffer() else {
            if completion.result == -libc::ENOBUFS {
                self.buffers.ran_out();
            }
            return true;
        };
        let is_layered = matches!(received, Some(Received { is_layered: true, .. }));
        let mut is_whole = true;
        match received {
            Some(Received { length, is_layered: false }) => {
                let bytes = &self.buffers.bytes(buffer, length)[read.from..];
                let from = read.from + self.shard.on_bytes(&mut self.core, id, bytes);
                is_whole = from >= length || !self.core.read_partly(id, read, from);
            }
            Some(Received { length, .. }) => {
                let wire = self.buffers.bytes_mut(buffer, length);
                if !self.core.stands_in_line(id, wire) {
                    is_whole = open(&mut self.shard, &mut self.core, id, wire);
                }
            }
            None => {}
        }
        // Bytes that a layer has opened are in another buffer.
        if is_whole || is_layered {
            self.buffers.give_back(buffer);
        }
        is_whole
    }

    /// Handshakes that have waited for their turn, as far as there is time for them.
    fn open_waiting(&mut self) {
        while let Some((id, mut wire)) = self.core.next_in_line() {
            self.core.next_quantum();
            open(&mut self.shard, &mut self.core, id, &mut wire);
            self.core.end_quantum(id);
            self.tell_ends();
        }
    }

    fn fire_timers(&mut self) {
        self.core.wheel.advance(self.core.now);
        for fired in 1..=TIMER_BUDGET {
            let Some(alarm) = self.core.wheel.pop() else { break };
            match alarm {
                Alarm::Shard(token) => self.shard.on_timer(&mut self.core, token),
                Alarm::Accept(index) => self.core.arm_accept(index),
                Alarm::Deadline(id) => self.core.deadline_passed(id),
                Alarm::HungUp(id) => self.core.hung_up_for_long(id),
            }
            self.tell_ends();
            if self.core.is_over_after(fired) {
                break;
            }
        }
    }

    /// Tells the shard which connections have ended. True if any has.
    fn tell_ends(&mut self) -> bool {
        let mut any = false;
        while let Some(id) = self.core.ended.pop_front() {
            if let Some(why) = self.core.conns.named(id).and_then(|conn| conn.why.take()) {
                any = true;
                self.shard.on_close(&mut self.core, id, *why);
                self.core.release(id);
            }
        }
        any
    }

    /// Cancels everything and waits for the kernel's last answers: until then it may read and write our memory.
    fn tear_down(&mut self) -> io::Result<()> {
        self.core.close_listeners();
        for round in 0..2000 {
            if self.core.driver.in_flight() == 0 {
                return Ok(());
            }
            if round % 10 == 0 {
                self.core.driver.cancel_everything();
            }
            self.core.driver.submit(0)?;
            self.core.driver.reap(&mut self.answers, COMPLETION_BUDGET);
            if self.answers.is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            // An accepted connection among the answers is a descriptor to close.
            for completion in self.answers.drain(..).filter(|completion| completion.tag.kind == Kind::Accept) {
                let _ = self.core.accepted(&completion);
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Gives bytes of the wire to the layer of a connection, and their plain bytes to the shard. False: the shard has left some.
fn open<S: Shard>(shard: &mut S, core: &mut Core<S::Mail, impl Driver>, id: ConnId, wire: &mut [u8]) -> bool {
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
    let from = if plain.is_empty() { 0 } else { shard.on_bytes(core, id, &plain) };
    if from < plain.len() {
        return core.keep_unread(id, Box::new(Unread { plain, from, failed }));
    }
    core.layers.take_back(plain);
    match failed {
        None => core.bound_layers(),
        Some(error) => core.layer_failed(id, error),
    }
    true
}

impl<S: Shard, D: Driver> Drop for Turn<S, D> {
    fn drop(&mut self) {
        if self.tear_down().is_err() {
            // The kernel still holds some of the memory (a disk that does not answer). A leak at the end of a thread is harmless,
            // memory that changes hands under the kernel is not.
            std::mem::forget(std::mem::take(&mut self.core.conns));
            std::mem::forget(std::mem::take(&mut self.core.disk));
            std::mem::forget(std::mem::take(&mut self.core.fetches));
            self.buffers.leak();
        }
    }
}
