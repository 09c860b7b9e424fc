//! One generator thread: its share of the clients, one epoll loop, no lock and no allocation per message.

mod receive;
mod send;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};

use super::client::{Client, Io, Slot, State};
use super::packet::{self, Template};
use super::scenario::Role;
use super::shared::{Phase, Shared};
use super::stats::Stats;
use super::streams::Streams;
use crate::flow::told::Told;

/// The most connections that one thread makes at a time: more overflow a listener's queue.
const CONNECTING_MAX: usize = 128;
const RETRY_NS: u64 = 1_000_000_000;
const SWEEP_NS: u64 = 500_000_000;
/// The time between two transfers of recent latencies, in ns.
const TICK_NS: u64 = 500_000_000;
/// The longest wait in the kernel, in ns.
const WAIT_NS_MAX: u64 = 10_000_000;

/// The result of a thread.
pub(crate) struct Worked {
    pub(crate) stats: Stats,
    pub(crate) clients: Vec<Client>,
    /// CPU seconds of the thread.
    pub(crate) cpu_s: f64,
    /// The time in seconds in which the thread was runnable and had no CPU.
    pub(crate) waited_s: f64,
}

/// See the module.
pub(crate) struct Worker<'a> {
    shared: &'a Shared,
    thread: usize,
    poll: OwnedFd,
    clients: Vec<Client>,
    /// The range of the thread's clients, by group.
    ranges: Vec<std::ops::Range<u32>>,
    stats: Stats,
    ready: Vec<u32>,
    spare: Vec<u32>,
    to_connect: VecDeque<u32>,
    connecting: usize,
    connected: u64,
    unfinished: u64,
    /// The next write (or connect) of the open loop, counted over all threads, by group.
    next_due: Vec<u64>,
    behind: u64,
    /// Clients that wait to connect again, or think.
    later: BinaryHeap<Reverse<(u64, u32)>>,
    sweep_ns: u64,
    tick_ns: u64,
    phase: Phase,
    measure_ns: u64,
    end_ns: u64,
    ended: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    compare: Vec<u8>,
    lately: Sender<Histogram<u64>>,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(shared: &'a Shared, thread: usize, lately: Sender<Histogram<u64>>) -> anyhow::Result<Self> {
        let (mut clients, mut ranges, mut unfinished) = (Vec::new(), Vec::new(), 0);
        for (number, prepared) in shared.groups.iter().enumerate() {
            let first = clients.len() as u32;
            for index in (thread as u32..prepared.group.clients).step_by(shared.threads) {
                clients.push(client(shared, number, index));
            }
            ranges.push(first..clients.len() as u32);
            if prepared.group.role == Role::Publish {
                unfinished += clients.len() as u64 - u64::from(first);
            }
        }
        // Subscribers come first, so that they are there before the first publish.
        let role = |index: &u32| shared.groups[usize::from(clients[*index as usize].group)].group.role;
        let mut order: Vec<u32> = (0..clients.len() as u32).filter(|index| role(index) != Role::Connect).collect();
        order.sort_by_key(|index| role(index) != Role::Subscribe);
        Ok(Self {
            shared,
            thread,
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ranges,
            stats: Stats::new()?,
            ready: Vec::new(),
            spare: Vec::new(),
            to_connect: order.into(),
            connecting: 0,
            connected: 0,
            unfinished,
            next_due: vec![0; shared.groups.len()],
            behind: 0,
            later: BinaryHeap::new(),
            sweep_ns: 0,
            tick_ns: 0,
            phase: Phase::Connecting,
            measure_ns: u64::MAX,
            end_ns: u64::MAX,
            ended: false,
            input: vec![0; 64 << 10],
            output: Vec::with_capacity(64 << 10),
            compare: Vec::new(),
            lately,
            clients,
        })
    }

    /// Works until the run is stopped.
    ///
    /// # Errors
    /// The system's errors, when the thread cannot go on.
    pub(crate) fn run(mut self) -> anyhow::Result<Worked> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
        while self.phase != Phase::Stopped {
            let now_ns = self.shared.now_ns();
            self.turn(now_ns)?;
            events.clear();
            let wait = Timespec { tv_sec: 0, tv_nsec: self.wait_ns() as i64 };
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                self.event(event.data.u64(), event.flags);
            }
            self.publish_counters();
        }
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let cpu_s = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
        // Second field of schedstat: time spent runnable and not running, in nanoseconds.
        let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let waited_ns: f64 = schedule.split_whitespace().nth(1).and_then(|ns| ns.parse().ok()).unwrap_or(0.0);
        Ok(Worked { stats: self.stats, clients: self.clients, cpu_s, waited_s: waited_ns / 1e9 })
    }

    fn turn(&mut self, now_ns: u64) -> anyhow::Result<()> {
        let phase = self.shared.phase();
        if phase != self.phase {
            self.phase = phase;
            if phase == Phase::Running {
                (self.measure_ns, self.end_ns) = (self.shared.measure_ns(), self.shared.end_ns());
                self.wake_all();
            }
        }
        if self.phase == Phase::Running && now_ns >= self.shared.start_ns() {
            self.make_due(now_ns);
            if now_ns >= self.end_ns && !self.ended {
                self.ended = true;
                (0..self.clients.len() as u32).for_each(|index| self.queue(index));
            }
        }
        while let Some(&Reverse((when_ns, index))) = self.later.peek() {
            if when_ns > now_ns {
                break;
            }
            self.later.pop();
            if self.clients[index as usize].state == State::Down {
                self.to_connect.push_back(index);
            } else {
                self.queue(index);
            }
        }
        self.connect(now_ns);
        if now_ns >= self.sweep_ns {
            self.sweep_ns = now_ns + SWEEP_NS;
            self.sweep(now_ns);
        }
        if now_ns >= self.tick_ns {
            self.tick_ns = now_ns + TICK_NS;
            let _ = self.lately.send(self.stats.lately.clone());
            self.stats.lately.reset();
        }
        let mut ready = std::mem::replace(&mut self.ready, std::mem::take(&mut self.spare));
        for index in ready.drain(..) {
            self.clients[index as usize].queued = false;
            self.pump(index);
        }
        self.spare = ready;
        Ok(())
    }

    fn queue(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if !client.queued {
            client.queued = true;
            self.ready.push(index);
        }
    }

    /// The load begins: clients of closed loops send, or connect.
    fn wake_all(&mut self) {
        for (group, range) in self.ranges.clone().into_iter().enumerate() {
            let prepared = &self.shared.groups[group];
            match (prepared.group.role, prepared.schedule.is_some()) {
                (Role::Publish, false) => range.for_each(|index| self.queue(index)),
                (Role::Connect, false) => self.to_connect.extend(range),
                _ => {}
            }
        }
    }

    /// Moves open loops on to `now_ns`.
    fn make_due(&mut self, now_ns: u64) {
        let start_ns = self.shared.start_ns();
        let by_ns = now_ns.min(self.end_ns) - start_ns;
        let shared = self.shared;
        for (group, prepared) in shared.groups.iter().enumerate() {
            let Some(schedule) = prepared.schedule else { continue };
            let (clients, threads) = (u64::from(prepared.group.clients), shared.threads as u64);
            let per = if prepared.group.role == Role::Publish { u64::from(prepared.group.per_write) } else { 1 };
            while schedule.at_ns(self.next_due[group]) < by_ns {
                let number = self.next_due[group];
                self.next_due[group] += 1;
                let client = number % clients;
                if client % threads != self.thread as u64 {
                    continue;
                }
                let index = self.ranges[group].start + (client / threads) as u32;
                let client = &mut self.clients[index as usize];
                let due = client.due.saturating_add(per).min(client.limit);
                self.behind += due - client.due;
                client.due = due;
                if prepared.group.role == Role::Publish {
                    self.queue(index);
                } else if client.state == State::Down && !client.queued {
                    client.queued = true;
                    self.to_connect.push_back(index);
                }
            }
        }
    }

    fn connect(&mut self, now_ns: u64) {
        while self.connecting < CONNECTING_MAX {
            let Some(&index) = self.to_connect.front() else { return };
            let client = &mut self.clients[index as usize];
            let prepared = &self.shared.groups[usize::from(client.group)];
            let rate = prepared.group.connect_rate;
            if rate > 0.0 && prepared.group.role != Role::Connect {
                let due_ns = (f64::from(client.index) * 1e9 / rate) as u64;
                if client.generation == 0 && now_ns < due_ns {
                    return;
                }
            }
            self.to_connect.pop_front();
            client.queued = false;
            if client.state != State::Down {
                continue;
            }
            client.connect_ns = now_ns;
            if prepared.group.role == Role::Connect {
                if now_ns >= self.end_ns || self.phase != Phase::Running {
                    continue;
                }
                if let Some(schedule) = prepared.schedule {
                    let turn = client.number * u64::from(prepared.group.clients) + u64::from(client.index);
                    client.connect_ns = self.shared.start_ns() + schedule.at_ns(turn);
                }
            }
            self.connecting += 1;
            if client.connect(prepared.endpoint.address, &self.poll, index).is_err() {
                // The connection was refused at once, as on loopback.
                self.connecting -= 1;
                self.stats.connects_failed += 1;
                self.retry_later(index);
            }
        }
    }

    /// A connection is lost, or could not be made.
    fn lost(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        match client.state {
            State::Down => return,
            State::Connecting | State::Greeting | State::Subscribing => {
                self.connecting -= 1;
                self.stats.connects_failed += 1;
            }
            State::Open | State::Ending => {
                self.connected -= 1;
                self.stats.connections_lost += 1;
            }
            State::Done => {
                self.connected -= 1;
                self.stats.connections_lost += 1;
                client.close();
                client.state = State::Done;
                return;
            }
        }
        if let Some(told) = &mut client.told {
            told.dropped += 1;
        }
        self.stats.given_up += client.close();
        self.retry_later(index);
    }

    fn retry_later(&mut self, index: u32) {
        if self.phase != Phase::Stopped {
            self.later.push(Reverse((self.shared.now_ns() + RETRY_NS, index)));
        }
    }

    /// Sends PINGREQ after half of the keep-alive without a packet.
    fn sweep(&mut self, now_ns: u64) {
        for index in 0..self.clients.len() as u32 {
            let client = &mut self.clients[index as usize];
            let half_ns = u64::from(self.shared.groups[usize::from(client.group)].group.keep_alive) * 500_000_000;
            if half_ns > 0 && client.state == State::Open && now_ns.saturating_sub(client.last_out_ns) >= half_ns {
                client.last_out_ns = now_ns;
                if client.send(&crate::flow::wire::PING) == Io::Closed {
                    self.lost(index);
                }
            }
        }
    }

    fn event(&mut self, data: u64, flags: epoll::EventFlags) {
        let index = data as u32;
        let client = &mut self.clients[index as usize];
        if client.generation != (data >> 32) as u32 || !client.has_socket() {
            return;
        }
        if flags.contains(epoll::EventFlags::OUT) {
            client.writable = true;
            if client.state == State::Connecting {
                if !client.connected() {
                    return self.lost(index);
                }
                return self.greet(index);
            }
            if client.flush() == Io::Closed {
                return self.lost(index);
            }
            self.queue(index);
        }
        if flags.intersects(
            epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR,
        ) {
            self.receive(index);
        }
    }

    /// TCP is connected: sends CONNECT.
    fn greet(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        let prepared = &self.shared.groups[usize::from(client.group)];
        let id = format!("bench-{:08x}-{}-{}", self.shared.run, client.group, client.index);
        client.state = State::Greeting;
        client.last_out_ns = self.shared.now_ns();
        let mut out = Vec::new();
        packet::connect(&mut out, &prepared.group, &id);
        match prepared.endpoint.transport.layer() {
            Ok(layer) => client.layer = layer,
            Err(error) => self.stats.error(|| error.to_string()),
        }
        if client.send(&out) == Io::Closed {
            self.lost(index);
        }
    }

    fn wait_ns(&self) -> u64 {
        if !self.ready.is_empty() {
            return 0;
        }
        let now_ns = self.shared.now_ns();
        let mut until_ns = now_ns + WAIT_NS_MAX;
        if let Some(&Reverse((when_ns, _))) = self.later.peek() {
            until_ns = until_ns.min(when_ns);
        }
        if self.phase == Phase::Running && now_ns < self.end_ns {
            let start_ns = self.shared.start_ns();
            for (prepared, &next) in self.shared.groups.iter().zip(&self.next_due) {
                if let Some(schedule) = prepared.schedule {
                    until_ns = until_ns.min(start_ns.saturating_add(schedule.at_ns(next)));
                }
            }
        }
        until_ns.saturating_sub(now_ns)
    }

    fn publish_counters(&self) {
        let counters = &self.shared.counters[self.thread];
        let set = |counter: &std::sync::atomic::AtomicU64, value| counter.store(value, Ordering::Relaxed);
        set(&counters.connected, self.connected);
        set(&counters.connects, self.stats.connects);
        set(&counters.sent, self.stats.sent_all());
        set(&counters.answered, self.stats.answered);
        set(&counters.received, self.stats.received);
        set(&counters.failures, self.stats.connects_failed + self.stats.connections_lost);
        set(&counters.unfinished, self.unfinished);
        set(&counters.behind, self.behind);
    }
}

fn client(shared: &Shared, number: usize, index: u32) -> Client {
    let prepared = &shared.groups[number];
    let group = &prepared.group;
    let mut client = Client::new(number as u16, index);
    match group.role {
        Role::Publish => {
            client.template = Some(Box::new(Template::new(group, prepared.run, index)));
            if group.messages > 0 {
                let (messages, clients) = (group.messages, u64::from(group.clients));
                client.limit = messages / clients + u64::from(u64::from(index) < messages % clients);
            }
            if prepared.qos != Some(0) {
                let ids = (usize::from(group.window) * 2).min(usize::from(u16::MAX));
                client.slots = vec![Slot::default(); ids].into();
            }
            client.told = shared.told.then(|| Box::new(Told::default()));
        }
        Role::Subscribe => {
            let judged = shared.publishers.count > 0;
            client.streams = judged.then(|| Box::new(Streams::new(shared.publishers.count)));
        }
        Role::Idle | Role::Connect => {}
    }
    client
}
