//! Instances of one broker that start, leave, freeze, are cut off and die, on a simulated clock, and the invariants that hold at any time.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::coordinator::Coordinator;
use crate::membership::format::Peer;
use crate::membership::{Instance, Membership, News, Settings, SlotSet, Terms};
use forebay_kafka::coordination::{Answer, Ask, Request, Says};
use forebay_runtime::seam::Monotonic;

pub(super) const SLOTS: u16 = 64;
pub(super) const SESSION: Duration = Duration::from_secs(12);

/// Time without an answer after which the client gives up a request.
const UNANSWERED: Duration = Duration::from_secs(3);

/// A deliberate fault in the implementation, which the checks must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Members do not report the slots that they hold.
    HeldNotSaid,
    /// A slot is reported as released while it is still served.
    ReleasedEarly,
    /// The group counts as alive when an answer arrives, instead of when its request was sent.
    HeardAtAnswer,
    /// Lost slots are still served.
    LostServed,
    /// A peer is removed by its name alone.
    EvictedByName,
    /// The first assignment does not wait for other members.
    NotGathered,
    /// A leader does not reassign slots that no member has.
    AssignedOnce,
}

pub(super) struct Process {
    name: Arc<str>,
    membership: Membership,
    pub(super) serving: SlotSet,
    frozen_until: Option<Monotonic>,
    cut_until: Monotonic,
    /// When the last of its requests arrives: they use one connection.
    arrives: Monotonic,
    is_alive: bool,
    /// The time since which no fault has affected the process.
    well_since: Monotonic,
    frozen_letters: VecDeque<(u64, Says)>,
    pub(super) troubles: Vec<String>,
}

enum Event {
    Arrives(usize, Box<Request>),
    Answered(usize, u64, Says),
    Released(usize, SlotSet),
    PeerGone(usize, Arc<str>, u128),
}

pub(super) struct World {
    pub(super) random: fastrand::Rng,
    pub(super) now: Monotonic,
    pub(super) kafka: Coordinator,
    pub(super) processes: Vec<Process>,
    events: BTreeMap<(Monotonic, u64), Event>,
    sequence: u64,
    wrong: Option<Wrong>,
    /// The last instance that served each slot, and the number of changes.
    last: BTreeMap<u16, Arc<str>>,
    pub(super) moves: BTreeMap<u16, u32>,
    pub(super) terms: Terms,
    pub(super) lost: u32,
}

pub(super) type Checked = Result<(), String>;

