//! Dead letters in Kafka topics: lists the topics and their letters, the newest first, and sends letters again.
//!
//! Kafka is read and written on a separate thread, one request at a time. Letters in a topic cannot be deleted: those that were sent again stay there, and
//! are noted in a file of `data_dir`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Grant, Who, may_read_messages};
use super::content::Content;
use super::problem::{Asked, Named, Problem, Sent};
use super::reload::{asked, refused, stopping};
use super::trial::{Header, TrialAnswer};
use super::{Shown, View};
use forebay_base::limits::{LETTERS_SENT_MAX, LETTERS_SHOWN_MAX};
use forebay_metrics::event::{Event, Field, Kind};

/// Letters of a page by default.
const LIMIT: usize = 50;
/// How long a request waits for the one before it, at most.
const WAITS_AT_MOST: Duration = Duration::from_secs(10);
/// Letters that one request sends by default.
const SENT: usize = 100;

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new()
        .routes(routes!(letters_of_topic))
        .routes(routes!(letter_of_topic))
        .routes(routes!(send_letters_again))
        .layer(Extension(Desk(Arc::new(Semaphore::new(1)))))
}

/// Admits one reader or sender at a time.
#[derive(Clone, Debug)]
struct Desk(Arc<Semaphore>);

impl Desk {
    async fn take(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.take_within(WAITS_AT_MOST).await
    }

    async fn take_within(&self, patience: Duration) -> Result<OwnedSemaphorePermit, Problem> {
        match tokio::time::timeout(patience, Arc::clone(&self.0).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                let detail = "dead letters are read or sent by another request; there is one at a time";
                Err(Problem::new(StatusCode::CONFLICT, detail).after(1))
            }
        }
    }
}

/// A Kafka topic that dead letters go to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LetterTopic {
    /// Name of the cluster.
    pub kafka: String,
    /// Name of the topic.
    pub topic: String,
    /// Sinks that write to the topic.
    pub sinks: Vec<String>,
    /// Sources that write to the topic.
    pub sources: Vec<String>,
    /// Bridges that write to the topic.
    pub bridges: Vec<String>,
}

/// A file that dead letters go to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LetterFile {
    /// Path of the file.
    pub file: String,
    /// Sinks that write to the file.
    pub sinks: Vec<String>,
    /// Bridges that write to the file.
    pub bridges: Vec<String>,
}

/// Destinations of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LetterPlaces {
    /// Kafka topics.
    pub topics: Vec<LetterTopic>,
    /// Files.
    pub files: Vec<LetterFile>,
}

/// A dead letter of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeadLetter {
    /// Partition of the dead-letter topic.
    pub partition: i32,
    /// Offset in that partition.
    pub offset: i64,
    /// Time at which the record became a dead letter.
    pub at: String,
    /// Origin and reason, from the letter's headers.
    #[serde(flatten)]
    pub about: LetterAbout,
    /// The record's key, or its beginning; null: the key is null.
    pub key: Option<Content>,
    /// The record's value, or its beginning; null: the value is null.
    pub value: Option<Content>,
    /// Bytes of the whole value.
    pub value_bytes: u64,
    /// The record's own headers, in order; in a list the first 32, each with its first 256 bytes.
    pub headers: Vec<Header>,
    /// Times that the record had been sent again before it became this letter.
    pub sent_before: u32,
    /// Whether this instance has sent the letter again and Kafka has taken it.
    pub sent_again: bool,
    /// Why the letter cannot be sent again; null: it can.
    pub cannot: Option<String>,
}

/// Origin of a dead letter and its reason, from its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LetterAbout {
    /// The sink that could not deliver the message.
    pub sink: Option<String>,
    /// The source that could not make a message of the record.
    pub source: Option<String>,
    /// The bridge with the remote that refused the message.
    pub bridge: Option<String>,
    /// The rule that failed for the message.
    pub rule: Option<String>,
    /// Reason: docs/DEAD_LETTERS.md.
    pub reason: Option<String>,
    /// Kafka's error code.
    pub kafka_code: Option<i64>,
    /// The Kafka topic that the record was for; with `source` the topic that it came from.
    pub kafka_topic: Option<String>,
    /// Partition of that topic.
    pub kafka_partition: Option<i32>,
    /// Offset in that partition; only with `source`.
    pub kafka_offset: Option<i64>,
    /// Time at which the message was received.
    pub received: Option<String>,
    /// MQTT topic.
    pub mqtt_topic: Option<String>,
    /// Client identifier of the publisher.
    pub client_id: Option<String>,
    /// QoS.
    pub qos: Option<u8>,
}

