//! Hashes that determine the partition of a batch's rows in place of their keys (`partitioner = "client"`): kept with the batch,
//! since rows may wait for their partition, and may lose it when their topic is recreated with fewer.

/// Hashes of rows, each with the first of the consecutive rows that have it.
#[derive(Debug, Default)]
pub(super) struct Hashes(Vec<(u32, u32)>);

/// Bytes of an element on the memory account.
pub(super) const HASH_BYTES: usize = std::mem::size_of::<(u32, u32)>();

impl Hashes {
    /// Adds a row's hash; rows are added in order, all of them or none.
    pub(super) fn push(&mut self, row: u32, hash: u32) {
        if self.0.last().is_none_or(|(_, last)| *last != hash) {
            self.0.push((row, hash));
        }
    }

    pub(super) fn of(&self, row: u32) -> Option<u32> {
        let behind = self.0.partition_point(|(first, _)| *first <= row);
        behind.checked_sub(1).map(|index| self.0[index].1)
    }

    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Empties the list; its memory stays.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_client_in_a_row_are_one_entry() {
        let mut hashes = Hashes::default();
        assert_eq!(hashes.of(0), None);
        let rows = [7, 7, 7, 9, 7, 7];
        rows.iter().zip(0..).for_each(|(hash, row)| hashes.push(row, *hash));
        assert_eq!(hashes.0, [(0, 7), (3, 9), (4, 7)]);
        assert!(rows.iter().zip(0..).all(|(hash, row)| hashes.of(row) == Some(*hash)));
    }
}
