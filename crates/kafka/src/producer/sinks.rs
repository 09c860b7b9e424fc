//! The sinks of a producer, and lists of those with changes: the cost of a turn depends on its work, not on the number of sinks.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use super::{Key, Sink};
use forebay_runtime::seam::Monotonic;

/// The lists that a sink is on, as bits.
const CHANGED: u8 = 1;
const LINGERS: u8 = 2;

/// All sinks. A sink that is borrowed mutably by its number is listed as changed.
#[derive(Debug)]
pub(super) struct Sinks {
    all: Vec<Sink>,
    /// Sinks that may have changed since [`Sinks::take_changed`], each once.
    changed: Vec<u32>,
    /// Sinks with lingering batches, each once.
    lingering: Vec<u32>,
}

impl Sinks {
    pub(super) fn new(all: Vec<Sink>) -> Self {
        let mut sinks = Self { all: Vec::with_capacity(all.len()), changed: Vec::new(), lingering: Vec::new() };
        all.into_iter().for_each(|sink| sinks.push(sink));
        sinks
    }

    /// Adds a sink, under the next number.
    pub(super) fn push(&mut self, mut sink: Sink) {
        sink.listed |= CHANGED;
        self.changed.push(self.all.len() as u32);
        self.all.push(sink);
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Sink> {
        self.all.get(index)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Sink> {
        (index < self.all.len()).then(|| &mut self[index])
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Sink> {
        self.all.iter()
    }

    /// Iterates mutably for changes that are not visible outside of the producer: no sink is listed.
    pub(super) fn iter_unlisted(&mut self) -> std::slice::IterMut<'_, Sink> {
        self.all.iter_mut()
    }

    /// Takes out one of the sinks that may have changed.
    pub(super) fn take_changed(&mut self) -> Option<u32> {
        let index = self.changed.pop()?;
        self.all[index as usize].listed &= !CHANGED;
        Some(index)
    }

    /// Calls `pop` for each sink with lingering batches, with these; a sink without any left is removed from the list.
    pub(super) fn each_lingering(&mut self, mut pop: impl FnMut(&mut VecDeque<(Monotonic, Key)>)) {
        let all = &mut self.all;
        self.lingering.retain(|index| {
            let sink = &mut all[*index as usize];
            pop(&mut sink.lingering);
            if sink.lingering.is_empty() {
                sink.listed &= !LINGERS;
            }
            !sink.lingering.is_empty()
        });
    }

    /// Lists a sink as one with lingering batches.
    pub(super) fn lingers(&mut self, index: usize) {
        let sink = &mut self.all[index];
        if sink.listed & LINGERS == 0 {
            sink.listed |= LINGERS;
            self.lingering.push(index as u32);
        }
    }

    /// The end of the first linger.
    pub(super) fn next_linger(&self) -> Option<Monotonic> {
        let fronts = self.lingering.iter().filter_map(|index| self.all[*index as usize].lingering.front());
        fronts.map(|(at, _)| *at).min()
    }
}

impl Index<usize> for Sinks {
    type Output = Sink;

    #[inline]
    fn index(&self, index: usize) -> &Sink {
        &self.all[index]
    }
}

impl IndexMut<usize> for Sinks {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut Sink {
        let sink = &mut self.all[index];
        if sink.listed & CHANGED == 0 {
            sink.listed |= CHANGED;
            self.changed.push(index as u32);
        }
        sink
    }
}
