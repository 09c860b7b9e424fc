//! SIGTERM, SIGINT and SIGHUP, received by a thread of their own and passed on through a channel. SIGUSR1 belongs to glommio.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop; the name of the signal.
    Stop(&'static str),
    /// Read the configuration again.
    Reload,
}

/// Ignores SIGHUP from here on until [`watch`] is called, so that it does not end the process.
///
/// # Errors
/// The handler cannot be installed.
pub fn survive_hangup() -> io::Result<()> {
    signal_hook::flag::register(SIGHUP, Arc::new(AtomicBool::new(false))).map(drop)
}

/// Sends `tell(signal)` for each signal that arrives.
///
/// # Errors
/// The handlers cannot be installed.
pub fn watch<T: Send + 'static>(to: Sender<T>, tell: impl Fn(Signal) -> T + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let signal = match signal {
                SIGHUP => Signal::Reload,
                SIGTERM => Signal::Stop("SIGTERM"),
                _ => Signal::Stop("SIGINT"),
            };
            if to.send(tell(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
