//! Logins by SASL (KIP-43, KIP-152), renewed before the session expires (KIP-368). The exchange itself is [`forebay_guard::secure::sasl`]'s;
//! SaslHandshake and SaslAuthenticate carry it.
//!
//! A login is a step of opening a connection, between ApiVersions and the first request. A renewal waits until the requests in flight are
//! answered, then takes place on the same connection, and only new requests wait for it: nothing fails and nothing is reordered.

use std::sync::Arc;
use std::time::Duration;

use super::settings::Settings;
use super::wire::{Read, Reader};
use super::{Client, Effect, Owner};
use forebay_guard::outward::{LoginRefused, Refused};
use forebay_guard::secure::Outgoing;
use forebay_guard::secure::sasl::{Credentials, Exchange, Next, Prepared};
use forebay_runtime::seam::Monotonic;

/// UNSUPPORTED_SASL_MECHANISM.
const UNSUPPORTED_MECHANISM: i16 = 33;
/// ILLEGAL_SASL_STATE.
const ILLEGAL_STATE: i16 = 34;
/// SASL_AUTHENTICATION_FAILED.
const AUTHENTICATION_FAILED: i16 = 58;

/// The fraction of its life after which a login is renewed, plus a random part of [`RENEW_SPREAD`].
const RENEW_FROM: f64 = 0.85;
const RENEW_SPREAD: f64 = 0.1;
/// The minimum time between two logins: brokers refuse more frequent ones (KIP-368).
const RENEW_MIN: Duration = Duration::from_secs(1);
/// Time within which all connections with withdrawn credentials are replaced.
const WITHDRAW: Duration = Duration::from_secs(60);
/// Maximum bytes of a broker's error text that are reported.
const REASON_BYTES_MAX: usize = 256;

/// The content of an answer to SaslAuthenticate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authenticated {
    error: i16,
    why: String,
    message: Vec<u8>,
    lifetime_ms: i64,
}

/// The way to renew a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Renewal {
    /// The login is renewed on the same connection.
    #[default]
    LogIn,
    /// A new connection replaces this one: the credentials have changed.
    Replace,
}

/// The state of a connection's login.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) login: Option<Box<Login>>,
    /// The TLS that the connection was made with.
    tls: Option<Arc<Outgoing>>,
    /// The credentials of the login.
    credentials: Option<Arc<Credentials>>,
    /// The time at which the login needs renewal, and the way.
    renewal: Option<(Monotonic, Renewal)>,
    /// Whether the renewal is due: nothing more is sent before it.
    is_due: bool,
}

/// A login in progress.
#[derive(Debug)]
pub(super) struct Login {
    exchange: Exchange,
    /// The ticket of a task that the login waits for, and its deadline.
    awaits: Option<(u64, Monotonic)>,
}

impl Standing {
    /// A connection over this TLS that is not logged in.
    pub(super) fn over(tls: Option<Arc<Outgoing>>) -> Self {
        Self { tls, ..Self::default() }
    }

    /// Whether requests wait for a login.
    pub(super) fn holds_requests(&self) -> bool {
        self.is_due || self.login.is_some()
    }

    /// The deadline of the login's task.
    pub(super) fn deadline(&self) -> Monotonic {
        self.login.as_ref().and_then(|login| login.awaits).map_or(Monotonic::NEVER, |(_, deadline)| deadline)
    }

    /// The time at which [`Client::renew`] has work, with `in_flight` requests in flight.
    pub(super) fn renew_at(&self, in_flight: usize, throttled_until: Monotonic) -> Monotonic {
        match self.renewal {
            Some((at, _)) if self.login.is_none() && !self.is_due => at,
            Some(_) if self.login.is_none() && in_flight == 0 => throttled_until,
            _ => Monotonic::NEVER,
        }
    }

    /// The renewal that is due now.
    fn due(&mut self, in_flight: usize, throttled_until: Monotonic, now: Monotonic) -> Option<Renewal> {
        let (at, renewal) = self.renewal.filter(|_| self.login.is_none())?;
        self.is_due |= at <= now;
        (self.is_due && in_flight == 0 && throttled_until <= now).then_some(renewal)
    }

    /// Schedules the replacement of an established connection if its credentials or certificates differ from the settings.
    pub(super) fn withdraw(&mut self, wanted: &Settings, rng: &mut fastrand::Rng, now: Monotonic) {
        let is_other = self.credentials != wanted.sasl || self.tls != wanted.outward.tls;
        if self.login.is_none() && is_other {
            self.renewal = Some((now.after(WITHDRAW.mul_f64(rng.f64())), Renewal::Replace));
        }
    }

