//! Whether messages find room in the log of rows, as reported to an operator, and the room that dropped rows make.

use std::time::Duration;

use forebay_broker::logs::Logs;
use forebay_broker::words::second;
use forebay_buffer::SpoolFull;
use forebay_config::WhenFull;
use forebay_kafka::types::SinkId;
use forebay_metrics::event::{Field, Kind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::Monotonic;
use forebay_spool::RowSet;

use super::Core;
use super::outlets::Outlets;

impl Core {
    /// Records the beginning and the end of a time in which messages find no room.
    pub(super) fn tell_full(&mut self, now: Monotonic) {
        self.outlets.look_again(&mut self.broker.logs);
        let Some(full) = self.outlets.full.turn(now) else { return };
        let kind = if full { Kind::SpoolFull } else { Kind::SpoolRoom };
        let reason = self.outlets.full.why;
        let sink = match reason {
            Some(SpoolFull::Sink) => self.outlets.full.sink.and_then(|sink| self.here.config.sinks.get(sink)),
            _ => None,
        };
        self.here.teller.tell(kind, second(now), |event| {
            let event = event.maybe(Field::Sink, sink.map(|sink| sink.name.as_str()));
            if full { event.with(Field::Reason, if sink.is_some() { SHARE } else { WHOLE }) } else { event }
        });
        self.here.numbers.set(M::SpoolFull, u64::from(full));
    }
}

impl Outlets {
    /// Checks whether a message that found no room would find some now: a waiting publisher does not ask again before there is room.
    pub(super) fn look_again(&mut self, logs: &mut Logs) {
        let (Some(sink), Some(buffer)) = (self.full.sink.filter(|_| self.full.last.is_some()), logs.rows_mut()) else {
            return;
        };
        let plan = &self.plans[sink];
        let room = buffer.admit(plan.cluster, plan.sink, self.full.bytes);
        self.full.found |= matches!(room, Err(SpoolFull::Whole | SpoolFull::Sink));
    }

    /// Drops the oldest rows in the log that are in no batch, if a message has found no room (`drop-oldest`). Returns whether rows were dropped.
    pub(super) fn make_room(&mut self, logs: &mut Logs, now: Monotonic) -> bool {
        let (Some(buffer), plans) = (logs.rows_mut(), &self.plans) else { return false };
        // Waiting publishers are not asked again before there is room: until then dropping continues without them.
        self.full.wanted.retain(|(_, sink, bytes)| {
            let plan = &plans[*sink];
            buffer.admit(plan.cluster, plan.sink, *bytes).is_err()
        });
        if self.full.wanted.is_empty() {
            return false;
        }
        // Room comes back when a segment is free, some turns later.
        let (freed, last) = (buffer.freed(), &mut self.full.dropped);
        let is_coming = |before: u64| before == freed || buffer.is_freeing();
        if last.is_some_and(|(at, before)| is_coming(before) && now.since(at) < DROP_AGAIN) {
            return false;
        }
        *last = Some((now, freed));
        let goes = |cluster: usize, of: SinkId| {
            let is_own = |sink: usize| (plans[sink].cluster, plans[sink].sink) == (cluster, of);
            self.full.wanted.iter().any(|(full, sink, _)| *full != SpoolFull::Sink || is_own(*sink))
        };
        let mut allowed = RowSet::default();
        for (cluster, upstream) in self.upstreams.iter().enumerate() {
            let rows = upstream.producer.droppable(|sink| goes(cluster, sink));
            allowed.extend(rows.lanes().flat_map(|(lane, runs)| runs.iter().map(move |run| (lane, *run))));
        }
        let dropped = buffer.drop_oldest(&allowed);
        for upstream in &mut self.upstreams {
            upstream.dropped(&dropped, &mut |lane, run| buffer.owed(lane, run));
        }
        !dropped.is_empty()
    }
}

/// The delay before the oldest rows are dropped again, if that has made no room.
const DROP_AGAIN: Duration = Duration::from_millis(200);

/// The reason why there is no room.
const WHOLE: &str = "it is full as a whole";
const SHARE: &str = "the sink has used its share (spool_share)";

/// Whether messages find no room, as reported to an operator: at once when that begins, and when there has been room for a while.
#[derive(Debug, Default)]
pub(super) struct Fullness {
    /// The part that was full, and the sink of the configuration, when a message last found no room.
    pub(super) why: Option<SpoolFull>,
    pub(super) sink: Option<usize>,
    bytes: usize,
    found: bool,
    last: Option<Monotonic>,
    /// The room that dropped rows have to make: the full part, the sink, and the bytes needed.
    pub(super) wanted: Vec<(SpoolFull, usize, usize)>,
    /// The time at which rows were last dropped, and [`forebay_buffer::Buffer::freed`] then.
    dropped: Option<(Monotonic, u64)>,
    /// The failure of the disk that was last reported, and when.
    pub(super) failure_told: Option<(&'static str, Monotonic)>,
}

impl Fullness {
    /// Notes a message that has found no room.
    pub(super) fn note(&mut self, why: SpoolFull, sink: usize, bytes: usize, when_full: WhenFull) {
        (self.why, self.sink, self.bytes, self.found) = (Some(why), Some(sink), bytes, true);
        if when_full == WhenFull::DropOldest {
            self.wanted.retain(|(_, other, _)| *other != sink);
            self.wanted.push((why, sink, bytes));
        }
    }

    /// Decides at the end of a turn whether a report is due: `true` when messages begin to find no room, `false` when that is over.
    fn turn(&mut self, now: Monotonic) -> Option<bool> {
        if std::mem::take(&mut self.found) {
            return self.last.replace(now).is_none().then_some(true);
        }
        self.last.take_if(|last| now.since(*last) >= ROOM_AFTER).map(|_| false)
    }
}

/// The time for which there must have been room before the spool counts as no longer full.
const ROOM_AFTER: Duration = Duration::from_secs(5);
