//! Users who come and go: sessions of those that were removed, and counts for those with a bound.

use forebay_metrics::event::{Field, Kind as EventKind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Session, SessionKey};

use crate::Broker;
use crate::here::Here;
use crate::words::{clipped, of_client, second};

impl Broker {
    /// Tells of a session and its user.
    pub fn tell_of_session(&mut self, here: &mut Here, now: Monotonic, key: SessionKey, kind: EventKind) {
        let session = self.sessions.get(key);
        here.teller.tell_of(kind, second(now), session.map(Session::client), |event| {
            let event = of_client(event, session.map(Session::client));
            event.maybe(Field::User, session.and_then(|session| session.username()).map(clipped))
        });
    }

    /// Ends the sessions of removed users: at once if the client is offline, otherwise with its connection. Their wills are not published, as nobody answers
    /// for them.
    pub fn end_without_users(&mut self, here: &mut Here, now: Monotonic) {
        let edge = &here.edge;
        let is_without =
            |(_, session): &(SessionKey, &mut Session)| session.has_lost_its_user(|name| edge.policy(name));
        let ended: Vec<SessionKey> = self.sessions.iter_mut().filter(is_without).map(|(key, _)| key).collect();
        for key in ended {
            if self.sessions.get(key).is_some_and(|session| session.conn().is_none()) {
                here.numbers.count(M::AccessRevoked);
                self.tell_of_session(here, now, key, EventKind::AccessRevoked);
            }
            self.sessions.forget(key);
        }
    }

    /// Counts the sessions of users with a bound on kept sessions.
    pub fn count_kept_sessions(&mut self, here: &Here) {
        let edge = &here.edge;
        self.sessions.count_kept(|name| edge.policy(name));
    }
}
