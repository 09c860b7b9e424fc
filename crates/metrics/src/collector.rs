//! From boards to the page of `/metrics`.

use std::fmt;
use std::sync::Arc;

use super::board::Board;
use super::exposition::{Amount, Buckets, Exposition, Format, Page, Type};
use super::histogram::{HISTOGRAMS, Histogram, LEVELS, Merged, Per, Unit};
use super::spec::{
    BRIDGE, CLUSTER, ClusterMetric, ERRORS, ERRORS_HELP, ERRORS_NAME, Kind, LISTENER, Layout, ListenerMetric, REFUSALS,
    REFUSALS_HELP, REFUSALS_NAME, RULE, SHARD, SINK, SOURCE, ShardMetric, SinkMetric, SourceMetric, Spec,
};
use super::time::now_ms;

pub use super::exposition::Labels;

/// All shards' boards, and the names of their places.
#[derive(Debug, Default)]
pub struct Boards {
    /// The boards, one for each shard.
    pub shards: Vec<Arc<Board>>,
    /// The sinks, in the order of the configuration.
    pub sinks: Vec<Item>,
    /// The clusters, in the order of the configuration.
    pub clusters: Vec<Item>,
    /// The listeners, in the order of the configuration.
    pub listeners: Vec<Item>,
    /// The sources, in the order of the configuration.
    pub sources: Vec<Item>,
    /// The rules, in the order of the configuration.
    pub rules: Vec<Item>,
    /// The bridges, in the order of the configuration.
    pub bridges: Vec<Item>,
}

/// A sink, cluster, listener, source, rule or bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The name, or the address of a listener.
    pub name: String,
    /// Whether it is gone from the configuration: it has series only while it holds something, records or connections.
    pub is_removed: bool,
}

impl From<&str> for Item {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), is_removed: false }
    }
}

impl Boards {
    /// The layout of the boards.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout {
            sinks: self.sinks.len(),
            clusters: self.clusters.len(),
            listeners: self.listeners.len(),
            sources: self.sources.len(),
            rules: self.rules.len(),
            bridges: self.bridges.len(),
        }
    }

    /// Whether a sink holds records on some shard.
    #[must_use]
    pub fn holds_records(&self, sink: usize) -> bool {
        let place = self.layout().sink(sink, SinkMetric::BufferedRows);
        self.read().iter().any(|values| values[place] > 0)
    }

    /// The greatest age in seconds among all shards, of a number of [`Kind::Age`].
    #[must_use]
    pub fn oldest_s(&self, metric: ShardMetric) -> f64 {
        let now = now_ms();
        self.read().iter().map(|values| age_s(values[metric as usize], now)).fold(0.0, f64::max)
    }

    /// Reads one snapshot of each shard.
    #[must_use]
    pub fn read(&self) -> Vec<Vec<u64>> {
        self.shards.iter().map(|board| board.read()).collect()
    }
}

/// A number that is not on a board.
#[derive(Clone, Debug)]
pub struct Number {
    /// The metric.
    pub spec: Spec,
    /// The labels, mostly none.
    pub labels: Labels,
    /// The number.
    pub value: f64,
}

impl Number {
    /// A number of a table's row, without labels.
    #[must_use]
    pub fn of(spec: &Spec, value: u64) -> Self {
        Self { spec: *spec, labels: Labels::new(), value: value as f64 }
    }
}

/// Numbers of other threads (the process, the embedded log): read at each scrape.
pub trait Extra: Send + Sync + fmt::Debug {
    /// Returns all numbers.
    fn read(&self) -> Vec<Number>;
}

