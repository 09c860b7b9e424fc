//! The way out: stop accepting, stop reading, let Kafka confirm what is buffered, answer, say goodbye, report.

use std::collections::HashSet;
use std::time::Duration;

use crate::runtime::seam::ConnId;
use crate::session::End;

use super::connection::{Kind, Timer};
use super::mail::Notice;
use super::{Core, Ring};

/// A drain under way.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Goodbyes that the kernel has not taken yet; `None` while answers are still owed.
    closing: Option<HashSet<ConnId>>,
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
        let rows_left: u64 = self.outlets.upstreams.iter().map(|u| u.producer.buffered_rows()).sum();
        if rows_left > 0 {
            return;
        }
        if matches!(self.drain, Some(Drain { closing: None })) {
            self.say_goodbye(io);
        }
        // Where nobody was connected nothing else would ever happen.
        if matches!(&self.drain, Some(Drain { closing: Some(closing) }) if closing.is_empty()) {
            self.finish(io, 0, 0);
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
        self.drain = Some(Drain { closing: Some(closing) });
    }

    /// The grace is over: what is left is reported, not waited for.
    pub(super) fn grace_over(&mut self, io: &mut Ring<'_>) {
        let Some(drain) = self.drain.take() else { return };
        let rows_left = self.outlets.upstreams.iter().map(|u| u.producer.buffered_rows()).sum();
        // Who has not taken the goodbye yet, and who has not been told.
        let untold =
            |core: &mut Self, conn| core.connections.get(conn).is_some_and(|c| !matches!(c.kind, Kind::Link { .. }));
        let ids = self.connections.ids();
        let connections_left = drain.closing.map_or(0, |closing| closing.len())
            + ids.into_iter().filter(|conn| untold(self, *conn)).count();
        self.finish(io, rows_left, connections_left);
    }

    fn finish(&mut self, io: &mut Ring<'_>, rows_left: u64, connections_left: usize) {
        self.drain = None;
        let _ = self.around.notices.send(Notice::Drained { shard: self.index, rows_left, connections_left });
        self.numbers.publish();
        io.stop();
    }
}
