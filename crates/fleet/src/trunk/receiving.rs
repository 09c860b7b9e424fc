//! Frames of the other side.

use forebay_base::limits::{STREAM_CREDIT_MAX, TRUNK_STREAMS_MAX};
use forebay_runtime::seam::{Closed, ConnId, Monotonic};

use super::frame::{Frame, Malformed, Piece, Reason, STAMPS};
use super::stream::Phase;
use super::{NO_TRUNK, Trunks};

/// An event for the shard in received frames.
#[derive(Debug)]
pub enum Arrival<'a> {
    /// The other side has made a stream.
    Accepted(ConnId),
    /// Bytes of a stream. The shard says how many it has taken: [`Trunks::taken`].
    Bytes(ConnId, &'a [u8]),
    /// A stream has ended. The shard forgets it, and then calls [`Trunks::release`].
    Closed(ConnId, Closed),
    /// A stream of this shard has ended, as its place is elsewhere. The shard forgets it, and then calls [`Trunks::release`].
    Elsewhere(ConnId, Reason),
}

impl Trunks {
    /// Takes frames off bytes that a trunk has received, up to one that the shard has to act on. `None`: there are no more. `waits`: bytes of streams are kept for
    /// a later turn.
    ///
    /// # Errors
    /// The other side violates the protocol: the trunk has to be ended.
    pub fn receive<'a>(
        &mut self,
        trunk: ConnId,
        bytes: &mut &'a [u8],
        (waits, now): (bool, Monotonic),
    ) -> Result<Option<Arrival<'a>>, Malformed> {
        let Some(at) = self.index_of(trunk) else { return Ok(None) };
        loop {
            let Some(of) = self.trunk(at) else { return Ok(None) };
            of.asked_at = None;
            let Some((number, piece)) = of.reader.next(bytes)? else { return Ok(None) };
            let found = of.streams.get(&number).copied();
            let is_dialled = of.to.is_some();
            let arrival = match (piece, found) {
                (Piece::Frame(Frame::Open), None) if !is_dialled && of.streams.len() >= TRUNK_STREAMS_MAX => {
                    return Err(Malformed("more streams than a trunk may have"));
                }
                (Piece::Frame(Frame::Open), None) if !is_dialled => {
                    Some(Arrival::Accepted(self.enter(at, number, true)))
                }
                (Piece::Frame(Frame::Open), _) => return Err(Malformed("a stream that may not be opened")),
                (Piece::Frame(Frame::Credit(stamp)), None) if number == STAMPS && is_dialled => {
                    of.stamp = Some(stamp);
                    None
                }
                // The stream has ended here, and the end was not reported to the other side yet.
                (_, None) => None,
                (Piece::Bytes(data), Some(index)) => self.arrived(index, data, waits)?,
                (Piece::Frame(frame), Some(index)) => self.told(index, frame, now)?,
            };
            if arrival.is_some() {
                return Ok(arrival);
            }
        }
    }

    /// Notes that something was opened, and waits for an answer.
    pub(super) fn asked(&mut self, at: u32, now: Monotonic) {
        if let Some(trunk) = self.trunk(at) {
            trunk.asked_at.get_or_insert(now);
        }
    }

    fn arrived<'a>(&mut self, index: u32, data: &'a [u8], waits: bool) -> Result<Option<Arrival<'a>>, Malformed> {
        let conn = self.id_of(index);
        let Some(stream) = self.named(conn) else { return Ok(None) };
        stream.room =
            stream.room.checked_sub(data.len()).ok_or(Malformed("more bytes of a stream than it has credit for"))?;
        if stream.phase != Phase::Open {
            return Ok(None);
        }
        if !waits && stream.is_read() && stream.unread.is_empty() {
            return Ok(Some(Arrival::Bytes(conn, data)));
        }
        stream.unread.extend_from_slice(data);
        self.held += data.len();
        self.list(conn);
        Ok(None)
    }

    fn told<'a>(&mut self, index: u32, frame: Frame, now: Monotonic) -> Result<Option<Arrival<'a>>, Malformed> {
        let conn = self.id_of(index);
        let Some(stream) = self.named(conn) else { return Ok(None) };
        let why = match frame {
            Frame::Credit(more) => {
                stream.credit += more as usize;
                if stream.credit > STREAM_CREDIT_MAX {
                    return Err(Malformed("more credit than there can be"));
                }
                if stream.unsent() > 0 {
                    self.queue(index);
                }
                return Ok(None);
            }
            Frame::Reset(reason @ (Reason::OtherShard(_) | Reason::OtherTrunk | Reason::OtherInstance))
                if !stream.is.accepted && stream.phase == Phase::Open =>
            {
                stream.phase = Phase::Over;
                self.leave_trunk(conn);
                return Ok(Some(Arrival::Elsewhere(conn, reason)));
            }
            Frame::Reset(_) => Closed::Error(std::io::ErrorKind::ConnectionReset.into()),
            // The others do not get here.
            Frame::Close | Frame::Open | Frame::Data(_) => Closed::Peer,
        };
        Ok(self.has_ended(conn, why, now).map(|why| Arrival::Closed(conn, why)))
    }

    /// Notes that the shard has taken bytes: the other side gets credit for them.
    pub(super) fn consumed(&mut self, conn: ConnId, bytes: usize) {
        let Some(stream) = self.named(conn).filter(|stream| stream.trunk != NO_TRUNK) else { return };
        stream.owed += bytes;
        if stream.owed < forebay_base::limits::STREAM_WINDOW_BYTES / 2 {
            return;
        }
        let (at, number, owed) = (stream.trunk, stream.number, std::mem::take(&mut stream.owed));
        stream.room += owed;
        self.put_control(at, Frame::Credit(owed as u32), number);
    }

    /// Appends a frame that goes ahead of all bytes of streams.
    pub(super) fn put_control(&mut self, at: u32, frame: Frame, number: u32) {
        if let Some(trunk) = self.trunk(at) {
            frame.put(number, &mut trunk.control);
            self.mark_dirty(at);
        }
    }

    /// Has a stream's bytes, OPEN and CLOSE sent at the end of the turn.
    pub(super) fn queue(&mut self, index: u32) {
        let Some(stream) = self.places.get_mut(index as usize).and_then(|place| place.stream.as_mut()) else { return };
        let at = stream.trunk;
        if at == NO_TRUNK || std::mem::replace(&mut stream.is.queued, true) {
            return;
        }
        if let Some(trunk) = self.trunk(at) {
            trunk.queue.push_back(index);
        }
        self.mark_dirty(at);
    }

    pub(super) fn mark_dirty(&mut self, at: u32) {
        if let Some(trunk) = self.trunk(at)
            && !std::mem::replace(&mut trunk.is_dirty, true)
        {
            self.dirty.push(at);
        }
    }

    /// Has what a trunk still has to send gathered, as it has room again.
    pub fn has_room(&mut self, trunk: ConnId) {
        if let Some(at) = self.index_of(trunk) {
            self.mark_dirty(at);
        }
    }
}
