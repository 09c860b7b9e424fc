//! The reported places of rows, checked against every log that existed: also against logs lost with their topic or a leader,
//! because their acknowledgements were true when they were given.

use std::collections::HashSet;
use std::rc::Rc;

use super::kafka::Cluster;
use crate::kafka::types::{Landed, Run};

/// The reported places of rows.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Number of the row; topic, partition, offset.
    rows: Vec<(u32, Rc<str>, u32, i64)>,
}

impl Places {
    /// Notes the reported place of the rows of an answered run.
    pub(super) fn note(&mut self, run: Run, landed: Option<Landed<'_>>) {
        let Some((at, first)) = landed.and_then(|at| Some((at, at.offset?))) else { return };
        let places = (run.first..run.first + run.count).zip(first..);
        self.rows.extend(places.map(|(number, offset)| (number, Rc::clone(at.topic), at.partition, offset)));
    }

    /// Number of reported places.
    pub(super) fn count(&self) -> u64 {
        self.rows.len() as u64
    }

    /// The first reported place where the row never was.
    pub(super) fn wrong(&self, kafka: &Cluster) -> Option<String> {
        let mut there = HashSet::new();
        for topic in &kafka.topics {
            let all = Cluster::makings(topic).flatten().chain(&topic.lost);
            for entry in all {
                let places = entry.rows.iter().zip(entry.base_offset..);
                there.extend(places.map(|(number, offset)| (*number, entry.place, offset)));
            }
        }
        let is_there = |(number, topic, partition, offset): &&(u32, Rc<str>, u32, i64)| {
            there.contains(&(*number, (kafka.find(topic), *partition as usize), *offset))
        };
        self.rows.iter().find(|row| !is_there(row)).map(|row| format!("{row:?}"))
    }
}
