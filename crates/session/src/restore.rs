//! Sessions that an earlier process has left.

use super::client_key::ClientKey;
use super::connect;
use super::keeping::SessionRecord;
use super::peer::Peer;
use super::remote::BRIDGES;
use super::saved::{NotASession, Saved};
use super::settings::Settings;
use super::state::Session;
use super::store::{SessionKey, Sessions};
use super::subscriptions::Subscribed;
use super::will::Will;
use forebay_guard::auth::Access;
use forebay_runtime::seam::Monotonic;

/// A sink that took the row of an open packet id before the crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HadBy {
    /// The sink, by the caller's number.
    pub sink: u16,
    /// The sink's level is not reached yet: it will [`Session::complete`] the id's number.
    pub owes: bool,
}

/// A QoS 2 packet id that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenId<'a> {
    /// The packet identifier.
    pub packet_id: u16,
    /// The sinks that have its row.
    pub already_taken_by: &'a [HadBy],
}

impl Sessions {
    /// Restores a session without a connection: its expiry and its will delay count from the time that its record says, or else start over. `owed`
    /// is called for each open id with pending answers, with the number that its rows answer to. Of two sessions of one client the
    /// later counts. `None`: the session has ended with its connection, and its will is due.
    ///
    /// # Errors
    /// [`NotASession`].
    pub fn restore(
        &mut self,
        number: u64,
        payload: &[u8],
        open: &[OpenId<'_>],
        settings: &Settings,
        now: Monotonic,
        mut owed: impl FnMut(u16, u32),
    ) -> Result<Option<SessionKey>, NotASession> {
        let Saved { auth, expiry_s, will_delay_s, connect, subscriptions, left } = Saved::decode(payload)?;
        if expiry_s == 0 {
            self.restore_will(number, auth, &connect);
            return Ok(None);
        }
        if let Some(earlier) = self.find(ClientKey { auth, client_id: connect.client_id }) {
            self.forget_will(earlier);
            self.remove(earlier);
        }
        let is_remote = auth == Some(BRIDGES);
        let peer = Peer { is_remote, ..Peer::new(connect.version) };
        let mut session = Session::new(connect.client_id, None, connect::terms(peer, settings));
        session.expiry_s = if is_remote { u32::MAX } else { expiry_s.min(settings.session_expiry_max_s).max(1) };
        session.username = connect.username.map(Into::into);
        session.access = auth.filter(|_| !is_remote).map(|auth| Box::new(Access::restored(auth)));
        session.subscribed = Subscribed::new(subscriptions);
        let away_before = left.and_then(|left| self.away_for(left)).unwrap_or_default();
        session.kept = Some(SessionRecord::restored(number, left, away_before, now));
        session.will = connect.will.as_ref().map(|will| {
            let mut will = Will::store(will);
            will.delay_s = will_delay_s;
            will
        });
        for id in open {
            let owes = id.already_taken_by.iter().filter(|sink| sink.owes).count();
            let already_taken_by = id.already_taken_by.iter().map(|sink| sink.sink).collect();
            let number =
                session.inflight.restore(id.packet_id, already_taken_by, u16::try_from(owes).unwrap_or(u16::MAX));
            if owes > 0 {
                owed(id.packet_id, number);
            }
        }
        let key = self.insert(session);
        self.rest(key, now);
        Ok(Some(key))
    }
}
