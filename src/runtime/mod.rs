//! The shard seam, the ring, the executors.

mod accept;
mod buffers;
mod connect;
mod connections;
mod core;
mod disk;
mod executor;
mod host;
mod listen;
mod mailbox;
mod park;
mod receive;
mod ring;
pub mod seam;
mod send;
mod timer;
mod turn;
mod watchdog;

pub use executor::{Settings, ShardThread, spawn};
pub use host::{cpus, probe};
pub use listen::{Listener, Listeners};
pub use mailbox::{MailboxReceiver, Post, mailboxes};
pub use watchdog::{Heartbeat, Watchdog};

#[cfg(test)]
mod tests;
