//! A message for kept sessions as bytes in the log, where it is kept as sessions are, and told from them by its first byte: `0x81`,
//! until when on the wall clock i64 (ms), how long from then u64 (ms; both 0 if it does not expire), how many get it u32, each with its
//! session's number in the log u64, the number of its copy u64, and flags u8 (bits 0 and 1: QoS, bit 2: RETAIN, bits 3 to 7: how many
//! Subscription Identifiers) with the identifiers u32; then a PUBLISH packet of 5.0. `0x82`: a session's queue
//! ([`forebay_session::SavedQueue`]). `0x83`: an exchange of a publisher: its shard u16, its session's number in that shard's log u64, the packet identifier
//! u16. `0x85`: an exchange, then the marks of the shares that it was written down for, u64 each. `0x84`: a message for whichever member of a shared
//! subscription gets it ([`ForShare`]): until when and how long as above, the shard that has handed it over u16 (65,535: none has) and its number in that
//! shard's log u64, its key u32, the length of the subscription u16 and `$share/NAME/FILTER`, then a PUBLISH packet of 5.0. `0x88`: as `0x81`, of a record of
//! `[broker]`: its place ([`RecordPlace`]) comes first. `0x89`: how far the slot of the log has been given the partitions of routes ([`SavedPositions`]), and
//! `0x8A`: the same with sessions that are behind. All big-endian.

use smallvec::SmallVec;

use forebay_buffer::RecordKind;
use forebay_kafka::producer::row_log::Origin;
use forebay_mqtt::packet::{Publish, QoS};
use forebay_mqtt::topic::is_shared;
use forebay_session::{COPY_NUMBER_MAX, Copy, RecordPlace, SavedQueue};

use super::super::given::SavedPositions;
use super::super::stored::{Deadline, put_deadline, stored_publish, take_deadline};
use crate::mail::Marks;

const MESSAGE: u8 = 0x81;
const QUEUE: u8 = 0x82;
const EXCHANGE: u8 = 0x83;
const FOR_SHARE: u8 = 0x84;
const EXCHANGE_OF_SHARES: u8 = 0x85;
const MESSAGE_OF_RECORD: u8 = 0x88;
const POSITIONS: u8 = 0x89;
const POSITIONS_BEHIND: u8 = 0x8A;

/// Subscription Identifiers that are written down with a copy. A session with more subscriptions that match gets no more of them after a
/// crash.
const IDENTIFIERS_MAX: usize = 31;

/// A session that gets a message, and the number and form of its copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The session's number in the log.
    pub(crate) session: u64,
    /// The number of the copy.
    pub(crate) number: u64,
    qos: QoS,
    retain: bool,
    identifiers: SmallVec<[u32; 2]>,
}

impl Recipient {
    /// The most bytes that one recipient takes.
    pub(super) const BYTES_MAX: usize = 17 + 4 * IDENTIFIERS_MAX;

    pub(super) fn new(session: u64, number: u64, copy: &Copy) -> Self {
        let identifiers = copy.identifiers.iter().take(IDENTIFIERS_MAX).copied().collect();
        Self { session, number, qos: copy.qos, retain: copy.retain, identifiers }
    }

    pub(super) fn copy(&self) -> Copy {
        Copy { qos: self.qos, retain: self.retain, identifiers: self.identifiers.as_slice().into(), share: None }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.session.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.push(self.qos as u8 | u8::from(self.retain) << 2 | (self.identifiers.len() as u8) << 3);
        self.identifiers.iter().for_each(|identifier| out.extend_from_slice(&identifier.to_be_bytes()));
    }

    fn take(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (session, rest) = bytes.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (&flags, rest) = rest.split_first()?;
        let (identifiers, rest) = rest.split_at_checked(4 * usize::from(flags >> 3))?;
        let (identifiers, _) = identifiers.as_chunks::<4>();
        let qos = match flags & 3 {
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            _ => return None,
        };
        let recipient = Self {
            session: u64::from_be_bytes(*session),
            number: Some(u64::from_be_bytes(*number)).filter(|number| *number < COPY_NUMBER_MAX)?,
            qos,
            retain: flags & 4 != 0,
            identifiers: identifiers.iter().map(|identifier| u32::from_be_bytes(*identifier)).collect(),
        };
        Some((recipient, rest))
    }
}

