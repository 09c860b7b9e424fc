//! Sources: records of Kafka become messages of subscribers, and a group moves on when these have them.
//!
//! | file | |
//! |---|---|
//! | `membership` | a source on the shard that its name chooses: its membership in the group, the shard that reads each partition, the commits |
//! | `reader` | a partition on the shard that reads it: its window, and the reason why it waits |
//! | `dead_letters` | records that cannot be a message, on their way to a topic |
//! | `records` | a record becomes a message, or is counted with the reason why it does not |
//! | `window` | the open records of a partition |
//! | `ruled` | rules that name the source |
//! | `seek` | reading continues at another place, at an operator's request |
//! | `positions` | partitions of `[broker]`: reading goes back for new slots |
//! | `letters` | letters between the shards of a source |
//! | `told` | metrics and events |
//! | `inspect` | sources in the API |
//! | `trial` | the message that would be made of a record |
//! | `requests` | numbers of requests for records, by which an answer finds its consumer |
//! | `replay` | records of the past for one subscription |
//! | `shares` | shared subscriptions of several instances |
//! | `retained` | retained messages of the topic of `[broker]`, when the process begins |
//! | `past` | records of any topic as messages, for trials of rules |
//!
//! Partition i is read by the shard i places after that of the membership. A record is open until each shard with sessions that may need it has reported that
//! they have it ([`forebay_session::Claim`]), and its sinks have answered. The committed offset is that of the lowest open record.

mod dead_letters;
mod ends;
mod inspect;
mod membership;
mod offer;
mod past;
mod positions;
mod reader;
mod records;
mod replay;
mod requests;
mod retained;
mod ruled;
mod seek;
mod shares;
mod told;
mod trial;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_broker::mail::{Copied, RetainedOfShard, ToReaders};
use forebay_broker::router;
use forebay_config::{Config, Source};
use forebay_kafka::client::Client;
use forebay_kafka::consumer::{Consumer, Want};
use forebay_kafka::types::ClientEvent;
use forebay_rule::record_fields;
use forebay_runtime::seam::{Monotonic, TimerId, WallMs};
use forebay_session::Settled;
use forebay_source::{Mapping, Scratch};

pub use self::past::PastMessages;
pub use self::positions::partition_key;
pub use self::retained::{FirstRead, RetainedMessages, first_read};
pub use self::trial::{MessageTrial, RecordTrial, try_records};

use self::ends::Ends;
use self::membership::Membership;
use self::positions::Needs;
use self::reader::{Memory, Reader};
use self::replay::Replays;
use self::requests::Asker;
use self::shares::GroupShares;
use super::mail::{Given, Mail, Notice, ToSources};
use super::ring::Ring;
use super::words::Timer;
use super::{Core, settings};

/// The time for which revoked partitions wait for their open records.
const STOPPING: Duration = Duration::from_secs(5);

/// The interval at which the board is written.
const BOARD_EVERY: Duration = Duration::from_millis(250);

/// The sources of a shard.
pub(super) struct Sources {
    /// The consumer of each cluster.
    consumers: Vec<Consumer>,
    /// The mapping of each source.
    mappings: Vec<Mapping>,
    scratch: Scratch,
    /// The fields of a record for rules.
    facts: record_fields::Scratch,
    /// The partitions read here, by a number that is never used again.
    readers: BTreeMap<u32, Reader>,
    begun: u32,
    /// The memory of their windows, as of this turn.
    memory: Memory,
    /// Memberships of this shard, by index of the source.
    memberships: BTreeMap<usize, Membership>,
    replays: Replays,
    shares: GroupShares,
    /// The time at which clients were first accepted. Nothing is read before that.
    opened_at: Option<Monotonic>,
    /// Whether the service stops: nothing is read then.
    is_ending: bool,
    /// The number of turns in which records were read, by which the first to be read changes.
    turn: usize,
    /// The numbers of [`Tried`] when waiting records, and those without receivers, were last tried.
    tried: Tried,
    /// The latest time at which a reader has something to report.
    report_at: Monotonic,
    /// The time at which the board is written next: soon after a letter, an answer of a cluster, a record, or the end of a partition.
    board_at: Option<Monotonic>,
    /// Sources of messages that had no receiver in the end, for counting.
    unmet: Vec<usize>,
    /// The places from which the partitions of `[broker]` are read.
    needs: Needs,
    /// Records of routes that are not retained again.
    copied: Copied,
    /// Copies of retained messages that expire.
    ends: Ends,
    timer: Option<(Monotonic, TimerId)>,
}

