//! Questions to a partition's leader about the batches in its log (P5). DescribeProducers shows the last batch appended under the producer
//! id; the log itself, read from its last known end up to the high watermark, shows what is replicated, and what became of an id that
//! the partition no longer knows.
//!
//! Questions use their own connection to the broker, opened while there are any and closed afterwards: a question that waits at a frozen
//! leader delays neither metadata nor other brokers, and none waits for a Produce. Every question is answered once: a step that
//! gets no answer in time, or a connection that fails, is [`LogSays::Again`], and the producer retries. Bounds: `queued_max`
//! questions wait for a broker, [`IN_FLIGHT_MAX`] are in flight at once, and each reads at most [`READ_BYTES_MAX`].

use std::collections::VecDeque;
use std::rc::Rc;

use super::api::{BY_ID, Call, Versions};
use super::connection::Asked;
use super::fetch_request;
use super::log::{LogAnswer, Tail};
use super::request::{self, Head};
use super::upkeep::due;
use super::{Channel, Client, Owner};
use crate::fetch::{EARLIEST, LATEST, OffsetAsk};
use crate::types::{ClientEvent, LogSays, NodeId, Question, WhyNot};
use forebay_runtime::seam::Monotonic;

/// Maximum number of questions in flight to one broker: bounds the answers that may be in transit.
const IN_FLIGHT_MAX: usize = 4;
/// Bytes requested by one Fetch.
const FETCH_BYTES: i32 = 1024 * 1024;
/// Maximum bytes of a log read for one question.
const READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// OFFSET_OUT_OF_RANGE.
const OUT_OF_RANGE: i16 = 1;

/// The channel to one broker's logs, and the questions that wait for it.
#[derive(Debug)]
pub(super) struct AskChannel {
    pub(super) channel: Channel,
    queue: VecDeque<Box<Search>>,
}

/// A question that is being answered, and its progress.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) question: Question,
    step: Step,
    /// The leader's knowledge of the id.
    state: State,
    /// The next offset to be read.
    pub(super) at: i64,
    read_bytes: usize,
    found: Option<i32>,
    /// Whether records are gone that may have been the producer's.
    holes: bool,
    /// Whether the log ends before the acknowledged end: it was truncated, or recreated.
    behind: bool,
    /// Whether the search began again at the beginning of the log.
    restarted: bool,
}

/// The next step of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Producers,
    Start,
    Tail,
    End,
    /// The offset at which the leader's epoch begins.
    EpochStart,
}

/// The leader's knowledge of the producer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The leader was not asked, or cannot be asked.
    Unsaid,
    Unknown,
    /// One of the batches is the last that was appended.
    There,
    /// None of the batches is there, by the leader's knowledge. It may have forgotten the id since, and learned of it again from a late
    /// request.
    NotThere(LogSays),
    /// The id has this higher epoch: the question's is fenced.
    Fenced(i16),
}

impl Search {
    pub(super) const fn new(question: Question) -> Self {
        let at = match question.from {
            Some(from) => from,
            None => 0,
        };
        let step = match question.last_sequences.is_empty() {
            true if question.leader_epoch > 0 => Step::EpochStart,
            true => Step::End,
            false => Step::Producers,
        };
        Self {
            question,
            step,
            state: State::Unsaid,
            at,
            read_bytes: 0,
            found: None,
            holes: false,
            behind: false,
            restarted: false,
        }
    }

    /// The request of the search's next step, with call and version. `None`: the broker does not support the call.
    pub(super) fn request(&self, head: Head<'_>, versions: Versions) -> Option<(Call, i16, Vec<u8>)> {
        let (topic, partition) = (&self.question.topic, self.question.partition);
        let of = |leader_epoch, at| [OffsetAsk { topic: Rc::clone(topic), partition, leader_epoch, at }];
        let step = match self.step {
            // Older brokers do not support it; batches that are in the log are found there too.
            Step::Producers if versions.describe_producers.is_none() => self.reading(),
            Step::EpochStart if versions.offset_for_leader_epoch.is_none() => Step::End,
            step => step,
        };
        Some(match step {
            Step::Producers => {
                let version = versions.describe_producers?;
                (Call::DescribeProducers, version, request::describe_producers(head, version, topic, partition)?)
            }
            Step::Start | Step::End => {
                let version = versions.list_offsets?;
                let at = if step == Step::Start { EARLIEST } else { LATEST };
                (Call::ListOffsets, version, fetch_request::list_offsets(head, version, &of(-1, at), false)?)
            }
            Step::EpochStart => {
                let (version, epoch) = (versions.offset_for_leader_epoch?, self.question.leader_epoch);
                (
                    Call::OffsetForLeaderEpoch,
                    version,
                    fetch_request::epoch_ends(head, version, &of(epoch, i64::from(epoch) - 1))?,
                )
            }
            Step::Tail => {
                let (version, id) = (versions.fetch?, self.question.topic_id);
                // A Fetch by id reads this topic's log, or none.
                let version = if id == 0 { version.min(BY_ID - 1) } else { version };
                (Call::Fetch, version, request::fetch(head, version, (topic, id, partition), self.at, FETCH_BYTES)?)
            }
        })
    }

