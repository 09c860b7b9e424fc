//! The observer's thread: takes events out of the shards' queue, samples the boards once a second, and reports sinks that make no
//! progress, sources with records that nobody has, and, once a minute, each sink's numbers. Gives memory back to the system after a burst.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::control::{Shown, Sink, View};
use crate::metrics::event::{Event, Field, Kind};
use crate::metrics::inspect::{Ask, Told};
use crate::metrics::machine;
use crate::metrics::samples::{EVERY, Sample, Span, State, WINDOW};
use crate::metrics::source_lag::PARTITIONS_MAX;
use crate::metrics::spec::{ClusterMetric, SinkMetric, SourceMetric};

use super::trimmer::Trimmer;

/// The time between two reports of a sink's numbers.
const STATISTICS_EVERY: Duration = Duration::from_secs(60);

/// The shortest time between two reports of what a source has dropped.
const DROPS_EVERY: Duration = Duration::from_secs(60);

/// Records of a source that nobody has, by the reason. A record that is no message has an event of its own.
const DROPS: [(SourceMetric, &str); 4] = [
    (SourceMetric::NoSubscriber, "had no subscriber (`no_subscriber = \"drop\"`)"),
    (SourceMetric::Lost, "were published, and the sessions that they were for have ended or had no room"),
    (SourceMetric::Expired, "had expired"),
    (SourceMetric::Refused, "were refused by a sink"),
];

/// The drops of a source when they were last reported.
#[derive(Clone, Copy, Debug, Default)]
struct Dropped {
    counts: [u64; DROPS.len()],
    told: Option<Instant>,
}

/// The running thread. Unreported events are reported when it is stopped.
#[derive(Debug)]
pub(super) struct Observer {
    thread: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Observer {
    pub(super) fn start(shown: Shown) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut look = Look::new(shown);
        let waker = Arc::clone(&look.view.journal);
        let thread = std::thread::Builder::new().name("observer".into()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                look.at(Instant::now());
                std::thread::park_timeout(look.left(Instant::now()));
            }
            look.view.journal.collect();
        })?;
        waker.collected_by(thread.thread().clone());
        Ok(Self { thread: Some((stop, thread)) })
    }

    /// Ends the thread, once everything is reported.
    pub(super) fn stop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            stop.store(true, Ordering::Release);
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The state of the thread from one look to the next.
struct Look {
    shown: Shown,
    /// The view at the last sample.
    view: Arc<View>,
    sampled: Option<Instant>,
    /// The sample of the last statistics.
    told: Sample,
    states: Vec<State>,
    /// The reported drops of each source.
    dropped: Vec<Dropped>,
    /// Whether each cluster has never been reached since the process began, and that has not been reported yet.
    unheard: Vec<bool>,
    trimmer: Trimmer,
    /// When clients were first seen to be accepted: before that shards may have sent nothing to Kafka.
    ready: Option<Instant>,
}

impl Look {
    fn new(shown: Shown) -> Self {
        let view = shown.view();
        let told = Sample::of(&view.boards, Instant::now());
        let states = vec![State::Running; view.described.sinks.len()];
        let dropped = vec![Dropped::default(); view.boards.layout().sources];
        let unheard = vec![true; view.described.clusters.len()];
        Self { shown, view, sampled: None, told, states, dropped, unheard, trimmer: Trimmer::default(), ready: None }
    }

    /// Updates the view: there may be more sinks and clusters.
    fn look_again(&mut self) {
        self.view = self.shown.view();
        self.states.resize(self.view.described.sinks.len(), State::Running);
        self.dropped.resize_with(self.view.boards.layout().sources, Dropped::default);
        // The shards report clusters that were added.
        self.unheard.resize(self.view.described.clusters.len(), false);
        self.told = self.told.grown(self.view.boards.layout());
    }

    /// The time until the next sample.
    fn left(&self, now: Instant) -> Duration {
        self.sampled.map_or(EVERY, |last| EVERY.saturating_sub(now.duration_since(last)))
    }