/// Numbers that grow with what records wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tried {
    /// Room.
    freed: u64,
    /// Subscribers.
    grown: u64,
}

/// The shard on which a source has its membership.
fn home(source: &Source, shards: usize) -> usize {
    router::owner(&source.name, shards)
}

/// The shard that reads a partition of a source with this home.
fn reads(home: usize, partition: i32, shards: usize) -> usize {
    (home + usize::try_from(partition).unwrap_or(0)) % shards.max(1)
}

impl Sources {
    pub(super) fn new(config: &Config, seed: &mut fastrand::Rng) -> Self {
        let consumer = |_| Consumer::new(settings::consumer(config), seed.u64(..));
        let consumers = (0..config.clusters.len()).map(consumer);
        Self {
            consumers: consumers.collect(),
            mappings: mappings(config),
            scratch: Scratch::default(),
            facts: record_fields::Scratch::default(),
            readers: BTreeMap::new(),
            begun: 0,
            memory: Memory::default(),
            memberships: BTreeMap::new(),
            replays: Replays::default(),
            shares: GroupShares::default(),
            opened_at: None,
            is_ending: false,
            turn: 0,
            tried: Tried::default(),
            report_at: Monotonic::NEVER,
            board_at: None,
            unmet: Vec::new(),
            needs: Needs::default(),
            copied: Copied::default(),
            ends: Ends::default(),
            timer: None,
        }
    }

    /// Takes what the process has read of the topic of retained messages at its beginning.
    pub(super) fn take_copied(&mut self, of_shard: RetainedOfShard, config: &Config, now: Monotonic) {
        self.copied = of_shard.copied;
        self.take_expiring(of_shard.expiring, config, now);
    }

    /// Whether no partition of a cluster is read, and no group on it has a member here.
    pub(super) fn are_off(&self, cluster: usize) -> bool {
        self.readers.values().all(|reader| reader.cluster != cluster)
            && self.memberships.values().all(|membership| membership.cluster != cluster)
            && !self.shares.are_of(cluster)
    }

    /// Whether no partition is read any more, and no group has a member here.
    fn are_over(&self) -> bool {
        self.readers.is_empty() && self.memberships.is_empty() && self.shares.are_none()
    }

    /// Passes the requests of consumer and members to a cluster's client. True: there were some.
    pub(super) fn ask(&mut self, cluster: usize, client: &mut Client, now: Monotonic) -> bool {
        let mut any = ask(&mut self.consumers[cluster], client, now, |client, topic| client.unwatch_topic(topic));
        for membership in self.memberships.values_mut().filter(|membership| membership.cluster == cluster) {
            any |= membership.ask(client, now);
        }
        if self.replays.are_of(cluster) {
            any |= self.replays.ask(client, now);
        }
        if self.shares.are_of(cluster) {
            any |= self.shares.ask(client, now);
        }
        any
    }

    /// Has the board written soon, as the state of sources may have changed.
    fn show_soon(&mut self, now: Monotonic) {
        self.board_at.get_or_insert(now.after(BOARD_EVERY));
    }

