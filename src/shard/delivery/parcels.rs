//! Messages from one shard to the subscribers of another: gathered while a turn lasts, sent as one letter. A parcel is a run of
//! PUBLISH packets of 5.0. At most [`PARCELS_UNDER_WAY_MAX`] are under way for each pair of shards; the receiver gives each back,
//! empty, when its messages are delivered or in line, so that a shard that is busy gets larger parcels, not more.

use smallvec::SmallVec;

use crate::kafka::producer::row_log::Origin;
use crate::limits::{PARCELS_UNDER_WAY_MAX, PEER_BYTES_MAX};
use crate::metrics::spec::ShardMetric as M;
use crate::mqtt::packet::{Packet, SubAck, Version};
use crate::mqtt::property::Properties;
use crate::mqtt::{encode, frame};
use crate::route::shape::bits;
use crate::route::shares::{ShareNumber, ToShare};
use crate::runtime::seam::Monotonic;

use super::super::mail::Mail;
use super::super::retained::Publisher;
use super::super::{Core, Ring};
use super::{By, Message, publish_of};

/// Larger buffers go back to the allocator.
const BUFFER_KEPT_MAX: usize = 256 << 10;

/// What is behind it in parcels of a shard was taken after that was asked for a pass: PINGREQ, which is no message.
const MARK: [u8; 2] = [0xC0, 0];

/// The message behind it goes to members of these shares on the shard: SUBACK with their numbers, each with the message's key, which is
/// no message either.
const SHARES: u8 = 0x90;

/// The message behind it has this packet identifier in a session with this number in the log of its shard: PUBREC with the number
/// behind the identifier, which is no message either.
const ORIGIN: u8 = 0x50;

/// The message behind it, which is retained on the shard, has this publisher: UNSUBACK with the publisher's bytes, which is no message
/// either.
const PUBLISHER: u8 = 0xB0;

/// The message behind it, which is retained on the shard, was taken when its shard had been asked for so many passes: PUBACK with the
/// number, which is no message either.
const TAKEN: u8 = 0x40;

/// Another shard.
#[derive(Debug, Default)]
struct Peer {
    /// What is gathered for it.
    packets: Vec<u8>,
    /// Buffers that came back.
    spare: Vec<Vec<u8>>,
    under_way: usize,
    /// Some of them is to be retained there.
    has_retained: bool,
    /// Parcels that were sent.
    sent: u64,
}

/// What was gathered at some time: for which shards, and how many parcels each had been sent.
#[derive(Clone, Debug)]
pub(in crate::shard) struct Gathered(SmallVec<[(usize, u64); 4]>);

/// All shards, by index.
#[derive(Debug)]
pub(super) struct Peers(Vec<Peer>);

/// What has come from other shards, in order.
#[derive(Debug)]
pub(super) enum Received {
    /// Messages of another shard.
    Parcel {
        from: usize,
        packets: Vec<u8>,
        /// When it came.
        since: Monotonic,
        /// So many bytes of it are done.
        done: usize,
    },
    /// All shards have answered a pass.
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

    /// Whether nothing waits to be sent.
    pub(super) fn are_empty(&self) -> bool {
        self.0.iter().all(|peer| peer.packets.is_empty())
    }

    pub(super) fn has_room(&self, shard: usize) -> bool {
        self.0.get(shard).is_none_or(|peer| peer.packets.len() < PEER_BYTES_MAX / 2)
    }

    /// `home`: where it is retained, its publisher, and how many passes its shard had been asked for when it was taken. `shares`: which
    /// are served on which shard.
    pub(super) fn append(
        &mut self,
        peers: u64,
        (packet, origin): (&[u8], Option<Origin>),
        home: Option<(usize, &Publisher, u64)>,
        shares: &[(ToShare, usize)],
    ) {
        for shard in bits(peers) {
            put_shares(shares.iter().filter(|(_, of)| *of == shard).map(|(to, _)| *to), &mut self.0[shard].packets);
            if let Some(origin) = origin {
                put_origin(origin, &mut self.0[shard].packets);
            }
            if let Some((_, publisher, passes)) = home.filter(|(home, ..)| *home == shard) {
                put_publisher(publisher, &mut self.0[shard].packets);
                put_taken(passes, &mut self.0[shard].packets);
                self.0[shard].has_retained = true;
            }
            self.0[shard].packets.extend_from_slice(packet);
        }
    }