    /// Notes a login that lasts for `lifetime_ms`; 0: without end.
    fn logged_in(&mut self, lifetime_ms: i64, rng: &mut fastrand::Rng, now: Monotonic) {
        self.credentials = self.login.take().map(|login| Arc::clone(login.exchange.credentials()));
        self.is_due = false;
        let lifetime = Duration::from_millis(u64::try_from(lifetime_ms).unwrap_or(0));
        self.renewal = (!lifetime.is_zero()).then(|| {
            let part = RENEW_FROM + RENEW_SPREAD * rng.f64();
            // The fraction is applied to at most a year: longer lives need none.
            let life = lifetime.min(Duration::from_secs(365 * 24 * 3600)).mul_f64(part);
            (now.after(life.max(RENEW_MIN)), Renewal::LogIn)
        });
    }
}

impl Client {
    /// Logs in if the settings require it: after the versions are settled, or when a login needs renewal.
    ///
    /// # Errors
    /// The broker does not support SASL.
    pub(super) fn log_in(&mut self, owner: Owner, now: Monotonic) -> Result<(), String> {
        let Some((channel, shared)) = self.channel(owner) else { return Ok(()) };
        let Some(credentials) = shared.settings.sasl.clone() else {
            return self.introduce(owner, now);
        };
        let is_refused = channel.refused == Some(Refused::Login);
        let Some(connection) = channel.connection() else { return Ok(()) };
        let mechanism = credentials.mechanism.name();
        let exchange = Exchange::again(credentials, is_refused);
        connection.standing.login = Some(Box::new(Login { exchange, awaits: None }));
        connection.ask_handshake(mechanism, shared, now)
    }

    /// Takes the broker's answer to the choice of the mechanism.
    pub(super) fn on_handshake(&mut self, owner: Owner, error: i16, mechanisms: &str, now: Monotonic) {
        if error != 0 {
            return self.refused(owner, Some(error), &handshake_refused(error, mechanisms), now);
        }
        self.exchange(owner, now, Exchange::begin);
    }

    /// Takes the broker's answer to the last message: it continues, or refuses the login.
    pub(super) fn on_authenticated(&mut self, owner: Owner, answer: Authenticated, now: Monotonic) {
        let Authenticated { error, why, message, lifetime_ms } = answer;
        if error != 0 {
            let of_token = self.login(owner).and_then(|login| login.exchange.refusal());
            let why = authentication_refused(error, &why, of_token);
            return self.refused(owner, Some(error), &why, now);
        }
        let is_done = self.exchange(owner, now, |exchange| exchange.answered(&message));
        let Some((channel, shared)) = self.channel(owner).filter(|_| is_done) else { return };
        channel.refused = None;
        shared.stats.logins += 1;
        if let Some(connection) = channel.connection() {
            connection.standing.logged_in(lifetime_ms, &mut shared.rng, now);
        }
        if let Some(connection) = channel.ready() {
            connection.standing.withdraw(&shared.settings, &mut shared.rng, now);
        }
        if let Err(why) = self.introduce(owner, now) {
            self.fail(owner, &why, now);
        }
    }

    /// Takes the result of a task that a login waits for.
    pub(super) fn login_prepared(
        &mut self,
        owner: Owner,
        ticket: u64,
        result: Result<Prepared, String>,
        now: Monotonic,
    ) {
        let Some(login) = self.login(owner).filter(|login| login.awaits.is_some_and(|(of, _)| of == ticket)) else {
            return;
        };
        login.awaits = None;
        self.exchange(owner, now, |exchange| exchange.prepared(result));
    }

    /// Takes a step of the exchange. Returns whether that was the last one.
    fn exchange(
        &mut self,
        owner: Owner,
        now: Monotonic,
        step: impl FnOnce(&mut Exchange) -> Result<Next, String>,
    ) -> bool {
        let Some(login) = self.login(owner) else { return false };
        let next = step(&mut login.exchange);
        let Some((channel, shared)) = self.channel(owner) else { return false };
        let Some(connection) = channel.connection() else { return false };
        match next {
            Ok(Next::Done) => return true,
            Ok(Next::Send(message)) => {
                if let Err(why) = connection.ask_authenticate(message, shared, now) {
                    self.fail(owner, &why, now);
                }
            }
            Ok(Next::Prepare(task)) => {
                let deadline = now.after(shared.settings.outward.connect_timeout);
                let awaits = Some((shared.ask(owner, |ticket| Effect::Prepare { ticket, task }), deadline));
                if let Some(login) = &mut connection.standing.login {
                    login.awaits = awaits;
                }
            }
            Err(why) => self.refused(owner, None, &why, now),
        }
        false
    }

