//! The drain: stop accepting, stop reading, let Kafka confirm the buffered rows, answer, say goodbye, report.
//!
//! A shard that has finished reports that to the others, after everything else that it has sent them, and stops when all have done so: their letters until
//! then are taken in.
//!
//! Rows that a stop would lose are waited for until the end of the grace. Rows that the next process finds are not: they are sent for [`SENDING`], if Kafka
//! is reachable, and those in flight then have [`ANSWERING`] for their answers.

use std::collections::HashSet;
use std::time::Duration;

use forebay_buffer::Buffer;
use forebay_kafka::producer::{AnsweredOn, Keep};
use forebay_runtime::seam::{ConnId, Monotonic};
use forebay_session::End;

use super::Core;
use super::connection::Kind;
use super::disks::Files;
use super::mail::{Mail, Notice, ToShard};
use super::ring::Ring;
use super::slot_rows::SlotRows;
use super::spool::on_disk;
use super::words::Timer;

/// The time for the remaining rows to get onto the disk once the grace is over.
const SAVING: Duration = Duration::from_secs(3);

/// The time for which rows that the next process finds are still sent: recent rows are in Kafka by then.
const SENDING: Duration = Duration::from_secs(1);

/// The time for Kafka to answer for those rows after that, so that the next process knows where each is.
const ANSWERING: Duration = Duration::from_secs(1);

/// The handling of rows that the next process finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remaining {
    /// The rows are sent.
    Sent,
    /// No more of the rows are sent, answers are waited for.
    Answered,
    /// The rows are not waited for.
    Left,
}

/// How far this shard and the others are before the service stops.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// The drain of this shard, if it is in progress.
    pub(super) own: Option<Drain>,
    /// Other shards that have nothing left to do, as bits.
    others: u64,
}

/// A drain in progress.
#[derive(Debug)]
pub(super) struct Drain {
    /// The end of the grace, or of saving while rows are saved.
    until: Monotonic,
    remaining: Remaining,
    /// Connections with goodbyes that the kernel has not taken yet. `None` while answers are pending.
    closing: Option<HashSet<ConnId>>,
    /// Whether the other shards were notified that this one sends nothing more.
    told_others: bool,
    /// Whether only the disk is waited for, which has not completed all writes.
    saving: bool,
    /// Whether the rows in memory of sinks that are saved are in the log.
    saved: bool,
}

impl Drain {
    /// Notes that a connection is gone.
    pub(super) fn closed(&mut self, conn: ConnId) {
        if let Some(closing) = &mut self.closing {
            closing.remove(&conn);
        }
    }
}

impl Core {
    /// Begins the drain: devices are no longer read, and their received packets are finished within `grace`.
    pub(super) fn begin_drain(&mut self, io: &mut Ring<'_>, grace: Duration) {
        if self.drain.own.is_some() {
            return;
        }
        io.stop_accepting();
        for conn in self.connections.ids() {
            match self.connections.get(conn).map(|c| c.kind) {
                Some(Kind::Device { .. } | Kind::Relayed(_)) => self.read_no_more(io, conn),
                Some(Kind::Link { .. } | Kind::Relay(_) | Kind::Trunk) | None => {}
                Some(_) => self.end(io, conn, End::ShuttingDown),
            }
        }
        for upstream in &mut self.outlets.upstreams {
            upstream.producer.stop_lingering(io.now());
            upstream.busy = true;
        }
        let until = io.now().after(grace);
        self.broker.logs.leave_apart();
        self.drain.own = Some(Drain {
            until,
            remaining: Remaining::Sent,
            closing: None,
            told_others: false,
            saving: false,
            saved: false,
        });
        let _ = io.set_timer(until.min(io.now().after(SENDING)), Timer::Grace.token());
    }

    /// Stops reading a connection, and its keep-alive, as its silence from now on has this reason.
    fn read_no_more(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        if let Some(connection) = self.connections.get(conn) {
            connection.clock.rest();
        }
        io.pause(conn);
    }

    /// Takes the drain a step on at the end of a turn, if it can go on.
    pub(super) fn go_on_draining(&mut self, io: &mut Ring<'_>) {
        let Some(drain) = &self.drain.own else { return };
        if drain.saving {
            if !drain.saved {
                self.save(io);
            }
            if self.is_saved() {
                self.report(io);
            }
            return;
        }
        let (remaining, told) = (drain.remaining, drain.closing.is_some());
        if self.rows_waiting() > 0 || !self.is_synced() {
            return;
        }
        let goes_on = remaining != Remaining::Left
            && (self.outlets.upstreams.iter().any(|up| up.goes_on(remaining == Remaining::Sent))
                || self.slot_rows_go_on(remaining == Remaining::Sent));
        // An answer that waits for the disk need not wait for Kafka.
        let owed = |(keep, answered_on): (Keep, AnsweredOn)| !keep.outlives() || answered_on != AnsweredOn::Stored;
        if !told && (!goes_on || self.count_rows(owed) == 0) {
            self.say_goodbye(io);
        }
        // Without connections no other event would ever end the drain.
        let gone = matches!(&self.drain.own, Some(Drain { closing: Some(closing), .. }) if closing.is_empty());
        if gone && !goes_on && self.rows_waiting() == 0 && self.are_all_done(io) {
            self.end_drain(io);
        }
    }

