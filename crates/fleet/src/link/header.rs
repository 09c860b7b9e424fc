//! The description of a client that an instance sends when it relays the client's connection to the owner of its slot, before the client's first byte: a
//! header of the PROXY protocol, version 2, with a field of Forebay's own. Bytes in, a header out; no socket.
//!
//! The field (type [`TYPE`]) is a version, and then fields of its own: a kind, a length of two bytes, and the value. One of a kind below
//! [`OPTIONAL`] that is not known refuses the header, as what it asks for would not be obeyed; others are passed over.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::fields::{self, Fields};
use forebay_base::limits::LINK_HEADER_BYTES_MAX;
use forebay_guard::auth::acl::Grants;
use forebay_guard::auth::{Admission, By, Policy};
use forebay_guard::secure::CertificateId;
use forebay_listener::proxy;

/// Type of the field: the first of those for applications (PROXY protocol, section 2.2.7).
const TYPE: u8 = 0xE0;
/// The version written. A later one changes the meaning of a field.
const VERSION: u8 = 1;
/// The first kind of fields that are passed over if they are not known.
const OPTIONAL: u8 = 0x80;
/// The kinds of the times for which the CONNECT has waited, and of the part of it in which the front stood still, in milliseconds, and of the last stamp, each
/// if it is not 0.
const WAITED: u8 = 0x81;
const STOOD_STILL: u8 = 0x82;
const STAMP: u8 = 0x83;
/// The kind of the name of the instance that the header is for.
const OWNER: u8 = 0x84;

/// Kinds of fields.
const FRONT: u8 = 1;
const GENERATION: u8 = 2;
const LISTENER: u8 = 3;
const AUTH: u8 = 4;
const BY: u8 = 5;
const IDENTITY: u8 = 6;
const CLIENT_ID: u8 = 7;
const EXPIRES: u8 = 8;
const GRANTS: u8 = 9;
const DATA: u8 = 10;
/// One more than the last kind.
const KINDS: usize = 11;

const MISSING: Malformed = Malformed("without a field that it must have");

/// Ways to be admitted.
const NOTHING: u8 = 0;
const LINE: u8 = 1;
const SCRAM: u8 = 2;
const CERTIFICATE: u8 = 3;
const TOKEN: u8 = 4;
const OPERATOR: u8 = 5;

/// The header of a relayed client's stream.
#[derive(Clone, Debug)]
pub struct Header {
    /// The client's address. `None`: it has connected by a Unix socket.
    pub source: Option<SocketAddr>,
    /// Name of the front.
    pub front: Box<str>,
    /// Generation of the table by which the front has chosen the owner.
    pub generation: i32,
    /// The address of the listener that has accepted the client, as in the front's configuration.
    pub listener: Box<str>,
    /// The longest time for which the client's CONNECT may have waited at the front.
    pub waited: Duration,
    /// The part of it in which the front stood still: when the CONNECT came then is not known.
    pub stood_still: Duration,
    /// The last stamp that the front had from the owner ([`crate::trunk::since_stamp`]): it bounds the time for which the header was on its way.
    pub stamp: Option<u32>,
    /// Name of the instance that the front means. Empty: the front is of a version that does not say.
    pub owner: Box<str>,
    /// The client's identity, if the listener requires one.
    pub client: Option<Client>,
}

/// A client that was admitted by an `[auth.NAME]`.
#[derive(Clone, Debug)]
pub struct Client {
    /// The name of the `[auth.NAME]`.
    pub auth: Box<str>,
    /// The method by which it was admitted.
    pub by: By,
    /// The client's identity. `None`: it is anonymous.
    pub identity: Option<Box<str>>,
    /// The only client identifier that it may use.
    pub client_id: Option<Box<str>>,
    /// The end of its access, in seconds since 1970.
    pub expires_s: Option<u64>,
    /// The grants in its token.
    pub grants: Option<Arc<Grants>>,
    /// The server's last data in an exchange, for CONNACK.
    pub data: Option<Box<[u8]>>,
}

