//! A source on the shard that its name chooses: its membership in the group, the shards that read its partitions, and the commits.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use forebay_config::{Config, Isolation, OffsetReset, OnBadBatch, Source};
use forebay_kafka::client::Client;
use forebay_kafka::coordination::{Answer, Offset, TopicPartition};
use forebay_kafka::group::{self, Assigned, Lost, Member, News, Standing};
use forebay_kafka::types::TopicMetadata;
use forebay_runtime::seam::Monotonic;

use super::inspect::Troubles;
use super::{STOPPING, reads};
use crate::mail::{Given, Letters, Mail, Place, Progress, Reached, ToSources};

/// The settings with which a membership began, and its partitions are read. A new membership begins when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    cluster: usize,
    topics: Vec<Rc<str>>,
    group: String,
    instance: Option<String>,
    /// Whether the partitions stay this instance's for the session timeout when its process stops.
    keeps_place: bool,
    /// Whether the member joins again after another process has joined with its name. The logs of sessions of `[broker]` decide which of
    /// two processes with its name continues, and a process that stalled may join once more before it learns of that.
    comes_back: bool,
    reset: OffsetReset,
    isolation: Isolation,
    on_bad_batch: OnBadBatch,
    fetch_bytes: usize,
    commit_interval: Duration,
}

impl Terms {
    pub(super) fn of(config: &Config, source: &Source) -> Self {
        let mut topics: Vec<Rc<str>> = source.routes().map(|(kafka, _)| Rc::from(kafka)).collect();
        topics.sort_unstable();
        Self {
            cluster: source.cluster,
            topics,
            group: source.group.clone(),
            instance: source.group_instance.clone().or_else(|| config.service.instance_name.clone()),
            keeps_place: source.group_instance.is_some(),
            comes_back: source.is_of_broker || (config.broker.is_some() && source.group_instance.is_none()),
            reset: source.offset_reset,
            isolation: source.isolation,
            on_bad_batch: source.on_bad_batch,
            fetch_bytes: source.fetch_bytes,
            commit_interval: source.commit_interval,
        }
    }
}

/// The number of a source's member at the client of its cluster.
pub(super) fn number(source: usize) -> u32 {
    u32::try_from(source).unwrap_or(u32::MAX)
}

/// The way in which a source gets its partitions.
enum By {
    /// A group assigns them.
    Group(Box<Member>),
    /// The source reads all partitions, and commits nothing.
    All {
        /// The number of partitions of each topic.
        counts: BTreeMap<Rc<str>, usize>,
        /// Topics that the client was not asked to watch yet.
        unwatched: Vec<Rc<str>>,
    },
}

/// The stage of a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The partitions are read, if there are any.
    Reading,
    /// The partitions are stopped. Last reports of their shards are awaited until this time.
    Stopping(Monotonic),
    /// All partitions are stopped and committed, and the member leaves.
    Leaving,
    /// The membership is over.
    Over,
}

/// A partition that the source has.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) shard: usize,
    at: Option<Place>,
    pub(super) committed: Option<Place>,
    is_stopped: bool,
}

/// The membership of one source.
pub(super) struct Membership {
    source: usize,
    pub(super) cluster: usize,
    /// The shard of the membership, out of `shards`.
    home: usize,
    shards: usize,
    terms: Terms,
    by: By,
    stage: Stage,
    /// The reason why the membership ends when its partitions are stopped, if it does. At the end of the process a member with a
    /// `group_instance` keeps its place.
    ends: Option<End>,
    pub(super) generation: u64,
    pub(super) held: BTreeMap<TopicPartition, Held>,
    commit_at: Monotonic,
    /// News of the member that are not reported yet.
    pub(super) news: Vec<Told>,
    pub(super) troubles: Troubles,
}

/// The reason why a membership ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The source was removed, paused or changed.
    Change,
    /// The service stops.
    Process,
}

