//! SIGTERM: reading stops, Kafka gets some time to answer, the rows that must outlive the process are written to the disk, and the
//! process ends, as in the shard (`shard/drain.rs`).

use std::time::Duration;

use super::store::{Crash, Watched};
use super::world::World;
use crate::kafka::producer::Keep;
use crate::kafka::types::SinkId;

/// Bound on the time for writing the remaining rows to the disk after the grace.
const SAVING: Duration = Duration::from_secs(3);

impl World {
    /// Stops the process in order, and starts it again.
    pub(super) fn stop(&mut self) {
        if self.store.is_none() {
            return;
        }
        self.producer.stop_lingering(self.clock.now());
        for _ in 0..self.disk_rng.u32(..60) {
            self.go_on();
            self.answers();
            self.turn();
            self.tell_clients();
        }
        if self.rests() {
            self.say_goodbye();
        }
        let saved = self.save();
        self.note(|| format!("stopped, saved: {saved}"));
        self.ends(Crash::Kill, saved);
    }

    /// Whether no row waits for Kafka alone.
    fn rests(&self) -> bool {
        let sinks = (0u16..).zip(&self.plan.settings.sinks).filter(|(_, sink)| sink.keep != Keep::Disk);
        sinks.map(|(sink, _)| self.producer.stats(SinkId(sink)).buffered_rows).sum::<u64>() == 0
    }

    /// Whether all rows that must outlive the process are on the disk.
    fn save(&mut self) -> bool {
        let saves = self.plan.settings.sinks.iter().any(|sink| !sink.reserved && sink.keep == Keep::HybridSaved);
        let (until, mut saved) = (self.clock.now().after(SAVING), !saves || !self.scope.rules.saves_at_stop());
        loop {
            let at = self.at();
            if saves {
                // The producer is not polled any more.
                let Some(store) = &mut self.store else { return false };
                let (producer, told) = (&mut self.producer, &mut self.told);
                store.with(at, 0, |log| {
                    told.durable_up_to(log.durable());
                    saved = saved || producer.save(&mut Watched { log, told, now: at.0 });
                });
                store.flush(at, self.rough, &mut self.disk_rng);
                self.look();
            } else {
                self.turn();
            }
            let Some(store) = &mut self.store else { return false };
            if saved && store.is_idle() {
                return true;
            }
            if at.0 >= until {
                return false;
            }
            match store.next_deadline() {
                Some(next) => self.clock.pass_until(next),
                None => self.clock.pass(Duration::from_millis(10)),
            }
            self.clock.pass(Duration::from_micros(100));
            let now = self.clock.now();
            while self.store.as_mut().is_some_and(|store| store.answer(now)) {}
        }
    }
}
