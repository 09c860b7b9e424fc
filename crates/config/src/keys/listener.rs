//! Keys of listeners.

use std::sync::Arc;
use std::time::Duration;

use super::{DAY, Key, Word, s, word};
use crate::resolved::Transport;
use crate::setting::{Words, settings};
use forebay_base::address::Network;
use forebay_guard::secure;
use forebay_listener::proxy::Expect;
use forebay_listener::ws;
use forebay_runtime::Bind;

const MIN_VERSION: &[Word] = &[word("1.2"), word("1.3")];
const CLIENT_CERTIFICATE: &[Word] = &[word("required"), word("optional")];
const CRL_EXPIRED: &[Word] = &[word("use"), word("refuse")];

settings! {
    /// `[[listener]]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Listener in Listener {
        apart bind: Bind => Bind, Required, shown "\"0.0.0.0:1883\"",
            "Address that devices connect to. Port 0 picks a free port, which the log names. `\"unix:/PATH\"`: a Unix socket, for processes of this \
             machine.";
        now socket_mode: u32 = Text, Is("\"0660\""),
            "Permissions of the file of a Unix socket, in octal. A process may connect if it may write to that file.";
        now transport: Transport = Word(Transport::NAMES), Is("\"tcp\""), shown "\"wss\"",
            "Transport protocol. `\"tls\"` and `\"wss\"` need `[listener.tls]`; `\"ws\"` and `\"wss\"` are MQTT over WebSocket.";
        now auth: Option<String> => Text, From("none: everyone may connect"), shown "\"devices\"",
            "NAME of the `[auth.NAME]` that says who may connect, and what they may touch.";
        now open as is_open: bool => Flag, Is("false"),
            "Whether everyone may connect to an address that other machines can reach. Without it, such a listener needs `auth`.";
        now connections_max: u32 = Integer { min: 0, max: 100_000_000 }, Is("0"),
            "Maximum number of connections at this listener; a further one is closed at once. 0: no limit but the file descriptors of the process.";
        now connect_rate: u32 = Integer { min: 0, max: 1_000_000 }, Is("0"),
            "Maximum number of connections that are accepted in a second, all shards together; a tenth of a second's worth at once. Further ones wait in \
             the kernel's queue (`net.core.somaxconn`). 0: no limit.";
        now proxy_protocol: Expect = Word(Expect::NAMES), Is("\"off\""),
            "Version of the PROXY protocol that the TCP proxy in front of this listener speaks. Its header must precede CONNECT, and its source \
             address is taken as the device's. `\"any\"`: either version. If it is on, `proxy_from` says who the proxy is: see below.";
        now proxy_from: Vec<Network> => TextList, From("none: required with `proxy_protocol` or `forwarded` beyond loopback"),
            "Addresses of the proxies that may connect, `\"10.0.0.0/8\"` or `\"10.0.0.7\"`: what they say of a device's address is believed. A connection \
             from elsewhere is closed at once. Without it everyone may who reaches the port. `[\"0.0.0.0/0\", \"::/0\"]` believes everyone.";
        now answer_timeout: Option<Duration> = Duration { min: s(1), max: s(DAY) }, From("never"),
            "A connection that has waited this long for an acknowledgement is closed (5.0: DISCONNECT 0x89) and its session is kept, so that \
             the device reconnects and sends again. It may take up to a quarter longer.";
        now receipts: bool = Flag, Is("false"),
            "Whether PUBACK, PUBREC and PUBCOMP tell 5.0 clients where their record is, in the user properties `kafka-topic`, `kafka-partition` and \
             `kafka-offset`. For sinks with `acknowledge = \"leader\"` or `\"replicated\"`: see below.";
    }
    and {
        /// TLS, with [`Transport::Tls`] and [`Transport::Wss`].
        tls: Option<secure::Settings>,
        /// WebSocket, with [`Transport::Ws`] and [`Transport::Wss`].
        ws: Option<Arc<ws::Settings>>,
        /// The option or key that changes the address, for the message that the port is taken.
        moved_by: String,
        /// Whether the listener is no longer in the file: it keeps its index until the process ends. See [`crate::change`].
        is_removed: bool,
    }
}

pub(super) const TLS: &[Key] = keys! {
    ListenerTls.cert_file: Text, Required, shown "\"/etc/forebay/server.pem\"",
        "Certificate chain of the server, its own certificate first. For clients that name no server, or one that no certificate has.";
    ListenerTls.key_file: Text, Required, shown "\"/etc/forebay/server.key\"",
        "Private key of that certificate, without a passphrase.";
    ListenerTls.certificates: TextTable, From("none"), shown "{ \"/etc/forebay/other.pem\" = \"/etc/forebay/other.key\" }",
        "More certificates, chosen by the name that the client asks for (SNI): `{ \"CERT_FILE\" = \"KEY_FILE\" }`. An exact name is preferred to a wildcard.";
    ListenerTls.min_version: Word(MIN_VERSION), Is("\"1.2\""),
        "Lowest version of TLS that is accepted; the highest is 1.3.";
    ListenerTls.alpn: TextList, From("none"), shown "[\"x-amzn-mqtt-ca\"]",
        "Application protocols (ALPN) that are accepted beside `mqtt`, or beside `http/1.1` with `\"wss\"`. A client that names none is accepted, one that names only others is refused.";
    ListenerTls.client_ca_file: Text, From("clients are not asked for a certificate"), shown "\"/etc/forebay/ca.pem\"",
        "CAs of client certificates. Sessions are then not resumed with tickets, so that each connection is checked.";
    ListenerTls.client_certificate: Word(CLIENT_CERTIFICATE), Is("\"required\""),
        "With `client_ca_file`: whether a client must have a certificate. One that it has must be valid in either case.";
    ListenerTls.crl_file: Text, From("none"), shown "\"/etc/forebay/devices.crl\"",
        "Certificate revocation lists (CRLs) for client certificates. A certificate whose issuer has no CRL in the file is refused; CRLs for intermediate CAs are not needed.";
    ListenerTls.crl_expired: Word(CRL_EXPIRED), Is("\"use\""),
        "What to do with a CRL whose Next Update has passed. `\"use\"`: use it. `\"refuse\"`: refuse the certificates of its issuer.";
    ListenerTls.tickets: Flag, Is("true"),
        "Whether clients get a ticket to resume their TLS session with. The key of the tickets changes every 6 hours and with a restart.";
};

pub(super) const WS: &[Key] = keys! {
    ListenerWs.path: Text, Is("\"/mqtt\""),
        "Path of the URL that clients connect to.";
    ListenerWs.origins: TextList, From("none, but pages of the address that they connect to"), shown "[\"https://app.example\"]",
        "Origins of web pages that may connect, `\"https://app.example\"`, as their browsers send them. Without any, a page must come from the host that it \
         connects to, and that must be an IP address or `localhost`. Clients that are not browsers send no origin, and may always connect.";
    ListenerWs.forwarded: Flag, Is("false"),
        "Whether the last address in `X-Forwarded-For` is the device's. If it is on, `proxy_from` of the listener says who the proxy is.";
};
