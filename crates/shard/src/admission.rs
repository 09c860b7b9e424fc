//! Whether a client is admitted, where its listener has an `auth`: decided before there is a session, and before another shard hears of the
//! client. A password that takes long to check is compared on another thread; the connection is not read meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_base::address::Address;
use forebay_broker::words::{clipped, of_client, second};
use forebay_guard::auth::jwt::{Fault, Tokens};
use forebay_guard::auth::{Admission, Answer, Claim, Full, Judgement, Method, Owner, Question, Refusal, Share};
use forebay_guard::edge::Edge;
use forebay_listener::door::{self, Verdict};
use forebay_listener::proxy::Expect;
use forebay_metrics::event::{Field, Kind as EventKind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::Connect;
use forebay_mqtt::reason::ReasonCode;
use forebay_runtime::seam::{ConnId, ListenerId, Monotonic};
use forebay_service::service::verifier::{Asked, Task};
use forebay_session::{ClientKey, End, Peer, Violation, refuse};

use super::Core;
use super::banned::BANNED;
use super::connection::Kind;
use super::mail::{Mail, ToDoor};
use super::ring::Ring;
use super::rule_hooks::Newcomer;
use super::words::AtDoor;

/// The number of client identifiers of one address that are distinguished, where the address may have been refused with all of them.
const NAMES_OF_ADDRESS: u8 = 16;

/// Whether a CONNECT may proceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    Yes,
    /// The answer to a pending question decides.
    Later,
    /// The client has been refused, and its connection is closed.
    No,
}

impl Core {
    /// Decides on a CONNECT of `len` bytes, unless that was done already [MQTT-3.1.4-2].
    pub(super) fn admit(&mut self, io: &mut Ring<'_>, conn: ConnId, connect: &Connect<'_>, len: usize) -> Admitted {
        if self.is_banned(io, conn, connect.client_id, connect.username) {
            return self.refuse_connect(io, conn, connect, BANNED);
        }
        let Some(connection) = self.connections.get(conn) else { return Admitted::No };
        if let Some(AtDoor::Refused(why)) = connection.claim.as_deref() {
            let why = *why;
            return self.refuse_connect(io, conn, connect, why);
        }
        let Some(policy) = self.here.edge.auth(connection.listener) else { return Admitted::Yes };
        if let Some(AtDoor::Admitted(admission, _)) = connection.claim.as_deref_mut() {
            // Files may have changed since then.
            let is_same = Arc::ptr_eq(&admission.policy, policy);
            let is_admitted = || policy.still_admits(admission.identity.as_deref(), &admission.by);
            if is_same || policy.name() == admission.policy.name() && is_admitted() {
                admission.policy = Arc::clone(policy);
                return Admitted::Yes;
            }
            return self.refuse_connect(io, conn, connect, BAD_CREDENTIALS);
        }
        if connect.properties.authentication_method().is_some() {
            let policy = Arc::clone(policy);
            return self.begin_exchange(io, conn, connect, len, &policy);
        }
        let certificate = match connection.claim.as_deref() {
            Some(AtDoor::Certificate(certificate)) => Some(certificate.as_slice()),
            _ => None,
        };
        let wall_ms = io.wall().0;
        match policy.judge(Claim { username: connect.username, password: connect.password, certificate, wall_ms }) {
            Judgement::Admit(admission) => {
                self.admitted(io, conn, admission);
                Admitted::Yes
            }
            Judgement::Refuse(refusal) => self.refuse_connect(io, conn, connect, refusal),
            Judgement::Ask(question) => {
                let Kind::Door(_, deadline) = connection.kind else { return Admitted::No };
                let Some(asked) = self.ask(io, conn, question, deadline) else {
                    return self.refuse_connect(io, conn, connect, BUSY);
                };
                let Some(connection) = self.connections.get(conn) else { return Admitted::No };
                connection.kind = Kind::Pending(deadline);
                connection.claim = Some(Box::new(AtDoor::Asked(asked)));
                io.pause(conn);
                self.here.numbers.raise(M::AuthWaiting, 1);
                Admitted::Later
            }
        }
    }

