//! The names of operations, as they travel through the kernel and back in `user_data`, and the answers to them.

use std::io;

use io_uring::cqueue;

/// The flags of an answer, as a ring sets them (`IORING_CQE_F_BUFFER`, `IORING_CQE_F_MORE`), and where the number of the buffer is.
const BUFFER: u32 = 1;
const MORE: u32 = 2;
const BUFFER_SHIFT: u32 = 16;

/// The kind of an operation, packed into the low byte of `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// An operation with an answer that is ignored (cancellations, timeout updates).
    Ignored,
    /// The one timeout that ends a wait.
    Wake,
    /// The mailbox's eventfd.
    Bell,
    Accept,
    Receive,
    CancelReceive,
    HangUp,
    Send,
    Connect,
    DiskWrite,
    DiskSync,
    DiskRead,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Ignored,
        Self::Wake,
        Self::Bell,
        Self::Accept,
        Self::Receive,
        Self::CancelReceive,
        Self::HangUp,
        Self::Send,
        Self::Connect,
        Self::DiskWrite,
        Self::DiskSync,
        Self::DiskRead,
    ];
}

/// Names an operation in `user_data`: 32 bits generation, 24 bits slot, 8 bits kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) kind: Kind,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl Tag {
    /// Slots that fit.
    pub(super) const SLOTS: u32 = 1 << 24;

    pub(super) const fn of(kind: Kind) -> Self {
        Self { kind, slot: 0, generation: 0 }
    }

    pub(super) fn pack(self) -> u64 {
        debug_assert!(self.slot < Self::SLOTS);
        u64::from(self.generation) << 32 | u64::from(self.slot) << 8 | self.kind as u64
    }

    pub(super) fn unpack(data: u64) -> Self {
        let kind = Kind::ALL.get(usize::from(data as u8)).copied().unwrap_or(Kind::Ignored);
        Self { kind, slot: (data >> 8) as u32 & (Self::SLOTS - 1), generation: (data >> 32) as u32 }
    }
}

/// An answer of the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) tag: Tag,
    /// The result as of the system call: negative is an errno.
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Completion {
    /// A last answer that a ring has not given.
    pub(super) fn last(tag: Tag, result: i32) -> Self {
        Self { tag, result, flags: 0 }
    }

    /// The completion of an operation that goes on if `more`, and that has filled a provided buffer.
    pub(super) fn with(self, more: bool, buffer: Option<u16>) -> Self {
        let more = if more { MORE } else { 0 };
        let buffer = buffer.map_or(0, |buffer| BUFFER | u32::from(buffer) << BUFFER_SHIFT);
        Self { flags: more | buffer, ..self }
    }

    /// Whether the operation goes on and will answer again.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that was filled.
    pub(super) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The result as a count, or the error.
    pub(super) fn count(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_user_data() {
        for kind in Kind::ALL {
            for (slot, generation) in [(0, 0), (Tag::SLOTS - 1, u32::MAX), (77, 1 << 31)] {
                let tag = Tag { kind, slot, generation };
                assert_eq!(Tag::unpack(tag.pack()), tag);
            }
        }
    }
}
