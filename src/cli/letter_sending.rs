//! Sends records of dead letters again: writes each to the Kafka topic that it was for, or that its source reads, over a
//! connection of its own. One record at a time, each acknowledged by all in-sync replicas. A record that Kafka refuses stays a
//! letter, and makes no second one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages::TopicName;

use super::admin::Admin;
use super::log_reader::{Log, Part, Since, Taker, Unusable};
use super::log_writer::{self, NotWritten};
use super::sent_again::SentAgain;
use crate::config::{Cluster, Config, Sink};
use crate::control::{LetterPlace, LetterSent, LettersSent, LettersToSend};
use crate::kafka::consumer::Record;
use crate::limits::LETTERS_SENT_MAX;
use crate::record::compression::Encoder;
use crate::record::{Builder, HEADER_LEN, Row, Stamp, murmur2, stamp};
use crate::runtime::seam::WallMs;
use crate::shard::dead_letters::{SENT_AGAIN_HEADER, Said, Writer, is_own, reason};

/// The longest time of one request. A single request to Kafka has the cluster's own timeout.
const SENT_WITHIN: Duration = Duration::from_secs(30);
/// The most letters in memory at a time, in records and in bytes; one may be larger.
const HELD_MAX: u64 = 100;
const HELD_BYTES_MAX: usize = 8 << 20;
/// A batch without a producer's identity.
const NOBODY: Stamp = Stamp { producer_id: -1, epoch: -1, sequence: -1 };
/// Kafka's errors after which the record may have been written: REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND.
const MAYBE_WRITTEN: [i16; 2] = [7, 20];

/// Results of a letter, by their names in the API.
const TAKEN: &str = "taken";
const REFUSED: &str = "refused";
const UNKNOWN: &str = "unknown";
const NOT_SENT: &str = "not_sent";
const WOULD_BE_SENT: &str = "would_be_sent";

/// Sends letters of a topic again.
///
/// # Errors
/// Why they cannot be read: nothing was sent.
pub(super) fn send(
    config: &Config,
    cluster: &Cluster,
    topic: &str,
    wanted: &LettersToSend,
) -> Result<LettersSent, Unusable> {
    let mut log = Log::open(cluster, topic)?;
    let of = (cluster.name.as_str(), topic, log.id.as_str());
    let sent = SentAgain::read(&config.service.data_dir, of)?;
    if sent.is_full() && !wanted.dry_run {
        return Err("the note of what was sent again is full: sent-again.json of data_dir".to_owned().into());
    }
    let until = Instant::now() + SENT_WITHIN;
    let mut run = Run { config, cluster, sent, to: BTreeMap::new(), done: LettersSent::default(), until, broken: None };
    match wanted.up_to {
        None => {
            for place in &wanted.letters {
                run.named(&mut log, *place, wanted)?;
            }
        }
        Some(up_to) => run.up_to(&mut log, up_to, wanted)?,
    }
    let taken = run.done.letters.iter().any(|letter| letter.result == TAKEN);
    if taken {
        run.done.not_noted = run.sent.write().err();
    }
    Ok(run.done)
}

/// A letter that was read, ready to send.
#[derive(Debug)]
struct Letter {
    offset: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// The record's own headers.
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    said: Said,
}

/// Takes letters as a whole.
struct Holder {
    letters: Vec<Letter>,
    bytes: usize,
    until: Instant,
}

impl Holder {
    fn new(until: Instant) -> Self {
        Self { letters: Vec::new(), bytes: 0, until }
    }
}

impl Taker for Holder {
    fn goes_on(&mut self) -> bool {
        self.bytes < HELD_BYTES_MAX && Instant::now() < self.until
    }

    fn take(&mut self, _: i32, record: &Record<'_>) {
        let own = record.headers.clone().filter(|(name, _)| is_own(name));
        let headers: Vec<_> = own.map(|(name, value)| (name.to_vec(), value.unwrap_or_default().to_vec())).collect();
        let bytes = |of: Option<&[u8]>| of.map_or(0, <[u8]>::len);
        self.bytes +=
            bytes(record.key) + bytes(record.value) + headers.iter().map(|(a, b)| a.len() + b.len()).sum::<usize>();
        self.letters.push(Letter {
            offset: record.offset,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers,
            said: Said::of(record.headers.clone()),
        });
    }
}

/// Letters being sent.
struct Run<'a> {
    config: &'a Config,
    cluster: &'a Cluster,
    sent: SentAgain,
    /// The destination topics of the records.
    to: BTreeMap<String, Log<'a>>,
    done: LettersSent,
    until: Instant,
    /// Why sending has stopped.
    broken: Option<String>,
}

