//! Retained messages for a new subscription [MQTT-3.3.1-9]: requested from the homes one batch at a time, and sent as far as the client reads and
//! acknowledges. So a subscription takes one batch of memory, whatever its filter matches, and delays no other client.
//!
//! Messages that were published before the subscription could be found are at the homes when these are asked (`pass`). Later ones are delivered live: the
//! homes leave them out, as they would otherwise arrive ahead of older ones in flight. A later message delivered live is noted by topic, and the home's
//! message of that topic, which may be older, is skipped. A home keeps no state of a replay: each request names the topic to continue from.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use forebay_base::limits::{
    COPY_BYTES, REPLAY_BATCH_BYTES, REPLAY_COPIES_PER_TURN, REPLAY_LOOKS_MAX, REPLAY_LOOKS_PER_TURN, REPLAY_NOTES_MAX,
    REPLAYS_AT_ONCE_MAX, SUBSCRIPTIONS_OF_SESSION_MAX,
};
use forebay_base::rules::Rules;
use forebay_guard::auth::acl::{Action, Wanted};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::Publish;
use forebay_mqtt::route::subscriptions::Subscriber;
use forebay_mqtt::route::topics::{TopicKey, Walk};
use forebay_runtime::seam::Monotonic;
use forebay_session::{ClientKey, SessionKey, Subscription};

use super::super::Broker;
use super::super::delivery::{By, Gathered, packets, publish_of};
use super::{Publisher, Retained, Taken, Value, owner};
use crate::here::Here;
use crate::mail::{Answered, Letter, ToBroker};
use crate::out::Out;
use crate::words::{denied, second};

/// The delay before the next replays that gave up their places are checked.
const LOOK_ASIDE: Duration = Duration::from_millis(20);

/// The most passes in a row for messages that a client has missed. After them the client gets some of the rest first: a client that stays slow would
/// otherwise get nothing.
const PASSES_MAX: u8 = 4;

/// The most subscriptions of one session that wait for a pass. A further one replaces an earlier one to the same filter.
const WANTED_MAX: usize = 2 * SUBSCRIPTIONS_OF_SESSION_MAX;

/// The retained messages that a session has yet to be sent.
#[derive(Debug, Default)]
struct Replay {
    /// Subscriptions for which all earlier messages are at the homes; the first is being answered.
    wanted: VecDeque<Subscription>,
    /// Subscriptions that need a pass.
    later: VecDeque<Subscription>,
    /// The number of subscriptions in `later` from earlier SUBSCRIBEs.
    earlier: usize,
    /// The progress of the first subscription: the home, and the topic to continue from.
    home: usize,
    from: Option<TopicKey>,
    step: Step,
    /// The number of the first subscription's pass.
    pass: u64,
    /// The number of passes that each shard must have been asked for when it takes a message, for the message to be delivered live.
    behind: Arc<[u64]>,
    /// Topics, as hashes, of messages with RETAIN that were taken after the pass and delivered live: their homes may not have them yet.
    noted: HashSet<u64>,
    /// Whether a live message was dropped, as the client was offline or slow: the homes leave it out until there is another pass.
    missed: bool,
    /// Passes since a home was asked.
    passes: u8,
}

#[derive(Debug, Default)]
enum Step {
    /// The client is offline.
    #[default]
    Away,
    /// The replay waits for a pass that has not begun.
    Waiting,
    /// The replay waits for the end of the pass.
    Passing,
    /// The replay has to ask a home next.
    Ready,
    /// The replay has asked a home, by a request of this number.
    Asked(u64),
    /// The replay sends a batch: the answer, the time at which it was received, and the number of its bytes that are done.
    Sending(Answered, Monotonic, usize),
}

/// All replays of a shard.
#[derive(Debug)]
pub(super) struct Replays {
    all: HashMap<SessionKey, Replay>,
    /// Sessions that wait for a pass, which has not begun.
    wanting: Vec<SessionKey>,
    /// Sessions that wait for the pass in progress.
    passing: Vec<SessionKey>,
    /// Shards that have not answered the pass, as bits.
    unanswered: u64,
    /// [`Replay::behind`] as of the shards' answers so far.
    behind: Vec<u64>,
    /// Sessions that wait for one of the places.
    line: VecDeque<SessionKey>,
    running: VecDeque<SessionKey>,
    /// Sessions that have given up their places to those in line, as their clients take no more. They hold no batch.
    aside: VecDeque<SessionKey>,
    questions: u64,
    /// The number of passes begun.
    begun: u64,
    /// The number of passes that each shard knew of when it sent its last letter.
    heard: Vec<u64>,
    shards: usize,
    hash: RandomState,
    /// The number of passes that all shards together have asked this one for.
    passes: u64,
    /// Passes that this shard was asked for and has not answered.
    pub(super) asked_to_pass: Vec<AskedToPass>,
}

