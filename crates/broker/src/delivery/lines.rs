//! Messages that wait on a shard until copies of them are made.
//!
//! There are two lines. A message with more than [`Wide::recipients`] recipients waits in the `wide` one, of which a turn makes [`Wide::copies`] copies,
//! after everything else that it does. Other messages wait in the `narrow` one, and pass wide ones, except those with the same topic: these join the wide
//! line, as they must not overtake [MQTT-4.6.0-5] [MQTT-4.6.0-6].

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::rc::Rc;
use std::time::Duration;

use forebay_base::limits::{
    COPIES_PER_TURN, COPIES_PER_WRITE, COPY_BYTES, DELIVERY_LINE_BYTES_MAX, EXCHANGE_COPIES_MAX,
    EXCHANGE_COPIES_PER_TURN, RUN_BYTES_MAX,
};
use forebay_config::Wide;
use forebay_kafka::producer::row_log::Origin;
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::{Publish, QoS};
use forebay_mqtt::route::shares::ToShare;
use forebay_mqtt::route::subscriptions::Subscriber;
use forebay_runtime::seam::{ConnId, Monotonic};
use forebay_session::{Claim, SessionKey};

use super::super::Broker;
use super::{By, Delivery, Message, Stored, packet_bytes, publish_of, put_packet, run};
use crate::here::Here;
use crate::out::Out;
use crate::words::Stall;

/// Counters of waiting wide messages, chosen by a hash of the topic. A message with another topic that shares a counter joins them
/// needlessly.
const TOPICS: usize = 256;

/// The time for which a shard's clients must have published only wide messages before these count as alone.
const ALONE_AFTER: Duration = Duration::from_millis(100);

/// A message that waits, or has copies left to make; or a [run](super::run) of messages.
#[derive(Debug)]
struct Job {
    /// The message as a PUBLISH packet of 5.0, and the others of its run.
    packets: Vec<u8>,
    from: usize,
    publisher: Option<SessionKey>,
    origin: Option<Origin>,
    pass: u64,
    since: Monotonic,
    claim: Option<Rc<Claim>>,
    /// Shares that the message still goes to, before all other subscribers.
    shares: Vec<ToShare>,
    left: Option<Left>,
    stored: Stored,
    /// The place of the message is kept in the order of reports to its publisher's shard ([`Queues::keep_place`](super::super::queues::Queues::keep_place)).
    has_place: bool,
}

impl Job {
    /// Whether no copy of the message has been written down yet.
    fn is_whole(&self) -> bool {
        self.left.is_none() && self.stored.groups.is_empty()
    }

    /// Whether the message goes on with the run that the job's messages are, or begin.
    fn is_run_of(&self, message: Message<'_>) -> bool {
        let is_same = (self.from, self.publisher) == (message.from, message.publisher);
        let has_room = self.packets.len() + packet_bytes(message.publish.topic, message.publish) <= RUN_BYTES_MAX;
        is_same
            && has_room
            && self.is_whole()
            && self.claim.is_none()
            && self.shares.is_empty()
            && run::topic(&self.packets) == Some(message.publish.topic.as_bytes())
    }
}

/// The subscribers that a message still goes to.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) to: Vec<Subscriber<SessionKey>>,
    /// [`Subscriptions::changes`](forebay_mqtt::route::subscriptions::Subscriptions::changes) when the subscribers were found. After a change, each is checked again
    /// before it gets a copy.
    pub(super) found_at: u64,
}

/// An entry of a line.
#[derive(Debug)]
enum Waiting {
    Message(Box<Job>),
    /// A pass is over ([`Broker::pass_over`]) when all before it is delivered.
    Passed,
}