    fn login(&mut self, owner: Owner) -> Option<&mut Login> {
        let (channel, _) = self.channel(owner)?;
        channel.connection()?.standing.login.as_deref_mut()
    }

    /// Ends a refused login: drops its connection, and retries with growing backoff.
    fn refused(&mut self, owner: Owner, code: Option<i16>, why: &str, now: Monotonic) {
        let Some((channel, shared)) = self.channel(owner) else { return };
        let credentials = channel.connection().and_then(|connection| connection.standing.login.take());
        let Some(credentials) = credentials.map(|login| Arc::clone(login.exchange.credentials())) else { return };
        let (user, mechanism) = (credentials.user.clone(), credentials.mechanism.name());
        let why = format!("login by {mechanism} was refused: {why}");
        let (broker, reason) = (channel.endpoint.to_string(), why.clone());
        channel.login_refused(LoginRefused { broker, user, mechanism, code, reason }, shared);
        self.fail(owner, &why, now);
    }

    /// Renews the login of a connection, or replaces it, if that is due and its requests are answered.
    pub(super) fn renew(&mut self, owner: Owner, now: Monotonic) {
        let Some((channel, shared)) = self.channel(owner) else { return };
        let Some(connection) = channel.ready() else { return };
        let (in_flight, throttled_until) = (connection.in_flight(), connection.throttled_until);
        match connection.standing.due(in_flight, throttled_until, now) {
            None => {}
            Some(Renewal::LogIn) => {
                if let Err(why) = self.log_in(owner, now) {
                    self.fail(owner, &why, now);
                }
            }
            // Nothing has failed: the next connection is opened at once, if it is needed.
            Some(Renewal::Replace) => drop(channel.down(now, shared)),
        }
    }

    /// Replaces connections with old credentials or certificates one by one, after these have changed.
    pub(super) fn withdraw_logins(&mut self, now: Monotonic) {
        for owner in self.owners() {
            let Some((channel, shared)) = self.channel(owner) else { continue };
            if let Some(connection) = channel.ready() {
                connection.standing.withdraw(&shared.settings, &mut shared.rng, now);
            }
        }
    }
}

/// The reason for an error of SaslHandshake, in words; `mechanisms` are those that the broker supports.
#[must_use]
pub fn handshake_refused(error: i16, mechanisms: &str) -> String {
    match error {
        UNSUPPORTED_MECHANISM => format!("the broker does not take it on this listener, only {mechanisms} (error 33)"),
        ILLEGAL_STATE => "this listener of the broker does not use SASL (error 34)".to_owned(),
        other => format!("SaslHandshake was answered with error {other}"),
    }
}

/// The reason for an error of SaslAuthenticate: the broker's words, and those about a token.
#[must_use]
pub fn authentication_refused(error: i16, why: &str, of_token: Option<&str>) -> String {
    let why = match (why, error) {
        ("", AUTHENTICATION_FAILED) => "authentication failed",
        ("", _) => "no reason given",
        (why, _) => why,
    };
    let why = told(why.as_bytes());
    match of_token {
        Some(said) => format!("{why}: {} (error {error})", told(said.as_bytes())),
        None => format!("{why} (error {error})"),
    }
}

/// Reads the answer to SaslHandshake 1: the error code, and the mechanisms that the broker supports.
///
/// # Errors
/// [`super::wire::Malformed`].
pub(super) fn read_handshake(reader: &mut Reader<'_>) -> Read<(i16, String)> {
    let error = reader.i16()?;
    let mut mechanisms = String::new();
    for _ in 0..reader.array(2)? {
        let name = told(reader.string()?);
        mechanisms.push_str(if mechanisms.is_empty() { "" } else { ", " });
        mechanisms.push_str(&name);
    }
    reader.end();
    Ok((error, told(mechanisms.as_bytes())))
}

/// Reads the answer to SaslAuthenticate.
///
/// # Errors
/// [`super::wire::Malformed`].
pub(super) fn read_authenticate(reader: &mut Reader<'_>, version: i16) -> Read<Authenticated> {
    let error = reader.i16()?;
    let why = told(reader.nullable_string()?.unwrap_or_default());
    let message = reader.nullable_bytes()?.unwrap_or_default().to_vec();
    let lifetime_ms = if version >= 1 { reader.i64()? } else { 0 };
    reader.tags()?;
    reader.end();
    Ok(Authenticated { error, why, message, lifetime_ms })
}

/// The broker's error text, made safe for a log: bounded, without control characters.
fn told(words: &[u8]) -> String {
    let words = &words[..words.len().min(REASON_BYTES_MAX)];
    String::from_utf8_lossy(words).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