    /// Notes the identity of a client. The time at which its access expires is settled here: a later change of the wall clock changes nothing.
    pub(super) fn admitted(&mut self, io: &Ring<'_>, conn: ConnId, admission: Admission) {
        self.here.numbers.count(M::AuthAccepted);
        let ends = Self::end_of(io, &admission);
        if let Some(connection) = self.connections.get(conn) {
            connection.claim = Some(Box::new(AtDoor::Admitted(admission, ends)));
        }
    }

    /// The time at which an admission ends.
    pub(super) fn end_of(io: &Ring<'_>, admission: &Admission) -> Monotonic {
        let left = |expires_s: u64| {
            let now_ms = u64::try_from(io.wall().0).unwrap_or_default();
            io.now().after(Duration::from_millis(expires_s.saturating_mul(1_000).saturating_sub(now_ms)))
        };
        admission.expires_s.map_or(Monotonic::NEVER, left)
    }

    /// Notes the certificate of a finished handshake, for listeners with an `auth` that asks for one.
    pub(super) fn note_certificate(&mut self, conn: ConnId, certificate: Option<Vec<u8>>) {
        let Some(connection) = self.connections.get(conn) else { return };
        let policy = self.here.edge.auth(connection.listener);
        if policy.is_some_and(|policy| policy.settings().chain.contains(&Method::Certificate)) {
            connection.claim =
                certificate.map(|certificate| Box::new(AtDoor::Certificate(certificate))).or(connection.claim.take());
        }
    }

    /// Asks a question. `None`: too many questions are pending.
    fn ask(&self, io: &Ring<'_>, conn: ConnId, question: Question, deadline: Monotonic) -> Option<Asked> {
        let verifiers = self.around.verifiers.as_ref()?;
        let (post, shard) = (self.around.post.clone(), self.here.index);
        let until = Instant::now() + deadline.since(io.now());
        let answer =
            Box::new(move |answer| super::carrier::deliver(&post, shard, Mail::Door(ToDoor::Judged { conn, answer })));
        let task = Task { question, from: io.peer(conn).map(|peer| peer.ip()), until, answer };
        verifiers.ask(task)
    }

    /// Takes the answer to a question; its connection may have gone meanwhile.
    pub(super) fn judged(&mut self, io: &mut Ring<'_>, conn: ConnId, answer: Option<Answer>) {
        if !self.is_pending(conn) {
            return;
        }
        match answer {
            None => self.refuse_busy(io, conn),
            Some(Ok(admission)) => {
                self.admitted(io, conn, admission);
                self.look_again(io, conn);
            }
            Some(Err(refusal)) => self.refuse_pending(io, conn, refusal),
        }
    }

    fn is_pending(&mut self, conn: ConnId) -> bool {
        self.connections.get(conn).is_some_and(|connection| matches!(connection.kind, Kind::Pending(_)))
    }

    /// Processes a waiting CONNECT from its beginning, and the bytes received after it.
    fn look_again(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Kind::Pending(deadline) = connection.kind else { return };
        connection.kind = Kind::Door(Expect::Nothing, deadline);
        self.here.numbers.lower(M::AuthWaiting, 1);
        // The connection can be moved to another shard only while it is not read.
        self.door_bytes(io, conn, &[]);
        if self.connections.get(conn).is_some_and(|connection| matches!(connection.kind, Kind::Device { .. })) {
            io.resume(conn);
        }
    }

    /// Refuses a CONNECT because too many passwords wait to be compared.
    pub(super) fn refuse_busy(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        self.refuse_pending(io, conn, BUSY);
    }

    fn refuse_pending(&mut self, io: &mut Ring<'_>, conn: ConnId, why: impl Into<Why>) {
        let Some(connection) = self.connections.get(conn) else { return };
        let tail = std::mem::take(&mut connection.tail);
        self.here.numbers.lower(M::PartialBytes, tail.len() as u64);
        if let Verdict::Connect(connect, _) = door::look(&tail) {
            self.refuse_connect(io, conn, &connect, why);
        } else {
            self.turn_away(io, conn);
        }
        self.connections.tails.give_back(tail);
    }