    /// Takes an event of a cluster's client.
    pub(super) fn event(&mut self, cluster: usize, event: ClientEvent, now: Monotonic) {
        if !self.are_over() {
            self.show_soon(now);
        }
        let consumer = &mut self.consumers[cluster];
        let replays = Some(&mut self.replays).filter(|replays| replays.are_of(cluster));
        let shares = Some(&mut self.shares).filter(|shares| shares.are_of(cluster));
        match event {
            ClientEvent::Cluster(id) => {
                consumer.on_cluster(&id);
                replays.into_iter().for_each(|replays| replays.on_cluster(&id));
                shares.into_iter().for_each(|shares| shares.on_cluster(&id));
            }
            ClientEvent::Metadata(topics) => {
                consumer.on_metadata(&topics, now);
                replays.into_iter().for_each(|replays| replays.on_metadata(&topics, now));
                shares.into_iter().for_each(|shares| shares.on_metadata(&topics, now));
                for membership in self.memberships.values_mut().filter(|of| of.cluster == cluster) {
                    membership.on_metadata(&topics);
                }
            }
            ClientEvent::Fetch { id, result } => match Asker::of(id) {
                Asker::Sources => consumer.on_answer(id, result, now),
                Asker::Replay => {
                    if let Some(replays) = replays {
                        replays.on_answer(id, result, now);
                    }
                }
                Asker::Share => {
                    if let Some(shares) = shares {
                        shares.on_fetched(id, result, now);
                    }
                }
            },
            ClientEvent::Member(answer) if self.shares.on_answer(&answer, now) => {}
            ClientEvent::Member(answer) => {
                if let Some(membership) = self.memberships.get_mut(&(answer.member as usize)) {
                    membership.on_answer(&answer, now);
                }
            }
            _ => {}
        }
    }

    /// The time at which something is due at a cluster.
    pub(super) fn next_deadline(&self, cluster: usize) -> Monotonic {
        let memberships = self.memberships.values().filter(|membership| membership.cluster == cluster);
        let members = memberships.map(Membership::next_request).min().unwrap_or(Monotonic::NEVER);
        let replays = if self.replays.are_of(cluster) { self.replays.next_deadline() } else { Monotonic::NEVER };
        let shares = if self.shares.are_of(cluster) { self.shares.next_deadline() } else { Monotonic::NEVER };
        self.consumers[cluster].next_deadline().min(members).min(replays).min(shares)
    }
}

fn mappings(config: &Config) -> Vec<Mapping> {
    config.sources.iter().map(|source| Mapping::new(config, source)).collect()
}

/// Passes a consumer's requests to a client. `forgets` is called for each topic that the consumer no longer reads. True: there were some.
fn ask(consumer: &mut Consumer, client: &mut Client, now: Monotonic, forgets: impl Fn(&mut Client, &str)) -> bool {
    let mut any = false;
    while let Some(want) = consumer.take_want() {
        any = true;
        match want {
            Want::Metadata(topic) => client.watch_metadata(&topic, now),
            Want::Forget(topic) => forgets(client, &topic),
            Want::Refresh => client.refresh_metadata(now),
        }
    }
    while let Some(call) = consumer.take_request(now) {
        any = true;
        client.fetch(call, now);
    }
    any
}

impl Core {
    /// Begins with the sources: clients are accepted from now on.
    pub(super) fn open_sources(&mut self, io: &mut Ring<'_>) {
        self.sources.opened_at.get_or_insert(io.now());
        self.set_memberships(io.now());
    }

    /// Takes another configuration.
    pub(super) fn change_sources(&mut self, io: &mut Ring<'_>) {
        let config = Arc::clone(&self.here.config);
        let sources = &mut self.sources;
        let settings = settings::consumer(&config);
        for cluster in 0..config.clusters.len() {
            match sources.consumers.get_mut(cluster) {
                Some(consumer) => consumer.change(settings),
                None => sources.consumers.push(Consumer::new(settings, self.random.u64(..))),
            }
        }
        sources.mappings = mappings(&config);
        // A window may have room now, and messages without a receiver may have one.
        sources.tried = Tried::default();
        self.set_memberships(io.now());
    }

