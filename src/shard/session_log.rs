//! The log of sessions in Kafka, on its shard: it comes with a letter once it is taken over, its batches go out with the cluster's other requests, and
//! the process ends when it is another one's.

use crate::buffer::Buffer;
use crate::kafka::client::Client;
use crate::kafka::types::ClientEvent;
use crate::metrics::event::{Field, Kind};
use crate::metrics::spec::ShardMetric as M;
use crate::replica::{Lost, Outcome, Replica, Taken};
use crate::runtime::seam::Monotonic;

use super::events::second;
use super::kafka_disk::{KafkaDisk, Parts};
use super::mail::Notice;
use super::spool::Log;
use super::{Core, Ring, settings};

/// The data directory that segments of logs of sessions name: all of them the same, as they belong to none.
pub(crate) const DIRECTORY: u128 = 1;

/// A log of sessions that a start has taken over, for its shard.
#[derive(Debug)]
pub struct TakenLog {
    /// What its replica goes on from.
    pub taken: Taken,
    /// What Kafka has of it.
    pub parts: Parts,
    /// Its partition.
    pub log: u16,
}

impl Log {
    /// Gives the client of a cluster the batch that is due, if the log is there.
    pub(super) fn ask(&mut self, cluster: usize, client: &mut Client, now: Monotonic) -> bool {
        let Some(disk) = self.kafka.as_mut().filter(|disk| disk.cluster == cluster) else { return false };
        let mut has_asked = false;
        while let Some(request) = disk.request(now) {
            client.produce(request, now);
            has_asked = true;
        }
        has_asked
    }

    /// When [`Log::ask`] has something to ask of a cluster.
    pub(super) fn next_deadline(&self, cluster: usize) -> Monotonic {
        self.kafka.as_ref().filter(|disk| disk.cluster == cluster).map_or(Monotonic::NEVER, |disk| disk.due())
    }
}

impl Core {
    /// Goes on with the log of sessions that was taken over. What it holds is taken up when Kafka has its next group.
    pub(super) fn take_over(&mut self, io: &mut Ring<'_>, log: TakenLog) {
        let config = &self.broker.around.config;
        let Some(broker) = &config.broker else { return };
        let (cluster, topic) = (broker.cluster, broker.sessions.as_str().into());
        let wanted = settings::session_log(config, broker, self.broker.index, self.random.u64(..));
        let TakenLog { taken, parts, log } = log;
        let disk = KafkaDisk::new((cluster, log), parts, Replica::new(taken, self.random.u64(..)));
        let found = disk.found();
        match Buffer::open(&disk, wanted, &found, io.now(), io.wall()) {
            Ok(buffer) => {
                self.broker.outlets.clock_set_after = self.broker.outlets.clock_set_after.max(buffer.clock_set_after());
                self.broker.outlets.logs.kept = Some(buffer);
            }
            Err(why) => {
                let topic = &broker.sessions;
                return self.cannot_start(io, format!("topic {topic}, partition {log}: {why}"));
            }
        }
        self.log.kafka = Some(Box::new(disk));
        self.broker.outlets.upstreams[cluster].client.watch_metadata(&topic, io.now());
        self.take_up(io);
        self.flush_spool(io);
    }

    /// Gives the log what its disk has done. `true`: there was something, and the log may have more to write.
    pub(super) fn complete_session_log(&mut self, io: &mut Ring<'_>) -> bool {
        let (Some(disk), Some(buffer)) = (&mut self.log.kafka, &mut self.broker.outlets.logs.kept) else {
            return false;
        };
        let mut has_done = false;
        while let Some(done) = disk.next_done() {
            buffer.complete(&mut **disk, done, io.now());
            has_done = true;
        }
        self.log.has_moved |= has_done;
        if has_done && !self.log.has_sessions {
            self.take_up(io);
        }
        has_done
    }

    /// Sends the batch that is due, whatever else the cluster is sent.
    pub(super) fn send_session_log(&mut self, io: &mut Ring<'_>) {
        let now = io.now();
        let Some(cluster) = self.log.kafka.as_ref().filter(|disk| disk.due() <= now).map(|disk| disk.cluster) else {
            return;
        };
        if self.log.ask(cluster, &mut self.broker.outlets.upstreams[cluster].client, now) {
            self.carry_effects(io, cluster);
        }
        self.set_cluster_timer(io, cluster);
    }

    /// Gives the log of sessions an event of a cluster's client. `true`: it was for the log alone.
    pub(super) fn answers_session_log(&mut self, io: &mut Ring<'_>, cluster: usize, event: &ClientEvent) -> bool {
        let now = io.now();
        let Some(disk) = self.log.kafka.as_mut().filter(|disk| disk.cluster == cluster) else { return false };
        let Some(outcome) = disk.on_event(event, now) else { return false };
        match outcome {
            Outcome::Nothing => {}
            // What waits for it goes out in the next turn.
            Outcome::Synced(_) => io.go_on(),
            Outcome::Retry(_) => self.broker.outlets.upstreams[cluster].client.refresh_metadata(now),
            Outcome::Lost(why) => self.lose_session_log(io, why),
        }
        self.complete_session_log(io);
        true
    }

    /// Ends the process, which has lost the log of sessions: no client is told anything more.
    fn lose_session_log(&mut self, io: &mut Ring<'_>, why: Lost) {
        let why = format!("{}: {why}", self.session_log_name().unwrap_or_default());
        self.broker
            .teller
            .tell(Kind::SessionLogLost, second(io.now()), |event| event.with(Field::Reason, why.as_str()));
        for conn in self.connections.ids() {
            io.abort(conn);
        }
        io.stop_accepting();
        let _ = self.broker.around.notices.send(Notice::LogLost { shard: self.broker.index, why });
        io.stop();
    }

    /// Topic and partition of the log of sessions, for people. `None`: there is none in Kafka.
    pub(super) fn session_log_name(&self) -> Option<String> {
        let (broker, disk) = (self.broker.around.config.broker.as_ref()?, self.log.kafka.as_ref()?);
        Some(format!("topic {}, partition {}", broker.sessions, disk.log))
    }

    pub(super) fn set_session_log_numbers(&mut self, now: Monotonic) {
        let (Some(disk), Some(buffer)) = (&self.log.kafka, &self.broker.outlets.logs.kept) else { return };
        let (of_log, of_kafka) = (buffer.numbers(), disk.numbers());
        let waits = of_kafka.under_way_since.map_or(0, |since| now.since(since).as_secs());
        let values = [
            (M::SessionLogBytes, of_log.bytes),
            (M::SessionLogBytesMax, of_log.bytes_max),
            (M::SessionLogWaiting, of_kafka.waiting_records + of_kafka.under_way),
            (M::SessionLogWaits, waits),
            (M::SessionLogWritten, of_kafka.bytes),
            (M::SessionLogBatches, of_kafka.batches),
            (M::SessionLogRetries, of_kafka.retries),
            (M::SessionLogPassedOver, of_kafka.passed_over),
        ];
        values.into_iter().for_each(|(metric, value)| self.broker.numbers.set(metric, value));
    }
}
