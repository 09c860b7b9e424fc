//! Letters between cores, and from ordinary threads to a core. The only way anything crosses.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::auth;
use crate::config::Config;
use crate::kafka::producer::row_log::Origin;
use crate::metrics::board::Board;
use crate::metrics::inspect::{Answer, Ask};
use crate::route::shares::ShareNumber;
use crate::route::topics::TopicKey;
use crate::runtime::Listener;
use crate::runtime::seam::{ConnId, Detached, ListenerId};
use crate::secure::sasl::Prepared;
use crate::service::dead_letters::Letter;
use crate::session::SessionKey;

use super::connection::AtDoor;
use super::edge::Edge;
use super::queues::Known;
use super::retained::Answered;
use super::shares::HandedOver;
use super::{Core, Ring};

/// A letter to a shard.
#[derive(Debug)]
pub enum Mail {
    /// A connection whose CONNECT names a client that this shard owns, with the bytes read so far, and what is
    /// known of who it is.
    HandOver(Detached, Option<Box<AtDoor>>),
    /// The resolver's answer to an upstream's question.
    Resolved {
        /// Index of the upstream.
        upstream: usize,
        /// The client's ticket for the question.
        ticket: u64,
        /// Addresses, or what went wrong.
        found: Result<Vec<SocketAddr>, String>,
    },
    /// What a login of an upstream needs.
    Prepared {
        /// Index of the upstream.
        upstream: usize,
        /// The client's ticket for it.
        ticket: u64,
        /// It, or what went wrong.
        result: Result<Prepared, String>,
    },
    /// What came of the password of a CONNECT; `None`: too many of its address wait.
    Judged {
        /// Its connection.
        conn: ConnId,
        /// Who it is, or why it is refused.
        answer: Option<auth::Answer>,
    },
    /// So many of this shard's letters to a file of dead letters, the oldest first, are on the disk.
    Filed {
        /// Index of the sink.
        sink: usize,
        /// How many.
        count: u32,
    },
    /// Messages of another shard for subscribers of this one.
    Parcel {
        /// That shard.
        from: usize,
        /// PUBLISH packets of 5.0.
        packets: Vec<u8>,
        /// Some of them may have to be retained here.
        has_retained: bool,
    },
    /// A parcel of this shard, empty: its messages are delivered, or in line.
    ParcelReturned {
        /// The shard that it was for.
        by: usize,
        /// Its memory.
        buffer: Vec<u8>,
    },
    /// Messages that this shard has sent to their home are on its disk.
    RetainedWritten {
        /// The home.
        by: usize,
        /// How many, the oldest first.
        count: u64,
    },
    /// Messages that this shard has sent to another one are durable for the kept sessions that get them there.
    CopiesDurable {
        /// That shard.
        by: usize,
        /// How many, the oldest first.
        count: u64,
    },
    /// The service stops, and nothing more comes from this shard.
    Stopping {
        /// Which.
        from: usize,
    },
    /// Packet identifiers that publishers of another shard have released: their exchanges are over.
    Release {
        /// That shard.
        from: usize,
        /// Which, in order.
        ids: Vec<Origin>,
    },
    /// It is durable that exchanges of this shard's publishers are over.
    Released {
        /// The shard that knew them.
        by: usize,
        /// How many, the oldest first.
        count: u64,
    },
    /// Exchanges of this shard's publishers that another one knows since before a crash.
    Exchanges {
        /// That shard.
        by: usize,
        /// All of them.
        open: Vec<Known>,
        /// Numbers in this shard's log of messages for shares that it had handed over to that one.
        held: Vec<u64>,
    },
    /// Sessions of another shard have ended, and their exchanges with them.
    ExchangesOver {
        /// That shard.
        from: usize,
        /// Their numbers in its log.
        sessions: Vec<u64>,
    },
    /// Another shard wants to know when all that is gathered for others now is sent.
    Pass {
        /// That shard.
        from: usize,
    },
    /// It is.
    Passed {
        /// The shard that was asked.
        by: usize,
        /// For how many passes it had been asked by then.
        passes: u64,
    },
    /// What is retained here that a filter matches?
    Replay {
        /// The shard that asks.
        to: usize,
        /// For which session, and the number of the question.
        question: (SessionKey, u64),
        /// The filter.
        filter: Arc<str>,
        /// What comes live, by shard.
        behind: Arc<[u64]>,
        /// The client whose own messages it does not want, in bytes; empty: it wants all.
        except: Box<[u8]>,
        /// From which topic on.
        from: TopicKey,
    },
    /// The next batch of that.
    Replayed {
        /// Which question it answers.
        question: (SessionKey, u64),
        /// It.
        answered: Answered,
    },
    /// Messages that wait on one shard for members of a share, for another one that has members with room.
    SharedMessages {
        /// That shard.
        from: usize,
        /// The share.
        share: ShareNumber,
        /// They.
        messages: Vec<HandedOver>,
    },
    /// The first of them are on the other shard, durable there if they are in the log here.
    SharedMessagesTaken {
        /// The shard that they were for.
        by: usize,
        /// How many.
        count: usize,
    },
    /// Those of them that are in the log are not in that of the shard any more that has handed them over.
    SharedMessagesGiven {
        /// That shard.
        from: usize,
    },
    /// Topics of `$SYS` and what they say now: to be published and retained.
    SysTopics(Vec<(&'static str, String)>),
    /// All shards have started: accept clients.
    Accept,
    /// A question of the control plane, or a wish.
    Inspect(Inspection),
    /// How many clients a change would disconnect.
    WouldGo(Box<WouldGo>),
    /// Another configuration, in which sinks, clusters and listeners keep their places: see [`crate::config::Change`].
    Reconfigure(Box<Reconfiguration>),
    /// Stop accepting, finish what is in flight within `grace`, report, end.
    Drain {
        /// How long it may take.
        grace: Duration,
    },
}

/// How many clients would be disconnected by a change.
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

/// A question with the way back for its answer.
pub struct Inspection {
    /// What is asked.
    pub ask: Ask,
    /// Takes what the shard says; does not block.
    pub answer: Answer,
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inspection").field(&self.ask).finish()
    }
}

/// What a shard gets with another configuration.
#[derive(Debug)]
pub struct Reconfiguration {
    /// The configuration.
    pub config: Arc<Config>,
    /// A board with a place for everything in it.
    pub board: Arc<Board>,
    /// To the files of dead letters, by sink.
    pub dead_letters: Vec<Option<Sender<Letter>>>,
    /// What its files hold.
    pub edge: Edge,
    /// This shard's sockets of the listeners that come.
    pub listeners: Vec<Listener>,
}

/// What a shard tells the thread that started it.
#[derive(Debug)]
pub enum Notice {
    /// The shard has taken up what its spool holds, and waits for [`Mail::Accept`].
    Started(usize),
    /// The shard works with the configuration that it was sent with [`Mail::Reconfigure`].
    Reconfigured(usize),
    /// The shard cannot start, and has ended.
    Failed {
        /// Which.
        shard: usize,
        /// Why, and the cure, in words.
        why: String,
    },
    /// The shard has drained, or its grace is over.
    Drained {
        /// Which.
        shard: usize,
        /// Messages that Kafka has not confirmed. Their publishers were not answered (or asked for `received`).
        rows_left: u64,
        /// Messages that Kafka has not confirmed and that the spool keeps for the next start.
        rows_kept: u64,
        /// Connections that were still open.
        connections_left: usize,
    },
}

/// Letters to other shards that are sent at the end of the turn, or for which a mailbox had no room.
pub(super) type Letters = VecDeque<(usize, Mail)>;

impl Core {
    /// Sends what is to be sent to other shards, behind the parcels of the turn.
    pub(super) fn send_letters(&mut self, io: &mut Ring<'_>) {
        let letters = &mut self.broker.letters;
        let mut full: u64 = 0;
        for _ in 0..letters.len() {
            let Some((to, letter)) = letters.pop_front() else { break };
            let bit = 1 << to;
            if full & bit != 0 {
                letters.push_back((to, letter));
            } else if let Err(letter) = io.mail(to, letter) {
                // Its mailbox is full: with the next turn, in order.
                full |= bit;
                letters.push_back((to, letter));
            }
        }
        if full != 0 {
            self.broker.delivery.want_mailbox(io);
        }
    }
}
