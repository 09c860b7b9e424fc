//! The slots of a shard: the contents of their logs are taken up, and the writes of a turn go to them. Slots are acquired and released while others are
//! served: their sessions are taken up, or dropped without an end, and clients of other slots are not affected.

use std::collections::HashMap;
use std::time::Duration;

use forebay_broker::Broker;
use forebay_broker::logs::{Kept, first_of};
use forebay_broker::router::Place;
use forebay_broker::words::{Owner, second};
use forebay_buffer::{Buffer, Report, Restored};
use forebay_config::OfBroker;
use forebay_fleet::membership::SlotSet;
use forebay_kafka::types::Ticket;
use forebay_metrics::event::{Field, Kind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_record::{Record, names};
use forebay_runtime::seam::{ConnId, Monotonic};
use forebay_session::{End, SessionKey, send_away};

use super::connection::Kind as DeviceKind;
use super::instances::place_of;
use super::kafka_disk::KafkaDisk;
use super::mail::{Notice, ToSlots};
use super::ring::Ring;
use super::spool::{Flushed, Log};
use super::upstream::Upstream;
use super::words::Timer;
use super::{Core, settings};

/// The time for which a slot that is given up waits for pending writes of its sessions: the log may have no room for them.
const WRITES_WITHIN: Duration = Duration::from_secs(2);
/// The time for which the slot then waits for Kafka to acknowledge the writes. After it the slot ends as when a process dies: the rest was not answered, and
/// another instance may reach the log.
const SYNCED_WITHIN: Duration = Duration::from_secs(8);

/// The logs of sessions in Kafka, each with its disk.
fn in_kafka<'a>(broker: &'a mut Broker, log: &'a mut Log) -> impl Iterator<Item = (&'a mut Buffer, &'a mut KafkaDisk)> {
    let logs = match (&mut broker.logs.kept, &mut log.kafka) {
        (Kept::OfSlots(buffers), Some(logs)) => Some(buffers.values_mut().zip(logs.disks.values_mut())),
        _ => None,
    };
    logs.into_iter().flatten()
}

/// Whether a client's slot is one of these.
fn is_one_of(slots: &[u16], slot: Option<u16>) -> bool {
    slot.is_some_and(|slot| slots.contains(&slot))
}

/// Slots in words, as in `0-3, 7`.
fn in_words(mut slots: Vec<u16>) -> String {
    slots.sort_unstable();
    let runs = slots.chunk_by(|one, next| next - one == 1).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        one => one.iter().map(u16::to_string).collect(),
    });
    runs.collect::<Vec<_>>().join(", ")
}

impl Core {
    /// Takes a letter about slots.
    pub(super) fn slots_letter(&mut self, io: &mut Ring<'_>, letter: ToSlots) {
        match letter {
            ToSlots::RoutesBegin(begins) => self.routes_begin(begins),
            ToSlots::TakeOver(logs) => self.take_over(io, logs),
            ToSlots::Release(slot) => self.release_slot(io, slot),
            ToSlots::Drop(lost) => self.drop_slots(io, &lost, Monotonic::NEVER),
            ToSlots::Lost { slots, at, loss } => {
                self.drop_slots(io, &slots, at);
                self.log.losses = loss;
            }
        }
    }

    /// Takes up session state in the logs of slots, once all of them are open. `false`: some are not.
    pub(super) fn take_up_slots(&mut self, io: &mut Ring<'_>) -> bool {
        let (now, index) = (io.now(), self.here.index);
        let (Some(logs), Kept::OfSlots(buffers)) = (&mut self.log.kafka, &mut self.broker.logs.kept) else {
            return false;
        };
        logs.gather(buffers);
        if logs.found.len() < buffers.len() {
            return false;
        }
        self.broker.sessions.keep();
        self.tell_sessions_time(io);
        let Some(logs) = &mut self.log.kafka else { return false };
        let (mut taken, mut all, mut whole) = (Vec::new(), HashMap::new(), Report::default());
        for (slot, mut found) in std::mem::take(&mut logs.found) {
            self.begin_slot_rows(slot, &mut found, now);
            self.broker.restore_positions(slot, &found.sessions, now);
            let earlier = taken.len();
            let (report, by_number) = self.take_up_log(&found, &mut taken, now);
            self.note_served(slot, &taken[earlier..]);
            self.broker.write_first_positions(&self.here, slot);
            all.extend(by_number);
            whole.kept.add_all(&report.kept);
            (whole.rows, whole.cuts) = (whole.rows + report.rows, whole.cuts + report.cuts);
            if report.is_damaged() {
                self.tell_damaged(&report, Some(slot), io);
            }
        }
        self.broker.ask_to_go_back(&self.here);
        self.broker.tell_exchanges(&mut self.here, now, &all);
        self.broker.sessions_restored(&mut self.here, taken, now);
        self.tell_recovered(&whole, io);
        let Kept::OfSlots(buffers) = &self.broker.logs.kept else { return false };
        buffers.keys().for_each(|slot| self.here.slots.set(*slot, Place::Here(index)));
        true
    }

