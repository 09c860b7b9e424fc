//! Host names to addresses on an ordinary thread: `getaddrinfo` blocks, a core must not.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Sender, channel};

/// A question; `answer` is called on the resolver's thread.
pub struct Question {
    /// Host name.
    pub host: String,
    /// Port, passed through.
    pub port: u16,
    /// Gets the addresses, or the error's text.
    pub answer: Box<dyn FnOnce(Result<Vec<SocketAddr>, String>) + Send>,
}

/// Starts the thread. It ends when the last sender is dropped.
///
/// # Errors
/// The thread cannot be made.
pub fn start() -> std::io::Result<Sender<Question>> {
    let (ask, questions) = channel::<Question>();
    std::thread::Builder::new().name("resolver".into()).spawn(move || {
        for Question { host, port, answer } in questions {
            let found = (host.as_str(), port).to_socket_addrs();
            answer(match found.map(Iterator::collect::<Vec<_>>) {
                Ok(addresses) if addresses.is_empty() => Err(format!("{host} has no address")),
                Ok(addresses) => Ok(addresses),
                Err(error) => Err(format!("{host}: {error}")),
            });
        }
    })?;
    Ok(ask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_resolves_and_nonsense_does_not() {
        let ask = start().expect("thread");
        let (tell, told) = channel();
        for host in ["localhost", "no host at all"] {
            let tell = tell.clone();
            let answer = Box::new(move |found| drop(tell.send(found)));
            ask.send(Question { host: host.into(), port: 9092, answer }).expect("asked");
        }
        let found = told.recv().expect("first").expect("localhost");
        assert!(found.iter().all(|a| a.ip().is_loopback() && a.port() == 9092));
        assert!(told.recv().expect("second").is_err());
    }
}
