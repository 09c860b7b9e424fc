//! Layers between MQTT and the socket: none, TLS (rustls), WebSocket (tungstenite), or both. All without I/O: bytes in, bytes
//! out.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::{Message, WebSocket};

/// The transport of connections.
#[derive(Clone)]
pub(crate) struct Transport {
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The URL's authority and path, such as `localhost:8083/mqtt`.
    pub(crate) websocket: Option<String>,
}

impl Transport {
    pub(crate) fn plain() -> Self {
        Self { tls: None, websocket: None }
    }

    pub(crate) fn layer(&self) -> anyhow::Result<Option<Box<Layer>>> {
        if self.tls.is_none() && self.websocket.is_none() {
            return Ok(None);
        }
        let tls = match &self.tls {
            Some((config, name)) => Some(ClientConnection::new(config.clone(), name.clone())?),
            None => None,
        };
        let websocket = self.websocket.as_deref().map(|url| Frames::new(url, self.tls.is_some())).transpose()?;
        Ok(Some(Box::new(Layer { tls, websocket })))
    }
}

/// One connection's layers.
pub(crate) struct Layer {
    tls: Option<ClientConnection>,
    websocket: Option<Frames>,
}

impl Layer {
    /// Takes MQTT bytes; appends the bytes for the socket.
    pub(crate) fn send(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
        match &mut self.websocket {
            Some(frames) => frames.send(bytes)?,
            None => {
                if let Some(tls) = &mut self.tls {
                    tls.writer().write_all(bytes)?;
                }
            }
        }
        self.flush(out)
    }

    /// Takes the socket's bytes; appends MQTT bytes, and bytes for the socket.
    pub(crate) fn receive(&mut self, mut bytes: &[u8], mqtt: &mut Vec<u8>, out: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut plain = Vec::new();
        match &mut self.tls {
            Some(tls) => {
                while !bytes.is_empty() {
                    tls.read_tls(&mut bytes)?;
                    tls.process_new_packets()?;
                    match tls.reader().read_to_end(&mut plain) {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            None => plain.extend_from_slice(bytes),
        }
        match &mut self.websocket {
            Some(frames) => frames.receive(&plain, mqtt)?,
            None => mqtt.extend_from_slice(&plain),
        }
        self.flush(out)
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> anyhow::Result<()> {
        let frames = self.websocket.as_mut().map(Frames::written).unwrap_or_default();
        match &mut self.tls {
            Some(tls) => {
                tls.writer().write_all(&frames)?;
                while tls.wants_write() {
                    tls.write_tls(out)?;
                }
            }
            None => out.extend_from_slice(&frames),
        }
        Ok(())
    }
}

/// Stands in for a socket, for tungstenite.
#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = into.len().min(self.input.len());
        into[..count].copy_from_slice(&self.input[..count]);
        self.input.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Frames {
    /// The handshake, with MQTT bytes that wait for its end.
    Handshake(Option<Box<MidHandshake<ClientHandshake<Pipe>>>>, Vec<u8>),
    Open(Box<WebSocket<Pipe>>),
}

impl Frames {
    fn new(url: &str, tls: bool) -> anyhow::Result<Self> {
        let mut request = format!("{}://{url}", if tls { "wss" } else { "ws" }).into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse()?);
        match tungstenite::client(request, Pipe::default()) {
            Err(HandshakeError::Interrupted(handshake)) => Ok(Self::Handshake(Some(Box::new(handshake)), Vec::new())),
            Err(error) => Err(error.into()),
            Ok(_) => bail!("a WebSocket handshake ended without an answer"),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Handshake(_, waiting) => waiting.extend_from_slice(bytes),
            Self::Open(socket) => {
                socket.write(Message::Binary(bytes.to_vec().into()))?;
                socket.flush()?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &[u8], mqtt: &mut Vec<u8>) -> anyhow::Result<()> {
        if let Self::Handshake(handshake, waiting) = self {
            let mut mid = handshake.take().context("the WebSocket handshake failed before")?;
            mid.get_mut().get_mut().input.extend_from_slice(bytes);
            match mid.handshake() {
                Err(HandshakeError::Interrupted(mid)) => *handshake = Some(Box::new(mid)),
                Err(error) => return Err(error.into()),
                Ok((socket, _)) => {
                    let waiting = std::mem::take(waiting);
                    *self = Self::Open(Box::new(socket));
                    if !waiting.is_empty() {
                        self.send(&waiting)?;
                    }
                }
            }
        } else if let Self::Open(socket) = self {
            socket.get_mut().input.extend_from_slice(bytes);
        }
        let Self::Open(socket) = self else { return Ok(()) };
        loop {
            match socket.read() {
                Ok(Message::Binary(bytes)) => mqtt.extend_from_slice(&bytes),
                Ok(Message::Text(_)) => bail!("a text frame; MQTT has binary ones (5.0 §6.0)"),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn written(&mut self) -> Vec<u8> {
        match self {
            Self::Handshake(Some(mid), _) => std::mem::take(&mut mid.get_mut().get_mut().output),
            Self::Handshake(None, _) => Vec::new(),
            Self::Open(socket) => std::mem::take(&mut socket.get_mut().output),
        }
    }
}
