//! Shared subscriptions of several instances. Each share is a consumer group of the instances that have members: the group assigns an instance partitions
//! while some of its members are online, and the instance stays in the group while it has any member. The share's home, the shard that its text chooses,
//! reads the partitions with a consumer of its own, and hands each record to one member of this instance ([`forebay_broker::shares`]). The group's
//! commit is the lowest record that a member is not done with.
//!
//! | file | |
//! |---|---|
//! | `placing` | the place where a new share begins |
//! | `share` | a share in its group |
//! | `reading` | its records, on their way to members |

mod placing;
mod reading;
mod share;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use forebay_broker::here::Here;
use forebay_broker::past::topics;

use self::placing::Topics;
use self::reading::Making;
use self::share::GroupShare;
use super::reader::Memory;
use super::requests::{Asker, first_request, next_number};
use super::{Sources, settings};
use crate::Core;
use crate::ring::Ring;
use forebay_base::limits::{RECORD_REPLAYS_AT_ONCE_MAX, SHARE_FETCH_BYTES};
use forebay_base::rules::Rules;
use forebay_config::{Config, Source};
use forebay_kafka::client::Client;
use forebay_kafka::consumer::{Consumer, Settings};
use forebay_kafka::coordination::Answer;
use forebay_kafka::fetch::{FetchAnswer, FetchFailure};
use forebay_kafka::types::TopicMetadata;
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::route::shares::{Share, ShareNumber};
use forebay_mqtt::topic::split_shared;
use forebay_runtime::seam::Monotonic;
use forebay_session::Settled;

/// The time for which an instance keeps its partitions, or its membership in the group, without members: clients reconnect.
const DAMPED: Duration = Duration::from_secs(1);

/// The time that the end of a group may take.
const DELETING: Duration = Duration::from_secs(5);

/// The heartbeat interval of a group, which bounds how soon partitions move.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// The delay before messages that found no member are offered again.
const RETRY: Duration = Duration::from_millis(50);

/// GROUP_AUTHORIZATION_FAILED.
const GROUP_FORBIDDEN: i16 = 30;

/// The report of that error at the end of a group.
const MAY_NOT_DELETE: &str = "the shared subscription has ended, and Forebay's Kafka user needs the right to delete its group (DELETE on groups with the prefix \
     forebay-share-): the group stays until Kafka forgets it, and who subscribes before that gets what was published meanwhile";

/// The reason why a partition is not read on.
const HELD: &str = "members have had messages of the partition for longer than `share_ack_timeout` of `[delivery]`, and have not acknowledged them: it is not read on \
     until they have";

/// The first number of members of these groups at the client of their cluster. Members of sources have their indexes as numbers; that of the group of
/// instances has the last but one.
const MEMBERS: u32 = 1 << 31;

/// The shares that have their home on a shard.
#[derive(Default)]
pub(super) struct GroupShares {
    /// The shares by text.
    all: BTreeMap<Arc<str>, GroupShare>,
    /// The cluster of `[broker]`.
    cluster: usize,
    /// The number of the newest share.
    begun: u32,
    /// Whether the service stops: no other share begins then.
    is_closed: bool,
    turn: usize,
    /// The gauges as last shown.
    shown: [u64; 5],
}

/// The context of a share's step.
struct Context<'a> {
    config: &'a Config,
    source: &'a Source,
    rules: &'static dyn Rules,
    now: Monotonic,
    seed: u64,
    /// The last number of a reader.
    begun: &'a mut u32,
    is_ending: bool,
    /// Whether a share has its place now, so that its members are answered.
    has_placed: bool,
}