/// An event of a membership, for metrics and events.
#[derive(Debug)]
pub(super) enum Told {
    /// The source has this many partitions.
    Assigned(usize),
    /// The source has lost its partitions.
    Lost(Lost),
    /// This many places were committed.
    Committed(u64),
    /// Kafka refuses to take a commit.
    CommitFailed(String),
    /// The group cannot be joined.
    Trouble(String),
    /// The trouble is over.
    TroubleOver,
}

impl Membership {
    /// Begins a membership of a source on shard `here` of `shards`.
    pub(super) fn new(
        (source, of): (usize, &Source),
        terms: Terms,
        (here, shards): (usize, usize),
        (seed, now): (u64, Monotonic),
    ) -> Self {
        let by = if terms.group.is_empty() {
            By::All { counts: BTreeMap::new(), unwatched: terms.topics.clone() }
        } else {
            let settings = group::Settings {
                number: number(source),
                group: terms.group.as_str().into(),
                instance: terms.instance.as_deref().map(Into::into),
                comes_back: terms.comes_back,
                topics: terms.topics.clone(),
                ..group::Settings::default()
            };
            By::Group(Box::new(Member::new(settings, seed, now)))
        };
        Self {
            source,
            cluster: of.cluster,
            home: here,
            shards,
            terms,
            by,
            stage: Stage::Reading,
            ends: None,
            generation: 0,
            held: BTreeMap::new(),
            commit_at: now,
            news: Vec::new(),
            troubles: Troubles::default(),
        }
    }

    /// Whether the membership began with these terms.
    pub(super) fn has(&self, terms: &Terms) -> bool {
        self.terms == *terms
    }

    /// Whether the membership is over: another one may begin.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// The number of its partitions.
    pub(super) fn partitions(&self) -> usize {
        self.held.len()
    }

    /// Passes its requests to the client of its cluster. True: there were some.
    pub(super) fn ask(&mut self, client: &mut Client, now: Monotonic) -> bool {
        let mut any = false;
        match &mut self.by {
            By::Group(member) => {
                while let Some(request) = member.take_request(now) {
                    any = true;
                    client.ask_coordinator(request, now);
                }
            }
            By::All { unwatched, .. } => {
                for topic in unwatched.drain(..) {
                    any = true;
                    client.watch_metadata(&topic, now);
                }
            }
        }
        any
    }

    /// Takes a broker's answer to its member.
    pub(super) fn on_answer(&mut self, answer: &Answer, now: Monotonic) {
        if let By::Group(member) = &mut self.by {
            member.on_answer(answer, now);
        }
    }

    /// Takes metadata of topics.
    pub(super) fn on_metadata(&mut self, topics: &[TopicMetadata]) {
        let By::All { counts, .. } = &mut self.by else { return };
        for topic in topics.iter().filter(|topic| topic.error == 0 && self.terms.topics.contains(&topic.name)) {
            let known = counts.entry(Rc::clone(&topic.name)).or_default();
            *known = topic.leaders.len().max(*known);
        }
    }

    /// The time of the member's next request.
    pub(super) fn next_request(&self) -> Monotonic {
        match &self.by {
            By::Group(member) => member.next_deadline(),
            By::All { .. } => Monotonic::NEVER,
        }
    }

    /// The time at which [`Membership::step`] has something to do.
    pub(super) fn next_step(&self) -> Monotonic {
        let commit = if self.has_uncommitted() { self.commit_at } else { Monotonic::NEVER };
        match self.stage {
            Stage::Stopping(until) => until,
            _ => commit.min(self.next_request()),
        }
    }

    fn has_uncommitted(&self) -> bool {
        matches!(self.by, By::Group(_)) && self.held.values().any(|held| held.at != held.committed)
    }

    /// Ends the membership: its partitions are stopped and committed, then the member leaves. `is_change`: the process continues.
    pub(super) fn end(&mut self, is_change: bool, now: Monotonic, letters: &mut Letters) {
        if self.ends.is_some() || self.is_over() {
            return;
        }
        self.ends = Some(if is_change { End::Change } else { End::Process });
        self.stop(now, letters);
    }

