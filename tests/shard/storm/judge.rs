//! What must hold: at each answer, at each turn's numbers, and in the end.

use std::collections::HashMap;

use forebay::metrics::spec::{ClusterMetric, ListenerMetric, ShardMetric, SinkMetric};

use super::Storm;
use super::draw::Dead;
use crate::device::{Receipt, State};

impl Storm {
    /// An answer means: in the log of every sink that matched, or refused and in none.
    pub(super) fn answered(&self, device: usize, message: usize, success: bool) {
        let v5 = self.devices[device].v5;
        let message = &self.devices[device].messages[message];
        let copies = self.copies(message);
        let poison = message.payload.starts_with(crate::kafka::POISON);
        let dead_letters = self.draw.dead != Dead::Nowhere;
        let buried = self.buried(message);
        if self.draw.forbids {
            // Some of its sinks may have been refused it, or, at the door and where it can be told so, all.
            let whole = self.anywhere(message).iter().all(|n| *n > 0);
            let told = v5 && !success;
            assert!(whole || told || self.draw.expire_after, "answered too early: {copies:?} and {buried:?}");
            return;
        }
        // What Kafka refuses is answered with success when it is a dead letter. What expires is answered.
        let expired = self.draw.expire_after && success;
        assert!(expired || success == (!poison || !v5 || dead_letters), "answered with success: {success}");
        if poison && dead_letters {
            assert!(
                self.draw.expire_after || buried.iter().all(|n| *n > 0),
                "answered before it was in the dead letters: {buried:?}"
            );
        }
        let whole = copies.iter().all(|n| if poison { *n == 0 } else { *n > 0 });
        assert!(whole || (expired && !poison), "answered too early: {copies:?}");
    }

    /// A receipt names a place at which the message stands; one for each sink that has it, in their order.
    pub(super) fn check_receipts(&mut self, device: usize, message: usize, success: bool, receipts: &[Receipt]) {
        let device = &self.devices[device];
        let message = &device.messages[message];
        let what = format!("{} QoS {} {}: {receipts:?}", device.name, message.qos, message.topic);
        assert!(receipts.is_empty() || (device.v5 && device.receipts), "nobody asked: {what}");
        let client = message.topic.split_once('/').expect("two levels").0;
        let odd = format!("odd-{client}");
        let sinks: &[&str] = if message.topic.ends_with("odd") { &["all", &odd, "all"] } else { &["all"] };
        let topics: Vec<&str> = receipts.iter().map(|receipt| receipt.topic.as_str()).collect();
        let mut rest = sinks.iter();
        assert!(topics.iter().all(|topic| rest.any(|sink| sink == topic)), "not in the order of the sinks: {what}");
        for receipt in receipts {
            let cluster = &self.clusters[usize::from(receipt.topic != "all")];
            let log = cluster.logs().find(|(topic, index, _)| (*topic, *index) == (&*receipt.topic, receipt.partition));
            let (_, _, log) = log.unwrap_or_else(|| panic!("no such partition: {what}"));
            match receipt.offset {
                Some(offset) => {
                    assert!(log.get(offset) == Some(&message.payload), "something else stands there: {what}")
                }
                None => assert!(log.contains(&message.payload), "it does not stand there: {what}"),
            }
            self.receipts[usize::from(receipt.offset.is_none())] += 1;
        }
        // What has waited without a connection, or on one of the other listener, has none.
        let is_in_logs = success && !message.payload.starts_with(crate::kafka::POISON);
        if is_in_logs
            && device.v5
            && device.receipts
            && message.qos == 1
            && !self.draw.expire_after
            && !self.draw.forbids
        {
            assert_eq!(receipts.len(), sinks.len(), "{what}");
        }
    }

    fn message(&self, device: &str, index: usize) -> &crate::device::Message {
        let device = self.devices.iter().find(|d| d.name == device).expect("a device");
        &device.messages[index]
    }

    /// How often a message is in the log of each of its sinks.
    fn copies(&self, message: &crate::device::Message) -> Vec<u32> {
        self.places(message, |storm, message| storm.in_logs(message))
    }

    /// How often it is in the dead letters of each cluster that it went to.
    fn buried(&self, message: &crate::device::Message) -> Vec<u32> {
        self.places(message, |storm, message| storm.in_dead_letters(message))
    }

    /// How often it is in either.
    fn anywhere(&self, message: &crate::device::Message) -> Vec<u32> {
        self.places(message, |storm, message| {
            let (logs, dead) = (storm.in_logs(message), storm.in_dead_letters(message));
            [logs[0] + dead[0], logs[1] + dead[1]]
        })
    }

    /// By cluster, where it went to both. Two sinks of the first share a topic: there, half of it.
    fn places(
        &self,
        message: &crate::device::Message,
        of: impl Fn(&Self, &crate::device::Message) -> [u32; 2],
    ) -> Vec<u32> {
        let [first, second] = of(self, message);
        if message.topic.ends_with("odd") { vec![first / 2, second] } else { vec![first] }
    }

    fn in_logs(&self, message: &crate::device::Message) -> [u32; 2] {
        let client = message.topic.split_once('/').expect("two levels").0;
        let has = |cluster: usize, topic: &str| self.clusters[cluster].has(topic, &message.payload);
        [has(0, "all"), has(1, &format!("odd-{client}"))]
    }

