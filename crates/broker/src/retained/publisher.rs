//! The publisher of a retained message, for access control: a new subscription gets the message while its publisher may still publish it (B14), and the
//! publisher itself does not, if it has set No Local [MQTT-3.8.3-3]. The message takes the room of its publisher's user.
//!
//! The bytes, in parcels and in the log, are one of flags, [`IDENTITY`] and [`UNASKED`], then the name of the `[auth.NAME]`, the identity (or nothing) and
//! the client identifier, each after its length, u32 big-endian. For a client admitted without an auth that name is empty, and no rule is checked.

use forebay_guard::auth::acl::{Action, Client, Wanted};
use forebay_mqtt::packet::Publish;
use forebay_session::{DueWill, Session};

use forebay_guard::edge::Edge;

/// The flag of a publisher with an identity.
const IDENTITY: u8 = 1;
/// The flag of a publisher that its token allowed to publish: no rule is checked.
const UNASKED: u8 = 2;

/// A publisher as bytes. Empty: the publisher is not known, and no rule is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publisher(Box<[u8]>);

impl Publisher {
    fn new(auth: &str, client: Client<'_>, is_granted: bool) -> Self {
        let mut bytes =
            vec![if client.identity.is_some() { IDENTITY } else { 0 } | if is_granted { UNASKED } else { 0 }];
        for text in [auth, client.identity.unwrap_or_default(), client.client_id] {
            bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        Self(bytes.into())
    }

    /// The publisher for the client of a session. A token's grants are not known later, so no rule is checked for a client that has any.
    pub fn of_session(session: &Session) -> Self {
        let client = Client { identity: session.username(), client_id: session.client_id() };
        let access = session.access().map(|access| (access.auth(), access.grants().is_some()));
        let (auth, is_granted) = access.unwrap_or(("", true));
        Self::new(auth, client, is_granted)
    }

    /// The publisher for the client of a will. No rule is checked for a client with grants of a token.
    pub fn of_will(due: &DueWill) -> Self {
        let client = Client { identity: due.username.as_deref(), client_id: &due.client_id };
        let (auth, is_granted) = due.auth.as_deref().map_or(("", true), |auth| (auth, due.grants.is_some()));
        Self::new(auth, client, is_granted)
    }

    /// Reads a publisher. `None`: the bytes are malformed.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let publisher = Self(bytes.into());
        (bytes.is_empty() || publisher.fields().is_some()).then_some(publisher)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are the same client, as sessions are: by the name of the `[auth.NAME]` and the client identifier.
    pub(super) fn is_client(&self, other: &Self) -> bool {
        other.fields().is_some_and(|(of, other)| {
            self.fields().is_some_and(|(auth, own)| auth == of && own.client_id == other.client_id)
        })
    }

    /// The user that the messages count for: the name of the `[auth.NAME]` and the identity. Clients without an identity are one user, and so are clients
    /// admitted without an auth.
    pub(super) fn user(&self) -> &[u8] {
        if self.fields().is_none_or(|(auth, _)| auth.is_empty()) {
            return &[];
        }
        let fields = self.0.split_first().map(|(_, fields)| fields).unwrap_or_default();
        let client_id = text(fields).and_then(|(_, rest)| text(rest)).map_or(fields.len(), |(_, rest)| rest.len());
        &fields[..fields.len() - client_id]
    }

    /// The name of the `[auth.NAME]` and the client.
    fn fields(&self) -> Option<(&str, Client<'_>)> {
        let (flags, rest) = self.0.split_first()?;
        let (auth, rest) = text(rest)?;
        let (identity, rest) = text(rest)?;
        let (client_id, rest) = text(rest)?;
        let client = Client { identity: (flags & IDENTITY != 0).then_some(identity), client_id };
        rest.is_empty().then_some((auth, client))
    }

    /// # Errors
    /// The client, if it may not publish this any more. Without its `[auth.NAME]` it may publish nothing.
    pub(super) fn may_publish(&self, publish: &Publish<'_>, edge: &Edge) -> Result<(), (&str, Client<'_>)> {
        let is_unasked = self.0.first().is_some_and(|flags| flags & UNASKED != 0);
        let Some((auth, client)) = self.fields().filter(|_| !is_unasked) else { return Ok(()) };
        let Publish { topic, qos, retain, .. } = *publish;
        let wanted = Wanted { action: Action::Publish, topic, qos, retain };
        if edge.allows(auth, None, client, wanted) { Ok(()) } else { Err((auth, client)) }
    }
}

/// A text after its length, and the bytes after it.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_went_and_nothing_else_does() {
        for (auth, identity, client_id) in [("a", Some("ada"), "c"), ("", None, ""), ("a", Some(""), "\u{fc}")] {
            let publisher = Publisher::new(auth, Client { identity, client_id }, false);
            let user = [&(auth.len() as u32).to_be_bytes(), auth.as_bytes()].concat();
            let is_user = publisher.user().starts_with(&user) && !publisher.user().ends_with(client_id.as_bytes());
            assert!(if auth.is_empty() { publisher.user().is_empty() } else { is_user || client_id.is_empty() });
            let other = Publisher::new(auth, Client { identity, client_id: "x" }, true);
            assert_eq!(publisher.user(), other.user());
            assert!(publisher.is_client(&publisher) && !publisher.is_client(&other));
            assert!(!publisher.is_client(&Publisher::new("b", Client { identity, client_id }, false)));
            assert!(publisher.is_client(&Publisher::new(auth, Client { identity: Some("b"), client_id }, false)));
            assert!(!publisher.is_client(&Publisher::default()) && !Publisher::default().is_client(&publisher));
            let back = Publisher::decode(publisher.bytes()).expect("its bytes");
            let (was, client) = back.fields().expect("fields");
            assert_eq!((was, client.identity, client.client_id), (auth, identity, client_id));
            for cut in 1..publisher.bytes().len() {
                assert_eq!(Publisher::decode(&publisher.bytes()[..cut]), None);
            }
            assert_eq!(Publisher::decode(&[publisher.bytes(), b"x"].concat()), None);
        }
        assert_eq!(Publisher::decode(&[]), Some(Publisher::default()));
    }
}
