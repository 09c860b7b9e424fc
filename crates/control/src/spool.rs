//! The spool: numbers of all shards together, and of each.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::View;
use forebay_metrics::spec::ShardMetric as M;

pub(super) fn routes() -> OpenApiRouter<super::Shown> {
    OpenApiRouter::new().routes(routes!(spool))
}

/// The spool: numbers of all shards together, and of each.
#[derive(Debug, Serialize, ToSchema)]
struct SpoolStatus {
    /// Whether the configuration has a spool; without one all numbers are 0.
    configured: bool,
    #[serde(flatten)]
    all: SpoolNumbers,
    /// Numbers of each shard, in order; empty without a spool.
    shards: Vec<ShardSpool>,
}

/// The spool of one shard.
#[derive(Debug, Serialize, ToSchema)]
struct ShardSpool {
    /// Number of the shard.
    shard: usize,
    #[serde(flatten)]
    numbers: SpoolNumbers,
}

/// Numbers of the spool.
#[derive(Debug, Serialize, ToSchema)]
struct SpoolNumbers {
    /// Bytes of the segments on disk.
    bytes: u64,
    /// Limit of the segments' bytes.
    bytes_max: u64,
    /// Bytes of records in the segments that are not in Kafka yet.
    live_bytes: u64,
    /// Segments on disk.
    segments: u64,
    /// Sessions on disk.
    sessions: u64,
    /// Records written since the process began.
    records_written: u64,
    /// Whether a shard has no room for another record.
    full: bool,
    /// Whether a shard cannot write.
    write_failing: bool,
    /// Writes and syncs that failed.
    io_errors: u64,
    /// Damaged places that were found.
    corruptions: u64,
}

impl SpoolNumbers {
    fn new(of: impl Fn(M) -> u64) -> Self {
        Self {
            bytes: of(M::SpoolBytes),
            bytes_max: of(M::SpoolBytesMax),
            live_bytes: of(M::SpoolLiveBytes),
            segments: of(M::SpoolSegments),
            sessions: of(M::SessionsKept),
            records_written: of(M::SpoolRowsWritten),
            full: of(M::SpoolFull) > 0,
            write_failing: of(M::SpoolStuck) > 0,
            io_errors: of(M::SpoolFailures),
            corruptions: of(M::SpoolRot),
        }
    }
}

/// The spool: numbers of all shards together, and of each.
#[utoipa::path(get, path = "/api/v1/spool", tag = "spool", responses((status = 200, body = SpoolStatus)))]
async fn spool(State(view): State<Arc<View>>) -> Json<SpoolStatus> {
    let configured = view.described.has_spool;
    // The boards are read once, so that the shards add up.
    let boards = view.boards.read();
    let all = SpoolNumbers::new(|metric| boards.iter().map(|board| board[metric as usize]).sum());
    let of_shard = |(shard, board): (usize, &Vec<u64>)| {
        let numbers = SpoolNumbers::new(|metric| board[metric as usize]);
        ShardSpool { shard, numbers }
    };
    let shards = boards.iter().enumerate().filter(|_| configured).map(of_shard).collect();
    Json(SpoolStatus { configured, all, shards })
}
