//! Runs of messages with many recipients: successive waiting messages of one publisher and topic, of QoS 0 and without properties. A subscriber gets a whole
//! run at once: its session and connection are looked up once, and the packets, encoded once for all that get the same bytes, are appended to its out-buffer
//! in one piece and go out in one write.

use std::ops::Range;

use smallvec::SmallVec;

use forebay_base::limits::SENT_AHEAD_BYTES_MAX;
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::frame;
use forebay_mqtt::packet::QoS;
use forebay_mqtt::route::subscriptions::Subscriber;
use forebay_session::{Alias, SessionKey};

use crate::here::Here;
use crate::out::Out;

use super::super::Broker;
use super::copies::{Form, check, identifiers};
use super::parcels::packets as packets_of;
use super::{Message, publish_of};

/// The largest number of forms in which a run is kept. Only Subscription Identifiers and topic aliases make more than one.
const FORMS_MAX: usize = 4;

/// The first byte of a PUBLISH of QoS 0, not retained.
const PLAIN: u8 = 0x30;

/// The packets of a run in one form.
#[derive(Clone, Debug)]
struct Encoded {
    form: Form,
    /// Bytes of the waiting run from the first of these packets to its end.
    left: usize,
    range: Range<usize>,
    /// Bytes of the largest packet.
    largest: usize,
    messages: u64,
    payload_bytes: u64,
}

/// The run at hand, in the forms in which it has been encoded.
#[derive(Debug, Default)]
pub(super) struct Run {
    bytes: Vec<u8>,
    encoded: SmallVec<[Encoded; FORMS_MAX]>,
}

impl Run {
    /// Begins with other packets. False: there is only one, or none.
    pub(super) fn begin(&mut self, packets: &[u8]) -> bool {
        self.bytes.clear();
        self.encoded.clear();
        frame::needed(packets).is_some_and(|first| first < packets.len())
    }

    /// The packets in this form. `packets`: the run from one of its packets on.
    fn encode(&mut self, packets: &[u8], form: Form) -> Encoded {
        let known = self.encoded.iter().find(|known| known.left == packets.len() && known.form == form);
        if let Some(known) = known {
            return known.clone();
        }
        if self.encoded.len() == FORMS_MAX {
            self.begin(&[]);
        }
        let from = self.bytes.len();
        let (mut largest, mut messages, mut payload_bytes) = (0, 0, 0);
        for publish in packets_of(packets).filter_map(publish_of) {
            let before = self.bytes.len();
            form.put(&publish, 0, &mut self.bytes);
            largest = largest.max(self.bytes.len() - before);
            messages += 1;
            payload_bytes += publish.payload.len() as u64;
        }
        let (range, left) = (from..self.bytes.len(), packets.len());
        let encoded = Encoded { form, left, range, largest, messages, payload_bytes };
        self.encoded.push(encoded.clone());
        encoded
    }
}

/// Whether a message may be part of a run: its copies for one subscriber differ from those of the message before it only in the payload.
pub(super) fn is_plain(message: Message<'_>) -> bool {
    let publish = message.publish;
    publish.qos == QoS::AtMostOnce && !publish.retain && publish.properties.raw().is_empty() && message.claim.is_none()
}

/// The topic of a waiting message, if it is [plain](is_plain) as a packet.
pub(super) fn topic(packet: &[u8]) -> Option<&[u8]> {
    let frame = frame::next(packet, u32::MAX).ok().flatten().filter(|frame| frame.first == PLAIN)?;
    let (bytes, rest) = frame.body.split_first_chunk()?;
    let (topic, rest) = rest.split_at_checked(u16::from_be_bytes(*bytes).into())?;
    // The length of the properties.
    rest.starts_with(&[0]).then_some(topic)
}

impl Broker {
    /// Makes copies of the messages of a run for the matching subscriptions of one session: all at once, or one by one while they do not fit at once.
    /// `message`: the first.
    pub(super) fn copy_run(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        message: Message<'_>,
        packets: &[u8],
        (of, is_stale): (&[Subscriber<SessionKey>], bool),
    ) {
        let mut left = packets;
        while let Some(bytes) = frame::needed(left).filter(|bytes| *bytes <= left.len())
            && !self.copy_at_once(io, here, message, left, (of, is_stale))
        {
            if let Some(publish) = publish_of(left) {
                self.delivery.budget = self.delivery.budget.saturating_sub(usize::from(left.len() < packets.len()));
                self.delivery.copies.begin(message.since);
                self.copy(io, here, Message { publish: &publish, ..message }, of, is_stale);
            }
            left = &left[bytes..];
        }
    }

    /// Sends a session these messages if it gets all of them. False: it has got none.
    fn copy_at_once(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        message: Message<'_>,
        packets: &[u8],
        (of, is_stale): (&[Subscriber<SessionKey>], bool),
    ) -> bool {
        let (key, topic) = (of[0].session, message.publish.topic);
        let Some(session) = self.sessions.get(key) else { return false };
        let Some(conn) = session.conn() else { return false };
        let peer = session.peer();
        if peer.is_remote || check(session, message.publish, of, is_stale).is_err() {
            return false;
        }
        let mut alias = None;
        if session.takes_aliases() {
            let hash = self.delivery.copies.topic_hash(topic);
            alias = session.alias_for(topic, hash, QoS::AtMostOnce);
            if !matches!(alias, Some(Alias::Known(_))) {
                return false;
            }
        }
        let identifiers = identifiers(of);
        let form = Form { version: peer.version, qos: QoS::AtMostOnce, retain: false, identifiers, alias };
        let Encoded { range, largest, messages, payload_bytes, .. } = self.delivery.copies.run.encode(packets, form);
        let unsent = self.keeping.holds.unsent(io, conn);
        if largest > peer.packet_size_max as usize || unsent + range.len() > SENT_AHEAD_BYTES_MAX {
            return false;
        }
        // The client has read enough to be sent all of them.
        let takes = self.may_leave_unread(io, here, conn, unsent, range.len());
        debug_assert!(takes, "so little is left unread by any client");
        self.delivery.pace(io, conn, unsent, range.len());
        let holds = &mut self.keeping.holds;
        let out = holds.out(io, conn);
        let from = out.len();
        out.extend_from_slice(&self.delivery.copies.run.bytes[range]);
        holds.wrote(conn, from);
        here.numbers.raise(M::CopiesRouted, messages);
        here.numbers.raise(M::CopiesSentQos0, messages);
        here.numbers.raise(M::CopiesSent, messages);
        here.numbers.raise(M::CopiesSentBytes, payload_bytes);
        true
    }
}