/// The reason why the first bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "header of a link: {}", self.0)
    }
}

impl Client {
    /// The client of an admission.
    #[must_use]
    pub fn of(admission: &Admission) -> Self {
        Self {
            auth: admission.policy.name().into(),
            by: admission.by.clone(),
            identity: admission.identity.clone(),
            client_id: admission.client_id.clone(),
            expires_s: admission.expires_s,
            grants: admission.grants.clone(),
            data: admission.data.clone(),
        }
    }

    /// The client's admission under a policy, which has the same name.
    #[must_use]
    pub fn admission(self, policy: Arc<Policy>) -> Admission {
        let Self { auth: _, by, identity, client_id, expires_s, grants, data } = self;
        Admission { policy, by, identity, client_id, expires_s, grants, data }
    }
}

impl Header {
    /// Appends the header. False, and nothing appended: it would be longer than the receiver takes.
    #[must_use]
    pub fn write(&self, out: &mut Vec<u8>) -> bool {
        let mut value = vec![VERSION];
        let mut fits = true;
        let mut put = |kind, field: &[u8]| fits &= fields::put(kind, field, &mut value);
        put(FRONT, self.front.as_bytes());
        put(GENERATION, &self.generation.to_be_bytes());
        put(LISTENER, self.listener.as_bytes());
        if let Some(client) = &self.client {
            put(AUTH, client.auth.as_bytes());
            put(BY, &by(&client.by));
            client.identity.iter().for_each(|identity| put(IDENTITY, identity.as_bytes()));
            client.client_id.iter().for_each(|id| put(CLIENT_ID, id.as_bytes()));
            client.expires_s.iter().for_each(|at| put(EXPIRES, &at.to_be_bytes()));
            client.grants.iter().for_each(|grants| put(GRANTS, grants.saved().to_string().as_bytes()));
            client.data.iter().for_each(|data| put(DATA, data));
        }
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let stamp = self.stamp.unwrap_or_default().into();
        for (kind, number) in [(WAITED, ms(self.waited)), (STOOD_STILL, ms(self.stood_still)), (STAMP, stamp)] {
            if number > 0 {
                fits &= fields::put(kind, &number.to_be_bytes(), &mut value);
            }
        }
        if !self.owner.is_empty() {
            fits &= fields::put(OWNER, self.owner.as_bytes(), &mut value);
        }
        let (from, mut tlvs) = (out.len(), Vec::new());
        let is_written = fits && fields::put(TYPE, &value, &mut tlvs) && proxy::write_v2(self.source, &tlvs, out);
        if is_written && out.len() - from > LINK_HEADER_BYTES_MAX {
            out.truncate(from);
            return false;
        }
        is_written
    }

    /// Reads a header from all bytes that a stream has sent so far. Returns the header and its length in bytes. `None`: it is not whole yet.
    ///
    /// # Errors
    /// The fault of the header.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let proxy = proxy::v2(bytes, LINK_HEADER_BYTES_MAX).map_err(|malformed| Malformed(malformed.0))?;
        let Some(proxy::Header { len, source }) = proxy else { return Ok(None) };
        let Some(tlvs) = bytes.get(..len).map(proxy::tlvs) else { return Ok(None) };
        let value = Fields(tlvs).find(|field| !matches!(field, Some((kind, _)) if *kind != TYPE));
        let value = value.flatten().ok_or(Malformed("without the field of a link"))?.1;
        let (version, fields) = value.split_first().ok_or(Malformed("without a version"))?;
        if *version != VERSION {
            return Err(Malformed("of a version that this one does not know"));
        }
        let mut found: [Option<&[u8]>; KINDS] = [None; KINDS];
        let (mut waited, mut stood_still, mut stamp, mut owner) = (0, 0, 0, "");
        for field in Fields(fields) {
            let (kind, value) = field.ok_or(Malformed("with a field that is cut off"))?;
            match found.get_mut(usize::from(kind)).filter(|_| kind > 0) {
                Some(place) if place.is_none() => *place = Some(value),
                Some(_) => return Err(Malformed("with the same field twice")),
                None if kind == WAITED => waited = number(value)?,
                None if kind == STOOD_STILL => stood_still = number(value)?,
                None if kind == STAMP => stamp = number(value)?,
                None if kind == OWNER => owner = text(value)?,
                None if kind >= OPTIONAL => {}
                None => return Err(Malformed("with a field that this version does not know")),
            }
        }
        let required = |kind: u8| found[usize::from(kind)].ok_or(MISSING);
        let header = Self {
            source,
            front: text(required(FRONT)?)?.into(),
            generation: array(required(GENERATION)?).map(i32::from_be_bytes)?,
            listener: text(required(LISTENER)?)?.into(),
            waited: Duration::from_millis(waited),
            stood_still: Duration::from_millis(stood_still),
            stamp: u32::try_from(stamp).ok().filter(|stamp| *stamp > 0),
            owner: owner.into(),
            client: client(&found)?,
        };
        Ok(Some((header, len)))
    }
}

