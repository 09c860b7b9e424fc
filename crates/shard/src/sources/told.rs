//! Metrics and events of sources.

use forebay_broker::here::Here;
use forebay_broker::numbers::Numbers;
use forebay_broker::words::second;

use super::super::mail::Place;
use super::Sources;
use super::membership::Told;
use super::positions::OfRoute;
use super::reader::Pause;
use super::window::Window;
use forebay_config::Config;
use forebay_kafka::consumer::{News, State, WhyReset, WhyStopped};
use forebay_kafka::group::Lost;
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::spec::SourceMetric as M;
use forebay_runtime::seam::Monotonic;
use forebay_source::Reason;

/// The reason why a membership is over that another process has ended.
pub(super) const FENCED: &str = "another process has joined with the same name (`group_instance`, or `instance-name` in a `data_dir` that was copied), and this one reads no more: \
     give each process a name of its own, or remove that file from the copy and restart it; then pause the source here and resume it";

/// The partition of a report: its source, topic and number.
pub(super) type About<'a> = (usize, &'a str, i32);

/// An event about a partition.
fn of_partition(event: Event, config: &Config, (source, topic, partition): About<'_>) -> Event {
    let partition = u64::try_from(partition).unwrap_or(0);
    let event = event.with(Field::Source, config.sources[source].name.as_str());
    event.with(Field::Topic, topic).with(Field::Partition, partition)
}

