//! The end of a service: slots and sources first, then the drain of the shards, then the rest.

use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::{Event, Failure, SOURCES_END_WITHIN, Service};
use crate::cli::out::say;
use crate::membership::{GIVE_UP_WITHIN, LEAVE_WITHIN};
use crate::metrics::event::{Event as Said, Field, Kind};
use crate::service::notify;
use crate::service::signals::Signal;
use crate::shard::mail::{Mail, Notice, ToShard};

/// Why a service ends before it has drained.
pub(super) const SECOND_SIGNAL: &str = "stopped by a second signal, before the drain was complete";

impl Service {
    pub(super) fn drain(mut self, signal: &str) -> Result<(), Failure> {
        let grace = self.config.service.drain_grace;
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.journal.say(Said::now(Kind::Draining).with(Field::Signal, signal).with(Field::GraceMs, grace_ms));
        self.ready.store(false, Ordering::Release);
        let of_sources = if self.config.sources.is_empty() { Duration::ZERO } else { SOURCES_END_WITHIN };
        let of_slots = if self.part.is_none() { Duration::ZERO } else { GIVE_UP_WITHIN.min(grace) + LEAVE_WITHIN };
        let all = grace.saturating_add(of_sources).saturating_add(of_slots);
        notify::stopping(u32::try_from(all.as_secs()).unwrap_or(u32::MAX));
        drop(self.bindings.take());
        self.leave_instances(grace)?;
        self.end_sources(grace)?;
        self.tell_all(|| Mail::Shard(ToShard::Drain { grace }))?;
        let (rows_left, rows_kept) = self.await_drained(grace)?;
        for shard in self.shards.drain(..) {
            shard.join().map_err(|e| format!("a shard failed while stopping: {e}"))?;
        }
        self.observer.stop();
        drop(self.control.take());
        if let Some(log) = self.embedded.take() {
            log.stop();
        }
        drop(self.data_dir);
        if rows_left == 0 {
            let kept = Some(rows_kept).filter(|kept| *kept > 0);
            self.journal.say(Said::now(Kind::Drained).maybe(Field::RowsKept, kept));
            if let Some(kept) = kept {
                say(format_args!("{kept} records are not in Kafka yet; the spool keeps them for the next start"));
            }
            return Ok(());
        }
        Err(format!(
            "drain_grace is over: {rows_left} records are not in Kafka. At `replicated` their publishers have no acknowledgement and will send again; `service.drain_grace` gives more time"
        ))
    }

    /// Stops the sources' reading, and has their groups commit the messages that subscribers have: clients may still acknowledge
    /// deliveries, for a while.
    fn end_sources(&self, grace: Duration) -> Result<(), Failure> {
        if self.config.sources.is_empty() {
            return Ok(());
        }
        self.tell_all(|| Mail::Shard(ToShard::EndSources))?;
        let deadline = Instant::now() + grace.min(SOURCES_END_WITHIN);
        let mut waiting = self.shards.len();
        while waiting > 0 {
            match self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Shard(Notice::SourcesOver(_))) => waiting -= 1,
                Ok(Event::Signal(Signal::Stop(_))) => {
                    return Err(SECOND_SIGNAL.into());
                }
                Ok(_) => {}
                // Messages with uncommitted offsets are read again.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Waits for every shard's report. Returns the number of messages that are lost to Kafka, and of those in the spool.
    fn await_drained(&self, grace: Duration) -> Result<(u64, u64), Failure> {
        // The shards keep the grace themselves; the deadline is for a stalled one.
        let deadline = Instant::now() + grace + Duration::from_secs(5);
        let (mut waiting, mut rows, mut kept) = (self.shards.len(), 0, 0);
        while waiting > 0 {
            match self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Shard(Notice::Drained { shard, rows_left, rows_kept, connections_left })) => {
                    let event = Said::now(Kind::ShardDrained).on(shard).with(Field::RowsLeft, rows_left);
                    let event = event.maybe(Field::RowsKept, Some(rows_kept).filter(|kept| *kept > 0));
                    self.journal.say(event.with(Field::ConnectionsLeft, connections_left as u64));
                    waiting -= 1;
                    rows += rows_left;
                    kept += rows_kept;
                }
                Ok(Event::Shard(
                    Notice::Waiting(_)
                    | Notice::LogLost { .. }
                    | Notice::LogTrouble { .. }
                    | Notice::Started(_)
                    | Notice::SlotTaken(_)
                    | Notice::SlotUnreadable(_)
                    | Notice::SlotReleased(_)
                    | Notice::SlotLost(_)
                    | Notice::Group(_)
                    | Notice::Reconfigured(_)
                    | Notice::SourcesOver(_)
                    | Notice::Failed { .. },
                )) => {}
                Ok(Event::Signal(Signal::Stop(_))) => {
                    return Err(SECOND_SIGNAL.into());
                }
                Ok(
                    Event::Signal(Signal::Reload)
                    | Event::Reload(_)
                    | Event::WouldBe(_)
                    | Event::Look(_)
                    | Event::KeySet
                    | Event::Prepared(_)
                    | Event::Taken(..),
                ) => {}
                Err(RecvTimeoutError::Timeout) => return Err(format!("{waiting} shards did not finish draining")),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok((rows, kept))
    }
}
