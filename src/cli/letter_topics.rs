//! Reads dead letters in Kafka topics for display: the newest first, a bounded number of records of each partition at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::log_reader::{Log, Part, Since, Taker, Unusable};
use super::past::since;
use super::sent_again::SentAgain;
use crate::config::{Cluster, Config};
use crate::control::{
    Content, DeadLetter, Header, LetterAbout, LetterFile, LetterPlaces, LetterTopic, LettersAsk, LettersFound,
    LettersWanted,
};
use crate::kafka::consumer::Record;
use crate::limits::LETTER_PARTITIONS_MAX;
use crate::metrics::time::rfc3339;
use crate::shard::dead_letters::{Said, Writer, is_own};

/// Records read for one page.
const READ_MAX: u64 = 1_000;
/// The longest time of reading. A single request to Kafka has the cluster's own timeout.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// The most bytes of a key, a value and a header that a list shows; and the most headers.
const SHOWN_BYTES_MAX: usize = 1 << 10;
const HEADER_BYTES_MAX: usize = 256;
const HEADERS_MAX: usize = 32;
/// Limits for one letter that is shown uncut.
const WHOLE_BYTES_MAX: usize = 16 << 20;

/// The destinations of a configuration's dead letters.
pub(super) fn places(config: &Config) -> LetterPlaces {
    let mut topics: BTreeMap<(String, String), LetterTopic> = BTreeMap::new();
    let mut files: BTreeMap<String, LetterFile> = BTreeMap::new();
    let mut writes = |cluster: usize, topic: Option<&String>, (of, name): (Writer, &str)| {
        let (Some(cluster), Some(topic)) = (config.clusters.get(cluster), topic) else { return };
        let place = topics.entry((cluster.name.clone(), topic.clone())).or_default();
        match of {
            Writer::Sink => place.sinks.push(name.to_owned()),
            Writer::Source => place.sources.push(name.to_owned()),
            Writer::Bridge => place.bridges.push(name.to_owned()),
        }
    };
    let mut files_of = |path: Option<String>, add: &dyn Fn(&mut LetterFile)| {
        path.into_iter().for_each(|path| add(files.entry(path).or_default()));
    };
    for sink in config.sinks.iter().filter(|sink| !sink.is_removed) {
        let Some(dead) = &sink.dead_letters else { continue };
        writes(sink.cluster, dead.topic.as_ref(), (Writer::Sink, &sink.name));
        let file = dead.file.as_ref().map(|file| file.path.display().to_string());
        files_of(file, &|file| file.sinks.push(sink.name.clone()));
    }
    for source in config.sources.iter().filter(|source| !source.is_removed) {
        writes(source.cluster, source.dead_letters_topic.as_ref(), (Writer::Source, &source.name));
    }
    for bridge in config.bridges.iter().filter(|bridge| !bridge.is_removed) {
        let Some(dead) = &bridge.dead_letters else { continue };
        writes(bridge.cluster, dead.topic.as_ref(), (Writer::Bridge, &bridge.name));
        let file = dead.file.as_ref().map(|file| file.path.display().to_string());
        files_of(file, &|file| file.bridges.push(bridge.name.clone()));
    }
    let topics = topics.into_iter().map(|((kafka, topic), place)| LetterTopic { kafka, topic, ..place });
    let files = files.into_iter().map(|(file, place)| LetterFile { file, ..place });
    LetterPlaces { topics: topics.collect(), files: files.collect() }
}

/// The cluster of a dead-letter topic that the configuration names.
pub(super) fn cluster_of<'c>(config: &'c Config, kafka: &str, topic: &str) -> Option<&'c Cluster> {
    let is_there = places(config).topics.iter().any(|place| place.kafka == kafka && place.topic == topic);
    config.clusters.iter().find(|cluster| cluster.name == kafka).filter(|_| is_there)
}

/// The time from which letters are wanted.
///
/// # Errors
/// The text is not a time; in words.
pub(super) fn since_of(ask: &LettersAsk) -> Result<Since, String> {
    match &ask.wanted {
        LettersWanted::Newest { since: Some(text), .. } => since(text),
        LettersWanted::Newest { .. } | LettersWanted::One(..) => Ok(Since::Earliest),
    }
}