fn client(found: &[Option<&[u8]>; KINDS]) -> Result<Option<Client>, Malformed> {
    let field = |kind: u8| found[usize::from(kind)];
    let Some(auth) = field(AUTH) else {
        let has_more = found[usize::from(AUTH)..].iter().any(Option::is_some);
        return if has_more { Err(Malformed("with rights and no auth")) } else { Ok(None) };
    };
    let grants = |json: &[u8]| {
        let saved = serde_json::from_slice(json).ok().as_ref().and_then(Grants::restored);
        saved.map(Arc::new).ok_or(Malformed("with grants that are not understood"))
    };
    let boxed = |bytes: &[u8]| text(bytes).map(Box::from);
    let client = Client {
        auth: text(auth)?.into(),
        by: by_of(field(BY).ok_or(MISSING)?)?,
        identity: field(IDENTITY).map(boxed).transpose()?,
        client_id: field(CLIENT_ID).map(boxed).transpose()?,
        expires_s: field(EXPIRES).map(number).transpose()?,
        grants: field(GRANTS).map(grants).transpose()?,
        data: field(DATA).map(Box::from),
    };
    Ok(Some(client))
}

fn by(by: &By) -> Vec<u8> {
    let with = |kind: u8, print: &u64| [&[kind][..], &print.to_be_bytes()].concat();
    match by {
        By::Nothing => vec![NOTHING],
        By::Line(print) => with(LINE, print),
        By::Scram(print) => with(SCRAM, print),
        By::Token(print) => with(TOKEN, print),
        By::Operator => vec![OPERATOR],
        By::Certificate(id) => {
            let (issuer, serial) = id.parts();
            let mut bytes = vec![CERTIFICATE];
            // A serial number has at most 20 bytes (RFC 5280, 4.1.2.2). A longer one is on no list.
            let serial = &serial[..serial.len().min(usize::from(u8::MAX))];
            bytes.push(u8::try_from(serial.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(serial);
            bytes.extend_from_slice(issuer);
            bytes
        }
    }
}

fn by_of(bytes: &[u8]) -> Result<By, Malformed> {
    const WRONG: Malformed = Malformed("with another way to be admitted than this version knows");
    let (kind, rest) = bytes.split_first().ok_or(WRONG)?;
    match (*kind, rest) {
        (NOTHING, []) => Ok(By::Nothing),
        (LINE, print) => number(print).map(By::Line),
        (SCRAM, print) => number(print).map(By::Scram),
        (TOKEN, print) => number(print).map(By::Token),
        (OPERATOR, []) => Ok(By::Operator),
        (CERTIFICATE, [len, rest @ ..]) => {
            let (serial, issuer) = rest.split_at_checked(usize::from(*len)).ok_or(WRONG)?;
            Ok(By::Certificate(Arc::new(CertificateId::new(issuer, serial))))
        }
        _ => Err(WRONG),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("with text that is not UTF-8"))
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed("with a number of another length"))
}

fn number(bytes: &[u8]) -> Result<u64, Malformed> {
    array(bytes).map(u64::from_be_bytes)
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