/// The requested letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LettersWanted {
    /// The newest before some offsets, by partition; `None`: the newest of all.
    Newest {
        /// The most entries to return.
        limit: usize,
        /// Only letters since then: `earliest`, a time or an age.
        since: Option<String>,
        /// Only letters with this reason.
        reason: Option<String>,
        /// The offsets. A partition that is missing here has no more.
        before: Option<BTreeMap<i32, i64>>,
    },
    /// The letter with this partition and offset, uncut.
    One(i32, i64),
}

/// A request for dead letters of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LettersAsk {
    /// The cluster's name.
    pub kafka: String,
    /// The topic.
    pub topic: String,
    /// The requested letters.
    pub wanted: LettersWanted,
}

/// Result of a request for letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LettersFound {
    /// Letters, the newest first.
    pub letters: Vec<DeadLetter>,
    /// Offsets to continue from, by partition; empty: there are no older letters.
    pub before: BTreeMap<i32, i64>,
}

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
struct LettersOfTopic {
    /// Letters, the newest first.
    letters: Vec<DeadLetter>,
    /// Cursor of the next page, with older letters; null: there are none. A page may be shorter than its limit, or empty.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TopicQuery {
    /// The most entries to return.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
    /// Only letters since then: `earliest`, a time (RFC 3339), or an age as in `-1h`.
    since: Option<String>,
    /// Only letters with this reason.
    reason: Option<String>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

/// Partition and offset of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LetterPlace {
    /// Partition of the dead-letter topic.
    pub partition: i32,
    /// Offset in that partition.
    pub offset: i64,
}

/// Letters to send again: `letters`, or all of a partition up to an offset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LettersToSend {
    /// The letters by place.
    #[serde(default)]
    pub letters: Vec<LetterPlace>,
    /// All letters of this partition up to and including this offset that were not sent again.
    pub up_to: Option<LetterPlace>,
    /// With `up_to`: only letters from this offset on.
    pub from: Option<i64>,
    /// With `up_to`: only letters with this reason.
    pub reason: Option<String>,
    /// The most letters to send.
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
    /// Sends letters of `letters` even if they were sent again already.
    #[serde(default)]
    pub repeat: bool,
    /// Only report what would become of each letter.
    #[serde(default)]
    pub dry_run: bool,
}

/// Result of sending a letter again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LetterSent {
    /// Partition of the dead-letter topic.
    pub partition: i32,
    /// Offset in that partition.
    pub offset: i64,
    /// `taken`: all in-sync replicas have the record; `refused`: Kafka has not taken it; `unknown`: there was no answer, and Kafka may or may not have the
    /// record; `not_sent`: nothing was sent; with `dry_run` `would_be_sent`.
    #[schema(example = "taken")]
    pub result: &'static str,
    /// Why the record was not taken; null: it was.
    pub why: Option<String>,
    /// Topic that the record is for.
    pub to_topic: Option<String>,
    /// Partition of that topic.
    pub to_partition: Option<i32>,
    /// Offset in that partition.
    pub to_offset: Option<i64>,
}

/// Result of sending letters again. The letters are still in the dead-letter topic: nothing can be deleted there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LettersSent {
    /// The result for each letter.
    pub letters: Vec<LetterSent>,
    /// With `up_to`: the `from` of the next request, for the rest; null: that was all.
    pub from: Option<i64>,
    /// Why the note of the sent letters could not be written: they may be shown as not sent. Null: written.
    pub not_noted: Option<String>,
}

