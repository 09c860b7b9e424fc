//! The calls of a shard: those for streams are like those for connections.

use std::net::SocketAddr;
use std::time::Duration;

use forebay_base::limits::TRUNK_STREAMS_OPENED;
use forebay_runtime::seam::{Chunk, Closed, ConnId, Io, Monotonic, TracedSend};

use super::ending::Due;
use super::frame::Reason;
use super::stream::{Phase, Stream};
use super::{Destination, FIRST_STREAM, NO_TRUNK, News, Trunk, Trunks, is_stream};

/// The time after which a trunk that is not established, or has not answered a stream, gets no further ones: its other side may be gone without a word.
const SILENT_FOR: Duration = Duration::from_secs(2);

impl Trunks {
    /// The trunk to a destination that takes another stream. `None`: there is none.
    #[must_use]
    pub fn find(&self, to: &Destination, mark: u64, now: Monotonic) -> Option<ConnId> {
        let is_it = |trunk: &&Trunk| {
            let answers = trunk.asked_at.is_none_or(|at| now.since(at) < SILENT_FOR);
            let has_room = trunk.next < u32::MAX && trunk.streams.len() < TRUNK_STREAMS_OPENED;
            trunk.to.as_ref() == Some(to) && trunk.mark == mark && answers && !trunk.ends && has_room
        };
        self.trunks.iter().flatten().find(is_it).map(|trunk| trunk.conn)
    }

    /// Adds a trunk that this shard makes: a connection that is not established yet. `until`: it is given up then.
    pub fn dial(&mut self, conn: ConnId, to: Destination, mark: u64, (now, until): (Monotonic, Monotonic)) {
        let at = self.add(conn, Some(to), mark);
        self.asked(at, now);
        self.deadlines.insert((until, Due::Dialled(conn)));
    }

    /// Adds a trunk that another instance has made. Stamps are sent over it from now on: headers of its streams name the last one, so it is known how long they
    /// were on their way at most.
    pub fn accept(&mut self, conn: ConnId, mark: u64, now: Monotonic) {
        self.add(conn, None, mark);
        self.opened(conn);
        self.deadlines.insert((now, Due::Stamp(conn)));
    }

    /// The last stamp that has come over the trunk of a stream.
    #[must_use]
    pub fn stamp_of(&self, stream: ConnId) -> Option<u32> {
        let at = self.peek(stream)?.trunk;
        self.trunks.get(at as usize)?.as_ref()?.stamp
    }

    fn add(&mut self, conn: ConnId, to: Option<Destination>, mark: u64) -> u32 {
        let trunk = Trunk {
            conn,
            to,
            mark,
            is_open: false,
            ends: false,
            is_dirty: false,
            asked_at: None,
            stamp: None,
            idle_since: None,
            streams: super::HashMap::default(),
            next: 0,
            reader: super::Reader::default(),
            control: Vec::new(),
            queue: std::collections::VecDeque::new(),
        };
        let at = self.trunks.iter().position(Option::is_none).unwrap_or(self.trunks.len());
        match self.trunks.get_mut(at) {
            Some(place) => *place = Some(trunk),
            None => self.trunks.push(Some(trunk)),
        }
        at as u32
    }

    /// Notes that a trunk is established.
    pub fn opened(&mut self, conn: ConnId) {
        if let Some(trunk) = self.by_conn(conn) {
            (trunk.is_open, trunk.asked_at) = (true, None);
        }
        self.has_room(conn);
    }

