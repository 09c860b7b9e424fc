//! One client's connection: a length, a request, an answer, one after the other and in order.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::api::{self, Close, Context, Reply};
use super::counters::{Counters, add, subtract};
use super::faults::{self, Scripted};
use super::guard::HEAD_BYTES;
use super::places::Place;
use super::store::Store;

/// Bytes reserved for a request before its bytes arrive, whatever length it announces.
const FIRST_READ_BYTES: usize = 16 << 10;
/// The size of the pieces in which an answer is sent, each within the stall timeout: a slow reader is not a stalled
/// one.
const WRITE_BYTES: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it let us wait for longer than {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("invalid request length {0}")]
    Length(i32),
    #[error(transparent)]
    Close(#[from] Close),
}

/// An open connection, counted until it is dropped, because it may end at any point.
struct Open<'a>(&'a Counters);

impl<'a> Open<'a> {
    fn new(counters: &'a Counters) -> Self {
        add(&counters.connections_open, 1);
        Self(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        subtract(&self.0.connections_open, 1);
    }
}

/// Serves a connection until its end. The reason of the end is logged at debug level and counted; a client sees the
/// close.
pub(crate) async fn serve(
    store: Rc<Store>,
    mut stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    stopping: watch::Receiver<bool>,
) {
    let _open = Open::new(&store.counters);
    if let Err(end) = serve_requests(&store, &mut stream, peer, &place, stopping).await {
        if matches!(end, End::Length(_) | End::Close(Close::Malformed(_))) {
            add(&store.counters.requests_malformed, 1);
        }
        tracing::debug!(%peer, reason = %end, "connection closed");
    }
}

async fn serve_requests(
    store: &Store,
    stream: &mut TcpStream,
    peer: SocketAddr,
    place: &Place,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), End> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let context = Context { store, local, peer, place, stopping: stopping.clone() };
    let stall = store.settings.stall_timeout;
    let mut patience = store.settings.first_request_timeout;
    loop {
        let mut length = [0; 4];
        let next = timeout(patience, stream.read(&mut length));
        let have = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
            next = next => match next {
                Err(_) | Ok(Ok(0)) => return Ok(()),
                Ok(have) => have?,
            },
        };
        // From its first byte on, a request must arrive without a stall.
        let rest = timeout(stall, stream.read_exact(&mut length[have..]));
        rest.await.map_err(|_| End::Stalled(stall))??;
        let length = i32::from_be_bytes(length);
        let wanted = usize::try_from(length).unwrap_or(0);
        if wanted < HEAD_BYTES || wanted > store.settings.request_bytes_max {
            return Err(End::Length(length));
        }
        let _memory = store.request_memory(wanted).await;
        let frame = timeout(stall, read_frame(stream, wanted)).await.map_err(|_| End::Stalled(stall))??;
        place.works();
        let Scripted { reply, close } = match &store.settings.faults {
            None => Scripted { reply: api::answer(&context, frame).await?, close: false },
            Some(script) => faults::answer(&context, script, frame).await?,
        };
        add(&store.counters.requests, 1);
        if let Reply::Answer(bytes, _memory) = reply {
            write(stream, &bytes, stall).await?;
        }
        if close {
            return Ok(());
        }
        place.waits();
        patience = store.settings.idle_timeout;
    }
}

/// Reads a frame into a buffer that grows with the bytes that arrive.
async fn read_frame(stream: &mut TcpStream, length: usize) -> io::Result<Bytes> {
    let mut frame = BytesMut::with_capacity(length.min(FIRST_READ_BYTES));
    let mut limited = stream.take(length as u64);
    while frame.len() < length {
        if frame.len() == frame.capacity() {
            frame.reserve((length - frame.len()).min(frame.len()));
        }
        if limited.read_buf(&mut frame).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(frame.freeze())
}

async fn write(stream: &mut TcpStream, bytes: &[u8], stall: Duration) -> Result<(), End> {
    for piece in bytes.chunks(WRITE_BYTES) {
        timeout(stall, stream.write_all(piece)).await.map_err(|_| End::Stalled(stall))??;
    }
    Ok(())
}
