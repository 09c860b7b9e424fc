//! Ends of streams and of trunks, and what is done after some time.

use std::io;
use std::time::Duration;

use forebay_runtime::seam::{Closed, ConnId, Io, Monotonic};

use super::frame::{Frame, Reason, STAMPS, stamp_at};
use super::stream::Phase;
use super::{FIRST_STREAM, NO_TRUNK, News, Trunks};

/// The time that a stream has for its queued bytes once it is being closed, as a connection has.
pub(super) const CLOSING_LIMIT: Duration = Duration::from_secs(10);
/// The time that received bytes may stay unread after the other side has ended the stream, as with a connection.
const ENDED_LIMIT: Duration = Duration::from_secs(5);
/// The time after which a trunk without a stream is closed.
pub(super) const IDLE_FOR: Duration = Duration::from_secs(10);

/// The time between two stamps of a trunk.
pub(super) const STAMPED_EVERY: Duration = Duration::from_millis(500);

/// A deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The end of the time that a closing stream has for its bytes.
    Closing(ConnId),
    /// The end of the time that an ended stream may be left unread.
    Ended(ConnId),
    /// The time by which a trunk must be established.
    Dialled(ConnId),
    /// The time at which a trunk is closed if it has had no stream since.
    Idle(ConnId),
    /// The time of a trunk's next stamp.
    Stamp(ConnId),
}

/// A copy of a reason, for another stream.
fn same(why: &Closed) -> Closed {
    match why {
        Closed::Peer => Closed::Peer,
        // A trunk with streams is given up here only if it does not get through.
        Closed::Local => Closed::Error(io::ErrorKind::TimedOut.into()),
        Closed::Error(error) => Closed::Error(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None if error.get_ref().is_some() => io::Error::new(error.kind(), error.to_string()),
            None => error.kind().into(),
        }),
        Closed::Layer(error) => Closed::Layer(error.clone()),
    }
}

impl Trunks {
    /// Takes a stream off its trunk: no frame names it any more.
    pub(super) fn leave_trunk(&mut self, conn: ConnId) {
        let Some(stream) = self.named(conn) else { return };
        let (at, number) = (std::mem::replace(&mut stream.trunk, NO_TRUNK), stream.number);
        let out = std::mem::take(&mut stream.out);
        stream.sent = 0;
        self.spare(out);
        if let Some(trunk) = self.trunk(at) {
            trunk.streams.remove(&number);
            if trunk.streams.is_empty() {
                self.mark_dirty(at);
            }
        }
    }

    /// Drops received bytes that the shard does not want any more.
    pub(super) fn forget_unread(&mut self, conn: ConnId) {
        self.held -= self.named(conn).map_or(0, |stream| std::mem::take(&mut stream.unread).len());
    }

    /// Ends a stream, and reports the end to the shard.
    pub(super) fn over(&mut self, conn: ConnId, why: Closed) {
        self.leave_trunk(conn);
        self.forget_unread(conn);
        if let Some(stream) = self.named(conn) {
            stream.phase = Phase::Over;
            self.news.push_back(News::Closed(conn, why));
        }
    }

    /// Notes that the other side has ended a stream. `Some`: the end can be reported to the shard at once.
    pub(super) fn has_ended(&mut self, conn: ConnId, why: Closed, now: Monotonic) -> Option<Closed> {
        self.leave_trunk(conn);
        let stream = self.named(conn)?;
        match stream.phase {
            Phase::Over => None,
            Phase::Closing => {
                self.over(conn, Closed::Local);
                None
            }
            Phase::Open if stream.is_read() && stream.unread.is_empty() => {
                stream.phase = Phase::Over;
                Some(why)
            }
            Phase::Open => {
                // The stream sends no more, and so gets no room by that.
                stream.is.capped = false;
                stream.end = Some(why);
                self.list(conn);
                self.watch(conn, now);
                None
            }
        }
    }

    /// Forgets a stream, after its end was reported to the shard.
    pub fn release(&mut self, conn: ConnId) {
        if self.named(conn).is_none() {
            return;
        }
        self.leave_trunk(conn);
        self.forget_unread(conn);
        let index = conn.slot - FIRST_STREAM;
        if let Some(place) = self.places.get_mut(index as usize) {
            place.stream = None;
            place.generation = place.generation.wrapping_add(1);
            self.free.push(index);
        }
    }

    /// Notes that a trunk has ended: so have its streams, each after the bytes received.
    pub fn broke(&mut self, trunk: ConnId, why: &Closed, now: Monotonic) {
        let Some(at) = self.index_of(trunk) else { return };
        let Some(of) = self.trunks[at as usize].take() else { return };
        let mut streams: Vec<(u32, u32)> = of.streams.into_iter().collect();
        streams.sort_unstable();
        for (_, index) in streams {
            let conn = self.id_of(index);
            if let Some(why) = self.has_ended(conn, same(why), now) {
                self.news.push_back(News::Closed(conn, why));
            }
        }
    }

    /// The time of the next deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Sets the deadline of a stream that has ended and is not read.
    pub(super) fn watch(&mut self, conn: ConnId, now: Monotonic) {
        if let Some(stream) = self.named(conn).filter(|stream| stream.end.is_some() && !stream.is_read())
            && !std::mem::replace(&mut stream.is.timed, true)
        {
            self.deadlines.insert((now.after(ENDED_LIMIT), Due::Ended(conn)));
        }
    }

    /// Does what is due. Trunks that have to end are closed, and their ends follow.
    pub fn pass_time<M>(&mut self, io: &mut dyn Io<M>) {
        let now = io.now();
        while let Some((at, due)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, due));
            match due {
                Due::Closing(conn) => self.reset(conn, Reason::Aborted),
                Due::Ended(conn) => {
                    if let Some(stream) = self.named(conn).filter(|stream| stream.phase == Phase::Open) {
                        stream.is.timed = false;
                        if stream.end.is_some() && !stream.is_read() {
                            let why = stream.end.take().unwrap_or(Closed::Peer);
                            self.over(conn, why);
                        }
                    }
                }
                Due::Dialled(conn) => {
                    if self.by_conn(conn).is_some_and(|trunk| !trunk.is_open) {
                        io.abort(conn);
                    }
                }
                Due::Stamp(conn) => {
                    if let Some(at) = self.index_of(conn) {
                        // A stamp that is not sent yet is older, and so on the safe side.
                        if self.trunk(at).is_some_and(|trunk| trunk.control.is_empty()) {
                            self.put_control(at, Frame::Credit(stamp_at(now)), STAMPS);
                        }
                        self.deadlines.insert((now.after(STAMPED_EVERY), due));
                    }
                }
                Due::Idle(conn) => {
                    let is_idle = |since: Monotonic| now.since(since) >= IDLE_FOR;
                    let trunk = self.by_conn(conn);
                    if let Some(trunk) = trunk.filter(|trunk| trunk.idle_since.is_some_and(is_idle)) {
                        trunk.ends = true;
                        io.close(conn);
                    }
                }
            }
        }
    }
}
