//! The filters that a remote is asked for, a few at a time, and its answers.

use std::collections::VecDeque;

use super::granted::Granted;
use super::login::violation;
use forebay_mqtt::FilterBuf;
use forebay_mqtt::malformed::Malformed;
use forebay_mqtt::packet::{Packet, QoS, SubAck, Subscribe, SubscriptionOptions, Unsubscribe};
use forebay_mqtt::property::Properties;
use forebay_mqtt::reason::ReasonCode;
use forebay_mqtt::{encode, topic};

/// The packet identifier of SUBSCRIBE and UNSUBSCRIBE.
pub const PACKET_ID: u16 = u16::MAX;

/// Filters in one packet. AWS IoT Core takes eight.
const AT_ONCE_MAX: usize = 8;

/// A filter to subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The filter, `$share/NAME/` included.
    pub filter: Box<str>,
    /// The options of the subscription. Before 5.0 only their QoS is sent.
    pub options: SubscriptionOptions,
}

/// The remote's answer for a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The remote has not answered.
    Open,
    /// The remote sends messages at up to this QoS.
    Granted(QoS),
    /// The remote refuses the filter, or CONNACK said that it would.
    Refused(ReasonCode),
}

/// The packet that awaits an answer: the filters in it.
#[derive(Debug, PartialEq, Eq)]
enum Awaited {
    Nothing,
    /// Places of wanted filters.
    Subscribe(Vec<usize>),
    /// The number of filters.
    Unsubscribe(usize),
}

/// The filters of one connection.
#[derive(Debug)]
pub(super) struct Asked {
    wanted: Vec<Wanted>,
    standings: Vec<Standing>,
    /// Filters to be unsubscribed from, before anything else.
    gone: VecDeque<Box<str>>,
    /// Places of wanted filters to be asked for, in order.
    queue: VecDeque<usize>,
    awaited: Awaited,
}

impl Asked {
    /// Begins with all filters. `gone`: filters that the remote may have from earlier, and that are unsubscribed.
    pub(super) fn new(wanted: &[Wanted], gone: &[Box<str>]) -> Self {
        Self {
            wanted: wanted.to_vec(),
            standings: vec![Standing::Open; wanted.len()],
            gone: gone.iter().filter(|gone| wanted.iter().all(|wanted| wanted.filter != **gone)).cloned().collect(),
            queue: (0..wanted.len()).collect(),
            awaited: Awaited::Nothing,
        }
    }

    pub(super) fn standings(&self) -> &[Standing] {
        &self.standings
    }