    /// Sends the writes of this turn to the logs of slots. `None`: there are none.
    pub(super) fn flush_slots(&mut self, io: &mut Ring<'_>) -> Option<Flushed> {
        let (now, wall, rules) = (io.now(), io.wall(), self.here.rules);
        let mut all: Option<Flushed> = None;
        for (buffer, disk) in in_kafka(&mut self.broker, &mut self.log) {
            let sooner = |one: Option<Monotonic>, other: Option<Monotonic>| one.into_iter().chain(other).min();
            let of = all.get_or_insert_default();
            if buffer.has_to_flush(now)
                && let Some(flushed) = Flushed::of((buffer, disk), rules, (now, wall))
            {
                of.has_begun |= flushed.has_begun;
                of.tries_again |= flushed.tries_again;
            }
            of.next_group_at = sooner(of.next_group_at, buffer.next_group_at());
            of.look_due = sooner(of.look_due, buffer.look_due());
        }
        all
    }

    /// Takes up new slots while others are served, as far as their logs are open.
    pub(super) fn take_up_loaded(&mut self, io: &mut Ring<'_>) {
        let now = io.now();
        let (Some(logs), Kept::OfSlots(buffers)) = (&mut self.log.kafka, &mut self.broker.logs.kept) else {
            return;
        };
        logs.gather(buffers);
        let found = std::mem::take(&mut logs.found);
        if found.is_empty() {
            return;
        }
        self.broker.sessions.keep();
        self.tell_sessions_time(io);
        for (slot, found) in &found {
            self.broker.restore_positions(*slot, &found.sessions, now);
        }
        self.broker.ask_to_go_back(&self.here);
        for (slot, mut found) in found {
            let mut taken = Vec::new();
            self.begin_slot_rows(slot, &mut found, now);
            let (report, _) = self.take_up_log(&found, &mut taken, now);
            self.note_served(slot, &taken);
            self.broker.write_first_positions(&self.here, slot);
            let sessions = taken.len() as u64;
            self.broker.held_here(&self.here);
            if self.broker.queues.have_all_told() {
                self.broker.release_restored(&mut self.here, now);
            }
            self.broker.sessions_restored(&mut self.here, taken, now);
            if report.is_damaged() {
                self.tell_damaged(&report, Some(slot), io);
            }
            self.here.slots.set(slot, Place::Here(self.here.index));
            self.begin_bridges_of(io, slot);
            self.here.teller.tell(Kind::SlotTaken, second(now), |event| {
                event.with(Field::Partition, u64::from(slot)).with(Field::Sessions, sessions)
            });
            let _ = self.around.notices.send(Notice::SlotTaken(slot));
        }
    }

    /// Notes until when an earlier owner has served the sessions that were taken up from the log of a slot.
    fn note_served(&mut self, slot: u16, taken: &[SessionKey]) {
        let until = self.log.kafka.as_ref().and_then(|logs| logs.served_until.get(&slot));
        until.into_iter().for_each(|at| taken.iter().for_each(|key| self.broker.sessions.served_until(*key, *at)));
    }

    /// Begins with the rows of a slot: those that its log has of earlier owners are sent first.
    fn begin_slot_rows(&mut self, slot: u16, found: &mut Restored, now: Monotonic) {
        let (here, outlets) = (&self.here, &mut self.outlets);
        let (Some(broker), Some(rows)) = (&here.config.broker, &mut outlets.slot_rows) else { return };
        let seed = self.random.u64(..);
        let lanes = found.clusters.iter().flat_map(|cluster| &cluster.lanes);
        let sinks = lanes.map(|lane| usize::from(lane.sink.0) + 1).max().unwrap_or(0);
        let settings = settings::slot_rows(&here.config, broker, (here.slots.count(), sinks), (here.rules, seed));
        rows.begin(slot, settings, std::mem::take(&mut found.clusters), now);
        outlets.upstreams[broker.cluster].busy = true;
    }