    /// The number of trunks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.trunks.iter().flatten().count()
    }

    /// The number of streams of all trunks.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.trunks.iter().flatten().map(|trunk| trunk.streams.len()).sum()
    }

    /// Whether there is no trunk.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that were received and wait for the shard, of all streams.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held
    }

    /// Makes a stream on a trunk of this shard. The other side gets OPEN at the end of the turn in which the trunk is established. `None`: the trunk is gone.
    pub fn open(&mut self, trunk: ConnId) -> Option<ConnId> {
        let at = self.index_of(trunk)?;
        let of = self.trunk(at)?;
        let number = of.next;
        of.next += 1;
        let conn = self.enter(at, number, false);
        self.queue(conn.slot - FIRST_STREAM);
        Some(conn)
    }

    /// Adds a stream to a trunk.
    pub(super) fn enter(&mut self, at: u32, number: u32, accepted: bool) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(super::Place::default());
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.stream = Some(Stream::new(at, number, accepted));
        let conn = ConnId { slot: FIRST_STREAM + index, generation: place.generation };
        if let Some(trunk) = self.trunk(at) {
            trunk.streams.insert(number, index);
            trunk.idle_since = None;
        }
        conn
    }

    /// The trunk that carries a stream.
    #[must_use]
    pub fn trunk_of(&self, conn: ConnId) -> Option<ConnId> {
        let at = self.peek(conn)?.trunk;
        self.trunks.get(at as usize)?.as_ref().map(|trunk| trunk.conn)
    }

    /// Whether the trunk of a stream is established.
    #[must_use]
    pub fn is_established(&self, conn: ConnId) -> bool {
        let at = self.peek(conn).map(|stream| stream.trunk as usize);
        at.and_then(|at| self.trunks.get(at)?.as_ref()).is_some_and(|trunk| trunk.is_open)
    }

    /// The mark of a trunk: that of the settings by which it was made.
    #[must_use]
    pub fn mark_of(&mut self, trunk: ConnId) -> Option<u64> {
        self.by_conn(trunk).map(|trunk| trunk.mark)
    }

    /// Has a trunk take no further stream.
    pub fn retire(&mut self, trunk: ConnId) {
        if let Some(trunk) = self.by_conn(trunk) {
            trunk.ends = true;
        }
        self.has_room(trunk);
    }

    /// The next event for the shard.
    pub fn next_news(&mut self) -> Option<News> {
        loop {
            match self.news.pop_front()? {
                News::Unread(conn) => {
                    let Some(stream) = self.named(conn).filter(|stream| stream.is.listed) else { continue };
                    stream.is.listed = false;
                    if !stream.is_read() || !stream.has_unread() {
                        continue;
                    }
                    if !stream.unread.is_empty() {
                        return Some(News::Unread(conn));
                    }
                    if let Some(why) = stream.end.take() {
                        stream.phase = Phase::Over;
                        return Some(News::Closed(conn, why));
                    }
                }
                News::Writable(conn) if self.named(conn).is_some_and(|stream| stream.phase != Phase::Open) => {}
                news => return Some(news),
            }
        }
    }

    /// The number of events for the shard.
    #[must_use]
    pub fn news(&self) -> usize {
        self.news.len()
    }

    /// Takes the bytes of a stream that wait for the shard.
    pub fn take_unread(&mut self, conn: ConnId) -> Vec<u8> {
        let unread = self.named(conn).map(|stream| std::mem::take(&mut stream.unread)).unwrap_or_default();
        self.held -= unread.len();
        unread
    }

    /// Notes that the shard has taken as many of the bytes that it was given. The rest waits for another turn.
    pub fn taken(&mut self, conn: ConnId, unread: &[u8], taken: usize) {
        let rest = unread.get(taken..).unwrap_or_default();
        let Some(stream) = self.named(conn).filter(|stream| stream.phase == Phase::Open) else { return };
        if !rest.is_empty() {
            stream.unread.extend_from_slice(rest);
            self.held += rest.len();
        }
        self.consumed(conn, taken);
        self.list(conn);
    }

    /// Puts a stream with bytes for the shard, or an end, into the list.
    pub(super) fn list(&mut self, conn: ConnId) {
        let Some(stream) = self.named(conn) else { return };
        if stream.is_read() && stream.has_unread() && !std::mem::replace(&mut stream.is.listed, true) {
            self.news.push_back(News::Unread(conn));
        }
    }

    /// The out-buffer of a stream, for appending. For one that has ended: a scratch.
    pub fn out(&mut self, conn: ConnId) -> &mut Vec<u8> {
        let index = conn.slot.wrapping_sub(FIRST_STREAM);
        if !self.peek(conn).is_some_and(|stream| stream.phase == Phase::Open && stream.trunk != NO_TRUNK) {
            self.scratch.clear();
            return &mut self.scratch;
        }
        self.queue(index);
        let spare = &mut self.spare;
        match self.places.get_mut(index as usize).and_then(|place| place.stream.as_mut()) {
            Some(stream) => {
                if stream.out.capacity() == 0 {
                    stream.out = spare.pop().unwrap_or_default();
                }
                &mut stream.out
            }
            None => &mut self.scratch,
        }
    }

    /// Appends chunks to the out-buffer.
    pub fn send(&mut self, conn: ConnId, chunks: &mut Vec<Chunk>) {
        let out = self.out(conn);
        chunks.drain(..).for_each(|chunk| out.extend_from_slice(chunk.bytes()));
    }

    /// Bytes of the out-buffer that the trunk has not taken, mostly as the other side has given no credit for them.
    #[must_use]
    pub fn unsent(&self, conn: ConnId) -> usize {
        self.peek(conn).map_or(0, Stream::unsent)
    }

    /// Requests one [`News::Writable`], as soon as at most half of [`forebay_base::limits::SENT_AHEAD_BYTES_MAX`] is unsent.
    pub fn tell_writable(&mut self, conn: ConnId) {
        let Some(stream) = self.named(conn).filter(|stream| stream.phase == Phase::Open) else { return };
        stream.is.awaited = true;
        // The next gathering finds that there is room, if there is.
        if stream.unsent() > 0 {
            self.queue(conn.slot - FIRST_STREAM);
        }
    }

    /// Stops giving the shard bytes of a stream.
    pub fn pause(&mut self, conn: ConnId, now: Monotonic) {
        if let Some(stream) = self.named(conn) {
            stream.is.paused = true;
        }
        self.watch(conn, now);
    }

    /// Gives the shard bytes of a stream again. Whether some wait.
    pub fn resume(&mut self, conn: ConnId) -> bool {
        if let Some(stream) = self.named(conn) {
            stream.is.paused = false;
        }
        self.list(conn);
        !self.news.is_empty()
    }

    /// The client's address. `None`: it is not known yet.
    #[must_use]
    pub fn peer(&self, conn: ConnId) -> Option<SocketAddr> {
        self.peek(conn)?.peer
    }

    /// Sets the client's address.
    pub fn set_peer(&mut self, conn: ConnId, peer: SocketAddr) {
        if let Some(stream) = self.named(conn) {
            stream.peer = Some(peer);
        }
    }

    /// Starts or stops copying what a stream is sent.
    pub fn trace(&mut self, conn: ConnId, on: bool) {
        if let Some(stream) = self.named(conn) {
            stream.is.traced = on;
        }
    }

    /// Copies of what traced streams were sent since the last call.
    pub fn take_traced(&mut self) -> Vec<TracedSend> {
        std::mem::take(&mut self.traced)
    }

    /// Sends queued bytes, then the end. [`News::Closed`] follows with [`Closed::Local`].
    pub fn close(&mut self, conn: ConnId) {
        let Some(stream) = self.named(conn).filter(|stream| stream.phase == Phase::Open) else { return };
        let (at, is_over) = (stream.trunk, stream.end.is_some());
        let is_known = stream.is.announced || self.trunk(at).is_some_and(|trunk| trunk.is_open);
        if is_over || !is_known {
            return self.over(conn, Closed::Local);
        }
        self.forget_unread(conn);
        if let Some(stream) = self.named(conn) {
            stream.phase = Phase::Closing;
        }
        self.queue(conn.slot - FIRST_STREAM);
    }

    /// Ends a stream at once; queued bytes are dropped. [`News::Closed`] follows with [`Closed::Local`].
    pub fn abort(&mut self, conn: ConnId) {
        self.reset(conn, Reason::Aborted);
    }

    /// Ends a stream at once, for this reason.
    pub fn reset(&mut self, conn: ConnId, reason: Reason) {
        let Some(stream) = self.named(conn).filter(|stream| stream.phase != Phase::Over) else { return };
        if stream.trunk != NO_TRUNK && stream.is.announced {
            let (at, number) = (stream.trunk, stream.number);
            self.put_control(at, super::frame::Frame::Reset(reason), number);
        }
        self.over(conn, Closed::Local);
    }

    /// Sends what trunks have to send, and closes each as soon as that is done and it has no stream. Returns the trunks.
    pub fn wind_up<M>(&mut self, io: &mut dyn Io<M>) -> Vec<ConnId> {
        let all: Vec<ConnId> = self.trunks.iter().flatten().map(|trunk| trunk.conn).collect();
        for conn in &all {
            self.retire(*conn);
            if self.by_conn(*conn).is_some_and(|trunk| !trunk.is_open) {
                io.abort(*conn);
            }
        }
        all
    }

    /// A stream that has not been released.
    pub(super) fn named(&mut self, conn: ConnId) -> Option<&mut Stream> {
        let index = conn.slot.checked_sub(FIRST_STREAM)?;
        self.places.get_mut(index as usize).filter(|place| place.generation == conn.generation)?.stream.as_mut()
    }

    pub(super) fn peek(&self, conn: ConnId) -> Option<&Stream> {
        debug_assert!(is_stream(conn));
        let index = conn.slot.checked_sub(FIRST_STREAM)?;
        self.places.get(index as usize).filter(|place| place.generation == conn.generation)?.stream.as_ref()
    }

    /// The id of the stream in a place.
    pub(super) fn id_of(&self, index: u32) -> ConnId {
        let generation = self.places.get(index as usize).map_or(0, |place| place.generation);
        ConnId { slot: FIRST_STREAM + index, generation }
    }

    pub(super) fn index_of(&self, trunk: ConnId) -> Option<u32> {
        self.trunks.iter().position(|of| of.as_ref().is_some_and(|of| of.conn == trunk)).map(|at| at as u32)
    }

    pub(super) fn by_conn(&mut self, trunk: ConnId) -> Option<&mut Trunk> {
        let at = self.index_of(trunk)?;
        self.trunk(at)
    }

    pub(super) fn trunk(&mut self, at: u32) -> Option<&mut Trunk> {
        self.trunks.get_mut(at as usize)?.as_mut()
    }
}
