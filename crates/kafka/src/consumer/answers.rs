//! Handling of answers, and their effects on partitions.

use std::rc::Rc;

use super::Consumer;
use super::asking::END_EVERY;
use super::buffer::Buffer;
use super::decode::{Bad, Chunk, Position, Terms};
use super::fetching::Sent;
use super::metadata::FORBIDDEN;
use super::news::{News, WhyReset, WhyStopped};
use super::partition::{Partition, Phase};
use super::settings::{OnBadBatch, Place};
use crate::fetch::{FetchAnswer, FetchFailure, Fetched, FetchedPartition, OffsetFound, ReadWay};
use forebay_runtime::seam::Monotonic;

/// Bytes of an aborted transaction in memory, including its place in a set.
const ABORTED_BYTES: usize = 64;
/// Numbers of consecutive answers without a whole batch after which a partition is fetched alone, and after which its batch counts as bad.
const CUT_SHORT_ALONE: u32 = 2;
const CUT_SHORT_MAX: u32 = 5;

/// OFFSET_OUT_OF_RANGE.
const OUT_OF_RANGE: i16 = 1;
/// UNSUPPORTED_VERSION.
const UNSUPPORTED_VERSION: i16 = 35;
/// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.
const SESSION_ERRORS: [i16; 3] = [70, 71, 106];
/// Errors caused by a leader that moves, a broker that starts, or metadata older than the broker's: unknown topic, leader not available,
/// not the leader, replica not available, storage error, fenced and unknown leader epoch, offset not available, unknown and inconsistent
/// topic id.
const PASSING: [i16; 10] = [3, 5, 6, 9, 56, 74, 75, 78, 100, 103];

impl Consumer {
    /// Handles the answer to a request, or the reason for a missing one.
    pub fn on_answer(&mut self, id: u64, result: Result<FetchAnswer, FetchFailure>, now: Monotonic) {
        self.wake();
        self.stats.failures += u64::from(result.is_err());
        if let Some(question) = self.questions.remove(&id) {
            let found = match result {
                Ok(FetchAnswer::Offsets(found)) => found,
                Err(FetchFailure::NotSpoken) => {
                    vec![OffsetFound { error: UNSUPPORTED_VERSION, ..OffsetFound::MISSING }; question.about.len()]
                }
                _ => Vec::new(),
            };
            for (at, (partition, incarnation)) in question.about.into_iter().enumerate() {
                let found = found.get(at).copied().unwrap_or(OffsetFound::MISSING);
                self.on_offset(partition, incarnation, id, found, now);
            }
            return;
        }
        let Some(way) = self.fetchings.iter().find(|(_, fetching)| fetching.under_way == Some(id)).map(|(way, _)| *way)
        else {
            return;
        };
        if let Some(fetching) = self.fetchings.get_mut(&way) {
            (fetching.under_way, fetching.reserved) = (None, 0);
        }
        match result {
            Ok(FetchAnswer::Fetched(fetched)) => self.on_fetched(way, fetched, now),
            Ok(FetchAnswer::Offsets(_)) => self.way_failed(way, FetchFailure::Malformed, now),
            Err(failure) => self.way_failed(way, failure, now),
        }
    }

