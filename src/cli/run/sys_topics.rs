//! `$SYS/broker/…`: numbers of the service as retained messages, with the names that mosquitto has for them. Made here every
//! [`EVERY`] from the shards' boards; a shard publishes those that have changed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::metrics::collector::Boards;
use crate::metrics::samples::Sample;
use crate::metrics::spec::ShardMetric as M;

/// How often they are made: mosquitto's `sys_interval`.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(super) struct SysTopics {
    began: Instant,
    next: Instant,
    /// The most clients that were connected at a time, as far as it was looked.
    most: u64,
    /// What was published last.
    last: BTreeMap<&'static str, String>,
}

impl SysTopics {
    /// Of a service that has just started.
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, next: now, most: 0, last: BTreeMap::new() }
    }

    /// When they are due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Those that have changed, if they are due: topic and payload.
    pub(super) fn changed(&mut self, boards: &Boards, now: Instant) -> Vec<(&'static str, String)> {
        if now < self.next {
            return Vec::new();
        }
        self.next = now + EVERY;
        let sample = Sample::of(boards, now);
        let values = self.values(&sample, now);
        values
            .into_iter()
            .filter(|(topic, value)| self.last.insert(topic, value.clone()).as_ref() != Some(value))
            .collect()
    }

    fn values(&mut self, sample: &Sample, now: Instant) -> Vec<(&'static str, String)> {
        let of = |metric: M| sample.place(metric as usize);
        let sum = |metrics: &[M]| metrics.iter().map(|metric| of(*metric)).sum::<u64>();
        let connected = of(M::ConnectionsOpen).saturating_sub(of(M::Unauthenticated));
        self.most = self.most.max(connected);
        let total = of(M::Sessions).max(connected);
        // Those for shared subscriptions may be in the spool, too.
        let stored = of(M::StoredMessages).saturating_sub(of(M::ShareStoredMessages)) + of(M::ShareQueuedMessages);
        let numbers = [
            ("$SYS/broker/clients/total", total),
            ("$SYS/broker/clients/connected", connected),
            ("$SYS/broker/clients/disconnected", total - connected),
            // Older names of mosquitto's, which it has still and dashboards read.
            ("$SYS/broker/clients/active", connected),
            ("$SYS/broker/clients/inactive", total - connected),
            ("$SYS/broker/messages/stored", stored),
            ("$SYS/broker/clients/maximum", self.most),
            ("$SYS/broker/publish/messages/received", sum(&[M::PublishesQos0, M::PublishesQos1, M::PublishesQos2])),
            ("$SYS/broker/publish/messages/sent", of(M::CopiesSent)),
            ("$SYS/broker/publish/messages/dropped", sum(&M::COPIES_DROPPED)),
            ("$SYS/broker/bytes/received", of(M::BytesReceived)),
            ("$SYS/broker/subscriptions/count", of(M::Subscriptions)),
            ("$SYS/broker/shared_subscriptions/count", of(M::Shares)),
            ("$SYS/broker/retained messages/count", of(M::RetainedMessages)),
            ("$SYS/broker/store/messages/count", stored),
            ("$SYS/broker/store/messages/bytes", of(M::RememberedBytes)),
        ];
        let mut values: Vec<_> = numbers.into_iter().map(|(topic, number)| (topic, number.to_string())).collect();
        let uptime = now.duration_since(self.began).as_secs();
        values.push(("$SYS/broker/version", format!("Forebay {}", env!("CARGO_PKG_VERSION"))));
        values.push(("$SYS/broker/uptime", format!("{uptime} seconds")));
        values
    }
}
