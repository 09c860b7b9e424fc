//! A kept session as bytes, which survive a crash: the results of its client's last CONNECT.
//!
//! Format 1: `1`, Session Expiry Interval u32, Will Delay Interval u32 (both in seconds, big-endian), then a CONNECT packet in the
//! client's version of the protocol with client id, user name and will, and nothing else. So the one reader of foreign CONNECTs
//! reads these too. Format 2, of a client with an auth: `2`, the length of the name of its `auth` u8 and the name, then the
//! contents of format 1; the user name is its identity. Format 3, with subscriptions: `3`, then the contents of format 2 (length 0:
//! no owner), and after the CONNECT their number u16 and each subscription: Subscription Identifier u32 (0: none), filter with its
//! length u16, options u8, the last two as in SUBSCRIBE. The session of a bridge has the owner `$bridges`, which is no name of an
//! `auth`. Format 4, of a client that is away: `4`, then the contents of format 3, with any number of subscriptions, and after them when the client left
//! i64 (wall clock, ms). Only `[broker]` writes it.
//!
//! A session that ends with its connection is written if it has a will, with an expiry interval of 0 and without subscriptions: a process that finds it publishes
//! the will.
//!
//! Formats 1 to 3 contain no time of day. A restart counts as a disconnect, so a session has its whole interval again, and a will its
//! whole delay: never less than remained, whatever the wall clock has done in the meantime. Slots of `[broker]` move more often than processes restart, so
//! a record there gets the time of leaving once the client has been away for a tenth of the interval.

use super::state::Session;
use super::subscriptions::Subscription;
use forebay_mqtt::packet::{Connect, SubscriptionOptions};
use forebay_mqtt::property::Properties;
use forebay_mqtt::{decode, encode, frame, topic};
use forebay_runtime::seam::WallMs;

/// The formats: without an owner, with one, with subscriptions, and with the time of leaving.
const FORMAT: u8 = 1;
const FORMAT_OWNED: u8 = 2;
const FORMAT_SUBSCRIBED: u8 = 3;
const FORMAT_LEFT: u8 = 4;

/// Bytes before the CONNECT, the name of an `auth` aside.
const HEAD_BYTES: usize = 10;

/// Bytes of a session's payload beyond its client id, user name and will, at most.
const FRAME_BYTES: usize = HEAD_BYTES + 50;

/// The reason why bytes are no kept session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASession {
    /// Another program has written the bytes.
    #[error("a kept session of format {0}, which this program does not know")]
    Format(u8),
    /// The bytes are damaged.
    #[error("a kept session that is damaged")]
    Damaged,
    /// The session ends with its connection and has no will: nothing is left of it. Builds of before 2026-11-26 wrote such sessions.
    #[error("a session that has ended")]
    Over,
}

/// Whether sessions are written with this first byte.
#[must_use]
pub const fn is_format(byte: u8) -> bool {
    matches!(byte, FORMAT..=FORMAT_LEFT)
}

/// The contents of a kept session's record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Saved<'a> {
    /// The auth that admitted the client, if there was one.
    pub(super) auth: Option<&'a str>,
    pub(super) expiry_s: u32,
    pub(super) will_delay_s: u32,
    /// Client id, user name and will; the rest is of no meaning.
    pub(super) connect: Connect<'a>,
    pub(super) subscriptions: Vec<Subscription>,
    /// When the client left, if the record says so.
    pub(super) left: Option<WallMs>,
}

