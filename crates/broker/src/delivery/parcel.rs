//! Parcels from one shard to another: a run of entries. An entry is the length of the rest, u32, its kind, u8, and then a [`MARK`], or a message with the
//! fields that the bits of its kind name, and its packet. [`READ`] has the place in the format of [`RecordPlace`], the number of the receiver's last request
//! that the reader had received, u64, and [`Reads`], u8: 0 for [`Reads::On`]; 1 for [`Reads::Again`], followed by its offset, i64; 2 for [`Reads::Anew`].
//! Integers are big-endian.

use smallvec::SmallVec;

use forebay_kafka::producer::row_log::Origin;
use forebay_mqtt::packet::Publish;
use forebay_mqtt::route::shares::{ShareNumber, ToShare};
use forebay_session::{Claimed, RecordPlace};

use super::super::given::{Reads, RouteRecord};
use super::super::retained::Publisher;
use super::publish_of;

/// An entry that marks a pass: messages after it were taken after their shard had been asked for one.
const MARK: u8 = 0x80;
/// `READ` marks an entry that says how a partition of `[broker]` is read from a place.
const READ: u8 = 0x81;
/// The exchange of the publisher: session u64, packet identifier u16.
const ORIGIN: u8 = 1;
/// The message is retained by the receiver: passes u64, length u32 of the publisher, the publisher.
const HOME: u8 = 2;
/// The record that the message was made of: shard u32, reader u32, number u32.
const CLAIMED: u8 = 8;
/// The place of the record, if it is one of `[broker]`: after [`CLAIMED`].
const PLACED: u8 = 32;
/// The publisher: length u32 of its client identifier, the identifier.
const CLIENT: u8 = 16;
/// The shares on the receiver that get the message: count u32, then for each the share u32 and the key of the message u32.
const SHARES: u8 = 4;

/// An entry of a parcel.
#[derive(Debug, PartialEq)]
pub(crate) enum Entry<'a> {
    Mark,
    /// How a partition is read from a place, and the number of the receiver's last request that the reader had received.
    Read(RecordPlace, Reads, u64),
    Message(Parcelled<'a>),
}

/// A message in a parcel.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Parcelled<'a> {
    /// Shares of the receiver that get the message.
    pub(super) shares: SmallVec<[ToShare; 4]>,
    pub(super) about: About<'a>,
    home: Option<Home<'a>>,
    /// A PUBLISH of 5.0.
    packet: &'a [u8],
}

/// The publisher of a message for the receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct About<'a> {
    /// The publisher's client identifier: its session may be on the receiver.
    pub(super) client: Option<&'a str>,
    /// The exchange of the message.
    pub(super) origin: Option<Origin>,
    /// The record that the message was made of. The receiver reports when it has settled the record.
    pub(super) claimed: Option<Claimed>,
    /// The place of the record, if it is one of `[broker]`.
    pub(super) place: Option<&'a PlaceBytes>,
}

/// A [`RouteRecord`] as bytes.
pub(super) type PlaceBytes = [u8; RouteRecord::BYTES];

/// The fields of a message for the shard that retains it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Home<'a> {
    passes: u64,
    publisher: &'a [u8],
}

impl<'a> Parcelled<'a> {
    pub(super) fn new(packet: &'a [u8], shares: impl Iterator<Item = ToShare>, about: About<'a>) -> Self {
        Self { shares: shares.collect(), about, home: None, packet }
    }

    /// Marks the message as retained by the receiver. `passes`: the number of passes that its shard had been asked for when it was taken.
    pub(super) fn retained(self, publisher: &'a Publisher, passes: u64) -> Self {
        Self { home: Some(Home { passes, publisher: publisher.bytes() }), ..self }
    }

