//! The properties of a client that matter for writing to it.

use forebay_mqtt::encode;
use forebay_mqtt::packet::{Connect, Packet, Sender, Version};

/// The reading end of a connection. Small enough to copy: it outlives the session when a connection is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The protocol version of the client.
    pub version: Version,
    /// The client's Maximum Packet Size in bytes; `u32::MAX` if it named none.
    pub packet_size_max: u32,
    /// The client's Request Problem Information: whether reason strings may be sent where the standard lets a client refuse them
    /// [MQTT-3.1.2-29].
    pub problem_information: bool,
    /// Whether this is a remote, to which we are the client ([`super::Remote`]): it gets no reasons, and our DISCONNECT ends its
    /// connection.
    pub is_remote: bool,
}

impl Peer {
    /// A client that has set no bounds.
    #[must_use]
    pub const fn new(version: Version) -> Self {
        Self { version, packet_size_max: u32::MAX, problem_information: true, is_remote: false }
    }

    /// The properties of a client that has sent CONNECT.
    #[must_use]
    pub fn of(connect: &Connect<'_>) -> Self {
        let properties = connect.properties;
        Self {
            version: connect.version,
            packet_size_max: properties.maximum_packet_size().unwrap_or(u32::MAX),
            problem_information: properties.request_problem_information().unwrap_or(true),
            is_remote: false,
        }
    }

    /// The end of the connection that the peer is.
    #[must_use]
    pub const fn sender(self) -> Sender {
        if self.is_remote { Sender::Server } else { Sender::Client }
    }

    /// Whether a reason string, or a user property beside an answer, is of use: 5.0, and wanted.
    pub(super) fn wants_reasons(self) -> bool {
        self.version == Version::V5 && self.problem_information
    }

    /// Appends a packet; leaves `out` unchanged and returns false if the client could not take one of that size [MQTT-3.1.2-24], or
    /// its version has no such packet.
    pub(super) fn send(self, packet: &Packet<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let encoded = encode::packet(self.version, packet, out);
        let fits = encoded.is_ok() && out.len() - start <= self.packet_size_max as usize;
        if !fits {
            out.truncate(start);
        }
        fits
    }
}