/// A pass that a shard was asked for.
#[derive(Debug)]
pub(super) struct AskedToPass {
    pub(super) from: usize,
    /// Messages that have to be sent before the pass is answered.
    pub(super) gathered: Gathered,
    /// [`Replays::passes`] with this one.
    pub(super) passes: u64,
}

/// The work that a turn may still do for replays.
#[derive(Debug)]
struct Budget {
    copies: usize,
    /// Lookups in the retained messages of this shard: [`REPLAY_LOOKS_MAX`] topics each.
    looks: usize,
}

impl Budget {
    const fn is_spent(&self) -> bool {
        self.copies == 0 || self.looks == 0
    }
}

/// The state of a replay after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// The replay goes on.
    More,
    /// The replay waits for a home.
    Waits,
    /// The replay waits for its client.
    Blocked,
    /// The replay gives up its place: it is over, or waits for something else.
    Over,
}

impl Replays {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            all: HashMap::new(),
            wanting: Vec::new(),
            passing: Vec::new(),
            unanswered: 0,
            behind: vec![u64::MAX; shards],
            line: VecDeque::new(),
            running: VecDeque::new(),
            aside: VecDeque::new(),
            questions: 0,
            begun: 0,
            heard: vec![0; shards],
            shards,
            hash: RandomState::new(),
            passes: 0,
            asked_to_pass: Vec::new(),
        }
    }

    /// Notes that a shard asks for a pass.
    pub(super) fn note_pass(&mut self, from: usize, gathered: Gathered) {
        self.passes += 1;
        self.asked_to_pass.push(AskedToPass { from, gathered, passes: self.passes });
    }

    /// Whether sessions wait for a pass, and none is in progress.
    pub(super) fn need_pass(&self) -> bool {
        !self.wanting.is_empty() && self.unanswered == 0 && self.passing.is_empty()
    }

    /// Begins a pass.
    pub(super) fn begin_pass(&mut self) {
        self.begun += 1;
        self.passing = std::mem::take(&mut self.wanting);
        for key in &self.passing {
            if let Some(replay) = self.all.get_mut(key) {
                replay.noted.clear();
                (replay.missed, replay.passes) = (false, replay.passes.saturating_add(1));
                replay.wanted.append(&mut replay.later);
                replay.earlier = 0;
                (replay.step, replay.pass) = (Step::Passing, self.begun);
            }
        }
        self.unanswered = u64::MAX >> (64 - self.shards);
        self.behind.fill(u64::MAX);
    }

    /// Notes the answer of a shard. Returns whether that was the last.
    pub(super) fn passed(&mut self, (by, passes): (usize, u64), rules: &dyn Rules) -> bool {
        let was = self.unanswered;
        self.behind[by] = passes;
        self.unanswered &= !(1 << by);
        was != 0 && rules.may_replay(self.unanswered)
    }

    /// Ends the pass: all earlier messages are delivered.
    fn pass_over(&mut self) {
        let behind: Arc<[u64]> = self.behind.as_slice().into();
        for key in std::mem::take(&mut self.passing) {
            if let Some(replay) = self.all.get_mut(&key) {
                (replay.step, replay.behind) = (Step::Ready, Arc::clone(&behind));
                self.line.push_back(key);
            }
        }
    }

    /// Gives free places to sessions in line, which run after those that have one. Returns how many.
    fn take_places(&mut self) -> usize {
        let free = REPLAYS_AT_ONCE_MAX.saturating_sub(self.running.len()).min(self.line.len());
        self.running.extend(self.line.drain(..free));
        free
    }

    /// Sets a session aside, as its client takes no more and others are in line. The rest of its batch will be requested again.
    fn set_aside(&mut self, key: SessionKey) {
        if let Some(replay) = self.all.get_mut(&key) {
            replay.pause(Step::Ready);
            self.aside.push_back(key);
        }
    }

    fn want_pass(&mut self, key: SessionKey) {
        if let Some(replay) = self.all.get_mut(&key) {
            replay.pause(Step::Waiting);
            self.wanting.push(key);
        }
    }
}

