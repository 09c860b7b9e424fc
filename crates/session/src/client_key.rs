//! The owner of a session: an auth, and a client identifier.

/// The key of a session, unique in the process. A client identifier is unique within one `[auth.NAME]`, as a user name is; all
/// listeners without `auth` form one such space (decision 0157).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey<'a> {
    /// The name of the `[auth.NAME]` that has admitted the client; `None`: nothing had to.
    pub auth: Option<&'a str>,
    /// The client identifier.
    pub client_id: &'a str,
}

/// A [`ClientKey`] with memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedKey {
    auth: Option<Box<str>>,
    client_id: Box<str>,
}

impl OwnedKey {
    /// The owner of the session.
    #[must_use]
    pub fn key(&self) -> ClientKey<'_> {
        ClientKey { auth: self.auth.as_deref(), client_id: &self.client_id }
    }
}

impl From<ClientKey<'_>> for OwnedKey {
    fn from(key: ClientKey<'_>) -> Self {
        Self { auth: key.auth.map(Into::into), client_id: key.client_id.into() }
    }
}

impl<'a> ClientKey<'a> {
    /// The key of a client that connected without an auth.
    #[must_use]
    pub const fn without_auth(client_id: &'a str) -> Self {
        Self { auth: None, client_id }
    }
}