    /// The message as a PUBLISH. `None`: the bytes are not a PUBLISH.
    pub(crate) fn publish(&self) -> Option<Publish<'a>> {
        publish_of(self.packet)
    }

    /// Whether the receiver retains the message.
    pub(super) fn is_retained(&self) -> bool {
        self.home.is_some()
    }

    /// The publisher and the passes of a message that the receiver retains.
    pub(crate) fn home(&self) -> Option<(Publisher, u64)> {
        self.home.map(|home| (Publisher::decode(home.publisher).unwrap_or_default(), home.passes))
    }

    /// Appends the message to a parcel.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let at = out.len();
        let About { client, origin, claimed, place } = self.about;
        let of_record = || if place.is_some() { CLAIMED | PLACED } else { CLAIMED };
        let kind = if origin.is_some() { ORIGIN } else { 0 }
            | if claimed.is_some() { of_record() } else { 0 }
            | if client.is_some() { CLIENT } else { 0 }
            | if self.home.is_some() { HOME } else { 0 }
            | if self.shares.is_empty() { 0 } else { SHARES };
        out.extend_from_slice(&[0, 0, 0, 0, kind]);
        if let Some(Origin { session, packet_id }) = origin {
            out.extend_from_slice(&session.to_be_bytes());
            out.extend_from_slice(&packet_id.to_be_bytes());
        }
        if let Some(Claimed { shard, reader, number }) = claimed {
            out.extend_from_slice(&length(shard));
            out.extend_from_slice(&reader.to_be_bytes());
            out.extend_from_slice(&number.to_be_bytes());
            place.into_iter().for_each(|place| out.extend_from_slice(place));
        }
        if let Some(client) = client {
            out.extend_from_slice(&length(client.len()));
            out.extend_from_slice(client.as_bytes());
        }
        if let Some(Home { passes, publisher }) = self.home {
            out.extend_from_slice(&passes.to_be_bytes());
            out.extend_from_slice(&length(publisher.len()));
            out.extend_from_slice(publisher);
        }
        if !self.shares.is_empty() {
            out.extend_from_slice(&length(self.shares.len()));
            for ToShare { share, key } in &self.shares {
                out.extend_from_slice(&share.get().to_be_bytes());
                out.extend_from_slice(&key.to_be_bytes());
            }
        }
        out.extend_from_slice(self.packet);
        let bytes = length(out.len() - at - 4);
        out[at..at + 4].copy_from_slice(&bytes);
    }

    fn read(kind: u8, mut bytes: &'a [u8]) -> Option<Self> {
        let mut message = Self::default();
        if kind & ORIGIN != 0 {
            message.about.origin = Some(Origin {
                session: u64::from_be_bytes(take(&mut bytes)?),
                packet_id: u16::from_be_bytes(take(&mut bytes)?),
            });
        }
        if kind & CLAIMED != 0 {
            message.about.claimed = Some(Claimed {
                shard: u32::from_be_bytes(take(&mut bytes)?) as usize,
                reader: u32::from_be_bytes(take(&mut bytes)?),
                number: u32::from_be_bytes(take(&mut bytes)?),
            });
        }
        if kind & PLACED != 0 {
            let (place, rest) = bytes.split_first_chunk()?;
            (message.about.place, bytes) = (Some(place), rest);
        }
        if kind & CLIENT != 0 {
            let len = u32::from_be_bytes(take(&mut bytes)?) as usize;
            message.about.client = Some(std::str::from_utf8(bytes.split_off(..len)?).ok()?);
        }
        if kind & HOME != 0 {
            let passes = u64::from_be_bytes(take(&mut bytes)?);
            let len = u32::from_be_bytes(take(&mut bytes)?) as usize;
            let publisher = bytes.split_off(..len)?;
            message.home = Some(Home { passes, publisher });
        }
        if kind & SHARES != 0 {
            let count = u32::from_be_bytes(take(&mut bytes)?) as usize;
            let (all, _) = bytes.split_off(..count.checked_mul(8)?)?.as_chunks::<8>();
            let halves = all.iter().map(|of| u64::from_be_bytes(*of)).map(|of| ((of >> 32) as u32, of as u32));
            let to = halves.filter_map(|(share, key)| Some(ToShare { share: ShareNumber::new(share)?, key }));
            message.shares = to.collect();
        }
        message.packet = bytes;
        Some(message)
    }
}

/// A length in the format of parcels, which is far below 4 GiB.
fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes()
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// Appends a [`Entry::Mark`].
pub(super) fn put_mark(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 0, 1, MARK]);
}

/// Appends a [`Entry::Read`].
pub(super) fn put_read(at: RecordPlace, how: Reads, heard: u64, out: &mut Vec<u8>) {
    let from = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, READ]);
    out.extend_from_slice(&at.to_bytes());
    out.extend_from_slice(&heard.to_be_bytes());
    match how {
        Reads::On => out.push(0),
        Reads::Again(rest) => {
            out.push(1);
            out.extend_from_slice(&rest.to_be_bytes());
        }
        Reads::Anew => out.push(2),
    }
    let bytes = length(out.len() - from - 4);
    out[from..from + 4].copy_from_slice(&bytes);
}

