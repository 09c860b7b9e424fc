//! Logins to a fake broker: correct servers of PLAIN and SCRAM, and one that lies.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use ring::{digest, hmac, pbkdf2};

use super::{FakeCluster, Seen, encoded};

/// The server's part of logins, for all connections of a broker: only one client logs in at a time.
pub(crate) trait SaslServer: std::fmt::Debug {
    /// Returns the error code for this mechanism.
    fn handshake(&mut self, mechanism: &str) -> i16;
    /// Returns error code, message, bytes, lifetime in ms.
    fn authenticate(&mut self, message: &[u8]) -> (i16, Option<String>, Vec<u8>, i64);
}

/// Error code, message, bytes, lifetime in ms.
type Answer = (i16, Option<String>, Vec<u8>, i64);

fn refuses() -> Answer {
    (58, Some("Authentication failed: Invalid username or password".to_owned()), Vec::new(), 0)
}

/// A PLAIN server with one user.
#[derive(Debug)]
pub(crate) struct PlainServer {
    pub(crate) password: &'static str,
    pub(crate) lifetime_ms: i64,
}

impl SaslServer for PlainServer {
    fn handshake(&mut self, mechanism: &str) -> i16 {
        if mechanism == "PLAIN" { 0 } else { 33 }
    }

    fn authenticate(&mut self, message: &[u8]) -> Answer {
        let right = format!("\0user\0{}", self.password);
        if message == right.as_bytes() { (0, None, Vec::new(), self.lifetime_ms) } else { refuses() }
    }
}

/// A lie of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    Nothing,
    Signature,
    NoSignature,
    Nonce,
    /// The first message is cut after this many bytes.
    Cut(usize),
    Iterations(u32),
    /// The server refuses in mid-exchange.
    Refusal,
    /// The server reports success at once, without a proof.
    AllIsWell,
}

/// A SCRAM-SHA-512 server with one user.
#[derive(Debug)]
pub(crate) struct ScramServer {
    pub(crate) password: &'static str,
    pub(crate) lie: Lie,
    /// The client's first message without its header, and the server's.
    exchange: Option<(String, String)>,
}

impl ScramServer {
    pub(crate) fn new(password: &'static str, lie: Lie) -> Self {
        Self { password, lie, exchange: None }
    }

    fn first(&mut self, message: &str) -> Answer {
        let bare = message.strip_prefix("n,,").expect("a GS2 header");
        let nonce = bare.split_once(",r=").expect("a nonce").1;
        let iterations = if let Lie::Iterations(count) = self.lie { count } else { 4_096 };
        let nonce = if self.lie == Lie::Nonce { "somebody-elses".to_owned() } else { format!("{nonce}srv") };
        let mut first = format!("r={nonce},s={},i={iterations}", BASE64.encode("salt"));
        if let Lie::Cut(length) = self.lie {
            first.truncate(length);
        }
        self.exchange = Some((bare.to_owned(), first.clone()));
        match self.lie {
            Lie::Refusal => refuses(),
            Lie::AllIsWell => (0, None, Vec::new(), 0),
            _ => (0, None, first.into_bytes(), 0),
        }
    }
}

impl SaslServer for ScramServer {
    fn handshake(&mut self, mechanism: &str) -> i16 {
        self.exchange = None;
        if mechanism == "SCRAM-SHA-512" { 0 } else { 33 }
    }

    fn authenticate(&mut self, message: &[u8]) -> Answer {
        let message = std::str::from_utf8(message).expect("text");
        let Some((bare, first)) = self.exchange.take() else { return self.first(message) };
        let (without_proof, proof) = message.rsplit_once(",p=").expect("a proof");
        let mut salted = [0; 64];
        let iterations = std::num::NonZeroU32::new(4_096).expect("not 0");
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, b"salt", self.password.as_bytes(), &mut salted);
        let sign = |key: &[u8], of: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), of.as_bytes());
        let client = sign(&salted, "Client Key");
        let stored = digest::digest(&digest::SHA512, client.as_ref());
        let auth_message = format!("{bare},{first},{without_proof}");
        let signature = sign(stored.as_ref(), &auth_message);
        let right: Vec<u8> = client.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        if BASE64.decode(proof).expect("base64") != right {
            return refuses();
        }
        let server = sign(sign(&salted, "Server Key").as_ref(), &auth_message);
        let answer = match self.lie {
            Lie::Signature => format!("v={}", BASE64.encode(right)),
            Lie::NoSignature => String::new(),
            _ => format!("v={}", BASE64.encode(server)),
        };
        (0, None, answer.into_bytes(), 0)
    }
}

impl FakeCluster {
    pub(super) fn sasl_handshake(&mut self, node: i32, version: i16, bytes: &mut Bytes) -> Option<(BytesMut, i16)> {
        self.must_speak(node, 17, version);
        let mechanism = SaslHandshakeRequest::decode(bytes, version).expect("SaslHandshake").mechanism.to_string();
        let broker = self.broker(node);
        broker.seen.push(Seen::SaslHandshake(version, mechanism.clone()));
        // ILLEGAL_SASL_STATE if no SASL is required.
        let error = broker.sasl.as_mut().map_or(34, |server| server.handshake(&mechanism));
        let taken = ["PLAIN", "SCRAM-SHA-512"].map(StrBytes::from_static_str).to_vec();
        let body = SaslHandshakeResponse::default().with_error_code(error).with_mechanisms(taken);
        Some((encoded(&body, version), version))
    }

    pub(super) fn sasl_authenticate(&mut self, node: i32, version: i16, bytes: &mut Bytes) -> Option<(BytesMut, i16)> {
        self.must_speak(node, 36, version);
        let request = SaslAuthenticateRequest::decode(bytes, version).expect("SaslAuthenticate");
        let broker = self.broker(node);
        broker.seen.push(Seen::SaslAuthenticate(version));
        let server = broker.sasl.as_mut().expect("SASL is wanted");
        let (error, why, message, lifetime_ms) = server.authenticate(&request.auth_bytes);
        let body = SaslAuthenticateResponse::default()
            .with_error_code(error)
            .with_error_message(why.map(StrBytes::from))
            .with_auth_bytes(message.into());
        let body = if version >= 1 { body.with_session_lifetime_ms(lifetime_ms) } else { body };
        Some((encoded(&body, version), version))
    }
}
