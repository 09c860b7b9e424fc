//! Connections between instances that are one broker: what the front of a client says of it to the owner of its slot, and who the other
//! instances are. A client's connection has one of its own, over which all its bytes go as they are.

mod fields;
mod header;
mod peers;

use crate::runtime::seam::ListenerId;

/// The length of what the owner of a slot says to a front first, when it takes the front's client: the incarnation of its process, big-endian. The bytes for the
/// client follow.
pub const ANSWER_LEN: usize = size_of::<u128>();

/// The port for other instances, among the listeners of a shard.
pub const LISTENER: ListenerId = ListenerId(u16::MAX - 1);

pub use self::header::{Client, Header, Malformed};
pub use self::peers::{Peers, address, endpoint, has_address};
