//! A Kafka cluster as a shard holds it: a producer, a wire client, and the carrier of its links.
//!
//! The producer and the client are independent of each other. Here rows become requests, requests become bytes on links, answers become results, and results
//! become answers to devices.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;

use forebay_base::rules::Rules;
use forebay_broker::numbers::Numbers;
use forebay_broker::words::Owner;
use forebay_config::Config;
use forebay_guard::edge::Edge;
use forebay_guard::outward::{LinkId, News};
use forebay_kafka::client::{Client, Effect};
use forebay_kafka::producer::row_log::{NoLog, RowLog, RowSet};
use forebay_kafka::producer::{AnsweredOn, Keep, OwedRows, Producer, SinkStats, Want};
use forebay_kafka::types::{ClientEvent, Landed, Outcome, ProduceRequest, Run, SinkId};
use forebay_metrics::histogram::Histograms;
use forebay_metrics::machine;
use forebay_metrics::spec::{ClusterMetric, SinkMetric};
use forebay_runtime::seam::{Closed, Monotonic, TimerId, WallMs};
use forebay_session::{Claimed, Reason, Receipt, Settled};

use super::carrier::Carrier;
use super::disks::Files;
use super::members::{Members, Role};
use super::ring::Ring;
use super::slot_rows::Answered;
use super::words::{Far, Timer};
use super::{Core, settings};

/// The interval at which contact with the group of instances is checked.
const LOOK_IF_HEARD: Duration = Duration::from_millis(25);

/// A cluster on this shard.
pub(super) struct Upstream {
    pub(super) client: Client,
    pub(super) producer: Producer,
    /// Whether something happened this turn: rows, bytes, a timer.
    pub(super) busy: bool,
    carrier: Carrier,
    pub(super) members: Members,
    requests: Vec<ProduceRequest>,
    effects: Vec<Effect>,
    /// Requests without an answer, with the times at which they were handed over, oldest first.
    begun: VecDeque<(u64, Monotonic)>,
    sent: u64,
    /// The reported state: whether no attempt to connect has failed since the last connection.
    reachable: bool,
    /// The producer's state: whether a connection stands.
    connected: bool,
    /// The time at which the last broker was lost.
    pub(super) away_since: Option<Monotonic>,
    timer: Option<(Monotonic, TimerId)>,
    /// Whether the upstream is being saved, and sends nothing more.
    saving: bool,
    /// Whether the cluster was removed and its rows have gone: it has no connections.
    retired: bool,
}

/// The places of a cluster's histograms.
#[derive(Clone, Copy)]
struct Timings<'a> {
    histograms: &'a Histograms,
    cluster: usize,
}

