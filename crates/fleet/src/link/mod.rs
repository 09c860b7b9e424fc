//! Connections between instances that are one broker: the header about a client that its front sends to the owner of its slot, and the table of the other
//! instances. Each relayed client has a stream of its own ([`crate::trunk`]), which carries all its bytes unchanged.

#[cfg(feature = "testing")]
pub mod any_header;
mod fields;
mod header;
mod peers;

use forebay_runtime::seam::ListenerId;

/// The length of the answer that the owner of a slot sends to a front first, when it takes the front's client: the incarnation of its process, big-endian.
/// The bytes for the client follow.
pub const ANSWER_LEN: usize = size_of::<u128>();

/// The port for other instances, among the listeners of a shard.
pub const LISTENER: ListenerId = ListenerId(u16::MAX - 1);

pub use self::header::{Client, Header, Malformed};
pub use self::peers::{Peers, address, endpoint, has_address};
