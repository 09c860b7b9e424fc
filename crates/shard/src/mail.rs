//! Letters between cores, and from ordinary threads to a core. Data crosses in no other way.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use forebay_config::Config;
use forebay_dapr as dapr;
use forebay_fleet::membership::{News, SlotSet};
use forebay_guard::auth;
use forebay_guard::secure::sasl::Prepared;
use forebay_kafka::producer::row_log::Origin;
use forebay_metrics::board::Board;
use forebay_metrics::inspect::{Answer, Ask};
use forebay_mqtt::route::shares::ShareNumber;
use forebay_mqtt::route::topics::TopicKey;
use forebay_runtime::Listener;
use forebay_runtime::seam::{ConnId, Detached, ListenerId, Monotonic};
use forebay_service::service::dead_letters::Ways;
use forebay_session::{PartitionKey, SessionKey};

use super::broker::queues::Known;
use super::broker::retained::Answered;
use super::broker::shares::HandedOver;
use super::connection::AtDoor;
use super::edge::Edge;
use super::instances::ToGroup;
use super::session_log::TakenLog;
use super::sources::{RetainedOfShard, SourceLetter};
use super::words::Far;

/// A letter to a shard.
#[derive(Debug)]
pub enum Mail {
    /// The logs of the slots of this shard, which the process has taken over; or, while it serves others, of more slots: [`Notice::SlotTaken`].
    TakeOver(Vec<TakenLog>),
    /// A slot leaves this shard: [`Notice::SlotReleased`].
    ReleaseSlot(u16),
    /// Other instances have these slots already: those that are here are dropped.
    DropSlots(SlotSet),
    /// The same, from the shard that hears of the group, at this time. The letter may be late: slots that were taken up since then stay.
    SlotsLost {
        /// The slots.
        slots: SlotSet,
        /// The time.
        at: Monotonic,
        /// The number of the loss ([`forebay_fleet::link::Peers::losses`]): until this letter the shard is silent.
        loss: u64,
    },
    /// For the group of instances: to the first shard.
    ToGroup(ToGroup),
    /// A connection with a CONNECT of a client that this shard owns, with the bytes read so far, and the client's identity as far as it is known; or one of
    /// another instance that is for this shard.
    HandOver(Detached, Option<Box<AtDoor>>),
    /// A socket of the control plane, on which a client of the dashboard speaks WebSocket, and its user.
    TestClient(OwnedFd, Box<str>),
    /// The resolver's answer to the question of an outgoing connection's client.
    Resolved {
        /// The client's other end.
        far: Far,
        /// The client's ticket for the question.
        ticket: u64,
        /// Addresses, or the failure in words.
        found: Result<Vec<SocketAddr>, String>,
    },
    /// The resolver's answer to the question for another instance's link.
    PeerResolved {
        /// The ticket of the question.
        ticket: u64,
        /// Addresses, or the failure in words.
        found: Result<Vec<SocketAddr>, String>,
    },
    /// The preparation of a login.
    Prepared {
        /// The client's other end.
        far: Far,
        /// The client's ticket for the login.
        ticket: u64,
        /// The prepared login, or the failure in words.
        result: Result<Prepared, String>,
    },
    /// The verdict on the password of a CONNECT. `None`: too many passwords of its address are pending.
    Judged {
        /// The connection of the CONNECT.
        conn: ConnId,
        /// The client's admission, or the reason why it is refused.
        answer: Option<auth::Answer>,
    },
    /// The oldest letters of this shard to a dead-letter file are on the disk.
    Filed {
        /// Index of the sink.
        sink: usize,
        /// The number of letters.
        count: u32,
    },
    /// The oldest letters of a bridge are on the disk.
    FiledOfBridge {
        /// Index of the bridge.
        bridge: usize,
        /// The number of this use of its file.
        number: usize,
        /// The number of letters.
        count: u32,
    },
    /// Messages of another shard for subscribers of this one.
    Parcel {
        /// The shard that sends them.
        from: usize,
        /// PUBLISH packets of 5.0.
        packets: Vec<u8>,
        /// Whether some of the messages may have to be retained here.
        has_retained: bool,
    },
    /// A parcel of this shard, empty: its messages are delivered, or queued.
    ParcelReturned {
        /// The shard that it was for.
        by: usize,
        /// The parcel's memory.
        buffer: Vec<u8>,
    },
    /// Messages that this shard has sent to their home are on its disk.
    RetainedWritten {
        /// The home of the messages.
        by: usize,
        /// The number of messages, the oldest first.
        count: u64,
    },
    /// Messages that this shard has sent to another one are durable for the kept sessions that get them there.
    CopiesDurable {
        /// The shard with these sessions.
        by: usize,
        /// The number of messages, the oldest first.
        count: u64,
    },
    /// The service stops, and this is the shard's last letter.
    Stopping {
        /// The shard that stops.
        from: usize,
    },
    /// Packet identifiers that publishers of another shard have released: their exchanges are over.
    Release {
        /// The shard of these publishers.
        from: usize,
        /// The packet identifiers, in order.
        ids: Vec<Origin>,
    },
    /// Exchanges of this shard's publishers are over, durably.
    Released {
        /// The shard that knew them.
        by: usize,
        /// The number of exchanges, the oldest first.
        count: u64,
    },
    /// Exchanges of this shard's publishers that another one has known since before a crash.
    Exchanges {
        /// The shard that knows them.
        by: usize,
        /// The exchanges that it knows.
        open: Vec<Known>,
        /// Numbers in this shard's log of messages for shares that it had handed over to that one.
        held: Vec<u64>,
    },
    /// Sessions of another shard have ended, and their exchanges with them.
    ExchangesOver {
        /// The shard of these sessions.
        from: usize,
        /// The sessions' numbers in its log.
        sessions: Vec<u64>,
    },
    /// Another shard asks for a report when all messages gathered now for other shards are sent.
    Pass {
        /// The shard that asks.
        from: usize,
    },
    /// All messages gathered for other shards when this shard asked are sent.
    Passed {
        /// The shard that was asked.
        by: usize,
        /// The number of passes that the shard had been asked for by then.
        passes: u64,
    },
    /// Another shard asks for messages retained here that a filter matches.
    Replay {
        /// The shard that asks.
        to: usize,
        /// The session that the question is for, and the question's number.
        question: (SessionKey, u64),
        /// The filter.
        filter: Arc<str>,
        /// The number of passes that each shard must have been asked for when it takes a message, for the message to be delivered live.
        behind: Arc<[u64]>,
        /// The client that has set No Local, in bytes. Empty: there is none.
        except: Box<[u8]>,
        /// The topic to begin with.
        from: TopicKey,
    },
    /// The next batch of retained messages.
    Replayed {
        /// The question answered.
        question: (SessionKey, u64),
        /// The answer.
        answered: Answered,
    },
    /// Messages that wait on one shard for members of a share, handed to a shard that has members with room.
    SharedMessages {
        /// The shard that hands them over.
        from: usize,
        /// The share.
        share: ShareNumber,
        /// The messages.
        messages: Vec<HandedOver>,
    },
    /// The first of these messages are on the other shard, durable there if they are in the log here.
    SharedMessagesTaken {
        /// The shard that has taken them.
        by: usize,
        /// The number of messages.
        count: usize,
    },
    /// The handed-over messages are no longer in the log of the shard that handed them over.
    SharedMessagesGiven {
        /// The shard that has handed them over.
        from: usize,
    },
    /// A letter between the shards of a source.
    Source(SourceLetter),
    /// A request of the thread of bindings.
    Binding(dapr::Ask),
    /// Stop reading the sources, commit records that are over, and report [`Notice::SourcesOver`].
    EndSources,
    /// Topics of `$SYS` and their values, for publishing and retaining.
    SysTopics(Vec<(&'static str, String)>),
    /// The committed offsets of the partitions of routes, before [`Mail::TakeOver`].
    RoutesBegin(Arc<BTreeMap<PartitionKey, i64>>),
    /// Messages that Kafka retains for this shard, before clients are accepted.
    TakeRetained(RetainedOfShard),
    /// All shards have started: accept clients.
    Accept,
    /// A request of the control plane.
    Inspect(Inspection),
    /// The control plane's question how many clients a change would disconnect.
    WouldGo(Box<WouldGo>),
    /// Another configuration, in which sinks, clusters and listeners keep their places: see [`forebay_config::Change`].
    Reconfigure(Box<Reconfiguration>),
    /// Stop accepting, finish what is in flight within `grace`, report, end.
    Drain {
        /// The time that the drain may take.
        grace: Duration,
    },
}

/// The question how many clients a change would disconnect.
pub struct WouldGo {
    /// The files that would be in force.
    pub edge: Edge,
    /// Listeners that would be removed.
    pub removed: Vec<ListenerId>,
    /// Takes the number; does not block.
    pub answer: Box<dyn FnOnce(usize) + Send>,
}

impl fmt::Debug for WouldGo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WouldGo").field("removed", &self.removed).finish_non_exhaustive()
    }
}

