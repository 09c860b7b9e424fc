//! A share of several instances, on its home.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use forebay_broker::Broker;
use forebay_broker::here::Here;
use forebay_broker::words::{clipped, second};

use super::super::super::mail::Place;
use super::super::STOPPING;
use super::super::reader::assigned;
use super::super::window::{Answered, Window};
use super::placing::{Placing, Topics, find_ends, request};
use super::{Context, DAMPED, DELETING, GROUP_FORBIDDEN, HEARTBEAT, HELD, MAY_NOT_DELETE, RETRY};
use forebay_base::rules::Rules;
use forebay_config::Config;
use forebay_kafka::consumer::{self, Consumer, News as Read, Start};
use forebay_kafka::coordination::{Answer, Ask, Offset, Request, Says, TopicPartition};
use forebay_kafka::group::{self, Assigned, Member, News, Partaking, Standing};
use forebay_metrics::event::{Field, Kind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::route::shares::Share;
use forebay_runtime::seam::Monotonic;

/// The part of this instance in the group of a share.
#[derive(Debug)]
enum Stage {
    /// The share's place is being found. `u32`: IDs of partitions at the consumer.
    Placing(Placing, BTreeMap<u32, TopicPartition>),
    /// The instance is in the group, or joins.
    Member(Box<Member<Partaking>>),
    /// The instance leaves: no member of the share is here.
    Leaving(Box<Member<Partaking>>),
    /// The instance has left, and asks for the deletion of the group, which succeeds if no other instance is in it; until this time, and with this token of
    /// the request.
    Deleting(Monotonic, Option<u64>),
    Over,
}

/// A partition assigned by the group.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) at: TopicPartition,
    /// The records that no member has yet, and those after them. `None`: the first offset to read is not known.
    pub(super) window: Option<Window>,
    committed: Option<Place>,
    pub(super) is_paused: bool,
    /// Whether the partition has not been read on for longer than members may take to acknowledge.
    is_held: bool,
}

/// See the module.
pub(super) struct GroupShare {
    pub(super) share: Arc<Share>,
    /// Its number at the client of the cluster.
    pub(super) number: u32,
    group: Rc<str>,
    topics: Topics,
    stage: Stage,
    pub(super) consumer: Consumer,
    /// The partitions by reader number.
    pub(super) parts: BTreeMap<u32, Part>,
    /// The places where partitions placed by this instance begin.
    begun: BTreeMap<TopicPartition, i64>,
    /// The time until which open records are waited for, if all partitions are being revoked.
    pub(super) stopping: Option<Monotonic>,
    /// The time since which it has had no member online, or none at all.
    idle: Option<Monotonic>,
    commit_at: Monotonic,
    /// The time at which messages are offered again that no member has.
    pub(super) retry_at: Option<Monotonic>,
    has_unmet: bool,
    /// The reason why it has no place yet, as reported.
    trouble: Option<String>,
    /// An unreported event of a received answer.
    untold: Option<&'static str>,
}

impl GroupShare {
    /// A share. `asks`: its members wait until it has its place. Otherwise it already has one.
    pub(super) fn new(
        (share, asks): (Arc<Share>, bool),
        number: u32,
        (config, topics): (&Config, Topics),
        consumer: Consumer,
        now: Monotonic,
    ) -> Self {
        let group: Rc<str> =
            config.broker.as_ref().map_or_else(String::new, |of| of.group_of_share(share.text())).into();
        let mut of = Self {
            share,
            number,
            group,
            topics,
            stage: Stage::Over,
            consumer,
            parts: BTreeMap::new(),
            begun: BTreeMap::new(),
            stopping: None,
            idle: None,
            commit_at: now,
            retry_at: None,
            has_unmet: false,
            trouble: None,
            untold: None,
        };
        of.begin(asks, now);
        of
    }

    fn begin(&mut self, asks: bool, now: Monotonic) {
        if !asks {
            self.share.set_placed();
        }
        let placing = Placing::new(self.number, &self.group, &self.topics, asks, now);
        self.stage = Stage::Placing(placing, BTreeMap::new());
    }

