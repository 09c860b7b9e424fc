//! Messages from one shard to the subscribers of another: gathered during a turn, sent as one letter ([`super::parcel`]). At most [`PARCELS_UNDER_WAY_MAX`]
//! parcels are in flight for each pair of shards. The receiver returns each one, empty, when its messages are delivered or queued, so that a busy shard gets
//! larger parcels, not more.

use smallvec::SmallVec;

use forebay_base::limits::{PARCELS_UNDER_WAY_MAX, PEER_BYTES_MAX};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::frame;
use forebay_mqtt::route::shape::bits;
use forebay_mqtt::route::shares::ToShare;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Claim, RecordPlace};

use super::super::Broker;
use super::super::given::{Reads, RouteRecord};
use super::super::retained::Publisher;
use super::parcel::{About, Entry, Parcelled, entries, put_mark, put_read};
use super::{By, Message};
use crate::here::Here;
use crate::mail::ToBroker;
use crate::out::Out;

/// The largest buffer that is kept; larger ones go back to the allocator.
const BUFFER_KEPT_MAX: usize = 256 << 10;

/// The parcels for one other shard.
#[derive(Debug, Default)]
struct Peer {
    /// Entries that are gathered for the next parcel.
    packets: Vec<u8>,
    /// Buffers returned by the receiver.
    spare: Vec<Vec<u8>>,
    under_way: usize,
    /// Whether the receiver retains some of `packets`.
    has_retained: bool,
    /// The number of parcels sent.
    sent: u64,
    /// The number of the shard's last request for places in partitions.
    asked: u64,
}

/// The state of gathering at one time: the shards that messages were gathered for, and the number of parcels sent to each by then.
#[derive(Clone, Debug)]
pub(crate) struct Gathered(SmallVec<[(usize, u64); 4]>);

/// The parcels for all shards, by index.
#[derive(Debug)]
pub(super) struct Peers(Vec<Peer>);

/// An entry of the line of received parcels, in order of receipt.
#[derive(Debug)]
pub(super) enum Received {
    /// Messages of another shard.
    Parcel {
        from: usize,
        packets: Vec<u8>,
        /// The time at which the parcel was received.
        since: Monotonic,
        /// The number of its bytes that are delivered.
        done: usize,
    },
    /// The end of a pass: all shards have answered it.
    Passed,
}

impl Peers {
    pub(super) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Peer::default()).collect())
    }

    /// # Errors
    /// A shard without room.
    pub(super) fn ask(&self, peers: u64, bytes: usize) -> Result<(), usize> {
        let is_full = |packets: &Vec<u8>| !packets.is_empty() && packets.len() + bytes > PEER_BYTES_MAX;
        bits(peers).find(|shard| is_full(&self.0[*shard].packets)).map_or(Ok(()), Err)
    }

    /// Whether no messages are gathered.
    pub(super) fn are_empty(&self) -> bool {
        self.0.iter().all(|peer| peer.packets.is_empty())
    }

    pub(super) fn has_room(&self, shard: usize) -> bool {
        self.0.get(shard).is_none_or(|peer| peer.packets.len() < PEER_BYTES_MAX / 2)
    }

    /// Appends a message. `home`: the shard that retains it, its publisher, and the number of passes that shard had asked for when it was taken. `shares`:
    /// the shares with the shard that serves each.
    pub(super) fn append(
        &mut self,
        peers: u64,
        (packet, about): (&[u8], About<'_>),
        home: Option<(usize, &Publisher, u64)>,
        shares: &[(ToShare, usize)],
    ) {
        for shard in bits(peers) {
            let peer = &mut self.0[shard];
            let shares = shares.iter().filter(|(_, of)| *of == shard).map(|(to, _)| *to);
            let mut message = Parcelled::new(packet, shares, about);
            if let Some((_, publisher, passes)) = home.filter(|(home, ..)| *home == shard) {
                message = message.retained(publisher, passes);
                peer.has_retained = true;
            }
            message.put(&mut peer.packets);
        }
    }

    pub(super) fn mark(&mut self, shard: usize) {
        put_mark(&mut self.0[shard].packets);
    }

    /// Notes the number of a shard's request for places in partitions.
    pub(super) fn has_asked(&mut self, shard: usize, number: u64) {
        self.0.get_mut(shard).into_iter().for_each(|peer| peer.asked = number);
    }

    /// Reports to all other shards how a partition is read. Returns the number of the last request of the shard `but`.
    pub(super) fn read(&mut self, but: usize, at: RecordPlace, how: Reads) -> u64 {
        let others = self.0.iter_mut().enumerate().filter(|(shard, _)| *shard != but);
        others.for_each(|(_, peer)| put_read(at, how, peer.asked, &mut peer.packets));
        self.0.get(but).map_or(0, |own| own.asked)
    }

    pub(super) fn gathered(&self) -> Gathered {
        let all = self.0.iter().enumerate().filter(|(_, peer)| !peer.packets.is_empty());
        Gathered(all.map(|(shard, peer)| (shard, peer.sent)).collect())
    }

    pub(super) fn have_sent(&self, gathered: &Gathered) -> bool {
        gathered.0.iter().all(|(shard, before)| self.0[*shard].sent > *before)
    }
}