    /// Whether waiting helps rows of slots that the next owners find, as in [`Upstream::goes_on`].
    ///
    /// [`Upstream::goes_on`]: super::upstream::Upstream::goes_on
    fn slot_rows_go_on(&self, sending: bool) -> bool {
        let outlets = &self.outlets;
        let is_there = |rows: &SlotRows| outlets.upstreams[rows.cluster()].client.is_connected();
        let goes_on = |rows: &SlotRows| rows.rows() > 0 && (sending || rows.awaits_answers()) && is_there(rows);
        outlets.slot_rows.as_deref().is_some_and(goes_on)
    }

    /// Whether all shards have sent each other everything. Reports to the others, once, that this one has.
    fn are_all_done(&mut self, io: &mut Ring<'_>) -> bool {
        let has_sent_all = self.has_sent_all();
        let Some(drain) = &mut self.drain.own else { return false };
        if !drain.told_others {
            if !has_sent_all {
                return false;
            }
            drain.told_others = true;
            let from = self.here.index;
            let others = (0..self.here.config.service.shards).filter(|shard| *shard != from);
            self.around
                .letters(&mut self.broker)
                .extend(others.map(|shard| (shard, Mail::Shard(ToShard::Stopping { from }))));
            self.send_letters(io);
        }
        self.around.letters(&mut self.broker).is_empty()
            && self.drain.others.count_ones() as usize + 1 == self.here.config.service.shards
    }

    /// Whether all messages are with their subscribers here, and with the other shards.
    fn has_sent_all(&self) -> bool {
        self.broker.delivery.has_sent_all() && self.broker.queues.is_confirmed() && self.broker.retained.is_confirmed()
    }

    /// Notes that a shard has sent this one everything.
    pub(super) fn other_is_done(&mut self, from: usize) {
        self.drain.others |= 1 << from;
    }

    /// Closes every device's connection. A due will becomes a row, which is waited for as well.
    fn say_goodbye(&mut self, io: &mut Ring<'_>) {
        let mut closing = HashSet::new();
        for conn in self.connections.ids() {
            if matches!(self.connections.get(conn).map(|c| c.kind), Some(Kind::Device { .. } | Kind::Relayed(_))) {
                self.end(io, conn, End::ShuttingDown);
                closing.insert(conn);
            }
        }
        // The last words of streams are on their way when their trunks are closed.
        if let Some((trunks, ring)) = io.trunks_and_io() {
            closing.extend(trunks.wind_up(ring));
        }
        if !self.broker.logs.kept.is_there() {
            // No later process will know of the wills.
            self.broker.sessions.end_will_delays();
        }
        if let Some(drain) = &mut self.drain.own {
            drain.closing = Some(closing);
        }
        self.outward(io);
    }

    /// Takes the drain on when the time of a step is over.
    pub(super) fn grace_over(&mut self, io: &mut Ring<'_>) {
        let (now, waiting) = (io.now(), self.rows_waiting());
        let Some(drain) = &mut self.drain.own else { return };
        match (drain.saving, now >= drain.until) {
            (true, true) => return self.report(io),
            (true, false) => return,
            (false, true) => return self.end_drain(io),
            (false, false) => {}
        }
        let next = match drain.remaining {
            // The rows are sent as long as others are waited for anyway.
            Remaining::Sent if waiting > 0 => drain.until.min(now.after(SENDING)),
            Remaining::Sent => {
                drain.remaining = Remaining::Answered;
                self.outlets.upstreams.iter_mut().for_each(|upstream| upstream.producer.cut_no_more());
                self.outlets.slot_rows.iter_mut().for_each(|rows| rows.cut_no_more());
                drain.until.min(now.after(ANSWERING))
            }
            Remaining::Answered | Remaining::Left => {
                drain.remaining = Remaining::Left;
                drain.until
            }
        };
        let _ = io.set_timer(next, Timer::Grace.token());
    }

