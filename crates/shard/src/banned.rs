//! Bans: checked at each CONNECT, before the password is checked and again when the client's identity is known.

use forebay_metrics::inspect::{LOOKED_AT_MAX, Told};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::reason::ReasonCode;
use forebay_runtime::seam::ConnId;
use forebay_session::{End, Violation};

use super::ring::Ring;

use super::Core;

/// The violation of a client that is banned.
pub(super) const BANNED: Violation =
    Violation { reason: ReasonCode::BANNED, clause: "section 3.2.2.2", what: "the client is banned" };

impl Core {
    /// Whether a ban keeps a client from connecting. If so, it is counted.
    pub(super) fn is_banned(&mut self, io: &Ring<'_>, conn: ConnId, client_id: &str, username: Option<&str>) -> bool {
        let address = io.peer(conn).map(|peer| peer.ip());
        let is_banned = self.around.bans.hold(client_id, username, address, io.wall().0);
        if is_banned {
            self.here.numbers.count(M::ConnectsBanned);
        }
        is_banned
    }

    /// Disconnects the banned clients among the next sessions. Returns their number and the position to continue from.
    pub(super) fn end_banned(&mut self, io: &mut Ring<'_>, from: u32) -> Told {
        let (mut banned, mut next) = (Vec::new(), None);
        let (bans, wall) = (&self.around.bans, io.wall().0);
        for (looked_at, (position, session)) in self.broker.sessions.iter_from(from).enumerate() {
            if looked_at == LOOKED_AT_MAX {
                next = Some(position);
                break;
            }
            let Some(session) = session.filter(|session| !session.is_remote()) else { continue };
            let Some(conn) = session.conn() else { continue };
            let address = io.peer(conn).map(|peer| peer.ip());
            if bans.hold(session.client_id(), session.username(), address, wall) {
                banned.push(conn);
            }
        }
        let count = banned.len();
        banned.into_iter().for_each(|conn| self.end(io, conn, End::Administrative));
        Told::Ended(count, next)
    }
}
