//! The end of a start: clients are accepted, with `[broker]` once Kafka has what that needs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::broker;
use super::sys_topics::SysTopics;
use super::{Event, Failure, Service};
use crate::service::notify;
use crate::shard::mail::Mail;

impl Service {
    /// Has clients accepted.
    pub(super) fn accept(&mut self, sys_topics: &mut Option<SysTopics>) -> Result<(), Failure> {
        self.tell_all(|| Mail::Accept)?;
        self.ready.store(true, Ordering::Release);
        self.tell_started();
        self.starting.take().into_iter().for_each(|span| self.tracer.end(span));
        self.greet();
        notify::ready("accepting devices");
        *sys_topics = Some(SysTopics::new(Instant::now()));
        Ok(())
    }

    /// Asks Kafka for what `[broker]` needs before clients are accepted, until it has it: on a thread of its own, as Kafka may not be there.
    pub(super) fn prepare_broker(&self) {
        let (config, tell, journal) = (Arc::clone(&self.config), self.tell.clone(), Arc::clone(&self.journal));
        std::thread::spawn(move || {
            broker::prepare_until_done(&config, &journal, |prepared| tell.send(Event::Prepared(prepared)).is_ok())
        });
    }
}