/// One line, oldest first.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: VecDeque<Waiting>,
    /// Bytes of the line's messages as packets.
    bytes: usize,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a publisher that found no room may try again.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < DELIVERY_LINE_BYTES_MAX / 2
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.is_empty() || self.bytes + bytes <= DELIVERY_LINE_BYTES_MAX
    }

    fn push(&mut self, job: Box<Job>) {
        self.bytes += job.packets.len();
        self.waiting.push_back(Waiting::Message(job));
    }

    /// Adds a message to the run at the end of the line. False: the message does not belong to that run.
    fn join_run(&mut self, message: Message<'_>) -> bool {
        let Some(Waiting::Message(last)) = self.waiting.back_mut() else { return false };
        let goes_on = last.is_run_of(message);
        if goes_on {
            let before = last.packets.len();
            put_packet(message.publish, &mut last.packets);
            self.bytes += last.packets.len() - before;
        }
        goes_on
    }

    fn pop(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front();
        if let Some(Waiting::Message(job)) = &first {
            self.bytes -= job.packets.len();
        }
        first
    }

    fn put_back(&mut self, job: Box<Job>) {
        self.bytes += job.packets.len();
        self.waiting.push_front(Waiting::Message(job));
    }
}

/// The two lines of a shard, and the share of a turn that wide messages get.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) narrow: Line,
    pub(super) wide: Line,
    /// The number of messages in `wide`, by topic hash.
    topics: Box<[u32; TOPICS]>,
    hasher: foldhash::quality::RandomState,
    bounds: Wide,
    /// Messages of this shard's clients that have joined `wide` since the last look.
    joined: u64,
    /// Messages that this shard's clients had published at the last look.
    published: u64,
    /// The last time at which messages outside of `wide` were found among the published ones.
    others_at: Monotonic,
    /// Only wide messages have been published for [`ALONE_AFTER`] or longer.
    pub(super) is_alone: bool,
}

impl Lines {
    pub(super) fn new(bounds: Wide) -> Self {
        let (narrow, wide, hasher) = (Line::default(), Line::default(), foldhash::quality::RandomState::default());
        let (joined, published, others_at, is_alone) = (0, 0, Monotonic::default(), false);
        Self { narrow, wide, topics: Box::new([0; TOPICS]), hasher, bounds, joined, published, others_at, is_alone }
    }

    /// Copies of wide messages that a turn makes. `published`: messages of this shard's clients.
    fn wide_copies(&mut self, published: u64, now: Monotonic) -> usize {
        if published - std::mem::replace(&mut self.published, published) > std::mem::take(&mut self.joined) {
            self.others_at = now;
        }
        self.is_alone = now.since(self.others_at) >= ALONE_AFTER;
        if self.is_alone { self.bounds.copies_alone } else { self.bounds.copies }
    }

    /// Whether `recipients` recipients make a message wide.
    pub(super) fn are_many(&self, recipients: usize) -> bool {
        recipients > self.bounds.recipients
    }

    pub(super) fn are_empty(&self) -> bool {
        self.narrow.is_empty() && self.wide.is_empty()
    }

    /// Bytes of the messages in both lines.
    fn bytes(&self) -> usize {
        self.narrow.bytes + self.wide.bytes
    }

    /// Whether the lines take in no more messages of other shards.
    pub(super) fn are_full(&self) -> bool {
        self.narrow.bytes.max(self.wide.bytes) >= DELIVERY_LINE_BYTES_MAX
    }

    /// Whether a message has to wait after wide ones whatever its recipients are.
    fn has_wide_of(&self, topic: &str) -> bool {
        !self.wide.is_empty() && self.topics[self.counter(topic)] > 0
    }

    fn counter(&self, topic: &str) -> usize {
        self.hasher.hash_one(topic) as usize % TOPICS
    }

    /// Puts the end of a pass ([`Broker::pass_over`]) in the wide line, where it is reached after everything before it is delivered. False: the line is
    /// empty.
    pub(super) fn pass_waits(&mut self) -> bool {
        let waits = !self.wide.is_empty();
        if waits {
            self.wide.waiting.push_back(Waiting::Passed);
        }
        waits
    }
}

/// The copies that a message may take beyond the turn's share: the share before it, and the share while its copies are made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside(Option<(usize, usize)>);

