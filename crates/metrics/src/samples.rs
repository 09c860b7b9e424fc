//! Samples of the boards, once a second: from them come rates over the last seconds, and whether a sink makes progress.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::collector::Boards;
use super::spec::{BridgeMetric, ClusterMetric, Layout, RuleMetric, SinkMetric, SourceMetric};

/// The span of rates, and the time after which a sink that holds messages and settles none is called stalled.
pub const WINDOW: Duration = Duration::from_secs(10);
/// The time between two samples.
pub const EVERY: Duration = Duration::from_secs(1);

/// All numbers of a moment, summed over the shards.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    values: Vec<u64>,
    layout: Layout,
}

impl Sample {
    /// Samples the boards.
    #[must_use]
    pub fn of(boards: &Boards, at: Instant) -> Self {
        let layout = boards.layout();
        let mut values = vec![0; layout.len()];
        for snapshot in boards.read() {
            values.iter_mut().zip(snapshot).for_each(|(sum, value)| *sum += value);
        }
        Self { at, values, layout }
    }

    /// The sample in a larger layout: new numbers are 0.
    #[must_use]
    pub fn grown(&self, layout: Layout) -> Self {
        Self { at: self.at, values: self.layout.grown(&self.values, layout), layout }
    }

    /// The sample's layout.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// When the sample was taken.
    #[must_use]
    pub const fn at(&self) -> Instant {
        self.at
    }

    /// A place of the board.
    #[must_use]
    pub fn place(&self, place: usize) -> u64 {
        self.values[place]
    }

    /// A number of a sink.
    #[must_use]
    pub fn sink(&self, sink: usize, metric: SinkMetric) -> u64 {
        self.values[self.layout.sink(sink, metric)]
    }

    /// A number of a rule.
    #[must_use]
    pub fn rule(&self, rule: usize, metric: RuleMetric) -> u64 {
        self.values[self.layout.rule(rule, metric)]
    }

    /// A number of a bridge.
    #[must_use]
    pub fn bridge(&self, bridge: usize, metric: BridgeMetric) -> u64 {
        self.values[self.layout.bridge(bridge, metric)]
    }

    /// A number of a source.
    #[must_use]
    pub fn source(&self, source: usize, metric: SourceMetric) -> u64 {
        self.values[self.layout.source(source, metric)]
    }

    /// A number of a cluster.
    #[must_use]
    pub fn cluster(&self, cluster: usize, metric: ClusterMetric) -> u64 {
        self.values[self.layout.cluster(cluster, metric)]
    }

    /// Messages of a sink that ended elsewhere than in Kafka.
    #[must_use]
    pub fn failed(&self, sink: usize) -> u64 {
        SinkMetric::FAILED.iter().map(|metric| self.sink(sink, *metric)).sum()
    }

    /// Messages of a sink that have ended, delivered or not.
    #[must_use]
    pub fn settled(&self, sink: usize) -> u64 {
        self.sink(sink, SinkMetric::Delivered) + self.failed(sink)
    }
}

/// The state of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Records are settled, or there are none.
    Running,
    /// Messages wait, and none was settled within [`WINDOW`].
    Stalled,
    /// No shard has a connection to its cluster.
    Unreachable,
}

impl State {
    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The numbers of a moment, and their change up to it.
#[derive(Clone, Debug)]
pub struct Span {
    /// The oldest sample of the window.
    pub then: Sample,
    /// The moment.
    pub now: Sample,
}

impl Span {
    /// Growth per second.
    #[must_use]
    pub fn per_s(&self, of: impl Fn(&Sample) -> u64) -> f64 {
        let seconds = self.now.at.duration_since(self.then.at).as_secs_f64();
        let grown = of(&self.now).saturating_sub(of(&self.then));
        if seconds > 0.0 { (grown as f64 / seconds * 10.0).round() / 10.0 } else { 0.0 }
    }