impl<'a> Run<'a> {
    /// Sends one letter by its partition and offset.
    fn named(&mut self, log: &mut Log<'_>, place: LetterPlace, wanted: &LettersToSend) -> Result<(), String> {
        let LetterPlace { partition, offset } = place;
        let not_sent = |why: &str| LetterSent { partition, offset, ..outcome(NOT_SENT, why) };
        let answer = if let Some(why) = self.why_not() {
            not_sent(&why)
        } else if self.sent.has(partition, offset) && !wanted.repeat {
            not_sent("it was sent again before; `repeat` sends it once more")
        } else if !log.partitions().any(|there| there == partition) {
            not_sent("the topic has no such partition")
        } else {
            let mut holder = Holder::new(self.until);
            let part = log.part(partition, Since::Earliest)?;
            if (part.first..part.end).contains(&offset) {
                log.read(Part { first: offset, end: offset + 1, ..part }, 1, &mut holder)?;
            }
            match holder.letters.first() {
                Some(letter) => self.letter(partition, letter, wanted.dry_run),
                None => not_sent("the topic does not have it any more"),
            }
        };
        self.done.letters.push(answer);
        Ok(())
    }

    /// Sends all letters of a partition up to an offset that were not sent again.
    fn up_to(&mut self, log: &mut Log<'_>, up_to: LetterPlace, wanted: &LettersToSend) -> Result<(), String> {
        let partition = up_to.partition;
        if !log.partitions().any(|there| there == partition) {
            let place =
                LetterSent { partition, offset: up_to.offset, ..outcome(NOT_SENT, "the topic has no such partition") };
            self.done.letters.push(place);
            return Ok(());
        }
        let part = log.part(partition, Since::Earliest)?;
        self.sent.forget_before(partition, part.first);
        let end = part.end.min(up_to.offset.saturating_add(1));
        let mut from = wanted.from.unwrap_or(part.first).max(part.first);
        let limit = wanted.limit.unwrap_or(LETTERS_SENT_MAX);
        while from < end {
            from = self.sent.first_unsent(partition, from);
            if from >= end {
                break;
            }
            let mut holder = Holder::new(self.until);
            log.read(Part { partition, first: from, end }, HELD_MAX, &mut holder)?;
            if holder.letters.is_empty() {
                // Offsets without records, or the time is up.
                self.done.from = self.why_not().map(|_| from);
                return Ok(());
            }
            for letter in &holder.letters {
                if self.done.letters.len() >= limit || self.why_not().is_some() {
                    self.done.from = Some(letter.offset);
                    return Ok(());
                }
                from = letter.offset + 1;
                let is_wanted = wanted.reason.is_none() || letter.said.reason == wanted.reason;
                if is_wanted && !self.sent.has(partition, letter.offset) {
                    let answer = self.letter(partition, letter, wanted.dry_run);
                    self.done.letters.push(answer);
                }
            }
        }
        Ok(())
    }

    /// Why sending has stopped; `None`: it continues.
    fn why_not(&self) -> Option<String> {
        let is_late = Instant::now() >= self.until;
        let late = is_late.then(|| format!("the time of one request is over: {} s", SENT_WITHIN.as_secs()));
        self.broken.as_ref().map(|why| format!("nothing more is sent: {why}")).or(late)
    }

    /// Sends a letter.
    fn letter(&mut self, partition: i32, letter: &Letter, is_dry_run: bool) -> LetterSent {
        let place = LetterSent { partition, offset: letter.offset, ..LetterSent::default() };
        let (topic, sink) = match allowed(self.config, self.cluster, &letter.said) {
            Ok(allowed) => allowed,
            Err(why) => return LetterSent { result: NOT_SENT, why: Some(why), ..place },
        };
        let place = LetterSent { to_topic: Some(topic.clone()), ..place };
        if is_dry_run {
            return LetterSent { result: WOULD_BE_SENT, ..place };
        }
        if !self.to.contains_key(&topic) {
            match Log::open(self.cluster, &topic) {
                Ok(log) => drop(self.to.insert(topic.clone(), log)),
                Err(why) => return LetterSent { result: NOT_SENT, why: Some(why.into()), ..place },
            }
        }
        let Some(to) = self.to.get_mut(&topic) else { return LetterSent { result: NOT_SENT, ..place } };
        let number = partition_for(letter, &to.partitions().collect::<Vec<_>>());
        let place = LetterSent { to_partition: Some(number), ..place };
        let (leader, name) = match to.leader(number) {
            Ok(found) => found,
            Err(why) => return LetterSent { result: NOT_SENT, why: Some(why), ..place },
        };
        let appended = append(leader, name, number, batch(letter, sink), self.cluster.times.request_timeout);
        match appended {
            Ok(offset) => {
                self.sent.add(partition, letter.offset);
                LetterSent { result: TAKEN, to_offset: Some(offset), ..place }
            }
            Err(NotWritten::Refused(why)) => LetterSent { result: REFUSED, why: Some(why), ..place },
            Err(NotWritten::Unknown(why)) => {
                to.disconnect(number);
                self.broken = Some(why.clone());
                LetterSent { result: UNKNOWN, why: Some(why), ..place }
            }
        }
    }
}

