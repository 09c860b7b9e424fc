//! All sessions of one shard: by client identifier, by key, and their deadlines.

use super::body::{Body, Gone};
use super::client_key::{ClientKey, OwnedKey};
use super::connect::{self, Refused, refuse};
use super::end::{End, Violation};
use super::keep_alive::KeepAlive;
use super::keeping::Keeping;
use super::peer::Peer;
use super::refusals::Reason;
use super::settings::Settings;
use super::state::{Session, Taken};
use super::takeovers::Takeovers;
use super::will::{DueWill, Will};
use forebay_guard::auth::{Access, Admission, Shares};
use forebay_mqtt::packet::{Connect, Publish};
use forebay_runtime::seam::{Came, ConnId, Monotonic};
use hashbrown::HashTable;
use slotmap::{Key, KeyData, SlotMap, new_key_type};
use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Sessions that one CONNECT may evict. The CONNECT may be larger than each of them; one that would evict more is refused.
const EVICTED_AT_ONCE_MAX: usize = 64;
/// Wills and sessions that one call of [`Sessions::expire`] handles: the others are due at once.
const EXPIRED_AT_ONCE_MAX: usize = 256;

/// Interval at which a session that took a publish is checked until it has been quiet for as long; then its queue's memory is given
/// back.
const REST_EVERY: Duration = Duration::from_secs(10);

new_key_type! {
    /// A session of one shard. A key never refers to another session, however many are created and end.
    pub struct SessionKey;
}

impl SessionKey {
    /// The key as a number, for the ticket that travels with a row.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.data().as_ffi()
    }

    /// The session's slot in the table: the lower half.
    fn slot(self) -> usize {
        (self.to_bits() & u64::from(u32::MAX)) as usize
    }

    /// The key of a number from [`SessionKey::to_bits`]. Any other number names no session, or a wrong one, and is memory-safe.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        KeyData::from_ffi(bits).into()
    }
}

/// The circumstances of a CONNECT besides its packet.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The connection of the CONNECT.
    pub conn: ConnId,
    /// The name for a client that brings none.
    pub assigned_id: Option<&'a str>,
    /// The admission, if the listener has an auth.
    pub admission: Option<&'a Admission>,
    /// When the CONNECT came: it may have waited for an instance that serves the client.
    pub came: Came,
}

/// The result of a CONNECT; its CONNACK is in `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The session.
    pub key: SessionKey,
    /// Whether the session existed before, as in CONNACK [MQTT-3.2.2-2] [MQTT-3.2.2-3].
    pub session_present: bool,
    /// The connection that had the client identifier until now: write `End::TakenOver.write(peer, …)` to it and close it
    /// [MQTT-3.1.4-3].
    pub taken_over: Option<TakenOver>,
    /// The connection's clock.
    pub keep_alive: KeepAlive,
}

/// A connection that has lost its session to a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// The connection.
    pub conn: ConnId,
    /// The properties of that connection that matter for writing to it.
    pub peer: Peer,
}

/// The deadlines of a session. Of two that fall due together, the will goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Will,
    Expire,
    Rest,
    /// The session's record gets the time of leaving.
    Leave,
}

/// The sessions of one shard.
#[derive(Debug, Default)]
pub struct Sessions {
    pub(super) sessions: SlotMap<SessionKey, Session>,
    /// The last key of each slot: a long list can be read from any position on.
    slots: Vec<SessionKey>,
    by_client: HashTable<SessionKey>,
    hasher: foldhash::quality::RandomState,
    timers: BTreeSet<(Monotonic, Task, SessionKey)>,
    /// Wills that are due and have not been offered yet; then those that were and found no room.
    wills: VecDeque<DueWill>,
    wills_waiting: VecDeque<DueWill>,
    /// Sessions without a connection, the one that lost its connection first at the front.
    away: BTreeSet<(Monotonic, SessionKey)>,
    /// Sessions that have ended, for [`Sessions::next_ended`].
    pub(super) ended: Vec<SessionKey>,
    /// Sessions with subscriptions that have lost their connection, for [`Sessions::next_gone`].
    gone: Vec<SessionKey>,
    /// Copies of shared subscriptions that they had not acknowledged, for [`Sessions::take_returned`].
    returned: Vec<(NonZeroU32, Rc<Body>)>,
    /// Copies of messages that ended with their session, for [`Sessions::take_discarded`].
    discarded: Vec<(OwnedKey, Gone)>,
    /// See [`Sessions::take_ended_queues`].
    ended_queues: Vec<u64>,
    /// Clients that lost their sessions to make room, for [`Sessions::next_evicted`].
    evicted: VecDeque<OwnedKey>,
    /// See [`Sessions::expired`].
    expired: u64,
    connected: usize,
    takeovers: Takeovers,
    /// The bounds of users, on all shards.
    pub(super) shares: Arc<Shares>,
    /// Bytes that clients have chosen: [`Session::bytes`] of all sessions, and wills that wait. And their bound, as of the last
    /// CONNECT.
    pub(super) bytes: usize,
    pub(super) bytes_max: usize,
    /// The records to write, if sessions survive a crash.
    pub(super) keeping: Option<Box<Keeping>>,
}

