//! Remembered proofs of right passwords and signatures: a device that reconnects costs a microsecond, not 18 ms.
//!
//! A proof is a keyed hash over the name of the `auth`, the stored hash and the password, or the key and the token, each with its
//! length. A changed password, another `auth`, or another process gives another proof.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use ring::hmac;

use super::password;
use super::question::Question;

/// The most proofs in each of two generations.
const PROOFS_MAX: usize = 100_000;
/// A proof is forgotten after one to two of these.
const GENERATION: Duration = Duration::from_secs(12 * 3600);

/// A proof.
pub type Proof = [u8; 32];

/// Proofs that were right and need not be computed again.
pub struct Proofs {
    key: hmac::Key,
    young: HashSet<Proof>,
    old: HashSet<Proof>,
    since: Instant,
}

impl Proofs {
    /// Makes an empty store.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(now: Instant) -> Result<Self, String> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &password::random::<32>()?);
        Ok(Self { key, young: HashSet::new(), old: HashSet::new(), since: now })
    }

    /// The proof that the password or token of a question is right.
    #[must_use]
    pub fn of(&self, question: &Question) -> Proof {
        let mut context = hmac::Context::with_key(&self.key);
        question.identify(|part| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        });
        let mut proof = [0; 32];
        proof.copy_from_slice(context.sign().as_ref());
        proof
    }

    /// Whether the proof was added before.
    pub fn knows(&mut self, proof: &Proof, now: Instant) -> bool {
        self.age(now);
        if self.young.contains(proof) {
            return true;
        }
        let is_old = self.old.contains(proof);
        if is_old {
            self.add(*proof, now);
        }
        is_old
    }

    /// Adds the proof of a right answer.
    pub fn add(&mut self, proof: Proof, now: Instant) {
        self.age(now);
        self.young.insert(proof);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    fn age(&mut self, now: Instant) {
        if self.young.len() < PROOFS_MAX && now.duration_since(self.since) < GENERATION {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        if now.duration_since(self.since) >= 2 * GENERATION {
            self.old.clear();
        }
        self.since = now;
    }
}
