//! Forebay as an MQTT client of another broker, the remote. Sans-I/O: bytes and `now` in, effects out.
//!
//! [`Client`] has one connection: it resolves, connects, sends CONNECT, and subscribes. After CONNACK messages and their answers
//! are not handled here, since both ends of MQTT treat them alike: a session takes them, and gives [`Client::packet`] the packets
//! that only a server sends. Promises of this module:
//!
//! - **Grants are kept.** Nothing is sent that CONNACK forbids: [`Granted`] says what the rest has to keep to.
//! - **One at a time.** SUBSCRIBE and UNSUBSCRIBE use the packet identifier [`PACKET_ID`], which no message has, and wait for their
//!   answer.
//! - **Silence ends.** A remote that sends nothing within a quarter of the keep-alive after PINGREQ is given up, unless it is not
//!   read.
//! - **The remote is not trusted.** Whatever it sends costs a bounded amount, and ends the connection if MQTT does not allow it.

#![forbid(unsafe_code)]

#[cfg(feature = "testing")]
pub mod any_remote;
mod asked;
mod connection;
mod granted;
mod login;
mod loops;
mod mapping;
mod pulse;
#[cfg(test)]
mod tests;
mod url;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::asked::{PACKET_ID, Standing, Wanted};
use self::connection::Connection;
pub use self::granted::{Granted, told};
pub use self::login::{Form, Greeted, Login, Refusal, Versions};
pub use self::loops::{Rounds, digits, is_looped, mark, way};
pub use self::mapping::{In, Out, Passed, Retained, Scratch, Unfit, taker};
pub use self::url::{Transport, Url};
use forebay_guard::outward::{self, Channel, Ended, Endpoint, LinkId, LoginRefused, News, Shared, jittered};
use forebay_guard::secure::Outgoing;
use forebay_mqtt::malformed::Malformed;
use forebay_mqtt::packet::{Disconnect, Packet};
use forebay_mqtt::reason::ReasonCode;
use forebay_runtime::seam::Monotonic;

/// `Effect` is something that the client wants done.
pub type Effect = outward::Effect<Event>;

/// `Settings` of a client.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The settings of the connection.
    pub outward: outward::Settings,
    /// The remote.
    pub endpoint: Endpoint,
    /// The contents of CONNECT.
    pub login: Login,
    /// The filters to subscribe to, all different.
    pub wanted: Vec<Wanted>,
    /// Filters that the remote's session may have from earlier, and that are unsubscribed.
    pub gone: Vec<Box<str>>,
}

impl Settings {
    /// The settings of a client that tries the remote again after `backoff`, and after longer delays up to `backoff_max`, which
    /// also follows a refusal.
    #[must_use]
    pub fn new(
        endpoint: Endpoint,
        (connect_timeout, backoff, backoff_max): (Duration, Duration, Duration),
        tls: Option<Arc<Outgoing>>,
        (login, wanted): (Login, Vec<Wanted>),
    ) -> Self {
        let outward = outward::Settings {
            connect_timeout,
            backoff_min: backoff,
            backoff_max,
            refused_backoff_max: backoff_max,
            tls,
        };
        Self { outward, endpoint, login, wanted, gone: Vec::new() }
    }
}

impl AsRef<outward::Settings> for Settings {
    fn as_ref(&self) -> &outward::Settings {
        &self.outward
    }
}

/// `Event` is a report to the user of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The remote has accepted the client: messages go both ways over this connection, until [`Event::Lost`].
    Connected(LinkId, Box<Granted>),
    /// The remote has answered for all filters; the answers are in the order of the settings.
    Subscribed(Vec<Standing>),
    /// A connection over which messages went has ended, and why.
    Lost(LinkId, String),
    /// The first of a row of failures to connect to the remote (`host:port`), and why. Refused logins and failed TLS are news.
    Unreachable(String, String),
    /// News of the connection.
    Outward(News),
}

impl From<News> for Event {
    fn from(news: News) -> Self {
        Self::Outward(news)
    }
}

/// `Ending` is why a packet of the remote ends the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The packet is invalid: the remote gets the reason in DISCONNECT.
    Violation(Malformed),
    /// The remote has sent DISCONNECT.
    Left(Refusal),
}

