//! The history: values for the dashboard's plots of the last minutes by second, and of the last day by minute, in memory.
//!
//! Rates are stored instead of counters, so that a value means the same wherever it is, and a restart is a gap.

use std::collections::{HashMap, HashSet, VecDeque};

use super::series::{BUCKETS, Kind, Reading, Step};
use forebay_base::limits::{HISTORY_BYTES_MAX, HISTORY_MINUTES, HISTORY_SECONDS};

/// A thing with series: the service, or a sink, source, rule or cluster by its place in the configuration.
pub type Object = (Kind, usize);

/// The most series that fit into the memory.
const COLUMNS_MAX: usize = HISTORY_BYTES_MAX / (size_of::<f32>() * (HISTORY_SECONDS + HISTORY_MINUTES));
/// The time between two values of the slow ring, in seconds.
const MINUTE_S: f64 = 60.0;

/// The stored history.
#[derive(Debug, Default)]
pub struct History {
    /// The objects that have columns. One that is gone gives them back.
    known: HashSet<Object>,
    seconds: Ring,
    minutes: Ring,
    last: Option<Reading>,
    minute_began: Option<Reading>,
}

/// Values of some time, and when they were taken.
#[derive(Debug, Default)]
struct Ring {
    at_ms: VecDeque<i64>,
    columns: HashMap<Object, Vec<VecDeque<f32>>>,
}

impl Ring {
    /// Adds the values of a moment: those of `objects` one after the other, of which the known ones are kept. New columns have no values before it.
    fn add(&mut self, known: &HashSet<Object>, longest: usize, (at_ms, objects, values): (i64, &[Object], &[f64])) {
        self.columns.retain(|object, _| known.contains(object));
        if self.at_ms.len() >= longest {
            self.at_ms.pop_front();
            self.columns.values_mut().flatten().for_each(|column| _ = column.pop_front());
        }
        let before = self.at_ms.len();
        self.at_ms.push_back(at_ms);
        let mut begin = 0;
        for object in objects {
            if known.contains(object) {
                let new = || kept(object.0).map(|_| std::iter::repeat_n(f32::NAN, before).collect()).collect();
                let columns = self.columns.entry(*object).or_insert_with(new);
                columns
                    .iter_mut()
                    .zip(kept(object.0))
                    .for_each(|(column, of)| column.push_back(values[begin + of] as f32));
            }
            begin += object.0.width();
        }
    }
}

/// An excerpt of the history.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The times of the values, in milliseconds since 1970: each value covers the time since the one before.
    pub at_ms: Vec<i64>,
    /// For each series its values at these times; NaN: there is none.
    pub values: Vec<Vec<f32>>,
}

/// The indexes of the stored series of a kind.
fn kept(kind: Kind) -> impl Iterator<Item = usize> {
    let series = kind.series().iter().enumerate().filter(|(_, series)| series.kept).map(|(place, _)| place);
    series.chain(kind.series().len()..kind.width())
}

impl History {
    /// Takes a reading. Returns the values of these objects since the reading before, one after the other; `None`: it is the first.
    pub fn add(&mut self, now: Reading, at_ms: i64, objects: &[Object]) -> Option<Vec<f64>> {
        self.give_columns(objects);
        let then = self.last.replace(now.clone());
        let began = self.minute_began.get_or_insert_with(|| now.clone());
        let past = now.sample.at().duration_since(began.sample.at()).as_secs_f64();
        if past >= MINUTE_S {
            let began = std::mem::replace(began, now.clone());
            let values = values(&began, &now, objects);
            self.minutes.add(&self.known, HISTORY_MINUTES, (at_ms, objects, &values));
        }
        let values = values(&then?, &now, objects);
        self.seconds.add(&self.known, HISTORY_SECONDS, (at_ms, objects, &values));
        Some(values)
    }