    pub(super) fn mark(&mut self, shard: usize) {
        self.0[shard].packets.extend_from_slice(&MARK);
    }

    pub(super) fn gathered(&self) -> Gathered {
        let all = self.0.iter().enumerate().filter(|(_, peer)| !peer.packets.is_empty());
        Gathered(all.map(|(shard, peer)| (shard, peer.sent)).collect())
    }

    pub(super) fn have_sent(&self, gathered: &Gathered) -> bool {
        gathered.0.iter().all(|(shard, before)| self.0[*shard].sent > *before)
    }
}

/// Appends [`SHARES`], if there are any.
fn put_shares(shares: impl Iterator<Item = ToShare>, out: &mut Vec<u8>) {
    let numbers: SmallVec<[[u8; 4]; 8]> =
        shares.flat_map(|to| [to.share.get(), to.key]).map(u32::to_be_bytes).collect();
    if !numbers.is_empty() {
        let codes = numbers.as_flattened();
        let packet = Packet::SubAck(SubAck { packet_id: 1, properties: Properties::EMPTY, codes });
        // Before 5.0 a code has two values.
        let encoded = encode::packet(Version::V5, &packet, out);
        debug_assert!(encoded.is_ok(), "there are not that many shares");
    }
}

/// The shares in such a packet; none in another one.
fn shares_of(packet: &[u8]) -> SmallVec<[ToShare; 4]> {
    let frame = frame::next(packet, u32::MAX).ok().flatten().filter(|frame| frame.first == SHARES);
    // Behind the packet identifier and the length of the properties.
    let (all, _) = frame.and_then(|frame| frame.body.get(3..)).unwrap_or_default().as_chunks::<8>();
    let halves = all.iter().map(|of| u64::from_be_bytes(*of)).map(|of| ((of >> 32) as u32, of as u32));
    halves.filter_map(|(share, key)| Some(ToShare { share: ShareNumber::new(share)?, key })).collect()
}

/// Appends [`ORIGIN`].
fn put_origin(Origin { session, packet_id }: Origin, out: &mut Vec<u8>) {
    out.extend_from_slice(&[ORIGIN, 10]);
    out.extend_from_slice(&packet_id.to_be_bytes());
    out.extend_from_slice(&session.to_be_bytes());
}

/// The origin in such a packet; none in another one.
fn origin_of(packet: &[u8]) -> Option<Origin> {
    let (packet_id, session) = packet.strip_prefix(&[ORIGIN, 10])?.split_first_chunk()?;
    let session = u64::from_be_bytes(session.try_into().ok()?);
    Some(Origin { session, packet_id: u16::from_be_bytes(*packet_id) })
}

/// Appends [`PUBLISHER`], if a rule is asked for that.
fn put_publisher(publisher: &Publisher, out: &mut Vec<u8>) {
    if !publisher.bytes().is_empty() {
        let packet = Packet::UnsubAck(SubAck { packet_id: 1, properties: Properties::EMPTY, codes: publisher.bytes() });
        // Before 5.0 it has no codes.
        let encoded = encode::packet(Version::V5, &packet, out);
        debug_assert!(encoded.is_ok(), "three names have that much room");
    }
}

/// The publisher in such a packet; none in another one.
pub(in crate::shard) fn publisher_of(packet: &[u8]) -> Option<Publisher> {
    let frame = frame::next(packet, u32::MAX).ok().flatten().filter(|frame| frame.first == PUBLISHER)?;
    // Behind the packet identifier and the length of the properties.
    Publisher::decode(frame.body.get(3..)?)
}