    /// Takes a report of one of its shards.
    pub(super) fn progress(&mut self, progress: Progress, now: Monotonic) {
        if progress.generation != self.generation {
            return;
        }
        if !self.has_uncommitted() && self.commit_at < now {
            self.commit_at = now;
        }
        for Reached { topic, partition, at, is_stopped } in progress.places {
            let key = TopicPartition { topic: Rc::from(&*topic), partition };
            if let Some(held) = self.held.get_mut(&key) {
                held.at = at.or(held.at);
                held.is_stopped |= is_stopped;
            }
        }
    }

    /// Takes the member's news, notifies the shards, and commits, as far as due. True: the member may have a request.
    pub(super) fn step(&mut self, now: Monotonic, letters: &mut Letters) -> bool {
        let before = (self.stage, self.generation);
        self.take_news(now, letters);
        self.give_all(letters);
        if self.has_uncommitted() && now >= self.commit_at && matches!(self.stage, Stage::Reading) {
            self.commit(now);
        }
        if let Stage::Stopping(until) = self.stage
            && (now >= until || self.held.values().all(|held| held.is_stopped))
        {
            self.commit(now);
            self.held.clear();
            self.stage = Stage::Reading;
            match (&mut self.by, self.ends) {
                (By::Group(member), None) => member.revoked_done(now),
                (By::Group(member), Some(end)) => {
                    self.stage = Stage::Leaving;
                    if end == End::Process && self.terms.keeps_place { member.stop(now) } else { member.leave(now) }
                }
                (By::All { .. }, None) => {}
                (By::All { .. }, Some(_)) => self.stage = Stage::Over,
            }
            self.take_news(now, letters);
        }
        if let By::Group(member) = &mut self.by
            && member.next_deadline() <= now
        {
            member.on_time(now);
            self.take_news(now, letters);
        }
        if let By::Group(member) = &self.by
            && self.stage == Stage::Leaving
            && member.standing() == Standing::Ended
        {
            self.stage = Stage::Over;
        }
        before != (self.stage, self.generation) || self.next_request() <= now
    }

    fn take_news(&mut self, now: Monotonic, letters: &mut Letters) {
        loop {
            let By::Group(member) = &mut self.by else { return };
            let Some(news) = member.take_news() else { return };
            match news {
                // The member leaves: new partitions are not read any more.
                News::Assigned(_) if self.ends.is_some() => {}
                News::Assigned(assigned) => {
                    self.news.push(Told::Assigned(assigned.len()));
                    let given = assigned.into_iter().map(|Assigned { at, committed }| {
                        let committed = committed.map(|at| Place { offset: at.offset, leader_epoch: at.leader_epoch });
                        (at, committed)
                    });
                    self.give(given.collect(), letters);
                }
                News::Revoked(_) => self.stop(now, letters),
                News::Lost(why) => {
                    self.news.push(Told::Lost(why));
                    self.drop_all(letters);
                }
                News::Committed(offsets) => {
                    self.news.push(Told::Committed(offsets.len() as u64));
                    for Offset { at, offset, leader_epoch } in offsets {
                        if let Some(held) = self.held.get_mut(&at) {
                            held.committed = Some(Place { offset, leader_epoch });
                        }
                    }
                }
                News::CommitFailed { why, .. } => self.news.push(Told::CommitFailed(why)),
                News::Trouble(why) => self.news.push(Told::Trouble(why)),
                News::TroubleOver => self.news.push(Told::TroubleOver),
                News::Left => {
                    self.drop_all(letters);
                    self.stage = Stage::Over;
                }
            }
        }
    }

    /// Has the shards read these partitions.
    fn give(&mut self, given: Vec<(TopicPartition, Option<Place>)>, letters: &mut Letters) {
        self.generation += 1;
        self.held.clear();
        self.stage = Stage::Reading;
        self.add(given, letters);
    }

