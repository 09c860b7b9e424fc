//! `Far` is the other end of an outgoing connection.

/// `Far` is what an outgoing connection leads to, by its index in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    /// A Kafka cluster.
    Cluster(usize),
    /// The remote of a bridge.
    Bridge(usize),
}