impl GroupShares {
    pub(super) fn are_none(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether shares read from this cluster.
    pub(super) fn are_of(&self, cluster: usize) -> bool {
        !self.are_none() && self.cluster == cluster
    }

    /// The time of a share's next request.
    pub(super) fn next_deadline(&self) -> Monotonic {
        self.all.values().map(GroupShare::next_deadline).min().unwrap_or(Monotonic::NEVER)
    }

    /// The time at which a share has to be checked, if nothing happens before.
    pub(super) fn next_look(&self, rules: &dyn Rules, now: Monotonic) -> Monotonic {
        self.all.values().map(|share| share.next_look(rules, now)).min().unwrap_or(Monotonic::NEVER)
    }

    /// Passes the shares' requests to the client of the cluster. True: there were some.
    pub(super) fn ask(&mut self, client: &mut Client, now: Monotonic) -> bool {
        let mut any = false;
        for share in self.all.values_mut() {
            // Other readers need the topics of `[broker]`, too: they stay.
            any |= super::ask(&mut share.consumer, client, now, |_: &mut Client, _: &str| {});
            while let Some(request) = share.take_request(now) {
                any = true;
                client.ask_coordinator(request, now);
            }
        }
        any
    }

    pub(super) fn on_fetched(&mut self, id: u64, result: Result<FetchAnswer, FetchFailure>, now: Monotonic) {
        let first = first_request(id);
        if let Some(share) = self.all.values_mut().find(|share| share.consumer.first_request() == first) {
            share.consumer.on_answer(id, result, now);
        }
    }

    pub(super) fn on_metadata(&mut self, topics: &[TopicMetadata], now: Monotonic) {
        self.all.values_mut().for_each(|share| share.consumer.on_metadata(topics, now));
    }

    pub(super) fn on_cluster(&mut self, id: &str) {
        self.all.values_mut().for_each(|share| share.consumer.on_cluster(id));
    }

    /// Takes an answer of a coordinator. False: it is another member's.
    pub(super) fn on_answer(&mut self, answer: &Answer, now: Monotonic) -> bool {
        if answer.member < MEMBERS {
            return false;
        }
        let share = self.all.values_mut().find(|share| share.number == answer.member);
        share.into_iter().for_each(|share| share.on_answer(answer, now));
        true
    }

    /// Takes one of the answers that a record waits for.
    pub(super) fn settle(&mut self, settled: Settled, rules: &dyn Rules) {
        let Settled { record, is_met } = settled;
        let _ = self.all.values_mut().any(|share| share.settle(record.reader, record.number, is_met, rules));
    }

    /// Notes a change of a share's members. `asks`: they wait until it has a place. True: they need not wait any more.
    fn hear(&mut self, (share, asks): (Arc<Share>, bool), config: &Config, (seed, now): (u64, Monotonic)) -> bool {
        if let Some(known) = self.all.get_mut(share.text()) {
            return known.hears(share);
        }
        let Some(broker) = config.broker.as_ref().filter(|_| !self.is_closed && share.has_members()) else {
            return false;
        };
        let wanted = split_shared(share.text()).map_or("", |(_, wanted)| wanted);
        let meant = topics(broker, wanted);
        let mut all: Vec<(Rc<str>, bool)> =
            (0..).zip(broker.topics()).map(|(at, (topic, _))| (Rc::from(topic), meant.contains(&at))).collect();
        all.sort_unstable();
        let of_filter = all.iter().filter(|(_, is_meant)| *is_meant).map(|(topic, _)| Rc::clone(topic)).collect();
        let topics = Topics { all: all.iter().map(|(topic, _)| Rc::clone(topic)).collect(), meant: of_filter };
        self.cluster = broker.cluster;
        self.begun = next_number(self.begun, |number| self.all.values().any(|of| of.number == MEMBERS + number));
        let line = self.line();
        let first_request = Asker::Share.first_request(self.begun);
        let settings = settings::consumer(config);
        let settings = Settings { fetch_memory: SHARE_FETCH_BYTES, line, first_request, ..settings };
        let (consumer, text) = (Consumer::new(settings, seed), Arc::clone(share.text()));
        let number = MEMBERS + self.begun;
        let share = GroupShare::new((share, asks), number, (config, topics), consumer, now);
        let is_placed = !asks;
        self.all.insert(text, share);
        is_placed
    }

    /// A channel of connections that no other share has. The last one is shared.
    fn line(&self) -> u8 {
        let in_use = |line: u8| self.all.values().any(|share| share.consumer.line() == line);
        let first = u8::try_from(RECORD_REPLAYS_AT_ONCE_MAX + 1).unwrap_or(u8::MAX);
        (first..u8::MAX).find(|line| !in_use(*line)).unwrap_or(u8::MAX)
    }

    fn set_numbers(&mut self, here: &mut Here) {
        let shares = || self.all.values();
        let partitions: usize = shares().map(GroupShare::partitions).sum();
        let open: usize = shares().map(|share| share.open().0).sum();
        let fetched: usize = shares().map(|share| share.consumer.memory()).sum();
        let held = shares().map(GroupShare::held).sum();
        let values = [self.all.len(), partitions, held, open, fetched].map(|value| value as u64);
        if values != self.shown {
            self.shown = values;
            [M::ShareGroups, M::SharePartitions, M::SharePartitionsHeld, M::ShareOpen, M::ShareFetchBytes]
                .into_iter()
                .zip(values)
                .for_each(|(metric, value)| here.numbers.set(metric, value));
        }
    }
}

impl Core {
    /// Notes a change of a share's members.
    pub(super) fn share_heard(&mut self, share: Arc<Share>, asks: bool, now: Monotonic) {
        let config = Arc::clone(&self.here.config);
        let seed = self.random.u64(..);
        if self.sources.shares.hear((share, asks), &config, (seed, now)) {
            self.broker.tell_placed(&self.here);
        }
    }

