//! The way out: stop accepting, stop reading, let Kafka confirm what is buffered, answer, say goodbye, report.

use std::collections::HashSet;
use std::time::Duration;

use crate::buffer::Buffer;
use crate::kafka::producer::Keep;
use crate::runtime::seam::ConnId;
use crate::session::End;

use super::connection::{Kind, Timer};
use super::mail::Notice;
use super::{Core, Ring};

/// How long what is left may take to get onto the disk once the grace is over.
const SAVING: Duration = Duration::from_secs(3);

/// A drain under way.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Goodbyes that the kernel has not taken yet; `None` while answers are still owed.
    closing: Option<HashSet<ConnId>>,
    /// The grace is over, and the disk has not answered for all that goes to it.
    saving: bool,
}

impl Drain {
    /// A connection is gone.
    pub(super) fn closed(&mut self, conn: ConnId) {
        if let Some(closing) = &mut self.closing {
            closing.remove(&conn);
        }
    }
}

impl Core {
    /// Devices are read no more; what they sent is finished within `grace`.
    pub(super) fn begin_drain(&mut self, io: &mut Ring<'_>, grace: Duration) {
        if self.drain.is_some() {
            return;
        }
        io.stop_accepting();
        for conn in self.connections.ids() {
            match self.connections.get(conn).map(|c| c.kind) {
                Some(Kind::Door(_)) => self.end(io, conn, End::ShuttingDown),
                Some(Kind::Device { .. }) => self.read_no_more(io, conn),
                Some(Kind::Link { .. }) | None => {}
            }
        }
        for upstream in &mut self.outlets.upstreams {
            upstream.producer.stop_lingering(io.now());
            upstream.busy = true;
        }
        self.drain = Some(Drain::default());
        let _ = io.set_timer(io.now().after(grace), Timer::Grace.token());
    }

    /// Its silence from here on is our doing: the keep-alive rests.
    fn read_no_more(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        if let Some(connection) = self.connections.get(conn) {
            connection.clock.rest();
        }
        io.pause(conn);
    }

    /// Looks, at the end of a turn, whether the drain can go a step on.
    pub(super) fn go_on_draining(&mut self, io: &mut Ring<'_>) {
        let Some(drain) = &self.drain else { return };
        let (waiting, kept, saved) = (self.rows_waiting(), self.rows_kept(), self.is_saved());
        if drain.saving {
            if saved {
                self.report(io);
            }
            return;
        }
        // Whose answer the disk gives need not wait for Kafka.
        if waiting == 0 && saved && drain.closing.is_none() {
            self.say_goodbye(io);
        }
        // Where nobody was connected nothing else would ever happen.
        let gone = matches!(&self.drain, Some(Drain { closing: Some(closing), .. }) if closing.is_empty());
        if gone && waiting + kept == 0 && self.is_saved() {
            self.finish(io, 0, 0, 0);
        }
    }

    /// Closes every device's connection; a will that is due becomes a row, which is waited for as well.
    fn say_goodbye(&mut self, io: &mut Ring<'_>) {
        let mut closing = HashSet::new();
        for conn in self.connections.ids() {
            if matches!(self.connections.get(conn).map(|c| c.kind), Some(Kind::Device { .. })) {
                self.end(io, conn, End::ShuttingDown);
                closing.insert(conn);
            }
        }
        self.drain = Some(Drain { closing: Some(closing), saving: false });
    }

    /// The grace is over: what is left is reported, not waited for.
    pub(super) fn grace_over(&mut self, io: &mut Ring<'_>) {
        match &mut self.drain {
            None => return,
            Some(drain) if drain.saving => return self.report(io),
            Some(drain) => drain.saving = true,
        }
        self.save(io);
        if self.is_saved() {
            return self.report(io);
        }
        let _ = io.set_timer(io.now().after(SAVING), Timer::Grace.token());
    }

    /// What is in memory and is to outlive the process goes to the log.
    fn save(&mut self, io: &mut Ring<'_>) {
        self.outlets.upstreams.iter_mut().for_each(|upstream| upstream.save());
        self.busy_clusters();
        self.outward(io);
        self.flush_spool(io);
    }

    /// Rows that a stop would lose.
    fn rows_waiting(&self) -> u64 {
        self.count_rows(|keep| matches!(keep, Keep::Memory | Keep::Hybrid))
    }

    /// Rows that the next start finds, once they are durable.
    fn rows_kept(&self) -> u64 {
        self.count_rows(|keep| matches!(keep, Keep::Disk | Keep::HybridSaved))
    }

    fn count_rows(&self, wanted: impl Fn(Keep) -> bool) -> u64 {
        self.outlets.upstreams.iter().map(|upstream| upstream.rows_of(&wanted)).sum()
    }

    /// Whether all that was written down is durable.
    fn is_saved(&self) -> bool {
        self.outlets.buffer.as_ref().is_none_or(Buffer::is_idle) && self.keeping.holds.is_empty()
    }

    fn report(&mut self, io: &mut Ring<'_>) {
        let Some(drain) = self.drain.take() else { return };
        let unsaved = self.outlets.buffer.as_ref().map_or(0, Buffer::rows_not_durable);
        let rows_kept = self.rows_kept().saturating_sub(unsaved);
        let rows_left = self.rows_waiting() + unsaved;
        // Who has not taken the goodbye yet, and who has not been told.
        let untold =
            |core: &mut Self, conn| core.connections.get(conn).is_some_and(|c| !matches!(c.kind, Kind::Link { .. }));
        let ids = self.connections.ids();
        let connections_left = drain.closing.map_or(0, |closing| closing.len())
            + ids.into_iter().filter(|conn| untold(self, *conn)).count();
        self.finish(io, rows_left, rows_kept, connections_left);
    }

    fn finish(&mut self, io: &mut Ring<'_>, rows_left: u64, rows_kept: u64, connections_left: usize) {
        self.drain = None;
        let _ = self.around.notices.send(Notice::Drained { shard: self.index, rows_left, rows_kept, connections_left });
        self.numbers.publish();
        io.stop();
    }
}
