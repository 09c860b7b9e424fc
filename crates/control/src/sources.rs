//! Sources: their counters, states and positions. The boards have the numbers, the shards are asked for the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Who;
use super::pages::{ask, not_an_answer};
use super::problem::{Named, Problem, Sent};
use super::{Shown, View};
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::inspect::{Ask, Membership, Seek, SeekTo, SourceOnShard, SourcePartition, Told};
use forebay_metrics::samples::{Span, WINDOW};
use forebay_metrics::spec::{ClusterMetric as C, SourceMetric as S};

/// Partitions in the answer about a source, at most.
const PARTITIONS_MAX: usize = 1_000;

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(sources)).routes(routes!(source)).routes(routes!(seek_source))
}

/// A source, as configured.
#[derive(Clone, Debug)]
pub struct Source {
    /// The source's name.
    pub name: String,
    /// Description from the configuration.
    pub description: Option<String>,
    /// Index of the source's cluster in [`super::Described::clusters`].
    pub cluster: usize,
    /// Kafka topics.
    pub topics: Vec<String>,
    /// Consumer group, if any.
    pub group: Option<String>,
    /// Whether it is no longer in the configuration.
    pub is_removed: bool,
    /// Whether reading is paused.
    pub is_paused: bool,
    /// Name of the source in FROM of a rule.
    pub from: String,
    /// Rules that name the source.
    pub rules: Vec<String>,
    /// Whether the source reads nothing, because its records are no messages and no rule names it.
    pub is_unused: bool,
    /// Whether `[broker]` has made the source: that nobody has subscribed to a message is nothing to report.
    pub is_of_broker: bool,
}

/// A source and its counters since the process began, all shards together.
#[derive(Debug, Serialize, ToSchema)]
struct SourceStatus {
    /// Name in the configuration.
    name: String,
    /// Description from the configuration.
    description: Option<String>,
    /// Name of the Kafka cluster.
    kafka: String,
    /// Each Kafka topic with the MQTT topic of its records; empty: the records go to rules that name the source.
    topics: BTreeMap<String, String>,
    /// Name of the source in FROM of a rule, for its records as they are.
    #[schema(example = "$bridges/kafka_consumer:commands")]
    from: String,
    /// Rules in force that name the source.
    rules: Vec<String>,
    /// Consumer group; null: the source reads all partitions and commits nothing.
    group: Option<String>,
    /// `running`; `joining`: the source has no partitions yet, or other members of its group have them all; `trouble`: its group cannot be joined, or
    /// accepts no commits; `stopped`: some partitions are not read after a bad record or batch; `unreachable`: no shard has a connection to the cluster;
    /// `paused`: nothing is read; `unused`: the source has no `mqtt_topic`, and no rule names it: nothing is read; `removed`: the source is no longer in
    /// the configuration, and is listed until it has left its group.
    #[schema(example = "running")]
    state: &'static str,
    /// Why the source is not running.
    reason: Option<String>,
    #[serde(flatten)]
    numbers: SourceNumbers,
    /// Rates per second.
    rate: SourceRate,
}

/// Numbers of a source.
#[derive(Debug, Serialize, ToSchema)]
struct SourceNumbers {
    /// Records read.
    records: u64,
    /// Bytes of the records' keys and values.
    record_bytes: u64,
    /// Messages published to subscribers or sinks.
    published: u64,
    /// Records dropped because nothing had subscribed to them.
    no_subscriber: u64,
    /// Records that cannot be a message.
    bad: u64,
    /// Records with a message that had expired.
    expired: u64,
    /// Published messages that no subscriber has after all.
    lost: u64,
    /// Messages that a sink has refused for all destinations.
    refused: u64,
    /// Messages given up after `release_after`.
    released: u64,
    /// Messages that subscribers have not acknowledged, and those after them.
    open_messages: u64,
    /// Bytes of the open messages' keys and values.
    open_bytes: u64,
    /// Messages queued for a subscriber.
    parked_messages: u64,
    /// Partitions that the group has assigned to the source.
    assigned_partitions: u64,
    /// Assigned partitions that are not read after a bad record or batch.
    stopped_partitions: u64,
    /// Records in Kafka that were not read, as far as is known.
    lag_records: u64,
    /// Assignments of the group.
    rebalances: u64,
    /// Memberships that the group ended.
    memberships_lost: u64,
    /// Offsets committed.
    commits: u64,
    /// Offsets that Kafka refused.
    commits_failed: u64,
    /// Times that reading continued at another offset.
    resets: u64,
    /// Batches that cannot be read.
    bad_batches: u64,
}