    /// The first step of reading the log.
    const fn reading(&self) -> Step {
        if self.question.from.is_some() { Step::Tail } else { Step::Start }
    }

    /// Takes the answer to the current step. Returns the log's answer, or `None` and continues with the next step.
    pub(super) fn take(&mut self, answer: LogAnswer) -> Option<LogSays> {
        match answer {
            LogAnswer::Error(OUT_OF_RANGE) if !self.restarted && !self.question.last_sequences.is_empty() => {
                // The log begins after the requested offset, or ends before it: its beginning shows which.
                self.step = Step::Start;
                (self.restarted, self.behind) = (true, self.question.from.is_some());
                None
            }
            LogAnswer::EpochStart(Some(at)) => Some(LogSays::Ends { at }),
            // The broker does not support epochs, or denies the answer: the end of the log is the next best.
            LogAnswer::EpochStart(None) => self.ask_for_end(),
            LogAnswer::Error(code)
                if self.step == Step::EpochStart && matches!(refused(code), LogSays::CannotTell(_)) =>
            {
                self.ask_for_end()
            }
            LogAnswer::Error(code) => Some(refused(code)),
            LogAnswer::Producer(known) => self.state_known(known),
            LogAnswer::Start(at) if self.question.last_sequences.is_empty() => Some(LogSays::Ends { at }),
            LogAnswer::Start(start) => self.start_known(start),
            LogAnswer::Tail(tail) => self.tail_read(tail),
        }
    }

    fn ask_for_end(&mut self) -> Option<LogSays> {
        self.step = Step::End;
        None
    }

    /// Answers most questions from the leader's own knowledge.
    fn state_known(&mut self, known: Option<(i32, i32)>) -> Option<LogSays> {
        let question = &self.question;
        let ours = i32::from(question.epoch);
        // Sequence 0 follows 2³¹ − 1.
        let before = question.first_sequence.wrapping_sub(1) & i32::MAX;
        self.state = match known {
            None => State::Unknown,
            Some((epoch, last)) if epoch == ours && question.last_sequences.contains(&last) => {
                if !question.replicated {
                    return Some(LogSays::There { last_sequence: last });
                }
                State::There
            }
            Some((epoch, last)) if epoch == ours && last == before => State::NotThere(LogSays::Next { known: true }),
            // Nothing of this epoch was ever appended, and nothing should have been.
            Some((epoch, _)) if epoch < ours && question.first_sequence == 0 => {
                State::NotThere(LogSays::Next { known: true })
            }
            Some((epoch, _)) if epoch <= ours => State::NotThere(LogSays::Lost),
            Some((epoch, _)) => State::Fenced(i16::try_from(epoch).unwrap_or(i16::MAX)),
        };
        if let State::NotThere(says) = self.state
            && !question.is_read
        {
            return Some(says);
        }
        self.step = self.reading();
        None
    }

    fn start_known(&mut self, start: i64) -> Option<LogSays> {
        // The rest of the log may have the batch; if not, no gap is known.
        self.holes = start > self.question.from.unwrap_or(0);
        self.at = start;
        self.step = Step::Tail;
        None
    }

    fn tail_read(&mut self, tail: Tail) -> Option<LogSays> {
        let moved = tail.next > self.at;
        (self.step, self.at) = (Step::Tail, tail.next);
        self.read_bytes += tail.bytes;
        self.found = tail.found.or(self.found);
        self.holes |= tail.gap;
        if self.at >= tail.high_watermark {
            return Some(self.whole_read(tail.high_watermark));
        }
        if self.read_bytes >= READ_BYTES_MAX {
            return Some(match self.state {
                State::NotThere(says) => says,
                _ => LogSays::CannotTell(WhyNot::TooLong),
            });
        }
        (!moved).then_some(LogSays::Again)
    }

    /// The answer once everything up to the high watermark has been read.
    fn whole_read(&self, high_watermark: i64) -> LogSays {
        if let Some(last_sequence) = self.found {
            let oldest = self.question.last_sequences.first() == Some(&last_sequence);
            // P4 holds within one log.
            let sure = !self.behind || oldest;
            return if sure { LogSays::There { last_sequence } } else { LogSays::CannotTell(WhyNot::OtherLog) };
        }
        // A new leader's high watermark may lag behind acknowledged records.
        let lags = !self.behind && self.question.from.is_some_and(|from| high_watermark < from);
        match self.state {
            // The batch is at the leader, and not replicated yet.
            State::There => LogSays::Again,
            _ if lags => LogSays::Again,
            State::NotThere(says) => says,
            _ if self.holes => LogSays::CannotTell(WhyNot::Retained),
            State::Unsaid => LogSays::CannotTell(WhyNot::NotSpoken),
            State::Fenced(epoch) => LogSays::Fenced { epoch },
            State::Unknown if self.behind => LogSays::Lost,
            State::Unknown if self.question.from.is_none() && self.question.first_sequence != 0 => LogSays::Lost,
            State::Unknown => LogSays::Next { known: false },
        }
    }
}

