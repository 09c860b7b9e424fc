//! Fetch (1): whole batches as they are stored, and a long poll that ends with data, with the time-out, or when the log
//! stops.
//!
//! Every fetch is answered without a session (session id 0, as KIP-227 allows): the client names its partitions each
//! time.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::{Close, Context, LEADER_EPOCH, Reply, encode};
use crate::code;
use crate::counters::add;
use crate::guard::Head;
use crate::partition::PartitionRef;
use crate::read::{self, Read, ReadPlan};
use crate::segment::Source;
use crate::store::Store;

/// The longest time that a poll is held, whatever the client requests.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// One partition of the request.
struct Wanted {
    topic: usize,
    index: i32,
    offset: i64,
    bytes_max: usize,
    partition: Result<PartitionRef, i16>,
}

/// The result for one partition.
struct Found {
    result: Result<Bytes, i16>,
    /// Whether there are more batches than were read.
    more: bool,
    /// The segment in which the read has met damage.
    damaged: Option<Source>,
}

impl Found {
    fn of(result: Result<Bytes, i16>, more: bool) -> Self {
        Self { result, more, damaged: None }
    }
}

pub(super) async fn answer(context: &Context<'_>, head: Head, request: FetchRequest) -> Result<Reply, Close> {
    if request.session_id != 0 {
        return encode(head, &FetchResponse::default().with_error_code(code::FETCH_SESSION_ID_NOT_FOUND));
    }
    let store = context.store;
    let wanted = resolve(store, head, &request.topics);
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(store.settings.fetch_bytes_max);
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max) as u64;
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
    let deadline = Instant::now() + wait;
    loop {
        let synced_before = bytes_synced(&wanted);
        let permit = store.answer_memory(expected_bytes(&wanted, bytes_max)).await;
        let mut found = read(&wanted, bytes_max).await;
        if step_over_damage(store, &wanted, &found).await {
            continue;
        }
        wanted.iter().zip(&mut found).for_each(|(wanted, found)| overtaken(wanted, found));
        let bytes: u64 = found.iter().map(|found| found.result.as_ref().map_or(0, |bytes| bytes.len() as u64)).sum();
        let settled = found.iter().any(|found| found.more || found.result.is_err());
        if settled || bytes >= bytes_min || Instant::now() >= deadline || *context.stopping.borrow() {
            add(&store.counters.bytes_fetched, bytes);
            return respond(head, &request.topics, &wanted, found, permit);
        }
        drop((found, permit));
        let enough = synced_before + (bytes_min - bytes);
        // When the time is over or the log stops, the data found so far is sent.
        context.place.polls();
        let _ = timeout_at(deadline, wait_for(context, &wanted, enough)).await;
        context.place.works();
    }
}

fn resolve(store: &Store, head: Head, topics: &[FetchTopic]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (at, asked) in topics.iter().enumerate() {
        let by_id = head.version >= 13;
        let topic = if by_id { store.topic_by_id(asked.topic_id) } else { store.topic(&asked.topic) };
        let unknown = if by_id { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION };
        for partition in &asked.partitions {
            let found = match &topic {
                None => Err(unknown),
                Some(topic) => topic.partition(partition.partition).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION),
            };
            wanted.push(Wanted {
                topic: at,
                index: partition.partition,
                offset: partition.fetch_offset,
                bytes_max: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                partition: found.and_then(|found| same_epoch(partition, found)),
            });
        }
    }
    wanted
}

fn same_epoch(asked: &FetchPartition, found: &PartitionRef) -> Result<PartitionRef, i16> {
    if asked.current_leader_epoch > LEADER_EPOCH { Err(code::UNKNOWN_LEADER_EPOCH) } else { Ok(found.clone()) }
}

fn partitions(wanted: &[Wanted]) -> impl Iterator<Item = &PartitionRef> {
    wanted.iter().filter_map(|wanted| wanted.partition.as_ref().ok())
}

fn bytes_synced(wanted: &[Wanted]) -> u64 {
    partitions(wanted).map(|partition| partition.borrow().bytes_synced()).sum()
}

fn plan(wanted: &Wanted) -> Result<Option<ReadPlan>, i16> {
    wanted.partition.as_ref().map_err(|code| *code)?.borrow().plan_read(wanted.offset)
}

/// An upper bound of the bytes that `read` returns, for the memory budget.
fn expected_bytes(wanted: &[Wanted], bytes_max: usize) -> usize {
    let one = |wanted: &Wanted| match plan(wanted) {
        Ok(Some(plan)) => plan.bytes_available().min(wanted.bytes_max as u64) as usize,
        _ => 0,
    };
    wanted.iter().map(one).fold(0usize, usize::saturating_add).min(bytes_max)
}