impl Replay {
    /// Ends the answers to a filter that the session has left.
    fn leave(&mut self, filter: &str) {
        self.forget_earlier(filter, usize::MAX);
        if self.wanted.front().is_some_and(|first| *first.filter == *filter) {
            self.first_over();
            if matches!(self.step, Step::Asked(_) | Step::Sending(..)) {
                self.step = Step::Ready;
            }
        }
        self.wanted.retain(|of| *of.filter != *filter);
    }

    /// Takes out the subscriptions to a filter among the first `earlier` of `later`.
    fn forget_earlier(&mut self, filter: &str, earlier: usize) {
        let (mut at, mut left) = (0, self.earlier);
        self.later.retain(|of| {
            let goes = at < earlier && *of.filter == *filter;
            left -= usize::from(goes && at < self.earlier);
            at += 1;
            !goes
        });
        self.earlier = left;
    }

    /// Adds a subscription, answered after all others. A subscription to the same filter from an earlier SUBSCRIBE, of which nothing was sent, is not
    /// answered any more: otherwise a client that connects again and again would add without bound.
    fn want(&mut self, subscription: Subscription) {
        self.forget_earlier(&subscription.filter, self.earlier);
        let mut is_first = true;
        self.wanted.retain(|of| std::mem::take(&mut is_first) || of.filter != subscription.filter);
        let same = || self.later.iter().rposition(|of| of.filter == subscription.filter);
        match (self.later.len() >= WANTED_MAX).then(same).flatten() {
            Some(at) => self.later[at] = subscription,
            None => self.later.push_back(subscription),
        }
    }

    /// Whether a message with pass number `pass` was taken after the replay's own pass.
    fn has_passed(&self, pass: u64) -> bool {
        !matches!(self.step, Step::Waiting | Step::Away) && self.pass <= pass
    }

    /// Whether there has to be another pass before more is sent.
    fn needs_pass(&self) -> bool {
        self.missed && self.passes < PASSES_MAX || self.noted.len() > REPLAY_NOTES_MAX
    }

    /// Goes on to the next subscription.
    fn first_over(&mut self) {
        self.wanted.pop_front();
        (self.home, self.from) = (0, None);
    }

    /// Gives up the batch in hand. The rest of it will be requested again.
    fn pause(&mut self, step: Step) {
        if let Step::Sending(answered, _, done) = std::mem::replace(&mut self.step, step)
            && let Some(publish) = packets(&answered.packets[done..]).next().and_then(publish_of)
        {
            self.from = Some(TopicKey::new(publish.topic));
        }
    }
}

impl Retained {
    /// Begins a SUBSCRIBE of a session, to whatever filters. Its filters are answered one after the other, as if each had its own
    /// [MQTT-3.8.4-5] [3.1.1 MQTT-3.8.4-4].
    pub fn begin_subscribe(&mut self, key: SessionKey) {
        if let Some(replay) = self.replays.all.get_mut(&key) {
            replay.earlier = replay.later.len();
        }
    }

    /// Adds a session's new subscription: its client gets the retained messages for it.
    pub(crate) fn replay(&mut self, key: SessionKey, subscription: Subscription) {
        let replay = self.replays.all.entry(key).or_default();
        replay.want(subscription);
        if matches!(replay.step, Step::Away) {
            self.replays.want_pass(key);
        }
    }

    /// Resumes the replay of a session when its client reconnects.
    pub(crate) fn resume_replay(&mut self, key: SessionKey) {
        if self.replays.all.get(&key).is_some_and(|replay| matches!(replay.step, Step::Away)) {
            self.replays.want_pass(key);
        }
    }

    /// Ends the replay for a filter that a session has left.
    pub(crate) fn leave_replay(&mut self, key: SessionKey, filter: &str) {
        if let Some(replay) = self.replays.all.get_mut(&key) {
            replay.leave(filter);
        }
    }

    /// Ends the replay of a session that has ended.
    pub(crate) fn forget_replay(&mut self, key: SessionKey) {
        self.replays.all.remove(&key);
    }

