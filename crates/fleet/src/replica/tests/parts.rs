//! The parts of the model: a directory in memory, its contents, and an owner that serves.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use crate::replica::{Replica, Store};

const HEAD: &[u8; 4] = b"HEAD";

/// A directory in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) files: Rc<RefCell<BTreeMap<u64, Vec<u8>>>>,
    pub(super) note: Rc<RefCell<Option<Vec<u8>>>>,
}

impl Store for Memory {
    fn write(&mut self, segment: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files.borrow_mut();
        let (file, end) = (files.entry(segment).or_default(), at as usize + bytes.len());
        file.resize(file.len().max(end), 0);
        file[at as usize..end].copy_from_slice(bytes);
        Ok(())
    }
    fn read(&mut self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        into.copy_from_slice(&self.files.borrow()[&segment][at as usize..at as usize + into.len()]);
        Ok(())
    }
    fn set_len(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        self.files.borrow_mut().entry(segment).or_default().resize(bytes as usize, 0);
        Ok(())
    }
    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.files.borrow_mut().remove(&segment);
        Ok(())
    }
    fn write_note(&mut self, note: &[u8]) -> io::Result<()> {
        *self.note.borrow_mut() = Some(note.to_vec());
        Ok(())
    }
}

/// The contents of a directory: the last version of each item with its segment, and the segments with their makers.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded {
    pub(super) items: BTreeMap<u32, (u64, u64)>,
    pub(super) makers: BTreeMap<u64, u32>,
}

/// A sync in progress: its token, the versions that it covers, and the segments freed before it.
type Sync = (u64, Vec<(u32, u64)>, Vec<(u64, u32)>);

/// An owner that serves.
pub(super) struct Serving {
    pub(super) replica: Replica,
    pub(super) order: u32,
    pub(super) items: BTreeMap<u32, (u64, u64)>,
    pub(super) makers: BTreeMap<u64, u32>,
    pub(super) current: Option<(u64, u64)>,
    pub(super) next_segment: u64,
    pub(super) sync: Option<Sync>,
    pub(super) freed: Vec<(u64, u32)>,
    pub(super) token: u64,
}

impl Serving {
    pub(super) fn new_segment(&mut self) {
        let segment = self.next_segment;
        self.next_segment += 1;
        let head = [&HEAD[..], &self.order.to_be_bytes()].concat();
        self.replica.append(segment, 0, &head);
        self.makers.insert(segment, self.order);
        self.current = Some((segment, head.len() as u64));
    }

    pub(super) fn append(&mut self, item: u32, version: u64, padding: usize) {
        let Some((segment, at)) = self.current else { return };
        let mut bytes = vec![b'R'];
        bytes.extend_from_slice(&item.to_be_bytes());
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(&(padding as u32).to_be_bytes());
        bytes.resize(bytes.len() + padding, b'x');
        self.replica.append(segment, at, &bytes);
        self.current = Some((segment, at + bytes.len() as u64));
        self.items.insert(item, (version, segment));
    }

    /// Frees segments that no item is in.
    pub(super) fn free(&mut self) {
        let used: BTreeSet<u64> = self.items.values().map(|(_, segment)| *segment).collect();
        let current = self.current.map(|(segment, _)| segment);
        let empty: Vec<u64> = self
            .makers
            .keys()
            .copied()
            .filter(|segment| !used.contains(segment) && Some(*segment) != current)
            .collect();
        for segment in empty {
            self.replica.free(segment);
            let maker = self.makers.remove(&segment).unwrap_or_default();
            self.freed.push((segment, maker));
        }
    }
}

impl Loaded {
    pub(super) fn of(memory: &Memory) -> Result<Self, String> {
        let mut loaded = Self::default();
        for (segment, file) in &*memory.files.borrow() {
            let Some(head) = file.strip_prefix(HEAD) else { return Err(format!("segment {segment} has no header")) };
            let (maker, mut rest) = head.split_first_chunk().ok_or("a short header")?;
            loaded.makers.insert(*segment, u32::from_be_bytes(*maker));
            while let Some((b'R', record)) = rest.split_first() {
                let Some((head, after)) = record.split_first_chunk::<16>() else { break };
                let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap_or_default());
                let (item, version) = (number(0), u64::from(number(4)) << 32 | u64::from(number(8)));
                let Some(padding) = after.get(..number(12) as usize) else { break };
                // The rest of a split record may be missing: it was never reported.
                if padding.iter().any(|byte| *byte != b'x') {
                    break;
                }
                loaded.items.insert(item, (version, *segment));
                rest = &after[padding.len()..];
            }
        }
        Ok(loaded)
    }
}
