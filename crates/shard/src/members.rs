//! The sinks of one cluster, by their number in its producer: those of the configuration, and one more for each
//! dead-letter topic of a sink, source or bridge. A number is given once, so that a sink that is added while the service runs changes no other's.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use forebay_config::{Bridge, Config, Sink};
use forebay_kafka::producer::{AnsweredOn, Keep, SinkSettings};
use forebay_kafka::types::SinkId;

use super::settings;

/// The role of a sink of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// A sink of the configuration.
    Own(usize),
    /// The sink that writes the dead-letter topic of that sink of the configuration.
    DeadLetters(usize),
    /// The sink that writes the dead-letter topic of that source of the configuration.
    BadRecords(usize),
    /// The sink that writes the dead-letter topic of that bridge of the configuration.
    Refused(usize),
}

/// A sink of a producer.
#[derive(Clone, Copy, Debug)]
struct Member {
    role: Role,
    keep: Keep,
    answered_on: AnsweredOn,
}

/// The sinks of one cluster's producer.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: Vec<Member>,
    numbers: HashMap<Role, SinkId, RandomState>,
}

impl Members {
    /// The sinks of a cluster: first all of the configuration, then those of their dead-letter topics, and of the sources' and bridges'.
    pub(super) fn of(config: &Config, cluster: usize) -> Self {
        let own = || config.sinks.iter().enumerate().filter(|(_, sink)| sink.cluster == cluster);
        let mut members = Self::default();
        own().for_each(|(index, _)| members.push(config, Role::Own(index)));
        own().filter(|(_, sink)| has_topic(sink)).for_each(|(index, _)| members.push(config, Role::DeadLetters(index)));
        members.add_sources(config, cluster);
        members.add_bridges(config, cluster);
        members
    }

    /// Adds a sink for the dead-letter topic of each source of the cluster that has one, and had none before.
    pub(super) fn add_sources(&mut self, config: &Config, cluster: usize) {
        for role in bad_records(config, cluster) {
            if self.number(role).is_none() {
                self.push(config, role);
            }
        }
    }

    /// The sinks of the sources' dead-letter topics: their numbers, and their settings for the producer.
    pub(super) fn settings_of_sources(&self, config: &Config, cluster: usize) -> Vec<(SinkId, SinkSettings)> {
        bad_records(config, cluster)
            .filter_map(|role| Some((self.number(role)?, settings::member(config, role))))
            .collect()
    }

    /// Adds a sink for the dead-letter topic of each bridge that has one on this cluster, and had none before.
    pub(super) fn add_bridges(&mut self, config: &Config, cluster: usize) {
        for role in refused(config, cluster) {
            if self.number(role).is_none() {
                self.push(config, role);
            }
        }
    }

    /// The sinks of the bridges' dead-letter topics: their numbers, and their settings for the producer.
    pub(super) fn settings_of_bridges(&self, config: &Config, cluster: usize) -> Vec<(SinkId, SinkSettings)> {
        refused(config, cluster).filter_map(|role| Some((self.number(role)?, settings::member(config, role)))).collect()
    }

    fn push(&mut self, config: &Config, role: Role) {
        let SinkSettings { keep, answered_on, .. } = settings::member(config, role);
        // The configuration has fewer sinks than would be too many with their dead letters.
        let number = SinkId::of(self.all.len());
        self.all.push(Member { role, keep, answered_on });
        self.numbers.insert(role, number);
    }

    /// Adds a sink of the configuration, and that of its dead-letter topic if it has one.
    pub(super) fn add(&mut self, config: &Config, index: usize) {
        self.push(config, Role::Own(index));
        if has_topic(&config.sinks[index]) {
            self.push(config, Role::DeadLetters(index));
        }
    }

    /// A sink of the configuration, and that of its dead-letter topic: their numbers, and their settings for the producer.
    pub(super) fn settings(&self, config: &Config, index: usize) -> Vec<(SinkId, SinkSettings)> {
        let roles = [Role::Own(index), Role::DeadLetters(index)];
        roles.into_iter().filter_map(|role| Some((self.number(role)?, settings::member(config, role)))).collect()
    }

    /// The role of each sink, by its number.
    pub(super) fn roles(&self) -> impl Iterator<Item = Role> {
        self.all.iter().map(|member| member.role)
    }

    /// Sinks of the configuration, with their place there.
    pub(super) fn own(&self) -> impl Iterator<Item = (SinkId, usize)> {
        self.kept().map(|(number, index, _)| (number, index))
    }

    /// Sinks of the configuration, with where their rows are kept and when these are answered.
    pub(super) fn kept(&self) -> impl Iterator<Item = (SinkId, usize, (Keep, AnsweredOn))> {
        (0u16..).zip(&self.all).filter_map(|(number, member)| match member.role {
            Role::Own(index) => Some((SinkId(number), index, (member.keep, member.answered_on))),
            Role::DeadLetters(_) | Role::BadRecords(_) | Role::Refused(_) => None,
        })
    }

    /// The place in the configuration of the source that has its dead letters written by the sink of this number.
    pub(super) fn source_of(&self, number: SinkId) -> Option<usize> {
        match self.all.get(usize::from(number.0))?.role {
            Role::BadRecords(index) => Some(index),
            Role::Own(_) | Role::DeadLetters(_) | Role::Refused(_) => None,
        }
    }

    /// The sink's place in the configuration; `None` for a dead-letter topic's.
    pub(super) fn index_of(&self, number: SinkId) -> Option<usize> {
        match self.all.get(usize::from(number.0))?.role {
            Role::Own(index) => Some(index),
            Role::DeadLetters(_) | Role::BadRecords(_) | Role::Refused(_) => None,
        }
    }

    /// The sink of the configuration with this number, or with dead letters that the sink of this number writes.
    pub(super) fn concerns(&self, number: SinkId) -> Option<usize> {
        match self.all.get(usize::from(number.0))?.role {
            Role::Own(index) | Role::DeadLetters(index) => Some(index),
            Role::BadRecords(_) | Role::Refused(_) => None,
        }
    }

    /// The number of the sink with this role.
    pub(super) fn number(&self, role: Role) -> Option<SinkId> {
        self.numbers.get(&role).copied()
    }
}

/// The roles for the sources of a cluster that have a dead-letter topic.
fn bad_records(config: &Config, cluster: usize) -> impl Iterator<Item = Role> + '_ {
    let sources = config.sources.iter().enumerate();
    let with = sources.filter(move |(_, source)| source.cluster == cluster && source.dead_letters_topic.is_some());
    with.map(|(index, _)| Role::BadRecords(index))
}

/// The roles for the bridges with a dead-letter topic on a cluster.
fn refused(config: &Config, cluster: usize) -> impl Iterator<Item = Role> + '_ {
    let bridges = config.bridges.iter().enumerate();
    let has_topic = |bridge: &Bridge| bridge.dead_letters.as_ref().is_some_and(|dead| dead.topic.is_some());
    let with = bridges.filter(move |(_, bridge)| bridge.cluster == cluster && has_topic(bridge));
    with.map(|(index, _)| Role::Refused(index))
}

fn has_topic(sink: &Sink) -> bool {
    sink.dead_letters.as_ref().is_some_and(|dead| dead.topic.is_some())
}