    /// Notes one more pass that a shard, or this one, knows of: it takes later messages after that pass.
    pub(crate) fn heard_of_pass(&mut self, shard: usize) {
        self.replays.heard[shard] += 1;
    }

    /// The number of passes that a shard knew of when it sent its last letter.
    pub(crate) fn passes_heard(&self, shard: usize) -> u64 {
        self.replays.heard[shard]
    }

    /// Notes a message with RETAIN that a session was sent live, with its pass number.
    pub(crate) fn skip_in_replay(&mut self, key: SessionKey, topic: &str, pass: u64) {
        if self.replays.all.is_empty() {
            return;
        }
        let hash = self.replays.hash.hash_one(topic);
        let replay = self.replays.all.get_mut(&key).filter(|replay| replay.has_passed(pass));
        // A replay with more notes gets another pass.
        if let Some(replay) = replay.filter(|replay| replay.noted.len() <= REPLAY_NOTES_MAX) {
            replay.noted.insert(hash);
        }
    }

    /// Notes that a session was not sent a live message, as its client is offline or slow.
    pub(crate) fn note_missed(&mut self, key: SessionKey, pass: u64) {
        if let Some(replay) = self.replays.all.get_mut(&key).filter(|replay| replay.has_passed(pass)) {
            replay.missed = true;
        }
    }

    /// Notes that waiting messages of a session were dropped: some may have replaced retained ones.
    pub(crate) fn note_dropped(&mut self, key: SessionKey) {
        self.note_missed(key, u64::MAX);
    }

    /// The order of passes for a message that a publisher of this shard sends now.
    pub(crate) fn taken(&self, shard: usize, publish: &Publish<'_>) -> Taken {
        Taken { shard, passes: if publish.dup { 0 } else { self.replays.passes }, age_s: 0 }
    }

    /// Returns retained messages that may be sent, on topics that a filter matches, from one topic on.
    fn batch(
        &self,
        filter: &str,
        from: &TopicKey,
        now: Monotonic,
        mut may_be_sent: impl FnMut(&Value) -> bool,
    ) -> Answered {
        let mut packets = Vec::new();
        let next = self.topics.walk(filter, from, REPLAY_LOOKS_MAX, |_, value: &Value| {
            if !packets.is_empty() && packets.len() + value.packet.len() > REPLAY_BATCH_BYTES {
                return Walk::Stop;
            }
            if value.until.is_none_or(|until| until > now) && may_be_sent(value) {
                value.put(now, &mut packets);
            }
            Walk::On
        });
        Answered { packets, next }
    }
}

impl Broker {
    /// Ends a pass when all earlier messages are delivered.
    pub(crate) fn pass_over(&mut self) {
        self.retained.replays.pass_over();
    }

    /// A batch of messages retained here, without those that are delivered live, those of this client, and those that their publishers may no longer publish.
    fn retained_batch(
        &mut self,
        here: &mut Here,
        now: Monotonic,
        (filter, behind, except): (&str, &[u64], &Publisher),
        from: &TopicKey,
    ) -> Answered {
        let Here { edge, rules, numbers, teller, .. } = here;
        let may_be_sent = |value: &Value| {
            let Taken { shard, passes, .. } = value.taken;
            if rules.comes_live(passes, behind.get(shard).copied().unwrap_or(u64::MAX)) {
                return false;
            }
            if value.publisher.is_client(except) {
                return false;
            }
            let Some(publish) = publish_of(&value.packet) else { return false };
            let granted = value.publisher.may_publish(&publish, edge);
            let may_be_sent = rules.may_send_retained(granted.is_ok());
            if let Err((auth, client)) = granted
                && !may_be_sent
            {
                numbers.count(M::RetainedDenied);
                let of = ClientKey { auth: Some(auth), client_id: client.client_id };
                let wanted = Wanted { action: Action::Publish, topic: publish.topic, qos: publish.qos, retain: true };
                let rule = || edge.policy(auth).map(|policy| policy.decides(None, client, wanted));
                denied(teller, second(now), "retained", of, client.identity, publish.topic, rule);
            }
            may_be_sent
        };
        self.retained.batch(filter, from, now, may_be_sent)
    }