fn read_of(bytes: &[u8]) -> Option<Entry<'_>> {
    let (place, rest) = bytes.split_first_chunk()?;
    let (heard, how) = rest.split_first_chunk()?;
    let how = match how {
        [0] => Reads::On,
        [1, rest @ ..] => Reads::Again(i64::from_be_bytes(rest.try_into().ok()?)),
        [2] => Reads::Anew,
        _ => return None,
    };
    Some(Entry::Read(RecordPlace::of_bytes(place), how, u64::from_be_bytes(*heard)))
}

/// The entries of a parcel in order, each with its length, up to the first bytes that are no entry.
pub(crate) fn entries(mut parcel: &[u8]) -> impl Iterator<Item = (usize, Entry<'_>)> {
    std::iter::from_fn(move || {
        let len = u32::from_be_bytes(take(&mut parcel)?) as usize;
        let (kind, bytes) = parcel.split_off(..len)?.split_first()?;
        let entry = match *kind {
            MARK => Entry::Mark,
            READ => read_of(bytes)?,
            kind => Entry::Message(Parcelled::read(kind, bytes)?),
        };
        Some((4 + len, entry))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use forebay_session::PartitionKey;

    /// Exchange, claim, offset and publisher of a message.
    type Of = (Option<(u64, u16)>, Option<(u32, u32, u32)>, Option<i64>, Option<String>);
    /// A packet, that, passes, and shares with keys.
    type Message = (Vec<u8>, Of, Option<u64>, Vec<(u32, u32)>);

    proptest! {
        /// Entries of any bytes are read to the end, or to the first bytes that are no entry.
        #[test]
        fn other_bytes_end_it(kind: u8, len in 0u32..64, bytes: Vec<u8>) {
            let parcel = [&len.to_be_bytes()[..], &[kind], &bytes].concat();
            let read = |(len, entry): (usize, Entry<'_>)| {
                if let Entry::Message(message) = entry {
                    let _ = (message.publish().is_some(), message.home());
                }
                len
            };
            prop_assert!(entries(&parcel).map(read).sum::<usize>() <= parcel.len());
        }

        #[test]
        fn messages_come_back_as_they_went(
            all in prop::collection::vec((any::<Vec<u8>>(), any::<Of>(), any::<Option<u64>>(), prop::collection::vec((1u32.., any::<u32>()), 0..4)), 0..4),
        ) {
            let publisher = Publisher::default();
            let to = |(share, key)| ToShare { share: ShareNumber::new(share).expect("not 0"), key };
            let (mut parcel, mut sent) = (Vec::new(), Vec::new());
            let at = |offset| RecordPlace { of: PartitionKey { topic: 7, partition: 8 }, offset };
            let hand = |offset| RouteRecord { place: at(offset), topic: 9, is_again: offset < 0, retains: super::super::super::given::Retains::Nothing };
            let place = |of: &Message| of.1.1.and(of.1.2).map(|offset| hand(offset).to_bytes());
            let places: Vec<Option<PlaceBytes>> = all.iter().map(place).collect();
            for ((packet, (origin, claimed, _, client), home, shares), place) in all.iter().zip(&places) {
                let origin = origin.map(|(session, packet_id)| Origin { session, packet_id });
                let of = |(shard, reader, number)| Claimed { shard: shard as usize, reader, number };
                let about = About { client: client.as_deref(), origin, claimed: claimed.map(of), place: place.as_ref() };
                let message = || {
                    let message = Parcelled::new(packet, shares.iter().copied().map(to), about);
                    if let Some(passes) = home { message.retained(&publisher, *passes) } else { message }
                };
                message().put(&mut parcel);
                put_mark(&mut parcel);
                put_read(at(-1), Reads::Again(-7), 3, &mut parcel);
                sent.extend([Entry::Message(message()), Entry::Mark, Entry::Read(at(-1), Reads::Again(-7), 3)]);
            }
            let whole: usize = entries(&parcel).map(|(len, _)| len).sum();
            prop_assert_eq!(whole, parcel.len());
            prop_assert_eq!(entries(&parcel).map(|(_, entry)| entry).collect::<Vec<_>>(), sent);
            // A parcel that is cut short has the whole entries before the cut.
            for cut in 0..parcel.len() {
                prop_assert!(entries(&parcel[..cut]).count() < all.len() * 3);
            }
        }
    }
}