impl World {
    pub(super) fn new(seed: u64, wrong: Option<Wrong>) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            now: Monotonic(1_000_000_000_000),
            kafka: Coordinator::new(),
            processes: Vec::new(),
            events: BTreeMap::new(),
            sequence: 0,
            wrong,
            last: BTreeMap::new(),
            moves: BTreeMap::new(),
            terms: Terms { slots: SLOTS, routes: 7 },
            lost: 0,
        }
    }

    /// Starts a process with this name. Returns its number.
    pub(super) fn start(&mut self, name: &str, shards: u16) -> usize {
        let number = self.processes.len();
        let instance = Instance {
            name: Arc::from(name),
            incarnation: number as u128 + 1,
            link: Arc::from(format!("{name}:1885")),
            server: Arc::from(""),
            member_id: Arc::from(""),
        };
        let settings = Settings {
            number: 1,
            group: Rc::from("forebay-mqtt-sessions"),
            instance,
            shards,
            terms: self.terms,
            session_timeout: SESSION,
        };
        self.processes.push(Process {
            name: Arc::from(name),
            membership: Membership::new(settings, self.random.u64(..), self.now),
            serving: SlotSet::default(),
            frozen_until: None,
            cut_until: Monotonic(0),
            arrives: Monotonic(0),
            is_alive: true,
            well_since: Monotonic(0),
            frozen_letters: VecDeque::new(),
            troubles: Vec::new(),
        });
        number
    }

    /// Kills the process (kill -9). `are_told`: peers notice that its connections are refused.
    pub(super) fn kill(&mut self, of: usize, are_told: bool) {
        self.processes[of].is_alive = false;
        self.processes[of].serving = SlotSet::default();
        if are_told {
            let (name, incarnation) = (Arc::clone(&self.processes[of].name), of as u128 + 1);
            for peer in 0..self.processes.len() {
                let after = Duration::from_millis(self.random.u64(20..2_000));
                self.push(after, Event::PeerGone(peer, Arc::clone(&name), incarnation));
            }
        }
    }

    pub(super) fn freeze(&mut self, of: usize, time: Duration) {
        self.processes[of].frozen_until = Some(self.now.after(time));
    }

    pub(super) fn cut(&mut self, of: usize, time: Duration) {
        self.processes[of].cut_until = self.now.after(time);
    }

    /// Moves the group to another broker.
    pub(super) fn move_coordinator(&mut self, away: Duration) {
        self.kafka.moves(self.now, away);
        let well = self.now.after(away + UNANSWERED);
        self.processes.iter_mut().for_each(|of| of.well_since = of.well_since.max(well));
    }

    pub(super) fn alive(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|of| self.processes[*of].is_alive).collect()
    }

    pub(super) fn take_part(&mut self, of: usize, shards: u16) {
        self.processes[of].membership.take_part(shards, self.now);
    }

    pub(super) fn give_up(&mut self, of: usize) {
        self.processes[of].membership.give_up(self.now);
    }

    pub(super) fn name(&self, of: usize) -> Arc<str> {
        Arc::clone(&self.processes[of].name)
    }

    pub(super) fn membership(&self, of: usize) -> &Membership {
        &self.processes[of].membership
    }

    fn push(&mut self, after: Duration, event: Event) {
        self.push_at(self.now.after(after), event);
    }

    fn push_at(&mut self, at: Monotonic, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// Advances the time.
    ///
    /// # Errors
    /// A violated invariant.
    pub(super) fn run(&mut self, time: Duration) -> Checked {
        let end = self.now.after(time);
        loop {
            for of in 0..self.processes.len() {
                self.drive(of)?;
            }
            self.check()?;
            let event = self.events.first_key_value().map_or(Monotonic::NEVER, |((at, _), _)| *at);
            let own = self.processes.iter().filter(|of| of.is_alive);
            let own = own.map(|of| of.frozen_until.unwrap_or_else(|| of.membership.next_deadline()));
            let next = own.min().unwrap_or(Monotonic::NEVER).min(event).min(self.kafka.next_deadline());
            if next > end {
                self.now = end;
                return Ok(());
            }
            // A step costs some time, so that a busy loop is noticed.
            self.now = next.max(self.now.after(Duration::from_micros(10)));
            while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let event = entry.remove();
                self.take(event);
            }
            self.kafka.on_time(self.now);
            self.carry();
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Arrives(by, request) => {
                self.kafka.asked(by, &request, self.now);
                self.carry();
            }
            Event::Answered(to, token, says) => self.answer(to, token, says),
            Event::Released(of, slots) => {
                let process = &mut self.processes[of];
                if process.is_alive && process.frozen_until.is_some() {
                    return self.push(Duration::from_millis(100), Event::Released(of, slots));
                }
                process.serving = process.serving.without(&slots);
                process.membership.released(&slots, self.now);
            }
            Event::PeerGone(of, name, incarnation) => {
                let process = &mut self.processes[of];
                if process.is_alive && process.frozen_until.is_none() {
                    process.membership.peer_is_gone(&name, incarnation, self.now);
                }
            }
        }
    }

    fn answer(&mut self, to: usize, token: u64, says: Says) {
        let (now, wrong) = (self.now, self.wrong);
        let process = &mut self.processes[to];
        if !process.is_alive {
            return;
        }
        if process.frozen_until.is_some() {
            process.frozen_letters.push_back((token, says));
            return;
        }
        if wrong == Some(Wrong::HeardAtAnswer)
            && let Some(sent) = process.membership.silence.sent.get_mut(&token)
        {
            *sent = now;
        }
        process.membership.on_answer(&Answer { member: 1, token, says }, now);
    }

    /// Sends the coordinator's answers on their way.
    fn carry(&mut self) {
        for ((to, token), says) in std::mem::take(&mut self.kafka.answers) {
            let is_cut = self.processes[to].cut_until > self.now;
            let after = if is_cut { UNANSWERED } else { Duration::from_micros(self.random.u64(100..20_000)) };
            let says = if is_cut { Says::NoAnswer } else { says };
            self.push(after, Event::Answered(to, token, says));
        }
    }

    fn drive(&mut self, of: usize) -> Checked {
        let now = self.now;
        if !self.processes[of].is_alive {
            return Ok(());
        }
        match self.processes[of].frozen_until {
            Some(until) if until > now => return Ok(()),
            Some(_) => {
                self.processes[of].frozen_until = None;
                self.processes[of].well_since = now;
                self.processes[of].membership.on_time(now);
                for (token, says) in std::mem::take(&mut self.processes[of].frozen_letters) {
                    self.answer(of, token, says);
                }
            }
            None => {}
        }
        if self.processes[of].cut_until > now {
            self.processes[of].well_since = now.after(UNANSWERED);
        }
        self.processes[of].membership.on_time(now);
        for _ in 0..100 {
            while let Some(news) = self.processes[of].membership.take_news() {
                self.hear(of, news)?;
            }
            self.break_it(of);
            let Some(mut request) = self.processes[of].membership.take_request(now) else { return Ok(()) };
            if let (Ask::Join { metadata, .. }, Some(Wrong::HeldNotSaid)) = (&mut request.ask, self.wrong) {
                let said = Peer::decode(metadata).expect("what a member says of itself");
                *metadata = Rc::from(Peer { held: SlotSet::default(), ..said }.encode());
            }
            if let (Ask::Evict { member_id, .. }, Some(Wrong::EvictedByName)) = (&mut request.ask, self.wrong) {
                *member_id = Rc::from("");
            }
            if self.processes[of].cut_until > now {
                self.push(UNANSWERED, Event::Answered(of, request.token, Says::NoAnswer));
                continue;
            }
            let arrives = now.after(Duration::from_micros(self.random.u64(100..20_000)));
            self.processes[of].arrives = self.processes[of].arrives.max(arrives);
            self.push_at(self.processes[of].arrives, Event::Arrives(of, Box::new(request)));
        }
        Err(format!("{} asks without end", self.processes[of].name))
    }

    /// Applies the deliberate fault to a member.
    fn break_it(&mut self, of: usize) {
        let process = &mut self.processes[of];
        let own = &mut process.membership;
        match self.wrong {
            Some(Wrong::NotGathered) => own.member.protocol_mut().gathering = Duration::ZERO,
            Some(Wrong::AssignedOnce) => own.rejoin_at = Monotonic::NEVER,
            Some(Wrong::LostServed) => {
                let serving = process.serving;
                let held = &mut own.member.protocol_mut().own.held;
                *held = held.with(&serving);
            }
            _ => {}
        }
    }

    fn hear(&mut self, of: usize, news: News) -> Checked {
        let now = self.now;
        let process = &mut self.processes[of];
        match news {
            News::Take(slots) => {
                for slot in slots.iter() {
                    let before = self.last.insert(slot, Arc::clone(&process.name));
                    if before.is_some_and(|before| before != process.name) {
                        *self.moves.entry(slot).or_default() += 1;
                    }
                }
                process.serving = process.serving.with(&slots);
            }
            News::Release(slots) => {
                let after = Duration::from_millis(self.random.u64(10..1_500));
                if self.wrong == Some(Wrong::ReleasedEarly) {
                    process.membership.released(&slots, now);
                }
                self.push(after, Event::Released(of, slots));
            }
            News::Lost(slots) => {
                self.lost += 1;
                if self.wrong != Some(Wrong::LostServed) {
                    process.serving = process.serving.without(&slots);
                }
                if now.since(process.well_since) > SESSION * 3 {
                    return Err(format!("{} lost its slots, and nothing was wrong with it", process.name));
                }
            }
            News::Fenced => process.is_alive = false,
            News::Trouble(words) => process.troubles.push(words),
            News::Table(_) | News::Silent(_) | News::TroubleOver | News::Left => {}
        }
        Ok(())
    }

    /// Checks that no slot is served by two instances that live and answer. An instance that was not heard for as long as a rebalance
    /// waits, less a heartbeat, may not have been asked for its slots: only the fence of the log decides there.
    fn check(&self) -> Checked {
        let mut served = SlotSet::default();
        for process in self.processes.iter().filter(|of| of.is_alive && of.frozen_until.is_none()) {
            let heard = process.membership.silence.heard.unwrap_or_default();
            if process.membership.is_silent() || self.now.since(heard) >= SESSION / 2 - Duration::from_secs(1) {
                continue;
            }
            if let Some(slot) = served.iter().find(|slot| process.serving.contains(*slot)) {
                let heard = self.now.since(heard);
                return Err(format!("slot {slot} is served twice, once by {}, heard {heard:?} ago", process.name));
            }
            served = served.with(&process.serving);
        }
        Ok(())
    }

    /// Checks that every slot is served, each member has its part by weight, and the group is at rest.
    ///
    /// # Errors
    /// The condition that does not hold.
    pub(super) fn check_rest(&mut self, shards: &BTreeMap<Arc<str>, u16>) -> Checked {
        let generation = self.kafka.generation();
        self.run(Duration::from_secs(20))?;
        if self.kafka.generation() != generation {
            return Err(format!("the group does not come to rest: {generation} to {}", self.kafka.generation()));
        }
        let alive = self.alive();
        let weight = |of: usize| usize::from(shards.get(&self.processes[of].name).copied().unwrap_or(1));
        let all: usize = alive.iter().map(|of| weight(*of)).sum();
        let mut count = 0;
        for of in alive {
            let process = &self.processes[of];
            let part = usize::from(SLOTS) * weight(of) / all.max(1);
            let has = process.serving.len();
            if !(part..=part + 1).contains(&has) || process.serving != process.membership.held() {
                return Err(format!("{} serves {has} slots, its part is {part}", process.name));
            }
            if process.membership.table().owners.iter().any(Option::is_none) {
                return Err(format!("{} knows no owner of some slots", process.name));
            }
            count += has;
        }
        if count == usize::from(SLOTS) { Ok(()) } else { Err(format!("{count} slots are served")) }
    }
}