impl Delivery {
    /// Decides when a connection's copies are sent, and charges their cost to the budget. `unsent`: bytes queued before them. `bytes`: their own bytes.
    #[inline]
    pub(super) fn pace(&mut self, io: &mut dyn Out, conn: ConnId, unsent: usize, bytes: usize) {
        let mut more = bytes / COPY_BYTES;
        if self.is_late {
            io.send_late(conn);
        } else if unsent == 0 {
            more += COPIES_PER_WRITE - 1;
        } else {
            io.send_soon(conn);
        }
        self.budget = self.budget.saturating_sub(more);
    }

    /// Lets all copies of a message with an exchange be made in one turn, so that they are in the log with it or not at all, unless they
    /// are more than a turn allows. `copies`: how many.
    fn let_finish(&mut self, message: Message<'_>, copies: usize) -> Beside {
        if message.origin.is_none() {
            return Beside::default();
        }
        let of_each = COPIES_PER_WRITE + packet_bytes(message.publish.topic, message.publish) / COPY_BYTES;
        let all = copies.min(EXCHANGE_COPIES_MAX).saturating_mul(of_each).min(EXCHANGE_COPIES_PER_TURN);
        self.beside(self.budget.max(all))
    }

    /// Allows `all` copies of one message from now on.
    pub(super) fn beside(&mut self, all: usize) -> Beside {
        Beside(Some((std::mem::replace(&mut self.budget, all), all)))
    }

    /// Ends what [`Self::beside`] began: the turn has the rest of its share left.
    pub(super) fn spent_beside(&mut self, Beside(beside): Beside) {
        if let Some((left, all)) = beside {
            self.budget = left.saturating_sub(all - self.budget);
        }
    }

    /// Whether there is room here for a message of `bytes` bytes. Its filters are in `matched`.
    ///
    /// # Errors
    /// The stall that the publisher has to wait for.
    pub(super) fn ask_lines(&self, topic: &str, bytes: usize) -> Result<(), Stall> {
        if !self.lines.narrow.has_room_for(bytes) {
            return Err(Stall::Subscribers(self.shard));
        }
        let has_room = self.lines.wide.has_room_for(bytes) || !self.is_wide(topic);
        if has_room { Ok(()) } else { Err(Stall::ManySubscribers) }
    }

    /// Whether a message waits in the wide line. Its filters are in `matched`.
    fn is_wide(&self, topic: &str) -> bool {
        self.lines.has_wide_of(topic) || self.lines.are_many(self.recipients())
    }
}

/// The job of a message that has to wait. `shares`: shares that it goes to. `left`: the other subscribers without it, if some have it. `stored`: what is
/// written down for those that have it.
fn job(message: Message<'_>, shares: &[ToShare], (left, stored): (Option<Left>, Stored)) -> Box<Job> {
    let mut packets = Vec::new();
    put_packet(message.publish, &mut packets);
    let Message { from, publisher, origin, since, pass, claim, .. } = message;
    let (shares, claim) = (shares.to_vec(), claim.map(Rc::clone));
    Box::new(Job { packets, from, publisher, origin, pass, since, claim, shares, left, stored, has_place: false })
}