    pub(super) fn refuse_connect(
        &mut self,
        io: &mut Ring<'_>,
        conn: ConnId,
        connect: &Connect<'_>,
        why: impl Into<Why>,
    ) -> Admitted {
        let Why { violation: why, detail } = why.into();
        if why == BUSY {
            self.here.numbers.count(M::AuthBusy);
        } else {
            self.here.numbers.count(M::AuthRefused);
            self.note_failure(io, conn);
        }
        let listener = self.connections.get(conn).map(|connection| connection.listener);
        let policy = listener.and_then(|listener| self.here.edge.auth(listener));
        let has_secret_name = policy.and_then(|policy| policy.tokens()).is_some_and(Tokens::are_usernames);
        let username = connect.username.filter(|_| !has_secret_name);
        let listener = listener.and_then(|listener| self.here.config.listener(listener));
        let client = ClientKey { auth: policy.map(|policy| policy.name()), client_id: connect.client_id };
        // A guesser may take any name, and many clients may share an address; reasons are few.
        let name = connect.client_id.bytes().fold(0, u8::wrapping_add) % NAMES_OF_ADDRESS;
        let from = io.peer(conn).map(|peer| Address::of(peer.ip()));
        self.here.teller.tell_of(EventKind::AuthRefused, second(io.now()), (from, name, detail), |event| {
            let event = of_client(event, client).with(Field::Reason, detail);
            let event = event.maybe(Field::User, username.map(clipped));
            event.shown(Field::Peer, io.peer(conn)).shown(Field::Listener, listener.map(|listener| &listener.bind))
        });
        let asked = Newcomer { connect, client_id: connect.client_id };
        self.raise_authn(io, conn, asked, why.reason, false);
        self.raise_connack(io, conn, asked, why.reason);
        self.answer_front(io, conn);
        refuse(Peer::of(connect), &why, io.out(conn));
        self.turn_away(io, conn);
        Admitted::No
    }

    /// The client identifier of a client without one of its own, if its identity decides that.
    pub(super) fn given_id(&mut self, conn: ConnId) -> Option<&str> {
        let claim = self.connections.get(conn)?.claim.as_deref()?;
        let AtDoor::Admitted(admission, _) = claim else { return None };
        admission.client_id()
    }

    /// Disconnects a client when its admission has expired.
    pub(super) fn expire_access(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        self.here.numbers.count(M::AccessExpired);
        self.tell_of_client(io, conn, EventKind::AccessExpired);
        self.end(io, conn, End::Expired);
    }

    /// Records an event about the client of a connection.
    fn tell_of_client(&mut self, io: &Ring<'_>, conn: ConnId, kind: EventKind) {
        if let Some(Kind::Device { session, .. }) = self.connections.get(conn).map(|connection| connection.kind) {
            self.broker.tell_of_session(&mut self.here, io.now(), session, kind);
        }
    }

    /// The part that a client takes of its user's bounds. `None`: the user has none.
    pub(super) fn share_of(
        &mut self,
        now: Monotonic,
        admission: &Admission,
        client_id: &str,
    ) -> Result<Option<Share>, Violation> {
        let limits = admission.limits();
        if !limits.are_counted() {
            return Ok(None);
        }
        let owner = Owner::of(admission, client_id);
        let client = ClientKey { auth: Some(admission.policy.name()), client_id };
        let old = self.broker.sessions.find(client).and_then(|key| self.broker.sessions.get(key)?.conn());
        let old = old.and_then(|conn| self.connections.get(conn)?.claim.as_deref());
        let takes_over = matches!(old, Some(AtDoor::Bounded(share)) if *share.owner() == owner);
        let share = self.here.shares.enter(owner, *limits, takes_over, now);
        share.map(Some).map_err(|full| match full {
            Full::Connections => Violation::CONNECTIONS_OF_USER,
            Full::Connects => Violation::CONNECTS_OF_USER,
        })
    }

