//! The process ends, at any point, and starts again: its memory is lost, its requests in flight may still be carried out, and the disk
//! keeps its contents.

use std::time::Duration;

use super::network::WAYS;
use super::plan::{Fault, routes};
use super::store::{Crash, Told, Watched};
use super::world::World;
use crate::kafka::producer::{AnsweredOn, Keep, Producer};
use crate::runtime::seam::{Monotonic, WallMs};
use crate::shard::dead_letters::DeadLetterQueue;

impl World {
    /// Applies a fault of the process or of its disk.
    pub(super) fn of_the_disk(&mut self, fault: Fault) {
        match fault {
            Fault::Power => self.crash(Crash::Power),
            Fault::Crash => self.crash(Crash::Kill),
            Fault::Device => self.cut_client(),
            _ => self.store.iter_mut().for_each(|store| store.fails(fault, &mut self.disk_rng)),
        }
    }

    pub(super) fn at(&self) -> (Monotonic, WallMs) {
        (self.clock.now(), self.clock.wall())
    }

    fn crash(&mut self, how: Crash) {
        self.ends(how, false);
    }

    /// Ends the process and starts it again. `saved`: the process has reported that all rows that must outlive it are
    /// on the disk.
    pub(super) fn ends(&mut self, how: Crash, saved: bool) {
        let at = self.at();
        let Some(store) = &mut self.store else { return };
        let restored = store.crash(how, at, &mut self.disk_rng);
        let found = store.found();
        self.told.being_dead_lettered(self.producer.rejected_in_log());
        let gone = self.told.crashed(&restored, &found, saved);
        self.trace.note(at.0, || format!("{how:?}, saved {saved}: found {} rows, {restored:?}", found.len()));
        if saved {
            self.judge.saved(&self.producer, &self.plan, &found);
        }
        self.judge.crashed(&self.producer, &gone, saved);
        let taken_up = found.iter().filter(|((lane, _), _)| restored.has(*lane));
        self.judge.taken_up(taken_up.map(|(_, row)| *row), &self.kafka);
        // A row that only memory had may come in late, after the next process has written, though it was answered on
        // arrival.
        let sinks = &self.plan.settings.sinks;
        let is_loose = |sink: usize| sinks[sink].keep != Keep::Disk && sinks[sink].answered_on == AnsweredOn::Append;
        let rows = (0u32..).zip(&self.judge.rows).filter(|(_, row)| is_loose(row.sink));
        self.told.loose.extend(rows.map(|(number, _)| number));
        self.judge.sums.rows_found += found.len() as u64;
        self.judge.sums.cuts_found += restored.cuts.len() as u64;
        for way in 0..WAYS {
            // The failures are reported to no process.
            self.network.cut(way, &mut self.rng);
        }
        self.topics_asked.clear();
        self.ids_asked.clear();
        self.questions.clear();
        let mut settings = self.plan.settings.clone();
        settings.seed = self.disk_rng.u64(..);
        self.letters = DeadLetterQueue::new(0, vec![routes(&settings.sinks)], Vec::new());
        self.producer = Producer::new(settings);
        self.promise.take();
        self.restore(restored);
        let longest = if self.disk_rng.u32(..4) == 0 { 3_000 } else { 20 };
        self.clock.pass(Duration::from_millis(self.disk_rng.u64(..longest)));
        // Some processes end again soon.
        if self.disk_rng.u32(..4) == 0 {
            for _ in 0..self.disk_rng.u32(..4) {
                self.turn();
                self.answers();
            }
            self.crash(how);
        }
    }

    /// Handles answers of the disk, in a rough run perhaps one or none.
    pub(super) fn answers(&mut self) {
        let now = self.clock.now();
        let Some(store) = &mut self.store else { return };
        if !self.rough {
            while store.answer(now) {}
        } else if self.disk_rng.bool() {
            store.answer(now);
        }
    }

    /// Runs the producer's turn, with its log, and then writes the log's contents to the disk.
    pub(super) fn poll(&mut self) {
        let at = self.at();
        self.promise.take();
        self.letters.forward(0, &mut self.producer, at, &mut |_, _, _| Vec::new());
        let Some(store) = &mut self.store else { return self.producer.poll(at.0, at.1, &mut self.requests) };
        let (producer, told, requests) = (&mut self.producer, &mut self.told, &mut self.requests);
        let unread = self.rough && self.plan.draws(Fault::Unread, &mut self.disk_rng);
        let later = if unread { self.disk_rng.u32(1..4) } else { 0 };
        store.with(at, later, |log| {
            told.durable_up_to(log.durable());
            let mut log = Watched { log, told, now: at.0 };
            producer.poll_with(at.0, at.1, &mut log, requests);
        });
        let now = at.0;
        for line in told.notes.iter_mut().flat_map(std::mem::take) {
            self.trace.note(now, || line);
        }
        // In some turns of a rough run the flush is delayed.
        if !self.rough || self.disk_rng.u32(..8) > 0 {
            let group = store.group();
            for (lane, runs) in store.make_room(now, producer).lanes() {
                self.trace.note(now, || format!("dropped: {runs:?} of lane {lane}"));
                runs.iter().for_each(|run| told.dropped(lane, *run, group, now));
            }
            store.flush(at, self.rough, &mut self.disk_rng);
        }
    }

    /// `wrong_with_log` finds what is wrong with the log and its disk.
    pub(super) fn wrong_with_log(&mut self) -> Option<String> {
        let Self { store, told, .. } = self;
        told.wrong().or_else(|| store.as_ref().and_then(|store| store.wrong(false)))
    }

    /// Whether the log has nothing left to do.
    pub(super) fn log_rests(&self) -> bool {
        self.store.as_ref().is_none_or(|store| store.is_idle() && self.told.live() == 0)
    }
}

/// The checker of a run's log.
pub(super) fn told(plan: &super::plan::Plan) -> Told {
    Told::new(&plan.settings.sinks)
}

impl World {
    /// Restores the producer from the findings of a start.
    fn restore(&mut self, restored: super::store::Restored) {
        self.producer.restore(restored.lanes, restored.cuts);
        self.restore_clients(&restored.sessions);
    }
}