impl Broker {
    /// Sends a message to the subscribers of this shard, or queues it: for subscribers of the filters in `matched`, and for a member of each of these shares.
    pub(super) fn deliver_here(&mut self, io: &mut dyn Out, here: &mut Here, message: Message<'_>, shares: &[ToShare]) {
        let topic = message.publish.topic;
        let delivery = &mut self.delivery;
        let whole = |shares| job(message, shares, (None, Stored::default()));
        if !delivery.lines.narrow.is_empty() || delivery.budget == 0 {
            return delivery.lines.narrow.push(whole(shares));
        }
        if delivery.is_wide(topic) {
            if shares.is_empty() && run::is_plain(message) && delivery.lines.wide.join_run(message) {
                delivery.lines.joined += u64::from(message.from == delivery.shard);
                return;
            }
            let counter = delivery.lines.counter(topic);
            return self.join_wide(here, counter, message.publish.qos, whole(shares));
        }
        if let Some(had) = self.is_repeated(message) {
            return self.pass_over_repeat(io, here, message, shares, &had, false);
        }
        let recipients = self.delivery.recipients();
        self.keep_with_exchange(message, shares, recipients);
        let beside = self.delivery.let_finish(message, recipients + shares.len());
        let (done, mut stored) = self.give_to_shares(io, here, message, shares);
        let delivery = &mut self.delivery;
        if done < shares.len() {
            delivery.spent_beside(beside);
            return delivery.lines.narrow.push(job(message, &shares[done..], (None, stored)));
        }
        delivery.gather();
        let mut to = std::mem::take(&mut delivery.to);
        let (done, groups) = self.copy_to(io, here, message, &[], (&to, false));
        stored.groups.add_all(&groups);
        let delivery = &mut self.delivery;
        delivery.spent_beside(beside);
        if done < to.len() {
            to.drain(..done);
            let left = Left { to, found_at: delivery.index.changes() };
            delivery.lines.narrow.push(job(message, &[], (Some(left), stored)));
        } else {
            delivery.to = to;
            self.delivered(here, message, stored, false);
        }
    }

    /// Puts a message in the wide line. `counter`: that of its topic.
    fn join_wide(&mut self, here: &Here, counter: usize, qos: QoS, mut job: Box<Job>) {
        job.has_place = self.awaits_copies(here, qos);
        if job.has_place {
            self.queues.keep_place(job.from);
        }
        self.delivery.lines.topics[counter] += 1;
        self.delivery.lines.joined += u64::from(job.from == self.delivery.shard);
        self.delivery.lines.wide.push(job);
    }

    /// Delivers waiting messages at the end of a turn, as far as this turn may go; the next turn has its own share.
    pub fn deliver_waiting(&mut self, io: &mut dyn Out, here: &mut Here) {
        self.work_off_narrow(io, here);
        while self.delivery.lines.narrow.is_empty() && self.delivery.budget > 0 {
            if !self.next_received(io, here) {
                break;
            }
        }
        self.work_off_wide(io, here);
        let delivery = &mut self.delivery;
        delivery.budget = COPIES_PER_TURN;
        if !delivery.is_idle() {
            delivery.want_turn(io);
        }
        here.numbers.set(M::DeliveryLineBytes, self.delivery.lines.bytes() as u64);
        here.numbers.set(M::DeliveryLineBytesMax, 2 * DELIVERY_LINE_BYTES_MAX as u64);
    }

    /// Counts subscriptions once a turn, after those of sessions that have ended in it are gone.
    pub fn count_subscriptions(&mut self, here: &mut Here) {
        let of_bridges = self.delivery.remotes.sessions().filter_map(|key| self.sessions.get(key));
        let of_bridges: usize = of_bridges.map(|session| session.subscriptions().len()).sum();
        let all = self.delivery.index.len() + self.delivery.shares.members();
        here.numbers.set(M::Subscriptions, all.saturating_sub(of_bridges) as u64);
        here.numbers.set(M::SubscriptionFilters, self.delivery.index.filters() as u64);
        here.numbers.set(M::FiltersCompared, self.delivery.index.compared() as u64);
        here.numbers.set(M::ReplaysSettling, self.delivery.gates.settling() as u64);
        here.numbers.set(M::FiltersWithoutRoom, self.delivery.index.without_room() as u64);
    }

    /// Takes the turn that [`Broker::deliver_waiting`] has asked for.
    pub(crate) fn delivery_time(&mut self) {
        self.delivery.wanted_at = None;
    }

    fn work_off_narrow(&mut self, io: &mut dyn Out, here: &mut Here) {
        while self.delivery.budget > 0 {
            let Some(Waiting::Message(mut job)) = self.delivery.lines.narrow.pop() else { return };
            let packets = std::mem::take(&mut job.packets);
            let Some(publish) = publish_of(&packets) else { continue };
            self.find(&publish, &job);
            if job.is_whole() && self.delivery.is_wide(publish.topic) {
                let (counter, qos) = (self.delivery.lines.counter(publish.topic), publish.qos);
                job.packets = packets;
                self.join_wide(here, counter, qos, job);
            } else if !self.run_job(io, here, (&publish, &packets), &mut job) {
                job.packets = packets;
                return self.delivery.lines.narrow.put_back(job);
            }
            self.delivery.freed += 1;
        }
    }