/// Rates per second over the last seconds.
#[derive(Debug, Serialize, ToSchema)]
struct SourceRate {
    /// Seconds that the rates cover, at most.
    window_seconds: u64,
    records_per_second: f64,
    record_bytes_per_second: f64,
    published_per_second: f64,
}

/// All sources.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sources {
    sources: Vec<SourceStatus>,
}

/// A source with its partitions.
#[derive(Debug, Serialize, ToSchema)]
struct SourceWithPartitions {
    #[serde(flatten)]
    status: SourceStatus,
    /// Partitions of the source: the first 1,000 by topic and number.
    partitions: Vec<Partition>,
    /// Number of further partitions.
    partitions_left_out: usize,
}

/// A partition of a source.
#[derive(Debug, Serialize, ToSchema)]
struct Partition {
    /// Kafka topic.
    topic: String,
    /// Partition number.
    partition: i32,
    /// The shard that reads the partition; null: none yet.
    shard: Option<usize>,
    /// Offset of the next record to read; null: not known yet.
    position: Option<i64>,
    /// Offset that the group has committed; null: none.
    committed: Option<i64>,
    /// Records from the position to the end, as far as is known.
    lag_records: Option<u64>,
    /// Messages that subscribers have not acknowledged, and those after them.
    open_messages: usize,
    /// Messages queued for a subscriber.
    parked_messages: usize,
    /// `reading`; `starting`: the partition's position or leader is being looked up; `window_full`: the limit of messages that subscribers have not
    /// acknowledged is reached; `no_room`: the next message waits for room; `topic_missing`: Kafka does not know the topic any more; `stopped`: the
    /// partition is not read after a bad record or batch, until a seek; `stopping`: the partition is being given back.
    #[schema(example = "reading")]
    state: &'static str,
    /// Why the partition is not read, or why Kafka does not answer.
    reason: Option<String>,
}

impl View {
    fn source_named(&self, name: &str) -> Result<usize, Problem> {
        let found = self.shown_sources().find(|index| self.described.sources[*index].name == name);
        found.ok_or_else(|| Problem::not_found(format!("no source {name:?}; /api/v1/sources lists them")))
    }

    /// Refuses a query that names an unknown source.
    pub(super) fn wanted_source(&self, name: Option<&str>) -> Result<(), Problem> {
        let found = name.map(|name| self.source_named(name));
        found.map_or(Ok(()), |found| found.map(drop).map_err(|problem| Problem::bad_request(problem.detail())))
    }

    /// Indexes of the sources of the configuration, and of removed ones that still have partitions.
    pub(super) fn shown_sources(&self) -> impl Iterator<Item = usize> {
        let snapshots = self.boards.read();
        let layout = self.boards.layout();
        let has_some = move |index| snapshots.iter().any(|values| values[layout.source(index, S::Partitions)] > 0);
        let all = self.described.sources.iter().enumerate();
        all.filter(move |(index, source)| !source.is_removed || has_some(*index)).map(|(index, _)| index)
    }