/// Waits until the partitions have synced `enough` bytes since startup, or one of them failed, or the log stops.
async fn wait_for(context: &Context<'_>, wanted: &[Wanted], enough: u64) {
    let mut stopping = context.stopping.clone();
    loop {
        let progress = Rc::new(Notify::new());
        for partition in partitions(wanted) {
            partition.borrow_mut().on_progress(&progress);
        }
        let removed = partitions(wanted).any(|partition| partition.borrow().is_removed());
        if removed || bytes_synced(wanted) >= enough || *stopping.borrow() {
            return;
        }
        tokio::select! {
            () = progress.notified() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// Replaces a read error by the partition's own error: retention or deletion may have removed the file between plan and
/// read.
fn overtaken(wanted: &Wanted, found: &mut Found) {
    match (&mut found.result, plan(wanted)) {
        (Err(failed), Err(code)) => *failed = code,
        (Err(_), Ok(_)) => tracing::error!(offset = wanted.offset, "an existing segment could not be read"),
        (Ok(_), _) => {}
    }
}

/// Has the segments read again in which reads have met damage. True: there is news of it, and the next plans step over it.
async fn step_over_damage(store: &Store, wanted: &[Wanted], found: &[Found]) -> bool {
    let mut any = false;
    for (wanted, found) in wanted.iter().zip(found) {
        if let (Ok(partition), Some(source)) = (&wanted.partition, &found.damaged) {
            any |= store.read_again(partition, source.clone()).await;
        }
    }
    any
}

/// Reads all partitions in one go on a blocking thread; nothing is spawned if there is nothing to read.
async fn read(wanted: &[Wanted], bytes_max: usize) -> Vec<Found> {
    let plans: Vec<_> = wanted.iter().map(|wanted| (plan(wanted), wanted.bytes_max)).collect();
    let count = plans.len();
    if plans.iter().all(|(plan, _)| !matches!(plan, Ok(Some(_)))) {
        return run(plans, bytes_max);
    }
    let failed = || Found::of(Err(code::STORAGE_ERROR), false);
    spawn_blocking(move || run(plans, bytes_max))
        .await
        .unwrap_or_else(|_| std::iter::repeat_with(failed).take(count).collect())
}

fn run(plans: Vec<(Result<Option<ReadPlan>, i16>, usize)>, bytes_max: usize) -> Vec<Found> {
    let mut left = bytes_max;
    let mut is_first = true;
    let mut found = Vec::with_capacity(plans.len());
    for (plan, partition_max) in plans {
        found.push(match plan {
            Err(code) => Found::of(Err(code), false),
            Ok(None) => Found::of(Ok(Bytes::new()), false),
            Ok(Some(_)) if left == 0 && !is_first => Found::of(Ok(Bytes::new()), true),
            // The first batch of an answer is sent however large it is, or its reader could not go on (KIP-74).
            Ok(Some(plan)) => match plan.run(left.min(partition_max), is_first) {
                Ok(Read { bytes, more }) => {
                    left = left.saturating_sub(bytes.len());
                    is_first &= bytes.is_empty();
                    Found::of(Ok(bytes), more)
                }
                Err(error) if read::is_damage(&error) => {
                    Found { damaged: Some(plan.source), ..Found::of(Err(code::STORAGE_ERROR), false) }
                }
                Err(error) => {
                    if error.kind() != std::io::ErrorKind::NotFound {
                        tracing::error!(%error, "a segment could not be read");
                    }
                    Found::of(Err(code::STORAGE_ERROR), false)
                }
            },
        });
    }
    found
}

fn respond(
    head: Head,
    topics: &[FetchTopic],
    wanted: &[Wanted],
    found: Vec<Found>,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<Reply, Close> {
    let topic = |asked: &FetchTopic| {
        let response = FetchableTopicResponse::default();
        if head.version >= 13 {
            response.with_topic_id(asked.topic_id)
        } else {
            response.with_topic(asked.topic.clone())
        }
    };
    let mut responses: Vec<_> = topics.iter().map(topic).collect();
    for (wanted, found) in wanted.iter().zip(found) {
        responses[wanted.topic].partitions.push(partition_data(wanted, found));
    }
    match encode(head, &FetchResponse::default().with_responses(responses))? {
        Reply::Answer(bytes, _) => Ok(Reply::Answer(bytes, permit)),
        nothing => Ok(nothing),
    }
}

fn partition_data(wanted: &Wanted, found: Found) -> PartitionData {
    let data = PartitionData::default().with_partition_index(wanted.index).with_aborted_transactions(None);
    let data = match &wanted.partition {
        Err(_) => data.with_high_watermark(-1),
        Ok(partition) => {
            let partition = partition.borrow();
            data.with_high_watermark(partition.high_watermark())
                .with_last_stable_offset(partition.high_watermark())
                .with_log_start_offset(partition.log_start_offset())
        }
    };
    match found.result {
        Ok(bytes) => data.with_records(Some(bytes)),
        Err(code) => data.with_error_code(code).with_records(Some(Bytes::new())),
    }
}