/// The answer for an error code.
const fn refused(code: i16) -> LogSays {
    match code {
        // TOPIC_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED.
        29 | 31 => LogSays::CannotTell(WhyNot::Forbidden),
        // INVALID_TOPIC_EXCEPTION, UNSUPPORTED_VERSION, INVALID_REQUEST, UNSUPPORTED_FOR_MESSAGE_FORMAT.
        17 | 35 | 42 | 43 => LogSays::CannotTell(WhyNot::Refused),
        // Try again: the leader has moved, the topic does not exist now, and all other codes.
        _ => LogSays::Again,
    }
}

impl Client {
    /// Asks a partition's leader about its log, over a connection without any Produce. [`ClientEvent::Asked`] is sent once for every
    /// question; [`LogSays::Again`] at once if the broker is not in the metadata (which is requested again), or if the queue is
    /// full.
    pub fn ask(&mut self, question: Question, now: Monotonic) {
        let node = question.node;
        let Some(endpoint) = self.brokers.get(&node) else {
            self.asked(question.token, LogSays::Again);
            self.topics.refresh(now);
            return self.pump_metadata(now);
        };
        let ask = self.ask_channels.entry(node).or_insert_with(|| AskChannel {
            channel: Channel::new(Owner::Ask(node), endpoint.clone()),
            queue: VecDeque::new(),
        });
        ask.channel.endpoint.clone_from(endpoint);
        if ask.queue.len() >= self.shared.settings.queued_max {
            return self.asked(question.token, LogSays::Again);
        }
        ask.queue.push_back(Box::new(Search::new(question)));
        self.pump_ask(node, now);
    }

    fn asked(&mut self, token: u64, says: LogSays) {
        self.shared.event(ClientEvent::Asked { token, says });
    }

    /// Takes the answer to a step of a search.
    pub(super) fn on_log(&mut self, node: NodeId, mut search: Box<Search>, answer: LogAnswer, now: Monotonic) {
        let Some(ask) = self.ask_channels.get_mut(&node) else { return };
        ask.channel.backoff.reset();
        match search.take(answer) {
            None => ask.queue.push_front(search),
            Some(says) => {
                self.asked(search.question.token, says);
                if says == LogSays::Again {
                    self.topics.refresh(now);
                    self.pump_metadata(now);
                }
            }
        }
    }

    /// Ends the oldest question after an answer that makes no sense: another attempt would end the same way.
    pub(super) fn unreadable(&mut self, node: NodeId) {
        let Some(connection) = self.ask_channels.get_mut(&node).and_then(|ask| ask.channel.connection()) else {
            return;
        };
        if let Some(Asked::Log(search)) = connection.give_up() {
            self.asked(search.question.token, LogSays::CannotTell(WhyNot::Refused));
        }
    }

    /// Dials, or sends waiting questions; closes a connection that no question needs.
    pub(super) fn pump_ask(&mut self, node: NodeId, now: Monotonic) {
        let Some(AskChannel { channel, queue }) = self.ask_channels.get_mut(&node) else { return };
        if channel.dial_at() <= now && !queue.is_empty() {
            return channel.dial(&mut self.shared, now);
        }
        let Some(connection) = channel.ready() else { return };
        let mut not_spoken = Vec::new();
        while connection.send_at(IN_FLIGHT_MAX) <= now {
            let Some(search) = queue.pop_front() else { break };
            if let Err(search) = connection.ask_log(search, &mut self.shared, now) {
                not_spoken.push(search.question.token);
            }
        }
        if connection.in_flight() == 0 && queue.is_empty() {
            channel.down(now, &mut self.shared);
        }
        not_spoken.into_iter().for_each(|token| self.asked(token, LogSays::CannotTell(WhyNot::NotSpoken)));
    }

    /// Answers all questions of a failed connection with [`LogSays::Again`].
    pub(super) fn lose_ask(&mut self, node: NodeId, now: Monotonic) {
        let Some(ask) = self.ask_channels.get_mut(&node) else { return };
        let connection = ask.channel.fail(&mut self.shared, now);
        let waiting = std::mem::take(&mut ask.queue);
        if !self.brokers.contains_key(&node) {
            self.ask_channels.remove(&node);
        }
        for unanswered in connection.into_iter().flat_map(|connection| connection.into_unanswered()) {
            if let Asked::Log(search) = unanswered {
                self.asked(search.question.token, LogSays::Again);
            }
        }
        waiting.into_iter().for_each(|search| self.asked(search.question.token, LogSays::Again));
        self.topics.refresh(now);
        self.pump_metadata(now);
    }

    /// The next deadline of the channels for questions.
    pub(super) fn ask_deadline(&self) -> Monotonic {
        let deadline = |ask: &AskChannel| {
            let mut at = due(&ask.channel);
            if !ask.queue.is_empty() {
                at = at.min(ask.channel.dial_at());
                if let Some(connection) = ask.channel.ready_ref() {
                    at = at.min(connection.send_at(IN_FLIGHT_MAX));
                }
            }
            at
        };
        self.ask_channels.values().map(deadline).min().unwrap_or(Monotonic::NEVER)
    }
}
