//! The runtime from outside: real sockets on the loopback, real threads, one or two shards.

mod closing;
mod connections;
mod harness;
mod parking;
mod streams;
mod traps;
