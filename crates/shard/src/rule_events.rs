//! Evaluation of the events of a turn by the rules that name them.

use smallvec::SmallVec;

use forebay_broker::raised::{Raised, dropped};
use forebay_broker::words::Feeds;
use forebay_mqtt::packet::{Publish, QoS};
use forebay_mqtt::property::Properties;
use forebay_rule::column::Defaults;
use forebay_rule::facts::Facts;
use forebay_rule::field::Field;
use forebay_rule::value::Value;
use forebay_runtime::seam::WallMs;
use forebay_session::ClientKey;

use super::Core;
use super::publishing::admit::{Publication, Publisher};
use super::reservation::Beside;
use super::ring::Ring;

impl Core {
    /// Has events noted that the rules in force name.
    pub(super) fn want_events(&mut self) {
        let wanted = self.outlets.rules.as_ref().map(|rules| rules.wanted_events());
        self.here.events.want(wanted.unwrap_or_default());
    }

    /// Evaluates the events of the turn. True: there were some.
    pub(super) fn evaluate_events(&mut self, io: &mut Ring<'_>) -> bool {
        if self.here.events.are_none() {
            return false;
        }
        let mut waiting = self.here.events.take();
        for raised in waiting.drain(..) {
            let (raised, at) = raised.timed(io.wall());
            self.evaluate_event(io, &raised, at);
        }
        // A message that rules have made of an event may be dropped on its way to a subscriber, which is one for the next turn.
        self.here.events.use_again(waiting);
        true
    }

    fn evaluate_event(&mut self, io: &mut Ring<'_>, raised: &Raised, at: WallMs) {
        let rules = self.outlets.rules.as_ref().and_then(|rules| rules.events.get(raised.event() as usize)).cloned();
        let Some(rules) = rules.filter(|rules| !rules.is_empty()) else { return };
        let machine = std::sync::Arc::clone(&self.here.machine);
        let mut fields: SmallVec<[(Field, Value<'_>); 18]> = raised.values().collect();
        fields.push((Field::Node, Value::text(&machine.node)));
        let (topic, payload, client_id) = (raised.event().from(), raised.payload(), raised.client_id());
        let publish = Publish {
            dup: false,
            // At QoS 0 each sink would go without the message by itself.
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: &topic,
            packet_id: 0,
            properties: Properties::EMPTY,
            payload: &payload,
        };
        let facts = Facts { fields: &fields, text: raised.payload_of_message() };
        let key = client_id.filter(|id| !id.is_empty()).map(str::as_bytes);
        let defaults = Defaults { key, time_ms: Some(at.0) };
        let beside = Beside { rules: &rules, facts: &facts, defaults };
        let client = ClientKey { auth: None, client_id: client_id.unwrap_or_default() };
        let of = Publication {
            publish: &publish,
            client,
            username: None,
            time: at,
            feeds: Feeds::NONE,
            hops: 0,
            beside: Some(&beside),
            by: Publisher::Service,
        };
        match self.publishing().admit(io, &of, None) {
            Ok(admitted) => {
                let _nobody_waits = self.publishing().hand_on(io, &of, admitted);
            }
            Err(_) => self.here.numbers.count(dropped(raised.event())),
        }
    }
}