    /// Begins to give a slot up: its clients are disconnected, and the changes of their sessions are written down. A slot that is not here is given up at
    /// once.
    pub(super) fn release_slot(&mut self, io: &mut Ring<'_>, slot: u16) {
        let until = io.now().after(WRITES_WITHIN);
        let Some(logs) = self.log.kafka.as_mut().filter(|logs| logs.disks.contains_key(&slot)) else {
            let _ = self.around.notices.send(Notice::SlotReleased(slot));
            return;
        };
        if logs.leaving.insert(slot, until).is_some() {
            return;
        }
        if let Some(log) = self.broker.logs.kept.of_mut(first_of(slot)) {
            log.leave_apart();
        }
        self.leave_slot(slot);
        self.end_bridges_of(io, slot);
        let peers = &self.around.peers;
        let (server, is_for_good) = (peers.other_server(slot), peers.is_leaving());
        for conn in self.sessions_of(&[slot]).into_iter().filter_map(|(_, conn)| conn) {
            if let Some(DeviceKind::Device { peer, .. }) = self.connections.get(conn).map(|connection| connection.kind)
                && self.broker.keeping.holds.may_tell(conn)
            {
                send_away(peer, server.as_deref(), is_for_good, io.out(conn));
            }
            self.end(io, conn, End::Moved);
        }
        self.outward(io);
        io.go_on();
    }

    /// Gives up the slots that their clients have left, once everything is durable.
    pub(super) fn go_on_releasing(&mut self, io: &mut Ring<'_>) {
        let now = io.now();
        let Some(logs) = self.log.kafka.as_ref().filter(|logs| !logs.leaving.is_empty()) else { return };
        let leaving: Vec<(u16, Monotonic)> = logs.leaving.iter().map(|(slot, until)| (*slot, *until)).collect();
        let kept = &self.broker.logs.kept;
        let is_synced = |slot: u16| kept.of(first_of(slot)).is_none_or(Buffer::is_idle);
        let is_written = |slot| !self.broker.queues.is_writing(&self.broker.sessions, slot);
        let is_due = |(slot, until): &&(u16, Monotonic)| {
            until.after(SYNCED_WITHIN) <= now || (is_synced(*slot) && (is_written(*slot) || *until <= now))
        };
        let mut over: Vec<u16> = leaving.iter().filter(is_due).map(|(slot, _)| *slot).collect();
        let deadlines = leaving.iter().flat_map(|(_, until)| [*until, until.after(SYNCED_WITHIN)]);
        let next = deadlines.filter(|until| *until > now).min();
        // The positions of the slot are written last.
        let is_late = |slot: &u16| leaving.iter().any(|(of, until)| of == slot && *until <= now);
        over.retain(|slot| {
            let is_over = is_late(slot) || !self.broker.write_last_positions(&self.here, *slot);
            if !is_over {
                io.go_on();
            }
            is_over
        });
        if !over.is_empty() {
            self.broker.release_held(io, &mut self.here);
            self.broker.confirm_copies(&self.here);
            self.drop_all(io, &over);
        }
        for slot in &over {
            self.here
                .teller
                .tell(Kind::SlotReleased, second(now), |event| event.with(Field::Partition, u64::from(*slot)));
            let _ = self.around.notices.send(Notice::SlotReleased(*slot));
        }
        if over.len() < leaving.len()
            && let Some(at) = next
            && self.timers.note.is_none()
        {
            self.timers.note = Some(io.set_timer(at, Timer::Note.token()));
        }
    }

    /// Drops the slots among these that were here at that time: the group has given them to other instances, which go on from what Kafka has.
    pub(super) fn drop_slots(&mut self, io: &mut Ring<'_>, lost: &SlotSet, at: Monotonic) {
        let here = self.log.kafka.iter().flat_map(|logs| &logs.taken_at).filter(|(_, taken_at)| **taken_at <= at);
        let here: Vec<u16> = here.map(|(slot, _)| *slot).filter(|slot| lost.contains(*slot)).collect();
        if !here.is_empty() {
            self.drop_all(io, &here);
            let slots = in_words(here);
            self.here.teller.tell(Kind::SlotGone, second(io.now()), |event| event.with(Field::Slots, slots));
        }
    }

