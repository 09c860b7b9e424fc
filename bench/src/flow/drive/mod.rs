//! The event loop: one thread, epoll, all clients.

mod events;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use crate::flow::client::{Client, Manner, State};
use crate::flow::control::{Control, Order};
use crate::flow::events::{Events, Kind};
use crate::flow::link::{Io, Link};
use crate::flow::pace::Pace;
use crate::flow::plan::{Plan, mix};
use crate::flow::tally::Tally;
use crate::flow::timeline::Timeline;

/// The most connections being made at a time: more would overflow a listener's queue.
const CONNECTING_MAX: usize = 128;
/// Marks standard input among the sockets.
const CONTROL: u64 = u64::MAX;
const BACKOFF_MS_MIN: u64 = 10;
const BACKOFF_MS_MAX: u64 = 1_000;
/// Writes of one client before the others have their turn.
const WRITES_A_TURN: usize = 16;

/// The result of a run.
pub(crate) struct Outcome {
    pub(crate) clients: Vec<Client>,
    pub(crate) tally: Tally,
    pub(crate) pace: Pace,
    /// Waits to be closed.
    pub(crate) control: Option<Control>,
    pub(crate) wall_s: f64,
    /// The part of it after the last message was sent for the first time.
    pub(crate) drain_s: f64,
}

/// The terms of a run beside the plan.
pub(crate) struct Terms {
    /// The server's instances.
    pub(crate) targets: Vec<SocketAddr>,
    /// The longest wait for an answer to CONNECT or PINGREQ.
    pub(crate) silence: Option<Duration>,
    pub(crate) pace: Pace,
    pub(crate) timeout: Duration,
    /// The longest wait for answers once nothing new is sent.
    pub(crate) patience: Duration,
    pub(crate) control: Option<Control>,
    pub(crate) events: Events,
}

/// Sends the plan. Ends when all messages are answered, or after the time-out.
pub(crate) fn run(plan: &Plan, manner: Manner, terms: Terms, timeline: &mut Timeline) -> anyhow::Result<Outcome> {
    let (timeout, patience_ns) = (terms.timeout, terms.patience.as_nanos() as u64);
    let mut driver = Driver::new(plan, manner, terms)?;
    let mut all_sent_ns = None;
    while driver.done < driver.links.len() {
        let now_ns = driver.now_ns();
        if now_ns > timeout.as_nanos() as u64 {
            break;
        }
        driver.turn(now_ns)?;
        if driver.ended_ns.is_some_and(|ended_ns| now_ns > ended_ns + patience_ns) {
            break;
        }
        let all_sent = driver.ended_ns.is_some() || driver.tally.sent_all() == plan.messages;
        if all_sent_ns.is_none() && all_sent {
            all_sent_ns = Some(now_ns);
        }
        if timeline.is_due(now_ns) {
            let connected = driver.links.iter().filter(|link| link.client.state == State::Open).count();
            timeline.note(now_ns, connected, driver.pace.behind(), &mut driver.tally)?;
        }
    }
    let end_ns = driver.now_ns();
    driver.tally.marks.close(end_ns);
    driver.tally.events.close()?;
    Ok(Outcome {
        clients: driver.links.into_iter().map(|link| link.client).collect(),
        tally: driver.tally,
        pace: driver.pace,
        control: driver.control,
        wall_s: end_ns as f64 / 1e9,
        drain_s: all_sent_ns.map_or(0.0, |sent_ns| (end_ns - sent_ns) as f64 / 1e9),
    })
}

struct Driver<'a> {
    plan: &'a Plan,
    targets: Vec<SocketAddr>,
    silence_ns: Option<u64>,
    /// Counts the service's starts.
    generation: u32,
    control: Option<Control>,
    /// The time since when nothing new is sent.
    ended_ns: Option<u64>,
    poll: OwnedFd,
    links: Vec<Link>,
    tally: Tally,
    pace: Pace,
    start: Instant,
    /// Clients with something to do.
    ready: Vec<u32>,
    spare: Vec<u32>,
    to_connect: VecDeque<u32>,
    connecting: usize,
    /// The times at which clients try to connect again.
    later: BinaryHeap<Reverse<(u64, u32)>>,
    keep_alive_ns: u64,
    done: usize,
    scratch: Vec<u8>,
}

