//! Connections as a shard knows them. Small on purpose: an idle device costs this, a session, and no buffer.

use std::collections::HashMap;
use std::time::Duration;

use forebay_broker::subscribe::Outcomes;
use forebay_config::Config;
use forebay_fleet::trunk::{FIRST_STREAM, is_stream};
use forebay_guard::outward::LinkId;
use forebay_listener::proxy::Expect;
use forebay_metrics::histogram::Level;
use forebay_runtime::seam::{ConnId, ListenerId, Monotonic, TimerId};
use forebay_session::{KeepAlive, Peer, SessionKey};

use super::answer_timeout::Watch;
use super::tails::Tails;
use super::traces::Traces;
use super::words::{AtDoor, Far};

/// The listener of a connection that none has accepted.
pub(super) const NO_LISTENER: ListenerId = ListenerId(u16::MAX);

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A socket that has not sent its CONNECT yet, the bytes expected before that, and the deadline of CONNECT.
    Door(Expect, Monotonic),
    /// A connection with its CONNECT, in flight to the shard of this index, which owns its client.
    Leaving(usize, Monotonic),
    /// A connection with a CONNECT that waits for a verdict, and the deadline of that.
    Pending(Monotonic),
    /// A connection of another instance that has not sent its preface, or a stream that has not sent its header, and the deadline of that.
    Header(Monotonic),
    /// A connection with a CONNECT that waits for an answer of its client's owner, another instance, and the deadline of that.
    Waiting(Monotonic),
    /// A connection in the exchange that its CONNECT has begun, and the deadline of that.
    Exchange(Monotonic),
    /// A device with a session.
    Device {
        /// The device's session, on this shard.
        session: SessionKey,
        /// The limits of packets to the device.
        peer: Peer,
    },
    /// A client that is relayed to its owner, over this stream.
    Relayed(ConnId),
    /// The stream to an owner, for this client.
    Relay(ConnId),
    /// A connection to another instance, or from one, that carries streams.
    Trunk,
    /// A broker that Forebay connects to, of Kafka or of MQTT. An MQTT broker is a device once it has accepted Forebay.
    Link {
        /// The other end.
        far: Far,
        /// The client's name for the connection.
        link: LinkId,
    },
}

/// A message for which the time to its answer is measured. A connection has one at a time: enough for a histogram, and no message carries a time of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    /// The message's number within the session.
    pub(super) number: u32,
    /// The level that the answer waits for.
    pub(super) level: Level,
    /// The time at which the message was taken.
    pub(super) at: Monotonic,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    generation: u32,
    /// The other end.
    pub(super) kind: Kind,
    /// The listener that accepted the connection, or [`NO_LISTENER`].
    pub(super) listener: ListenerId,
    /// Whether the connection is left unread: `tail` begins with the packet that found no room.
    pub(super) stalled: bool,
    /// The start of a packet that has not arrived whole. No capacity while there is none.
    pub(super) tail: Vec<u8>,
    /// The keep-alive and its end; off at the door and on links.
    pub(super) clock: KeepAlive,
    /// CONNECT time-out at the door, afterwards keep-alive or the end of what admitted it.
    pub(super) timer: Option<TimerId>,
    /// The message for which the time to its answer is measured.
    pub(super) timed: Option<Timed>,
    /// The watch on the time for which answers are pending, if that is bounded.
    pub(super) watch: Option<Box<Watch>>,
    /// The client's identity until it has a session; from then on its share, if that is bounded.
    pub(super) claim: Option<Box<AtDoor>>,
}

impl Connection {
    /// Whether answers carry their messages' places in Kafka.
    pub(super) fn has_receipts(&self, config: &Config) -> bool {
        config.listener(self.listener).is_some_and(|listener| listener.receipts)
    }

    /// The longest time for which an answer may be pending.
    pub(super) fn answer_timeout(&self, config: &Config) -> Option<Duration> {
        config.listener(self.listener)?.answer_timeout
    }
}

/// Connections by the runtime's slot, and streams by theirs.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<Option<Connection>>,
    streams: Vec<Option<Connection>>,
    /// Connections with the longest tails at the last walk, and these lengths. The longest is the last.
    longest: Vec<(usize, ConnId)>,
    /// Buffers for their tails.
    pub(super) tails: Tails,
    /// Traced connections.
    pub(super) traces: Traces,
    /// The progress of a SUBSCRIBE or UNSUBSCRIBE that takes more than one quantum, by slot.
    begun: HashMap<u32, Begun>,
}

/// The results of the first filters of a packet.
#[derive(Debug)]
pub(super) enum Begun {
    /// The results of a SUBSCRIBE.
    Subscribe(Outcomes),
    /// The results of an UNSUBSCRIBE: whether there was a subscription.
    Unsubscribe(Vec<bool>),
}

/// The number of connections that one walk over all finds for [`Connections::longest_tail`].
const LONGEST_MAX: usize = 256;

impl Connections {
    /// Adds a connection.
    pub(super) fn insert(&mut self, id: ConnId, kind: Kind, listener: ListenerId, now: Monotonic) {
        let (slots, slot) = self.place(id);
        if slot >= slots.len() {
            slots.resize_with(slot + 1, || None);
        }
        let fresh = Connection {
            generation: id.generation,
            kind,
            listener,
            stalled: false,
            tail: Vec::new(),
            clock: KeepAlive::new(0, now),
            timer: None,
            timed: None,
            watch: None,
            claim: None,
        };
        slots[slot] = Some(fresh);
    }