/// Appends a message. `place`: that of its record.
pub(super) fn encode<'a>(
    place: Option<RecordPlace>,
    deadline: Deadline,
    to: impl ExactSizeIterator<Item = &'a Recipient>,
    packet: &[u8],
    out: &mut Vec<u8>,
) {
    out.push(if place.is_some() { MESSAGE_OF_RECORD } else { MESSAGE });
    place.into_iter().for_each(|place| out.extend_from_slice(&place.to_bytes()));
    put_deadline(deadline, out);
    out.extend_from_slice(&u32::try_from(to.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.for_each(|recipient| recipient.put(out));
    out.extend_from_slice(packet);
}

/// A message in the log for whichever member of a shared subscription gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForShare<'a> {
    /// The time until which the message may be sent.
    pub(crate) deadline: Deadline,
    /// The shard that has handed the message over, and its number in that shard's log: the message is that shard's until the number is gone.
    pub from: Option<(usize, u64)>,
    /// The key that names the member, if the strategy goes by keys.
    pub(crate) key: u32,
    /// `$share/NAME/FILTER`.
    pub text: &'a str,
    /// The message, as a PUBLISH packet of 5.0.
    pub(crate) packet: &'a [u8],
}

impl<'a> ForShare<'a> {
    /// Bytes of the record that are neither its packet nor its subscription.
    pub(crate) const HEAD_BYTES: usize = 33;

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (shard, number) = self.from.unwrap_or((usize::MAX, 0));
        out.push(FOR_SHARE);
        put_deadline(self.deadline, out);
        out.extend_from_slice(&u16::try_from(shard).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&self.key.to_be_bytes());
        out.extend_from_slice(&u16::try_from(self.text.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(self.text.as_bytes());
        out.extend_from_slice(self.packet);
    }

    /// The message without the shard that has handed it over.
    pub fn without_from(self) -> Self {
        Self { from: None, ..self }
    }

    /// A message of a share for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn example(text: &str, from: Option<(usize, u64)>) -> Vec<u8> {
        let mut payload = Vec::new();
        let packet = [0x30, 4, 0, 1, b't', 0];
        ForShare { deadline: Some((5, 6)), from, key: 7, text, packet: &packet }.encode(&mut payload);
        payload
    }

    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (deadline, rest) = take_deadline(bytes)?;
        let (shard, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (text, packet) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        let from = (usize::from(u16::from_be_bytes(*shard)), u64::from_be_bytes(*number));
        let text = std::str::from_utf8(text).ok().filter(|text| is_shared(text))?;
        let from = Some(from).filter(|(shard, _)| *shard != usize::from(u16::MAX));
        stored_publish(packet).map(|_| Self { deadline, from, key: u32::from_be_bytes(*key), text, packet })
    }
}

/// Appends a session's queue.
pub(super) fn encode_queue(queue: &SavedQueue, out: &mut Vec<u8>) {
    out.push(QUEUE);
    queue.encode(out);
}

/// Appends an exchange of a publisher of that shard with a message that was written down for these shares, among others.
pub(super) fn encode_exchange(from: usize, origin: Origin, shares: &[u64], out: &mut Vec<u8>) {
    out.push(if shares.is_empty() { EXCHANGE } else { EXCHANGE_OF_SHARES });
    out.extend_from_slice(&u16::try_from(from).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&origin.session.to_be_bytes());
    out.extend_from_slice(&origin.packet_id.to_be_bytes());
    shares.iter().for_each(|mark| out.extend_from_slice(&mark.to_be_bytes()));
}

fn decode_exchange(bytes: &[u8]) -> Option<(usize, Origin, Marks)> {
    let (from, rest) = bytes.split_first_chunk()?;
    let (session, rest) = rest.split_first_chunk()?;
    let (packet_id, rest) = rest.split_first_chunk()?;
    let (marks, rest) = rest.as_chunks::<8>();
    let origin = Origin { session: u64::from_be_bytes(*session), packet_id: u16::from_be_bytes(*packet_id) };
    let marks = marks.iter().map(|mark| u64::from_be_bytes(*mark)).collect();
    rest.is_empty().then(|| (u16::from_be_bytes(*from).into(), origin, marks))
}

/// Whether a record of the log belongs to a queue.
pub(crate) fn is_queue(payload: &[u8]) -> bool {
    payload.first().is_some_and(|format| kind_of(*format).is_some())
}

/// The kind of a record with this first byte. `None`: it does not belong to a queue.
pub(crate) const fn kind_of(format: u8) -> Option<RecordKind> {
    match format {
        MESSAGE | MESSAGE_OF_RECORD => Some(RecordKind::Queued),
        // Without positions clients get some messages again, as without queues.
        QUEUE | POSITIONS | POSITIONS_BEHIND => Some(RecordKind::Queue),
        EXCHANGE | EXCHANGE_OF_SHARES => Some(RecordKind::Exchange),
        FOR_SHARE => Some(RecordKind::Shared),
        _ => None,
    }
}

/// A record in the log for sessions, besides the sessions themselves.
#[derive(Debug)]
pub enum Kept<'a> {
    /// A message.
    Message {
        /// The place of the record that the message was made of, if it is one of `[broker]`.
        place: Option<RecordPlace>,
        /// The time until which the message may be sent.
        deadline: Deadline,
        /// The sessions that get the message.
        to: Vec<Recipient>,
        /// The message, as a PUBLISH packet of 5.0.
        packet: &'a [u8],
    },
    /// A session's queue.
    Queue(SavedQueue),
    /// An exchange of a publisher of this shard. A repeat of it is passed over. The marks are those of the shares that have had it.
    Exchange(usize, Origin, Marks),
    /// A message for a shared subscription.
    ForShare(ForShare<'a>),
    /// The positions of the log's slot in its partitions.
    Positions(SavedPositions),
}

impl<'a> Kept<'a> {
    /// Reads a record. `None`: it is another kind. The error says in words what is wrong with it.
    pub fn decode(payload: &'a [u8]) -> Option<Result<Self, &'static str>> {
        const DAMAGED: &str = "a message for kept sessions that is damaged";
        let (&format, rest) = payload.split_first()?;
        match format {
            MESSAGE => Some(Self::message(None, rest).ok_or(DAMAGED)),
            MESSAGE_OF_RECORD => {
                let message = rest.split_first_chunk().map(|(place, rest)| (Some(RecordPlace::of_bytes(place)), rest));
                Some(message.and_then(|(place, rest)| Self::message(place, rest)).ok_or(DAMAGED))
            }
            POSITIONS | POSITIONS_BEHIND => {
                let positions = SavedPositions::decode(rest, format == POSITIONS_BEHIND).map(Self::Positions);
                Some(positions.ok_or("positions in partitions that are damaged"))
            }
            QUEUE => {
                Some(SavedQueue::decode(rest).map(Self::Queue).ok_or("the queue of a kept session that is damaged"))
            }
            EXCHANGE | EXCHANGE_OF_SHARES => {
                let exchange = decode_exchange(rest).map(|(from, origin, marks)| Self::Exchange(from, origin, marks));
                Some(exchange.ok_or("the exchange of a publisher that is damaged"))
            }
            FOR_SHARE => {
                let message = ForShare::decode(rest).map(Self::ForShare);
                Some(message.ok_or("a message for a shared subscription that is damaged"))
            }
            _ => None,
        }
    }

    fn message(place: Option<RecordPlace>, bytes: &'a [u8]) -> Option<Self> {
        let (deadline, rest) = take_deadline(bytes)?;
        let (count, mut rest) = rest.split_first_chunk()?;
        let mut to = Vec::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let (recipient, behind) = Recipient::take(rest)?;
            (rest, _) = (behind, to.push(recipient));
        }
        stored_publish(rest).map(|_| Self::Message { place, deadline, to, packet: rest })
    }

    /// The message.
    pub(super) fn publish(packet: &'a [u8]) -> Option<Publish<'a>> {
        stored_publish(packet)
    }
}

/// Appends positions.
pub(crate) fn encode_positions(positions: &SavedPositions, out: &mut Vec<u8>) {
    out.push(if positions.has_behind() { POSITIONS_BEHIND } else { POSITIONS });
    positions.encode(out);
}

/// Returns the record for another log, in which the sessions have other numbers, without sessions that are not there. `None`: nothing of it remains.
pub fn move_queue(kept: &Kept<'_>, number: impl Fn(u64) -> Option<u64>) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    match kept {
        Kept::Message { place, deadline, to, packet } => {
            let moved = |of: &Recipient| Some(Recipient { session: number(of.session)?, ..of.clone() });
            let to: Vec<Recipient> = to.iter().filter_map(moved).collect();
            encode(*place, *deadline, to.iter(), packet, &mut payload);
            (!to.is_empty()).then_some(payload)
        }
        Kept::Queue(queue) => {
            encode_queue(&queue.clone().of(number(queue.session)?), &mut payload);
            Some(payload)
        }
        // The publisher's session has another number, too. A message for a shared subscription is for no session.
        Kept::Exchange(..) | Kept::ForShare(_) | Kept::Positions(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::delivery::put_packet;
    use super::*;
    use forebay_mqtt::property::Properties;
    use forebay_session::PartitionKey;

    fn recipients() -> impl Strategy<Value = Vec<Recipient>> {
        let of = (
            any::<u64>(),
            0..COPY_NUMBER_MAX,
            any::<bool>(),
            any::<bool>(),
            prop::collection::vec(any::<u32>(), 0..40),
        );
        let recipient = of.prop_map(|(session, number, twice, retain, identifiers)| {
            let qos = if twice { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            Recipient::new(session, number, &Copy { qos, retain, identifiers: identifiers.into(), share: None })
        });
        prop::collection::vec(recipient, 0..20)
    }

    proptest! {
        #[test]
        fn a_message_comes_back_as_it_went(to in recipients(), place in any::<Option<(u64, u32, i64)>>(), deadline in any::<Option<(i64, u64)>>(), payload: Vec<u8>, cut in any::<prop::sample::Index>()) {
            let deadline = deadline.filter(|deadline| *deadline != (0, 0));
            let (mut packet, mut record) = (Vec::new(), Vec::new());
            let properties = Properties::EMPTY;
            let qos = QoS::AtLeastOnce;
            put_packet(&Publish { dup: false, qos, retain: false, topic: "t", packet_id: 1, properties, payload: &payload }, &mut packet);
            let place = place.map(|(topic, partition, offset)| RecordPlace { of: PartitionKey { topic, partition }, offset });
            encode(place, deadline, to.iter(), &packet, &mut record);
            let Some(Ok(Kept::Message { place: at, deadline: until, to: back, packet: message })) = Kept::decode(&record) else { panic!("{record:?}") };
            prop_assert_eq!((at, until, &back, message), (place, deadline, &to, &packet[..]));
            // A shorter record is no message.
            let cut = &record[..cut.index(record.len())];
            prop_assert!(!matches!(Kept::decode(cut), Some(Ok(_))), "{:?}", cut);
        }

        /// Any bytes of a log are read or refused.
        #[test]
        fn other_bytes_are_read_or_refused(format in (MESSAGE..=POSITIONS_BEHIND).prop_filter("a retained message", |format| !matches!(format, 0x86 | 0x87)), bytes: Vec<u8>) {
            let record: Vec<u8> = std::iter::once(format).chain(bytes).collect();
            prop_assert!(Kept::decode(&record).is_some());
        }
    }

    #[test]
    fn a_message_for_a_share_comes_back_as_it_went() {
        for from in [None, Some((0, 0)), Some((63, u64::MAX))] {
            let payload = ForShare::example("$share/g/a/+", from);
            assert!(is_queue(&payload));
            let Some(Ok(Kept::ForShare(of))) = Kept::decode(&payload) else { panic!("{payload:?}") };
            assert_eq!((of.deadline, of.from, of.key, of.text), (Some((5, 6)), from, 7, "$share/g/a/+"));
            assert_eq!(Kept::publish(of.packet).expect("a message").topic, "t");
            assert!(of.without_from().from.is_none());
            for len in 1..payload.len() {
                assert!(matches!(Kept::decode(&payload[..len]), Some(Err(_))), "{len}");
            }
        }
        assert!(matches!(Kept::decode(&ForShare::example("a/+", None)), Some(Err(_))), "it is for no share");
    }
}
