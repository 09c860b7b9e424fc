//! Dead letters of records that cannot be a message (`on_bad_record = "dead-letter"`). A bad record stays open in its window until all in-sync replicas of
//! the dead-letter topic have its letter. A letter that Kafka will never take stops the partition: the committed offset stays before the record.

use std::sync::Arc;

use forebay_broker::here::Here;
use forebay_broker::words::Owner;

use super::Sources;
use super::reader::Pause;
use super::told::About;
use crate::Outlets;
use crate::dead_letters::{
    HEADER_PREFIX, OFFSET_HEADER, PARTITION_HEADER, REASON_HEADER, RECEIVED_HEADER, SOURCE_HEADER, TOPIC_HEADER,
    reason as kafka_reason,
};
use crate::members::Role;
use forebay_config::Config;
use forebay_kafka::producer::Refusal;
use forebay_kafka::types::Outcome;
use forebay_metrics::spec::SourceMetric as M;
use forebay_record::{Row, timestamp_at};
use forebay_runtime::seam::{Monotonic, WallMs};
use forebay_session::Claimed;
use forebay_source::{Reason, Record};

/// The reason why a bad record is not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// The letter has no room at the moment.
    NoRoom,
    /// The partition stops, with the reason in words.
    Stops(String),
}

/// Writes the letter of a bad record. The record waits for the letter from now on.
///
/// # Errors
/// The letter has no room now, or will never be taken.
pub(super) fn write(
    outlets: &mut Outlets,
    config: &Config,
    (source, claimed): (usize, Claimed),
    (record, reason): (&Record<'_>, Reason),
    (now, wall): (Monotonic, WallMs),
) -> Result<(), Unwritten> {
    let of = &config.sources[source];
    let timestamp = timestamp_at(wall, outlets.clock_set_after);
    let upstream = &mut outlets.upstreams[of.cluster];
    let Some((to, topic)) = upstream.members.number(Role::BadRecords(source)).zip(of.dead_letters_topic.as_deref())
    else {
        return Err(Unwritten::Stops(reason.to_string()));
    };
    let [partition, offset, time] =
        [record.partition.into(), record.offset, record.timestamp].map(|n: i64| n.to_string());
    let why = [
        (SOURCE_HEADER, of.name.as_str()),
        (REASON_HEADER, reason.label()),
        (TOPIC_HEADER, record.topic),
        (PARTITION_HEADER, &partition),
        (OFFSET_HEADER, &offset),
        (RECEIVED_HEADER, &time),
    ];
    let why = why.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    // The names of Forebay's headers are left out: the record's producer cannot forge them.
    let own = record.headers.clone().filter(|(name, _)| !name.starts_with(HEADER_PREFIX.as_bytes()));
    let own = own.map(|(name, value)| (name, value.unwrap_or_default()));
    let letter = Row { key: record.key, value: record.value, headers: own.chain(why), timestamp };
    let bytes = letter.measure().len;
    match upstream.producer.check(to, topic, bytes) {
        Ok(_) if upstream.producer.has_reserve(to, bytes) => {}
        Ok(_) => return Err(Unwritten::NoRoom),
        Err(refusal) => {
            let refusal = match refusal {
                Refusal::TooLarge => "it is too large",
                Refusal::TopicForbidden => "this client is not authorized to write the topic",
                Refusal::TooManyTopics => "there are too many topics (topics_max)",
                Refusal::TopicInvalid | Refusal::TopicUnknown => "Kafka rejects the topic",
            };
            return Err(Unwritten::Stops(format!("{reason}; its dead letter cannot be written to {topic}: {refusal}")));
        }
    }
    let ticket = Owner::BadRecord(claimed.reader).ticket(claimed.number);
    upstream.producer.append(to, topic, letter, Some(ticket), now);
    upstream.busy = true;
    Ok(())
}

impl Sources {
    /// Takes Kafka's answer for the dead letter of a record, which ends the record or stops its partition there.
    pub(crate) fn dead_letter_answered(
        &mut self,
        here: &mut Here,
        (id, number): (u32, u32),
        outcome: Outcome,
        now: Monotonic,
    ) {
        // A partition that is no longer read commits nothing more.
        let Some(reader) = self.readers.get_mut(&id) else { return };
        let Outcome::Refused(code) = outcome else {
            here.numbers.count_source(reader.source, M::DeadLettered, 1);
            if let Some(window) = &mut reader.window {
                window.dead_letter_is_safe(number);
            }
            self.report_at = self.report_at.min(reader.report_at);
            return self.show_soon(now);
        };
        here.numbers.count_source(reader.source, M::DeadLettersRefused, 1);
        // An operator has moved the partition past the record already.
        let Some(offset) = reader.window.as_mut().and_then(|window| window.dead_letter_is_refused(number)) else {
            return;
        };
        // The first refused letter gives the reason.
        if reader.pause == Some(Pause::Bad) {
            return;
        }
        let why = format!("Kafka refuses its dead letter: {}", kafka_reason(code));
        let config = Arc::clone(&here.config);
        let about: About<'_> = (reader.source, &reader.topic, reader.partition);
        Self::tell_stopped(here, &config, (about, offset), &why, now);
        reader.stops_at_bad(&mut self.consumers[reader.cluster], id, (offset, &why));
        self.show_soon(now);
    }
}