    /// Takes a shard's request for messages retained here.
    pub(crate) fn replay_asked(
        &mut self,
        io: &dyn Out,
        here: &mut Here,
        to: usize,
        question: (SessionKey, u64),
        (filter, behind, except): (&str, &[u64], &[u8]),
        from: &TopicKey,
    ) {
        let except = Publisher::decode(except).unwrap_or_default();
        let answered = self.retained_batch(here, io.now(), (filter, behind, &except), from);
        self.letters.push_back((to, Letter::Broker(ToBroker::Replayed { question, answered })));
    }

    /// Takes the answer of a home.
    pub(crate) fn replayed(&mut self, now: Monotonic, (key, question): (SessionKey, u64), answered: Answered) {
        if let Some(replay) = self.retained.replays.all.get_mut(&key)
            && matches!(replay.step, Step::Asked(asked) if asked == question)
        {
            replay.step = Step::Sending(answered, now, 0);
        }
    }

    /// Runs replays at the end of a turn, one after the other. Replays that are over, or have clients that take no more, make place for others.
    pub(super) fn run_replays(&mut self, io: &mut dyn Out, here: &mut Here) {
        if self.retained.replays.all.is_empty() {
            return;
        }
        self.begin_pass(io, here);
        self.look_aside(io);
        let mut has_more = false;
        let mut budget = Budget { copies: REPLAY_COPIES_PER_TURN, looks: REPLAY_LOOKS_PER_TURN };
        self.retained.replays.take_places();
        let mut runs = self.retained.replays.running.len();
        while runs > 0
            && let Some(key) = self.retained.replays.running.pop_front()
        {
            runs -= 1;
            let pace = self.run_replay(io, here, key, &mut budget);
            has_more |= pace == Pace::More;
            let replays = &mut self.retained.replays;
            match pace {
                Pace::Over => {}
                Pace::Blocked if !replays.line.is_empty() => replays.set_aside(key),
                _ => replays.running.push_back(key),
            }
            runs += self.retained.replays.take_places();
            // The other replays go first in the next turn.
            if budget.is_spent() {
                break;
            }
        }
        // Replays that need a pass now wait for the one in progress, or for the next turn.
        let begins_pass = self.retained.replays.need_pass() && self.keeping.given.behind_until(io.now()).is_none();
        if has_more || begins_pass {
            self.delivery.want_turn(io);
        }
    }

    /// Puts replays that gave up their places in line again if their clients take more. A turn checks some, in turn. While there are more, another turn
    /// follows soon.
    fn look_aside(&mut self, io: &mut dyn Out) {
        let aside = self.retained.replays.aside.len();
        for _ in 0..aside.min(REPLAYS_AT_ONCE_MAX) {
            let Some(key) = self.retained.replays.aside.pop_front() else { break };
            let is_here = self.sessions.get(key).is_some_and(|session| session.conn().is_some());
            let waits = is_here && !self.takes_one_more(io, key);
            let replays = &mut self.retained.replays;
            let line = if waits { &mut replays.aside } else { &mut replays.line };
            line.push_back(key);
        }
        if aside > REPLAYS_AT_ONCE_MAX {
            let soon = io.now().after(LOOK_ASIDE);
            self.delivery.want_turn_at(io, soon);
        }
    }

    /// Runs one replay. [`Pace::More`]: the budget is spent.
    fn run_replay(&mut self, io: &mut dyn Out, here: &mut Here, key: SessionKey, budget: &mut Budget) -> Pace {
        let is_here = self.sessions.get(key).is_some_and(|session| session.conn().is_some());
        loop {
            let takes_more = self.takes_one_more(io, key);
            let Some(replay) = self.retained.replays.all.get_mut(&key) else { return Pace::Over };
            if !is_here {
                // A kept session continues when its client reconnects.
                replay.pause(Step::Away);
                return Pace::Over;
            }
            if takes_more && replay.needs_pass() {
                self.retained.replays.want_pass(key);
                return Pace::Over;
            }
            let pace = match &mut replay.step {
                // An empty batch is not done either: the messages that it leaves out may have been dropped meanwhile.
                Step::Ready | Step::Sending(..) if !takes_more => Pace::Blocked,
                Step::Ready => self.ask_home(io, here, key, budget),
                Step::Asked(_) => Pace::Waits,
                Step::Sending(answered, since, done) => {
                    let (packets, since, done) = (std::mem::take(&mut answered.packets), *since, *done);
                    self.send_batch(io, here, key, (packets, since), done, budget)
                }
                Step::Away | Step::Waiting | Step::Passing => Pace::Over,
            };
            if pace != Pace::More || budget.is_spent() {
                return pace;
            }
        }
    }

