//! `AtDoor` is what is known of a client before it has a session.

use forebay_guard::auth::{Admission, Exchange, Share};
use forebay_runtime::seam::Monotonic;
use forebay_service::service::verifier::Asked;
use forebay_session::Violation;

/// The identity of a client as known before it has a session, and its bounds afterwards.
#[derive(Debug)]
pub enum AtDoor {
    /// The client's certificate in DER, verified.
    Certificate(Vec<u8>),
    /// The question that decides on the CONNECT: taken back when the connection ends.
    Asked(#[allow(dead_code, reason = "held, not read")] Asked),
    /// The exchange that its CONNECT has begun, and the length of that in bytes.
    Exchange(Box<Exchange>, usize),
    /// The client's admission, and the time until which it holds.
    Admitted(Admission, Monotonic),
    /// The reason why its CONNECT is refused, which another instance has sent.
    Refused(Violation),
    /// The client's part of its user's bounds; it has a session.
    Bounded(Share),
}