    /// Gives columns to objects that have none, while there is memory, and takes them from those that are gone.
    fn give_columns(&mut self, objects: &[Object]) {
        let there: HashSet<&Object> = objects.iter().collect();
        self.known.retain(|object| there.contains(object));
        let mut columns = self.columns();
        for object in objects {
            let count = kept(object.0).count();
            if !self.known.contains(object) && columns + count <= COLUMNS_MAX {
                self.known.insert(*object);
                columns += count;
            }
        }
    }

    fn columns(&self) -> usize {
        self.known.iter().map(|object| kept(object.0).count()).sum()
    }

    /// Whether an object has a history.
    #[must_use]
    pub fn has(&self, object: Object) -> bool {
        self.known.contains(&object)
    }

    /// The series of an object after a time: empty, if it has no history yet. A histogram's name stands for all its buckets.
    /// `None`: a name is not one of its series.
    #[must_use]
    pub fn part(&self, object: Object, names: &[&str], by_minute: bool, since_ms: i64) -> Option<Part> {
        let ring = if by_minute { &self.minutes } else { &self.seconds };
        let columns = ring.columns.get(&object);
        let from = columns.map_or(ring.at_ms.len(), |_| ring.at_ms.partition_point(|at| *at <= since_ms));
        let mut part = Part { at_ms: ring.at_ms.iter().skip(from).copied().collect(), values: Vec::new() };
        for name in names {
            for place in places(object.0, name)? {
                let column = columns.and_then(|columns| columns.get(place));
                part.values.push(column.into_iter().flat_map(|column| column.iter().skip(from)).copied().collect());
            }
        }
        Some(part)
    }
}

/// The columns of a series, or of a histogram, among those of their object.
fn places(kind: Kind, name: &str) -> Option<std::ops::Range<usize>> {
    let mut names = kind.series().iter().filter(|series| series.kept).map(|series| series.name);
    let count = names.clone().count();
    if kind.histogram() == Some(name) {
        return Some(count..count + BUCKETS);
    }
    names.position(|known| known == name).map(|place| place..place + 1)
}