/// Appends [`TAKEN`].
fn put_taken(passes: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[TAKEN, 8]);
    out.extend_from_slice(&passes.to_be_bytes());
}

/// The passes in such a packet; none in another one.
pub(in crate::shard) fn taken_behind(packet: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(packet.strip_prefix(&[TAKEN, 8])?.try_into().ok()?))
}

impl Core {
    /// At the end of a turn: sends what has been gathered.
    pub(in crate::shard) fn send_parcels(&mut self, io: &mut Ring<'_>) {
        let from = self.index;
        let (mut gathered, mut is_full) = (0, false);
        for (shard, peer) in self.delivery.peers.0.iter_mut().enumerate() {
            if !peer.packets.is_empty() && peer.under_way < PARCELS_UNDER_WAY_MAX {
                let packets = std::mem::replace(&mut peer.packets, peer.spare.pop().unwrap_or_default());
                match io.mail(shard, Mail::Parcel { from, packets, has_retained: peer.has_retained }) {
                    Ok(()) => {
                        peer.under_way += 1;
                        peer.sent += 1;
                        peer.has_retained = false;
                        self.delivery.freed += 1;
                    }
                    // Its mailbox is full: with the next turn.
                    Err(Mail::Parcel { packets, .. }) => (peer.packets, is_full) = (packets, true),
                    Err(_) => {}
                }
            }
            gathered += peer.packets.len();
        }
        self.numbers.set(M::PeerBytes, gathered as u64);
        if is_full {
            self.delivery.want_mailbox(io);
        }
    }

    /// A parcel has come. Its messages are delivered at the end of the turn, or when there is room for them.
    pub(in crate::shard) fn parcel(&mut self, from: usize, packets: Vec<u8>, since: Monotonic) {
        self.delivery.received.push_back(Received::Parcel { from, packets, since, done: 0 });
    }

    /// A parcel has come back.
    pub(in crate::shard) fn parcel_returned(&mut self, by: usize, mut buffer: Vec<u8>) {
        let Some(peer) = self.delivery.peers.0.get_mut(by) else { return };
        peer.under_way = peer.under_way.saturating_sub(1);
        if buffer.capacity() <= BUFFER_KEPT_MAX && peer.spare.len() < PARCELS_UNDER_WAY_MAX {
            buffer.clear();
            peer.spare.push(buffer);
        }
    }

    /// What has come first is dealt with, as far as there is room. False: there is nothing to do now.
    pub(super) fn next_received(&mut self, io: &mut Ring<'_>) -> bool {
        match self.delivery.received.pop_front() {
            None => return false,
            Some(Received::Passed) if self.delivery.lines.pass_waits() => {}
            Some(Received::Passed) => self.pass_over(),
            Some(Received::Parcel { from, packets, since, done }) => {
                let done = self.deliver_parcel(io, from, (&packets, since), done);
                if done < packets.len() {
                    self.delivery.received.push_front(Received::Parcel { from, packets, since, done });
                    return false;
                }
                let letter = io.mail(from, Mail::ParcelReturned { by: self.index, buffer: packets });
                if let Err(Mail::ParcelReturned { buffer: packets, .. }) = letter {
                    // Its mailbox is full: with the next turn.
                    self.delivery.received.push_front(Received::Parcel { from, packets, since, done });
                    self.delivery.want_mailbox(io);
                    return false;
                }
            }
        }
        true
    }