impl Broker {
    /// Sends the gathered messages at the end of a turn.
    pub fn send_parcels(&mut self, io: &mut dyn Out, here: &mut Here) {
        let from = here.index;
        let (mut gathered, mut is_full) = (0, false);
        for (shard, peer) in self.delivery.peers.0.iter_mut().enumerate() {
            if !peer.packets.is_empty() && peer.under_way < PARCELS_UNDER_WAY_MAX {
                let packets = std::mem::replace(&mut peer.packets, peer.spare.pop().unwrap_or_default());
                match io.mail(shard, ToBroker::Parcel { from, packets, has_retained: peer.has_retained }) {
                    Ok(()) => {
                        peer.under_way += 1;
                        peer.sent += 1;
                        peer.has_retained = false;
                        self.delivery.freed += 1;
                    }
                    // The mailbox is full: the parcel goes with the next turn.
                    Err(ToBroker::Parcel { packets, .. }) => (peer.packets, is_full) = (packets, true),
                    Err(_) => {}
                }
            }
            gathered += peer.packets.len();
        }
        here.numbers.set(M::PeerBytes, gathered as u64);
        if is_full {
            self.delivery.want_mailbox(io);
        }
    }

    /// Takes a parcel. Its messages are delivered at the end of the turn, or when they have room.
    pub(crate) fn parcel(&mut self, from: usize, packets: Vec<u8>, since: Monotonic) {
        self.delivery.received.push_back(Received::Parcel { from, packets, since, done: 0 });
    }

    /// Takes back the buffer of a parcel.
    pub(crate) fn parcel_returned(&mut self, by: usize, mut buffer: Vec<u8>) {
        let Some(peer) = self.delivery.peers.0.get_mut(by) else { return };
        peer.under_way = peer.under_way.saturating_sub(1);
        if buffer.capacity() <= BUFFER_KEPT_MAX && peer.spare.len() < PARCELS_UNDER_WAY_MAX {
            buffer.clear();
            peer.spare.push(buffer);
        }
    }

    /// Delivers the first received entry, as far as there is room. False: there is nothing to do now.
    pub(super) fn next_received(&mut self, io: &mut dyn Out, here: &mut Here) -> bool {
        match self.delivery.received.pop_front() {
            None => return false,
            Some(Received::Passed) if self.delivery.lines.pass_waits() => {}
            Some(Received::Passed) => self.pass_over(),
            Some(Received::Parcel { from, packets, since, done }) => {
                let done = self.deliver_parcel(io, here, from, (&packets, since), done);
                if done < packets.len() {
                    self.delivery.received.push_front(Received::Parcel { from, packets, since, done });
                    return false;
                }
                let letter = io.mail(from, ToBroker::ParcelReturned { by: here.index, buffer: packets });
                if let Err(ToBroker::ParcelReturned { buffer: packets, .. }) = letter {
                    // The mailbox is full: the buffer goes back with the next turn.
                    self.delivery.received.push_front(Received::Parcel { from, packets, since, done });
                    self.delivery.want_mailbox(io);
                    return false;
                }
            }
        }
        true
    }

    /// Delivers the next messages of a parcel received at `since`, from byte `done` on. Returns the bytes done after that.
    fn deliver_parcel(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        from: usize,
        (parcel, since): (&[u8], Monotonic),
        mut done: usize,
    ) -> usize {
        let waited_s = u32::try_from(io.now().since(since).as_secs()).unwrap_or(u32::MAX);
        for (len, entry) in entries(&parcel[done..]) {
            if self.delivery.lines.are_full() {
                return done;
            }
            let pass = self.retained.passes_heard(from);
            match entry {
                Entry::Mark => self.retained.heard_of_pass(from),
                Entry::Read(at, how, heard) => self.keeping.given.reads(at, how, heard),
                Entry::Message(message) => {
                    let About { client, origin, claimed, place } = message.about;
                    let claim = claimed.map(|of| {
                        let placed = place.map(|at| self.keeping.given.begins(RouteRecord::of_bytes(at)));
                        Claim::new(of, placed, self.delivery.remembered())
                    });
                    // Later subscribers get the retained message.
                    claim.iter().filter(|_| message.is_retained()).for_each(|claim| claim.meet());
                    // A message without subscribers by now is confirmed in its turn.
                    if let Some(publish) = message.publish()
                        && (self.delivery.look_up_beside(publish.topic, &message.shares).has_own
                            || !message.shares.is_empty()
                            || self.awaits_copies(here, publish.qos))
                    {
                        let publisher = client.and_then(|client| self.sessions.find_all(client).next());
                        let (publish, claim) = (&publish, claim.as_ref());
                        let (by, shares) = (By::Subscription, message.shares);
                        let message = Message { publish, from, publisher, origin, since, waited_s, pass, claim, by };
                        self.deliver_here(io, here, message, &shares);
                    }
                }
            }
            done += len;
        }
        parcel.len()
    }
}

/// The packets in a run of them.
pub fn packets(mut all: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let frame = frame::next(all, u32::MAX).ok().flatten()?;
        all.split_off(..frame.len)
    })
}