    /// Asks the next home.
    fn ask_home(&mut self, io: &dyn Out, here: &mut Here, key: SessionKey, budget: &mut Budget) -> Pace {
        let subscriber = self.replay_subscriber(key);
        // [MQTT-3.8.3-3]
        let is_local = subscriber.is_some_and(|of| of.options.no_local);
        let except = self.sessions.get(key).filter(|_| is_local).map(Publisher::of_session).unwrap_or_default();
        let replays = &mut self.retained.replays;
        let Some(replay) = replays.all.get_mut(&key) else { return Pace::Over };
        let Some(filter) = replay.wanted.front().map(|first| Arc::clone(&first.filter)) else {
            if replay.later.is_empty() {
                replays.all.remove(&key);
            } else {
                replays.want_pass(key);
            }
            return Pace::Over;
        };
        if subscriber.is_none() {
            replay.first_over();
            return Pace::More;
        }
        let mut from = replay.from.clone().unwrap_or_else(TopicKey::first);
        if !is_wild(&filter) {
            replay.home = owner(&filter, replays.shards);
            from = TopicKey::new(&filter);
        }
        let home = replay.home;
        replays.questions += 1;
        let question = (key, replays.questions);
        let behind = Arc::clone(&replay.behind);
        (replay.step, replay.passes) = (Step::Asked(question.1), 0);
        if home == here.index {
            budget.looks = budget.looks.saturating_sub(1);
            let answered = self.retained_batch(here, io.now(), (&filter, &behind, &except), &from);
            self.replayed(io.now(), question, answered);
            return Pace::More;
        }
        let except = except.bytes().into();
        let letter = Letter::Broker(ToBroker::Replay { to: here.index, question, filter, behind, except, from });
        self.letters.push_back((home, letter));
        Pace::Waits
    }

    /// Sends a batch received at `since`, from byte `done` on, as far as its client takes it.
    fn send_batch(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        key: SessionKey,
        (batch, since): (Vec<u8>, Monotonic),
        mut done: usize,
        budget: &mut Budget,
    ) -> Pace {
        let mut pace = None;
        for packet in packets(&batch[done..]) {
            let (Some(publish), Some(subscriber)) = (publish_of(packet), self.replay_subscriber(key)) else { break };
            if budget.copies == 0 {
                pace = Some(Pace::More);
                break;
            }
            if !self.takes_one_more(io, key) {
                pace = Some(Pace::Blocked);
                break;
            }
            done += packet.len();
            budget.copies = budget.copies.saturating_sub(1 + packet.len() / COPY_BYTES);
            if !here.rules.skips_retained(self.is_noted(key, publish.topic)) {
                self.copy_past(io, here, &publish, since, (subscriber, By::Replay));
            }
        }
        let Some(replay) = self.retained.replays.all.get_mut(&key) else { return Pace::Over };
        let Step::Sending(answered, _, at) = &mut replay.step else { return Pace::Over };
        if let Some(pace) = pace {
            (answered.packets, *at) = (batch, done);
            return pace;
        }
        replay.from = answered.next.take();
        replay.step = Step::Ready;
        if replay.from.is_none() {
            replay.home += 1;
            if replay.home >= here.config.service.shards
                || replay.wanted.front().is_some_and(|first| !is_wild(&first.filter))
            {
                replay.first_over();
            }
        }
        Pace::More
    }

    /// The subscription being answered, with the options it was made with, if there still is one to its filter. Each message is checked.
    fn replay_subscriber(&self, session: SessionKey) -> Option<Subscriber<SessionKey>> {
        let Subscription { filter, options, identifier } = self.retained.replays.all.get(&session)?.wanted.front()?;
        let is_there = self.sessions.get(session)?.has_subscribed(filter);
        let subscriber = Subscriber { session, options: *options, identifier: *identifier, is_checked: true, gate: 0 };
        is_there.then_some(subscriber)
    }

