//! Sources as the control plane reports them.

use std::collections::BTreeMap;

use super::Sources;
use super::membership::{Held, Membership, Told};
use super::reader::{Pause, Reader};
use super::told::FENCED;
use super::window::Window;
use crate::Core;
use forebay_kafka::consumer::State;
use forebay_kafka::coordination::TopicPartition;
use forebay_kafka::group::Lost;
use forebay_metrics::inspect::{self, LOOKED_AT_MAX, SourceOnShard, SourcePartition};

/// The trouble of a membership, if any.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    group: Option<String>,
    commit: Option<String>,
}

impl Troubles {
    /// Notes an event of the membership.
    pub(super) fn hear(&mut self, told: &Told) {
        match told {
            Told::Trouble(why) => self.group = Some(why.clone()),
            Told::TroubleOver | Told::Assigned(_) => self.group = None,
            Told::CommitFailed(why) => self.commit = Some(why.clone()),
            Told::Committed(_) => self.commit = None,
            Told::Lost(Lost::Fenced) => self.group = Some(FENCED.to_owned()),
            Told::Lost(Lost::Generation | Lost::Unknown | Lost::Epoch) => {}
        }
    }

    /// The trouble in words.
    pub(super) fn reason(&self) -> Option<&str> {
        self.group.as_deref().or(self.commit.as_deref())
    }
}

impl Membership {
    /// The membership as reported, with the places of at most `limit` partitions.
    fn shown(&self, limit: usize) -> inspect::Membership {
        let place = |(at, held): (&TopicPartition, &Held)| {
            (at.topic.to_string(), at.partition, held.committed.map(|place| place.offset))
        };
        inspect::Membership {
            trouble: self.troubles.reason().map(str::to_owned),
            committed: self.held.iter().take(limit).map(place).collect(),
        }
    }
}

impl Sources {
    /// The state of a partition, and the reason if it is not read.
    fn state(&self, id: u32, reader: &Reader) -> (&'static str, Option<String>) {
        if reader.is_stopping() {
            return (
                "stopping",
                Some("it is given back when its open messages are acknowledged, or after 5 s".to_owned()),
            );
        }
        let state = self.consumers[reader.cluster].state(id);
        if let Some(State::Stopped(why)) = state {
            return ("stopped", Some(why.words().0));
        }
        let waits_for_nothing = reader.window.as_ref().is_none_or(Window::waits_for_nothing);
        match reader.pause {
            Some(Pause::Bad) => ("stopped", reader.trouble.clone()),
            Some(Pause::Window) if waits_for_nothing => {
                ("window_full", Some("its messages wait for somebody who subscribes to them".to_owned()))
            }
            Some(Pause::Window) => {
                ("window_full", Some("subscribers, or sinks, have not acknowledged its messages".to_owned()))
            }
            Some(Pause::Room) => {
                ("no_room", Some("its next message finds no room in a sink or at a subscriber".to_owned()))
            }
            Some(Pause::Start) => ("starting", Some("shards have not said yet what their slots need of it".to_owned())),
            Some(Pause::Taken) => ("starting", Some("another source reads it until it has stopped".to_owned())),
            None if state == Some(State::Missing) => (
                "topic_missing",
                Some("Kafka does not know the topic any more; the partition stops if it stays so".to_owned()),
            ),
            None if state == Some(State::Reading) => ("reading", reader.trouble.clone()),
            None => ("starting", reader.trouble.clone()),
        }
    }

    fn partition(&self, id: u32, reader: &Reader) -> SourcePartition {
        let consumer = &self.consumers[reader.cluster];
        let (state, reason) = self.state(id, reader);
        let window = reader.window.as_ref();
        // The consumer does not know the place before reading has begun.
        let position = window.and_then(|_| consumer.position(id)).map(|position| position.offset);
        SourcePartition {
            topic: reader.topic.to_string(),
            partition: reader.partition,
            position,
            lag: consumer.lag(id),
            open: window.map_or(0, Window::len),
            parked: window.map_or(0, Window::parked),
            state,
            reason,
        }
    }
}

impl Core {
    /// The shard's part of all sources, or of one: at most `limit` partitions of each.
    pub(crate) fn inspect_sources(&self, source: Option<usize>, limit: usize) -> Vec<SourceOnShard> {
        let (sources, limit) = (&self.sources, limit.min(LOOKED_AT_MAX));
        let is_wanted = |index: usize| source.is_none_or(|source| source == index);
        let mut found: BTreeMap<usize, SourceOnShard> = BTreeMap::new();
        for (index, membership) in sources.memberships.iter().filter(|(index, _)| is_wanted(**index)) {
            let shown = membership.shown(if source.is_some() { limit } else { 0 });
            found.entry(*index).or_default().membership = Some(shown);
        }
        for (id, reader) in sources.readers.iter().filter(|(_, reader)| is_wanted(reader.source)) {
            let of = found.entry(reader.source).or_default();
            if of.stopped.is_none()
                && let ("stopped", why) = sources.state(*id, reader)
            {
                let why = why.unwrap_or_default();
                of.stopped = Some(format!("partition {} of {} is not read: {why}", reader.partition, reader.topic));
            }
            if of.partitions.len() < limit {
                of.partitions.push(sources.partition(*id, reader));
            } else {
                of.more += 1;
            }
        }
        found.into_iter().map(|(source, of)| SourceOnShard { source, ..of }).collect()
    }
}