    /// Notes that partitions of a share are no longer read.
    pub(super) fn share_stopped(&mut self, share: ShareNumber, home: usize, readers: &[u32]) {
        self.broker.withdraw_from_share(&mut self.here, share, home, readers);
    }

    /// Does the work of shares in a turn. True: there may be something to send.
    pub(super) fn work_on_shares(&mut self, io: &mut Ring<'_>) -> bool {
        if self.sources.is_ending {
            self.sources.shares.is_closed = true;
        }
        if self.sources.shares.are_none() {
            return false;
        }
        let config = Arc::clone(&self.here.config);
        let Some(index) = config.sources.iter().position(|source| source.is_of_broker) else { return false };
        let (source, now) = (&config.sources[index], io.now());
        let Self { here, broker, outlets, sources, random, .. } = self;
        let Sources { shares, mappings, scratch, begun, is_ending, .. } = sources;
        let rules = here.rules;
        let (seed, is_ending) = (random.u64(..), *is_ending);
        let mut context = Context { config: &config, source, rules, now, seed, begun, is_ending, has_placed: false };
        let mut is_busy = false;
        for share in shares.all.values_mut() {
            is_busy |= share.step(broker, here, &mut context);
            context.seed = random.u64(..);
        }
        let open = shares.all.values().map(|share| share.open().1).sum();
        let parts = shares.all.values().map(GroupShare::partitions).sum();
        let mut memory = Memory::new(open, config.delivery.fetch_memory, parts);
        io.next_quantum();
        // Each share is the first in its turn.
        let first = shares.turn.checked_rem(shares.all.len()).unwrap_or(0);
        shares.turn = shares.turn.wrapping_add(1);
        let (before, rest): (Vec<_>, Vec<_>) = shares.all.values_mut().enumerate().partition(|(at, _)| *at < first);
        let mut count = 0;
        for (_, share) in rest.into_iter().chain(before) {
            let made = Making { mapping: &mappings[index], scratch };
            if !share.read(io, broker, here, (&context, &mut memory), made, &mut count) {
                io.go_on();
                break;
            }
        }
        let has_placed = context.has_placed;
        let upstream = &mut outlets.upstreams[source.cluster];
        let over: Vec<GroupShare> =
            shares.all.extract_if(.., |_, share| share.is_over()).map(|(_, share)| share).collect();
        over.iter().for_each(|share| upstream.client.end_member(share.number, now));
        upstream.busy |= is_busy || !over.is_empty() || shares.next_deadline() <= now;
        shares.set_numbers(here);
        if has_placed {
            broker.tell_placed(here);
        }
        for GroupShare { share, .. } in over {
            // The share has members again.
            if share.has_members() {
                let asks = !share.is_placed();
                self.share_heard(share, asks, now);
            }
        }
        true
    }
}