    /// The state of a sink of this cluster.
    #[must_use]
    pub fn state(&self, sink: usize, cluster: usize) -> State {
        let (then, now) = (&self.then, &self.now);
        let buffered = |sample: &Sample| sample.sink(sink, SinkMetric::BufferedRows);
        if now.cluster(cluster, ClusterMetric::Reachable) == 0 {
            return State::Unreachable;
        }
        // Records that waited then still wait, if none was settled since.
        let stands = buffered(then) > 0 && buffered(now) > 0 && then.settled(sink) == now.settled(sink);
        if stands && now.at.duration_since(then.at) >= WINDOW { State::Stalled } else { State::Running }
    }
}

/// The samples of the window.
#[derive(Debug, Default)]
pub struct Samples {
    kept: Mutex<VecDeque<Sample>>,
}

impl Samples {
    /// Adds a sample; samples that the window does not need any more are removed.
    pub fn add(&self, sample: Sample) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = sample.at.checked_sub(WINDOW);
        // The oldest stored sample is as old as the window, or older.
        while kept.get(1).is_some_and(|second| begin.is_some_and(|begin| second.at <= begin)) {
            kept.pop_front();
        }
        kept.push_back(sample);
    }

    /// The span from the oldest sample of the window to now.
    #[must_use]
    pub fn span(&self, boards: &Boards) -> Span {
        let now = Sample::of(boards, Instant::now());
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Span { then: kept.front().unwrap_or(&now).grown(now.layout), now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;
    use std::sync::Arc;

    struct World {
        boards: Boards,
        values: Vec<u64>,
        start: Instant,
    }

    impl World {
        fn new() -> Self {
            let layout = Layout { sinks: 1, clusters: 1, listeners: 0, sources: 0, rules: 0, bridges: 0 };
            let boards = Boards {
                shards: (0..2).map(|_| Arc::new(Board::new(layout))).collect(),
                sinks: vec!["s".into()],
                clusters: vec!["k".into()],
                listeners: Vec::new(),
                sources: Vec::new(),
                rules: Vec::new(),
                bridges: Vec::new(),
            };
            Self { boards, values: vec![0; layout.len()], start: Instant::now() }
        }

        /// A sample in which both shards have these numbers, `s` seconds after the start.
        fn at(&mut self, s: u64, [matched, delivered, reachable]: [u64; 3]) -> Sample {
            let layout = self.boards.layout();
            self.values[layout.sink(0, SinkMetric::Matched)] = matched;
            self.values[layout.sink(0, SinkMetric::Delivered)] = delivered;
            self.values[layout.sink(0, SinkMetric::BufferedRows)] = matched - delivered;
            self.values[layout.cluster(0, ClusterMetric::Reachable)] = reachable;
            self.boards.shards.iter().for_each(|board| board.publish(&self.values, 0..self.values.len()));
            Sample::of(&self.boards, self.start + Duration::from_secs(s))
        }
    }

    #[test]
    fn a_rate_is_of_all_shards_over_the_window() {
        let mut world = World::new();
        let span = Span { then: world.at(0, [100, 50, 1]), now: world.at(10, [200, 170, 1]) };
        assert_eq!(span.per_s(|sample| sample.sink(0, SinkMetric::Matched)), 20.0);
        assert_eq!(span.per_s(|sample| sample.settled(0)), 24.0);
        let none = Span { then: span.now.clone(), now: span.now };
        assert_eq!(none.per_s(|sample| sample.settled(0)), 0.0);
    }

    #[test]
    fn a_sink_is_stalled_when_what_waits_is_not_settled_for_the_whole_window() {
        let mut world = World::new();
        let mut state =
            |from: [u64; 3], to: [u64; 3], s: u64| Span { then: world.at(0, from), now: world.at(s, to) }.state(0, 0);
        assert_eq!(state([10, 5, 1], [10, 5, 1], 10), State::Stalled);
        assert_eq!(state([10, 5, 1], [10, 5, 1], 9), State::Running, "not yet");
        assert_eq!(state([10, 5, 1], [20, 6, 1], 10), State::Running, "one was settled");
        assert_eq!(state([10, 10, 1], [20, 10, 1], 10), State::Running, "what waits has come since");
        assert_eq!(state([10, 5, 1], [10, 5, 0], 10), State::Unreachable);
    }

    #[test]
    fn the_window_keeps_one_sample_that_is_as_old_as_it_is() {
        let mut world = World::new();
        let samples = Samples::default();
        (0..30).for_each(|s| samples.add(world.at(s, [0, 0, 1])));
        let kept = samples.kept.lock().expect("nobody panicked");
        assert_eq!((kept.front().map(|first| first.at - world.start), kept.len()), (Some(Duration::from_secs(19)), 11));
    }
}
