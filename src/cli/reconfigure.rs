//! A change of the configuration on its way to the shards: each gets it by mail, with a board that has a place for
//! everything, and says when it works with it. Then the control plane shows the new boards.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::config::{Change, Config, Spool};
use crate::metrics::collector::Boards;
use crate::service::dead_letters::Letter;
use crate::shard::mail::{Mail, Reconfiguration};

use super::overview;

/// See the module.
pub(super) struct Reconfiguring {
    /// What is in force once all shards have it, and the boards that they write then.
    pub(super) config: Arc<Config>,
    pub(super) boards: Arc<Boards>,
    dead_letters: Vec<Option<Sender<Letter>>>,
    /// Shards that have not said that they have it.
    left: usize,
}

impl Reconfiguring {
    /// `running`: what the shards have, with real addresses.
    pub(super) fn new(
        running: &Config,
        change: &Change,
        dead_letters: impl FnOnce(&Config) -> Result<Vec<Option<Sender<Letter>>>, String>,
    ) -> Result<Self, String> {
        let mut config = running.clone();
        config.service.drain_grace = change.config.service.drain_grace;
        config.log.level = change.config.log.level;
        config.control.access.clone_from(&change.config.control.access);
        config.mqtt = change.config.mqtt;
        if let (Some(spool), Some(wanted)) = (&mut config.spool, change.config.spool) {
            // Its sizes are those of this start.
            let changed = Spool { share: wanted.share, when_full: wanted.when_full, ..*spool };
            let Spool { sink_bytes_max, .. } = changed.of_shards(config.service.shards);
            *spool = Spool { sink_bytes_max, ..changed };
        }
        for (known, wanted) in config.clusters.iter_mut().zip(&change.config.clusters) {
            known.is_removed = wanted.is_removed;
        }
        let added = change.config.clusters.iter().skip(running.clusters.len()).cloned();
        config.clusters.extend(added);
        config.sinks.clone_from(&change.config.sinks);
        let dead_letters = dead_letters(&config)?;
        let boards = overview::boards(&config);
        let left = config.service.shards;
        Ok(Self { config: Arc::new(config), boards, dead_letters, left })
    }

    /// The letter to a shard.
    pub(super) fn letter(&self, shard: usize) -> Mail {
        Mail::Reconfigure(Box::new(Reconfiguration {
            config: Arc::clone(&self.config),
            board: Arc::clone(&self.boards.shards[shard]),
            dead_letters: self.dead_letters.clone(),
        }))
    }

    /// A shard has it. Whether it was the last.
    pub(super) fn is_last(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }
}
