//! Letters about the shard as a whole: its beginning, its configuration, questions of the control plane, its end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use forebay_broker::mail::RetainedOfShard;
use forebay_config::Config;
use forebay_guard::edge::Edge;
use forebay_metrics::board::Board;
use forebay_metrics::inspect::{Answer, Ask};
use forebay_runtime::Listener;
use forebay_runtime::seam::ListenerId;
use forebay_service::service::dead_letters::Ways;

/// A letter about the shard as a whole.
#[derive(Debug)]
pub enum ToShard {
    /// The service stops, and this is the shard's last letter.
    Stopping {
        /// The shard that stops.
        from: usize,
    },
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
    /// Topics of `$SYS` and their values, for publishing and retaining.
    SysTopics(Vec<(&'static str, String)>),
    /// Stop reading the sources, commit records that are over, and report [`super::Notice::SourcesOver`].
    EndSources,
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
