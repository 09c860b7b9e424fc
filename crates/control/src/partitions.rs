//! Partitions that a sink writes to, and their records: collected from the shards, page by page.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::View;
use super::pages::{not_an_answer, page};
use super::problem::{Asked, Named, Problem};
use forebay_metrics::inspect::{self, Ask, Told};
use forebay_metrics::time::now_ms;

pub(super) fn routes() -> OpenApiRouter<super::Shown> {
    OpenApiRouter::new().routes(routes!(sink_partitions))
}

/// State of a partition that a sink writes to, on one shard.
#[derive(Debug, Serialize, ToSchema)]
struct SinkPartition {
    /// Kafka topic.
    topic: String,
    /// Partition number; null: records of the topic that have no partition yet.
    partition: Option<u32>,
    /// The shard. Each shard has its own records, requests and connections.
    shard: usize,
    /// Node ID of the leader; null: unknown, or there is none.
    leader: Option<i32>,
    /// Address of the leader.
    leader_address: Option<String>,
    /// Records that are not known to be in Kafka.
    waiting_records: u64,
    /// Memory of the waiting records.
    waiting_bytes: usize,
    /// Waiting records that are on disk alone.
    disk_only_records: u64,
    /// Batches that are cut: sent, or next to be sent.
    batches: usize,
    /// Requests without a response.
    requests_in_flight: usize,
    /// Age of the oldest record in memory; null: none.
    oldest_seconds: Option<f64>,
    /// Offset of the last record that Kafka has acknowledged to this shard since the process began; null: none.
    acknowledged_offset: Option<i64>,
    /// `idle`: no records; `waiting`: for a batch to fill, or its turn; `sending`; `sent_again`; `backing_off`: after an error, before the batch is sent
    /// again; `no_leader`; `no_partition`: Kafka has not reported the partitions; `refused`: Kafka accepts nothing for this topic.
    #[schema(example = "sending")]
    state: &'static str,
}

impl SinkPartition {
    fn new(shard: usize, of: inspect::Partition, now_ms: i64) -> Self {
        Self {
            topic: of.topic,
            partition: of.partition,
            shard,
            leader: of.leader.as_ref().map(|(node, _)| *node),
            leader_address: of.leader.and_then(|(_, address)| address),
            waiting_records: of.records,
            waiting_bytes: of.bytes,
            disk_only_records: of.spilled,
            batches: of.batches,
            requests_in_flight: of.in_flight,
            oldest_seconds: of.oldest_ms.map(|at| now_ms.saturating_sub(at).max(0) as f64 / 1e3),
            acknowledged_offset: of.acknowledged,
            state: of.state,
        }
    }
}

/// A page of partitions.
#[derive(Debug, Serialize, ToSchema)]
struct SinkPartitions {
    partitions: Vec<SinkPartition>,
    /// Cursor of the next page; null: this is the last page.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PartitionsQuery {
    /// The most entries to return.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

/// Partitions of the topics that a sink writes to, a row for each shard: records that are not in Kafka yet, and the state. A shard knows a topic after the
/// first record for it.
#[utoipa::path(get, path = "/api/v1/sinks/{name}/partitions", tag = "sinks",
    params(("name" = String, Path, description = "Its name in the configuration"), PartitionsQuery), responses(
    (status = 200, body = SinkPartitions),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn sink_partitions(
    State(view): State<Arc<View>>,
    Named(name): Named,
    Asked(PartitionsQuery { limit, cursor }): Asked<PartitionsQuery>,
) -> Result<Json<SinkPartitions>, Problem> {
    let sink = view.sink_named(&name).ok_or_else(|| view.no_sink(&name))?;
    let ask = |from, limit| Ask::Partitions { from, limit, sink };
    let told = |told| match told {
        Told::Partitions(part) => Ok(part),
        _ => Err(not_an_answer()),
    };
    let (found, next) = page(&view, limit, cursor.as_deref(), ask, told).await?;
    let now = now_ms();
    let partitions = found.into_iter().map(|(shard, of)| SinkPartition::new(shard, of, now)).collect();
    Ok(Json(SinkPartitions { partitions, next }))
}