    fn on_fetched(&mut self, way: ReadWay, fetched: Fetched, now: Monotonic) {
        let Some(fetching) = self.fetchings.get_mut(&way) else { return };
        self.stats.fetches += 1;
        self.stats.fetched_bytes += fetched.frame.len() as u64;
        if fetched.error != 0 {
            let is_session = SESSION_ERRORS.contains(&fetched.error);
            self.stats.sessions_lost += u64::from(is_session);
            // After the first of consecutive session errors, a new session is begun at once.
            let at_once = is_session && fetching.backoff.is_fresh();
            let wait = fetching.backoff.next(self.settings.retry, &mut self.rng);
            fetching.retry_at = if at_once { now } else { now.after(wait) };
            fetching.session.forget();
            if !is_session {
                self.refresh();
            }
            return;
        }
        fetching.backoff.reset();
        fetching.session.answered(fetched.session_id);
        let aborted: usize = fetched.partitions.iter().map(|partition| partition.aborted.len()).sum();
        let buffer = Rc::new(Buffer::new(fetched.frame, aborted * ABORTED_BYTES, &self.account));
        for told in fetched.partitions {
            let name = match told.topic_id {
                0 => buffer.bytes().get(told.topic.clone()).and_then(|name| std::str::from_utf8(name).ok()),
                id => self.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| &**name),
            };
            // The key of the table has a counted string: the topic's own.
            let Some((name, _)) = name.and_then(|name| self.topics.get_key_value(name)) else { continue };
            let place = (Rc::clone(name), told.partition);
            let sent = self.fetchings.get(&way).and_then(|fetching| fetching.session.sent(&place));
            if let Some(sent) = sent.filter(|sent| told.topic_id == 0 || told.topic_id == sent.topic_id) {
                self.on_partition(sent, told, &buffer, now);
            }
        }
    }

    /// Handles one partition's part of an answer.
    fn on_partition(&mut self, sent: Sent, told: FetchedPartition, buffer: &Rc<Buffer>, now: Monotonic) {
        let Some(partition) = self.partitions.get_mut(&sent.id) else { return };
        let is_asked = partition.incarnation == sent.incarnation && partition.phase == Phase::Read;
        if !is_asked || partition.chunk.is_some() || partition.position.offset != sent.offset {
            return;
        }
        match told.error {
            0 => {}
            OUT_OF_RANGE => return partition.reset(WhyReset::OutOfRange),
            error => return self.partition_failed(sent.id, error, now),
        }
        partition.backoff.reset();
        partition.high_watermark = told.high_watermark.max(-1);
        let is_bounded = partition.assignment.committed && told.last_stable_offset >= 0;
        let stable = if is_bounded { told.last_stable_offset } else { i64::MAX };
        partition.end = Some(partition.high_watermark.min(stable));
        partition.end_at = now.after(END_EVERY);
        if partition.faults.told.take().is_some() {
            self.board.tell(News::TroubleOver { id: sent.id });
        }
        if told.records.is_empty() {
            return;
        }
        let terms = Terms { committed: partition.assignment.committed, batch_bytes_max: self.settings.batch_bytes_max };
        let chunk = Chunk::new(Rc::clone(buffer), told.records, told.aborted, terms, &self.account);
        (partition.chunk, partition.chunk_from) = (Some(chunk), sent.offset);
        self.queue(sent.id);
    }

    /// Drops the chunk of a partition that has no more records.
    pub(super) fn drained(&mut self, id: u32) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.chunk = None;
        if partition.position.offset > partition.chunk_from {
            partition.faults.cut_short = 0;
            return;
        }
        partition.faults.cut_short += 1;
        if partition.faults.cut_short > CUT_SHORT_MAX {
            partition.faults.cut_short = 0;
            return self.bad_batch(id, Bad::NeverWhole);
        }
        if partition.faults.cut_short >= CUT_SHORT_ALONE
            && let Some(fetching) = partition.way(self.settings.line).and_then(|way| self.fetchings.get_mut(&way))
            && !fetching.alone.contains(&id)
        {
            fetching.alone.push_back(id);
        }
    }

    /// Handles a batch that cannot be read: it is fetched once more over a new connection, then the partition stops or skips it.
    pub(super) fn bad_batch(&mut self, id: u32, bad: Bad) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let end = partition.chunk.take().and_then(|chunk| chunk.bad_end());
        let offset = partition.position.offset;
        if partition.faults.bad_at != Some(offset) {
            partition.faults.bad_at = Some(offset);
            self.stats.refetches += 1;
            if let Some(fetching) = partition.way(self.settings.line).and_then(|way| self.fetchings.get_mut(&way)) {
                fetching.is_fresh = true;
            }
            return;
        }
        partition.faults.bad_at = None;
        self.stats.bad_batches += 1;
        match end.filter(|end| partition.assignment.on_bad_batch == OnBadBatch::Skip && *end > offset) {
            Some(end) => {
                // The claims of a bad batch do not lead beyond the log.
                let to = end.min(partition.high_watermark).max(offset + 1);
                let position = Position { offset: to, ..partition.position };
                partition.go(position, Phase::Read);
                self.board.tell(News::Skipped { id, from: offset, to, bad });
            }
            None => self.stop(id, WhyStopped::BadBatch { offset, bad }),
        }
    }

    fn stop(&mut self, id: u32, why: WhyStopped) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            let position = partition.position;
            partition.go(position, Phase::Stopped(why));
            self.board.tell(News::Stopped { id, why });
        }
    }

    /// Handles a failed request of a way.
    fn way_failed(&mut self, way: ReadWay, failure: FetchFailure, now: Monotonic) {
        let Some(fetching) = self.fetchings.get_mut(&way) else { return };
        let asked: Vec<u32> = fetching.session.ids().collect();
        fetching.session.forget();
        fetching.retry_at = now.after(fetching.backoff.next(self.settings.retry, &mut self.rng));
        match failure {
            FetchFailure::TooLarge(bytes) if bytes <= self.settings.fetch_memory => fetching.largest = bytes,
            FetchFailure::TooLarge(bytes) => match asked[..] {
                [id] => {
                    let offset = self.partitions.get(&id).map_or(0, |partition| partition.position.offset);
                    self.stop(id, WhyStopped::TooLarge { offset, bytes });
                }
                _ => fetching.alone = asked.into(),
            },
            FetchFailure::Lost | FetchFailure::Malformed => self.refresh(),
            FetchFailure::NotSpoken => {
                asked.into_iter().for_each(|id| self.partition_failed(id, UNSUPPORTED_VERSION, now))
            }
        }
    }

    /// Handles an error for a partition: it is asked for again.
    fn partition_failed(&mut self, id: u32, error: i16, now: Monotonic) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let wait = partition.backoff.next(self.settings.retry, &mut self.rng);
        let wait = if error == FORBIDDEN { self.settings.forbidden_retry } else { wait };
        partition.retry_at = now.after(wait);
        if !PASSING.contains(&error) {
            self.trouble(id, error);
        }
        if error != FORBIDDEN {
            self.refresh();
        }
    }

    /// Reports an error that is not temporary, once for each row of errors.
    pub(super) fn trouble(&mut self, id: u32, error: i16) {
        if let Some(partition) = self.partitions.get_mut(&id)
            && partition.faults.told.replace(error) != Some(error)
        {
            self.board.tell(News::Trouble { id, error });
        }
    }

    /// Handles the answer about a partition's offset.
    fn on_offset(&mut self, id: u32, incarnation: u32, question: u64, found: OffsetFound, now: Monotonic) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if partition.incarnation != incarnation || partition.question != Some(question) {
            return;
        }
        partition.question = None;
        let before = partition.position;
        match (partition.phase, found.error) {
            (Phase::Find(Place::Time(_), why), 0) if found.offset < 0 => {
                // No record is that young: reading begins at the next record.
                partition.go(before, Phase::Find(Place::Latest, why));
            }
            (Phase::Find(_, why), 0) if found.offset >= 0 => {
                let to = Position { offset: found.offset, leader_epoch: found.leader_epoch.max(-1) };
                let is_end = matches!(partition.phase, Phase::Find(Place::Latest, _));
                partition.go(to, Phase::Read);
                self.arrived(id, before.offset, is_end, why);
            }
            (Phase::Validate, 0) if found.offset < 0 => {
                // The leader's log has nothing of that epoch: the offset at which the logs diverge is not known.
                partition.reset(WhyReset::Truncated);
            }
            (Phase::Validate, 0) if found.offset < before.offset => {
                partition.go(Position { offset: found.offset, leader_epoch: found.leader_epoch.max(-1) }, Phase::Read);
                self.arrived(id, before.offset, false, Some(WhyReset::Truncated));
            }
            // A broker without support for epochs cannot be asked.
            (Phase::Validate, 0 | UNSUPPORTED_VERSION) => partition.validated(),
            (Phase::Find(..) | Phase::Validate, error) => self.partition_failed(id, error, now),
            (Phase::Read | Phase::Stopped(_), 0) => partition.high_watermark = found.offset,
            (Phase::Read | Phase::Stopped(_), _) => {}
        }
    }

    /// Reports where reading begins, or goes on.
    fn arrived(&mut self, id: u32, from: i64, is_end: bool, why: Option<WhyReset>) {
        let Some(partition) = self.partitions.get(&id) else { return };
        let to = partition.position.offset;
        self.stats.resets += u64::from(why.is_some());
        self.board.tell(match why {
            Some(why) => News::Reset { id, from, to, why },
            None => News::Started { id, offset: to, is_end },
        });
    }
}

impl Partition {
    /// Notes that the leader's log has the records that were read.
    fn validated(&mut self) {
        self.phase = Phase::Read;
        self.backoff.reset();
    }
}
