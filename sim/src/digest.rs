//! What the outside saw of a run, as one number: of each client the bytes that came to it and where its connections began and ended, of
//! each cluster the requests with the connection and the broker that they came to, in order. Times are left out. Two builds with the
//! same behaviour have the same digest for each seed (`forebay-sim 0..20000 --digests FILE`).

use crate::world::World;

/// A hash (FNV-1a, 64 bits) of bytes, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Default for Seen {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Seen {
    /// Adds bytes. However they are cut into pieces, the hash is the same.
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
    /// A broker looks at a request of a connection.
    pub(crate) fn saw(&mut self, connection: u64, broker: i32, frame: &[u8]) {
        self.seen.number(connection);
        self.seen.number(u64::from(broker.cast_unsigned()));
        self.seen.bytes(frame);
    }
}

/// The digest of a run that is over.
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