    /// Begins the memberships that this shard should have, and ends those that it should not have, or not with these terms.
    fn set_memberships(&mut self, now: Monotonic) {
        let config = Arc::clone(&self.here.config);
        let (here, shards) = (self.here.index, config.service.shards);
        let is_open = self.sources.opened_at.is_some() && !self.sources.is_ending;
        for (index, source) in config.sources.iter().enumerate().filter(|(_, source)| home(source, shards) == here) {
            let is_wanted = is_open && !source.is_removed && !source.paused && config.has_use_for(source);
            let terms = membership::Terms::of(&config, source);
            match self.sources.memberships.get_mut(&index) {
                None if is_wanted => {
                    let seed = self.random.u64(..);
                    self.sources
                        .memberships
                        .insert(index, Membership::new((index, source), terms, (here, shards), (seed, now)));
                }
                Some(membership) if !is_wanted || !membership.has(&terms) => {
                    membership.end(is_open, now, self.around.letters(&mut self.broker));
                }
                Some(_) | None => {}
            }
        }
        self.busy_clusters();
    }

    /// Ends all sources, as the service stops. [`Notice::SourcesOver`] reports when they are over.
    pub(super) fn end_sources(&mut self, io: &mut Ring<'_>) {
        self.sources.is_ending = true;
        self.set_memberships(io.now());
    }

    /// Does the work of sources in a turn: answers settle records, records become messages, and shards get progress reports. True: there may be rows for
    /// sinks, or requests.
    pub(super) fn work_on_sources(&mut self, io: &mut Ring<'_>) -> bool {
        let mut any = self.settle_records() | self.replay_records(io) | self.work_on_shares(io);
        if !self.sources.are_over() || !self.sources.replays.are_none() || self.sources.board_at.is_some() {
            any |= self.read_records(io);
            self.report_progress(io);
            any |= self.step_memberships(io.now());
            any |= self.busy_consumers(io.now());
            if any {
                self.sources.show_soon(io.now());
            }
            if self.sources.board_at.is_some_and(|at| at <= io.now()) {
                self.sources.board_at = None;
                self.sources.set_numbers(&mut self.here);
            }
            self.set_sources_timer(io);
        }
        self.report_end();
        any
    }

    /// Reports, once, that no partition is read any more. No reading begins again after that.
    fn report_end(&mut self) {
        if self.sources.is_ending && self.sources.are_over() {
            (self.sources.is_ending, self.sources.opened_at) = (false, None);
            // The receiver is gone only when the process ends.
            let _ = self.around.notices.send(Notice::SourcesOver(self.here.index));
        }
    }

    /// Steps the memberships that are due. True: they may have requests.
    fn step_memberships(&mut self, now: Monotonic) -> bool {
        let config = Arc::clone(&self.here.config);
        let mut any = false;
        for (source, membership) in &mut self.sources.memberships {
            if membership.step(now, self.around.letters(&mut self.broker)) {
                any = true;
                self.outlets.upstreams[membership.cluster].busy = true;
            }
            for told in membership.news.drain(..) {
                any = true;
                membership.troubles.hear(&told);
                Sources::tell_membership(&mut self.here, &config, *source, told, now);
            }
        }
        let over = self.sources.memberships.extract_if(.., |_, membership| membership.is_over());
        let over: Vec<(usize, usize)> = over.map(|(source, membership)| (source, membership.cluster)).collect();
        for (source, cluster) in &over {
            let upstream = &mut self.outlets.upstreams[*cluster];
            upstream.client.end_member(membership::number(*source), now);
            upstream.busy = true;
        }
        if !over.is_empty() {
            any = true;
            self.set_memberships(now);
        }
        any
    }

    /// Has clusters asked again: everything fetched of a partition is taken up, or the partition is read again. True: there is something to ask.
    fn busy_consumers(&mut self, now: Monotonic) -> bool {
        let mut any = false;
        for (consumer, upstream) in self.sources.consumers.iter().zip(&mut self.outlets.upstreams) {
            let is_due = consumer.next_deadline() <= now;
            upstream.busy |= is_due;
            any |= is_due;
        }
        any
    }

