//! A file of every send and every answer with its time, to investigate a verdict. It outlives the service, as this process does.
//! 24 bytes each, integers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | nanoseconds since the start of the run |
//! | 8–15 | number of the message; of a connection or a mark: the number of the service's process, from 0 |
//! | 16–19 | client |
//! | 20 | kind ([`Kind`]) |
//! | 21 | PUBLISH: QoS, and 8 if it is sent again; PUBREL: 1 if it is; an answer: its code; a connection: session present |
//! | 22–23 | 0 |
//!
//! `tests/faults/events.py` prints such a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// CONNACK with success.
    Connected = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    /// The connection is lost.
    Lost = 14,
    /// An order from outside.
    Mark = 32,
}

impl Kind {
    /// The kind for a packet type of 4, 5 or 7.
    pub(crate) fn of_answer(kind: u8) -> Self {
        match kind {
            4 => Self::Puback,
            5 => Self::Pubrec,
            _ => Self::Pubcomp,
        }
    }
}

/// The file, or none.
#[derive(Default)]
pub(crate) struct Events {
    file: Option<BufWriter<File>>,
    failed: Option<std::io::Error>,
}

impl Events {
    pub(crate) fn to(path: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| File::create(path).with_context(|| format!("--events {}", path.display()));
        let file = path.map(open).transpose()?.map(|file| BufWriter::with_capacity(1 << 20, file));
        Ok(Self { file, failed: None })
    }

    pub(crate) fn put(&mut self, now_ns: u64, client: u32, kind: Kind, detail: u8, number: u64) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(&encode(now_ns, client, kind, detail, number)) {
            (self.file, self.failed) = (None, Some(error));
        }
    }

    /// Writes all that is buffered.
    pub(crate) fn close(&mut self) -> anyhow::Result<()> {
        let flushed = self.file.take().map_or(Ok(()), |mut file| file.flush());
        self.failed.take().map_or(flushed, Err).context("--events")
    }
}

fn encode(now_ns: u64, client: u32, kind: Kind, detail: u8, number: u64) -> [u8; 24] {
    let mut event = [0; 24];
    event[..8].copy_from_slice(&now_ns.to_le_bytes());
    event[8..16].copy_from_slice(&number.to_le_bytes());
    event[16..20].copy_from_slice(&client.to_le_bytes());
    event[20..22].copy_from_slice(&[kind as u8, detail]);
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_as_described() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut events = Events::to(Some(file.path())).unwrap();
        events.put(0x0102, 7, Kind::Publish, 9, 258);
        events.put(0x0103, 7, Kind::of_answer(5), 0x97, 258);
        events.close().unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(bytes[..24], [2, 1, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 3, 9, 0, 0]);
        assert_eq!((bytes.len(), bytes[44], bytes[45]), (48, 5, 0x97));
        Events::default().put(1, 1, Kind::Lost, 0, 0);
    }
}
