//! Connections that speak just enough MQTT 3.1.1: CONNECT, PUBLISH, and counting what comes back.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, bail};
use forebay::mqtt::encode;
use forebay::mqtt::frame;
use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, Version};
use forebay::mqtt::property::Properties;

/// Connects and waits for CONNACK; the socket is non-blocking afterwards.
pub(crate) fn connect(to: SocketAddr, client_id: &str, keep_alive_s: u16) -> anyhow::Result<TcpStream> {
    let mut socket = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
    socket.set_nodelay(true)?;
    let connect = Connect {
        version: Version::V311,
        clean_start: true,
        keep_alive_s,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    };
    let mut bytes = Vec::new();
    put(&Packet::Connect(connect), &mut bytes)?;
    socket.write_all(&bytes)?;
    let mut answer = [0; 4];
    socket.read_exact(&mut answer)?;
    if answer != [0x20, 2, 0, 0] {
        bail!("{client_id}: CONNACK {answer:02x?}");
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn put(packet: &Packet<'_>, out: &mut Vec<u8>) -> anyhow::Result<()> {
    encode::packet(Version::V311, packet, out).map_err(|error| anyhow::anyhow!("{error:?}"))
}

/// A publishing device.
pub(crate) struct Device {
    pub(crate) socket: TcpStream,
    topic: String,
    qos: QoS,
    payload: Vec<u8>,
    next_id: u16,
    next_number: u64,
    /// Sent and not answered (QoS 0: always 0).
    pub(crate) open: usize,
    /// Answered so far, and for each write what that will be once its last message is answered, and when it went out.
    answered: u64,
    writes: VecDeque<(u64, Instant)>,
    out: Vec<u8>,
    tail: Vec<u8>,
}

impl Device {
    pub(crate) fn new(socket: TcpStream, topic: String, qos: QoS, payload_bytes: usize) -> Self {
        let payload = vec![b'x'; payload_bytes.max(20)];
        Self {
            socket,
            topic,
            qos,
            payload,
            next_id: 1,
            next_number: 0,
            open: 0,
            answered: 0,
            writes: VecDeque::new(),
            out: Vec::new(),
            tail: Vec::new(),
        }
    }

    /// Queues `count` messages and writes what the socket takes. `false`: the socket is full.
    pub(crate) fn publish(&mut self, count: usize) -> anyhow::Result<bool> {
        for _ in 0..count {
            write!(&mut self.payload[..20], "{:020}", self.next_number)?;
            self.next_number += 1;
            let acked = self.qos != QoS::AtMostOnce;
            let publish = Publish {
                dup: false,
                qos: self.qos,
                retain: false,
                topic: &self.topic,
                packet_id: if acked { self.next_id } else { 0 },
                properties: Properties::EMPTY,
                payload: &self.payload,
            };
            put(&Packet::Publish(publish), &mut self.out)?;
            if acked {
                self.next_id = self.next_id.checked_add(1).unwrap_or(1);
                self.open += 1;
            }
        }
        if self.qos != QoS::AtMostOnce {
            self.writes.push_back((self.next_number, Instant::now()));
        }
        self.flush()
    }

    /// Writes what is queued. `false`: the socket is full.
    pub(crate) fn flush(&mut self) -> anyhow::Result<bool> {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Queues a PINGREQ: its answer proves that everything before it was parsed.
    pub(crate) fn ping(&mut self) -> anyhow::Result<bool> {
        put(&Packet::PingReq, &mut self.out)?;
        self.flush()
    }

    /// How long the last messages of writes waited for their answers, of those that have come since last time, in microseconds.
    pub(crate) fn waited_us(&mut self, mut note: impl FnMut(u64)) {
        while let Some(&(_, sent)) = self.writes.front().filter(|(number, _)| *number <= self.answered) {
            note(sent.elapsed().as_micros() as u64);
            self.writes.pop_front();
        }
    }

    /// Reads once; returns finished messages (PUBACK, PUBCOMP) and PINGRESPs. Answers PUBREC with PUBREL.
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> anyhow::Result<(usize, usize)> {
        match self.socket.read(scratch) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(n) => self.tail.extend_from_slice(&scratch[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok((0, 0)),
            Err(error) => return Err(error.into()),
        }
        let (mut used, mut done, mut pongs) = (0, 0, 0);
        while let Some(frame) = frame::next(&self.tail[used..], 1 << 20).map_err(|m| anyhow::anyhow!("{m}"))? {
            match frame.first >> 4 {
                4 | 7 => done += 1,
                5 => self.out.extend_from_slice(&[0x62, 2, frame.body[0], frame.body[1]]),
                13 => pongs += 1,
                other => bail!("unexpected packet of type {other}"),
            }
            used += frame.len;
        }
        self.tail.drain(..used);
        self.open -= done;
        self.answered += done as u64;
        self.flush()?;
        Ok((done, pongs))
    }
}