    /// Passes the answers for records to the shards that read them. True: there were some.
    fn settle_records(&mut self) -> bool {
        let (settled, rules) = (self.broker.delivery.remembered().take_settled(), self.here.rules);
        let mut others: BTreeMap<usize, Vec<Settled>> = BTreeMap::new();
        let any = !settled.is_empty();
        for one in settled {
            if one.record.shard == self.here.index {
                self.sources.settle(one, rules);
            } else {
                others.entry(one.record.shard).or_default().push(one);
            }
        }
        let letters = others.into_iter().map(|(shard, settled)| (shard, Mail::Sources(ToSources::Settled(settled))));
        self.around.letters(&mut self.broker).extend(letters);
        self.sources.count_unmet(&mut self.here.numbers);
        any
    }

    /// Takes a letter of another shard of a source, or of this one.
    pub(super) fn source_letter(&mut self, io: &mut Ring<'_>, letter: ToSources) {
        let (now, wall) = (io.now(), io.wall());
        self.sources.show_soon(now);
        match letter {
            ToSources::Settled(settled) => {
                let rules = self.here.rules;
                settled.into_iter().for_each(|one| self.sources.settle(one, rules));
                self.sources.count_unmet(&mut self.here.numbers);
            }
            ToSources::Read { source, generation, cluster, partitions } => {
                // The membership of a source that has moved to another cluster was notified, too: it ends.
                let is_there = self.here.config.sources.get(source).is_some_and(|of| of.cluster == cluster);
                for given in partitions.into_iter().filter(|_| is_there) {
                    self.begin_reading(source, generation, given, (now, wall));
                }
            }
            ToSources::Seek { source, generation, partitions, to } => {
                self.sources.seek((source, generation), &partitions, to, now);
            }
            ToSources::Stop { source, generation, is_lost } => {
                self.stop_reading((source, generation), is_lost, (now, wall));
            }
            ToSources::Broker(ToReaders::Needs { by, number, needs }) => self.slots_need((by, number), &needs, now),
            ToSources::Broker(ToReaders::Share { share, asks }) => self.share_heard(share, asks, now),
            ToSources::Broker(ToReaders::ShareStopped { share, home, readers }) => {
                self.share_stopped(share, home, &readers)
            }
            // The turn handles the waiting packets.
            ToSources::Broker(ToReaders::SharePlaced) => {}
            ToSources::Progress(progress) => {
                if let Some(membership) = self.sources.memberships.get_mut(&progress.source) {
                    membership.progress(progress, now);
                }
            }
        }
        self.busy_clusters();
    }

    fn begin_reading(&mut self, source: usize, generation: u64, given: Given, (now, wall): (Monotonic, WallMs)) {
        let config = Arc::clone(&self.here.config);
        let Some(of) = config.sources.get(source) else { return };
        let id = self.sources.begun;
        self.sources.begun = id.wrapping_add(1);
        self.sources.readers.insert(id, Reader::new((source, of), generation, given, now));
        self.sources.assign(&config, id, wall);
    }

    /// Sets the timer for work left at the end of the turn.
    fn set_sources_timer(&mut self, io: &mut Ring<'_>) {
        let memberships = self.sources.memberships.values().map(Membership::next_step).min();
        let readers = self.sources.next_look(&self.here.config);
        let board = self.sources.board_at.unwrap_or(Monotonic::NEVER);
        let at = memberships.unwrap_or(Monotonic::NEVER).min(self.sources.report_at).min(readers).min(board);
        let at = at.min(self.sources.replays.next_look()).min(self.sources.next_tell(io.now()));
        let at = at.min(self.sources.shares.next_look(self.here.rules, io.now())).min(self.sources.ends.due());
        io.set_timer_by(Timer::Sources, at, &mut self.sources.timer);
    }

    /// Notes that the timer has expired.
    pub(super) fn sources_time(&mut self) {
        self.sources.timer = None;
    }
}
