//! Keys of auths: the clients that may connect, and the topics that they may use.

use std::path::PathBuf;

use super::{DAY, Key, Word, s, word, yes};
use crate::setting::{Words, settings, words};
use forebay_base::limits::PASSWORD_BYTES_MAX;
use forebay_guard::auth::{ClientIds, Limits, Method, Settings, Takeover};
use forebay_guard::secure::IdentityField;

words!(impl Method {
    Certificate = "certificate",
    Jwt = "jwt",
    Scram = "scram",
    Password = "password",
    Anonymous = "anonymous",
});
words!(impl IdentityField {
    CommonName = "cn",
    DnsName = "san-dns",
    Uri = "san-uri",
    Email = "san-email",
    Fingerprint = "fingerprint",
});
words!(impl ClientIds { Any = "any", Identity = "identity", Prefix = "prefix" });
words!(impl Takeover { Replace = "replace", Refuse = "refuse" });

const DENIED_3X: &[Word] = &[word("close"), yes("acknowledge")];
const DENIED_REASON: &[Word] = &[word("not-authorized"), yes("unspecified")];
const TOKEN_FROM: &[Word] = &[word("password"), word("username")];

settings! {
    impl Settings in Auth {
        now chain: Vec<Method> => TextList, Required, shown "[\"jwt\", \"password\"]",
            "Methods, tried in this order: `\"certificate\"` admits clients with a certificate, `\"jwt\"` those with a token, `\"scram\"` and `\"password\"` users of `password_file`, `\"anonymous\"` clients with neither user name nor password.";
        now certificate_identity: IdentityField = Word(IdentityField::NAMES), Is("\"cn\""),
            "With `\"certificate\"`: the field of a client certificate that is the client's identity: common name, a DNS name, URI or e-mail address among the \
             alternative names, or the SHA-256 fingerprint. A certificate that has it not exactly once is refused.";
        now password_file: Option<PathBuf> = Text, From("none"), shown "\"/etc/forebay/passwords\"",
            "File of users, one line `user:hash` each, as `mosquitto_passwd` and `forebay passwd` write it.";
        now password_bytes_max: usize = Size { min: 16, max: PASSWORD_BYTES_MAX as u64 }, Is("\"1KiB\""),
            "Longest password that is compared; a longer one is wrong. Passwords wait in memory while others are compared, also those of clients that \
             are not known. Tokens have a bound of their own.";
        now acl_file: Option<PathBuf> = Text, From("everything is granted"), shown "\"/etc/forebay/acl\"",
            "Access control list, as mosquitto's `acl_file`. With it, only what it grants may be touched.";
        now client_id as client_ids: ClientIds = Word(ClientIds::NAMES), Is("\"any\""),
            "Client IDs that a user may connect with: `\"identity\"`: its user name, or what its certificate says; `\"prefix\"`: that, or that, `:` or `/`, and more.";
        now foreign_takeover: Takeover = Word(Takeover::NAMES), Is("\"replace\""),
            "If a client ID already has a session of another user: `\"replace\"` ends that session, `\"refuse\"` refuses the new client.";
        now denied_3x as is_denial_acknowledged: bool = Word(DENIED_3X), Is("\"close\""),
            "What an MQTT 3.x client gets for a QoS 1 or 2 publish that is denied, for which its protocol has no code: `\"close\"` closes the connection, \
             `\"acknowledge\"` acknowledges and drops the message.";
        now denied_reason as hides_denials: bool = Word(DENIED_REASON), Is("\"not-authorized\""),
            "Reason code that an MQTT 5 client gets for a publish, a subscription or a will that is denied: `\"not-authorized\"`: 0x87; `\"unspecified\"`: 0x80, \
             without a Reason String, so that it does not learn why.";
    }
    and { name, jwt, decoy_key, roles, limits }
}