    /// A source's state and the reason. `told`: the shards' reports about the source, if they were asked.
    pub(super) fn source_state(
        &self,
        span: &Span,
        index: usize,
        told: &[&SourceOnShard],
    ) -> (&'static str, Option<String>) {
        let source = &self.described.sources[index];
        let of = |metric| span.now.source(index, metric);
        if source.is_removed {
            return ("removed", None);
        }
        if source.is_paused {
            return ("paused", Some("it is paused; its group keeps its offsets".to_owned()));
        }
        if source.is_unused {
            return (
                "unused",
                Some(format!("it has no mqtt_topic, and no rule has it in FROM, as \"{}\"", source.from)),
            );
        }
        if span.now.cluster(source.cluster, C::Reachable) == 0 {
            return ("unreachable", Some(self.described.unreachable(&self.journal, source.cluster)));
        }
        let elsewhere = || format!("`forebay sources {}` has the reason", source.name);
        let trouble = told.iter().find_map(|of| of.membership.as_ref()?.trouble.clone());
        if of(S::GroupTrouble) > 0 || trouble.is_some() {
            return ("trouble", Some(trouble.unwrap_or_else(elsewhere)));
        }
        let stopped = told.iter().find_map(|of| of.stopped.clone());
        if of(S::PartitionsStopped) > 0 || stopped.is_some() {
            return ("stopped", Some(stopped.unwrap_or_else(elsewhere)));
        }
        if of(S::Assigned) == 0 {
            let why =
                "it has no partitions: it is joining its group, its topics are missing, or other members have them all";
            return ("joining", Some(why.to_owned()));
        }
        ("running", None)
    }

    fn source_status(&self, span: &Span, index: usize, told: &[&SourceOnShard]) -> SourceStatus {
        let source = &self.described.sources[index];
        let of = |metric| span.now.source(index, metric);
        let (state, reason) = self.source_state(span, index, told);
        let rate = |metric| span.per_s(|sample| sample.source(index, metric));
        SourceStatus {
            name: source.name.clone(),
            description: source.description.clone(),
            kafka: self.described.clusters[source.cluster].name.clone(),
            topics: self.routes(source),
            from: source.from.clone(),
            rules: source.rules.clone(),
            group: source.group.clone(),
            state,
            reason,
            numbers: SourceNumbers {
                records: of(S::Records),
                record_bytes: of(S::Bytes),
                published: of(S::Published),
                no_subscriber: of(S::NoSubscriber),
                bad: of(S::Skipped),
                expired: of(S::Expired),
                lost: of(S::Lost),
                refused: of(S::Refused),
                released: of(S::Released),
                open_messages: of(S::Open),
                open_bytes: of(S::OpenBytes),
                parked_messages: of(S::Parked),
                assigned_partitions: of(S::Assigned),
                stopped_partitions: of(S::PartitionsStopped),
                lag_records: of(S::Lag),
                rebalances: of(S::Rebalances),
                memberships_lost: of(S::MembershipsLost),
                commits: of(S::Commits),
                commits_failed: of(S::CommitsFailed),
                resets: of(S::Resets),
                bad_batches: of(S::BadBatches),
            },
            rate: SourceRate {
                window_seconds: WINDOW.as_secs(),
                records_per_second: rate(S::Records),
                record_bytes_per_second: rate(S::Bytes),
                published_per_second: rate(S::Published),
            },
        }
    }

    /// The MQTT topic of each Kafka topic, according to the shown configuration.
    fn routes(&self, source: &Source) -> BTreeMap<String, String> {
        let all = self.described.config["source"].as_array();
        let keys = all.into_iter().flatten().find(|keys| keys["name"] == source.name).unwrap_or(&Value::Null);
        let of = |topic: &String| {
            let own = keys["topic"].get(topic).unwrap_or(&keys["mqtt_topic"]);
            (topic.clone(), own.as_str().unwrap_or_default().to_owned())
        };
        source.topics.iter().map(of).collect()
    }

    /// Asks all shards for all sources, or for one: each with its shard.
    async fn ask_for_sources(
        &self,
        source: Option<usize>,
        limit: usize,
    ) -> Result<Vec<(usize, SourceOnShard)>, Problem> {
        let mut all = Vec::new();
        for shard in 0..self.shards.count() {
            match ask(self, shard, Ask::Sources { source, limit }).await? {
                Told::Sources(found) => all.extend(found.into_iter().map(|of| (shard, of))),
                _ => return Err(not_an_answer()),
            }
        }
        Ok(all)
    }
}

/// The shards' reports about one source.
fn of_source(told: &[(usize, SourceOnShard)], index: usize) -> Vec<&SourceOnShard> {
    told.iter().map(|(_, of)| of).filter(|of| of.source == index).collect()
}

