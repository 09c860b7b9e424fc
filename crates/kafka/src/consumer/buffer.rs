//! Memory of fetched data: buffers that records refer to, counted until the last reference is gone.

use std::cell::Cell;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// `Account` counts the bytes that buffers and decoders hold. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    used: Rc<Cell<usize>>,
}

impl Account {
    /// Bytes that are held.
    #[must_use]
    pub(super) fn used(&self) -> usize {
        self.used.get()
    }

    fn charge(&self, bytes: usize) {
        self.used.set(self.used.get() + bytes);
    }

    fn refund(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_sub(bytes));
    }
}

/// `Charge` is a number of bytes on an account, until it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    account: Account,
    bytes: usize,
}

impl Charge {
    pub(super) fn new(account: &Account, bytes: usize) -> Self {
        account.charge(bytes);
        Self { account: account.clone(), bytes }
    }

    pub(super) fn set(&mut self, bytes: usize) {
        self.account.charge(bytes);
        self.account.refund(std::mem::replace(&mut self.bytes, bytes));
    }

    pub(super) const fn account(&self) -> &Account {
        &self.account
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.refund(self.bytes);
    }
}

/// `Buffer` holds the bytes of an answer, or decompressed ones.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    charge: Charge,
}

impl Buffer {
    /// A buffer on an account; `beside`: further bytes that are held with it.
    pub(super) fn new(bytes: Vec<u8>, beside: usize, account: &Account) -> Self {
        let charge = Charge::new(account, bytes.capacity() + beside);
        Self { bytes, charge }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the bytes out, off the account.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.charge.set(0);
        std::mem::take(&mut self.bytes)
    }

    /// The range of `part` in these bytes; `None`: it is not in them.
    pub(super) fn place(&self, part: &[u8]) -> Option<Range<usize>> {
        let at = (part.as_ptr() as usize).checked_sub(self.bytes.as_ptr() as usize)?;
        let end = at.checked_add(part.len())?;
        (end <= self.bytes.len()).then_some(at..end)
    }
}

/// `Slice` is a counted reference to a part of a buffer, such as a payload. It keeps the whole buffer, up to a whole answer, in memory:
/// copy data that you keep.
#[derive(Clone, Debug)]
pub struct Slice {
    buffer: Rc<Buffer>,
    at: u32,
    end: u32,
}

impl Slice {
    /// A part of a buffer; `None`: the buffer does not have it.
    pub(super) fn new(buffer: &Rc<Buffer>, part: Range<usize>) -> Option<Self> {
        buffer.bytes.get(part.clone())?;
        let (at, end) = (u32::try_from(part.start).ok()?, u32::try_from(part.end).ok()?);
        Some(Self { buffer: Rc::clone(buffer), at, end })
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.bytes.get(self.at as usize..self.end as usize).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
