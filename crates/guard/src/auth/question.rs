//! Checks that take too long for a core that serves devices: a slow hash, a signature.

use std::fmt;
use std::sync::Arc;

use super::jwt::{Fault, Key, Token};
use super::password::Stored;
use super::policy::{Admission, By, Policy, Refusal};
use crate::secure::Secret;

/// A check for a thread that serves no devices.
pub struct Question {
    auth: Arc<Policy>,
    what: Box<What>,
}

enum What {
    /// Whether a password is right.
    Password {
        /// The client's admission if the check succeeds; `None`: an unknown user, refused after as much work.
        admission: Option<Admission>,
        stored: Arc<Stored>,
        password: Secret,
    },
    /// Whether one of these keys has signed a token.
    Token { token: Secret, keys: Vec<Arc<Key>>, wall_ms: i64 },
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match *self.what {
            What::Password { .. } => "password",
            What::Token { .. } => "token",
        };
        f.debug_struct("Question").field("auth", &self.auth).field("what", &what).finish_non_exhaustive()
    }
}

/// The outcome of a [`Question`].
pub type Answer = Result<Admission, Refusal>;

impl Question {
    pub(super) fn password(
        auth: &Arc<Policy>,
        admission: Option<Admission>,
        stored: &Arc<Stored>,
        password: &[u8],
    ) -> Self {
        let password = Secret::new(password.to_vec());
        let what = What::Password { admission, stored: Arc::clone(stored), password };
        Self { auth: Arc::clone(auth), what: Box::new(what) }
    }

    pub(super) fn token(auth: &Arc<Policy>, token: &Token<'_>, keys: Vec<Arc<Key>>, wall_ms: i64) -> Self {
        let token = Secret::new(token.bytes().to_vec());
        Self { auth: Arc::clone(auth), what: Box::new(What::Token { token, keys, wall_ms }) }
    }

    /// The bytes of the client that the question holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &*self.what {
            What::Password { password, .. } => password.expose().len(),
            What::Token { token, .. } => token.expose().len(),
        }
    }

    /// Whether a core answers the question in a microsecond or two.
    pub(super) fn is_quick(&self) -> bool {
        match &*self.what {
            What::Password { stored, .. } => stored.is_quick(),
            What::Token { keys, .. } => keys.iter().all(|key| key.is_quick()),
        }
    }

    /// Computes. Takes up to half a second.
    ///
    /// # Errors
    /// The password is wrong, or there is no such user; the token is not accepted.
    pub fn answer(self) -> Answer {
        self.work_out(false)
    }

    /// Answers a question with a password or signature that is known to be right. A token's claims are checked again: it may have
    /// expired.
    ///
    /// # Errors
    /// There is no such user; the token is not accepted any more.
    pub fn answer_known(self) -> Answer {
        self.work_out(true)
    }

    fn work_out(self, is_known: bool) -> Answer {
        match *self.what {
            What::Password { admission, stored, password } => {
                let is_right = is_known || stored.matches(password.expose());
                admission.filter(|_| is_right).ok_or(Refusal::Credentials)
            }
            What::Token { token, keys, wall_ms } => {
                let judged = match (self.auth.tokens(), Token::read(token.expose())) {
                    (Some(tokens), Some(token)) => tokens.judge(&token, &keys, is_known, wall_ms),
                    _ => Err(Fault::Header),
                };
                let (bearer, key) = judged.map_err(Refusal::Token)?;
                Ok(Admission {
                    identity: Some(bearer.identity),
                    client_id: bearer.client_id,
                    expires_s: Some(bearer.expires_s),
                    grants: bearer.grants,
                    by: By::Token(key),
                    ..Admission::anonymous(self.auth)
                })
            }
        }
    }

    /// Gives all bytes on which the outcome depends to `with`, but for the time.
    pub(super) fn identify(&self, mut with: impl FnMut(&[u8])) {
        with(self.auth.name().as_bytes());
        match &*self.what {
            What::Password { stored, password, .. } => {
                with(b"password");
                stored.identify(&mut with);
                with(password.expose());
            }
            What::Token { token, keys, .. } => {
                with(b"token");
                keys.iter().for_each(|key| with(&key.print().to_be_bytes()));
                with(token.expose());
            }
        }
    }
}
