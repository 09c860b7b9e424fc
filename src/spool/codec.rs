//! Numbers, texts and lists of a payload. The reader trusts no count: nothing is reserved beyond what is there.

use super::entry::Run;

/// Appends fields.
pub(super) struct Out<'a>(pub(super) &'a mut Vec<u8>);

impl Out<'_> {
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.u32(text.len() as u32).bytes(text.as_bytes())
    }

    pub(super) fn runs_one(&mut self, run: Run) -> &mut Self {
        self.u64(run.first).u64(run.count)
    }

    pub(super) fn runs(&mut self, runs: &[Run]) -> &mut Self {
        self.u32(runs.len() as u32);
        for run in runs {
            self.runs_one(*run);
        }
        self
    }
}

/// Reads fields.
pub(super) struct In<'a>(pub(super) &'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let len = self.u32()?;
        std::str::from_utf8(self.take(len as usize)?).ok()
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn run(&mut self) -> Option<Run> {
        let run = Run { first: self.u64()?, count: self.u64()? };
        (run.count > 0 && run.first.checked_add(run.count).is_some()).then_some(run)
    }

    pub(super) fn runs(&mut self) -> Option<Vec<Run>> {
        self.list(16, Self::run)
    }

    /// A count, then that many items of `bytes` each.
    pub(super) fn list<T>(&mut self, bytes: usize, item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        self.many(count, bytes, item)
    }

    /// So many items of `bytes` each.
    pub(super) fn many<T>(
        &mut self,
        count: u32,
        bytes: usize,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        if self.0.len() < count as usize * bytes {
            return None;
        }
        (0..count).map(|_| item(self)).collect()
    }
}
