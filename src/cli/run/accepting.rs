//! The end of startup: clients are accepted, with `[broker]` after its preparations in Kafka.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::broker;
use super::sys_topics::SysTopics;
use super::{Event, Failure, Service};
use crate::broker::router::Place;
use crate::service::notify;
use crate::shard::mail::{Mail, TakenLog, ToShard, ToSlots};

impl Service {
    /// Accepts clients.
    pub(super) fn accept(&mut self, sys_topics: &mut Option<SysTopics>) -> Result<(), Failure> {
        self.tell_all(|| Mail::Shard(ToShard::Accept))?;
        self.ready.store(true, Ordering::Release);
        self.tell_started();
        self.starting.take().into_iter().for_each(|span| self.tracer.end(span));
        self.greet();
        notify::ready("accepting devices");
        *sys_topics = Some(SysTopics::new(Instant::now()));
        Ok(())
    }

    /// Prepares `[broker]` in Kafka before clients are accepted, until that succeeds: on a thread of its own, as Kafka may be unreachable.
    pub(super) fn prepare_broker(&self) {
        let (config, tell, journal) = (Arc::clone(&self.config), self.tell.clone(), Arc::clone(&self.journal));
        let obstacles = Arc::clone(&self.obstacles);
        std::thread::spawn(move || {
            let done = |prepared| tell.send(Event::Prepared(prepared)).is_ok();
            broker::prepare_until_done(&config, (&journal, &obstacles), done);
        });
    }

    /// Gives each shard its slots.
    ///
    /// # Errors
    /// A shard has ended.
    pub(super) fn give_out(&self, logs: Vec<TakenLog>) -> Result<(), Failure> {
        let shards = self.shards.len();
        let mut of_shards: Vec<Vec<TakenLog>> = (0..shards).map(|_| Vec::new()).collect();
        for log in logs {
            let shard = usize::from(log.slot) % shards;
            // The table is set before the logs are read: by it a shard decides whether another one has handed the slot over.
            self.slots.set(log.slot, Place::Here(shard));
            of_shards[shard].push(log);
        }
        for (shard, logs) in of_shards.into_iter().enumerate() {
            self.tell(shard, Mail::Slots(ToSlots::TakeOver(logs)))?;
        }
        Ok(())
    }
}