    fn at(&mut self, now: Instant) {
        self.view.journal.collect();
        if self.sampled.is_some_and(|last| now.duration_since(last) < EVERY) {
            return;
        }
        self.sampled = Some(now);
        self.look_again();
        let sample = Sample::of(&self.view.boards, now);
        self.view.samples.add(sample.clone());
        if machine::look(self.view.described.memory_high_watermark) {
            if machine::is_short_of_memory() {
                tracing::warn!(
                    "the machine is short of memory: sinks with memory_overload_protection drop their oldest records"
                );
            } else {
                tracing::info!("the machine is no longer short of memory");
            }
        }
        self.trimmer.look(&sample, self.view.described.clusters.len());
        self.ask_for_lag(&sample);
        self.ask_for_source_lag(&sample);
        self.tell_unheard(&sample);
        self.tell_dropped(&sample);
        let span = self.view.samples.span(&self.view.boards);
        self.view.live.look(&self.view, &span);
        self.tell_states(&span);
        if now.duration_since(self.told.at()) >= STATISTICS_EVERY {
            self.tell_statistics(sample);
        }
    }

    /// Asks the shards for the age of their oldest rows, if they have any: an idle shard is left asleep.
    fn ask_for_lag(&self, sample: &Sample) {
        let View { described, lag, shards, .. } = &*self.view;
        let holds =
            |(index, sink): (usize, &Sink)| (sink.name.clone(), sample.sink(index, SinkMetric::BufferedRows) > 0);
        if !lag.begin(described.sinks.iter().enumerate().map(holds)) {
            return;
        }
        for shard in 0..shards.count() {
            let lag = Arc::clone(lag);
            let answer = Box::new(move |told| {
                if let Told::Oldest(oldest) = told {
                    lag.told(shard, &oldest);
                }
            });
            // A full mailbox may have room in a second.
            let _ = shards.ask(shard, Ask::Oldest, answer);
        }
    }

    /// Asks the shards for the lag of partitions, if they read some.
    fn ask_for_source_lag(&self, sample: &Sample) {
        let View { described, source_lag, shards, .. } = &*self.view;
        let reads = |source| sample.source(source, SourceMetric::Partitions) > 0;
        if !(0..described.sources.len()).any(reads) {
            return source_lag.none();
        }
        for shard in 0..shards.count() {
            let (source_lag, described) = (Arc::clone(source_lag), Arc::clone(described));
            let answer = Box::new(move |told| {
                if let Told::Sources(found) = told {
                    source_lag.told(shard, found, |source| Some(described.sources.get(source)?.name.as_str()));
                }
            });
            // A full mailbox may have room in a second.
            let _ = shards.ask(shard, Ask::Sources { source: None, limit: PARTITIONS_MAX }, answer);
        }
    }

    /// Reports a cluster that was never reached: it cannot be lost, so no shard reports it. Startup reports its own obstacles.
    fn tell_unheard(&mut self, sample: &Sample) {
        if self.ready.is_none() && !self.view.ready.load(Ordering::Acquire) {
            return;
        }
        let over = sample.at().duration_since(*self.ready.get_or_insert(sample.at())) >= WINDOW;
        for (index, cluster) in self.view.described.clusters.iter().enumerate() {
            let reached = sample.cluster(index, ClusterMetric::Reachable) > 0;
            let unheard = &mut self.unheard[index];
            if *unheard && over && !reached {
                self.view.journal.say(Event::now(Kind::KafkaUnreachable).with(Field::Kafka, cluster.name.as_str()));
            }
            *unheard &= !reached && !over;
        }
    }

    /// Reports what sources have dropped, the first time at once and then once a minute.
    fn tell_dropped(&mut self, sample: &Sample) {
        let View { journal, described, .. } = &*self.view;
        let all = described.sources.iter().zip(&mut self.dropped).enumerate();
        for (index, (source, dropped)) in all.filter(|(_, (source, _))| !source.is_of_broker) {
            let counts = DROPS.map(|(metric, _)| sample.source(index, metric));
            let more: Vec<u64> =
                counts.iter().zip(dropped.counts).map(|(now, then)| now.saturating_sub(then)).collect();
            let is_due = dropped.told.is_none_or(|told| sample.at().duration_since(told) >= DROPS_EVERY);
            if !is_due || more.iter().all(|count| *count == 0) {
                continue;
            }
            *dropped = Dropped { counts, told: Some(sample.at()) };
            let words = more.iter().zip(DROPS).filter(|(count, _)| **count > 0);
            let words: Vec<String> = words.map(|(count, (_, what))| format!("{count} {what}")).collect();
            let event = Event::now(Kind::SourceDropped).with(Field::Source, source.name.as_str());
            journal.say(event.with(Field::Records, more.iter().sum::<u64>()).with(Field::Reason, words.join("; ")));
        }
    }