impl Timings<'_> {
    /// Observes a batch that goes out.
    fn batch(self, bytes: &[u8]) {
        /// The record count of a v2 batch: an INT32 after the base sequence.
        const COUNT: std::ops::Range<usize> = 57..61;
        let count = bytes.get(COUNT).and_then(|count| count.try_into().ok()).map_or(0, u32::from_be_bytes);
        self.histograms.batch_records(self.cluster).observe(u64::from(count));
        self.histograms.batch_bytes(self.cluster).observe(bytes.len() as u64);
    }

    /// Observes a request that was answered.
    fn produced(self, took: Duration) {
        self.histograms.produce(self.cluster).observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

impl Upstream {
    /// The upstream of a cluster; `cluster` is its index in the configuration.
    pub(super) fn new(config: &Config, cluster: usize, edge: &Edge, rules: &'static dyn Rules, seed: u64) -> Self {
        let producer = settings::producer(config, cluster, rules, seed.rotate_left(32));
        Self {
            client: Client::new(settings::client(config, cluster, edge), seed),
            producer: Producer::new(producer),
            busy: true,
            carrier: Carrier::new(Far::Cluster(cluster)),
            members: Members::of(config, cluster),
            requests: Vec::new(),
            effects: Vec::new(),
            begun: VecDeque::new(),
            sent: 0,
            reachable: false,
            connected: false,
            away_since: None,
            timer: None,
            saving: false,
            retired: false,
        }
    }

    /// Turns rows into requests and these into effects, until nothing more comes of it. `is_silent`: rows wait, as this process may be no instance of the
    /// broker any more (C4).
    fn pump(&mut self, log: &mut dyn RowLog, timings: Timings<'_>, is_silent: bool, (now, wall): (Monotonic, WallMs)) {
        // This comes before anybody is told that Kafka is away: rows that are cut have their sequence, and could not make room any more.
        let connected = self.client.is_connected();
        if std::mem::replace(&mut self.connected, connected) != connected {
            self.producer.on_reachable(connected);
        }
        if !is_silent {
            self.producer.poll_with(now, wall, log, &mut self.requests);
        }
        for request in self.requests.drain(..) {
            self.sent += 1;
            self.begun.push_back((request.id, now));
            request.batches.iter().for_each(|batch| timings.batch(&batch.bytes));
            self.client.produce(request, now);
        }
        let client = &mut self.client;
        self.producer.drain_wants(|want| match want {
            Want::Metadata(topic) => client.want_metadata(&topic, now),
            Want::Forget(topic) => client.forget_topic(&topic),
            Want::ProducerId(token) => client.want_producer_id(token, now),
            Want::Refresh => client.refresh_metadata(now),
            Want::Ask(question) => client.ask(question, now),
        });
        self.client.take_effects(&mut self.effects);
    }

    /// Removes a completed request. Returns the time at which it began.
    fn ended(&mut self, id: u64) -> Option<Monotonic> {
        // The request is mostly the first; there are few.
        let place = self.begun.iter().position(|(begun, _)| *begun == id)?;
        self.begun.remove(place).map(|(_, at)| at)
    }

    fn event(&mut self, event: &ClientEvent, numbers: &mut Numbers, cluster: usize, now: Monotonic) {
        match event {
            ClientEvent::Produced { id, results, throttle_ms } => {
                numbers.count_produced(cluster, results, *throttle_ms);
                if let Some(begun) = self.ended(*id) {
                    Timings { histograms: numbers.histograms(), cluster }.produced(now.since(begun));
                }
                self.producer.on_produced(*id, results, *throttle_ms, now);
            }
            ClientEvent::HungUp { id } => self.producer.on_hung_up(*id),
            ClientEvent::ProduceFailed { id, sent } => {
                numbers.count_cluster(cluster, ClusterMetric::RequestsUnanswered, 1);
                self.ended(*id);
                self.producer.on_failed(*id, *sent, now);
            }
            ClientEvent::Cluster(id) => self.producer.on_cluster(id, now),
            ClientEvent::Metadata(topics) => self.producer.on_metadata(topics, now),
            ClientEvent::ProducerId { token, id, epoch } => self.producer.on_producer_id(*token, *id, *epoch),
            ClientEvent::Asked { token, says } => self.producer.on_asked(*token, *says, now),
            // Sources take these events.
            ClientEvent::Fetch { .. } | ClientEvent::Member(_) => {}
            // These events are for operators. The producer only sees that no connection stands.
            ClientEvent::BrokerUnreachable(_) | ClientEvent::Outward(_) => {}
        }
    }

    /// Rows of sinks with this buffer and acknowledgement level, rejected ones with dead letters that are not safe among them.
    pub(super) fn rows_of(&self, wanted: &impl Fn((Keep, AnsweredOn)) -> bool) -> u64 {
        let wanted = self.members.kept().filter(|(.., keep)| wanted(*keep));
        wanted.map(|(sink, ..)| self.producer.stats(sink).buffered_rows).sum()
    }

    /// The number of rows that belong in the log and are not there, as it has not taken them.
    pub(super) fn unwritten_rows(&self, saved: bool) -> u64 {
        self.outliving(saved).map(|sink| self.producer.unwritten_rows(sink)).sum()
    }

    fn outliving(&self, saved: bool) -> impl Iterator<Item = SinkId> {
        let outliving = self.members.kept().filter(move |(.., (keep, _))| keep.outlives_if(saved));
        outliving.map(|(sink, ..)| sink)
    }

    /// Whether waiting helps rows that the next process finds: Kafka is reachable, and is still sent some of them (`sending`), or has some to answer.
    pub(super) fn goes_on(&self, sending: bool) -> bool {
        self.client.is_connected()
            && (sending || self.producer.requests_in_flight() > 0)
            && self.rows_of(&|(keep, _)| keep.outlives()) > 0
    }

    /// Moves rows in memory that outlive the process to the log, and sends nothing more to Kafka. `false`: it has to be called again, as
    /// the log has not taken all of them.
    pub(super) fn save(&mut self, log: &mut dyn RowLog) -> bool {
        self.saving = self.members.kept().any(|(.., (keep, _))| keep == Keep::HybridSaved);
        self.producer.save(log)
    }

    /// Ends these rows, which were dropped to make room. `owed`: the publishers of the previous process with answers pending for some of them.
    pub(super) fn dropped(&mut self, rows: &RowSet, owed: OwedRows<'_>) {
        self.producer.dropped(rows, owed);
        self.busy |= !rows.is_empty();
    }

    /// Applies other settings of the cluster, or other certificates.
    pub(super) fn change(&mut self, config: &Config, cluster: usize, edge: &Edge, now: Monotonic) {
        let of = &config.clusters[cluster];
        self.client.change(settings::client(config, cluster, edge), now);
        self.producer.change_cluster(settings::buffer_bytes(config, cluster), of.topics_max, of.times.request_timeout);
        self.busy = true;
    }

    /// Resumes a cluster that is in the configuration again.
    pub(super) fn resume(&mut self, now: Monotonic) {
        if std::mem::take(&mut self.retired) {
            self.client.start(now);
            self.busy = true;
        }
    }

    fn next_deadline(&self, is_silent: bool, now: Monotonic) -> Monotonic {
        if self.retired {
            return Monotonic::NEVER;
        }
        let of_rows = if is_silent { now.after(LOOK_IF_HEARD) } else { self.producer.next_deadline() };
        of_rows.min(self.client.next_deadline())
    }
}

impl Core {
    /// Does the work of a cluster after this turn's events.
    pub(super) fn pump(&mut self, io: &mut Ring<'_>, cluster: usize) {
        let upstream = &mut self.outlets.upstreams[cluster];
        if !std::mem::take(&mut upstream.busy) || upstream.saving || upstream.retired {
            if upstream.saving && self.log.kafka.is_some() {
                self.carry_effects(io, cluster);
                self.send_session_logs(io);
            }
            return;
        }
        let now = io.now();
        upstream.producer.mind_memory(machine::is_short_of_memory());
        self.instances_time(io, cluster);
        let is_silent = self.holds_rows(io, cluster);
        loop {
            let wall = io.wall();
            self.forward_dead_letters(cluster, now, wall);
            let upstream = &mut self.outlets.upstreams[cluster];
            let timings = Timings { histograms: self.here.numbers.histograms(), cluster };
            match (self.broker.logs.rows_mut(), io.segments()) {
                (Some(buffer), Some(segments)) => {
                    let mut files = Files(segments);
                    upstream.pump(&mut buffer.view(&mut files, cluster, now, wall), timings, is_silent, (now, wall));
                }
                _ => upstream.pump(&mut NoLog, timings, is_silent, (now, wall)),
            }
            let mut asked =
                self.sources.ask(cluster, &mut upstream.client, now) | self.log.ask(cluster, &mut upstream.client, now);
            if let Some(logs) = self.log.kafka.as_mut().filter(|logs| logs.cluster == cluster) {
                let (sessions, touched) = (&mut self.broker.sessions, &mut self.broker.touched);
                let answered = Answered { sessions, touched };
                let way = (&mut logs.disks, &mut upstream.client);
                let number_of = |place| upstream.members.number(Role::Own(place));
                let rows = self.outlets.slot_rows.as_deref_mut();
                asked |= rows
                    .is_some_and(|rows| rows.send(&mut self.broker.logs.kept, way, answered, number_of, (now, wall)));
            }
            if asked {
                upstream.client.take_effects(&mut upstream.effects);
            }
            let mut effects = std::mem::take(&mut upstream.effects);
            let mut more = !effects.is_empty();
            for effect in effects.drain(..) {
                self.effect(io, cluster, effect);
            }
            self.settle(cluster, now);
            // Rows end, and what was rejected becomes letters, in this turn.
            more |= self.settle_dead_letters(cluster);
            let upstream = &mut self.outlets.upstreams[cluster];
            upstream.effects = effects;
            if !more && (is_silent || !upstream.producer.has_rejected()) {
                break;
            }
        }
        self.tell_news(cluster, now);
        self.retire_if_removed(io, cluster);
        self.set_cluster_timer(io, cluster);
        self.read_stats(cluster, now);
    }

    /// Carries out the effects that a cluster's client requests now.
    pub(super) fn carry_effects(&mut self, io: &mut Ring<'_>, cluster: usize) {
        let mut effects = Vec::new();
        self.outlets.upstreams[cluster].client.take_effects(&mut effects);
        effects.into_iter().for_each(|effect| self.effect(io, cluster, effect));
    }

    /// Closes the connections of a cluster that is no longer in the configuration, once its rows have gone.
    fn retire_if_removed(&mut self, io: &mut Ring<'_>, cluster: usize) {
        let of = &self.here.config.clusters[cluster];
        let upstream = &mut self.outlets.upstreams[cluster];
        let is_needed = upstream.producer.buffered_rows() > 0 || !self.sources.are_off(cluster);
        if !of.is_removed || is_needed || !upstream.begun.is_empty() {
            return;
        }
        let settings = settings::client(&self.here.config, cluster, &self.here.edge);
        let ended = std::mem::replace(&mut upstream.client, Client::new(settings, self.random.u64(..)));
        let mut effects = Vec::new();
        ended.end(&mut effects);
        upstream.carrier.close_all(io, &mut self.connections);
        (upstream.retired, upstream.reachable, upstream.connected) = (true, false, false);
        upstream.producer.on_reachable(false);
        upstream.producer.release_all_unused();
        for effect in effects {
            if let Effect::Event(ClientEvent::Outward(news)) = effect {
                self.tell_outward(cluster, &news, io.now());
            }
        }
    }

    fn effect(&mut self, io: &mut Ring<'_>, cluster: usize, effect: Effect) {
        let (now, sockets) = (io.now(), self.here.config.clusters[cluster].sockets);
        let upstream = &mut self.outlets.upstreams[cluster];
        let event = upstream.carrier.carry(io, &self.around, &mut self.connections, sockets, effect);
        let Some(event) = event else { return };
        match event {
            ClientEvent::BrokerUnreachable(broker) => self.tell_broker(cluster, Err(&broker), now),
            ClientEvent::Outward(news) => self.tell_outward(cluster, &news, now),
            ClientEvent::Member(answer) if self.answers_instances(io, &answer) => {}
            event if self.log.kafka.is_some() && self.answers_session_logs(io, cluster, &event) => {}
            event => {
                let upstream = &mut self.outlets.upstreams[cluster];
                upstream.event(&event, &mut self.here.numbers, cluster, now);
                self.sources.event(cluster, event, now);
            }
        }
    }

    fn tell_outward(&mut self, cluster: usize, news: &News, now: Monotonic) {
        match news {
            News::LoginRefused(login) => self.tell_login_refused(cluster, login, now),
            News::TlsFailed(broker, why) => self.tell_kafka_tls_failed(cluster, (broker, why), now),
            News::BrokerReachable(broker) => self.tell_broker(cluster, Ok(broker), now),
            News::Reachable(yes) => {
                if std::mem::replace(&mut self.outlets.upstreams[cluster].reachable, *yes) != *yes {
                    self.tell_reachable(cluster, *yes, now);
                }
            }
        }
    }

    /// Notes that a link's socket is connected, or its TLS handshake is over (`is_ready`).
    pub(super) fn link_connected(&mut self, io: &mut Ring<'_>, cluster: usize, link: LinkId, is_ready: bool) {
        self.here.numbers.count_cluster(cluster, ClusterMetric::TlsHandshakes, u64::from(is_ready));
        let upstream = &mut self.outlets.upstreams[cluster];
        if upstream.carrier.connected(link, is_ready) {
            upstream.busy = true;
            upstream.client.on_connected(link, io.now());
        }
    }

    /// Notes that a link's socket is gone.
    pub(super) fn link_closed(&mut self, io: &mut Ring<'_>, cluster: usize, link: LinkId, why: &Closed) {
        let upstream = &mut self.outlets.upstreams[cluster];
        upstream.busy = true;
        let why = upstream.carrier.closed(link, why);
        upstream.client.on_closed(link, &why, io.now());
    }

    /// Passes the results of batches to the sessions that published their messages.
    fn settle(&mut self, cluster: usize, now: Monotonic) {
        let (mut bad_records, mut refused) = (Vec::new(), Vec::new());
        let (sessions, touched, letters) =
            (&mut self.broker.sessions, &mut self.broker.touched, &mut self.outlets.letters);
        let (shard, remembered) = (self.here.index, self.broker.delivery.remembered());
        let Upstream { producer, members, .. } = &mut self.outlets.upstreams[cluster];
        producer.drain_landed(|run: Run, outcome, landed| {
            if letters.answered(run, outcome) {
                return;
            }
            let key = match Owner::of(run.session) {
                Owner::Session(key) => key,
                Owner::Reader(reader) => {
                    let numbers = (0..run.count).map(|at| run.first.wrapping_add(at));
                    let records = numbers.map(|number| Claimed { shard, reader, number });
                    return records.for_each(|record| remembered.settles(Settled { record, is_met: true }));
                }
                Owner::BadRecord(reader) => {
                    let numbers = (0..run.count).map(|at| run.first.wrapping_add(at));
                    return bad_records.extend(numbers.map(|number| (reader, number, outcome)));
                }
                Owner::Refused(bridge) => {
                    let numbers = (0..run.count).map(|at| run.first.wrapping_add(at));
                    return refused.extend(numbers.map(|number| (bridge, number, outcome)));
                }
                Owner::Letters => return,
            };
            // A session that has ended gets no answers.
            if let Some(session) = sessions.get_mut(key) {
                let reason = match outcome {
                    Outcome::Delivered => Reason::Success,
                    Outcome::DeadLettered => Reason::DeadLettered,
                    Outcome::LOST => Reason::RecordLost,
                    Outcome::Refused(_) => Reason::KafkaRejected,
                };
                if let Some(receipt) = landed.filter(|_| session.wants_receipts()).and_then(|at| receipt(members, at)) {
                    session.landed(run.first, run.count, &receipt);
                }
                session.complete(run.first, run.count, reason);
                if touched.last() != Some(&key) {
                    touched.push(key);
                }
            }
        });
        for (reader, number, outcome) in bad_records {
            self.sources.dead_letter_answered(&mut self.here, (reader, number), outcome, now);
        }
        for (bridge, number, outcome) in refused {
            self.letter_of_bridge_answered(bridge as usize, number, outcome);
        }
    }

    /// Whether rows for a cluster wait for contact with the group of instances.
    fn holds_rows(&self, io: &Ring<'_>, cluster: usize) -> bool {
        self.is_silent(io) && self.here.config.is_of_broker(cluster)
    }

    pub(super) fn set_cluster_timer(&mut self, io: &mut Ring<'_>, cluster: usize) {
        let is_silent = self.holds_rows(io, cluster);
        let upstream = &mut self.outlets.upstreams[cluster];
        let at = upstream
            .next_deadline(is_silent, io.now())
            .min(self.sources.next_deadline(cluster))
            .min(self.log.next_deadline(cluster));
        let of_slots = self.outlets.slot_rows.as_ref().map(|rows| rows.next_deadline(cluster));
        let at = at.min(of_slots.unwrap_or(Monotonic::NEVER));
        io.set_timer_by(Timer::Cluster(cluster), at, &mut upstream.timer);
    }

    /// Handles the timer of a cluster.
    pub(super) fn cluster_time(&mut self, io: &mut Ring<'_>, cluster: usize) {
        if let Some(upstream) = self.outlets.upstreams.get_mut(cluster) {
            upstream.timer = None;
            upstream.busy = true;
            let carrier = &upstream.carrier;
            upstream.client.on_time(|link| carrier.unacked(io, link), io.now());
        }
    }

    /// Reads the numbers of the sinks with changes: a turn costs as much as its events, however many sinks there are.
    fn read_sinks(&mut self, cluster: usize, now: Monotonic) {
        let mut changed = SmallVec::<[usize; 8]>::new();
        let Upstream { producer, members, .. } = &mut self.outlets.upstreams[cluster];
        while let Some(number) = producer.take_changed() {
            changed.extend(members.concerns(number));
        }
        while let Some(sink) = self.outlets.letters.take_changed().or_else(|| self.announced.take_waiting()) {
            changed.push(sink);
        }
        self.outlets.slot_rows.iter_mut().for_each(|rows| changed.extend(rows.take_changed()));
        changed.sort_unstable();
        changed.dedup();
        for sink in changed {
            let dead_lettered = self.read_sink(sink);
            self.announce_dead_letters(sink, dead_lettered, now);
        }
    }

    /// Reads the numbers of a sink, by its place in the configuration. Returns how many messages it has in dead letters.
    fn read_sink(&mut self, sink: usize) -> u64 {
        let upstream = &self.outlets.upstreams[self.outlets.plans[sink].cluster];
        let Some(number) = upstream.members.number(Role::Own(sink)) else { return 0 };
        let mut own = *upstream.producer.stats(number);
        let moved = self.outlets.slot_rows.as_ref().map_or(0, |rows| rows.add_to(sink, &mut own));
        let writes_letters = upstream.members.number(Role::DeadLetters(sink));
        let letters = self.outlets.letters.totals(sink);
        let stats = SinkStats {
            // Messages that the sink did not take count as its own, too.
            appended: own.appended + letters.messages,
            refused: own.refused + letters.messages_refused,
            buffered_rows: own.buffered_rows + letters.messages_in_flight(),
            buffered_bytes: own.buffered_bytes
                + writes_letters.map_or(0, |number| upstream.producer.stats(number).buffered_bytes),
            ..own
        };
        let dead_lettered = own.handed_over + letters.messages_safe;
        let values = [
            (SinkMetric::DeadLettered, dead_lettered),
            (SinkMetric::DeadLetteredInFile, letters.in_file),
            (SinkMetric::Matched, stats.appended),
            (SinkMetric::Delivered, stats.delivered),
            (SinkMetric::Refused, stats.refused),
            (SinkMetric::Expired, stats.expired),
            (SinkMetric::Recovered, stats.recovered),
            (SinkMetric::DroppedOldest, stats.dropped),
            (SinkMetric::DroppedCorrupt, stats.rotten),
            (SinkMetric::Moved, moved),
            (SinkMetric::BufferedRows, stats.buffered_rows),
            (SinkMetric::BufferedBytes, stats.buffered_bytes),
            (SinkMetric::Batches, stats.batches),
            (SinkMetric::Retries, stats.retries),
            (SinkMetric::WithoutTimestamp, stats.without_timestamp),
            (SinkMetric::TopicsRecreated, stats.topics_recreated),
            (SinkMetric::Repartitioned, stats.repartitioned),
            (SinkMetric::Asked, stats.asked),
            (SinkMetric::OutcomeUnknown, stats.outcome_unknown),
            (SinkMetric::AcknowledgedLost, stats.acknowledged_lost),
            (SinkMetric::AcknowledgedLostRecords, stats.acknowledged_lost_records),
            (SinkMetric::BatchRecords, stats.batch_records),
            (SinkMetric::BatchBytes, stats.batch_bytes),
            (SinkMetric::ProduceRequests, stats.requests),
            (SinkMetric::KafkaErrors, stats.errors),
            (SinkMetric::BatchesUnanswered, stats.batches_unanswered),
            (SinkMetric::Splits, stats.splits),
            (SinkMetric::Paced, stats.paced),
            (SinkMetric::EpochsRaised, stats.epochs_raised),
            (SinkMetric::HeadersLeftOut, self.outlets.headers_left_out[sink]),
            (SinkMetric::Topics, upstream.producer.topics_held(number) as u64),
        ];
        for (metric, value) in values {
            self.here.numbers.set_sink(sink, metric, value);
        }
        dead_lettered
    }

    pub(super) fn read_stats(&mut self, cluster: usize, now: Monotonic) {
        self.read_sinks(cluster, now);
        let (upstream, numbers) = (&self.outlets.upstreams[cluster], &mut self.here.numbers);
        numbers.set_cluster(cluster, ClusterMetric::Reachable, u64::from(upstream.reachable));
        numbers.set_cluster(cluster, ClusterMetric::Requests, upstream.sent);
        numbers.set_cluster(cluster, ClusterMetric::BufferBytes, upstream.producer.buffered_bytes() as u64);
        numbers.set_cluster(cluster, ClusterMetric::BufferBytesMax, upstream.producer.buffer_bytes_max() as u64);
        numbers.set_cluster(cluster, ClusterMetric::BufferReserved, upstream.producer.buffer_bytes_reserved() as u64);
        numbers.set_cluster(cluster, ClusterMetric::BufferUnused, upstream.producer.unused_bytes() as u64);
        numbers.set_cluster(cluster, ClusterMetric::Links, upstream.carrier.links.len() as u64);
        numbers.set_cluster(cluster, ClusterMetric::ConnectionsMade, upstream.carrier.made);
        numbers.set_cluster(cluster, ClusterMetric::SentBytes, upstream.carrier.sent_bytes);
        let stats = upstream.client.stats();
        numbers.set_cluster(cluster, ClusterMetric::LinkFailures, stats.failures);
        numbers.set_cluster(cluster, ClusterMetric::WithExtra, stats.with_extra);
        numbers.set_cluster(cluster, ClusterMetric::Malformed, stats.malformed);
        numbers.set_cluster(cluster, ClusterMetric::Throttles, stats.throttles);
        numbers.set_cluster(cluster, ClusterMetric::Logins, stats.logins);
        numbers.set_cluster(cluster, ClusterMetric::LoginsRefused, stats.logins_refused);
        numbers.set_cluster(cluster, ClusterMetric::TlsFailures, stats.tls_failures);
        numbers.set_cluster(cluster, ClusterMetric::LinksReplaced, stats.replaced);
        numbers.set_cluster(cluster, ClusterMetric::SlowPartitions, upstream.producer.slow_partitions());
        let in_flight = upstream.producer.requests_in_flight() as u64;
        numbers.set_cluster(cluster, ClusterMetric::RequestsInFlight, in_flight);
    }
}

/// The receipt for a publisher: its row's place in Kafka.
fn receipt(members: &Members, at: Landed<'_>) -> Option<Receipt> {
    let sink = u16::try_from(members.index_of(at.sink)?).ok()?;
    Some(Receipt { sink, topic: Rc::clone(at.topic), partition: at.partition, offset: at.offset })
}
