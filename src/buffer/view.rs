//! The buffer as the producer of one cluster sees it.

use super::core::Buffer;
use crate::kafka::producer::row_log::{Ended, LoggedRow, NewCut, NewRows, NotNow, ReadBack, RowLog, TakenCut};
use crate::kafka::types::SinkId;
use crate::spool::Disk;

/// See the module.
#[derive(Debug)]
pub struct View<'a, D> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) disk: &'a mut D,
    pub(super) cluster: usize,
}

impl<D: Disk> RowLog for View<'_, D> {
    fn lane(&mut self, _sink: SinkId, _topic: &str, _partition: i32) -> Result<u32, NotNow> {
        Err(NotNow)
    }

    fn rows(&mut self, _rows: &NewRows<'_>) -> Result<u64, NotNow> {
        Err(NotNow)
    }

    fn cut(&mut self, _cut: &NewCut<'_>) -> Result<TakenCut, NotNow> {
        Err(NotNow)
    }

    fn ended(&mut self, _ended: &Ended<'_>) -> Result<(), NotNow> {
        Err(NotNow)
    }

    fn group(&self) -> u64 {
        self.buffer.group()
    }

    fn durable(&self) -> u64 {
        self.buffer.durable()
    }

    fn read(&mut self, _: u32, _: u64, _: u64, _: &mut dyn FnMut(LoggedRow<'_>) -> bool) -> ReadBack {
        ReadBack::Empty
    }
}
