//! A connection to a remote, from CONNECT on.

use std::sync::Arc;

use super::asked::{Asked, Standing};
use super::granted::Granted;
use super::login::{Form, Greeted, Login, violation};
use super::pulse::Pulse;
use super::{Effect, Event, Settings};
use forebay_guard::outward::{Backoff, Bounds, Connected, LinkId};
use forebay_guard::secure::Outgoing;
use forebay_mqtt::encode;
use forebay_mqtt::malformed::Malformed;
use forebay_mqtt::packet::Packet;
use forebay_runtime::seam::{Chunk, Monotonic};

/// The state of a connection once the remote has accepted the client.
#[derive(Debug)]
struct Open {
    granted: Granted,
    asked: Asked,
    /// The answers of the present round have not been reported yet.
    is_untold: bool,
    backoff: Backoff,
    /// The deadline of the answer to SUBSCRIBE or UNSUBSCRIBE.
    answer_by: Monotonic,
    /// The time at which refused filters are requested again.
    again_at: Monotonic,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: LinkId,
    /// The beginning of CONNACK.
    torn: Vec<u8>,
    pub(super) pulse: Pulse,
    /// The time at which the remote accepted the client.
    pub(super) opened: Monotonic,
    open: Option<Box<Open>>,
}

impl Connected for Connection {
    type Settings = Settings;
    type Owner = ();
    type Event = Event;

    fn begin(link: LinkId, _: Option<Arc<Outgoing>>, _: u32) -> Self {
        let pulse = Pulse::new(0, Monotonic(0));
        Self { link, torn: Vec::new(), pulse, opened: Monotonic::NEVER, open: None }
    }

    fn deadline(&self) -> Monotonic {
        let open = self.open.as_ref().map_or(Monotonic::NEVER, |open| open.answer_by.min(open.again_at));
        self.pulse.deadline().min(open)
    }

    fn overdue(&self) -> &'static str {
        match &self.open {
            None => "no answer to CONNECT in time",
            Some(_) if self.pulse.answers_by() != Monotonic::NEVER => "no answer to PINGREQ in time",
            Some(_) => "no answer to SUBSCRIBE in time",
        }
    }

    fn is_moving(&mut self, unacked: usize, now: Monotonic) -> bool {
        let owes_answer = self.open.as_ref().is_some_and(|open| open.answer_by <= now);
        !owes_answer && self.pulse.waits_on(unacked, now)
    }

    fn is_idle(&self) -> bool {
        false
    }
}

impl Connection {
    /// Sends a packet.
    pub(super) fn send(&self, packet: Vec<u8>, effects: &mut Vec<Effect>) {
        if !packet.is_empty() {
            effects.push(Effect::Send { link: self.link, chunks: vec![Chunk::Owned(packet)] });
        }
    }

    /// Takes bytes until CONNACK is complete. Returns it with the number of its bytes.
    pub(super) fn greeting(
        &mut self,
        login: &Login,
        form: Form,
        bytes: &[u8],
    ) -> Result<Option<(Greeted, usize)>, Malformed> {
        let before = self.torn.len();
        let greeted = if before == 0 {
            login.read(form, bytes)?
        } else {
            self.torn.extend_from_slice(bytes);
            login.read(form, &self.torn)?
        };
        if greeted.is_none() && before == 0 {
            self.torn.extend_from_slice(bytes);
        }
        Ok(greeted.map(|(greeted, len)| {
            self.torn = Vec::new();
            (greeted, len - before)
        }))
    }

    /// The remote has accepted the client.
    pub(super) fn open(&mut self, granted: Granted, settings: &Settings, now: Monotonic) {
        let gone = if granted.session_present { &*settings.gone } else { &[] };
        (self.opened, self.pulse) = (now, Pulse::new(granted.keep_alive_s, now));
        self.open = Some(Box::new(Open {
            asked: Asked::new(&settings.wanted, gone),
            granted,
            is_untold: true,
            backoff: Backoff::default(),
            answer_by: Monotonic::NEVER,
            again_at: Monotonic::NEVER,
        }));
    }

    /// Asks for the filters of other settings; there were none before.
    pub(super) fn asks_anew(&mut self, settings: &Settings) {
        if let Some(open) = &mut self.open {
            debug_assert!(open.asked.standings().is_empty() && !open.asked.is_awaited());
            (open.asked, open.is_untold) = (Asked::new(&settings.wanted, &[]), true);
        }
    }

    /// The remote's grants, and its answers for the filters.
    pub(super) fn standing(&self) -> Option<(&Granted, &[Standing])> {
        self.open.as_ref().map(|open| (&open.granted, open.asked.standings()))
    }

    /// Takes a packet of the remote.
    pub(super) fn packet(&mut self, packet: &Packet<'_>) -> Result<(), Malformed> {
        let Some(open) = &mut self.open else { return Ok(()) };
        match packet {
            Packet::SubAck(suback) => open.asked.suback(suback)?,
            Packet::UnsubAck(unsuback) => open.asked.unsuback(unsuback)?,
            Packet::PingResp => {}
            Packet::ConnAck(_) => return Err(violation("section 3.2", "a second CONNACK")),
            _ => return Err(violation("MQTT-4.12.0-6", "AUTH, and CONNECT had no authentication method")),
        }
        self.pulse.heard();
        Ok(())
    }

    /// Sends what is due. Returns the answers for all filters whenever the last of them has arrived.
    pub(super) fn work(
        &mut self,
        settings: &Settings,
        (effects, rng): (&mut Vec<Effect>, &mut fastrand::Rng),
        now: Monotonic,
    ) -> Option<Vec<Standing>> {
        let mut out = Vec::new();
        if self.pulse.takes_ping(now) {
            encode::pingreq(&mut out);
        }
        let open = self.open.as_mut()?;
        if open.again_at <= now {
            (open.again_at, open.is_untold) = (Monotonic::NEVER, true);
            open.asked.ask_again();
        }
        let was_awaited = open.asked.is_awaited();
        open.asked.write(&open.granted, &mut out);
        if !open.asked.is_awaited() {
            open.answer_by = Monotonic::NEVER;
        } else if !was_awaited {
            open.answer_by = now.after(settings.outward.connect_timeout);
        }
        let standings = (open.asked.is_over() && std::mem::take(&mut open.is_untold)).then(|| {
            if open.asked.has_refused(&open.granted) {
                let bounds = Bounds { min: settings.outward.backoff_min, max: settings.outward.backoff_max };
                open.again_at = now.after(open.backoff.next(bounds, rng));
            }
            open.asked.standings().to_vec()
        });
        self.send(out, effects);
        standings
    }
}