fn outcome(result: &'static str, why: &str) -> LetterSent {
    LetterSent { result, why: Some(why.to_owned()), ..LetterSent::default() }
}

/// The topic that a letter's record may go to, and its sink. The check is necessary as any client with write access can put
/// letters into the dead-letter topic.
fn allowed<'c>(config: &'c Config, cluster: &Cluster, said: &Said) -> Result<(String, Option<&'c Sink>), String> {
    let (writer, name, topic) = said.destination()?;
    let is_here = |at: usize| config.clusters.get(at).is_some_and(|one| one.name == cluster.name);
    if writer == Writer::Source {
        let mut sources = config.sources.iter().filter(|source| !source.is_removed && is_here(source.cluster));
        let source = sources.find(|source| source.name == name);
        let source = source.ok_or_else(|| format!("there is no source {name:?} on this cluster any more"))?;
        if !source.routes().any(|(kafka, _)| kafka == topic) {
            return Err(format!("the source {name:?} does not read the topic {topic:?}"));
        }
        return Ok((topic.to_owned(), None));
    }
    let mut sinks = config.sinks.iter().filter(|sink| !sink.is_removed && is_here(sink.cluster));
    let sink = sinks.find(|sink| sink.name == name);
    let sink = sink.ok_or_else(|| format!("there is no sink {name:?} on this cluster any more"))?;
    if sink.topic.as_literal().is_some_and(|own| own != topic) {
        return Err(format!("the sink {name:?} does not write the topic {topic:?}"));
    }
    Ok((topic.to_owned(), Some(sink)))
}

/// The partition of a record: its original one, else by its key as Java's producer does, else any.
fn partition_for(letter: &Letter, there: &[i32]) -> i32 {
    if let Some(own) = letter.said.kafka_partition.filter(|own| there.contains(own)) {
        return own;
    }
    let place = match &letter.key {
        Some(key) => murmur2::partition(key, there.len()),
        None => fastrand::usize(..there.len().max(1)),
    };
    there.get(place).copied().unwrap_or(0)
}

/// A batch with the record, compressed as the sink does.
fn batch(letter: &Letter, sink: Option<&Sink>) -> Vec<u8> {
    let count = letter.said.sent_again.saturating_add(1).to_string();
    let own = letter.headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let headers = own.chain([(SENT_AGAIN_HEADER.as_bytes(), count.as_bytes())]);
    let timestamp = WallMs(letter.said.received_ms.unwrap_or(-1));
    let row = Row { key: letter.key.as_deref(), value: letter.value.as_deref(), headers, timestamp };
    let tail = row.measure();
    let mut builder = Builder::new(Vec::with_capacity(HEADER_LEN + Builder::first_record_len(tail.len)));
    builder.append(&row, tail);
    let mut encoder =
        sink.and_then(|sink| Encoder::new(sink.compression.codec(), sink.compression_level, builder.len()));
    let mut batch = builder.close(encoder.as_mut());
    stamp(&mut batch, NOBODY);
    batch
}