/// `Trouble` is why a client has no connection, or has had none for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The time at which the trouble was noticed.
    pub at: Monotonic,
    /// The reason, in words.
    pub why: String,
    /// The step that has failed.
    pub what: Failed,
}

/// `Failed` is the step that a trouble has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// A connection over which messages went.
    Open,
    /// An attempt to connect.
    Attempt,
    /// The login, or TLS: a person has to change something.
    Login,
}

/// `Client` is one bridge's connection to its remote.
#[derive(Debug)]
pub struct Client {
    shared: Shared<Connection>,
    channel: Channel<Connection>,
    /// The form of CONNECT that is tried next, counted from the first.
    form: usize,
    /// Whether the remote is asked to discard the client's session, once.
    begins_anew: bool,
    started: bool,
    trouble: Option<Trouble>,
}

impl Client {
    /// A client that does nothing before [`Client::start`]. `seed`: of its jitter.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        let channel = Channel::new((), settings.endpoint.clone());
        Self {
            shared: Shared::new(settings, seed),
            channel,
            form: 0,
            begins_anew: false,
            started: false,
            trouble: None,
        }
    }

    /// Begins to connect.
    pub fn start(&mut self, now: Monotonic) {
        self.started = true;
        self.dial(now);
    }

    /// Ends the connection, if there is one, and makes no further one before [`Client::start`].
    pub fn stop(&mut self, now: Monotonic) {
        self.started = false;
        self.let_go("stopped", now);
    }

    /// Makes the next CONNECT ask the remote to discard the client's session, which may be another client's.
    pub fn begin_anew(&mut self) {
        self.begins_anew = true;
    }

    /// Asks for these filters from now on; there must have been none before.
    pub fn wants(&mut self, wanted: Vec<Wanted>, now: Monotonic) {
        self.shared.settings.wanted = wanted;
        if let Some(connection) = self.channel.ready() {
            connection.asks_anew(&self.shared.settings);
            self.work(now);
        }
    }

    /// Counts of its connections so far.
    #[must_use]
    pub fn stats(&self) -> outward::Stats {
        self.shared.stats
    }

    /// The remote's grants, and its answers for the filters, while there is a connection that carries messages.
    #[must_use]
    pub fn standing(&self) -> Option<(&Granted, &[Standing])> {
        self.channel.ready_ref().and_then(Connection::standing)
    }

    /// The filters with their answers, in the order of the settings.
    pub fn filters(&self) -> impl Iterator<Item = (&Wanted, Standing)> {
        let standings = self.standing().map(|(_, standings)| standings).unwrap_or_default();
        let standing = |at: usize| standings.get(at).copied().unwrap_or(Standing::Open);
        self.shared.settings.wanted.iter().enumerate().map(move |(at, wanted)| (wanted, standing(at)))
    }

    /// The last trouble, even if it has ended.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Takes the result of resolving the remote's name.
    pub fn on_resolved(&mut self, ticket: u64, found: Result<Vec<SocketAddr>, String>, now: Monotonic) {
        if self.shared.take_ticket(ticket).is_some()
            && let Err(why) = self.channel.resolved(ticket, found, &mut self.shared, now)
        {
            self.fail(&why, now);
        }
    }

    /// Takes an established connection, with its layer ready if it has one: CONNECT goes out.
    pub fn on_connected(&mut self, link: LinkId) {
        let Some(connection) = self.channel.connected(link) else { return };
        let login = &self.shared.settings.login;
        let mut packet = Vec::new();
        login.write(login.form(self.form, self.begins_anew), &mut packet);
        connection.send(packet, &mut self.shared.effects);
    }

    /// Takes bytes of the remote until CONNACK is complete. Returns the number taken: the others are messages and answers, for the
    /// user of the client, from [`Event::Connected`] on.
    pub fn on_bytes(&mut self, link: LinkId, bytes: &[u8], now: Monotonic) -> usize {
        if self.shared.owner(link).is_none() {
            return bytes.len();
        }
        if self.channel.ready().is_some() {
            return 0;
        }
        let Some(connection) = self.channel.connection() else { return bytes.len() };
        let login = &self.shared.settings.login;
        let (greeted, used) = match connection.greeting(login, login.form(self.form, self.begins_anew), bytes) {
            Ok(Some(greeted)) => greeted,
            Ok(None) => return bytes.len(),
            Err(malformed) => {
                self.shared.stats.malformed += 1;
                self.fail(&malformed.to_string(), now);
                return bytes.len();
            }
        };
        self.greeted(link, greeted, now);
        used
    }

    fn greeted(&mut self, link: LinkId, greeted: Greeted, now: Monotonic) {
        match greeted {
            Greeted::Yes(granted) => {
                if let Some(connection) = self.channel.connection() {
                    connection.open((*granted).clone(), &self.shared.settings, now);
                }
                (self.begins_anew, self.shared.stats.logins) = (false, self.shared.stats.logins + 1);
                self.channel.established(&mut self.shared);
                let endpoint = &self.channel.endpoint;
                self.shared.trouble_over(|trouble| trouble == endpoint);
                self.shared.event(Event::Connected(link, granted));
                self.work(now);
            }
            Greeted::OtherVersion(refusal) => {
                self.form += 1;
                if self.shared.settings.login.has_form(self.form) {
                    // The remote responds: the next form is tried without a wait.
                    self.let_go("another version is tried", now);
                    self.dial(now);
                } else {
                    self.form = 0;
                    self.refused(&refusal, now);
                }
            }
            Greeted::No(refusal) => self.refused(&refusal, now),
        }
    }

    /// Takes a packet that only a server sends, other than PUBLISH and its answers.
    ///
    /// # Errors
    /// The connection has to end: [`Client::ended`] follows.
    pub fn packet(&mut self, packet: &Packet<'_>, now: Monotonic) -> Result<(), Ending> {
        let Some(connection) = self.channel.ready() else { return Ok(()) };
        if let Packet::Disconnect(disconnect) = packet {
            return Err(Ending::Left(left(disconnect)));
        }
        connection.packet(packet).map_err(Ending::Violation)?;
        self.work(now);
        Ok(())
    }

    /// Notes that bytes have arrived on the connection.
    pub fn heard(&mut self) {
        if let Some(connection) = self.channel.ready() {
            connection.pulse.heard();
        }
    }

    /// Notes whether the connection is read: an answer to PINGREQ cannot arrive while it is not.
    pub fn is_read(&mut self, is_read: bool) {
        if let Some(connection) = self.channel.ready() {
            connection.pulse.is_read(is_read);
        }
    }

    /// Takes the end of a connection, or a failure to make one.
    pub fn on_closed(&mut self, link: LinkId, why: &Ended, now: Monotonic) {
        if self.shared.take_link(link).is_none() {
            return;
        }
        if let Ended::Tls(why) = why {
            self.channel.tls_failed(why, &mut self.shared);
        }
        if !self.channel.next_address(&mut self.shared, now) {
            self.fail(&why.to_string(), now);
        }
        if let (Ended::Tls(_), Some(trouble)) = (why, &mut self.trouble) {
            trouble.what = Failed::Login;
        }
    }

    /// Takes the end of a connection over which messages went, and which is being closed elsewhere.
    pub fn ended(&mut self, link: LinkId, why: &Ending, now: Monotonic) {
        if self.shared.take_link(link).is_none() {
            return;
        }
        match why {
            Ending::Violation(malformed) => {
                self.shared.stats.malformed += 1;
                self.fail(&malformed.to_string(), now);
            }
            Ending::Left(refusal) => self.refused(refusal, now),
        }
    }

    /// Does everything that is due; cheap when nothing is. `unacked`: the number of bytes given to a connection that its peer's
    /// kernel does not have yet.
    pub fn on_time(&mut self, unacked: impl Fn(LinkId) -> usize, now: Monotonic) {
        if self.next_deadline() > now {
            return;
        }
        self.work(now);
        if self.channel.deadline() <= now && self.channel.is_silent(unacked, &mut self.shared, now) {
            let why = self.channel.overdue();
            if !self.channel.next_address(&mut self.shared, now) {
                self.fail(why, now);
            }
        }
        self.dial(now);
    }

    /// The next deadline of [`Client::on_time`].
    #[must_use]
    pub fn next_deadline(&self) -> Monotonic {
        if self.started { self.channel.dial_at().min(self.channel.deadline()) } else { Monotonic::NEVER }
    }

    /// Moves the effects to the end of `into`, in order.
    pub fn take_effects(&mut self, into: &mut Vec<Effect>) {
        into.append(&mut self.shared.effects);
    }

    fn dial(&mut self, now: Monotonic) {
        if self.started && self.channel.dial_at() <= now {
            self.channel.dial(&mut self.shared, now);
        }
    }

    /// Sends what is due: PINGREQ, SUBSCRIBE, UNSUBSCRIBE.
    fn work(&mut self, now: Monotonic) {
        let Some(connection) = self.channel.ready() else { return };
        let Shared { settings, effects, rng, .. } = &mut self.shared;
        let standings = connection.work(settings, (effects, rng), now);
        if let Some(standings) = standings {
            self.shared.event(Event::Subscribed(standings));
        }
    }

    /// Handles a refusal by the remote, with its reason.
    fn refused(&mut self, refusal: &Refusal, now: Monotonic) {
        if !refusal.is_lasting() {
            return self.fail(&refusal.to_string(), now);
        }
        let user = self.shared.settings.login.username.as_deref().unwrap_or_default().to_owned();
        let (broker, code) = (self.channel.endpoint.to_string(), Some(i16::from(refusal.reason.0)));
        let told = LoginRefused { broker, user, mechanism: "CONNECT", code, reason: refusal.to_string() };
        self.channel.login_refused(told, &mut self.shared);
        let wait = jittered(self.shared.settings.outward.refused_backoff_max, &mut self.shared.rng);
        self.trouble = Some(Trouble { at: now, why: refusal.to_string(), what: Failed::Login });
        self.let_go(&refusal.to_string(), now.after(wait));
        self.shared.tell_unreachable();
    }

    /// Gives up the connection, or the attempt to make one, and waits longer than the last time, unless the connection has lasted
    /// for a while.
    fn fail(&mut self, why: &str, now: Monotonic) {
        tracing::debug!(remote = %self.channel.endpoint, "connection of a bridge failed: {why}");
        self.shared.stats.failures += 1;
        let is_open = self.channel.ready_ref().is_some();
        let what = if is_open { Failed::Open } else { Failed::Attempt };
        self.trouble = Some(Trouble { at: now, why: why.to_owned(), what });
        let has_stood =
            |connection: &Connection| now.since(connection.opened) >= self.shared.settings.outward.backoff_max;
        if self.channel.ready_ref().is_some_and(has_stood) {
            self.channel.works(&mut self.shared);
        }
        let endpoint = self.channel.endpoint.clone();
        // The loss of an open connection is reported by `tell_lost`.
        if !is_open && self.channel.refused.is_none() && self.shared.is_new_trouble(&endpoint) {
            self.shared.event(Event::Unreachable(endpoint.to_string(), why.to_owned()));
        }
        self.tell_lost(why);
        self.channel.fail(&mut self.shared, now);
        self.shared.tell_unreachable();
    }

    /// Closes the connection like [`Client::fail`], but without a failure; the next attempt is made at `until`.
    fn let_go(&mut self, why: &str, until: Monotonic) {
        self.tell_lost(why);
        self.channel.down(until, &mut self.shared);
    }

    /// Reports the loss before the connection is closed, so that its holder lets go of it.
    fn tell_lost(&mut self, why: &str) {
        if let Some(connection) = self.channel.ready_ref() {
            let event = Event::Lost(connection.link, why.to_owned());
            self.shared.event(event);
        }
    }
}

/// A server's DISCONNECT as a refusal.
fn left(disconnect: &Disconnect<'_>) -> Refusal {
    let reason = match disconnect.reason {
        ReasonCode::NORMAL_DISCONNECTION => ReasonCode::UNSPECIFIED_ERROR,
        reason => reason,
    };
    Refusal::new(reason, disconnect.properties)
}