impl<'a> Saved<'a> {
    /// Appends the encoding.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let owner = self.auth.and_then(|auth| Some((auth, u8::try_from(auth.len()).ok()?)));
        match owner {
            None if self.subscriptions.is_empty() && self.left.is_none() => out.push(FORMAT),
            owner => {
                let (auth, len) = owner.unwrap_or_default();
                let format = match self.left {
                    Some(_) => FORMAT_LEFT,
                    None if self.subscriptions.is_empty() => FORMAT_OWNED,
                    None => FORMAT_SUBSCRIBED,
                };
                out.extend_from_slice(&[format, len]);
                out.extend_from_slice(auth.as_bytes());
            }
        }
        out.extend_from_slice(&self.expiry_s.to_be_bytes());
        out.extend_from_slice(&self.will_delay_s.to_be_bytes());
        let start = out.len();
        let encoded = encode::connect(&self.connect, out);
        debug_assert!(encoded.is_ok() && out.len() > start, "what came in a CONNECT fits into one");
        if !self.subscriptions.is_empty() || self.left.is_some() {
            out.extend_from_slice(&u16::try_from(self.subscriptions.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
        for Subscription { filter, options, identifier } in &self.subscriptions {
            out.extend_from_slice(&identifier.to_be_bytes());
            // The filter arrived with a length of this size.
            out.extend_from_slice(&u16::try_from(filter.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(filter.as_bytes());
            out.push(options.to_byte());
        }
        out.extend(self.left.iter().flat_map(|left| left.0.to_be_bytes()));
    }

    /// Decodes all of the bytes.
    ///
    /// # Errors
    /// [`NotASession`].
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, NotASession> {
        use NotASession::{Damaged, Format, Over};
        let (&format, rest) = bytes.split_first().ok_or(Damaged)?;
        let (auth, rest) = match format {
            FORMAT => (None, rest),
            FORMAT_OWNED | FORMAT_SUBSCRIBED | FORMAT_LEFT => {
                let (&len, rest) = rest.split_first().ok_or(Damaged)?;
                let (auth, rest) = rest.split_at_checked(len.into()).ok_or(Damaged)?;
                let auth = std::str::from_utf8(auth).map_err(|_| Damaged)?;
                (Some(auth).filter(|_| len > 0 || format == FORMAT_OWNED), rest)
            }
            _ => return Err(Format(format)),
        };
        let (expiry_s, rest) = rest.split_first_chunk().ok_or(Damaged)?;
        let (will_delay_s, packet) = rest.split_first_chunk().ok_or(Damaged)?;
        let frame = frame::next_connect(packet, u32::MAX).ok().flatten().ok_or(Damaged)?;
        let rest = &packet[frame.len..];
        let (rest, left) = match format {
            FORMAT_LEFT => {
                let (rest, left) = rest.split_last_chunk().ok_or(Damaged)?;
                (rest, Some(WallMs(i64::from_be_bytes(*left))))
            }
            _ => (rest, None),
        };
        let subscriptions = match format {
            FORMAT_SUBSCRIBED | FORMAT_LEFT => subscriptions(rest).ok_or(Damaged)?,
            _ if rest.is_empty() => Vec::new(),
            _ => return Err(Damaged),
        };
        let connect = decode::connect(frame).map_err(|_| Damaged)?;
        let (expiry_s, will_delay_s) = (u32::from_be_bytes(*expiry_s), u32::from_be_bytes(*will_delay_s));
        if connect.client_id.is_empty() {
            return Err(Damaged);
        }
        if expiry_s == 0 && connect.will.is_none() {
            return Err(Over);
        }
        Ok(Self { auth, expiry_s, will_delay_s, connect, subscriptions, left })
    }
}

/// Reads subscriptions and their number, and nothing after them.
fn subscriptions(bytes: &[u8]) -> Option<Vec<Subscription>> {
    let mut all = Vec::new();
    let (count, mut bytes) = bytes.split_first_chunk()?;
    for _ in 0..u16::from_be_bytes(*count) {
        let (identifier, rest) = bytes.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (filter, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        let filter = std::str::from_utf8(filter).ok().filter(|filter| topic::valid_filter(filter))?;
        let (&options, rest) = rest.split_first()?;
        let options = SubscriptionOptions::from_byte(options)?;
        all.push(Subscription { filter: filter.into(), options, identifier: u32::from_be_bytes(*identifier) });
        bytes = rest;
    }
    bytes.is_empty().then_some(all)
}

/// The client id of a kept session's payload, for finding its shard again.
///
/// # Errors
/// [`NotASession`].
pub fn client_id(payload: &[u8]) -> Result<&str, NotASession> {
    Saved::decode(payload).map(|saved| saved.connect.client_id)
}

/// The most bytes that the record of a session takes that holds `held` bytes ([`Session::bytes`]).
pub(super) const fn bytes_max(held: usize) -> usize {
    FRAME_BYTES + held
}

impl Session {
    /// Appends the part of the session that must survive a crash. `has`: whether a subscription to this filter must.
    pub(super) fn save(&self, has: impl Fn(&str) -> bool, out: &mut Vec<u8>) {
        let will = self.will.as_deref();
        let connect = Connect {
            version: self.terms.version,
            is_bridge: false,
            clean_start: false,
            keep_alive_s: 0,
            client_id: &self.client_id,
            will: will.map(super::will::Will::as_sent),
            username: self.username.as_deref(),
            password: None,
            properties: Properties::EMPTY,
        };
        let auth = self.client().auth;
        let will_delay_s = will.map_or(0, |will| will.delay_s);
        let subscriptions = self.subscriptions().iter().filter(|of| has(&of.filter)).cloned().collect();
        let left = self.kept.as_ref().and_then(|kept| kept.left);
        Saved { auth, expiry_s: self.expiry_s, will_delay_s, connect, subscriptions, left }.encode(out);
    }
}