    /// Applies changed files: clients that would not be admitted any more are disconnected, the others get the new rules, and sessions of
    /// removed users end. One walk over all sessions, a tenth of a microsecond for each.
    pub(super) fn renew_access(&mut self, io: &mut Ring<'_>) {
        let (mut revoked, mut renewed) = (Vec::new(), Vec::new());
        for (from, to) in &self.here.edge.renamed {
            self.broker.sessions.rename_auth(from, to);
        }
        self.broker.write_notes(&mut self.here);
        self.broker.end_without_users(&mut self.here, io.now());
        for (key, session) in self.broker.sessions.iter_mut() {
            let Some(conn) = session.conn() else {
                session.renew_access_away(|name| self.here.edge.policy(name));
                continue;
            };
            let Some(listener) = self.connections.get(conn).map(|connection| connection.listener) else { continue };
            let edge = &self.here.edge;
            let is_revoked = |id: &_| edge.tls(listener).is_some_and(|server| server.has_revoked(id));
            if !session.is_still_admitted(|name| edge.policy(name), is_revoked) {
                revoked.push(conn);
                continue;
            }
            session.renew_access(|name| edge.policy(name));
            if !session.subscriptions().is_empty() || session.copies().1 > 0 {
                renewed.push(key);
            }
        }
        self.broker.count_kept_sessions(&self.here);
        for key in renewed {
            self.broker.enter_again(&mut self.here, key, io.now());
        }
        for conn in revoked {
            self.here.numbers.count(M::AccessRevoked);
            self.tell_of_client(io, conn, EventKind::AccessRevoked);
            self.end(io, conn, End::Revoked);
        }
    }
}

impl Core {
    /// The number of clients here that would be disconnected if these files were in force and these listeners removed.
    pub(super) fn would_go(&mut self, edge: &Edge, removed: &[ListenerId]) -> usize {
        let mut count = 0;
        for (_, session) in self.broker.sessions.iter_mut() {
            let Some(listener) = session.conn().and_then(|conn| self.connections.get(conn)).map(|c| c.listener) else {
                continue;
            };
            let is_revoked = |id: &_| edge.tls(listener).is_some_and(|server| server.has_revoked(id));
            let goes = removed.contains(&listener) || !session.is_still_admitted(|name| edge.policy(name), is_revoked);
            count += usize::from(goes);
        }
        count
    }
}

/// The reason for a refusal: the code that the client gets, and the event.
#[derive(Clone, Copy)]
pub(super) struct Why {
    violation: Violation,
    detail: &'static str,
}

impl From<Violation> for Why {
    fn from(violation: Violation) -> Self {
        Self { violation, detail: violation.what }
    }
}

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Credentials => BAD_CREDENTIALS.into(),
            Refusal::NoCredentials => NO_CREDENTIALS.into(),
            Refusal::Certificate(what) | Refusal::Exchange(what) => Violation { what, ..NO_CREDENTIALS }.into(),
            Refusal::Method => Violation::AUTHENTICATION_METHOD.into(),
            Refusal::Token(fault) => {
                let what = if fault == Fault::Expired { "the token has expired" } else { "the token is not valid" };
                Self { violation: Violation { what, ..NO_CREDENTIALS }, detail: fault.words() }
            }
        }
    }
}

const BAD_CREDENTIALS: Violation = Violation {
    reason: ReasonCode::BAD_USER_NAME_OR_PASSWORD,
    clause: "section 3.1.3.5",
    what: "wrong user name or password",
};
const NO_CREDENTIALS: Violation =
    Violation { reason: ReasonCode::NOT_AUTHORIZED, clause: "section 3.1.3.5", what: "no user name and password" };
const BUSY: Violation = Violation {
    reason: ReasonCode::SERVER_BUSY,
    clause: "section 4.13",
    what: "too many passwords and tokens are being checked",
};