    fn in_dead_letters(&self, message: &crate::device::Message) -> [u32; 2] {
        let has = |cluster: usize, topic: &str| self.clusters[cluster].has(topic, &message.payload);
        let filed = |sink: usize| self.filed[sink].get(&message.payload).copied().unwrap_or(0);
        match self.draw.dead {
            Dead::Nowhere => [0; 2],
            Dead::Topic => [has(0, "dead"), has(1, "dead-odd")],
            Dead::File => [filed(0) + filed(2), filed(1)],
        }
    }

    pub(super) fn check_board(&mut self) {
        let values = self.board.read();
        for sink in 0..self.layout.sinks {
            let of = |metric| values[self.layout.sink(sink, metric)];
            let sum = |side: &[SinkMetric]| side.iter().map(|metric| of(*metric)).sum::<u64>();
            assert_eq!(sum(&SinkMetric::IN), sum(&SinkMetric::OUT), "the ledger of sink {sink}");
        }
        for cluster in 0..self.layout.clusters {
            let of = |metric| values[self.layout.cluster(cluster, metric)];
            let (used, bound) = (of(ClusterMetric::BufferBytes), of(ClusterMetric::BufferBytesMax));
            assert!(used <= bound, "memory of cluster {cluster}: {used} of {bound}");
        }
        let received = [ShardMetric::PublishesQos0, ShardMetric::PublishesQos1, ShardMetric::PublishesQos2];
        let received: u64 = received.iter().map(|metric| values[*metric as usize]).sum();
        let known = values[self.layout.sink(0, SinkMetric::Matched)] + values[ShardMetric::PublishesRefused as usize];
        assert_eq!(received, known + values[ShardMetric::PublishesUnmatched as usize], "the first sink takes all");
        let ends = [ShardMetric::PublishesMatched, ShardMetric::PublishesUnmatched, ShardMetric::PublishesRefused];
        let ends: u64 = ends.iter().map(|metric| values[*metric as usize]).sum();
        assert_eq!(received + values[ShardMetric::Wills as usize], ends, "the ledger of the shard");
        let mut all = 0;
        for listener in 0..self.layout.listeners {
            let of = |metric| values[self.layout.listener(listener, metric)];
            let ends = of(ListenerMetric::Matched) + of(ListenerMetric::Unmatched) + of(ListenerMetric::Refused);
            assert_eq!(of(ListenerMetric::Received), ends, "the ledger of listener {listener}");
            all += of(ListenerMetric::Received);
        }
        assert_eq!(received, all, "each came in somewhere");
        self.seen = [
            values[ShardMetric::Stalls as usize],
            self.sum(SinkMetric::Retries),
            self.sum(SinkMetric::DeadLettered),
            self.sum(SinkMetric::Expired),
            self.sum(SinkMetric::WithoutTimestamp),
            self.clusters.iter().map(|cluster| cluster.asked).sum(),
        ];
    }

    /// Exactly once where that is promised, at most once at QoS 0, at least once else; nothing invented; first copies in
    /// the order of sending; refused means nowhere.
    pub(super) fn judge(&self) {
        let mut known = HashMap::new();
        let (mut missing, mut twice) = (0, 0);
        for device in &self.devices {
            for (index, message) in device.messages.iter().enumerate() {
                known.insert(message.payload.clone(), (device.name.clone(), index));
                let what = format!("{} {index} (QoS {}, kept: {})", device.name, message.qos, device.kept);
                let most = match (message.qos, device.kept) {
                    (0, _) | (2, true) => 1,
                    _ => u32::MAX,
                };
                for (copies, anywhere) in self.copies(message).into_iter().zip(self.anywhere(message)) {
                    if message.state == State::Refused && !self.draw.forbids {
                        assert_eq!(copies, 0, "{what}: refused and in the log");
                    }
                    twice += u64::from(copies.saturating_sub(most));
                    let answered = message.qos > 0 && matches!(message.state, State::Received | State::Done);
                    let poison = message.payload.starts_with(crate::kafka::POISON);
                    missing += u64::from(answered && anywhere == 0 && !poison);
                }
            }
        }
        let (expired, unknown) = (self.sum(SinkMetric::Expired), self.sum(SinkMetric::OutcomeUnknown));
        assert!(missing <= expired, "{missing} lost, {expired} expired");
        assert!(twice <= unknown, "{twice} twice, {unknown} counted");
        assert!(expired == 0 || self.draw.expire_after);
        assert!(unknown == 0 || self.draw.unreadable, "{unknown} counted as unknown, and every log could be read");
        for cluster in &self.clusters {
            for (topic, _, log) in cluster.logs() {
                let mut newest: HashMap<&str, usize> = HashMap::new();
                let mut seen = std::collections::HashSet::new();
                for value in log {
                    let (device, index) = known.get(value).expect("nothing is invented");
                    // Rows of the sink without keys have no order, and stand in the same topic.
                    let keyless = topic == "all" && self.message(device, *index).topic.ends_with("odd");
                    // What was dropped, or is in the dead letters, may come again from a client that had not heard of it.
                    // And what came before its topic grew may have its second copy, but not its first, in another partition.
                    let here = log.iter().filter(|other| *other == value).count();
                    let elsewhere = cluster.has(topic, value) as usize > here;
                    let again = self.draw.expire_after || self.draw.forbids || elsewhere;
                    if !keyless && !again && !topic.starts_with(crate::kafka::DEAD) && seen.insert(value) {
                        let before = newest.insert(device, *index);
                        assert!(
                            before.is_none_or(|before| before < *index),
                            "{topic}: {device} {index} after {before:?}"
                        );
                    }
                }
            }
        }
    }
}