    /// Ends the drain: the remaining rows are saved and reported, not waited for.
    fn end_drain(&mut self, io: &mut Ring<'_>) {
        let until = io.now().after(SAVING);
        if let Some(drain) = &mut self.drain.own {
            (drain.saving, drain.until) = (true, until);
        }
        self.save(io);
        if self.is_saved() {
            return self.report(io);
        }
        let _ = io.set_timer(until, Timer::Grace.token());
    }

    /// Moves rows in memory that outlive the process to the log, as many as that takes now.
    fn save(&mut self, io: &mut Ring<'_>) {
        let (now, wall) = (io.now(), io.wall());
        let mut saved = true;
        if let (Some(buffer), Some(segments)) = (self.broker.logs.rows_mut(), io.segments()) {
            let mut files = Files(segments);
            let rules = self.here.rules;
            let upstreams = self.outlets.upstreams.iter_mut().enumerate();
            for (cluster, upstream) in upstreams.filter(|_| rules.saves_at_stop()) {
                saved &= upstream.save(&mut buffer.view(&mut files, cluster, now, wall));
            }
        }
        if let Some(drain) = &mut self.drain.own {
            drain.saved = saved;
        }
        self.flush_spool(io);
    }

    /// Rows that a stop would lose.
    fn rows_waiting(&self) -> u64 {
        let saved = self.saves();
        let rows = self.count_rows(|(keep, _)| !keep.outlives_if(saved));
        let due = if self.broker.queues.have_all_told() { self.broker.sessions.wills_due() } else { 0 };
        rows + self.messages_to_dead_letters() + (self.broker.sessions.wills_waiting() + due) as u64
    }

    /// Rows that the next process finds, once they are durable.
    fn rows_kept(&self) -> u64 {
        let saved = self.saves();
        let of_slots = self.outlets.slot_rows.as_ref().map_or(0, |rows| rows.rows());
        self.count_rows(|(keep, _)| keep.outlives_if(saved)) + of_slots
    }

    /// Messages that no sink has and that have dead letters which are not safe.
    fn messages_to_dead_letters(&self) -> u64 {
        let sinks = 0..self.here.config.sinks.len();
        sinks.map(|sink| self.outlets.letters.totals(sink).messages_in_flight()).sum()
    }

    /// Whether the rows in memory of sinks that are saved are in the log, or may still get there.
    fn saves(&self) -> bool {
        self.drain.own.as_ref().is_none_or(|drain| drain.saved || !drain.saving)
    }

    fn count_rows(&self, wanted: impl Fn((Keep, AnsweredOn)) -> bool) -> u64 {
        self.outlets.upstreams.iter().map(|upstream| upstream.rows_of(&wanted)).sum()
    }

    /// Whether everything that outlives the process is durable.
    fn is_saved(&self) -> bool {
        self.saves() && self.is_synced()
    }

    /// Whether every write to the logs is durable.
    fn is_synced(&self) -> bool {
        self.broker.logs.each().all(Buffer::is_idle) && self.broker.keeping.holds.is_empty()
    }

    fn report(&mut self, io: &mut Ring<'_>) {
        let saves = self.saves();
        let unwritten: u64 = self.outlets.upstreams.iter().map(|upstream| upstream.unwritten_rows(saves)).sum();
        let unsaved = unwritten + self.broker.logs.rows().map_or(0, Buffer::rows_not_durable);
        let rows_kept = self.rows_kept().saturating_sub(unsaved);
        let rows_left = self.rows_waiting() + unsaved;
        let Some(drain) = self.drain.own.take() else { return };
        // The clients that have not taken the goodbye yet, or have not been sent it.
        let is_client = |kind: Kind| !matches!(kind, Kind::Link { .. } | Kind::Relay(_) | Kind::Trunk);
        let untold = |core: &mut Self, conn| core.connections.get(conn).is_some_and(|c| is_client(c.kind));
        let ids = self.connections.ids();
        let mut closing = drain.closing.unwrap_or_default();
        closing.retain(|conn| !matches!(self.connections.get(*conn).map(|c| c.kind), Some(Kind::Trunk)));
        let connections_left = closing.len() + ids.into_iter().filter(|conn| untold(self, *conn)).count();
        self.finish(io, rows_left, rows_kept, connections_left);
    }

    fn finish(&mut self, io: &mut Ring<'_>, rows_left: u64, rows_kept: u64, connections_left: usize) {
        self.drain.own = None;
        if let Some((buffer, mut files)) = on_disk(&mut self.broker, io) {
            buffer.write_note(&mut files);
        }
        let _ = self.around.notices.send(Notice::Drained {
            shard: self.here.index,
            rows_left,
            rows_kept,
            connections_left,
        });
        self.here.numbers.publish();
        io.stop();
    }
}
