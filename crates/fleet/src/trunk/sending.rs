//! Frames for the other side: the bytes and ends of a trunk's streams are gathered at the end of a turn, and go out as one write.

use forebay_base::limits::{SENT_AHEAD_BYTES_MAX, STREAM_OUT_BYTES_MAX, TRUNK_AHEAD_BYTES_MAX, TRUNK_FRAME_BYTES_MAX};
use forebay_runtime::seam::{Closed, Io, Monotonic, TracedSend, WallMs};

use super::ending::{CLOSING_LIMIT, Due, IDLE_FOR};
use super::frame::Frame;
use super::stream::Phase;
use super::{News, Trunks};

/// Spare out-buffers that are kept, and the largest one.
const SPARE_MAX: usize = 256;
const SPARE_BYTES_MAX: usize = 32 << 10;

impl Trunks {
    /// Gathers what streams have to send, at the end of a turn.
    pub fn gather<M>(&mut self, io: &mut dyn Io<M>) {
        for at in std::mem::take(&mut self.dirty) {
            let Some(trunk) = self.trunk(at) else { continue };
            trunk.is_dirty = false;
            if trunk.is_open {
                self.gather_one(io, at);
            }
        }
        if !self.news.is_empty() {
            io.go_on();
        }
    }

    /// Gathers what the streams of a trunk have to send: of each by turns at most a frame, as far as there is credit, until the trunk has
    /// [`TRUNK_AHEAD_BYTES_MAX`] unsent. The rest follows as soon as it has room.
    fn gather_one<M>(&mut self, io: &mut dyn Io<M>, at: u32) {
        let (now, wall) = (io.now(), io.wall());
        let Some(trunk) = self.trunk(at) else { return };
        let conn = trunk.conn;
        if !trunk.control.is_empty() || !trunk.queue.is_empty() {
            let mut room = TRUNK_AHEAD_BYTES_MAX.saturating_sub(io.unsent(conn));
            let out = io.out(conn);
            out.append(&mut trunk.control);
            while room > 0
                && let Some(index) = self.trunk(at).and_then(|trunk| trunk.queue.pop_front())
            {
                let from = out.len();
                self.frame(at, index, out, (now, wall));
                room = room.saturating_sub(out.len() - from);
            }
        }
        let Some(trunk) = self.trunk(at) else { return };
        if !trunk.queue.is_empty() {
            io.tell_writable(conn);
        }
        if trunk.streams.is_empty() && trunk.ends {
            io.close(conn);
        } else if trunk.streams.is_empty() && trunk.to.is_some() && trunk.idle_since.is_none() {
            trunk.idle_since = Some(now);
            self.deadlines.insert((now.after(IDLE_FOR), Due::Idle(conn)));
        }
    }

    /// Appends what a stream has to say, at most one frame of its bytes.
    fn frame(&mut self, at: u32, index: u32, out: &mut Vec<u8>, (now, wall): (Monotonic, WallMs)) {
        let conn = self.id_of(index);
        let Some(stream) = self.named(conn).filter(|stream| stream.trunk == at && stream.is.queued) else { return };
        let number = stream.number;
        let is_new = !std::mem::replace(&mut stream.is.announced, true);
        if is_new {
            Frame::Open.put(number, out);
        }
        let bytes = stream.unsent().min(stream.credit).min(TRUNK_FRAME_BYTES_MAX);
        let mut traced = None;
        if bytes > 0 {
            Frame::Data(bytes as u32).put(number, out);
            let data = &stream.out[stream.sent..][..bytes];
            out.extend_from_slice(data);
            traced = stream.is.traced.then(|| TracedSend { conn, at: wall, bytes: data.to_vec() });
            stream.sent += bytes;
            stream.credit -= bytes;
        }
        let (unsent, goes_on) = (stream.unsent(), stream.unsent() > 0 && stream.credit > 0);
        stream.is.queued = goes_on;
        let mut emptied = Vec::new();
        if unsent == 0 {
            emptied = std::mem::take(&mut stream.out);
            stream.sent = 0;
        } else if !goes_on && stream.sent > 0 && (stream.sent >= unsent || unsent <= SENT_AHEAD_BYTES_MAX) {
            stream.out.drain(..std::mem::take(&mut stream.sent));
        }
        let is_told = stream.is.awaited && unsent <= SENT_AHEAD_BYTES_MAX / 2;
        stream.is.awaited &= !is_told;
        // A client that does not read is not read either, as one of this instance. Its trunk is.
        let was_capped = stream.is.capped;
        stream.is.capped =
            stream.is.accepted && unsent > if was_capped { STREAM_OUT_BYTES_MAX / 2 } else { STREAM_OUT_BYTES_MAX };
        let (phase, is_read_again) = (stream.phase, was_capped && !stream.is.capped);
        let waits = phase == Phase::Closing && unsent > 0 && !std::mem::replace(&mut stream.is.timed, true);
        if goes_on && let Some(trunk) = self.trunk(at) {
            trunk.queue.push_back(index);
        }
        self.spare(emptied);
        if let Some(sent) = traced {
            sent.keep(&mut self.traced);
        }
        if is_new {
            self.asked(at, now);
        }
        if is_told {
            self.news.push_back(News::Writable(conn));
        }
        if is_read_again {
            self.list(conn);
        }
        if waits {
            self.deadlines.insert((now.after(CLOSING_LIMIT), Due::Closing(conn)));
        } else if phase == Phase::Closing && unsent == 0 {
            Frame::Close.put(number, out);
            self.over(conn, Closed::Local);
        }
    }

    pub(super) fn spare(&mut self, mut buffer: Vec<u8>) {
        if (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) && self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