    fn work_off_wide(&mut self, io: &mut dyn Out, here: &mut Here) {
        if self.delivery.lines.wide.is_empty() {
            return;
        }
        let published =
            [M::PublishesQos0, M::PublishesQos1, M::PublishesQos2].map(|of| here.numbers.get(of)).iter().sum();
        self.delivery.budget = self.delivery.lines.wide_copies(published, io.now());
        while self.delivery.budget > 0 {
            let mut job = match self.delivery.lines.wide.pop() {
                Some(Waiting::Message(job)) => job,
                Some(Waiting::Passed) => {
                    self.pass_over();
                    continue;
                }
                None => return,
            };
            let packets = std::mem::take(&mut job.packets);
            let Some(publish) = publish_of(&packets) else { continue };
            self.find(&publish, &job);
            if !self.run_job(io, here, (&publish, &packets), &mut job) {
                job.packets = packets;
                return self.delivery.lines.wide.put_back(job);
            }
            let counter = self.delivery.lines.counter(publish.topic);
            self.delivery.lines.topics[counter] -= 1;
            self.delivery.freed += 1;
        }
    }

    /// Puts the filters of a message that has waited into `matched`, unless its subscribers are known already.
    fn find(&mut self, publish: &Publish<'_>, job: &Job) {
        if job.left.is_none() {
            self.delivery.look_up_beside(publish.topic, &job.shares);
        }
    }

    /// Makes copies of a message that has waited and was [found](Self::find). Returns whether all copies are made. `packets`: the message, and the others of
    /// its run.
    fn run_job(&mut self, io: &mut dyn Out, here: &mut Here, of: (&Publish<'_>, &[u8]), job: &mut Job) -> bool {
        let mut beside = Beside::default();
        let is_done = self.run_as_whole(io, here, of, job, &mut beside);
        self.delivery.spent_beside(beside);
        is_done
    }

    /// Makes copies. `beside`: the copies that the message may take beyond the turn's share, if no subscriber has got it yet.
    fn run_as_whole(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        (publish, packets): (&Publish<'_>, &[u8]),
        job: &mut Job,
        beside: &mut Beside,
    ) -> bool {
        let waited_s = u32::try_from(io.now().since(job.since).as_secs()).unwrap_or(u32::MAX);
        let Job { from, publisher, origin, pass, has_place, .. } = *job;
        let (since, by) = (job.since, By::Subscription);
        let claim = job.claim.clone();
        let claim = claim.as_ref();
        let message = Message { publish, from, publisher, origin, since, waited_s, pass, claim, by };
        if job.is_whole() {
            if let Some(had) = self.is_repeated(message) {
                self.pass_over_repeat(io, here, message, &job.shares, &had, has_place);
                return true;
            }
            let recipients = self.delivery.recipients();
            self.keep_with_exchange(message, &job.shares, recipients);
            *beside = self.delivery.let_finish(message, recipients + job.shares.len());
        }
        let (done, shared) = self.give_to_shares(io, here, message, &job.shares);
        job.stored.also(shared);
        job.shares.drain(..done);
        if !job.shares.is_empty() {
            return false;
        }
        let Left { mut to, found_at } = job.left.take().unwrap_or_else(|| {
            self.delivery.gather();
            let to = std::mem::take(&mut self.delivery.to);
            Left { to, found_at: self.delivery.index.changes() }
        });
        let is_stale = found_at != self.delivery.index.changes();
        let (done, groups) = self.copy_to(io, here, message, packets, (&to, is_stale));
        job.stored.groups.add_all(&groups);
        if done < to.len() {
            to.drain(..done);
            job.left = Some(Left { to, found_at });
            return false;
        }
        self.delivery.to = to;
        self.delivered(here, message, std::mem::take(&mut job.stored), has_place);
        true
    }
}