/// Reads letters of a topic.
///
/// # Errors
/// Why they cannot be read.
pub(super) fn found(
    config: &Config,
    cluster: &Cluster,
    (ask, since): (&LettersAsk, Since),
) -> Result<LettersFound, Unusable> {
    let mut log = Log::open(cluster, &ask.topic)?;
    let of = (ask.kafka.as_str(), ask.topic.as_str(), log.id.as_str());
    let sent = SentAgain::read(&config.service.data_dir, of)?;
    match &ask.wanted {
        LettersWanted::One(partition, offset) => {
            let mut reader = Reader::new(*partition, WHOLE_BYTES_MAX, &sent);
            if log.partitions().any(|there| there == *partition) {
                let part = log.part(*partition, Since::Earliest)?;
                if (part.first..part.end).contains(offset) {
                    log.read(Part { first: *offset, end: offset + 1, ..part }, 1, &mut reader)?;
                }
            }
            Ok(LettersFound { letters: reader.letters, before: BTreeMap::new() })
        }
        LettersWanted::Newest { limit, reason, before, .. } => {
            let windows = windows(&mut log, since, (*limit, reason.is_some()), before.as_ref(), &sent)?;
            let is_wanted = |letter: &DeadLetter| reason.is_none() || letter.about.reason == *reason;
            Ok(newest(windows, *limit, is_wanted))
        }
    }
}

/// Letters of a partition that were read, and the offsets before them.
#[derive(Debug, Default)]
struct Window {
    partition: i32,
    /// Letters in the order of their offsets.
    letters: Vec<DeadLetter>,
    /// The first offset that was read.
    from: i64,
    /// The first offset that exists, or is wanted.
    first: i64,
    /// The next letters are before this offset.
    before: i64,
}

impl Window {
    /// Whether all letters that were read are shown, and there are more.
    fn is_used_up(&self) -> bool {
        self.letters.is_empty() && self.from > self.first
    }
}

/// Reads the newest letters of each partition before some offsets.
fn windows(
    log: &mut Log<'_>,
    since: Since,
    (limit, is_filtered): (usize, bool),
    before: Option<&BTreeMap<i32, i64>>,
    sent: &SentAgain,
) -> Result<Vec<Window>, String> {
    let partitions: Vec<i32> = log.partitions().filter(|one| before.is_none_or(|all| all.contains_key(one))).collect();
    if partitions.len() > LETTER_PARTITIONS_MAX {
        return Err(format!(
            "the topic has more than {LETTER_PARTITIONS_MAX} partitions: read it with Kafka's own tools"
        ));
    }
    let each = READ_MAX / (partitions.len() as u64).max(1);
    let quota = if is_filtered { each } else { each.min(limit as u64) }.max(1);
    let until = Instant::now() + READ_WITHIN;
    let mut windows = Vec::new();
    for partition in partitions {
        let part = log.part(partition, since)?;
        let end = before.and_then(|all| all.get(&partition)).map_or(part.end, |before| part.end.min(*before));
        let from = part.first.max(end.saturating_sub(i64::try_from(quota).unwrap_or(i64::MAX)));
        let mut reader = Reader { until, ..Reader::new(partition, SHOWN_BYTES_MAX, sent) };
        if from < end {
            log.read(Part { partition, first: from, end }, quota, &mut reader)?;
        }
        if Instant::now() >= until {
            let seconds = READ_WITHIN.as_secs();
            return Err(format!(
                "the topic could not be read within {seconds} s: ask for fewer letters at a time (limit)"
            ));
        }
        windows.push(Window { partition, letters: reader.letters, from, first: part.first, before: end });
    }
    Ok(windows)
}

