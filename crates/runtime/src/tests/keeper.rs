//! A shard with segment files that follows the requests of a test: a real disk, a real ring, a real helper thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use super::harness::{Event, House, next, shard, small};
use crate::DiskFaults;
use crate::seam::{Append, Io, SegmentEvent, SegmentSettings};

pub(super) const BOTH: [Append; 2] = [Append::Written, Append::Mapped];
pub(super) const SEGMENT: u64 = 256 * 1024;

/// A test's request to its shard.
pub(super) enum Ask {
    Create(u64),
    /// Creates a segment of another length than [`SEGMENT`].
    CreateOf(u64, u64),
    /// Segment, position, length; every byte is [`byte`] of its position.
    Append(u64, u64, usize),
    Sync(u64, Vec<u64>),
    Free(u64),
    /// Syncs and frees this segment in one turn, with that token.
    SyncAndFree(u64, u64),
    /// Segment, position, length. Tried until the read does not have to wait.
    Read(u64, u64, usize),
    /// The number of reads that had to wait since the last request.
    Waited,
    Existing,
    Stop,
}

#[derive(Debug, PartialEq)]
pub(super) enum Told {
    Created(u64, Result<(), Option<i32>>),
    Synced(u64, Result<(), Option<i32>>),
    Freed(u64, Result<(), Option<i32>>),
    Appended(bool),
    Bytes(Option<Vec<u8>>),
    /// A read failed with this; `None`: the bytes are damaged.
    NotRead(Option<i32>),
    Waited(usize),
    Existing(Vec<(u64, u64)>),
}

pub(super) struct Keeper {
    pub(super) house: House<Ask>,
    pub(super) told: Receiver<Told>,
    pub(super) faults: Arc<DiskFaults>,
}

pub(super) fn byte(at: u64) -> u8 {
    (at % 251) as u8 + 1
}

pub(super) fn content(at: u64, length: usize) -> Vec<u8> {
    (at..at + length as u64).map(byte).collect()
}

/// Reads that wait, and how many had to.
#[derive(Default)]
struct Reads {
    waiting: Vec<(u64, u64, usize)>,
    waited: usize,
}

impl Reads {
    fn read(&mut self, io: &mut dyn Io<Ask>, segment: u64, at: u64, length: usize) -> Option<Told> {
        let mut bytes = vec![0; length];
        match io.segments().unwrap().read(segment, at, &mut bytes) {
            Ok(()) => Some(Told::Bytes(Some(bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                self.waited += 1;
                self.waiting.push((segment, at, length));
                None
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Some(Told::NotRead(None)),
            Err(error) if error.raw_os_error().is_some() => Some(Told::NotRead(error.raw_os_error())),
            Err(_) => Some(Told::Bytes(None)),
        }
    }

    fn again(&mut self, io: &mut dyn Io<Ask>) -> Vec<Told> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().filter_map(|(segment, at, length)| self.read(io, segment, at, length)).collect()
    }
}

fn answer(io: &mut dyn Io<Ask>, reads: &mut Reads, ask: Ask) -> Option<Told> {
    match ask {
        Ask::Stop => {
            io.stop();
            return None;
        }
        Ask::Read(segment, at, length) => return reads.read(io, segment, at, length),
        Ask::Waited => return Some(Told::Waited(std::mem::take(&mut reads.waited))),
        _ => {}
    }
    let segments = io.segments().unwrap();
    match ask {
        Ask::Create(segment) => segments.create(segment, SEGMENT),
        Ask::CreateOf(segment, bytes) => segments.create(segment, bytes),
        Ask::Sync(token, which) => segments.sync(token, &which),
        Ask::Free(segment) => segments.free(segment),
        Ask::SyncAndFree(segment, token) => {
            segments.sync(token, &[segment]);
            segments.free(segment);
        }
        Ask::Append(segment, at, length) => {
            return Some(Told::Appended(segments.append(segment, at, &content(at, length)).is_ok()));
        }
        Ask::Existing => return Some(Told::Existing(segments.existing())),
        Ask::Read(..) | Ask::Waited | Ask::Stop => {}
    }
    None
}

pub(super) fn keeper(folder: &Path, append: Append, zeroed: bool) -> Keeper {
    let faults = Arc::new(DiskFaults::default());
    let settings = SegmentSettings { folder: PathBuf::from(folder), append, zeroed, faults: Some(Arc::clone(&faults)) };
    let (house, told) = shard(&small(1), move |report: Sender<Told>| {
        let (mut settings, mut reads) = (Some(settings), Reads::default());
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| {
            let errno = |result: std::io::Result<()>| result.map_err(|error| error.raw_os_error());
            let told = match event {
                Event::Start => {
                    assert!(io.segments().is_none(), "nothing that was not asked for");
                    io.open_segments(settings.take().unwrap()).unwrap();
                    for (segment, bytes) in io.segments().unwrap().existing() {
                        let mut read = vec![0; bytes as usize];
                        io.segments().unwrap().read(segment, 0, &mut read).expect("nothing waits at the start");
                        assert_eq!(read[..6000], content(0, 6000));
                    }
                    None
                }
                Event::Mail(ask) => answer(io, &mut reads, ask),
                Event::Segment(SegmentEvent::Created { segment, result }) => {
                    Some(Told::Created(segment, errno(result)))
                }
                Event::Segment(SegmentEvent::Synced { token, result }) => Some(Told::Synced(token, errno(result))),
                Event::Segment(SegmentEvent::Freed { segment, result }) => Some(Told::Freed(segment, errno(result))),
                Event::Segment(SegmentEvent::Read { .. }) => {
                    reads.again(io).into_iter().for_each(|told| report.send(told).unwrap());
                    None
                }
                _ => None,
            };
            if let Some(told) = told {
                report.send(told).unwrap();
            }
        }
    });
    Keeper { house, told, faults }
}

impl Keeper {
    pub(super) fn tell(&self, ask: Ask) {
        assert!(self.house.post.send(0, ask).is_ok());
    }

    pub(super) fn ask(&self, ask: Ask) -> Told {
        self.tell(ask);
        next(&self.told)
    }

    pub(super) fn stop(self) {
        self.house.stop(|| Ask::Stop);
    }
}