/// An offset in an event.
fn number(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

impl Sources {
    /// Takes the news of a cluster's consumer.
    pub(super) fn take_consumer_news(&mut self, here: &mut Here, config: &Config, cluster: usize, now: Monotonic) {
        let Self { consumers, readers, .. } = self;
        let consumer = &mut consumers[cluster];
        while let Some(news) = consumer.take_news() {
            let id = match &news {
                News::Started { id, .. }
                | News::Reset { id, .. }
                | News::Skipped { id, .. }
                | News::Stopped { id, .. }
                | News::Trouble { id, .. }
                | News::TroubleOver { id } => *id,
                News::Partitions { .. } => continue,
            };
            let Some(reader) = readers.get_mut(&id) else { continue };
            let (teller, numbers, second) = (&mut here.teller, &mut here.numbers, second(now));
            let about: About<'_> = (reader.source, &reader.topic, reader.partition);
            match news {
                News::Started { offset, .. } => {
                    // The next process would look for an uncommitted place again: at the newest record, for example.
                    reader.starts_at(Place { offset, leader_epoch: -1 });
                    self.report_at = now;
                }
                News::Reset { from, to, why, .. } => {
                    numbers.count_source(reader.source, M::Resets, 1);
                    let at = Place { offset: to, leader_epoch: -1 };
                    reader.is_sought = false;
                    let window = reader.window.get_or_insert_with(|| Window::new(at));
                    if why == WhyReset::Truncated && to < from {
                        window.goes_back(at)
                    } else {
                        window.restart(at)
                    }
                    if to < from || why == WhyReset::Recreated {
                        reader.of_route.iter_mut().for_each(OfRoute::is_wanted_anew);
                    }
                    // The place is reported as at the beginning: the group may have no place any more, or one of another log.
                    (reader.report_at, self.report_at) = (now, now);
                    teller.tell_of(Kind::SourceReset, second, id, |event| {
                        let event = of_partition(event, config, about).with(Field::Offset, number(from));
                        event.with(Field::NextOffset, number(to)).with(Field::Reason, why.words())
                    });
                }
                News::Skipped { from, to, bad, .. } => {
                    numbers.count_source(reader.source, M::BadBatches, 1);
                    teller.tell_of(Kind::SourceSkipped, second, id, |event| {
                        let event = of_partition(event, config, about).with(Field::Offset, number(from));
                        event.with(Field::NextOffset, number(to)).with(Field::Reason, bad.to_string())
                    });
                }
                News::Stopped { why, .. } => {
                    let is_bad = matches!(why, WhyStopped::BadBatch { .. });
                    numbers.count_source(reader.source, M::BadBatches, u64::from(is_bad));
                    let (reason, offset) = why.words();
                    teller.tell_of(Kind::SourceStopped, second, id, |event| {
                        let event = of_partition(event, config, about).maybe(Field::Offset, offset.map(number));
                        event.with(Field::Reason, reason)
                    });
                }
                News::Trouble { error, .. } => {
                    let reason = format!("Kafka answers {error} ({})", forebay_metrics::spec::KafkaError::name(error));
                    reader.trouble = Some(reason.clone());
                    teller.tell_of(Kind::SourceTrouble, second, id, |event| {
                        of_partition(event, config, about).with(Field::Reason, reason)
                    });
                }
                News::TroubleOver { .. } => {
                    reader.trouble = None;
                    teller.tell_of(Kind::SourceRunning, second, id, |event| of_partition(event, config, about));
                }
                News::Partitions { .. } => {}
            }
        }
    }

    /// Counts a record that is no message. Returns whether `on_bad_record` decides about it.
    pub(super) fn count_bad(numbers: &mut Numbers, source: usize, reason: Reason) -> bool {
        let metric = match reason {
            Reason::Expired => {
                numbers.count_source(source, M::Expired, 1);
                return false;
            }
            Reason::Unmapped => M::BadUnmapped,
            Reason::TopicAbsent => M::BadTopicAbsent,
            Reason::TopicInvalid => M::BadTopicInvalid,
            Reason::QosInvalid => M::BadQos,
            Reason::RetainInvalid => M::BadRetain,
            Reason::TooLarge => M::BadTooLarge,
            Reason::Headers => M::BadHeaders,
            Reason::Loop => M::BadLoop,
        };
        numbers.count_source(source, metric, 1);
        numbers.count_source(source, M::Skipped, 1);
        true
    }

    /// Reports a record that is no message and does not stop its partition.
    pub(super) fn tell_bad(
        here: &mut Here,
        config: &Config,
        (about, offset): (About<'_>, i64),
        reason: Reason,
        now: Monotonic,
    ) {
        let letters = config.sources[about.0].dead_letters_topic.as_deref();
        here.teller.tell_of(Kind::SourceBadRecord, second(now), about.0, |event| {
            let event = of_partition(event, config, about).with(Field::Offset, number(offset));
            event.with(Field::Reason, reason.to_string()).maybe(Field::LettersTopic, letters)
        });
    }

    /// Reports a partition that stops at a record.
    pub(super) fn tell_stopped(
        here: &mut Here,
        config: &Config,
        (about, offset): (About<'_>, i64),
        reason: &str,
        now: Monotonic,
    ) {
        here.teller.tell_of(Kind::SourceStopped, second(now), about, |event| {
            of_partition(event, config, about).with(Field::Offset, number(offset)).with(Field::Reason, reason)
        });
    }

    /// Reports a partition with a window full of messages without subscribers.
    pub(super) fn tell_waiting(here: &mut Here, config: &Config, (about, offset): (About<'_>, i64), now: Monotonic) {
        here.teller.tell_of(Kind::SourceWaiting, second(now), about, |event| {
            of_partition(event, config, about).with(Field::Offset, number(offset))
        });
    }

    /// Reports an event of a membership.
    pub(super) fn tell_membership(here: &mut Here, config: &Config, source: usize, told: Told, now: Monotonic) {
        let (numbers, teller, second) = (&mut here.numbers, &mut here.teller, second(now));
        let of = &config.sources[source];
        let with = |event: Event| {
            let group = Some(of.group.as_str()).filter(|group| !group.is_empty());
            event.with(Field::Source, of.name.as_str()).maybe(Field::Group, group)
        };
        match told {
            Told::Assigned(partitions) => {
                numbers.count_source(source, M::Rebalances, 1);
                teller.tell_of(Kind::SourceAssigned, second, source, |event| {
                    with(event).with(Field::Partitions, partitions as u64)
                });
            }
            Told::Lost(why) => {
                numbers.count_source(source, M::MembershipsLost, 1);
                let reason = match why {
                    Lost::Fenced => FENCED,
                    Lost::Generation | Lost::Unknown | Lost::Epoch => {
                        "the coordinator did not hear of it in time, or somebody removed it"
                    }
                };
                teller.tell_of(Kind::SourceGroupLost, second, source, |event| with(event).with(Field::Reason, reason));
            }
            Told::Committed(places) => numbers.count_source(source, M::Commits, places),
            Told::CommitFailed(why) => {
                numbers.count_source(source, M::CommitsFailed, 1);
                teller.tell_of(Kind::SourceTrouble, second, source, |event| with(event).with(Field::Reason, why));
            }
            Told::Trouble(why) => {
                teller.tell_of(Kind::SourceTrouble, second, source, |event| with(event).with(Field::Reason, why));
            }
            Told::TroubleOver => teller.tell_of(Kind::SourceRunning, second, source, with),
        }
    }

    /// Counts messages that had no receiver in the end.
    pub(super) fn count_unmet(&mut self, numbers: &mut Numbers) {
        self.unmet.drain(..).for_each(|source| numbers.count_source(source, M::Lost, 1));
    }

    /// Sets the gauges of all sources on the board.
    pub(super) fn set_numbers(&self, here: &mut Here) {
        let mut values = vec![[0u64; 8]; here.config.sources.len()];
        for (id, reader) in &self.readers {
            let of = &mut values[reader.source];
            let consumer = &self.consumers[reader.cluster];
            if let Some(window) = &reader.window {
                of[0] += window.len() as u64;
                of[1] += window.bytes() as u64;
                of[2] += window.parked() as u64;
            }
            of[3] += 1;
            of[4] +=
                u64::from(reader.pause == Some(Pause::Bad) || matches!(consumer.state(*id), Some(State::Stopped(_))));
            of[5] += consumer.lag(*id).unwrap_or(0);
        }
        for (source, membership) in &self.memberships {
            values[*source][6] = membership.partitions() as u64;
            values[*source][7] = u64::from(membership.troubles.reason().is_some());
        }
        const METRICS: [M; 8] = [
            M::Open,
            M::OpenBytes,
            M::Parked,
            M::Partitions,
            M::PartitionsStopped,
            M::Lag,
            M::Assigned,
            M::GroupTrouble,
        ];
        for (source, values) in values.into_iter().enumerate() {
            for (metric, value) in METRICS.into_iter().zip(values) {
                here.numbers.set_source(source, metric, value);
            }
        }
    }
}
