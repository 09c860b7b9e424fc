//! A client that was admitted by an exchange authenticates again (section 4.12.1).

use super::*;
use forebay_guard::auth::{SCRAM, password};
use forebay_guard::secure::Secret;
use forebay_guard::secure::scram::{Challenge, First, Hash};
use forebay_mqtt::property::Property::{AuthenticationData, AuthenticationMethod};

const WITHIN: Duration = Duration::from_secs(10);

fn policy() -> Arc<Policy> {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("passwords");
    let line = |name: &str| format!("{name}:{}\n", password::scram_of(b"secret").expect("random numbers"));
    std::fs::write(&file, line("ada") + &line("bob")).expect("written");
    let settings = auth::Settings { password_file: Some(file), ..auth::Settings::new("devices", &[Method::Scram]) };
    Arc::new(Policy::load(&settings).expect("valid"))
}

/// The client's side of an exchange.
struct Exchange(Option<First>);

impl Exchange {
    fn begin(user: &str) -> (Self, String) {
        let (first, message) = First::new(Hash::Sha256, user, "nonce".to_owned());
        (Self(Some(first)), message)
    }

    fn last(&mut self, told: &[u8], password: &str) -> String {
        let challenge: Challenge = self.0.take().expect("once").server_first(told).expect("taken");
        let keys = challenge.derivation(&Secret::new(password.as_bytes().to_vec())).keys();
        challenge.answer(&keys).1
    }
}

fn connected() -> (Shard, Client) {
    let policy = policy();
    let (mut exchange, message) = Exchange::begin("ada");
    let (server, told) = policy.begin(SCRAM, Some(message.as_bytes())).expect("begun");
    let admission = server.finish(Some(exchange.last(&told, "secret").as_bytes())).expect("admitted");
    let mut shard = Shard { admission: Some(admission), ..Shard::default() };
    let method = properties(&[AuthenticationMethod(SCRAM)]);
    let client = shard.connect(&Connect { properties: method.as_properties(), ..connect(Version::V5, "c", true) });
    (shard, client)
}

impl Shard {
    /// Sends AUTH; returns the data of the server's AUTH if there is one.
    fn auth(&mut self, client: Client, reason: ReasonCode, method: &str, data: &str) -> (Authenticated, Vec<u8>) {
        let properties = properties(&[AuthenticationMethod(method), AuthenticationData(data.as_bytes())]);
        let auth = Disconnect { reason, properties: properties.as_properties() };
        let session = self.sessions.get_mut(client.key).expect("it has a session");
        assert!(session.may_authenticate());
        let mut out = Vec::new();
        let said = session.authenticate(&auth, self.now, self.now.after(WITHIN), &mut out);
        if out.is_empty() {
            return (said, Vec::new());
        }
        let frame = frame::next(&out, u32::MAX).expect("well formed").expect("whole");
        let Ok(Packet::Auth(answer)) = decode(Version::V5, Sender::Server, frame) else { panic!("{out:?}") };
        let wanted =
            if said == Authenticated::Done { ReasonCode::SUCCESS } else { ReasonCode::CONTINUE_AUTHENTICATION };
        assert_eq!((answer.reason, answer.properties.authentication_method()), (wanted, Some(SCRAM)));
        (said, answer.properties.authentication_data().expect("data").to_vec())
    }

    /// A whole exchange.
    fn again(&mut self, client: Client, user: &str, password: &str) -> Authenticated {
        let (mut exchange, message) = Exchange::begin(user);
        let (said, told) = self.auth(client, ReasonCode::RE_AUTHENTICATE, SCRAM, &message);
        assert_eq!(said, Authenticated::Goes);
        let last = exchange.last(&told, password);
        self.auth(client, ReasonCode::CONTINUE_AUTHENTICATION, SCRAM, &last).0
    }
}

/// X30: AUTH 0x19 within a session.
/// [MQTT-4.12.0-2] [MQTT-4.12.0-5] [MQTT-4.12.1-2] [MQTT-3.15.2-1]
#[test]
fn again_and_again() {
    let (mut shard, client) = connected();
    for _ in 0..3 {
        assert_eq!(shard.again(client, "ada", "secret"), Authenticated::Done);
    }
    assert!(matches!(shard.again(client, "ada", "guess"), Authenticated::Refused(Violation::AUTH_REFUSED)));
    let foreign = shard.again(client, "bob", "secret");
    assert!(matches!(foreign, Authenticated::Refused(Violation { what, .. }) if what.contains("another user")));
}

/// [MQTT-4.12.1-1]
#[test]
fn what_is_not_in_its_place_ends_the_connection() {
    use ReasonCode as R;
    let first = "n,,n=ada,r=x";
    for (packets, why) in [
        (vec![(R::RE_AUTHENTICATE, "SCRAM-SHA-1", first)], Violation::AUTH_OTHER_METHOD),
        (vec![(R::CONTINUE_AUTHENTICATION, SCRAM, first)], Violation::AUTH_UNASKED),
        (vec![(R::RE_AUTHENTICATE, SCRAM, first), (R::RE_AUTHENTICATE, SCRAM, first)], Violation::AUTH_TWICE),
        (
            vec![(R::RE_AUTHENTICATE, SCRAM, first), (R::CONTINUE_AUTHENTICATION, "JWT", first)],
            Violation::AUTH_OTHER_METHOD,
        ),
    ] {
        let (mut shard, client) = connected();
        let said = packets.iter().map(|(reason, method, data)| shard.auth(client, *reason, method, data).0);
        assert_eq!(said.last(), Some(Authenticated::Violation(why)), "{packets:?}");
    }
}

#[test]
fn an_exchange_has_its_time_and_goes_with_its_connection() {
    let (mut shard, client) = connected();
    let (mut exchange, message) = Exchange::begin("ada");
    let (_, told) = shard.auth(client, ReasonCode::RE_AUTHENTICATE, SCRAM, &message);
    shard.now = shard.now.after(WITHIN + Duration::from_secs(1));
    let last = exchange.last(&told, "secret");
    let (said, _) = shard.auth(client, ReasonCode::CONTINUE_AUTHENTICATION, SCRAM, &last);
    assert!(matches!(said, Authenticated::Refused(Violation { what, .. }) if what.contains("too long")));
}

/// X37: the authentication properties of CONNACK come with the verdict.
#[test]
fn connack_has_the_method_and_the_servers_last_message() {
    let (mut shard, client) = connected();
    let session = shard.sessions.get(client.key).expect("it has a session");
    assert_eq!(session.username(), Some("ada"));
    // Without the method, or with another, CONNACK could not repeat it.
    for method in [None, Some("JWT")] {
        let list: Vec<_> = method.map(AuthenticationMethod).into_iter().collect();
        let properties = properties(&list);
        let refused =
            shard.try_connect(&Connect { properties: properties.as_properties(), ..connect(Version::V5, "d", true) });
        assert_eq!(refused.1, Err(Refused { violation: Violation::AUTHENTICATION_METHOD }));
    }
}