    /// Whether a client may be sent one more message of the past. If not, the replay tries again after the client has read or acknowledged something.
    pub fn takes_one_more(&mut self, io: &dyn Out, key: SessionKey) -> bool {
        let Some(session) = self.sessions.get(key) else { return false };
        let unsent = session.conn().map_or(0, |conn| self.keeping.holds.unsent(io, conn));
        session.sends_at_once(unsent) && unsent <= REPLAY_BATCH_BYTES && self.remembers_more()
    }

    fn is_noted(&self, key: SessionKey, topic: &str) -> bool {
        let replays = &self.retained.replays;
        replays.all.get(&key).is_some_and(|replay| replay.noted.contains(&replays.hash.hash_one(topic)))
    }
}

fn is_wild(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

#[cfg(test)]
mod tests {
    use forebay_config as config;
    use forebay_mqtt::packet::SubscriptionOptions;

    use super::*;

    fn retained() -> Retained {
        let text = "[[sink]]\nname = \"all\"\nkafka = \"main\"\nfilters = [\"#\"]\ntopic = \"all\"\n[kafka.main]\nbootstrap = \"127.0.0.1:9092\"\n";
        Retained::new(&config::parse(text, "test.toml").expect("a configuration"))
    }

    /// A replay is not checked while its client takes nothing.
    #[test]
    fn a_replay_that_does_not_run_notes_no_more_than_it_may() {
        let (mut retained, key) = (retained(), SessionKey::from_bits(7));
        retained.replay(key, subscription("#", 0));
        retained.replays.begin_pass();
        retained.replays.pass_over();
        let pass = retained.replays.begun;
        for number in 0..2 * REPLAY_NOTES_MAX {
            retained.skip_in_replay(key, &format!("t/{number}"), pass);
        }
        let replay = &retained.replays.all[&key];
        assert_eq!(replay.noted.len(), REPLAY_NOTES_MAX + 1);
        assert!(replay.needs_pass());
    }

    fn subscription(filter: &str, identifier: u32) -> Subscription {
        Subscription { filter: filter.into(), options: SubscriptionOptions::default(), identifier }
    }

    /// Subscriptions that a replay has yet to answer, in order.
    fn wanted(retained: &Retained, key: SessionKey) -> Vec<String> {
        let Replay { wanted, later, .. } = &retained.replays.all[&key];
        wanted.iter().chain(later).map(|of| format!("{} {}", of.filter, of.identifier)).collect()
    }

    #[test]
    fn finding_d5_subscriptions_of_one_subscribe_are_answered_one_by_one_and_those_of_several_have_a_bound() {
        let (mut retained, key) = (retained(), SessionKey::from_bits(7));
        let ask = |retained: &mut Retained, of: &[(&str, u32)]| {
            retained.begin_subscribe(key);
            of.iter().for_each(|(filter, id)| retained.replay(key, subscription(filter, *id)));
        };
        ask(&mut retained, &[("a", 1), ("b", 1), ("a", 2)]);
        assert_eq!(wanted(&retained, key), ["a 1", "b 1", "a 2"]);
        // Nothing was sent for these subscriptions: the last SUBSCRIBE replaces them, with the filter twice if it names it twice.
        ask(&mut retained, &[("a", 3), ("a", 4)]);
        assert_eq!(wanted(&retained, key), ["b 1", "a 3", "a 4"]);
        retained.leave_replay(key, "a");
        assert_eq!(wanted(&retained, key), ["b 1"]);
        // The client connects again and again, and subscribes each time: one subscription is being answered, and one waits.
        for id in 2..100 {
            ask(&mut retained, &[("b", id)]);
            retained.replays.wanting.push(key);
            assert!(retained.replays.need_pass());
            retained.replays.begin_pass();
            retained.replays.unanswered = 0;
            retained.replays.pass_over();
        }
        assert_eq!(wanted(&retained, key), ["b 2", "b 99"]);
        // The bound holds however many subscriptions a client makes.
        let many: Vec<_> = (0..SUBSCRIPTIONS_OF_SESSION_MAX as u32).map(|id| ("c", id)).collect();
        for filter in 0..10 {
            let name = format!("d/{filter}");
            let of: Vec<_> = many.iter().map(|(_, id)| (&*name, *id)).collect();
            ask(&mut retained, &of);
        }
        assert!(wanted(&retained, key).len() <= WANTED_MAX + 10 + 2, "{}", wanted(&retained, key).len());
    }
}