/// Dead letters of a topic, the newest first, with their contents: this needs the role write.
#[utoipa::path(get, path = "/api/v1/clusters/{name}/dead-letters/{topic}", tag = "kafka", security(("token" = [])),
    params(("name" = String, Path, description = "The cluster's name"), ("topic" = String, Path, description = "The dead-letter topic"), TopicQuery), responses(
    (status = 200, body = LettersOfTopic),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "The token has the role read"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "The configuration has no such dead-letter topic, or Kafka has not"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "Another request reads or sends, or the service is still starting"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`since` is no time"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "Kafka cannot be read, or not in 10 s")))]
async fn letters_of_topic(
    State(view): State<Arc<View>>,
    Extension(grant): Extension<Grant>,
    Extension(desk): Extension<Desk>,
    Named((kafka, topic)): Named<(String, String)>,
    Asked(TopicQuery { limit, since, reason, cursor }): Asked<TopicQuery>,
) -> Result<Json<LettersOfTopic>, Problem> {
    may_read_messages(&view, &grant)?;
    known(&view, &kafka, &topic)?;
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=LETTERS_SHOWN_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit must be 1 to {LETTERS_SHOWN_MAX}")));
    }
    let before = cursor.as_deref().map(places_of).transpose()?;
    let wanted = LettersWanted::Newest { limit, since, reason, before };
    let found = read(&view, &desk, LettersAsk { kafka, topic, wanted }).await?;
    let next: Vec<String> = found.before.iter().map(|(partition, offset)| format!("{partition}-{offset}")).collect();
    Ok(Json(LettersOfTopic { letters: found.letters, next: (!next.is_empty()).then(|| next.join(".")) }))
}

/// One dead letter of a topic, uncut: this needs the role write.
#[utoipa::path(get, path = "/api/v1/clusters/{name}/dead-letters/{topic}/{partition}/{offset}", tag = "kafka", security(("token" = [])),
    params(("name" = String, Path, description = "The cluster's name"), ("topic" = String, Path, description = "The dead-letter topic"),
        ("partition" = String, Path, description = "The letter's partition"), ("offset" = String, Path, description = "The letter's offset")), responses(
    (status = 200, body = DeadLetter),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "The token has the role read"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "Another request reads or sends, or the service is still starting"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "Kafka cannot be read, or not in 10 s")))]
async fn letter_of_topic(
    State(view): State<Arc<View>>,
    Extension(grant): Extension<Grant>,
    Extension(desk): Extension<Desk>,
    Named((kafka, topic, partition, offset)): Named<(String, String, String, String)>,
) -> Result<Json<DeadLetter>, Problem> {
    may_read_messages(&view, &grant)?;
    known(&view, &kafka, &topic)?;
    let none = || Problem::not_found(format!("{topic} has no record at offset {offset} of partition {partition}"));
    let (Ok(partition_number), Ok(offset_number)) = (partition.parse(), offset.parse()) else { return Err(none()) };
    let wanted = LettersWanted::One(partition_number, offset_number);
    let found = read(&view, &desk, LettersAsk { kafka, topic: topic.clone(), wanted }).await?;
    found.letters.into_iter().next().map(Json).ok_or_else(none)
}

/// Sends records of dead letters again: to the Kafka topic that each was for, or that its source reads. The answer reports the result for each letter, once
/// all in-sync replicas have the record. A record has the header `forebay-sent-again` with the number of times.
#[utoipa::path(post, path = "/api/v1/clusters/{name}/dead-letters/{topic}/send", tag = "kafka",
    params(("name" = String, Path, description = "The cluster's name"), ("topic" = String, Path, description = "The dead-letter topic")),
    request_body = LettersToSend, responses(
    (status = 200, body = LettersSent, description = "Each says what became of it"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "The configuration has no such dead-letter topic, or Kafka has not"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "Another request reads or sends, or the service is still starting"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "Kafka cannot be read: nothing was sent")))]