/// The newest wanted letters of all partitions, and the offsets to continue from. Each partition has its letters in the order of their offsets.
fn newest(mut windows: Vec<Window>, limit: usize, is_wanted: impl Fn(&DeadLetter) -> bool) -> LettersFound {
    let mut letters = Vec::new();
    // The letters before a used-up window are not known.
    windows.iter_mut().filter(|window| window.letters.is_empty()).for_each(|window| window.before = window.from);
    while letters.len() < limit && !windows.iter().any(Window::is_used_up) {
        let newest = windows.iter_mut().filter(|window| !window.letters.is_empty());
        let newest = newest.max_by(|a, b| a.letters.last().map(|of| &of.at).cmp(&b.letters.last().map(|of| &of.at)));
        let Some(window) = newest else { break };
        let Some(letter) = window.letters.pop() else { break };
        window.before = if window.letters.is_empty() { window.from } else { letter.offset };
        letters.extend(Some(letter).filter(&is_wanted));
    }
    let before = windows.iter().filter(|window| window.before > window.first);
    LettersFound { letters, before: before.map(|window| (window.partition, window.before)).collect() }
}

/// Collects records as letters.
struct Reader<'a> {
    partition: i32,
    /// The most bytes of a key or value that are stored.
    bytes_max: usize,
    sent: &'a SentAgain,
    until: Instant,
    letters: Vec<DeadLetter>,
}

impl<'a> Reader<'a> {
    fn new(partition: i32, bytes_max: usize, sent: &'a SentAgain) -> Self {
        Self { partition, bytes_max, sent, until: Instant::now() + READ_WITHIN, letters: Vec::new() }
    }
}

impl Taker for Reader<'_> {
    fn goes_on(&mut self) -> bool {
        Instant::now() < self.until
    }

    fn take(&mut self, partition: i32, record: &Record<'_>) {
        let is_list = self.bytes_max == SHOWN_BYTES_MAX;
        let (headers_max, header_bytes_max) =
            if is_list { (HEADERS_MAX, HEADER_BYTES_MAX) } else { (usize::MAX, usize::MAX) };
        let shown = |bytes: &[u8], max: usize| Content::beginning(&bytes[..bytes.len().min(max)], bytes.len());
        let said = Said::of(record.headers.clone());
        let own = record.headers.clone().filter(|(name, _)| is_own(name)).take(headers_max);
        let headers = own.map(|(name, value)| Header {
            name: String::from_utf8_lossy(name).chars().take(HEADER_BYTES_MAX).collect(),
            value: shown(value.unwrap_or_default(), header_bytes_max),
        });
        self.letters.push(DeadLetter {
            partition: self.partition,
            offset: record.offset,
            at: rfc3339(record.timestamp.max(0)),
            key: record.key.map(|key| shown(key, self.bytes_max)),
            value: record.value.map(|value| shown(value, self.bytes_max)),
            value_bytes: said.whole_bytes.unwrap_or_else(|| record.value.map_or(0, <[u8]>::len) as u64),
            headers: headers.collect(),
            sent_before: said.sent_again,
            sent_again: self.sent.has(partition, record.offset),
            cannot: said.destination().err(),
            about: about(said),
        });
    }
}