fn values(then: &Reading, now: &Reading, objects: &[Object]) -> Vec<f64> {
    let then = then.grown(now.sample.layout());
    let (step, mut values) = (Step { then: &then, now }, Vec::new());
    objects.iter().for_each(|(kind, index)| kind.values(&step, *index, &mut values));
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;
    use crate::collector::Boards;
    use crate::samples::Sample;
    use crate::spec::{Layout, ShardMetric, SinkMetric};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    struct World {
        boards: Boards,
        values: Vec<u64>,
        begin: Instant,
    }

    const OBJECTS: &[Object] = &[(Kind::Totals, 0), (Kind::Sink, 0)];

    impl World {
        fn new() -> Self {
            let layout = Layout { sinks: 1, clusters: 0, listeners: 0, sources: 0, rules: 0, bridges: 0 };
            let boards = Boards {
                shards: vec![Arc::new(Board::new(layout))],
                sinks: vec!["s".into()],
                clusters: Vec::new(),
                listeners: Vec::new(),
                sources: Vec::new(),
                rules: Vec::new(),
                bridges: Vec::new(),
            };
            Self { boards, values: vec![0; layout.len()], begin: Instant::now() }
        }

        /// A reading of `received` publishes, of which the sink has taken half, `s` seconds after the start.
        fn at(&mut self, s: u64, received: u64) -> Reading {
            let layout = self.boards.layout();
            self.values[ShardMetric::PublishesQos1 as usize] = received;
            self.values[layout.sink(0, SinkMetric::Matched)] = received / 2;
            self.boards.shards[0].publish(&self.values, 0..self.values.len());
            let sample = Sample::of(&self.boards, self.begin + Duration::from_secs(s));
            Reading::new(&self.boards, sample, vec![0.5], Default::default())
        }
    }

    fn of(history: &History, object: Object, name: &str, by_minute: bool) -> (Vec<i64>, Vec<f32>) {
        let part = history.part(object, &[name], by_minute, 0).expect("a series");
        (part.at_ms, part.values[0].clone())
    }

    #[test]
    fn seconds_and_minutes_are_rates_of_their_own_time() {
        let (mut world, mut history) = (World::new(), History::default());
        for s in 0..=120 {
            // 10 a second in the first minute, 30 in the second.
            let received = if s <= 60 { 10 * s } else { 600 + 30 * (s - 60) };
            let row = history.add(world.at(s, received), 1_000 * s as i64, OBJECTS);
            assert_eq!(row.is_some(), s > 0);
        }
        let (at, received) = of(&history, OBJECTS[0], "received_per_second", false);
        assert_eq!((at.len(), at[0], received[0], received[119]), (120, 1_000, 10.0, 30.0));
        let (at, received) = of(&history, OBJECTS[0], "received_per_second", true);
        assert_eq!((at, received), (vec![60_000, 120_000], vec![10.0, 30.0]));
        assert_eq!(of(&history, OBJECTS[1], "records_in_per_second", true).1, [5.0, 15.0]);
        assert_eq!(of(&history, OBJECTS[1], "lag_seconds", false).1[7], 0.5);
        let part = history.part(OBJECTS[0], &["ack_buckets", "connections"], false, 118_000).expect("series");
        assert_eq!((part.at_ms, part.values.len()), (vec![119_000, 120_000], BUCKETS + 1));
        assert!(history.part(OBJECTS[0], &["records_in"], false, 0).is_none(), "counters are not kept");
        let new = history.part((Kind::Sink, 1), &["lag_seconds"], false, 0).expect("a series");
        assert_eq!((new.at_ms, new.values), (vec![], vec![vec![]]), "it has no history yet");
    }

    #[test]
    fn the_history_is_bounded_and_what_is_new_begins_with_gaps() {
        let (mut world, mut history) = (World::new(), History::default());
        (0..=HISTORY_SECONDS as u64 + 5).for_each(|s| {
            let objects = if s < 5 { &OBJECTS[..1] } else { OBJECTS };
            history.add(world.at(s, s), s as i64, objects);
        });
        let (at, lags) = of(&history, OBJECTS[1], "lag_seconds", false);
        assert_eq!((at.len(), at[0], lags.len()), (HISTORY_SECONDS, 6, HISTORY_SECONDS));
        let (mut world, mut history) = (World::new(), History::default());
        history.add(world.at(0, 0), 0, &OBJECTS[..1]);
        history.add(world.at(1, 0), 1, &OBJECTS[..1]);
        history.add(world.at(2, 0), 2, OBJECTS);
        let lags = of(&history, OBJECTS[1], "lag_seconds", false).1;
        assert!(lags[0].is_nan() && lags[1] == 0.5);
        let many: Vec<Object> = (0..COLUMNS_MAX).map(|sink| (Kind::Sink, sink)).collect();
        history.give_columns(&many);
        assert!(history.columns() <= COLUMNS_MAX && !history.has(many[COLUMNS_MAX - 1]));
    }

    /// Objects that come and go leave nothing, and take no place from those that come later.
    #[test]
    fn finding_q18_an_object_that_is_gone_gives_its_columns_back() {
        let (mut world, mut history) = (World::new(), History::default());
        for s in 0..=200 {
            let objects = if s % 2 == 0 { OBJECTS } else { &OBJECTS[..1] };
            history.add(world.at(s, s), s as i64, objects);
        }
        history.add(world.at(300, 300), 300, &OBJECTS[..1]);
        assert!(!history.has(OBJECTS[1]));
        for ring in [&history.seconds, &history.minutes] {
            assert_eq!(ring.columns.keys().collect::<Vec<_>>(), [&OBJECTS[0]]);
        }
        let many: Vec<Object> = (0..COLUMNS_MAX).map(|sink| (Kind::Sink, sink)).collect();
        history.give_columns(&many);
        history.give_columns(&many[COLUMNS_MAX - 1..]);
        assert!(history.has(many[COLUMNS_MAX - 1]), "room that others had");
    }
}
