//! The limits of one user: connections, messages and bytes in a second, the contents of its sessions.

/// `[auth.NAME.limits]`. 0: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Connections at a time, on all shards together.
    pub connections: u32,
    /// Sessions that outlive their connections, likewise.
    pub sessions: u32,
    /// Publishes and wills in a second.
    pub messages_s: u32,
    /// CONNECTs in a second, with a burst of [`Limits::CONNECTS_AT_ONCE`] or more; if not set, equal to `messages_s`.
    pub connects_s: u32,
    /// Bytes of packets in a second.
    pub bytes_s: u64,
    /// Bytes of client identifier, user name and will of one session.
    pub session_bytes: u64,
    /// Bytes of a will: topic, payload and properties.
    pub will_bytes: u64,
}

impl Limits {
    /// The smallest burst of CONNECTs of a user, whatever its rate is: a device that comes back twice in a second is no flood.
    pub const CONNECTS_AT_ONCE: u32 = 10;

    /// Whether the connections of its users are counted.
    #[must_use]
    pub fn are_counted(&self) -> bool {
        self.connections > 0 || self.connects_s > 0 || self.has_rates()
    }

    /// Whether the rate of its users' publishes is bounded.
    #[must_use]
    pub fn has_rates(&self) -> bool {
        self.messages_s > 0 || self.bytes_s > 0
    }
}