fn about(said: Said) -> LetterAbout {
    let name = |wanted: Writer| said.by.as_ref().filter(|(by, _)| *by == wanted).map(|(_, name)| name.clone());
    LetterAbout {
        sink: name(Writer::Sink),
        source: name(Writer::Source),
        bridge: name(Writer::Bridge),
        rule: said.rule,
        reason: said.reason,
        kafka_code: said.kafka_code,
        kafka_topic: said.kafka_topic,
        kafka_partition: said.kafka_partition,
        kafka_offset: said.kafka_offset,
        received: said.received_ms.map(rfc3339),
        mqtt_topic: said.mqtt_topic,
        client_id: said.client_id,
        qos: said.qos,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(partition: i32, (from, first): (i64, i64), times: &[i64]) -> Window {
        let letter =
            |(offset, ms): (i64, &i64)| DeadLetter { partition, offset, at: rfc3339(*ms), ..DeadLetter::default() };
        let letters: Vec<_> = (from..).zip(times).map(letter).collect();
        Window { partition, before: from + times.len() as i64, letters, from, first }
    }

    fn places_of(found: &LettersFound) -> Vec<(i32, i64)> {
        found.letters.iter().map(|letter| (letter.partition, letter.offset)).collect()
    }

    #[test]
    fn the_newest_of_all_partitions_come_first() {
        let windows = || vec![window(0, (10, 10), &[1, 5, 9]), window(1, (4, 4), &[2, 6]), window(2, (0, 0), &[])];
        let all = newest(windows(), 10, |_| true);
        assert_eq!(places_of(&all), [(0, 12), (1, 5), (0, 11), (1, 4), (0, 10)]);
        assert!(all.before.is_empty(), "{:?}", all.before);
        let some = newest(windows(), 2, |_| true);
        assert_eq!((places_of(&some), some.before), (vec![(0, 12), (1, 5)], BTreeMap::from([(0, 12), (1, 5)])));
    }

    /// Older letters of a partition may be newer than those of another one: the page ends where they are unknown.
    #[test]
    fn a_page_ends_where_a_partition_has_more_that_was_not_read() {
        let found = newest(vec![window(0, (10, 0), &[7, 9]), window(1, (0, 0), &[1, 2])], 10, |_| true);
        assert_eq!((places_of(&found), found.before), (vec![(0, 11), (0, 10)], BTreeMap::from([(0, 10), (1, 2)])));
        // A window without letters was still read, as offsets have gaps: the next page goes on before it.
        let found = newest(vec![window(0, (10, 0), &[]), window(1, (0, 0), &[1])], 10, |_| true);
        assert_eq!((places_of(&found), found.before), (vec![], BTreeMap::from([(0, 10), (1, 1)])));
    }

    /// Pages of any length show each letter once, each partition from its end.
    #[test]
    fn pages_show_each_letter_once() {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let times: Vec<Vec<i64>> = (0..random.usize(1..4))
                .map(|_| {
                    let mut times: Vec<i64> = (0..random.usize(0..20)).map(|_| random.i64(0..100)).collect();
                    times.sort_unstable();
                    times
                })
                .collect();
            let (quota, limit) = (random.i64(1..6), random.usize(1..8));
            let mut before: BTreeMap<i32, i64> = (0..).zip(&times).map(|(at, all)| (at, all.len() as i64)).collect();
            let mut shown = Vec::new();
            for _ in 0..200 {
                let windows = before.iter().map(|(partition, end)| {
                    let from = (end - quota).max(0);
                    window(*partition, (from, 0), &times[*partition as usize][from as usize..*end as usize])
                });
                let found = newest(windows.collect(), limit, |_| true);
                shown.extend(places_of(&found));
                before = found.before;
                if before.is_empty() {
                    break;
                }
            }
            let mut sorted = shown.clone();
            sorted.sort_unstable();
            let all: Vec<(i32, i64)> =
                (0..).zip(&times).flat_map(|(at, all)| (0..all.len() as i64).map(move |offset| (at, offset))).collect();
            assert_eq!(sorted, all, "seed {seed}");
            let of = |(partition, offset): (i32, i64)| times[partition as usize][offset as usize];
            assert!(shown.windows(2).all(|two| of(two[0]) >= of(two[1])), "seed {seed}: {shown:?}");
        }
    }

    #[test]
    fn a_configuration_says_where_letters_go() {
        let text = "[kafka.main]\nbootstrap = 'k:1'\n\
                    [[sink]]\nname = 'a'\nfilters = 'a/#'\ntopic = 'a'\ndead_letters_topic = 'dead'\ndead_letters_file = 'none'\n\
                    [[sink]]\nname = 'b'\nfilters = 'b/#'\ntopic = 'b'\ndead_letters_topic = 'dead'\ndead_letters_file = '/f'\n\
                    [[source]]\nname = 's'\ntopic = 'in'\nmqtt_topic = 't'\non_bad_record = 'dead-letter'\ndead_letters_topic = 'dead'\n";
        let config = crate::config::parse(text, "t").expect("good");
        let LetterPlaces { topics, files } = places(&config);
        let names = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(topics.len(), 1, "{topics:?}");
        let topic = &topics[0];
        assert_eq!((topic.kafka.as_str(), topic.topic.as_str()), ("main", "dead"));
        assert_eq!((&topic.sinks, &topic.sources), (&names(&["a", "b"]), &names(&["s"])));
        assert_eq!((files.len(), files[0].file.as_str(), &files[0].sinks), (1, "/f", &names(&["b"])));
        assert!(cluster_of(&config, "main", "dead").is_some());
        assert!(cluster_of(&config, "main", "a").is_none() && cluster_of(&config, "x", "dead").is_none());
    }
}