/// All sources.
#[utoipa::path(get, path = "/api/v1/sources", tag = "sources", responses(
    (status = 200, body = Sources),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
pub(super) async fn sources(State(view): State<Arc<View>>) -> Result<Json<Sources>, Problem> {
    let told = view.ask_for_sources(None, 0).await?;
    let span = view.samples.span(&view.boards);
    let status = |index| view.source_status(&span, index, &of_source(&told, index));
    Ok(Json(Sources { sources: view.shown_sources().map(status).collect() }))
}

/// One source, with its partitions.
#[utoipa::path(get, path = "/api/v1/sources/{name}", tag = "sources",
    params(("name" = String, Path, description = "Its name in the configuration")), responses(
    (status = 200, body = SourceWithPartitions),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn source(State(view): State<Arc<View>>, Named(name): Named) -> Result<Json<SourceWithPartitions>, Problem> {
    let index = view.source_named(&name)?;
    let told = view.ask_for_sources(Some(index), PARTITIONS_MAX).await?;
    let status = view.source_status(&view.samples.span(&view.boards), index, &of_source(&told, index));
    let mut left_out: usize = told.iter().map(|(_, of)| of.more).sum();
    let mut partitions = together(told);
    left_out += partitions.len().saturating_sub(PARTITIONS_MAX);
    partitions.truncate(PARTITIONS_MAX);
    Ok(Json(SourceWithPartitions { status, partitions, partitions_left_out: left_out }))
}

/// Merges the partitions that shards read with the offsets that the shard of the membership knows.
fn together(told: Vec<(usize, SourceOnShard)>) -> Vec<Partition> {
    let mut all: BTreeMap<(String, i32), Partition> = BTreeMap::new();
    for (shard, of) in told {
        let Membership { committed, .. } = of.membership.unwrap_or_default();
        for (topic, partition, committed) in committed {
            let of = all.entry((topic.clone(), partition)).or_insert_with(|| Partition::unread(topic, partition));
            of.committed = committed;
        }
        for SourcePartition { topic, partition, position, lag, open, parked, state, reason } in of.partitions {
            let of = all.entry((topic.clone(), partition)).or_insert_with(|| Partition::unread(topic, partition));
            (of.shard, of.position, of.lag_records) = (Some(shard), position, lag);
            (of.open_messages, of.parked_messages) = (open, parked);
            (of.state, of.reason) = (state, reason);
        }
    }
    all.into_values().collect()
}

impl Partition {
    /// A partition that no shard has yet.
    const fn unread(topic: String, partition: i32) -> Self {
        Self {
            topic,
            partition,
            shard: None,
            position: None,
            committed: None,
            lag_records: None,
            open_messages: 0,
            parked_messages: 0,
            state: "starting",
            reason: None,
        }
    }
}

/// The place to continue reading from, and the partitions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlaceToSeek {
    /// Only partitions of this Kafka topic.
    topic: Option<String>,
    /// Only this partition.
    #[schema(minimum = 0)]
    partition: Option<i32>,
    /// `"earliest"`, `"latest"`, a time as in `"2026-11-26T10:00:00Z"`, an age as in `"-1h"`, or an offset for one partition.
    to: To,
}

/// A place in a log.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum To {
    /// An offset.
    #[schema(value_type = u64)]
    Offset(Number),
    /// A place in words.
    Words(String),
}

/// Result of a seek.
#[derive(Debug, Serialize, ToSchema)]
struct Sought {
    /// Number of partitions that seek. Each continues at the place within a moment; its position is committed then.
    partitions: usize,
}