    fn joins(&mut self, topics: Vec<Rc<str>>, config: &Config, (seed, now): (u64, Monotonic)) -> Stage {
        let session_timeout =
            config.broker.as_ref().map_or(group::Settings::default().session_timeout, |of| of.session_timeout);
        let settings = group::Settings {
            number: self.number,
            group: Rc::clone(&self.group),
            topics,
            session_timeout,
            heartbeat_interval: HEARTBEAT,
            ..group::Settings::default()
        };
        self.share.set_placed();
        Stage::Member(Box::new(Member::of(Partaking::new(self.share.is_present()), settings, seed, now)))
    }

    /// Takes a change of the share's members, which may be those of a newer share with its text. True: they need not wait.
    pub(super) fn hears(&mut self, share: Arc<Share>) -> bool {
        if share.number() < self.share.number() {
            // Another shard's letter has overtaken this one.
            return false;
        }
        let has_place = match &self.stage {
            Stage::Placing(placing, _) => !placing.is_new(),
            stage => matches!(stage, Stage::Member(_)),
        };
        let is_placed = has_place && !share.is_placed();
        if is_placed {
            share.set_placed();
        }
        self.share = share;
        is_placed
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    pub(super) fn partitions(&self) -> usize {
        self.parts.len()
    }

    /// The number of partitions that have not been read on for longer than members may take to acknowledge.
    pub(super) fn held(&self) -> usize {
        self.parts.values().filter(|part| part.is_held).count()
    }

    /// Records that not all members are done with, and their bytes.
    pub(super) fn open(&self) -> (usize, usize) {
        let windows = self.parts.values().filter_map(|part| part.window.as_ref());
        windows.fold((0, 0), |(records, bytes), window| (records + window.len(), bytes + window.bytes()))
    }

    pub(super) fn take_request(&mut self, now: Monotonic) -> Option<Request> {
        match &mut self.stage {
            Stage::Placing(placing, _) => placing.take_request(now),
            Stage::Member(member) | Stage::Leaving(member) => member.take_request(now),
            Stage::Deleting(_, token @ None) => {
                *token = Some(u64::MAX);
                Some(request(self.number, u64::MAX, &self.group, Ask::Delete))
            }
            Stage::Deleting(..) | Stage::Over => None,
        }
    }

    pub(super) fn on_answer(&mut self, answer: &Answer, now: Monotonic) {
        match &mut self.stage {
            Stage::Placing(placing, _) => placing.on_answer(answer, now),
            Stage::Member(member) | Stage::Leaving(member) => member.on_answer(answer, now),
            Stage::Deleting(_, Some(token)) if *token == answer.token => {
                if let Says::Refused(code) = answer.says {
                    // 68 (NON_EMPTY_GROUP): other instances are in the group.
                    tracing::debug!(group = &*self.group, code, "the group of a share stays");
                    self.untold = Some(MAY_NOT_DELETE).filter(|_| code == GROUP_FORBIDDEN);
                }
                self.stage = Stage::Over;
            }
            Stage::Deleting(..) | Stage::Over => {}
        }
    }

    /// The time of the next request.
    pub(super) fn next_deadline(&self) -> Monotonic {
        let own = match &self.stage {
            Stage::Placing(placing, _) => placing.next_deadline(),
            Stage::Member(member) | Stage::Leaving(member) => member.next_deadline(),
            Stage::Deleting(until, token) => token.map_or(Monotonic::default(), |_| *until),
            Stage::Over => Monotonic::NEVER,
        };
        own.min(self.consumer.next_deadline())
    }

    /// The time at which the share has to be checked even if nothing happens.
    pub(super) fn next_look(&self, rules: &dyn Rules, now: Monotonic) -> Monotonic {
        let is_in = matches!(self.stage, Stage::Member(_)) && self.stopping.is_none();
        let commit = if is_in && self.uncommitted(rules).next().is_some() { self.commit_at } else { Monotonic::NEVER };
        let damped = self.idle.map(|since| since.after(DAMPED)).filter(|at| *at > now);
        let until = if let Stage::Deleting(until, _) = self.stage { Some(until) } else { None };
        let retry = self.retry_at.filter(|_| is_in && !self.parts.is_empty() && self.share.is_present());
        [Some(commit), damped, until, retry, self.stopping].into_iter().flatten().fold(Monotonic::NEVER, Monotonic::min)
    }

    /// Takes one of the answers that a record waits for. False: the record is not of this share.
    pub(super) fn settle(&mut self, reader: u32, number: u32, is_met: bool, rules: &dyn Rules) -> bool {
        let Some(part) = self.parts.get_mut(&reader) else { return false };
        if let Some(window) = &mut part.window {
            self.has_unmet |= matches!(window.settle(number, is_met, rules), Answered::Unmet(_));
        }
        true
    }

    /// Does the work that is due. True: there may be a request.
    pub(super) fn step(&mut self, broker: &mut Broker, here: &mut Here, context: &mut Context<'_>) -> bool {
        let now = context.now;
        if std::mem::take(&mut self.has_unmet) {
            self.retry_at.get_or_insert(now.after(RETRY));
        }
        self.take_news(broker, here, context);
        if let Some(why) = self.untold.take() {
            tell(here, Kind::ShareTrouble, (self, None), Some(why), now);
        }
        match &mut self.stage {
            Stage::Placing(..) => self.find_place(here, context),
            Stage::Member(_) => self.step_member(broker, here, context),
            Stage::Leaving(member) => {
                member.on_time(now);
                while member.take_news().is_some() {}
                if member.standing() == Standing::Ended {
                    self.has_left(context);
                }
            }
            Stage::Deleting(until, _) if *until <= now => self.stage = Stage::Over,
            Stage::Deleting(..) | Stage::Over => {}
        }
        self.next_deadline() <= now
    }

    fn find_place(&mut self, here: &mut Here, context: &mut Context<'_>) {
        let Stage::Placing(placing, ids) = &mut self.stage else { return };
        if placing.is_refused() && placing.is_new() && !self.share.is_refused() {
            self.share.set_refused();
            context.has_placed = true;
        }
        let trouble = placing.trouble(context.now);
        let (source, begun) = (context.source, &mut *context.begun);
        let assignment = |at: &TopicPartition, places| assigned(source, (Rc::clone(&at.topic), at.partition), places);
        if placing.wanted().next().is_none() {
            std::mem::take(ids).into_keys().for_each(|id| self.consumer.unassign(id));
        }
        find_ends(placing, &mut self.consumer, ids, || next(begun), assignment);
        if let Some(ends) = placing.is_done() {
            let topics = placing.topics();
            self.begun = ends.into_iter().map(|end| (end.at, end.offset)).collect();
            self.stage = self.joins(topics, context.config, (context.seed, context.now));
            context.has_placed = true;
        } else if !self.share.has_members() || context.is_ending {
            std::mem::take(ids).into_keys().for_each(|id| self.consumer.unassign(id));
            self.stage = Stage::Over;
        }
        if trouble != self.trouble {
            let kind = if trouble.is_some() { Kind::ShareTrouble } else { Kind::ShareTroubleOver };
            tell(here, kind, (self, None), trouble.as_deref(), context.now);
            self.trouble = trouble;
        }
    }

    /// Takes the news of its consumer, and of the group.
    fn take_news(&mut self, broker: &mut Broker, here: &mut Here, context: &mut Context<'_>) {
        while let Some(news) = self.consumer.take_news() {
            self.hears_of_reading(here, news, context.now);
        }
        loop {
            let Stage::Member(member) = &mut self.stage else { return };
            let Some(news) = member.take_news() else { return };
            match news {
                News::Assigned(assigned) => {
                    here.numbers.count(M::ShareRebalances);
                    self.give(assigned, context);
                }
                News::Revoked(_) if self.parts.is_empty() => member.revoked_done(context.now),
                News::Revoked(_) => self.stop(broker, here, context.now),
                News::Lost(_) => {
                    self.stop(broker, here, context.now);
                    self.parts.clear();
                    self.stopping = None;
                }
                News::Committed(offsets) => {
                    for Offset { at, offset, leader_epoch } in offsets {
                        let part = self.parts.values_mut().find(|part| part.at == at);
                        part.into_iter().for_each(|part| part.committed = Some(Place { offset, leader_epoch }));
                    }
                }
                News::CommitFailed { why, .. } | News::Trouble(why) => {
                    tell(here, Kind::ShareTrouble, (self, None), Some(&why), context.now)
                }
                News::TroubleOver => tell(here, Kind::ShareTroubleOver, (self, None), None, context.now),
                News::Left => {}
            }
        }
    }

    fn hears_of_reading(&mut self, here: &mut Here, news: Read, now: Monotonic) {
        match news {
            Read::Started { id, offset, .. } => {
                if let Stage::Placing(placing, ids) = &mut self.stage
                    && let Some(at) = ids.get(&id)
                {
                    placing.found(at, offset);
                } else if let Some(part) = self.parts.get_mut(&id) {
                    part.window.get_or_insert_with(|| Window::new(Place { offset, leader_epoch: -1 }));
                }
            }
            Read::Reset { id, to, why, .. } => {
                let Some(part) = self.parts.get_mut(&id) else { return };
                let at = Place { offset: to, leader_epoch: -1 };
                part.window.get_or_insert_with(|| Window::new(at)).restart(at);
                let at = part.at.clone();
                tell(here, Kind::ShareTrouble, (self, Some(&at)), Some(why.words()), now);
            }
            Read::Stopped { id, why } => {
                let Some(at) = self.parts.get(&id).map(|part| part.at.clone()) else { return };
                tell(here, Kind::ShareTrouble, (self, Some(&at)), Some(&why.words().0), now);
            }
            Read::Skipped { .. } | Read::Trouble { .. } | Read::TroubleOver { .. } | Read::Partitions { .. } => {}
        }
    }

    /// Reads the partitions assigned by the group.
    fn give(&mut self, given: Vec<Assigned>, context: &mut Context<'_>) {
        self.parts.clear();
        self.stopping = None;
        for Assigned { at, committed } in given {
            let id = next(context.begun);
            let committed = committed.map(|at| Place { offset: at.offset, leader_epoch: at.leader_epoch });
            let begun = self.begun.get(&at).map(|offset| Place { offset: *offset, leader_epoch: -1 });
            let from = committed.or(begun);
            // Members had a place in all partitions that existed: a partition without one is new, and begins with its first record.
            let start = from.map_or(Start::At(consumer::Place::Earliest), |Place { offset, leader_epoch }| {
                Start::Offset { offset, leader_epoch }
            });
            let names = (Rc::clone(&at.topic), at.partition);
            self.consumer.assign(id, assigned(context.source, names, (start, consumer::Place::Earliest)));
            let window = from.map(Window::new);
            self.parts.insert(id, Part { at, window, committed, is_paused: false, is_held: false });
        }
    }

    /// Withdraws messages that wait for members, hands on no more, and waits for messages that members have.
    fn stop(&mut self, broker: &mut Broker, here: &Here, now: Monotonic) {
        if self.stopping.is_some() || self.parts.is_empty() {
            return;
        }
        self.stopping = Some(now.after(STOPPING));
        self.pass_to_positions();
        self.parts.keys().for_each(|id| self.consumer.unassign(*id));
        self.parts.keys().max().into_iter().for_each(|last| self.share.set_stopped(*last));
        broker.withdraw_everywhere(here, &self.share, self.parts.keys().copied());
    }

    /// Passes over offsets between the last record and the position, which have no records: they were of aborted transactions, or compacted.
    fn pass_to_positions(&mut self) {
        for (id, part) in &mut self.parts {
            if let (Some(window), Some(position)) = (&mut part.window, self.consumer.position(*id)) {
                window.passes_to(position.offset);
            }
        }
    }

    /// Reports partitions that are not read on for longer than members may take to acknowledge, and when they are again.
    fn look_for_held(&mut self, here: &mut Here, context: &Context<'_>) {
        let (now, patience) = (context.now, context.config.delivery.share_ack_timeout);
        let mut changed = Vec::new();
        for part in self.parts.values_mut() {
            let oldest = part.window.as_ref().and_then(Window::oldest).filter(|_| part.is_paused);
            let is_held = oldest.is_some_and(|since| now.since(since) >= patience);
            if std::mem::replace(&mut part.is_held, is_held) != is_held {
                changed.push((part.at.clone(), is_held));
            }
        }
        for (at, is_held) in changed {
            let (kind, why) = if is_held { (Kind::ShareTrouble, Some(HELD)) } else { (Kind::ShareTroubleOver, None) };
            tell(here, kind, (self, Some(&at)), why, now);
        }
    }

    fn step_member(&mut self, broker: &mut Broker, here: &mut Here, context: &mut Context<'_>) {
        self.look_for_held(here, context);
        let (now, rules) = (context.now, context.rules);
        let is_needed = self.share.has_members() && !context.is_ending;
        let is_present = self.share.is_present() && !context.is_ending;
        if is_present {
            self.idle = None;
        } else {
            self.idle.get_or_insert(now);
        }
        let is_idle = context.is_ending || self.idle.is_some_and(|since| now.since(since) >= DAMPED);
        let leaves = !is_needed && is_idle;
        if leaves {
            self.stop(broker, here, now);
        }
        if self.stopping.is_none() && now >= self.commit_at {
            self.pass_to_positions();
        }
        let waits = |part: &Part| part.window.as_ref().is_some_and(|window| !window.waits_for_nothing());
        let is_stopped = self.stopping.is_some_and(|until| now >= until) || !self.parts.values().any(waits);
        let is_over = self.stopping.is_some() && is_stopped;
        let is_due = self.stopping.is_none() && now >= self.commit_at;
        let mut uncommitted: Vec<Offset> =
            if is_over || is_due { self.uncommitted(rules).collect() } else { Vec::new() };
        let Stage::Member(member) = &mut self.stage else { return };
        let partaking = member.protocol_mut();
        partaking.takes = is_present || !is_idle && partaking.takes;
        if partaking.is_news() {
            member.rejoin(now);
        }
        if is_over || is_due {
            if !uncommitted.is_empty() {
                uncommitted.sort_unstable_by(|one, other| one.at.cmp(&other.at));
                member.commit(&uncommitted, now);
            }
            self.commit_at = now.after(context.source.commit_interval);
        }
        if is_over {
            (self.stopping, self.retry_at) = (None, None);
            self.parts.clear();
        }
        if is_over && member.standing() == Standing::Revoking {
            member.revoked_done(now);
        } else if is_over || leaves && self.parts.is_empty() {
            member.leave(now);
            if let Stage::Member(member) = std::mem::replace(&mut self.stage, Stage::Over) {
                self.stage = Stage::Leaving(member);
            }
            return;
        }
        member.on_time(now);
    }

    /// Handles the end of the membership in the group. If the group has no member any more, and none has moved elsewhere with its slot, the group is deleted.
    fn has_left(&mut self, context: &Context<'_>) {
        self.idle = None;
        if self.share.has_members() && !context.is_ending {
            return self.begin(!self.share.is_placed(), context.now);
        }
        let is_kept = self.share.has_moved() || context.is_ending;
        self.stage = if is_kept { Stage::Over } else { Stage::Deleting(context.now.after(DELETING), None) };
    }

    /// Places that are not committed yet.
    fn uncommitted(&self, rules: &dyn Rules) -> impl Iterator<Item = Offset> {
        self.parts.values().filter_map(move |part| {
            let low = part.window.as_ref()?.low(rules);
            let Place { offset, leader_epoch } = low;
            (part.committed != Some(low)).then(|| Offset { at: part.at.clone(), offset, leader_epoch })
        })
    }
}

/// The next number of a reader.
fn next(begun: &mut u32) -> u32 {
    let id = *begun;
    *begun = id.wrapping_add(1);
    id
}

/// An event about a share, and a partition of its group.
fn tell(
    here: &mut Here,
    kind: Kind,
    (of, at): (&GroupShare, Option<&TopicPartition>),
    why: Option<&str>,
    now: Monotonic,
) {
    here.teller.tell(kind, second(now), |event| {
        let event = event.with(Field::Share, clipped(of.share.text())).with(Field::Group, &*of.group);
        let event = event.maybe(Field::Topic, at.map(|at| at.topic.to_string()));
        let event = event.maybe(Field::Partition, at.map(|at| u64::try_from(at.partition).unwrap_or(0)));
        event.maybe(Field::Reason, why)
    });
}