async fn send_letters_again(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Extension(desk): Extension<Desk>,
    Named((kafka, topic)): Named<(String, String)>,
    Sent(wanted): Sent<LettersToSend>,
) -> Result<Json<LettersSent>, Problem> {
    known(&view, &kafka, &topic)?;
    let limit = wanted.limit.unwrap_or(SENT);
    if !(1..=LETTERS_SENT_MAX).contains(&limit) || wanted.letters.len() > LETTERS_SENT_MAX {
        return Err(Problem::bad_request(format!("at least 1 and at most {LETTERS_SENT_MAX} letters")));
    }
    if wanted.letters.is_empty() == wanted.up_to.is_none() {
        return Err(Problem::bad_request("which ones? `letters` or `up_to`: one of them"));
    }
    if wanted.up_to.is_none() && (wanted.from.is_some() || wanted.reason.is_some()) {
        return Err(Problem::bad_request("`from` and `reason` are for `up_to`"));
    }
    let is_dry_run = wanted.dry_run;
    let wanted = LettersToSend { limit: Some(limit), ..wanted };
    let permit = desk.take().await?;
    let (of, to) = (kafka.clone(), topic.clone());
    let done: LettersSent = told(|answer| view.trials.send_letters((of, to), wanted, held(permit, answer))).await?;
    if !is_dry_run {
        let taken = done.letters.iter().filter(|letter| letter.result == "taken").count();
        let event = Event::now(Kind::AdminAction).with(Field::Action, "send_dead_letters").with(Field::Kafka, kafka);
        let event = event.with(Field::LettersTopic, topic).with(Field::Records, taken as u64);
        view.journal.say(event.maybe(Field::Token, token));
    }
    Ok(Json(done))
}

/// Refuses a topic that the configuration does not name for dead letters.
fn known(view: &View, kafka: &str, topic: &str) -> Result<(), Problem> {
    let is_there = view.described.letters.topics.iter().any(|known| known.kafka == kafka && known.topic == topic);
    let none = || {
        format!(
            "no sink, source or bridge writes dead letters to {topic:?} of {kafka:?}; /api/v1/dead-letters lists them"
        )
    };
    if is_there { Ok(()) } else { Err(Problem::not_found(none())) }
}

async fn read(view: &View, desk: &Desk, ask: LettersAsk) -> Result<LettersFound, Problem> {
    let permit = desk.take().await?;
    told(|answer| view.trials.letters(ask, held(permit, answer))).await
}

/// Wraps an answer so that it frees the desk, even if the caller has gone.
fn held<T: 'static>(permit: OwnedSemaphorePermit, answer: TrialAnswer<T>) -> TrialAnswer<T> {
    Box::new(move |outcome| {
        drop(permit);
        answer(outcome);
    })
}

/// Waits for the outcome of a request to Kafka; the inner error is Kafka's.
async fn told<T: Send + 'static>(ask: impl FnOnce(TrialAnswer<Result<T, String>>) -> bool) -> Result<T, Problem> {
    let outcome = asked(ask)?.await.map_err(|_| stopping())?;
    outcome.map_err(refused)?.map_err(Problem::unavailable)
}

/// The offsets of a cursor, by partition.
fn places_of(cursor: &str) -> Result<BTreeMap<i32, i64>, Problem> {
    let place = |place: &str| {
        let (partition, offset) = place.split_once('-')?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    };
    let places = cursor.split('.').map(place).collect::<Option<_>>();
    places.ok_or_else(|| Problem::bad_request("cursor must be `next` of the page before"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_the_offsets_of_partitions() {
        assert_eq!(places_of("0-12.3-5").ok(), Some(BTreeMap::from([(0, 12), (3, 5)])));
        for wrong in ["", "0", "0-", "x-1", "0-1.", "0-1,1-2"] {
            assert!(places_of(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn one_reads_or_sends_at_a_time() {
        let desk = Desk(Arc::new(Semaphore::new(1)));
        let permit = desk.take().await.expect("a place");
        assert!(desk.take_within(Duration::ZERO).await.is_err());
        // The permit is freed by the answer, and also if there is none.
        let answer: TrialAnswer<()> = Box::new(|_| ());
        let answer = held(permit, answer);
        assert!(desk.take_within(Duration::ZERO).await.is_err());
        answer(Ok(()));
        let permit = desk.take().await.expect("a place");
        let answer: TrialAnswer<()> = Box::new(|_| ());
        drop(held(permit, answer));
        assert!(desk.take().await.is_ok());
    }
}