impl<'a> Driver<'a> {
    fn new(plan: &'a Plan, manner: Manner, terms: Terms) -> anyhow::Result<Self> {
        let Terms { targets, silence, pace, control, events, .. } = terms;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        if let Some(control) = &control {
            epoll::add(&poll, control.fd(), epoll::EventData::new_u64(CONTROL), epoll::EventFlags::IN)?;
        }
        Ok(Self {
            plan,
            targets,
            silence_ns: silence.map(|silence| silence.as_nanos() as u64),
            generation: 0,
            control,
            ended_ns: None,
            poll,
            links: (0..plan.clients).map(|index| Link::new(Client::new(index, plan, manner))).collect(),
            tally: Tally { events, ..Tally::new()? },
            pace,
            start: Instant::now(),
            ready: Vec::new(),
            spare: Vec::new(),
            to_connect: (0..plan.clients).collect(),
            connecting: 0,
            later: BinaryHeap::new(),
            keep_alive_ns: 0,
            done: 0,
            scratch: vec![0; 64 << 10],
        })
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn turn(&mut self, now_ns: u64) -> anyhow::Result<()> {
        self.make_due(now_ns);
        while let Some(&Reverse((when_ns, index))) = self.later.peek() {
            if when_ns > now_ns {
                break;
            }
            self.later.pop();
            self.to_connect.push_back(index);
        }
        while self.connecting < CONNECTING_MAX {
            let Some(index) = self.to_connect.pop_front() else { break };
            self.connecting += 1;
            let link = &mut self.links[index as usize];
            let draw = mix(u64::from(index) << 32 | u64::from(link.generation));
            let target = self.targets[draw as usize % self.targets.len()];
            (link.begun_ns, link.heard_ns) = (now_ns, now_ns);
            if link.connect(target, self.generation, &self.poll).is_err() {
                self.lost(index, now_ns);
            }
        }
        if now_ns >= self.keep_alive_ns {
            self.keep_alive_ns = now_ns + 250_000_000;
            self.keep_alive(now_ns);
        }
        let mut ready = std::mem::replace(&mut self.ready, std::mem::take(&mut self.spare));
        for index in ready.drain(..) {
            self.links[index as usize].queued = false;
            self.pump(index);
        }
        self.spare = ready;
        self.wait(now_ns)
    }

    /// Hands newly due messages to their clients.
    fn make_due(&mut self, now_ns: u64) {
        let Some(range) = self.pace.advance(now_ns, self.tally.sent_all(), self.plan) else { return };
        let clients = u64::from(self.plan.clients);
        // At the end, clients with less than a whole write are included.
        let touched = if range.end == self.plan.messages { clients } else { (range.end - range.start).min(clients) };
        for number in range.start..range.start + touched {
            let index = (number % clients) as u32;
            let client = &mut self.links[index as usize].client;
            let due = self.pace.due(index, self.plan);
            if due > client.due {
                client.due = due;
                self.queue(index);
            }
        }
    }

    /// Carries out the orders.
    fn ordered(&mut self) -> anyhow::Result<()> {
        let Some(control) = &mut self.control else { return Ok(()) };
        let orders = control.read()?;
        if control.has_ended() {
            epoll::delete(&self.poll, control.fd())?;
        }
        for order in orders {
            let now_ns = self.now_ns();
            match order {
                Order::Target(target) => {
                    self.targets = vec![target];
                    self.generation += 1;
                    self.try_at_once();
                }
                Order::Targets(targets) => {
                    self.targets = targets;
                    self.try_at_once();
                }
                Order::Mark(name) => {
                    self.tally.marks.put(&name, now_ns, self.generation);
                    self.tally.events.put(now_ns, 0, Kind::Mark, 0, u64::from(self.generation));
                }
                Order::End => {
                    self.ended_ns = Some(now_ns);
                    for index in 0..self.links.len() as u32 {
                        self.links[index as usize].client.end();
                        self.queue(index);
                    }
                }
            }
        }
        Ok(())
    }

    /// Clients that wait to connect to the old targets try the new ones now.
    fn try_at_once(&mut self) {
        self.to_connect.extend(self.later.drain().map(|Reverse((_, index))| index));
        self.links.iter_mut().for_each(|link| link.backoff_ms = 0);
    }

    fn queue(&mut self, index: u32) {
        let link = &mut self.links[index as usize];
        if !link.queued {
            link.queued = true;
            self.ready.push(index);
        }
    }

    fn keep_alive(&mut self, now_ns: u64) {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            if self.silence_ns.is_some_and(|silence_ns| link.waits_ns(now_ns) > silence_ns) {
                self.lost(index as u32, now_ns);
                continue;
            }
            let heard_ns = self.silence_ns.map_or(now_ns, |_| link.heard_ns);
            link.client.keep_alive(now_ns, heard_ns, &mut self.tally);
            if !link.client.out.is_empty() {
                self.queue(index as u32);
            }
        }
    }

    /// Writes the packets that a client may send.
    fn pump(&mut self, index: u32) {
        let now_ns = self.now_ns();
        for _ in 0..WRITES_A_TURN {
            let link = &mut self.links[index as usize];
            if link.socket.is_none() || link.connecting {
                return;
            }
            match link.flush() {
                Io::Done(_) => {}
                Io::Blocked => return,
                Io::Closed => return self.lost(index, now_ns),
            }
            if link.client.state == State::Done {
                link.close();
                self.done += 1;
                return;
            }
            if let Some(orderly) = link.client.wants_break() {
                return self.break_off(index, orderly);
            }
            if link.client.fill(now_ns, self.plan, &mut self.tally) == 0 {
                return;
            }
        }
        self.queue(index);
    }

    /// The client ends its connection by itself, and connects again at once.
    fn break_off(&mut self, index: u32, orderly: bool) {
        let link = &mut self.links[index as usize];
        if orderly {
            link.client.out.extend_from_slice(&crate::flow::wire::DISCONNECT);
            let _ = link.flush();
        }
        link.client.told.broken += 1;
        link.close();
        self.to_connect.push_back(index);
    }

    /// The connection is lost, or was not made.
    fn lost(&mut self, index: u32, now_ns: u64) {
        let link = &mut self.links[index as usize];
        if link.client.state == State::Done {
            link.close();
            self.done += 1;
            return;
        }
        if matches!(link.client.state, State::Down | State::Greeting) {
            self.connecting -= 1;
            self.tally.connects_failed += 1;
        } else {
            link.client.told.dropped += 1;
            let generation = u64::from(link.client.generation);
            self.tally.events.put(now_ns, index, Kind::Lost, 0, generation);
        }
        link.close();
        link.backoff_ms = (link.backoff_ms * 2).clamp(BACKOFF_MS_MIN, BACKOFF_MS_MAX);
        // Half of the wait is random, so that a thousand clients do not come back at once.
        let wait_ms = link.backoff_ms / 2 + mix(now_ns ^ u64::from(index)) % (link.backoff_ms / 2 + 1);
        self.later.push(Reverse((now_ns + wait_ms * 1_000_000, index)));
    }
}
