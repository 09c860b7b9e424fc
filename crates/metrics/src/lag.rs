//! The lag of each sink: the age of the oldest record that is not in Kafka. Shards are asked once a second while a sink holds
//! records, and their answers age by themselves.

use std::sync::{Mutex, PoisonError};

use super::collector::{Extra, Number};
use super::spec::{Kind, Spec};
use super::time::now_ms;

/// The metric.
pub const LAG: Spec = Spec {
    name: "sink_lag_seconds",
    label: None,
    help: "Age of the oldest record of the sink that is not in Kafka; 0: there is none.",
    kind: Kind::Gauge,
};

/// The lag of each sink.
#[derive(Debug, Default)]
pub struct Lag(Mutex<Vec<Sink>>);

#[derive(Debug, Default)]
struct Sink {
    name: String,
    /// Whether the sink holds records.
    holds: bool,
    /// When the oldest record in memory of each shard was taken, milliseconds since 1970.
    oldest: Vec<Option<i64>>,
    /// An estimate while all its records are on disk, so that none in memory has a time: about as old as this.
    since: Option<i64>,
}

impl Lag {
    fn sinks(&self) -> std::sync::MutexGuard<'_, Vec<Sink>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the present sinks, and whether they hold records. Returns whether any does.
    pub fn begin(&self, sinks: impl Iterator<Item = (String, bool)>) -> bool {
        let now = now_ms();
        let mut known = self.sinks();
        let mut count = 0;
        for (place, (name, holds)) in sinks.enumerate() {
            if place == known.len() {
                known.push(Sink::default());
            }
            let sink = &mut known[place];
            if holds {
                sink.since.get_or_insert(now);
            } else {
                (sink.oldest, sink.since) = (Vec::new(), None);
            }
            (sink.name, sink.holds) = (name, holds);
            count += usize::from(holds);
        }
        count > 0
    }

    /// Takes a shard's answer.
    pub fn told(&self, shard: usize, oldest: &[Option<i64>]) {
        for (sink, oldest) in self.sinks().iter_mut().zip(oldest).filter(|(sink, _)| sink.holds) {
            if shard >= sink.oldest.len() {
                sink.oldest.resize(shard + 1, None);
            }
            sink.oldest[shard] = *oldest;
            // The remaining records were taken later.
            sink.since = sink.since.max(*oldest);
        }
    }

    /// The lag of a sink.
    #[must_use]
    pub fn seconds(&self, sink: usize) -> f64 {
        self.sinks().get(sink).map_or(0.0, |sink| sink.seconds(now_ms()))
    }
}

impl Sink {
    fn seconds(&self, now_ms: i64) -> f64 {
        if !self.holds {
            return 0.0;
        }
        let oldest = self.oldest.iter().flatten().copied().min().or(self.since);
        oldest.map_or(0.0, |oldest| (now_ms - oldest).max(0) as f64 / 1e3)
    }
}

impl Extra for Lag {
    fn read(&self) -> Vec<Number> {
        let now = now_ms();
        let number =
            |sink: &Sink| Number { spec: LAG, labels: vec![("sink", sink.name.clone())], value: sink.seconds(now) };
        self.sinks().iter().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(holds: [bool; 2]) -> Lag {
        let lag = Lag::default();
        lag.begin(["a", "b"].into_iter().map(str::to_owned).zip(holds));
        lag
    }

    #[test]
    fn it_is_the_age_of_the_oldest_of_all_shards() {
        let lag = lag([true, false]);
        let now = now_ms();
        lag.told(0, &[Some(now - 5_000), Some(now - 9_000)]);
        lag.told(1, &[Some(now - 7_000), None]);
        assert!((7.0..8.0).contains(&lag.seconds(0)), "{lag:?}");
        assert_eq!((lag.seconds(1), lag.seconds(2)), (0.0, 0.0), "no records, and no sink");
        let numbers = lag.read();
        assert!(numbers.len() == 2 && numbers[0].value >= 7.0 && numbers[0].labels == [("sink", "a".to_owned())]);
    }

    /// No record is in memory: the age is an estimate.
    #[test]
    fn records_that_are_on_the_disk_alone_have_an_age() {
        let lag = lag([true, false]);
        let now = now_ms();
        lag.told(0, &[None, None]);
        assert!(lag.seconds(0) < 1.0);
        lag.told(0, &[Some(now + 60_000), None]);
        assert_eq!(lag.seconds(0), 0.0, "a clock that was set back");
        lag.begin([("a".to_owned(), false), ("b".to_owned(), false)].into_iter());
        lag.told(0, &[Some(now - 60_000), None]);
        assert_eq!(lag.seconds(0), 0.0, "an answer that comes late");
    }
}
