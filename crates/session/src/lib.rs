//! A client's state machine: packets and `now` in, bytes and effects out. No socket, no clock, no `async`.
//!
//! [`Sessions`] holds the sessions of one shard. `CONNECT` goes to [`Sessions::connect`], `PUBLISH` to [`Sessions::publish`], every
//! other packet to [`Session::packet`]; the end of a connection, of any kind, to [`Sessions::disconnected`]. Bytes are appended to
//! the connection's out-buffer; the returned value says what the caller must do. [`Sessions::expire`] does what has fallen due.
//!
//! If sessions must survive a crash ([`Sessions::keep`]), the records to write for that are returned as [`Note`]s, and
//! [`Sessions::restore`] takes up the sessions of an earlier process.
//!
//! The promise kept here (`docs/` has all of it): a message is answered when every sink that took it has reached its level, in the
//! order of the publishes, on the connection of its publish or never.

#![forbid(unsafe_code)]

mod alias;
mod authenticate;
mod body;
mod claim;
mod client_key;
mod connect;
mod elsewhere;
mod end;
mod fill;
mod inflight;
mod item;
mod keep_alive;
mod keeping;
mod outgoing;
mod packets;
mod peer;
mod places;
mod qos2;
mod queue;
mod receipts;
mod refusals;
mod refused;
mod remote;
mod restore;
mod run;
mod saved;
mod sent_aliases;
mod settings;
mod state;
mod store;
mod subscriptions;
mod takeovers;
mod waiting;
mod will;

pub use authenticate::{Authenticated, write_auth};
pub use body::{Body, Copy, Gone, Place, Remembered, is_expired, properties};
pub use claim::{Claim, Claimed, PartitionKey, Placed, RecordPlace, Settled};
pub use client_key::{ClientKey, OwnedKey};
pub use connect::{Refused, redirect, refuse};
pub use elsewhere::{ReleaseFirst, Unanswered};
pub use end::{End, Violation, send_away};
pub use fill::Fill;
pub use inflight::Drained;
pub use keep_alive::{Check, KeepAlive};
pub use keeping::Note;
pub use outgoing::{Handed, Pumped};
pub use packets::Next;
pub use peer::Peer;
pub use queue::{COPY_NUMBER_MAX, Changed, SavedQueue};
pub use receipts::Receipt;
pub use refusals::Reason;
pub use refused::RefusedCopy;
pub use remote::{Passes, Remote};
pub use restore::{HadBy, OpenId};
pub use run::Run;
pub use saved::{NotASession, client_id, is_format};
pub use sent_aliases::Alias;
pub use settings::{QueueBounds, Settings};
pub use state::{Message, Session, Taken};
pub use store::{Arrival, Connected, SessionKey, Sessions, TakenOver};
pub use subscriptions::{Subscription, SubscriptionRefused, Wish};
pub use waiting::Waiting;
pub use will::DueWill;

#[cfg(test)]
mod tests;