impl Sessions {
    /// An empty table. The hash of client identifiers has a random seed, so that no client can choose ids that collide.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty table with the bounds of users on all shards.
    #[must_use]
    pub fn sharing(shares: Arc<Shares>) -> Self {
        Self { shares, ..Self::default() }
    }

    /// Sessions, connected and kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Sessions that have a connection.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connected
    }

    /// Bytes of client identifiers, user names, wills and topic aliases, which clients choose.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Recounts [`Sessions::bytes`].
    #[cfg(test)]
    pub(super) fn weigh(&self) -> usize {
        let wills = self.wills_waiting.iter().map(DueWill::bytes).sum::<usize>();
        self.sessions.values().map(Session::bytes).sum::<usize>() + wills
    }

    /// The session of a key; `None` once it has ended.
    #[must_use]
    #[inline]
    pub fn get(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(key)
    }

    /// The session of a key, mutable.
    #[inline]
    pub fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(key)
    }

    /// All sessions with their keys, mutable.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SessionKey, &mut Session)> {
        self.sessions.iter_mut()
    }

    /// The session of a client [MQTT-3.1.3-2].
    #[must_use]
    pub fn find(&self, client: ClientKey<'_>) -> Option<SessionKey> {
        let hash = self.hasher.hash_one(client.client_id);
        self.by_client.find(hash, |&key| self.sessions[key].client() == client).copied()
    }

    /// Moves the sessions of an auth to its new name, but for clients that have a session there.
    pub fn rename_auth(&mut self, from: &str, to: &str) {
        let is_of = |session: &Session| session.access().is_some_and(|access| access.auth() == from);
        let all: Vec<_> = self.sessions.iter().filter(|(_, session)| is_of(session)).map(|(key, _)| key).collect();
        for key in all {
            let client_id = self.sessions[key].client_id.clone();
            if self.find(ClientKey { auth: Some(to), client_id: &client_id }).is_some() {
                continue;
            }
            let session = &mut self.sessions[key];
            let before = session.bytes();
            if let Some(access) = &mut session.access {
                access.rename(to);
            }
            self.bytes = self.bytes + session.bytes() - before;
            self.note_kept(key);
        }
    }

    /// The sessions of a client identifier: one for each `[auth.NAME]` at most, and one of clients that nothing had to admit.
    pub fn find_all<'a>(&'a self, client_id: &'a str) -> impl Iterator<Item = SessionKey> + 'a {
        let hash = self.hasher.hash_one(client_id);
        self.by_client.iter_hash(hash).copied().filter(move |&key| &*self.sessions[key].client_id == client_id)
    }

    /// Handles a CONNECT. Settles the session, which is resumed, new, or new after the old one has been discarded [MQTT-3.1.2-5]
    /// [MQTT-3.1.2-6] [MQTT-3.1.2-4] [MQTT-3.1.4-4], and appends CONNACK to `out`, the out-buffer of its connection.
    ///
    /// # Errors
    /// [`Refused`]; the answer to the client, if its version has one, is in `out`. No session has changed.
    pub fn connect(
        &mut self,
        connect: &Connect<'_>,
        arrival: Arrival<'_>,
        now: Monotonic,
        settings: &Settings,
        out: &mut Vec<u8>,
    ) -> Result<Connected, Refused> {
        self.try_connect(connect, arrival, now, settings, out).map_err(|violation| {
            let hides_denials = arrival.admission.is_some_and(|by| by.policy.settings().hides_denials);
            let (peer, reason) = match violation {
                Violation::WILL_DENIED if hides_denials => {
                    (Peer { problem_information: false, ..Peer::of(connect) }, Reason::Unsaid.code())
                }
                _ => (Peer::of(connect), violation.reason),
            };
            refuse(peer, &Violation { reason, ..violation }, out);
            Refused { violation }
        })
    }

    fn try_connect(
        &mut self,
        connect: &Connect<'_>,
        arrival: Arrival<'_>,
        now: Monotonic,
        settings: &Settings,
        out: &mut Vec<u8>,
    ) -> Result<Connected, Violation> {
        let Arrival { conn, assigned_id, admission, came } = arrival;
        let plan = connect::plan(connect, assigned_id, admission, settings)?;
        self.bytes_max = settings.session_bytes_max;
        let client = ClientKey { auth: plan.auth, client_id: plan.client_id };
        let without_owner = || self.find(ClientKey::without_auth(plan.client_id)).filter(|_| settings.adopts);
        let old = self.find(client).or_else(without_owner);
        let is_own = old.is_some_and(|key| self.sessions[key].belongs_to(plan.auth, plan.username, settings.adopts));
        if old.is_some() && !is_own && admission.is_some_and(Admission::refuses_foreign_sessions) {
            return Err(Violation::SESSION_FOREIGN);
        }
        if old.is_some_and(|key| self.sessions[key].kept.as_ref().is_some_and(|kept| kept.is_after(came))) {
            return Err(Violation::OUTDATED);
        }
        if let Some(key) = old.filter(|&key| self.sessions[key].conn.is_some()) {
            let identifier = self.hasher.hash_one(self.sessions[key].client());
            if !self.takeovers.allow(identifier, settings.takeovers_max, now) {
                return Err(Violation::TAKEOVERS);
            }
        }
        let resumed = old.filter(|&key| is_own && !connect.clean_start && self.is_kept(key, now));
        let subscriptions = resumed.map_or(0, |key| self.sessions[key].subscription_bytes());
        let bytes = connect::bytes(connect, &plan) + subscriptions;
        if let Some(admission) = admission {
            connect::within(connect, bytes, admission.limits())?;
        }
        let place = self.new_place(old.filter(|_| is_own), &plan, admission)?;
        if plan.expiry_s > 0 && bytes > settings.session_bytes_each_max {
            return Err(Violation::SESSION_TOO_LARGE);
        }
        let evicting = self.make_room(old, bytes, settings)?;
        let is_written = resumed.is_some_and(|key| self.is_written(key, connect, &plan));
        if plan.expiry_s > 0 && !is_written && !self.has_room(bytes) {
            return Err(Violation::SPOOL_FULL);
        }
        if !connect::connack(connect, &plan, resumed.is_some(), settings, out) {
            return Err(Violation::PACKET_SIZE_TINY);
        }
        let place = place.or_else(|| self.place_of(old.filter(|_| is_own), &plan, admission));
        self.evict(evicting, old);
        let taken_over = old.and_then(|key| self.take_over(key, resumed.is_some(), now));
        let key = match resumed {
            Some(key) => key,
            None => self.insert(Session::new(plan.client_id, Some(conn), plan.terms)),
        };
        let session = &mut self.sessions[key];
        self.bytes -= session.bytes();
        session.conn = Some(conn);
        session.terms = plan.terms;
        session.expiry_s = plan.expiry_s;
        session.username = plan.username.map(Into::into);
        session.access = admission.map(|admission| Box::new(Access::new(admission)));
        session.access.as_mut().map(|access| access.replace_place(place));
        session.will = connect.will.as_ref().map(Will::store);
        self.bytes += session.bytes();
        self.connected += 1;
        self.note_connected(key, is_written);
        self.sessions[key].kept.iter_mut().for_each(|kept| kept.connected(came));
        let keep_alive = KeepAlive::new(plan.keep_alive_s, now);
        Ok(Connected { key, session_present: resumed.is_some(), taken_over, keep_alive })
    }

    /// Whether there is memory for this many more bytes of sessions.
    pub(super) fn has_memory(&self, bytes: usize) -> bool {
        self.bytes + bytes <= self.bytes_max
    }

    /// The number of the longest-absent sessions that have to go, so that one of `bytes` can be added or replace `old`.
    fn make_room(&self, old: Option<SessionKey>, bytes: usize, settings: &Settings) -> Result<usize, Violation> {
        let old_bytes = old.map_or(0, |key| self.sessions[key].bytes());
        let mut left = self.sessions.len() - usize::from(old.is_some());
        let mut held = self.bytes - old_bytes;
        let mut away = self.away.iter().map(|(_, key)| *key).filter(|key| Some(*key) != old);
        for evicting in 0..=EVICTED_AT_ONCE_MAX {
            let violation = match (left < settings.sessions_max, held + bytes <= settings.session_bytes_max) {
                (true, true) => return Ok(evicting),
                (false, _) => Violation::SESSIONS_MAX,
                (true, false) => Violation::SESSION_BYTES,
            };
            let longest_away = away.next().filter(|_| settings.evict && evicting < EVICTED_AT_ONCE_MAX);
            held -= self.sessions[longest_away.ok_or(violation)?].bytes();
            left -= 1;
        }
        Err(Violation::SESSION_BYTES)
    }

    /// Ends this many of the longest-absent sessions. Their wills are due now [MQTT-3.1.2-8].
    fn evict(&mut self, count: usize, but: Option<SessionKey>) {
        for _ in 0..count {
            let Some(key) = self.away.iter().map(|(_, key)| *key).find(|key| Some(*key) != but) else { return };
            self.evicted.push_back(self.sessions[key].client().into());
            self.remove(key);
        }
    }

    /// Takes out the log numbers of queues that were written down and have lost their session.
    pub fn take_ended_queues(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.ended_queues)
    }

    /// Whether there are any.
    #[must_use]
    pub fn has_ended_queues(&self) -> bool {
        !self.ended_queues.is_empty()
    }

    /// Copies of QoS 1 and 2 that had not been acknowledged when their session ended, since the last call, by client.
    pub fn take_discarded(&mut self) -> Vec<(OwnedKey, Gone)> {
        std::mem::take(&mut self.discarded)
    }

    /// A client that lost its session to make room for another.
    pub fn next_evicted(&mut self) -> Option<OwnedKey> {
        self.evicted.pop_front()
    }

    /// Whether a session outlives its connection and has not run out [MQTT-3.1.2-23]. If the client left without
    /// asking for that, the session ends with its takeover, too (section 3.1.2.5).
    fn is_kept(&self, key: SessionKey, now: Monotonic) -> bool {
        let session = &self.sessions[key];
        session.expiry_s > 0 && now < session.expires()
    }

    /// Takes a session from its present connection, or from its absence, for a new one; ends it unless it is `resumed`.
    fn take_over(&mut self, key: SessionKey, resumed: bool, now: Monotonic) -> Option<TakenOver> {
        let session = &mut self.sessions[key];
        let taken_over = session.conn.map(|conn| TakenOver { conn, peer: session.peer() });
        if taken_over.is_some() {
            self.detach(key);
            self.collect(key);
        }
        if !resumed {
            self.remove(key);
            return taken_over;
        }
        self.cancel(key, Task::Expire);
        self.cancel(key, Task::Will);
        self.end_absence(key);
        // A delayed will is not sent once its client has reconnected [MQTT-3.1.3-9]. One without delay is sent as its connection
        // closes, and the client cannot take back a will that fell due in this very turn.
        if let Some(will) = self.take_will(key)
            && ((taken_over.is_some() && will.is_immediate()) || will.due <= now)
        {
            self.publish_will(key, will, (None, None));
        }
        taken_over
    }

    /// A session loses its connection.
    fn detach(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key];
        self.bytes -= session.alias_bytes();
        session.detach();
        self.connected -= usize::from(!session.is_remote());
        if session.subscribed.is_some() || session.outgoing.is_some() {
            self.gone.push(key);
        }
        self.returned.append(&mut session.take_shared());
    }

    /// Takes a session that has lost its connection, and has subscriptions or was sent something; it may have another connection,
    /// or have ended.
    pub fn next_gone(&mut self) -> Option<SessionKey> {
        self.gone.pop()
    }

    /// The number of messages in [`Sessions::take_returned`].
    #[must_use]
    pub fn returned(&self) -> usize {
        self.returned.len()
    }

    /// Takes messages of shared subscriptions that were sent at QoS 1 to clients that have gone without acknowledging them, each
    /// client's oldest first.
    pub fn take_returned(&mut self) -> Vec<(NonZeroU32, Rc<Body>)> {
        std::mem::take(&mut self.returned)
    }

    pub(super) fn insert(&mut self, session: Session) -> SessionKey {
        let hash = self.hasher.hash_one(&*session.client_id);
        self.bytes += session.bytes();
        let key = self.sessions.insert(session);
        let slot = key.slot();
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, SessionKey::null());
        }
        self.slots[slot] = key;
        let (sessions, hasher) = (&self.sessions, &self.hasher);
        self.by_client.insert_unique(hash, key, |&key| hasher.hash_one(&*sessions[key].client_id));
        key
    }

    /// Ends a session. Only its will remains, which is sent now [MQTT-3.1.2-8].
    pub(super) fn remove(&mut self, key: SessionKey) {
        let record = self.take_record_of_will(key);
        for task in [Task::Will, Task::Expire, Task::Rest] {
            self.cancel(key, task);
        }
        self.end_absence(key);
        self.note_ended(key);
        if let Some(will) = self.take_will(key) {
            self.publish_will(key, will, (None, record));
        }
        let Some(mut session) = self.take_out(key) else { return };
        self.ended_queues.extend(session.queue_record());
        let gone = session.discard_copies();
        if gone.count > 0 {
            self.discarded.push((session.client().into(), gone));
        }
    }

    /// Removes a session from memory, as another process serves it: its records stay in the log. Returns the number of copies that
    /// go along.
    pub fn let_go(&mut self, key: SessionKey) -> u64 {
        let Some(session) = self.sessions.get_mut(key) else { return 0 };
        let is_connected = session.conn.is_some();
        if is_connected {
            self.returned.append(&mut session.take_shared());
        }
        // Copies go before the connection ends, as its end would count copies in memory alone as delivered. A session that ends
        // with its connection has ended.
        let gone = if session.expiry_s > 0 { session.let_go_of_copies() } else { session.discard_copies() };
        if is_connected {
            self.detach(key);
        }
        for task in [Task::Will, Task::Expire, Task::Rest] {
            self.cancel(key, task);
        }
        self.end_absence(key);
        self.take_out(key);
        gone.count
    }

    fn take_out(&mut self, key: SessionKey) -> Option<Session> {
        self.bytes -= self.sessions[key].bytes();
        let hash = self.hasher.hash_one(&*self.sessions[key].client_id);
        if let Ok(entry) = self.by_client.find_entry(hash, |&other| other == key) {
            entry.remove();
        }
        let session = self.sessions.remove(key);
        // Also without subscriptions: retained messages may be under way for an earlier one.
        self.ended.extend(session.as_ref().map(|_| key));
        session
    }

    fn take_will(&mut self, key: SessionKey) -> Option<Box<Will>> {
        let will = self.sessions[key].will.take()?;
        self.bytes -= will.bytes();
        self.note_kept(key);
        Some(will)
    }

    /// Handles a will that is due while its session goes on: the session's record has it until it has found room.
    fn will_is_due(&mut self, key: SessionKey) {
        let Some(will) = self.sessions[key].will.take() else { return };
        self.bytes -= will.bytes();
        let is_written = self.sessions[key].kept.is_some();
        self.publish_will(key, will, (is_written.then_some(key), None));
    }

    /// Discards the will of a session.
    pub(super) fn forget_will(&mut self, key: SessionKey) {
        self.cancel(key, Task::Will);
        drop(self.take_will(key));
    }

    /// `written`: what the log has the will with, as in [`DueWill`].
    fn publish_will(&mut self, key: SessionKey, will: Box<Will>, written: (Option<SessionKey>, Option<u64>)) {
        let session = &self.sessions[key];
        let (client_id, username) = (session.client_id.clone(), session.username.clone());
        let access = session.access.as_deref();
        let (auth, by) = (access.map(|access| access.auth().into()), access.and_then(Access::known_by).cloned());
        let grants = access.and_then(|access| access.grants().cloned());
        let (session, record) = written;
        self.wills.push_back(DueWill { client_id, username, auth, by, grants, session, record, will });
    }

    /// A will of an earlier process is due: its session ended with its connection. It has this record.
    pub(super) fn restore_will(&mut self, record: u64, auth: Option<&str>, connect: &Connect<'_>) {
        let Some(will) = connect.will.as_ref().map(Will::store) else { return };
        let (client_id, username) = (connect.client_id.into(), connect.username.map(Into::into));
        let (auth, record) = (auth.map(Into::into), Some(record));
        let (by, grants, session) = (None, None, None);
        self.wills.push_back(DueWill { client_id, username, auth, by, grants, session, record, will });
    }

    /// Drops due wills of clients that another process serves now: it publishes those that the log has.
    pub fn let_go_of_wills(&mut self, is_of: impl Fn(&str) -> bool) {
        let stays = |due: &DueWill| (due.session.is_none() && due.record.is_none()) || !is_of(&due.client_id);
        self.wills.retain(stays);
        let waiting = std::mem::take(&mut self.wills_waiting);
        for due in waiting {
            if stays(&due) {
                self.wills_waiting.push_back(due);
            } else {
                self.bytes -= due.bytes();
            }
        }
    }

    /// Handles the end of the connection `conn` of a session, for any reason: until then the session stays [MQTT-4.1.0-1], and from
    /// now on for its expiry interval [MQTT-4.1.0-2]. A stale call (the session has moved on to another connection, or has ended)
    /// is ignored. Wills that are due now are in [`Sessions::next_will`].
    pub fn disconnected(&mut self, key: SessionKey, conn: ConnId, end: End, now: Monotonic) {
        if self.sessions.get(key).is_none_or(|session| session.conn != Some(conn)) {
            return;
        }
        self.detach(key);
        self.collect(key);
        if !end.sends_will() {
            self.take_will(key); // [MQTT-3.1.2-10]
        }
        if self.sessions[key].expiry_s == 0 {
            return self.remove(key);
        }
        if self.sessions[key].kept.as_ref().is_some_and(|kept| kept.changed) {
            self.note_kept(key);
        }
        if end == End::Moved {
            // Expiry and the delay of the will begin where the session is served: [`Sessions::let_go`] follows.
            return;
        }
        self.rest(key, now);
        if self.sessions[key].will.is_some() {
            self.expire(now);
        }
    }

    /// A session is without a connection from now on: its expiry and the delay of its will begin.
    pub(super) fn rest(&mut self, key: SessionKey, now: Monotonic) {
        let session = &mut self.sessions[key];
        session.away_since = now;
        if !session.is_remote() {
            self.away.insert((now, key));
        }
        let (expires, before) = (session.expires(), session.away_before());
        if expires != Monotonic::NEVER {
            self.timers.insert((expires, Task::Expire, key));
        }
        if let Some(will) = &mut session.will {
            will.due = will.due_after(now, before, expires);
            self.timers.insert((will.due, Task::Will, key));
        }
        if let Some(at) = self.leaves(key, now) {
            self.timers.insert((at, Task::Leave, key));
        }
    }

    /// Takes a session off the list of absent ones: it has a connection again, or is about to end.
    pub(super) fn end_absence(&mut self, key: SessionKey) {
        self.cancel(key, Task::Leave);
        let since = std::mem::replace(&mut self.sessions[key].away_since, Monotonic::NEVER);
        if since != Monotonic::NEVER {
            self.away.remove(&(since, key));
        }
    }

    /// A PUBLISH of the connection that has the session. `None`: the session has ended.
    #[inline]
    pub fn publish<'a>(&'a mut self, key: SessionKey, publish: &Publish<'a>, now: Monotonic) -> Option<Taken<'a>> {
        let session = self.sessions.get_mut(key)?;
        if session.rests == Monotonic::NEVER {
            session.rests = now.after(REST_EVERY);
            self.timers.insert((session.rests, Task::Rest, key));
        }
        Some(session.publish(publish, (&mut self.bytes, self.bytes_max)))
    }

    /// Ends a session on an operator's request: at once if it has no connection; else when this connection ends.
    pub fn forget(&mut self, key: SessionKey) -> Option<ConnId> {
        let session = self.sessions.get_mut(key)?;
        if session.conn.is_some() {
            session.expiry_s = 0;
            return session.conn;
        }
        // `remove` needs the interval, which gives the time of its timer.
        self.remove(key);
        None
    }

    /// The position of a session.
    #[must_use]
    pub fn position(&self, key: SessionKey) -> u32 {
        u32::try_from(key.slot()).unwrap_or(u32::MAX)
    }

    /// Positions from one on, each with its session, if there is one. A session keeps its position for its whole life. Positions
    /// before the first cost nothing.
    pub fn iter_from(&self, position: u32) -> impl Iterator<Item = (u32, Option<&Session>)> {
        let from = (position as usize).min(self.slots.len());
        (position..).zip(&self.slots[from..]).map(|(at, key)| (at, self.sessions.get(*key)))
    }

    /// Sessions that have ended because their client stayed away for longer than their expiry interval.
    #[must_use]
    pub const fn expired(&self) -> u64 {
        self.expired
    }

    /// Handles what is due: ends sessions, hands out wills, gives back memory.
    pub fn expire(&mut self, now: Monotonic) {
        for _ in 0..EXPIRED_AT_ONCE_MAX {
            let Some(&(at, task, key)) = self.timers.first().filter(|(at, ..)| *at <= now) else { return };
            self.timers.remove(&(at, task, key));
            let Some(session) = self.sessions.get_mut(key) else { continue };
            match task {
                Task::Will => self.will_is_due(key),
                Task::Expire => {
                    self.expired += 1;
                    self.remove(key);
                }
                Task::Leave => self.note_left(key, now),
                Task::Rest => {
                    session.rests = if session.inflight.rest() { now.after(REST_EVERY) } else { Monotonic::NEVER };
                    if session.rests != Monotonic::NEVER {
                        self.timers.insert((session.rests, Task::Rest, key));
                    } else if let Some(access) = &mut session.access {
                        access.rest();
                    }
                }
            }
        }
    }

    /// The time of the next call of [`Sessions::expire`]; `None`: nothing is scheduled.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Monotonic> {
        self.timers.first().map(|&(at, ..)| at)
    }

    /// Whether [`Sessions::next_will`] has one.
    #[must_use]
    pub fn has_due_wills(&self) -> bool {
        !self.wills.is_empty()
    }

    /// Whether there are wills that are due, with or without room.
    #[must_use]
    pub fn has_wills(&self) -> bool {
        self.has_due_wills() || !self.wills_waiting.is_empty()
    }

    /// The number of wills in [`Sessions::next_will`].
    #[must_use]
    pub fn wills_due(&self) -> usize {
        self.wills.len()
    }

    /// The next will to be published, in the order in which they fell due.
    pub fn next_will(&mut self) -> Option<DueWill> {
        self.wills.pop_front()
    }

    /// The next will of the client of this session.
    pub fn next_will_of(&mut self, key: SessionKey) -> Option<DueWill> {
        let client_id = &*self.sessions.get(key)?.client_id;
        let at = self.wills.iter().position(|due| *due.client_id == *client_id)?;
        self.wills.remove(at)
    }

    /// Keeps a will from [`Sessions::next_will`] that found no room. It counts in [`Sessions::bytes`] until it is offered again.
    pub fn keep_will(&mut self, due: DueWill) {
        self.bytes += due.bytes();
        self.wills_waiting.push_back(due);
    }

    /// Offers up to `count` of the wills that found no room again, as the next ones.
    pub fn offer_wills_again(&mut self, count: usize) {
        let count = count.min(self.wills_waiting.len());
        for due in self.wills_waiting.drain(..count).rev() {
            self.bytes -= due.bytes();
            self.wills.push_front(due);
        }
    }

    /// Wills that found no room.
    #[must_use]
    pub fn wills_waiting(&self) -> usize {
        self.wills_waiting.len()
    }

    /// Makes all wills of sessions without a connection due now, whatever their delay: the process ends before they would fall due.
    pub fn end_will_delays(&mut self) {
        for (_, key) in self.away.clone() {
            self.cancel(key, Task::Will);
            self.will_is_due(key);
        }
    }

    fn cancel(&mut self, key: SessionKey, task: Task) {
        let session = &self.sessions[key];
        let at = match task {
            Task::Will => session.will.as_ref().map_or(Monotonic::NEVER, |will| will.due),
            Task::Expire => session.expires(),
            Task::Rest => session.rests,
            Task::Leave => session.kept.as_ref().map_or(Monotonic::NEVER, |kept| kept.leaves),
        };
        if at != Monotonic::NEVER {
            self.timers.remove(&(at, task, key));
        }
    }
}
