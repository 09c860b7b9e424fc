//! `$SYS/broker/…`: numbers of the service as retained messages, with mosquitto's names. Computed every [`EVERY`] from the
//! shards' boards; a shard publishes those that have changed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::metrics::collector::Boards;
use crate::metrics::samples::Sample;
use crate::metrics::spec::ShardMetric as M;

/// The time between two updates: mosquitto's `sys_interval`.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// The topics of a load: its averages per minute over 1, 5 and 15 minutes.
macro_rules! load {
    ($name:literal) => {
        [
            concat!("$SYS/broker/load/", $name, "/1min"),
            concat!("$SYS/broker/load/", $name, "/5min"),
            concat!("$SYS/broker/load/", $name, "/15min"),
        ]
    };
}

const LOADS: [[&str; 3]; 9] = [
    load!("messages/received"),
    load!("messages/sent"),
    load!("publish/received"),
    load!("publish/sent"),
    load!("publish/dropped"),
    load!("bytes/received"),
    load!("bytes/sent"),
    load!("sockets"),
    load!("connections"),
];

/// The windows of the averages of [`LOADS`], in seconds.
const WINDOWS_S: [f64; 3] = [60.0, 300.0, 900.0];

/// Exponentially weighted averages of a counter per minute, as in mosquitto; they begin at 0.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    counted: u64,
    averages: [f64; 3],
}

impl Load {
    /// Updates the averages with the counter after `elapsed_s` more seconds.
    fn count(&mut self, counter: u64, elapsed_s: f64) {
        if elapsed_s <= 0.0 {
            return;
        }
        let more = counter.saturating_sub(std::mem::replace(&mut self.counted, counter));
        #[expect(clippy::cast_precision_loss, reason = "an average")]
        let per_minute = more as f64 * 60.0 / elapsed_s;
        for (average, window_s) in self.averages.iter_mut().zip(WINDOWS_S) {
            let old = (-elapsed_s / window_s).exp();
            *average = per_minute + old * (*average - per_minute);
        }
    }
}

/// The published values, and the loads.
#[derive(Debug)]
pub(super) struct SysTopics {
    began: Instant,
    next: Instant,
    /// When the loads were last updated.
    loaded: Instant,
    loads: [Load; LOADS.len()],
    /// The most clients that were connected at a time, according to the samples.
    most: u64,
    /// The values that were published last.
    last: BTreeMap<&'static str, String>,
}

impl SysTopics {
    /// The topics of a service that has just started.
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, next: now, loaded: now, loads: Default::default(), most: 0, last: BTreeMap::new() }
    }

    /// The time at which the topics are due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Topics that have changed, with their payload, if they are due.
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
        // Messages for shared subscriptions may be in the spool as well.
        let stored = of(M::StoredMessages).saturating_sub(of(M::ShareStoredMessages)) + of(M::ShareQueuedMessages);
        let publishes = sum(&[M::PublishesQos0, M::PublishesQos1, M::PublishesQos2]);
        let connects = sum(&[M::ConnectsAccepted, M::ConnectsRefused]);
        // Each of these packets is answered with one packet, as a CONNECT is.
        let answered =
            &[M::PubRecsReceived, M::PubRelsReceived, M::SubscribesReceived, M::UnsubscribesReceived, M::PingsReceived];
        let others = &[M::PubAcksReceived, M::PubCompsReceived, M::DisconnectsReceived, M::AuthsReceived];
        let received = publishes + of(M::PublishesRepeated) + connects + sum(answered) + sum(others);
        let sent = of(M::CopiesSent) + of(M::Answers) + connects + sum(answered);
        let dropped = sum(M::COPIES_DROPPED);
        let numbers = [
            ("$SYS/broker/messages/received", received),
            ("$SYS/broker/messages/sent", sent),
            ("$SYS/broker/clients/total", total),
            ("$SYS/broker/clients/connected", connected),
            ("$SYS/broker/clients/disconnected", total - connected),
            // Older names of mosquitto's, which it still has and dashboards read.
            ("$SYS/broker/clients/active", connected),
            ("$SYS/broker/clients/inactive", total - connected),
            ("$SYS/broker/messages/stored", stored),
            ("$SYS/broker/clients/maximum", self.most),
            ("$SYS/broker/clients/expired", of(M::SessionsExpired)),
            ("$SYS/broker/publish/messages/received", publishes),
            ("$SYS/broker/publish/messages/sent", of(M::CopiesSent)),
            ("$SYS/broker/publish/messages/dropped", dropped),
            ("$SYS/broker/publish/bytes/received", of(M::PublishBytes)),
            ("$SYS/broker/publish/bytes/sent", of(M::CopiesSentBytes)),
            ("$SYS/broker/bytes/received", of(M::BytesReceived)),
            ("$SYS/broker/bytes/sent", of(M::BytesSent)),
            ("$SYS/broker/subscriptions/count", of(M::Subscriptions)),
            ("$SYS/broker/shared_subscriptions/count", of(M::Shares)),
            ("$SYS/broker/retained messages/count", of(M::RetainedMessages)),
            ("$SYS/broker/store/messages/count", stored),
            ("$SYS/broker/store/messages/bytes", of(M::RememberedBytes)),
        ];
        let mut values: Vec<_> = numbers.into_iter().map(|(topic, number)| (topic, number.to_string())).collect();
        let loads = [
            received,
            sent,
            publishes,
            of(M::CopiesSent),
            dropped,
            of(M::BytesReceived),
            of(M::BytesSent),
            of(M::ConnectionsAccepted),
            connects,
        ];
        let elapsed_s = now.duration_since(std::mem::replace(&mut self.loaded, now)).as_secs_f64();
        for ((load, topics), counter) in self.loads.iter_mut().zip(LOADS).zip(loads) {
            load.count(counter, elapsed_s);
            values.extend(topics.into_iter().zip(load.averages.map(|average| format!("{average:.2}"))));
        }
        let uptime = now.duration_since(self.began).as_secs();
        values.push(("$SYS/broker/version", format!("Forebay {}", env!("CARGO_PKG_VERSION"))));
        values.push(("$SYS/broker/uptime", format!("{uptime} seconds")));
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load of 100 a second for a quarter of an hour, then nothing for as long. The figures are those of a first-order lag by `e`.
    #[test]
    fn averages_follow_a_load_at_their_own_pace() {
        let mut load = Load::default();
        let mut counter = 0;
        for _ in 0..90 {
            counter += 1000;
            load.count(counter, 10.0);
        }
        let rounded = |load: &Load| load.averages.map(|average| average.round());
        assert_eq!(rounded(&load), [6000.0, 5701.0, 3793.0]);
        for _ in 0..90 {
            load.count(counter, 10.0);
        }
        assert_eq!(rounded(&load), [0.0, 284.0, 1395.0]);
        // A sample of the same instant changes nothing.
        load.count(counter + 1, 0.0);
        assert_eq!(rounded(&load), [0.0, 284.0, 1395.0]);
    }
}
