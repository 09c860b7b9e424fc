//! The control plane over TLS. Handshakes are made beside each other: one that is slow holds up no other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Shown;

/// Handshakes at a time; further connections wait to be accepted.
const HANDSHAKES_MAX: usize = 64;
/// A client that has not done its part by then is gone.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

type Accepted = (TlsStream<TcpStream>, SocketAddr);

/// Connections whose handshake is over.
pub(super) struct Accepting {
    accepted: Receiver<Accepted>,
    addr: io::Result<SocketAddr>,
}

impl Accepting {
    /// Accepts from now on, each connection with the certificate that there is then.
    pub(super) fn start(mut listener: TcpListener, shown: Shown) -> Self {
        let addr = listener.local_addr();
        let (tell, accepted) = channel(1);
        let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        tokio::spawn(async move {
            while let Ok(place) = Arc::clone(&room).acquire_owned().await {
                let (socket, peer) = Listener::accept(&mut listener).await;
                let (Some(config), tell) = (shown.view().tls.clone(), tell.clone()) else { continue };
                tokio::spawn(async move {
                    let _place = place;
                    let handshake = TlsAcceptor::from(config).accept(socket);
                    match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
                        // The receiver is gone when the service ends.
                        Ok(Ok(stream)) => drop(tell.send((stream, peer)).await),
                        Ok(Err(error)) => {
                            tracing::debug!(%peer, %error, "a TLS connection to the control plane failed")
                        }
                        Err(_) => tracing::debug!(%peer, "a TLS connection to the control plane took too long"),
                    }
                });
            }
        });
        Self { accepted, addr }
    }
}

impl Listener for Accepting {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Accepted {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The runtime ends.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.addr.as_ref().map(|addr| *addr).map_err(|error| error.kind().into())
    }
}
