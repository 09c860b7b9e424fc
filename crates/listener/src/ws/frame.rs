//! Frames of the other end, parsed as their bytes arrive, and frames for it. A client's frames have masks, a server's have none.

/// Close codes (RFC 6455, 7.4.1).
pub(super) const NORMAL: u16 = 1000;
pub(super) const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const INVALID_DATA: u16 = 1007;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Two bytes, a length of eight, a mask of four.
pub(super) const HEADER_BYTES_MAX: usize = 14;
/// The payload of a control frame.
const CONTROL_BYTES_MAX: u64 = 125;

/// The mask of a frame of a client.
pub(super) type Mask = [u8; 4];

/// A protocol error that closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: u16,
    pub(super) what: &'static str,
}

const fn violation(what: &'static str) -> Violation {
    Violation { code: PROTOCOL_ERROR, what }
}

/// The kind of the frame that is being read.
#[derive(Debug)]
enum Kind {
    Data,
    Control(u8),
}

/// A parser of frames. Payload bytes are given out as they arrive; nothing is reserved for the announced length.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The other end is a server, so its frames have no masks.
    is_unmasked: bool,
    header: [u8; HEADER_BYTES_MAX],
    /// Bytes of the header that have arrived.
    have: usize,
    /// The frame that is being read, and how many bytes of its payload are missing.
    frame: Option<(Kind, u64)>,
    mask: Mask,
    /// The index of the next byte of the mask.
    phase: usize,
    /// A message has begun, and its last frame has not arrived.
    in_message: bool,
    /// The payload of the current control frame.
    control: Vec<u8>,
    /// The payload of the next PONG: that of the last PING.
    pong: Option<Vec<u8>>,
    /// The other end's CLOSE has arrived, and is answered with this code.
    closed: Option<u16>,
}

impl Reader {
    /// A parser of a server's frames.
    pub(super) fn of_server() -> Self {
        Self { is_unmasked: true, ..Self::default() }
    }

    /// Takes bytes of the wire and unmasks them in place. Appends payloads to `plain`, and answers to `answer`: one PONG, for the
    /// last PING, and the echo of CLOSE. `mask`: makes the mask of each answer.
    pub(super) fn take(
        &mut self,
        wire: &mut [u8],
        mut mask: impl FnMut() -> Option<Mask>,
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        if self.closed.is_some() {
            return Ok(());
        }
        let mut at = 0;
        while at < wire.len() && self.closed.is_none() {
            match &mut self.frame {
                None => {
                    self.header[self.have] = wire[at];
                    self.have += 1;
                    at += 1;
                    self.header()?;
                }
                Some((kind, left)) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(wire.len() - at);
                    let bytes = &mut wire[at..at + count];
                    if !self.is_unmasked {
                        self.phase = change(bytes, self.mask, self.phase);
                    }
                    match kind {
                        Kind::Data => plain.extend_from_slice(bytes),
                        Kind::Control(_) => self.control.extend_from_slice(bytes),
                    }
                    *left -= count as u64;
                    at += count;
                    self.end_of_frame();
                }
            }
        }
        if let Some(pong) = self.pong.take() {
            write(PONG, &pong, mask(), answer);
        }
        if let Some(code) = self.closed {
            write(CLOSE, &code.to_be_bytes(), mask(), answer);
        }
        Ok(())
    }

    /// Whether the other end has closed.
    pub(super) fn has_ended(&self) -> bool {
        self.closed.is_some()
    }

    /// Bytes that are stored because a frame is not whole.
    pub(super) fn held(&self) -> usize {
        self.control.capacity()
    }

    /// Checks the bytes of a header that have arrived, each as early as possible.
    fn header(&mut self) -> Result<(), Violation> {
        let [first, second, ..] = self.header;
        let (is_last, kind) = (first & 0x80 != 0, first & 0x0f);
        if self.have == 1 {
            return match kind {
                _ if first & 0x70 != 0 => Err(violation("a frame with a reserved bit, and no extension is in use")),
                // [MQTT-6.0.0-1]
                TEXT => Err(Violation { code: UNSUPPORTED_DATA, what: "a text frame; MQTT is binary" }),
                BINARY if self.in_message => Err(violation("a new message within another")),
                CONTINUATION if !self.in_message => Err(violation("a continuation of no message")),
                CLOSE | PING | PONG if !is_last => Err(violation("a control frame in fragments")),
                CONTINUATION | BINARY | CLOSE | PING | PONG => Ok(()),
                _ => Err(violation("a frame with an unknown opcode")),
            };
        }
        let (bytes, length) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes([self.header[2], self.header[3]]))),
            127 => {
                let bytes = self.header[2..10].try_into().unwrap_or_default();
                (8, u64::from_be_bytes(bytes))
            }
            short => (0, u64::from(short)),
        };
        if self.have == 2 {
            match (second & 0x80 == 0, self.is_unmasked) {
                (true, false) => return Err(violation("a frame without a mask")),
                (false, true) => return Err(violation("a frame with a mask")),
                _ => {}
            }
            if kind >= CLOSE && bytes > 0 {
                return Err(violation("a control frame of more than 125 bytes"));
            }
        }
        let mask = if self.is_unmasked { 0 } else { size_of::<Mask>() };
        let whole = 2 + bytes + mask;
        if self.have < whole {
            return Ok(());
        }
        if length >> 63 != 0 {
            return Err(violation("a frame of 2^63 bytes or more"));
        }
        self.mask[..mask].copy_from_slice(&self.header[whole - mask..whole]);
        (self.have, self.phase) = (0, 0);
        if kind < CLOSE {
            self.in_message = !is_last;
            self.frame = Some((Kind::Data, length));
        } else {
            debug_assert!(length <= CONTROL_BYTES_MAX);
            self.frame = Some((Kind::Control(kind), length));
        }
        self.end_of_frame();
        Ok(())
    }

    fn end_of_frame(&mut self) {
        let Some((kind, 0)) = &self.frame else { return };
        if let Kind::Control(kind) = kind {
            let said = std::mem::take(&mut self.control);
            match *kind {
                PING => self.pong = Some(said),
                CLOSE => self.closed = Some(answer_to_close(&said)),
                _ => {}
            }
        }
        self.frame = None;
    }
}