    /// Drops slots: connections of their clients, their sessions, their logs. Nothing is written. However many there are, the sessions of the shard are looked
    /// through once.
    pub(super) fn drop_all(&mut self, io: &mut Ring<'_>, slots: &[u16]) {
        slots.iter().for_each(|slot| self.leave_slot(*slot));
        slots.iter().for_each(|slot| self.end_bridges_of(io, *slot));
        let sessions = self.sessions_of(slots);
        for conn in sessions.iter().filter_map(|(_, conn)| *conn) {
            self.forget(io, conn);
            io.abort(conn);
        }
        slots.iter().for_each(|slot| self.drop_log(*slot));
        self.withdraw_rows_of(slots);
        for (key, _) in sessions {
            self.broker.delivery.remotes.remove(key);
            self.broker.delivery.shares.moves(key);
            let copies = self.broker.sessions.let_go(key);
            self.here.numbers.raise(M::CopiesMoved, copies);
        }
        let all = &self.here.slots;
        self.broker.sessions.let_go_of_wills(|client_id| is_one_of(slots, all.slot(client_id)));
        // Records that memory has dropped continue in the log, which may return here: none of them is ended later.
        self.broker.write_ends(&self.here, io.now());
        slots.iter().for_each(|slot| self.broker.keeping.given.leaves(*slot));
        self.broker.members_gone(&mut self.here, io.now());
        io.go_on();
    }

    /// Drops the log of a slot.
    fn drop_log(&mut self, slot: u16) {
        if let Some(logs) = &mut self.log.kafka {
            logs.disks.remove(&slot);
            logs.taken_at.remove(&slot);
            logs.served_until.remove(&slot);
            logs.leaving.remove(&slot);
            logs.found.retain(|(of, _)| *of != slot);
            self.here.numbers.set(M::SlotsHere, logs.disks.len() as u64);
        }
        self.broker.forget_written(&self.here, slot);
        if let Kept::OfSlots(buffers) = &mut self.broker.logs.kept {
            buffers.remove(&slot);
        }
        if let Some(rows) = &mut self.outlets.slot_rows {
            rows.end(slot);
        }
    }

    /// Drops rows of the clients of slots that are in no batch yet: others serve them now. A session may have ended before its slot is lost, so rows are
    /// known by their client as well. Wills of higher QoS stay: nobody publishes them again.
    fn withdraw_rows_of(&mut self, slots: &[u16]) {
        let (here, sessions, outlets) = (&self.here, &self.broker.sessions, &mut self.outlets);
        let rules = here.rules;
        let is_shared = here.slots.are_given_out() && rules.withdraws_rows();
        let Some(broker) = here.config.broker.as_ref().filter(|_| is_shared) else { return };
        let is_by_client_of_slot = |record: &Record<'_>| {
            let client = record.headers.last_of(names::CLIENT_ID.as_bytes());
            let client = client.and_then(|id| std::str::from_utf8(id).ok());
            is_one_of(slots, client.and_then(|id| here.slots.slot(id)))
        };
        let goes = |ticket: Option<Ticket>, record: &Record<'_>| match ticket.map(|ticket| Owner::of(ticket.session)) {
            Some(Owner::Session(key)) => match sessions.get(key) {
                Some(session) => is_one_of(slots, here.slots.slot(session.client_id())),
                None => rules.withdraws_ended() && is_by_client_of_slot(record),
            },
            Some(_) => false,
            None => record.headers.last_of(names::QOS.as_bytes()) == Some(b"0") && is_by_client_of_slot(record),
        };
        let Upstream { producer, members, busy, .. } = &mut outlets.upstreams[broker.cluster];
        let routes = members.own().filter(|(_, index)| here.config.sinks[*index].of_broker == Some(OfBroker::Route));
        for (sink, _) in routes {
            *busy |= producer.withdraw(sink, goes) > 0;
        }
    }

    /// Notes that this shard no longer serves a slot, and the slot's new owner.
    fn leave_slot(&self, slot: u16) {
        let to = place_of(slot, &self.around.peers.table(), &self.around.peers);
        self.here.slots.leave(slot, self.here.index, to);
    }

    /// The sessions of slots, each with its connection.
    fn sessions_of(&mut self, slots: &[u16]) -> Vec<(SessionKey, Option<ConnId>)> {
        let of_clients = &self.here.slots;
        let all = self.broker.sessions.iter_mut();
        all.filter(|(_, session)| is_one_of(slots, of_clients.slot(session.client_id())))
            .map(|(key, session)| (key, session.conn()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn finding_q14_lost_slots_are_one_line() {
        assert_eq!(in_words(vec![7, 1, 2, 0, 9, 10]), "0-2, 7, 9-10");
        assert_eq!(in_words((0..21).collect()), "0-20");
    }
}
