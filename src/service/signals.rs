//! SIGTERM and SIGINT, taken by a thread of their own and told on a channel. SIGUSR1 belongs to glommio.

use std::io;
use std::sync::mpsc::Sender;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `tell` once for each SIGTERM or SIGINT.
///
/// # Errors
/// The handlers cannot be installed.
pub fn watch<T: Send + 'static>(to: Sender<T>, tell: impl Fn(&'static str) -> T + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            if to.send(tell(name)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