/// Numbers of one kind of thing: their table, the first one's place on a board, the label, and the names of things with series.
type Group<'a> = (&'a [Spec], usize, &'static str, &'a [Option<&'a str>]);

/// Renders the page.
#[must_use]
pub fn render(boards: &Boards, extra: &[Arc<dyn Extra>], format: Format) -> String {
    let mut page = Page::new(format);
    write(boards, extra, &mut page);
    page.finish()
}

/// Writes all metrics in any form.
pub fn write(boards: &Boards, extra: &[Arc<dyn Extra>], page: &mut impl Exposition) {
    let layout = boards.layout();
    let snapshots = boards.read();
    let shard = [Some("")];
    let holds = |place: usize| snapshots.iter().any(|values| values[place] > 0);
    let listeners = shown(&boards.listeners, |listener| holds(layout.listener(listener, ListenerMetric::Open)));
    let sinks = shown(&boards.sinks, |sink| holds(layout.sink(sink, SinkMetric::BufferedRows)));
    let clusters = shown(&boards.clusters, |cluster| holds(layout.cluster(cluster, ClusterMetric::Links)));
    let sources = shown(&boards.sources, |source| holds(layout.source(source, SourceMetric::Partitions)));
    let rules = shown(&boards.rules, |_| false);
    let bridges = shown(&boards.bridges, |_| false);
    let groups: [Group<'_>; 7] = [
        (&SHARD, 0, "", &shard),
        (&LISTENER, layout.first_listener(), "listener", &listeners),
        (&SINK, layout.first_sink(), "sink", &sinks),
        (&CLUSTER, layout.first_cluster(), "kafka", &clusters),
        (&SOURCE, layout.first_source(), "source", &sources),
        (&RULE, layout.first_rule(), "rule", &rules),
        (&BRIDGE, layout.first_bridge(), "bridge", &bridges),
    ];
    for (table, first, key, names) in groups {
        group(page, table, &snapshots, first, (key, names));
    }
    labelled(
        page,
        (REFUSALS_NAME, REFUSALS_HELP),
        (&REFUSALS, "reason"),
        &snapshots,
        layout.first_refusal(),
        ("sink", &sinks),
    );
    labelled(
        page,
        (ERRORS_NAME, ERRORS_HELP),
        (&ERRORS, "error"),
        &snapshots,
        layout.first_error(),
        ("kafka", &clusters),
    );
    histograms(page, boards, &listeners, &clusters);
    let mut begun = "";
    for Number { spec, labels, value } in extra.iter().flat_map(|extra| extra.read()) {
        // Consecutive numbers with one name are one family.
        let name = if begun == spec.name { spec.full_name() } else { begin(page, &spec) };
        begun = spec.name;
        page.sample(&name, &labels, spec.label, value.into());
    }
}

/// Writes the histograms alone in any form.
pub fn write_histograms(boards: &Boards, page: &mut impl Exposition) {
    let listeners = shown(&boards.listeners, |_| false);
    histograms(page, boards, &listeners, &shown(&boards.clusters, |_| false));
}

/// The names of things with series, each at its place: configured ones, and removed ones that hold something.
fn shown(items: &[Item], holds: impl Fn(usize) -> bool) -> Vec<Option<&str>> {
    let names = items.iter().enumerate().map(|(place, item)| {
        let is_shown = !item.is_removed || holds(place);
        is_shown.then_some(item.name.as_str())
    });
    names.collect()
}

/// Begins a row's family. Returns its full name.
fn begin(page: &mut impl Exposition, spec: &Spec) -> String {
    let name = spec.full_name();
    let of = match spec.kind {
        Kind::Counter | Kind::CounterMillis => Type::Counter,
        Kind::Gauge | Kind::Age | Kind::Internal => Type::Gauge,
    };
    page.family(&name, spec.help, of);
    name
}

/// The labels of something on a shard.
fn labels(shard: usize, key: &'static str, name: &str) -> Labels {
    let mut labels = vec![("shard", shard.to_string())];
    if !key.is_empty() {
        labels.push((key, name.to_owned()));
    }
    labels
}

/// Writes a table: for each of its rows a sample for each shard and name.
fn group(
    page: &mut impl Exposition,
    table: &[Spec],
    snapshots: &[Vec<u64>],
    first: usize,
    (key, names): (&'static str, &[Option<&str>]),
) {
    if snapshots.is_empty() || names.is_empty() {
        return;
    }
    let now = now_ms();
    let mut begun = "";
    for (place, spec) in table.iter().enumerate().filter(|(_, spec)| spec.kind != Kind::Internal) {
        let full = spec.full_name();
        if begun != spec.name {
            begin(page, spec);
            begun = spec.name;
        }
        for (shard, values) in snapshots.iter().enumerate() {
            for (index, name) in names.iter().enumerate().filter_map(|(index, name)| Some((index, (*name)?))) {
                let value = values[first + index * table.len() + place];
                let labels = labels(shard, key, name);
                let value: Amount = match spec.kind {
                    Kind::CounterMillis => (value as f64 / 1e3).into(),
                    Kind::Age => age_s(value, now).into(),
                    _ => value.into(),
                };
                page.sample(&full, &labels, spec.label, value);
            }
        }
    }
}

/// The age of a number of [`Kind::Age`].
fn age_s(since_ms: u64, now_ms: i64) -> f64 {
    let since = i64::try_from(since_ms).ok().filter(|since| *since > 0);
    since.map_or(0.0, |since| now_ms.saturating_sub(since).max(0) as f64 / 1e3)
}

/// Writes one family of counters, with a label for the row of a table.
fn labelled(
    page: &mut impl Exposition,
    (name, help): (&str, &str),
    (table, label): (&[Spec], &str),
    snapshots: &[Vec<u64>],
    first: usize,
    (key, names): (&'static str, &[Option<&str>]),
) {
    if snapshots.is_empty() || names.is_empty() {
        return;
    }
    let full = format!("forebay_{name}");
    page.family(&full, help, Type::Counter);
    for (shard, values) in snapshots.iter().enumerate() {
        let counts = names.iter().zip(values[first..].chunks_exact(table.len()));
        for (name, counts) in counts.filter_map(|(name, counts)| Some(((*name)?, counts))) {
            let labels = labels(shard, key, name);
            for (row, count) in table.iter().zip(counts) {
                page.sample(&full, &labels, Some((label, row.name)), Amount::Whole(*count));
            }
        }
    }
}

/// Writes all histograms, each summed over the shards.
fn histograms(page: &mut impl Exposition, boards: &Boards, listeners: &[Option<&str>], clusters: &[Option<&str>]) {
    for (row, spec) in HISTOGRAMS.iter().enumerate() {
        let of: Vec<Option<Labels>> = match spec.per {
            Per::ListenerAndLevel => {
                let levels = |listener: &Option<&str>| {
                    let listener = listener.map(str::to_owned);
                    LEVELS.map(|level| Some(vec![("listener", listener.clone()?), ("acknowledge", level.to_owned())]))
                };
                listeners.iter().flat_map(levels).collect()
            }
            Per::Cluster => clusters.iter().map(|name| Some(vec![("kafka", (*name)?.to_owned())])).collect(),
            Per::Process => vec![Some(Labels::new())],
        };
        let name = format!("forebay_{}", spec.name);
        let merged = |index: usize| -> Option<Merged> {
            Merged::of(boards.shards.iter().map(|board| -> &Histogram { &board.histograms.of(row)[index] }))
        };
        let merged: Vec<_> =
            of.iter().enumerate().filter_map(|(index, labels)| Some((labels.as_ref()?, merged(index)?))).collect();
        if !merged.is_empty() {
            page.family(&name, spec.help, Type::Histogram);
        }
        for (labels, merged) in merged {
            histogram(page, &name, labels, spec.unit, &merged);
        }
    }
}

fn histogram(page: &mut impl Exposition, name: &str, labels: &Labels, unit: Unit, merged: &Merged) {
    let shown = |value: u64| match unit {
        Unit::Micros => value as f64 / 1e6,
        Unit::Count => value as f64,
    };
    let bounds: Vec<f64> = merged.bounds.iter().map(|bound| shown(*bound)).collect();
    page.histogram(name, labels, Buckets { bounds: &bounds, cumulative: &merged.cumulative, sum: shown(merged.sum) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Level;
    use crate::spec::{ClusterMetric, KafkaError, ListenerMetric, RefusalReason};

    #[test]
    fn the_page_names_shard_sink_and_cluster() {
        let layout = Layout { sinks: 1, clusters: 1, listeners: 1, sources: 0, rules: 0, bridges: 0 };
        let board = Board::new(layout);
        let mut values = vec![0; layout.len()];
        values[ShardMetric::ConnectionsOpen as usize] = 3;
        values[ShardMetric::PublishesQos1 as usize] = 4;
        values[layout.sink(0, SinkMetric::Delivered)] = 7;
        values[layout.cluster(0, ClusterMetric::Reachable)] = 1;
        values[layout.cluster(0, ClusterMetric::ThrottleMs)] = 1_500;
        values[layout.listener(0, ListenerMetric::Received)] = 9;
        values[layout.error(0, KafkaError::NotLeader)] = 2;
        values[layout.refusal(0, RefusalReason::TooLarge)] = 5;
        board.publish(&values, 0..values.len());
        board.histograms.publish_ack(0, Level::Stored).observe(600);
        let boards = Boards {
            shards: vec![Arc::new(board)],
            sinks: vec!["t".into()],
            clusters: vec!["main".into()],
            listeners: vec!["0.0.0.0:1883".into()],
            sources: Vec::new(),
            rules: Vec::new(),
            bridges: Vec::new(),
        };
        let text = render(&boards, &[], Format::OpenMetrics);
        for line in [
            "forebay_connections{shard=\"0\"} 3",
            "forebay_publishes_received_total{shard=\"0\",qos=\"1\"} 4",
            "forebay_sink_records_out_total{shard=\"0\",sink=\"t\",result=\"delivered\"} 7",
            "forebay_kafka_reachable{shard=\"0\",kafka=\"main\"} 1",
            "forebay_kafka_throttle_seconds_total{shard=\"0\",kafka=\"main\"} 1.5",
            "forebay_listener_publishes_received_total{shard=\"0\",listener=\"0.0.0.0:1883\"} 9",
            "forebay_kafka_batch_errors_total{shard=\"0\",kafka=\"main\",error=\"NOT_LEADER_OR_FOLLOWER\"} 2",
            "forebay_sink_publishes_refused_total{shard=\"0\",sink=\"t\",reason=\"too_large\"} 5",
            "forebay_publish_ack_seconds_bucket{listener=\"0.0.0.0:1883\",acknowledge=\"stored\",le=\"0.0005\"} 0",
            "forebay_publish_ack_seconds_bucket{listener=\"0.0.0.0:1883\",acknowledge=\"stored\",le=\"0.001\"} 1",
            "forebay_publish_ack_seconds_bucket{listener=\"0.0.0.0:1883\",acknowledge=\"stored\",le=\"+Inf\"} 1",
            "forebay_publish_ack_seconds_sum{listener=\"0.0.0.0:1883\",acknowledge=\"stored\"} 0.0006",
            "# EOF",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(!text.contains("sync_us"), "what a histogram shows is not shown twice");
    }

    #[test]
    fn an_age_grows_while_nothing_is_written() {
        let layout = Layout { sinks: 0, clusters: 0, listeners: 0, sources: 0, rules: 0, bridges: 0 };
        let of = |since_ms: i64| {
            let (board, mut values) = (Board::new(layout), vec![0; layout.len()]);
            values[ShardMetric::CopiesOldest as usize] = u64::try_from(since_ms).expect("after 1970");
            board.publish(&values, 0..values.len());
            Arc::new(board)
        };
        let now = now_ms();
        let shards = vec![of(0), of(now - 90_000), of(now + 60_000)];
        let boards = Boards {
            shards,
            sinks: Vec::new(),
            clusters: Vec::new(),
            listeners: Vec::new(),
            sources: Vec::new(),
            rules: Vec::new(),
            bridges: Vec::new(),
        };
        let oldest = boards.oldest_s(ShardMetric::CopiesOldest);
        assert!((90.0..100.0).contains(&oldest), "{oldest}");
        let text = render(&boards, &[], Format::Text);
        let value = |shard: usize| {
            let line = format!("forebay_delivery_oldest_seconds{{shard=\"{shard}\"}} ");
            text.lines().find_map(|other| other.strip_prefix(&line)?.parse::<f64>().ok()).expect("a number")
        };
        assert!((90.0..100.0).contains(&value(1)), "{text}");
        assert_eq!([value(0), value(2)], [0.0; 2], "none, and a clock that was set back");
        assert!(text.contains("# TYPE forebay_delivery_oldest_seconds gauge"));
    }

    #[derive(Debug)]
    struct Twice;

    impl Extra for Twice {
        fn read(&self) -> Vec<Number> {
            let spec = |value| Spec { name: "n", label: Some(("result", value)), help: "h", kind: Kind::Counter };
            vec![Number::of(&spec("good"), 1), Number::of(&spec("bad"), 2)]
        }
    }

    /// Finding U1, and R3: the alert for a cluster out of reach does not fire for one that was removed.
    #[test]
    fn finding_u1_what_was_removed_has_series_while_it_holds_something() {
        let layout = Layout { sinks: 2, clusters: 2, listeners: 2, sources: 0, rules: 0, bridges: 0 };
        let board = Board::new(layout);
        let mut values = vec![0; layout.len()];
        values[layout.sink(1, SinkMetric::BufferedRows)] = 3;
        board.publish(&values, 0..values.len());
        let items = || vec![Item::from("stays"), Item { name: "gone".into(), is_removed: true }];
        let (sinks, clusters, listeners) = (items(), items(), items());
        let boards = Boards {
            shards: vec![Arc::new(board)],
            sinks,
            clusters,
            listeners,
            sources: Vec::new(),
            rules: Vec::new(),
            bridges: Vec::new(),
        };
        let series = |boards: &Boards, label: &str| {
            let text = render(boards, &[], Format::Text);
            let of = |name: &str| text.lines().filter(|line| line.contains(&format!("{label}=\"{name}\""))).count();
            (of("stays"), of("gone"))
        };
        for label in ["kafka", "listener"] {
            let (stays, gone) = series(&boards, label);
            assert!(stays > 10 && gone == 0, "{label}: {stays}, {gone}");
        }
        let (stays, gone) = series(&boards, "sink");
        assert!(stays > 10 && gone == stays, "it holds records: {stays}, {gone}");
        values[layout.sink(1, SinkMetric::BufferedRows)] = 0;
        values[layout.cluster(1, ClusterMetric::Links)] = 1;
        values[layout.listener(1, ListenerMetric::Open)] = 1;
        boards.shards[0].publish(&values, 0..values.len());
        assert_eq!(series(&boards, "sink").1, 0);
        for label in ["kafka", "listener"] {
            let (stays, gone) = series(&boards, label);
            assert_eq!(stays, gone, "{label}: it has connections");
        }
    }

    #[test]
    fn numbers_of_one_name_are_one_family() {
        let boards = Boards {
            shards: Vec::new(),
            sinks: Vec::new(),
            clusters: Vec::new(),
            listeners: Vec::new(),
            sources: Vec::new(),
            rules: Vec::new(),
            bridges: Vec::new(),
        };
        let text = render(&boards, &[Arc::new(Twice)], Format::Text);
        let found = text.split_once("# HELP forebay_n_total").expect("the family").1;
        assert_eq!(
            found.lines().skip(1).collect::<Vec<_>>(),
            [
                "# TYPE forebay_n_total counter",
                "forebay_n_total{result=\"good\"} 1",
                "forebay_n_total{result=\"bad\"} 2"
            ]
        );
    }
}
