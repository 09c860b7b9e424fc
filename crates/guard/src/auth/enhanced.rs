//! Enhanced authentication (MQTT 5, section 4.12): the method `SCRAM-SHA-256`, in which a client proves that it knows its
//! password without sending it. Two messages each way; a few hashes on the core that reads the client.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::secure::scram::server::{self, Failure, KEY_BYTES, Opening, Record};

use super::password;
use super::policy::{Admission, By, Method, Policy, Refusal};

/// The name of the method.
pub const SCRAM: &str = "SCRAM-SHA-256";

/// An exchange in progress: the client's last message is awaited.
pub struct Exchange {
    policy: Arc<Policy>,
    /// The user, and the print of its line; `None`: there is no such user. The exchange is completed all the same.
    user: Option<(Box<str>, u64)>,
    scram: server::Exchange,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Policy {
    /// Begins the exchange for a client's Authentication Method. Returns it with the data of the server's AUTH.
    ///
    /// # Errors
    /// The method is not in the chain, or the data is not a valid first message.
    pub fn begin(self: &Arc<Self>, method: &str, data: Option<&[u8]>) -> Result<(Exchange, Vec<u8>), Refusal> {
        let users = self.users().filter(|_| method == SCRAM && self.settings().chain.contains(&Method::Scram));
        let users = users.ok_or(Refusal::Method)?;
        let opening = Opening::parse(data.unwrap_or_default()).map_err(refusal)?;
        let nonce = password::random::<18>().map_err(|_| Refusal::Exchange("no random numbers"))?;
        let name = opening.user();
        // A decoy is always derived: a known user must not be answered sooner.
        let (salt, iterations) = users.decoys().scram(name);
        let user = users.get(name).and_then(|user| Some((user.print, user.stored.scram()?)));
        let nothing = [0; KEY_BYTES];
        let decoy = Record { salt: &salt, iterations, stored: &nothing, server: &nothing };
        let record = user.map_or(decoy, |(_, record)| record);
        let (scram, message) = opening.challenge(record, &STANDARD_NO_PAD.encode(nonce));
        let user = user.map(|(print, _)| (name.into(), print));
        Ok((Exchange { policy: Arc::clone(self), user, scram }, message.into_bytes()))
    }
}

impl Exchange {
    /// The exchange's Authentication Method.
    #[must_use]
    pub fn method(&self) -> &'static str {
        SCRAM
    }

    /// Takes the client's last message. Returns the admission, with the server's last message.
    ///
    /// # Errors
    /// The client does not prove that it knows the password of a user.
    pub fn finish(self, data: Option<&[u8]>) -> Result<Admission, Refusal> {
        let last = self.scram.answer(data.unwrap_or_default()).map_err(refusal)?;
        let (name, print) = self.user.ok_or(Refusal::Credentials)?;
        let data = Some(last.into_bytes().into());
        Ok(Admission { identity: Some(name), by: By::Scram(print), data, ..Admission::anonymous(self.policy) })
    }
}

impl By {
    /// The Authentication Method by which the client was admitted.
    #[must_use]
    pub fn authentication_method(&self) -> Option<&'static str> {
        matches!(self, Self::Scram(_)).then_some(SCRAM)
    }
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Malformed(what) => Refusal::Exchange(what),
        Failure::WrongProof => Refusal::Credentials,
    }
}

#[cfg(test)]
#[path = "enhanced_tests.rs"]
mod tests;