pub(super) const JWT: &[Key] = keys! {
    AuthJwt.jwks_file: Text, From("none"),
        "Public keys that tokens are signed with: a JSON Web Key Set. This, `jwks_url` or `secret_file` is required.";
    AuthJwt.jwks_url: Text, From("none"), shown "\"https://id.example/.well-known/jwks.json\"",
        "Where the key set is fetched from: `https`, or `http` to this machine. Redirects are not followed.";
    AuthJwt.jwks_ca_file: Text, From("the CAs of this machine"), shown "\"/etc/forebay/id-ca.pem\"",
        "With `jwks_url`: the CAs that its server's certificate may be signed by, PEM.";
    AuthJwt.refresh: Duration { min: s(30), max: s(DAY) }, Is("\"10m\""),
        "With `jwks_url`: how often the key set is fetched. A token with an unknown `kid` has it fetched earlier, at most once in 30 s.";
    AuthJwt.stale_max: Duration { min: s(60), max: s(30 * DAY) }, Is("\"24h\""),
        "With `jwks_url`: for how long the last key set is used when it cannot be fetched. Then every token is refused, and clients that \
         were admitted by one are disconnected.";
    AuthJwt.secret_file: Text, From("none"),
        "File with the secret of HS256, at least 32 bytes; a line end after it does not count.";
    AuthJwt.issuer: Text, From("any"),
        "What `iss` of a token must be.";
    AuthJwt.audience: TextList, From("any"),
        "One of these must be in `aud` of a token.";
    AuthJwt.algorithms: TextList, From("`RS256`, `ES256`, `EdDSA`; with `secret_file` `HS256`"),
        "Keys of other algorithms are not used.";
    AuthJwt.leeway: Duration { min: s(0), max: s(600) }, Is("\"30s\""),
        "How far the clocks of the issuer and of this machine may be apart: for so long after `exp` and before `nbf` a token is accepted.";
    AuthJwt.token_from: Word(TOKEN_FROM), Is("\"password\""),
        "Field of CONNECT that has the token.";
    AuthJwt.identity_claim: Text, Is("\"sub\""),
        "Claim that is the client's identity, the `${username}` of templates, events and the API.";
    AuthJwt.client_id_claim: Text, From("none"),
        "Claim that the client ID must be equal to.";
    AuthJwt.acl_claim: Text, Is("\"acl\""),
        "Claim that says what the client may touch, in EMQX's forms; a token without it says nothing of that.";
    AuthJwt.roles_claim: Text, From("none"), shown "\"roles\"",
        "Claim that names the client's roles, a string with spaces between them (as `scope`) or a list of strings: `[auth.NAME.role.ROLE]`. A role that is not configured grants nothing.";
};

pub(super) const ROLE: &[Key] = keys! {
    AuthRole.publish: Filters, From("none"), shown "[\"plant/%c/#\"]",
        "Topic filters that may be published to. `%c` and `%u` as whole levels are the client ID and the user name.";
    AuthRole.subscribe: Filters, From("none"), shown "[\"commands/%c\"]",
        "Topic filters that may be subscribed to.";
    AuthRole.replay: Filters, From("none"), shown "[\"commands/%c\"]",
        "Topic filters whose messages of the past may be asked for, as far as they may be subscribed to ([replay](REPLAY.md)).";
};

settings! {
    impl Limits in AuthLimits {
        now connections: u32 = Integer { min: 0, max: 100_000_000 }, Is("0"),
            "Maximum number of connections of one user; a further one is refused (5.0: 0x97; 3.x: 3). 0: no limit.";
        now sessions: u32 = Integer { min: 0, max: 100_000_000 }, Is("0"),
            "Maximum number of sessions of one user that outlive their connections, connected or not. A CONNECT that would make one more is refused (5.0: 0x97; 3.x: 3). 0: no limit.";
        now messages_s: u32 = Integer { min: 0, max: 1_000_000_000 }, Is("0"),
            "Maximum number of publishes and wills of one user in a second, a second's worth at once; each filter of a SUBSCRIBE or UNSUBSCRIBE counts as one. Above it, its connections are not read until there is room; nothing is dropped. 0: no limit.";
        now connects_s: u32 => Integer { min: 0, max: 1_000_000_000 }, From("`messages_s`"),
            "Maximum number of CONNECTs of one user in a second; a second's worth, at least ten, may come at once. A further one is refused (5.0: 0x9F; 3.x: 3). 0: no limit.";
        now bytes_s: u64 = Size { min: 0, max: 1 << 40 }, Is("\"0B\""),
            "The same in bytes of packets. 0: no limit.";
        now session_bytes: u64 = Size { min: 0, max: 1 << 30 }, Is("\"0B\""),
            "Maximum size of what one session of a user keeps: client ID, user name, and will. A CONNECT that needs more is refused (5.0: 0x97; 3.x: 3). 0: no limit of its own.";
        now will_bytes: u64 = Size { min: 0, max: 1 << 30 }, Is("\"0B\""),
            "Maximum size of a will: topic, payload, and properties; likewise. 0: no limit of its own.";
    }
}