/// The code that answers a CLOSE: its own, or 1000 if it has none. A CLOSE's payload is empty, or a code and a reason in UTF-8
/// (RFC 6455, 5.5.1 and 8.1).
fn answer_to_close(said: &[u8]) -> u16 {
    let Some((code, reason)) = said.split_first_chunk() else {
        return if said.is_empty() { NORMAL } else { PROTOCOL_ERROR };
    };
    match u16::from_be_bytes(*code) {
        code if !is_sent(code) => PROTOCOL_ERROR,
        _ if std::str::from_utf8(reason).is_err() => INVALID_DATA,
        code => code,
    }
}

/// Codes that may be sent (RFC 6455, 7.4).
fn is_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Puts a mask on, or takes it off. Returns the phase after it.
fn change(bytes: &mut [u8], mask: Mask, phase: usize) -> usize {
    let turned: [u8; 4] = std::array::from_fn(|at| mask[(at + phase) % 4]);
    let wide = u64::from_ne_bytes(std::array::from_fn(|at| turned[at % 4]));
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(turned.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    (phase + bytes.len()) % 4
}

/// Appends a binary frame.
pub(super) fn binary(bytes: &[u8], mask: Option<Mask>, wire: &mut Vec<u8>) {
    write(BINARY, bytes, mask, wire);
}

/// Appends a CLOSE with this code.
pub(super) fn close(code: u16, mask: Option<Mask>, wire: &mut Vec<u8>) {
    write(CLOSE, &code.to_be_bytes(), mask, wire);
}

fn write(kind: u8, bytes: &[u8], mask: Option<Mask>, wire: &mut Vec<u8>) {
    wire.push(0x80 | kind);
    let is_masked = if mask.is_some() { 0x80 } else { 0 };
    match (bytes.len(), u16::try_from(bytes.len())) {
        (length @ 0..=125, _) => wire.push(is_masked | u8::try_from(length).unwrap_or_default()),
        (_, Ok(length)) => {
            wire.push(is_masked | 126);
            wire.extend_from_slice(&length.to_be_bytes());
        }
        (length, Err(_)) => {
            wire.push(is_masked | 127);
            wire.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    wire.extend_from_slice(mask.as_ref().map_or(&[], |mask| &mask[..]));
    let begin = wire.len();
    wire.extend_from_slice(bytes);
    if let Some(mask) = mask {
        change(&mut wire[begin..], mask, 0);
    }
}