    /// Whether an answer is awaited.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited != Awaited::Nothing
    }

    /// Whether every filter has its answer.
    pub(super) fn is_over(&self) -> bool {
        !self.is_awaited() && self.queue.is_empty() && self.gone.is_empty()
    }

    /// Whether the remote refuses a filter that it might grant at another time.
    pub(super) fn has_refused(&self, granted: &Granted) -> bool {
        let mut all = self.wanted.iter().zip(&self.standings);
        all.any(|(wanted, standing)| matches!(standing, Standing::Refused(_)) && is_possible(wanted, granted).is_ok())
    }

    /// Asks for the refused filters once more.
    pub(super) fn ask_again(&mut self) {
        let is_refused = |standing: &Standing| matches!(standing, Standing::Refused(_));
        self.queue = (0..self.wanted.len()).filter(|at| is_refused(&self.standings[*at])).collect();
    }

    /// Appends the next packet, if none waits for its answer and there is one to send.
    pub(super) fn write(&mut self, granted: &Granted, out: &mut Vec<u8>) {
        while !(self.is_awaited() || self.is_over()) {
            if self.gone.is_empty() { self.subscribe(granted, out) } else { self.unsubscribe(granted, out) }
        }
    }

    fn unsubscribe(&mut self, granted: &Granted, out: &mut Vec<u8>) {
        let mut filters = FilterBuf::for_unsubscribe();
        let mut count = 0;
        while count < AT_ONCE_MAX
            && let Some(filter) = self.gone.front()
            && fits(&filters, filter, granted)
        {
            filters.push(filter, SubscriptionOptions::default());
            self.gone.pop_front();
            count += 1;
        }
        if count == 0 {
            // A filter that fits into no packet of this remote cannot be subscribed there either.
            self.gone.pop_front();
            return;
        }
        let (properties, filters) = (Properties::EMPTY, filters.as_filters());
        let packet = Packet::Unsubscribe(Unsubscribe { packet_id: PACKET_ID, properties, filters });
        if encode::packet(granted.version, &packet, out).is_ok() {
            self.awaited = Awaited::Unsubscribe(count);
        }
    }

    fn subscribe(&mut self, granted: &Granted, out: &mut Vec<u8>) {
        let mut filters = FilterBuf::for_subscribe();
        let mut places = Vec::new();
        while places.len() < AT_ONCE_MAX
            && let Some(&at) = self.queue.front()
        {
            let wanted = &self.wanted[at];
            let possible = is_possible(wanted, granted);
            if possible.is_ok() && !fits(&filters, &wanted.filter, granted) {
                break;
            }
            self.queue.pop_front();
            match possible {
                Ok(()) => {
                    filters.push(&wanted.filter, wanted.options);
                    places.push(at);
                }
                Err(reason) => self.standings[at] = Standing::Refused(reason),
            }
        }
        if places.is_empty() {
            return;
        }
        let (properties, filters) = (Properties::EMPTY, filters.as_filters());
        let packet = Packet::Subscribe(Subscribe { packet_id: PACKET_ID, properties, filters });
        if encode::packet(granted.version, &packet, out).is_ok() {
            self.awaited = Awaited::Subscribe(places);
        }
    }

    /// Takes SUBACK.
    pub(super) fn suback(&mut self, suback: &SubAck<'_>) -> Result<(), Malformed> {
        let Awaited::Subscribe(places) = &self.awaited else { return Err(UNASKED) };
        if suback.packet_id != PACKET_ID {
            return Err(UNASKED);
        }
        if suback.codes.len() != places.len() {
            return Err(violation("MQTT-3.8.4-6", "SUBACK has another number of codes than SUBSCRIBE has filters"));
        }
        for (&at, &code) in places.iter().zip(suback.codes) {
            self.standings[at] = QoS::from_bits(code).map_or(Standing::Refused(ReasonCode(code)), Standing::Granted);
        }
        self.awaited = Awaited::Nothing;
        Ok(())
    }

    /// Handles UNSUBACK, with any codes: a filter that does not exist there is gone as well.
    pub(super) fn unsuback(&mut self, unsuback: &SubAck<'_>) -> Result<(), Malformed> {
        let Awaited::Unsubscribe(count) = self.awaited else { return Err(UNASKED) };
        if unsuback.packet_id != PACKET_ID {
            return Err(UNASKED);
        }
        if !unsuback.codes.is_empty() && unsuback.codes.len() != count {
            return Err(violation(
                "MQTT-3.11.3-1",
                "UNSUBACK has another number of codes than UNSUBSCRIBE has filters",
            ));
        }
        self.awaited = Awaited::Nothing;
        Ok(())
    }
}

const UNASKED: Malformed = violation("section 3.8.4", "an answer to a SUBSCRIBE or UNSUBSCRIBE that was not sent");

/// Whether the remote has filters of this kind, or why not.
fn is_possible(wanted: &Wanted, granted: &Granted) -> Result<(), ReasonCode> {
    let shared = topic::split_shared(&wanted.filter);
    if shared.is_some() && !granted.shared_available {
        return Err(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED);
    }
    if shared.map_or(&*wanted.filter, |(_, filter)| filter).contains(['+', '#']) && !granted.wildcards_available {
        return Err(ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED);
    }
    if !fits(&FilterBuf::for_subscribe(), &wanted.filter, granted) {
        return Err(ReasonCode::PACKET_TOO_LARGE);
    }
    Ok(())
}

/// Whether the remote takes a packet with this filter after the others.
fn fits(before: &FilterBuf, filter: &str, granted: &Granted) -> bool {
    /// Fixed header, packet identifier, an empty list of properties; length and options of the filter.
    const BESIDE: usize = 5 + 2 + 1 + 2 + 1;
    before.len() + filter.len() + BESIDE <= granted.packet_size_max as usize
}
