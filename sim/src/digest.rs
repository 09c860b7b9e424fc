//! The outside view of a run as one number: for each client, the bytes that it received and where its connections began and ended; for
//! each cluster, the requests in order, with their connection and broker. Times are left out. Two builds with the same behaviour have
//! the same digest for each seed (`forebay-sim 0..20000 --digests FILE`).

use crate::world::World;

/// A hash (FNV-1a, 64 bits) of bytes, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Default for Seen {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Seen {
    /// Adds bytes. The hash does not depend on how they are cut into pieces.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, number: u64) {
        self.bytes(&number.to_be_bytes());
    }
}

impl crate::kafka::Cluster {
    /// Adds a request of a connection that a broker looks at.
    pub(crate) fn saw(&mut self, connection: u64, broker: i32, frame: &[u8]) {
        self.seen.number(connection);
        self.seen.number(u64::from(broker.cast_unsigned()));
        self.seen.bytes(frame);
    }
}

/// The digest of a finished run.
pub(crate) fn of(world: &World) -> u64 {
    let mut all = Seen::default();
    for client in
        world.devices.iter().map(|one| &one.connection).chain(world.subscribers.iter().map(|one| &one.connection))
    {
        all.number(client.seen().0);
    }
    for cluster in &world.clusters {
        all.number(cluster.seen.0);
    }
    for message in &world.messages {
        all.number(message.sends.into());
        all.number(message.answered.is_some().into());
        all.number(message.refused_as.map_or(0, u64::from));
    }
    all.0
}