/// Writes a batch of one record to a partition. Returns its offset, once all in-sync replicas have it.
fn append(
    leader: &mut Admin,
    topic: &TopicName,
    partition: i32,
    batch: Vec<u8>,
    timeout: Duration,
) -> Result<i64, NotWritten> {
    let told = log_writer::write(leader, topic, partition, batch, timeout)?;
    let code = told.error_code;
    if code == 0 {
        return Ok(told.base_offset);
    }
    let name = match reason(code) {
        "KAFKA_ERROR" => format!("error {code}"),
        name => format!("{name} ({code})"),
    };
    let more = told.error_message.as_ref().map(|text| format!(": {}", text.as_str())).unwrap_or_default();
    let why = format!("Kafka answers {name}{more}");
    Err(if MAYBE_WRITTEN.contains(&code) { NotWritten::Unknown(why) } else { NotWritten::Refused(why) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::consumer::Batches;

    fn letter(headers: &[(&str, &str)]) -> Letter {
        let headers: Vec<(&[u8], &[u8])> = headers.iter().map(|(a, b)| (a.as_bytes(), b.as_bytes())).collect();
        let row = Row { key: Some(b"k"), value: Some(b"v"), headers: headers.iter().copied(), timestamp: WallMs(5) };
        let mut builder = Builder::new(Vec::new());
        builder.append(&row, row.measure());
        let mut bytes = builder.close(None);
        stamp(&mut bytes, NOBODY);
        let mut holder = Holder::new(Instant::now() + SENT_WITHIN);
        let mut batches = Batches::new(bytes, 0, Vec::new(), true);
        holder.take(0, &batches.take().expect("it is read").expect("a record"));
        holder.letters.remove(0)
    }

    #[test]
    fn a_record_is_as_it_was_with_a_mark() {
        let of = [
            ("site", "berlin"),
            ("dead-letter-sink", "a"),
            ("dead-letter-received-ms", "77"),
            ("forebay-sent-again", "2"),
            ("site", "second"),
        ];
        let bytes = batch(&letter(&of), None);
        let mut batches = Batches::new(bytes, 0, Vec::new(), true);
        let record = batches.take().expect("it is read").expect("a record");
        assert_eq!((record.key, record.value, record.timestamp), (Some(&b"k"[..]), Some(&b"v"[..]), 77));
        let headers: Vec<_> = record.headers.clone().map(|(name, value)| (name, value.unwrap_or_default())).collect();
        let expected: [(&[u8], &[u8]); 3] =
            [(b"site", b"berlin"), (b"site", b"second"), (SENT_AGAIN_HEADER.as_bytes(), b"3")];
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_record_goes_to_its_partition_or_that_of_its_key() {
        let of = |partition: &str| letter(&[("dead-letter-kafka-partition", partition)]);
        assert_eq!(partition_for(&of("2"), &[0, 1, 2]), 2);
        let by_key = i32::try_from(murmur2::partition(b"k", 3)).expect("small");
        assert_eq!(partition_for(&of("3"), &[0, 1, 2]), by_key);
        assert_eq!(partition_for(&letter(&[]), &[0, 1, 2]), by_key);
    }

    /// A writer of the dead-letter topic must not make the service write elsewhere.
    #[test]
    fn a_letter_goes_where_its_sink_writes_or_its_source_reads() {
        let text = "[kafka.main]\nbootstrap = 'k:1'\n[kafka.other]\nbootstrap = 'k:2'\n\
                    [[sink]]\nname = 'a'\nkafka = 'main'\nfilters = 'a/#'\ntopic = 'a'\n\
                    [[sink]]\nname = 'any'\nkafka = 'main'\nfilters = 'b/#'\ntopic = '${topic[1]}'\n\
                    [[source]]\nname = 's'\nkafka = 'main'\ntopic = 'in'\nmqtt_topic = 't'\n";
        let config = crate::config::parse(text, "t").expect("good");
        let (main, other) = (&config.clusters[0], &config.clusters[1]);
        assert_eq!(main.name, "main");
        let of = |kind: &str, name: &str, topic: &str| {
            letter(&[
                (&format!("dead-letter-{kind}"), name),
                ("dead-letter-kafka-topic", topic),
                ("dead-letter-kafka-code", "10"),
            ])
            .said
        };
        let to = |cluster, said: &Said| allowed(&config, cluster, said).map(|(topic, sink)| (topic, sink.is_some()));
        assert_eq!(to(main, &of("sink", "a", "a")), Ok(("a".to_owned(), true)));
        assert_eq!(to(main, &of("sink", "any", "x")), Ok(("x".to_owned(), true)));
        assert_eq!(to(main, &of("source", "s", "in")), Ok(("in".to_owned(), false)));
        for (cluster, said, why) in [
            (main, of("sink", "a", "payments"), "does not write"),
            (main, of("sink", "gone", "a"), "no sink"),
            (main, of("source", "s", "payments"), "does not read"),
            (main, of("source", "gone", "in"), "no source"),
            (other, of("sink", "a", "a"), "no sink"),
            (main, of("bridge", "b", "a"), "of a bridge"),
        ] {
            let refused = to(cluster, &said).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