    /// Reports the states of sinks. The shards report a cluster that cannot be reached; its sinks are not reported one by one.
    fn tell_states(&mut self, span: &Span) {
        let (journal, described) = (&self.view.journal, &self.view.described);
        for (index, sink) in described.sinks.iter().enumerate() {
            // A paused sink makes no progress by intent.
            let state = if sink.is_paused { State::Running } else { span.state(index, sink.cluster) };
            let before = std::mem::replace(&mut self.states[index], state);
            let kafka = described.clusters[sink.cluster].name.as_str();
            let event = |kind| Event::now(kind).with(Field::Sink, sink.name.as_str()).with(Field::Kafka, kafka);
            match (before, state) {
                (State::Running | State::Unreachable, State::Stalled) => {
                    let buffered = span.now.sink(index, SinkMetric::BufferedRows);
                    let event = event(Kind::SinkStalled).with(Field::Buffered, buffered);
                    journal.say(event.maybe(Field::Reason, described.reason(span, journal, index)));
                }
                (State::Stalled, State::Running) => journal.say(event(Kind::SinkRunning)),
                _ => {}
            }
        }
    }

    /// Reports the numbers of sinks that have done something, or hold something.
    fn tell_statistics(&mut self, sample: Sample) {
        let span = Span { then: std::mem::replace(&mut self.told, sample.clone()), now: sample };
        let minutes = span.now.at().duration_since(span.then.at()).as_secs_f64() / 60.0;
        for (index, sink) in self.view.described.sinks.iter().enumerate() {
            let grown = |of: &dyn Fn(&Sample) -> u64| of(&span.now).saturating_sub(of(&span.then));
            let matched = grown(&|sample| sample.sink(index, SinkMetric::Matched));
            let settled = grown(&|sample| sample.settled(index));
            let buffered = span.now.sink(index, SinkMetric::BufferedRows);
            if matched + settled + buffered == 0 {
                continue;
            }
            let event = Event::now(Kind::SinkStatistics)
                .with(Field::Sink, sink.name.as_str())
                .with(Field::Matched, matched)
                .with(Field::Delivered, grown(&|sample| sample.sink(index, SinkMetric::Delivered)))
                .with(Field::Failed, grown(&|sample| sample.failed(index)))
                .with(Field::Buffered, buffered)
                .with(Field::PerMinute, (settled as f64 / minutes).round() as u64);
            self.view.journal.say(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Cluster, Described, Sink, Source};
    use crate::metrics::board::Board;
    use crate::metrics::collector::Boards;
    use crate::metrics::journal::Filter;

    fn world() -> Look {
        let sink = |name: &str| Sink {
            name: name.into(),
            description: None,
            cluster: 0,
            filters: vec!["#".into()],
            topic: None,
            acknowledge: "replicated",
            dead_letters: None,
            is_removed: false,
            is_paused: false,
        };
        let described = Described {
            sinks: vec![sink("busy"), sink("idle")],
            clusters: vec![Cluster {
                name: "main".into(),
                description: None,
                bootstrap: Vec::new(),
                is_removed: false,
            }],
            sources: vec![Source {
                name: "commands".into(),
                description: None,
                cluster: 0,
                topics: Vec::new(),
                group: None,
                is_removed: false,
                is_paused: false,
                from: String::new(),
                rules: Vec::new(),
                is_unused: false,
                is_of_broker: false,
            }],
            ..Described::default()
        };
        let mut boards = Boards {
            shards: Vec::new(),
            sinks: vec!["busy".into(), "idle".into()],
            clusters: vec!["main".into()],
            listeners: Vec::new(),
            sources: vec!["commands".into()],
            rules: Vec::new(),
            bridges: Vec::new(),
        };
        boards.shards.push(Arc::new(Board::new(boards.layout())));
        Look::new(Shown::new(View::idle(boards, described)))
    }

    fn publish(look: &Look, [matched, delivered, refused]: [u64; 3]) {
        let layout = look.view.boards.layout();
        let mut values = vec![0; layout.len()];
        values[layout.sink(0, SinkMetric::Matched)] = matched;
        values[layout.sink(0, SinkMetric::Delivered)] = delivered;
        values[layout.sink(0, SinkMetric::Refused)] = refused;
        values[layout.sink(0, SinkMetric::BufferedRows)] = matched - delivered - refused;
        values[layout.cluster(0, ClusterMetric::Reachable)] = 1;
        look.view.boards.shards[0].publish(&values, 0..values.len());
    }

    /// Records of a source that nobody has are an event, at once and then once a minute.
    #[test]
    fn finding_q33_what_a_source_drops_is_an_event() {
        let mut look = world();
        let start = look.told.at();
        let drops = |look: &Look, no_subscriber: u64, expired: u64| {
            let layout = look.view.boards.layout();
            let mut values = vec![0; layout.len()];
            values[layout.source(0, SourceMetric::NoSubscriber)] = no_subscriber;
            values[layout.source(0, SourceMetric::Expired)] = expired;
            look.view.boards.shards[0].publish(&values, 0..values.len());
        };
        look.at(start);
        assert_eq!(told(&look), []);
        drops(&look, 50, 0);
        (1..60).for_each(|s| look.at(start + Duration::from_secs(s)));
        drops(&look, 51, 1);
        let events = told(&look);
        assert_eq!((events.len(), events[0].kind), (1, Kind::SourceDropped), "{events:?}");
        assert_eq!((events[0].text(Field::Source), events[0].number(Field::Records)), (Some("commands"), Some(50)));
        assert!(events[0].text(Field::Reason).is_some_and(|why| why.starts_with("50 had no subscriber")), "{events:?}");
        (60..200).for_each(|s| look.at(start + Duration::from_secs(s)));
        let events = told(&look);
        assert_eq!((events.len(), events[1].number(Field::Records)), (2, Some(2)), "{events:?}");
        assert!(events[1].text(Field::Reason).is_some_and(|why| why.ends_with("; 1 had expired")), "{events:?}");
    }

    fn told(look: &Look) -> Vec<Event> {
        look.view.journal.page(&Filter::default()).events.into_iter().map(|(_, event)| event).collect()
    }

    #[test]
    fn once_a_minute_a_sink_that_did_something_says_what() {
        let mut look = world();
        let start = look.told.at();
        publish(&look, [100, 90, 4]);
        (1..=119).for_each(|s| look.at(start + Duration::from_secs(s)));
        let events: Vec<_> = told(&look).into_iter().filter(|event| event.kind == Kind::SinkStatistics).collect();
        assert_eq!(events.len(), 1, "of the busy one, in the first minute: {events:?}");
        assert_eq!(events[0].text(Field::Sink), Some("busy"));
        let numbers = [Field::Matched, Field::Delivered, Field::Failed, Field::Buffered, Field::PerMinute];
        assert_eq!(numbers.map(|field| events[0].number(field)), [100, 90, 4, 6, 94].map(Some));
    }

    #[test]
    fn a_cluster_that_is_not_there_once_the_start_is_over_is_told_of_once() {
        let mut look = world();
        let start = look.told.at();
        (0..30).for_each(|s| look.at(start + Duration::from_secs(s)));
        assert_eq!(told(&look), [], "a start that takes long says so itself");
        look.view.ready.store(true, Ordering::Release);
        (30..39).for_each(|s| look.at(start + Duration::from_secs(s)));
        assert_eq!(told(&look), []);
        (39..60).for_each(|s| look.at(start + Duration::from_secs(s)));
        let events = told(&look);
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!((events[0].kind, events[0].text(Field::Kafka)), (Kind::KafkaUnreachable, Some("main")));
    }

    #[test]
    fn a_sink_that_stands_still_is_told_of_once_and_so_is_its_going_on() {
        let mut look = world();
        publish(&look, [10, 0, 0]);
        let past = Instant::now().checked_sub(Duration::from_secs(40)).expect("the machine has been up that long");
        (0..30).for_each(|s| look.at(past + Duration::from_secs(s)));
        let kinds = |look: &Look| told(look).iter().map(|event| event.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&look), [Kind::SinkStalled]);
        assert_eq!(told(&look)[0].number(Field::Buffered), Some(10));
        publish(&look, [10, 1, 0]);
        look.at(past + Duration::from_secs(31));
        assert_eq!(kinds(&look), [Kind::SinkStalled, Kind::SinkRunning]);
    }
}