/// Continues reading a source's partitions from another place. Messages of the source that subscribers have not acknowledged are given up: the group does
/// not wait for them. A stopped partition is read again. The seek applies to the partitions that this service has, not to those of other members of the
/// group.
#[utoipa::path(post, path = "/api/v1/sources/{name}/seek", tag = "sources",
    params(("name" = String, Path, description = "Its name")),
    request_body = PlaceToSeek, responses(
    (status = 200, body = Sought),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "There is no such place"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such source, or it does not have the partition"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "The source reads nothing: it is paused, or has no partitions"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn seek_source(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Named(name): Named,
    Sent(PlaceToSeek { topic, partition, to }): Sent<PlaceToSeek>,
) -> Result<Json<Sought>, Problem> {
    let index = view.source_named(&name)?;
    let source = &view.described.sources[index];
    let digits = |text: &String| text.bytes().all(|byte| byte.is_ascii_digit());
    let to = match to {
        To::Words(text) if !text.is_empty() && digits(&text) => offset(text.parse().ok())?,
        To::Words(text) => view.shards.place(&text).map_err(|why| {
            let hint = "`earliest`, `latest`, a time as in 2026-11-26T10:00:00Z, an age as in -1h, or an offset";
            Problem::bad_request(format!("to: {why}; write {hint}"))
        })?,
        To::Offset(number) => offset(number.as_u64())?,
    };
    if matches!(to, SeekTo::Offset(_)) && (partition.is_none() || (topic.is_none() && source.topics.len() > 1)) {
        return Err(Problem::bad_request(
            "an offset is a place in one partition: name it, and its topic if the source reads several",
        ));
    }
    if let Some(topic) = topic.as_ref().filter(|topic| !source.topics.contains(topic)) {
        return Err(Problem::not_found(format!("source {name} does not read the Kafka topic {topic:?}")));
    }
    let nothing = |why: &str| Problem::new(StatusCode::CONFLICT, format!("source {name} {why}"));
    if source.is_paused {
        return Err(nothing("is paused: resume it first"));
    }
    let seek = Seek { source: index, topic, partition, to };
    match ask(&view, view.shards.owner(&name), Ask::Seek(Box::new(seek))).await? {
        Told::Sought(Some(0)) if partition.is_some() => {
            let why = "it is not there, or another member of the group has it";
            Err(Problem::not_found(format!(
                "source {name} does not have partition {}: {why}",
                partition.unwrap_or_default()
            )))
        }
        Told::Sought(None | Some(0)) => {
            Err(nothing("has no partitions: it is joining its group, or other members have them all"))
        }
        Told::Sought(Some(partitions)) => {
            let event =
                Event::now(Kind::AdminAction).with(Field::Action, "seek_source").with(Field::Source, name.as_str());
            view.journal.say(event.maybe(Field::Token, token));
            Ok(Json(Sought { partitions }))
        }
        _ => Err(not_an_answer()),
    }
}

fn offset(number: Option<u64>) -> Result<SeekTo, Problem> {
    let offset = number.and_then(|number| i64::try_from(number).ok());
    offset.map(SeekTo::Offset).ok_or_else(|| Problem::bad_request("to: there is no such offset; they begin with 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_shown_once_with_what_two_shards_know() {
        let committed = vec![("t".to_owned(), 0, Some(5)), ("t".to_owned(), 1, None)];
        let home =
            SourceOnShard { membership: Some(Membership { trouble: None, committed }), ..SourceOnShard::default() };
        let partition = SourcePartition {
            topic: "t".to_owned(),
            partition: 0,
            position: Some(9),
            lag: Some(2),
            open: 4,
            parked: 1,
            state: "reading",
            reason: None,
        };
        let reads = SourceOnShard { partitions: vec![partition], ..SourceOnShard::default() };
        let shown = together(vec![(0, home), (1, reads)]);
        let places: Vec<_> =
            shown.iter().map(|of| (of.partition, of.shard, of.position, of.committed, of.state)).collect();
        assert_eq!(places, [(0, Some(1), Some(9), Some(5), "reading"), (1, None, None, None, "starting")]);
        assert_eq!((shown[0].lag_records, shown[0].open_messages, shown[0].parked_messages), (Some(2), 4, 1));
    }

    #[test]
    fn an_offset_is_a_place_as_long_as_kafka_knows_it() {
        assert_eq!(offset(Some(7)).ok(), Some(SeekTo::Offset(7)));
        assert!(offset(Some(u64::MAX)).is_err() && offset(None).is_err());
    }
}