/// A question of the control plane with the way back for its answer.
pub struct Inspection {
    /// The question.
    pub ask: Ask,
    /// Takes the answer of the shard; does not block.
    pub answer: Answer,
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inspection").field(&self.ask).finish()
    }
}

/// The parts of another configuration that a shard gets.
#[derive(Debug)]
pub struct Reconfiguration {
    /// The configuration.
    pub config: Arc<Config>,
    /// A board with a place for each metric of the configuration.
    pub board: Arc<Board>,
    /// The ways to the dead-letter files.
    pub dead_letters: Ways,
    /// The contents of the configuration's files.
    pub edge: Edge,
    /// This shard's sockets of new listeners.
    pub listeners: Vec<Listener>,
}

/// A notice of a shard to the thread that started it.
#[derive(Debug)]
pub enum Notice {
    /// The shard has taken up the contents of its spool, and waits for [`Mail::Accept`].
    Started(usize),
    /// The shard runs, and waits for [`Mail::TakeOver`].
    Waiting(usize),
    /// The sessions of a new slot are taken up, and its clients are accepted.
    SlotTaken(u16),
    /// The log of a new slot cannot be taken up: nobody serves its clients while it is this process's.
    SlotUnreadable(u16),
    /// A slot is given up: this process no longer writes there.
    SlotReleased(u16),
    /// A slot's log is another process's, or was changed: its clients are disconnected, and the shard continues without it.
    SlotLost(u16),
    /// News of the group of instances, of the first shard.
    Group(News),
    /// The log of sessions is another process's, or was changed: the shard has ended.
    LogLost {
        /// The shard's index.
        shard: usize,
        /// The reason in words.
        why: String,
    },
    /// Kafka does not take logs of sessions for now, or takes them again.
    LogTrouble {
        /// The shard's index.
        shard: usize,
        /// The reason, and the cure, in words. `None`: it takes them.
        why: Option<String>,
    },
    /// The shard works with the configuration that it was sent with [`Mail::Reconfigure`].
    Reconfigured(usize),
    /// The shard no longer reads any source, as requested by [`Mail::EndSources`].
    SourcesOver(usize),
    /// The shard cannot start, and has ended.
    Failed {
        /// The shard's index.
        shard: usize,
        /// The reason, and the cure, in words.
        why: String,
    },
    /// The shard has drained, or its grace is over.
    Drained {
        /// The shard's index.
        shard: usize,
        /// Messages that Kafka has not confirmed. Their publishers were not answered (or asked for `received`).
        rows_left: u64,
        /// Messages that Kafka has not confirmed and that the spool keeps for the next process.
        rows_kept: u64,
        /// Connections that were still open.
        connections_left: usize,
    },
}

/// Letters to other shards, sent at the end of the turn, or left as a mailbox had no room.
pub(super) type Letters = VecDeque<(usize, Mail)>;
