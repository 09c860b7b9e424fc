//! A run: PUBLISH packets of one client that follow one of their topic in the same read, and differ from it only in packet
//! identifier and payload.

use super::inflight::Inflight;
use super::store::{SessionKey, Sessions};
use forebay_mqtt::packet::{QoS, Version};

/// `Run` numbers the messages of a run, after the first one has gone through [`Sessions::publish`].
#[derive(Debug)]
pub struct Run<'a> {
    /// The publisher.
    pub client_id: &'a str,
    /// The user name of its connection.
    pub username: Option<&'a str>,
    /// Numbers messages of QoS 1; `None` at QoS 0.
    inflight: Option<&'a mut Inflight>,
    /// Messages that the session takes before its window or its client's quota is full.
    left: usize,
}

impl Sessions {
    /// A run of messages of QoS 0 or 1, of the connection that has the session.
    #[inline]
    pub fn run(&mut self, key: SessionKey, qos: QoS) -> Option<Run<'_>> {
        let session = self.sessions.get_mut(key)?;
        let (terms, inflight) = (&session.terms, &mut session.inflight);
        let (mut left, mut numbered) = (usize::MAX, None);
        if qos != QoS::AtMostOnce {
            left = usize::from(terms.inflight_max).saturating_sub(inflight.owed());
            if terms.version == Version::V5 {
                left = left.min(usize::from(terms.receive_maximum.saturating_sub(inflight.quota_used())));
            }
            numbered = Some(inflight);
        }
        Some(Run { client_id: &session.client_id, username: session.username.as_deref(), inflight: numbered, left })
    }
}

impl Run<'_> {
    /// Whether the session takes one more.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.left > 0
    }

    /// The number of the next message, if it is answered.
    #[must_use]
    #[inline]
    pub fn number(&self) -> Option<u32> {
        self.inflight.as_ref().map(|inflight| inflight.numbers().1)
    }

    /// Takes the next message, with `owed` pending answers of sinks.
    #[inline]
    pub fn take(&mut self, packet_id: u16, owed: u16) {
        self.left -= 1;
        if let Some(inflight) = &mut self.inflight {
            inflight.take(packet_id, owed);
        }
    }
}
