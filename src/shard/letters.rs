//! Dead letters on their way to files: one JSON object a line, a queue for each sink that has a file, and the answers
//! that are owed once they are on the disk. What finds its queue full waits where it is: a refused row in its producer's
//! memory, a message in its device's socket.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::kafka::types::{SinkId, Ticket};
use crate::limits::{DEAD_LETTERS_QUEUED_BYTES_MAX, DEAD_LETTERS_QUEUED_MAX};
use crate::metrics::event::{Field, Kind};
use crate::metrics::spec::ShardMetric;
use crate::mqtt::packet::Version;
use crate::mqtt::reason::ReasonCode;
use crate::rule::template::Variable;
use crate::runtime::seam::{Monotonic, WallMs};
use crate::service::dead_letters::Letter;
use crate::session::{Session, SessionKey};

use super::Core;
use super::events::second;
use super::letter_line::{Line, of_row};

/// How often the log speaks of new dead letters.
const SAID_EVERY: Duration = Duration::from_secs(1);

/// What a publisher is told of a message that is in the dead letters: its protocol's word for "not delivered", or, where
/// it has none, that it need not send it again.
pub(super) fn code(session: &Session) -> ReasonCode {
    if session.peer().version == Version::V5 { ReasonCode::UNSPECIFIED_ERROR } else { ReasonCode::SUCCESS }
}

/// The queues to the files.
pub(super) struct Letters {
    shard: usize,
    /// By the sink's number in the configuration.
    desks: Vec<Option<Desk>>,
    freed: u64,
    /// Dead letters of each sink when they were last spoken of, and when that was.
    said: Vec<(u64, Option<Monotonic>)>,
}

/// The queue to one file.
struct Desk {
    post: Sender<Letter>,
    /// Sent and not yet on the disk, oldest first.
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// A letter that is not on the disk yet.
#[derive(Clone, Copy)]
struct Waiting {
    /// Whose row it is, within its producer.
    sink: SinkId,
    ticket: Option<Ticket>,
    bytes: usize,
}

impl Letters {
    pub(super) fn new(shard: usize, sinks: usize, posts: Vec<Option<Sender<Letter>>>) -> Self {
        let desk = |post| Desk { post, waiting: VecDeque::new(), bytes: 0 };
        let said = vec![(0, None); sinks];
        let desks = posts.into_iter().map(|post| post.map(desk)).collect();
        Self { shard, desks, freed: 0, said }
    }

    /// Whether the queue of a sink takes one more, of whatever size.
    pub(super) fn has_room(&self, sink: usize) -> bool {
        let desk = self.desks.get(sink).and_then(Option::as_ref);
        desk.is_some_and(|desk| {
            desk.waiting.len() < DEAD_LETTERS_QUEUED_MAX && desk.bytes < DEAD_LETTERS_QUEUED_BYTES_MAX
        })
    }

    /// Changes whenever a place has come free.
    pub(super) fn freed(&self) -> u64 {
        self.freed
    }

    /// Sends a letter, after [`Letters::has_room`].
    pub(super) fn send(&mut self, index: usize, sink: SinkId, line: Vec<u8>, ticket: Option<Ticket>) {
        let Some(desk) = self.desks.get_mut(index).and_then(Option::as_mut) else { return };
        let bytes = line.len();
        // The thread ends with the process: then nobody is answered any more.
        if desk.post.send(Letter { shard: self.shard, line }).is_ok() {
            desk.bytes += bytes;
            desk.waiting.push_back(Waiting { sink, ticket, bytes });
        }
    }

    fn take(&mut self, index: usize) -> Option<Waiting> {
        let desk = self.desks.get_mut(index)?.as_mut()?;
        let waiting = desk.waiting.pop_front()?;
        desk.bytes -= waiting.bytes;
        self.freed = self.freed.wrapping_add(1);
        Some(waiting)
    }
}

impl Core {
    /// Refused rows of a cluster to their files, as far as the queues take them.
    pub(super) fn file_dead(&mut self, cluster: usize, wall: WallMs) {
        let outlets = &mut self.outlets;
        let upstream = &mut outlets.upstreams[cluster];
        if !upstream.producer.has_dead() {
            return;
        }
        let (plans, letters, config) = (&outlets.plans, &mut outlets.letters, &self.around.config);
        let (sinks, hidden, sessions) = (&upstream.sinks, &upstream.hidden, &self.sessions);
        upstream.producer.drain_dead(|row| {
            let visible = sinks.get(usize::from(row.sink.0)).copied();
            let index = visible.or_else(|| hidden.iter().find(|of| of.hidden == row.sink).map(|of| of.index));
            let Some(index) = index.filter(|index| letters.has_room(*index)) else { return false };
            let session = row.ticket.and_then(|ticket| sessions.get(SessionKey::from_bits(ticket.session)));
            // By default a record's key is its MQTT topic.
            let keyed_by_topic = plans[index].key.as_ref().is_some_and(|key| key.as_single() == Some(&Variable::Topic));
            let topic = row.key.filter(|_| keyed_by_topic).and_then(|key| std::str::from_utf8(key).ok());
            let sink = config.sinks[index].name.as_str();
            let line = Line { sink, mqtt_topic: topic, client_id: session.map(Session::client_id), ..Line::default() };
            letters.send(index, row.sink, of_row(line, row, visible.is_none(), wall), row.ticket);
            true
        });
        self.count_letters();
    }

    /// Letters of a sink are on the disk.
    pub(super) fn filed(&mut self, index: usize, count: u32) {
        let cluster = self.outlets.plans[index].cluster;
        for _ in 0..count {
            let Some(waiting) = self.outlets.letters.take(index) else { break };
            let upstream = &mut self.outlets.upstreams[cluster];
            upstream.busy = true;
            upstream.producer.filed(waiting.sink, 1);
            let Some(ticket) = waiting.ticket else { continue };
            let key = SessionKey::from_bits(ticket.session);
            if let Some(session) = self.sessions.get_mut(key) {
                session.complete(ticket.number, 1, code(session));
                self.touched.push(key);
            }
        }
        self.count_letters();
    }

    /// Says that dead letters have come, once a second at most: `total` is how many of a sink there are.
    pub(super) fn say_dead(&mut self, index: usize, total: u64, now: Monotonic) {
        let said = &mut self.outlets.letters.said[index];
        if total == said.0 || said.1.is_some_and(|at| at.after(SAID_EVERY) > now) {
            return;
        }
        *said = (total, Some(now));
        let sink = &self.around.config.sinks[index].name;
        self.teller.tell(Kind::DeadLetters, second(now), |event| {
            event.with(Field::Sink, sink.as_str()).with(Field::Total, total)
        });
    }

    pub(super) fn count_letters(&mut self) {
        let desks = self.outlets.letters.desks.iter().flatten();
        let (mut letters, mut bytes, mut files) = (0, 0, 0);
        for desk in desks {
            letters += desk.waiting.len() as u64;
            bytes += desk.bytes as u64;
            files += 1;
        }
        self.numbers.set(ShardMetric::DeadLettersQueued, letters);
        self.numbers.set(ShardMetric::DeadLettersQueuedBytes, bytes);
        self.numbers.set(ShardMetric::DeadLettersQueuedBytesMax, files * DEAD_LETTERS_QUEUED_BYTES_MAX as u64);
    }
}