    /// The table of an id, and the place there.
    #[inline]
    fn place(&mut self, id: ConnId) -> (&mut Vec<Option<Connection>>, usize) {
        if is_stream(id) {
            (&mut self.streams, (id.slot - FIRST_STREAM) as usize)
        } else {
            (&mut self.slots, id.slot as usize)
        }
    }

    /// A connection that still exists.
    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut Connection> {
        let (slots, slot) = self.place(id);
        slots.get_mut(slot)?.as_mut().filter(|c| c.generation == id.generation)
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Connection> {
        self.get(id)?;
        self.begun.remove(&id.slot);
        let (slots, slot) = self.place(id);
        slots.get_mut(slot)?.take()
    }

    /// Notes the progress in the packet that the connection sends.
    pub(super) fn begin(&mut self, id: ConnId, begun: Begun) {
        if self.get(id).is_some() {
            self.begun.insert(id.slot, begun);
        }
    }

    /// The progress in the packet, if it has been begun.
    pub(super) fn begun(&mut self, id: ConnId) -> Option<Begun> {
        self.get(id)?;
        self.begun.remove(&id.slot)
    }

    /// The connection that holds most of half-received packets, if any does, for when memory is short. One walk over all connections serves for
    /// [`LONGEST_MAX`] calls, each of which ends a connection.
    pub(super) fn longest_tail(&mut self) -> Option<ConnId> {
        self.next_longest().or_else(|| {
            self.look_for_longest();
            self.next_longest()
        })
    }

    /// The longest of the tails found that has not changed since.
    fn next_longest(&mut self) -> Option<ConnId> {
        while let Some((bytes, id)) = self.longest.pop() {
            if self.get(id).is_some_and(|connection| connection.tail.len() >= bytes) {
                return Some(id);
            }
        }
        None
    }

    fn look_for_longest(&mut self) {
        let with_tail = self.all().filter(|(_, connection)| !connection.tail.is_empty());
        let mut all: Vec<_> = with_tail.map(|(id, connection)| (connection.tail.len(), id)).collect();
        let by_bytes = |(bytes, _): &(usize, ConnId)| *bytes;
        if let Some(shorter) = all.len().checked_sub(LONGEST_MAX).filter(|shorter| *shorter > 0) {
            all.select_nth_unstable_by_key(shorter, by_bytes);
            all.drain(..shorter);
        }
        all.sort_unstable_by_key(by_bytes);
        self.longest = all;
    }

    /// Ids of all connections. Only for rare walks (drain).
    pub(super) fn ids(&self) -> Vec<ConnId> {
        self.all().map(|(id, _)| id).collect()
    }

    fn all(&self) -> impl Iterator<Item = (ConnId, &Connection)> {
        let slots = (0..).zip(&self.slots).chain((FIRST_STREAM..).zip(&self.streams));
        slots.filter_map(|(slot, found)| {
            let connection = found.as_ref()?;
            Some((ConnId { slot, generation: connection.generation }, connection))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_finds_nothing() {
        let mut all = Connections::default();
        let (old, new) = (ConnId { slot: 3, generation: 1 }, ConnId { slot: 3, generation: 2 });
        all.insert(old, Kind::Door(Expect::Nothing, Monotonic(0)), ListenerId(0), Monotonic(0));
        assert!(all.remove(old).is_some());
        all.insert(new, Kind::Door(Expect::Nothing, Monotonic(0)), ListenerId(0), Monotonic(0));
        assert!(all.get(old).is_none() && all.remove(old).is_none());
        assert_eq!(all.ids(), [new]);
    }

    #[test]
    fn the_longest_tails_come_first_and_one_walk_serves_for_many() {
        let mut all = Connections::default();
        let id = |slot: u32| ConnId { slot, generation: 1 };
        assert_eq!(all.longest_tail(), None);
        for slot in 0..2 * LONGEST_MAX as u32 {
            all.insert(id(slot), Kind::Door(Expect::Nothing, Monotonic(0)), ListenerId(0), Monotonic(0));
            // The lengths are in no order of slots: 0, 7, 14, …
            let bytes = slot as usize * 7 % (2 * LONGEST_MAX);
            all.get(id(slot)).expect("stands").tail = vec![0; bytes];
        }
        let bytes = |all: &mut Connections, id| all.get(id).map(|connection| connection.tail.len());
        let mut last = usize::MAX;
        for _ in 0..LONGEST_MAX {
            let longest = all.longest_tail().expect("one");
            let of = bytes(&mut all, longest).expect("it stands");
            assert!(of < last && of >= LONGEST_MAX, "{of} after {last}");
            last = of;
            all.remove(longest);
        }
        assert!(all.longest.is_empty(), "found by one walk");
        // A connection that has shrunk meanwhile, or has gone, is passed over.
        let longest = all.longest_tail().expect("one");
        assert_eq!(bytes(&mut all, longest), Some(LONGEST_MAX - 1));
        let (_, next) = all.longest[all.longest.len() - 1];
        all.get(next).expect("stands").tail.clear();
        let (_, after) = all.longest[all.longest.len() - 2];
        assert_eq!(all.longest_tail(), Some(after));
        let mut left = 0;
        while let Some(conn) = all.longest_tail() {
            all.remove(conn);
            left += 1;
        }
        // The first two were only returned. 0 bytes are no tail.
        assert_eq!(left, LONGEST_MAX - 2);
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Option<Connection>>() <= 128, "{}", size_of::<Option<Connection>>());
    }
}