    fn add(&mut self, given: Vec<(TopicPartition, Option<Place>)>, letters: &mut Letters) {
        let mut by_shard: BTreeMap<usize, Vec<Given>> = BTreeMap::new();
        for (at, committed) in given {
            let shard = reads(self.home, at.partition, self.shards);
            let topic: Arc<str> = Arc::from(&*at.topic);
            by_shard.entry(shard).or_default().push(Given { topic, partition: at.partition, committed });
            self.held.insert(at, Held { shard, at: committed, committed, is_stopped: false });
        }
        let (source, generation, cluster) = (self.source, self.generation, self.cluster);
        letters.extend(by_shard.into_iter().map(|(shard, partitions)| {
            (shard, Mail::Sources(ToSources::Read { source, generation, cluster, partitions }))
        }));
    }

    /// Gives a source without a group the partitions that it does not have yet.
    fn give_all(&mut self, letters: &mut Letters) {
        let By::All { counts, .. } = &self.by else { return };
        if self.stage != Stage::Reading || self.ends.is_some() {
            return;
        }
        let mut missing = Vec::new();
        for (topic, count) in counts {
            let partitions = 0..i32::try_from(*count).unwrap_or(i32::MAX);
            let all = partitions.map(|partition| TopicPartition { topic: Rc::clone(topic), partition });
            missing.extend(all.filter(|at| !self.held.contains_key(at)).map(|at| (at, None)));
        }
        if !missing.is_empty() {
            self.add(missing, letters);
            self.news.push(Told::Assigned(self.held.len()));
        }
    }

    /// Stops all partitions, and waits for the last reports of their shards.
    fn stop(&mut self, now: Monotonic, letters: &mut Letters) {
        self.tell_to_stop(false, letters);
        // The shards have [`STOPPING`]; a letter may take a turn more.
        self.stage = Stage::Stopping(now.after(STOPPING + Duration::from_secs(1)));
    }

    /// Stops all partitions at once: they are other instances' now.
    fn drop_all(&mut self, letters: &mut Letters) {
        self.tell_to_stop(true, letters);
        self.held.clear();
        if let Stage::Stopping(until) = &mut self.stage {
            *until = Monotonic::default();
        }
    }

    fn tell_to_stop(&self, is_lost: bool, letters: &mut Letters) {
        let (source, generation) = (self.source, self.generation);
        let mut shards: Vec<usize> = self.held.values().map(|held| held.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        let stop = |shard| (shard, Mail::Sources(ToSources::Stop { source, generation, is_lost }));
        letters.extend(shards.into_iter().map(stop));
    }

    fn commit(&mut self, now: Monotonic) {
        let By::Group(member) = &mut self.by else { return };
        let changed = self.held.iter().filter(|(_, held)| held.at != held.committed);
        let offsets: Vec<Offset> = changed
            .filter_map(|(at, held)| {
                let Place { offset, leader_epoch } = held.at?;
                Some(Offset { at: at.clone(), offset, leader_epoch })
            })
            .collect();
        member.commit(&offsets, now);
        self.commit_at = now.after(self.terms.commit_interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(more: &str) -> Terms {
        let text =
            format!("[kafka.main]\nbootstrap = 'k:1'\n[[source]]\nname = 's'\ntopic = 't'\nmqtt_topic = 'm'\n{more}");
        let config = forebay_config::parse(&text, "test").expect("a configuration");
        Terms::of(&config, &config.sources[0])
    }

    /// A reload applies at once the settings of reading and committing.
    #[test]
    fn what_partitions_are_read_with_begins_another_membership() {
        let of_membership =
            ["isolation = 'all'", "on_bad_batch = 'skip'", "fetch_bytes = '2MiB'", "commit_interval = '1s'"];
        for line in of_membership {
            assert_ne!(terms(line), terms(""), "{line}");
        }
        // Settings that are looked up for each record need no new membership.
        for line in ["payload = '${key}'", "no_subscriber = 'wait'", "window_messages = 7", "release_after = '1h'"] {
            assert_eq!(terms(line), terms(""), "{line}");
        }
    }
}
