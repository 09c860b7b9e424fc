//! The logs of sessions in Kafka, on the shard that has their slots. A letter brings them once they are taken over, and their batches go out with the
//! cluster's other requests. The process ends when one of them is another process's.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_broker::logs::{Kept, first_of};
use forebay_broker::words::second;
use forebay_buffer::{Buffer, Restored};
use forebay_config::Broker as Config;
use forebay_fleet::replica::{Lost, Outcome, Replica, Wire};
use forebay_kafka::client::Client;
use forebay_kafka::types::ClientEvent;
use forebay_metrics::event::{Field, Kind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::Monotonic;

use super::kafka_disk::KafkaDisk;
use super::log_trouble::Watch;
use super::mail::{Notice, TakenLog};
use super::ring::Ring;
use super::slot_rows::SlotRows;
use super::spool::Log;
use super::{Core, settings};

/// The data directory that segments of logs of sessions name: all of them the same, as they belong to none.
pub(crate) const DIRECTORY: u128 = 1;

/// The time for which an owner may still write data of a slot once its clients have left it.
const WRITTEN_LATE: Duration = Duration::from_secs(1);

/// The disks of a shard's slots. The buffers of their logs are in [`Kept::OfSlots`].
#[derive(Default)]
pub(super) struct KafkaLogs {
    /// The cluster, by its place in the configuration.
    pub(super) cluster: usize,
    pub(super) disks: BTreeMap<u16, KafkaDisk>,
    /// The time at which each of them was taken up.
    pub(super) taken_at: BTreeMap<u16, Monotonic>,
    /// The time until which an earlier owner has served each of them, as it has written data since.
    pub(super) served_until: BTreeMap<u16, Monotonic>,
    wire: Wire,
    /// Logs that Kafka does not take, with the reasons.
    pub(super) watch: Watch,
    /// Contents of logs that have opened, until the others have.
    pub(super) found: Vec<(u16, Restored)>,
    /// Slots being given up, with the time until which they wait for pending writes of their sessions.
    pub(super) leaving: BTreeMap<u16, Monotonic>,
}

impl KafkaLogs {
    fn due(&self) -> Monotonic {
        self.wire.due(self.disks.values().map(|disk| &disk.replica))
    }

    /// Notes the contents of logs that have opened.
    pub(super) fn gather(&mut self, buffers: &mut BTreeMap<u16, Buffer>) {
        self.found.extend(buffers.iter_mut().filter_map(|(slot, buffer)| Some((*slot, buffer.opened()?))));
    }
}

impl Log {
    /// Passes due batches to the client of a cluster, if the logs are there, and the requests to the group of instances.
    pub(super) fn ask(&mut self, cluster: usize, client: &mut Client, now: Monotonic) -> bool {
        let asks_group = self.instances.as_mut().is_some_and(|instances| instances.ask(cluster, client, now));
        let Some(logs) = self.kafka.as_mut().filter(|logs| logs.cluster == cluster) else { return asks_group };
        let requests = logs.wire.requests(logs.disks.values_mut().map(|disk| &mut disk.replica), now);
        let has_asked = !requests.is_empty();
        requests.into_iter().for_each(|request| client.produce(request, now));
        has_asked || asks_group
    }

    /// The time at which [`Log::ask`] has a request to a cluster.
    pub(super) fn next_deadline(&self, cluster: usize) -> Monotonic {
        let of_logs = self.kafka.as_ref().filter(|logs| logs.cluster == cluster);
        let of_logs = of_logs.map(|logs| logs.due().min(logs.watch.due()));
        let of_group = self.instances.as_ref().map(|instances| instances.next_deadline(cluster));
        of_logs.into_iter().chain(of_group).min().unwrap_or(Monotonic::NEVER)
    }
}

impl Core {
    /// Continues with the logs of the slots that this shard has. Their contents are taken up when Kafka has the next group of each.
    pub(super) fn take_over(&mut self, io: &mut Ring<'_>, logs: Vec<TakenLog>) {
        let config = &self.here.config;
        let Some(broker) = &config.broker else { return };
        let (cluster, rules) = (broker.cluster, self.here.rules);
        if !matches!(self.broker.logs.kept, Kept::OfSlots(_)) {
            self.broker.logs.kept = Kept::OfSlots(BTreeMap::new());
            self.outlets.slot_rows = Some(Box::new(SlotRows::new(config, cluster)));
            self.log.kafka = Some(Box::new(KafkaLogs { cluster, ..KafkaLogs::default() }));
        }
        let mut unreadable = Vec::new();
        for TakenLog { taken, parts, slot } in logs {
            let of_slots = (slot, self.here.slots.count());
            let mut wanted = settings::session_log(config, broker, of_slots, self.random.u64(..));
            wanted.log.segments_max = rules.segments_of_sessions(wanted.log.segments_max);
            let idle = taken.idle;
            let disk = KafkaDisk::new(parts, Replica::new(taken, self.random.u64(..)), rules);
            let found = disk.found();
            match Buffer::open(&disk, wanted, &found, io.now(), io.wall()) {
                Ok(buffer) => {
                    let outlets = &mut self.outlets;
                    outlets.clock_set_after = outlets.clock_set_after.max(buffer.clock_set_after());
                    if let (Kept::OfSlots(buffers), Some(logs)) = (&mut self.broker.logs.kept, &mut self.log.kafka) {
                        buffers.insert(slot, buffer.beginning_at(first_of(slot)));
                        logs.disks.insert(slot, disk);
                        logs.taken_at.insert(slot, io.now());
                        let served_until = idle.map(|idle| io.now().before(idle + WRITTEN_LATE));
                        logs.served_until.extend(served_until.map(|at| (slot, at)));
                    }
                }
                Err(why) => unreadable.push((slot, format!("{}: {why}", name_of(broker, slot)))),
            }
        }
        self.outlets.upstreams[cluster].client.watch_metadata(&broker.sessions.as_str().into(), io.now());
        for (slot, why) in unreadable {
            self.here.slots.cannot_take(slot, &why);
            self.here.teller.tell(Kind::SlotUnreadable, second(io.now()), |event| {
                event.with(Field::Partition, u64::from(slot)).with(Field::Reason, why.as_str())
            });
            let _ = self.around.notices.send(Notice::SlotUnreadable(slot));
        }
        if self.log.has_sessions {
            self.take_up_loaded(io);
        } else {
            self.take_up(io);
        }
        self.flush_spool(io);
    }

    /// Passes the completions of each disk to its log. `true`: there were some, and the logs may have more to write.
    pub(super) fn complete_session_logs(&mut self, io: &mut Ring<'_>) -> bool {
        let (Some(logs), Kept::OfSlots(buffers)) = (&mut self.log.kafka, &mut self.broker.logs.kept) else {
            return false;
        };
        let (mut has_done, mut wakes, cluster) = (false, false, logs.cluster);
        let mut rows = self.outlets.slot_rows.as_deref_mut();
        for ((slot, disk), buffer) in logs.disks.iter_mut().zip(buffers.values_mut()) {
            while let Some(done) = disk.next_done() {
                buffer.complete(disk, done, io.now());
                has_done = true;
                wakes |= rows.as_mut().is_some_and(|rows| rows.log_has_moved(*slot));
            }
        }
        if wakes {
            // Batches may be sent, answers may be due, and the log may take records that had no room.
            self.outlets.upstreams[cluster].busy = true;
            io.go_on();
        }
        self.log.has_moved |= has_done;
        match has_done {
            true if self.log.has_sessions => self.take_up_loaded(io),
            true => self.take_up(io),
            false => {}
        }
        has_done
    }

    /// Sends due batches, whatever else the cluster is sent.
    pub(super) fn send_session_logs(&mut self, io: &mut Ring<'_>) {
        let now = io.now();
        let Some(cluster) = self.log.kafka.as_ref().filter(|logs| logs.due() <= now).map(|logs| logs.cluster) else {
            return;
        };
        if self.log.ask(cluster, &mut self.outlets.upstreams[cluster].client, now) {
            self.carry_effects(io, cluster);
        }
        self.set_cluster_timer(io, cluster);
    }

    /// Passes an event of a cluster's client to the logs of sessions. `true`: the event was for them alone.
    pub(super) fn answers_session_logs(&mut self, io: &mut Ring<'_>, cluster: usize, event: &ClientEvent) -> bool {
        let now = io.now();
        let Some(logs) = self.log.kafka.as_mut().filter(|logs| logs.cluster == cluster) else { return false };
        let (outlets, numbers) = (&mut self.outlets, &mut self.here.numbers);
        if outlets.slot_rows.as_mut().is_some_and(|rows| rows.takes((cluster, event), numbers, now)) {
            outlets.upstreams[cluster].busy = true;
            io.go_on();
            return true;
        }
        let (mut lost, mut is_over) = (Vec::new(), false);
        if let ClientEvent::Metadata(topics) = event {
            let name = self.here.config.broker.as_ref().map_or("", |broker| &broker.sessions);
            let of_logs = topics.iter().find(|topic| *topic.name == *name);
            let gone = of_logs.and_then(|topic| logs.watch.hear(topic, &logs.disks, now));
            for (slot, disk) in &mut logs.disks {
                if let Outcome::Lost(why) = gone.map_or_else(|| disk.replica.metadata(topics), Outcome::Lost) {
                    lost.push((*slot, why));
                }
            }
        } else if let Some(answers) = logs.wire.answers(event) {
            is_over = true;
            for (partition, batch, answer) in answers {
                let slot = u16::try_from(partition).unwrap_or(u16::MAX);
                let Some(disk) = logs.disks.get_mut(&slot) else { continue };
                match disk.answered(batch, answer, now) {
                    Outcome::Nothing => {}
                    // Bytes that wait for this sync go out in the next turn.
                    Outcome::Synced(_) => io.go_on(),
                    Outcome::Retry(_) => self.outlets.upstreams[cluster].client.refresh_metadata(now),
                    Outcome::Lost(why) => lost.push((slot, why)),
                }
            }
        }
        // The first one ends the process, if no group gives out slots, or there is no topic to take them from again.
        let ends = |why: Lost| !self.here.slots.are_given_out() || why == Lost::Gone;
        let most = if lost.first().is_some_and(|(_, why)| ends(*why)) { 1 } else { lost.len() };
        self.lose_session_logs(io, lost.get(..most).unwrap_or_default());
        if is_over {
            self.complete_session_logs(io);
        }
        is_over
    }

    /// Checks for a log that is lost as Kafka has acknowledged nothing for 20 hours.
    pub(super) fn look_for_silence(&mut self, io: &mut Ring<'_>) {
        let lost = self.log.kafka.as_ref().and_then(|logs| {
            let mut lost = logs.disks.iter().filter_map(|(slot, disk)| Some((*slot, disk.replica.lost()?)));
            lost.find(|(_, why)| *why == Lost::Silent)
        });
        if let Some((slot, why)) = lost {
            self.lose_session_logs(io, &[(slot, why)]);
        }
    }

    /// Handles lost logs: their clients are sent nothing more. If a group assigns slots, another instance has them, or will; otherwise the process ends.
    fn lose_session_logs(&mut self, io: &mut Ring<'_>, lost: &[(u16, Lost)]) {
        let is_given_out = self.here.slots.are_given_out();
        // The next process creates a topic that is gone, which one that runs does not.
        let goes_on = |why: Lost| is_given_out && why != Lost::Gone;
        let whys: Vec<String> = lost.iter().map(|(slot, why)| self.tell_log_lost(io, *slot, *why)).collect();
        let slots: Vec<u16> = lost.iter().filter(|(_, why)| goes_on(*why)).map(|(slot, _)| *slot).collect();
        if !slots.is_empty() {
            self.drop_all(io, &slots);
        }
        for slot in slots {
            let _ = self.around.notices.send(Notice::SlotLost(slot));
        }
        let Some(at) = lost.iter().position(|(_, why)| !goes_on(*why)) else { return };
        for conn in self.connections.ids() {
            io.abort(conn);
        }
        io.stop_accepting();
        let _ = self.around.notices.send(Notice::LogLost { shard: self.here.index, why: whys[at].clone() });
        io.stop();
    }

    /// Records a lost log as an event. Returns the reason in words.
    fn tell_log_lost(&mut self, io: &Ring<'_>, slot: u16, why: Lost) -> String {
        let is_given_out = self.here.slots.are_given_out();
        // A thawed process finds another instance in possession of the log, which is no error.
        let kind = if is_given_out && matches!(why, Lost::Fenced(_)) { Kind::SlotGone } else { Kind::SessionLogLost };
        let why = format!("{}: {why}", self.session_log_name(slot).unwrap_or_default());
        self.here.teller.tell(kind, second(io.now()), |event| {
            event.with(Field::Partition, u64::from(slot)).with(Field::Reason, why.as_str())
        });
        why
    }

    /// Topic and partition of a slot's log, for operators. `None`: there is none in Kafka.
    pub(super) fn session_log_name(&self, slot: u16) -> Option<String> {
        Some(name_of(self.here.config.broker.as_ref()?, slot))
    }

    pub(super) fn set_session_log_numbers(&mut self, now: Monotonic) {
        let (Some(logs), kept) = (&self.log.kafka, &self.broker.logs.kept) else { return };
        self.here.numbers.set(M::SlotsHere, logs.disks.len() as u64);
        let mut all = [0; 9];
        for (disk, buffer) in logs.disks.values().zip(kept.each()) {
            let (of_log, of_kafka) = (buffer.numbers(), disk.numbers());
            let waits = of_kafka.under_way_since.map_or(0, |since| now.since(since).as_secs());
            let [bytes, bytes_max, waiting, longest, written, batches, retries, passed_over, put_together] = &mut all;
            *bytes += of_log.bytes;
            *bytes_max += of_log.bytes_max;
            *waiting += of_kafka.waiting_records + of_kafka.under_way;
            *longest = waits.max(*longest);
            *written += of_kafka.bytes;
            *batches += of_kafka.batches;
            *retries += of_kafka.retries;
            *passed_over += of_kafka.passed_over;
            *put_together += of_log.put_together;
        }
        let metrics = [
            M::SessionLogBytes,
            M::SessionLogBytesMax,
            M::SessionLogWaiting,
            M::SessionLogWaits,
            M::SessionLogWritten,
            M::SessionLogBatches,
            M::SessionLogRetries,
            M::SessionLogPassedOver,
            M::SessionLogPutTogether,
        ];
        metrics.into_iter().zip(all).for_each(|(metric, value)| self.here.numbers.set(metric, value));
    }
}

fn name_of(broker: &Config, slot: u16) -> String {
    format!("topic {}, partition {slot}", broker.sessions)
}
