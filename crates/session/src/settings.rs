//! The operator's limits and offers, as plain numbers. Promises to a client in its CONNACK are copied into its session: a change of
//! these settings applies from the next CONNECT on.

use forebay_mqtt::packet::QoS;

/// Bounds and offers of one listener's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Sessions of one shard, connected and kept. If `evict` finds none to end, one more is refused: 0x97 in 5.0, return code 3
    /// before.
    pub sessions_max: usize,
    /// Bytes of client identifiers, user names and wills of one shard's sessions, and of wills that wait for room;
    /// likewise.
    pub session_bytes_max: usize,
    /// Bytes of client identifier, user name and will of one session that is kept without a connection.
    pub session_bytes_each_max: usize,
    /// Any identity may take up a session without an owner: every listener requires a login, so such sessions are older.
    pub adopts: bool,
    /// Takeovers of one client identifier within ten seconds; 0: no bound.
    pub takeovers_max: u32,
    /// If there is no room for a session, those that have been away longest are ended; otherwise the CONNECT is refused.
    pub evict: bool,
    /// The longest Session Expiry Interval in seconds; `u32::MAX`: no bound, sessions may be kept for ever. A client that asks for
    /// more gets this value in CONNACK. 0: no session is kept.
    pub session_expiry_max_s: u32,
    /// Time that a 3.1 or 3.1.1 session with clean session 0 outlives its connection, in seconds; `u32::MAX`: for ever.
    pub session_expiry_3x_s: u32,
    /// The longest Keep Alive in seconds; `None`: no bound. 5.0 clients get it as Server Keep Alive [MQTT-3.1.2-21]; 3.x has no
    /// such field, so its clients keep their own. A client may choose 0 (off).
    pub keep_alive_max_s: Option<u16>,
    /// Receive Maximum for 5.0 clients, 1 to 65,535.
    pub receive_maximum: u16,
    /// Pending answers of one connection past which the shard stops reading it. Also bounds `receive_maximum`. At most 65,535, the
    /// number of packet ids.
    pub inflight_max: u16,
    /// QoS 2 packet ids that the session of a 3.x client may hold open; for a 5.0 client this is `receive_maximum`. One more is a
    /// protocol error: a client cannot be held back without holding back the PUBREL that would free one.
    pub qos2_inflight_3x: u16,
    /// Topic aliases that a 5.0 client may use; 0: none.
    pub topic_alias_maximum: u16,
    /// Bytes of topic names that the aliases of one connection may hold in all; past it the connection ends with 0x97.
    pub topic_alias_bytes_max: u32,
    /// Maximum Packet Size in bytes, announced to 5.0 clients; `None`: not announced. The frame cutter enforces it.
    pub packet_size_max: Option<u32>,
    /// The highest QoS taken from clients, wills too.
    pub maximum_qos: QoS,
    /// Whether RETAIN may be set by clients, wills too.
    pub retain_available: bool,
    /// Whether CONNACK leaves wildcard subscriptions available. If it declares them unavailable, a filter with a wildcard is a
    /// protocol error that ends the connection (section 3.2.2.3.11); otherwise it gets a failure code in SUBACK.
    pub wildcard_subscriptions: bool,
    /// Whether CONNACK leaves subscription identifiers available (section 3.2.2.3.12).
    pub subscription_identifiers: bool,
    /// Whether CONNACK leaves shared subscriptions available (section 3.2.2.3.13).
    pub shared_subscriptions: bool,
    /// The digits of this instance, for clients of 5.0 that tell theirs: bridges of other instances. Empty: there are none.
    pub instance: Box<str>,
    /// The bounds of a session's queue. A change applies at once.
    pub queue: QueueBounds,
}

/// The bounds of messages of QoS 1 and 2 that wait for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    /// The number of messages.
    pub messages: usize,
    /// Bytes of these messages. A larger message waits alone.
    pub bytes: usize,
    /// Whether a message past the bounds is dropped; otherwise the oldest that was not sent is dropped for it.
    pub drops_newest: bool,
    /// Whether the bytes of unacknowledged messages count, too, while the client is connected: the queue has a part of a log.
    pub counts_sent: bool,
}

impl Default for QueueBounds {
    fn default() -> Self {
        Self { messages: 10_000, bytes: 16 << 20, drops_newest: false, counts_sent: false }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sessions_max: 1_000_000,
            session_bytes_max: forebay_base::limits::SESSION_BYTES_MAX,
            session_bytes_each_max: forebay_base::limits::SESSION_BYTES_EACH_MAX,
            adopts: false,
            takeovers_max: 0,
            evict: true,
            session_expiry_max_s: u32::MAX,
            session_expiry_3x_s: 24 * 3600,
            keep_alive_max_s: None,
            receive_maximum: 1024,
            inflight_max: u16::MAX,
            qos2_inflight_3x: 1024,
            topic_alias_maximum: 32,
            topic_alias_bytes_max: 64 * 1024,
            packet_size_max: None,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            // A device that subscribes in vain should still be able to publish: a failure code, not a disconnect.
            wildcard_subscriptions: true,
            subscription_identifiers: true,
            shared_subscriptions: true,
            instance: "".into(),
            queue: QueueBounds::default(),
        }
    }
}