    /// The next messages of a parcel, which came then, from `done` on. So much of it is done then.
    fn deliver_parcel(
        &mut self,
        io: &mut Ring<'_>,
        from: usize,
        (parcel, since): (&[u8], Monotonic),
        mut done: usize,
    ) -> usize {
        let waited_s = u32::try_from(io.now().since(since).as_secs()).unwrap_or(u32::MAX);
        let (mut shares, mut origin) = (SmallVec::new(), None);
        // Bytes before the message that belong to it.
        let mut with_it = 0;
        for packet in packets(&parcel[done..]) {
            if self.delivery.lines.are_full() {
                return done;
            }
            let pass = self.retained.passes_heard(from);
            if packet == MARK {
                self.retained.heard_of_pass(from);
            } else if packet.first() == Some(&SHARES) {
                shares = shares_of(packet);
                with_it += packet.len();
                continue;
            } else if packet.first() == Some(&ORIGIN) {
                origin = origin_of(packet);
                with_it += packet.len();
                continue;
            } else if matches!(packet.first(), Some(&(PUBLISHER | TAKEN))) {
                // It was retained when it came.
                with_it += packet.len();
                continue;
            } else if let Some(publish) = publish_of(packet)
                && (self.delivery.look_up(publish.topic).has_own
                    || !shares.is_empty()
                    || self.awaits_copies(publish.qos))
            {
                // Without subscribers by now, it is confirmed in its turn.
                let (publisher, by) = (None, By::Subscription);
                let message = Message { publish: &publish, from, publisher, origin, since, waited_s, pass, by };
                self.deliver_here(io, message, &shares);
            }
            shares.clear();
            origin = None;
            done += std::mem::take(&mut with_it) + packet.len();
        }
        parcel.len()
    }
}

/// The packets in a parcel.
pub(in crate::shard) fn packets(mut parcel: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let frame = frame::next(parcel, u32::MAX).ok().flatten()?;
        let (packet, rest) = parcel.split_at_checked(frame.len)?;
        parcel = rest;
        Some(packet)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes in a parcel, its packets are read to its end or to where they end being packets.
        #[test]
        fn other_bytes_are_passed_over(kind in prop::sample::select(vec![SHARES, ORIGIN, PUBLISHER, TAKEN, MARK[0], 0x30]), bytes: Vec<u8>) {
            let mut parcel = vec![kind, u8::try_from(bytes.len() % 128).expect("below")];
            parcel.extend_from_slice(&bytes);
            let mut taken = 0;
            for packet in packets(&parcel) {
                let _ = (shares_of(packet), origin_of(packet), publisher_of(packet).is_some(), publish_of(packet).is_some());
                let _ = taken_behind(packet);
                taken += packet.len();
            }
            prop_assert!(taken <= parcel.len());
        }

        #[test]
        fn what_it_was_taken_behind_comes_back_as_it_went(passes: u64) {
            let mut packet = Vec::new();
            put_taken(passes, &mut packet);
            prop_assert_eq!(packets(&packet).map(taken_behind).collect::<Vec<_>>(), [Some(passes)]);
            prop_assert!(publisher_of(&packet).is_none() && publish_of(&packet).is_none());
        }

        #[test]
        fn an_origin_comes_back_as_it_went(session: u64, packet_id: u16) {
            let mut packet = Vec::new();
            put_origin(Origin { session, packet_id }, &mut packet);
            prop_assert_eq!(packets(&packet).map(origin_of).collect::<Vec<_>>(), [Some(Origin { session, packet_id })]);
            prop_assert_eq!(shares_of(&packet).len(), 0);
        }
    }

    #[test]
    fn shares_come_back_as_they_went() {
        let all = [(1, 0), (127, 128), (129, 255), (0xFFFF_FFFF, 0x80FF_7F81), (300, u32::MAX)];
        let to = |(share, key)| ToShare { share: ShareNumber::new(share).expect("not 0"), key };
        for count in 0..=all.len() {
            let all: Vec<_> = all[..count].iter().copied().map(to).collect();
            let mut packet = Vec::new();
            put_shares(all.iter().copied(), &mut packet);
            assert_eq!(packet.is_empty(), count == 0);
            assert_eq!(shares_of(&packet)[..], all);
        }
        assert!(shares_of(&MARK).is_empty());
    }
}
