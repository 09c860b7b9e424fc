//! The checks once everything has come to rest: nothing lost, nothing twice, order.

use std::collections::{BTreeMap, HashMap, HashSet};

use forebay::config::WhenFull;

use crate::kafka::{Entry, State as EntryState};
use crate::plan::{Buffer, Level, Settings, SinkPlan};
use crate::process::End;
use crate::time::{EPOCH_MS, S};
use crate::world::World;

/// Reason code for a message that finds no room.
const QUOTA_EXCEEDED: u8 = 0x97;

impl World {
    /// The checks at the end of a run.
    pub(crate) fn judge_end(&mut self) {
        // While the machine's clock is not set, there is no time for records.
        let behind = EPOCH_MS + self.clock_ahead_ms < forebay::limits::CLOCK_SET_AFTER_MS;
        let is_set = !behind && !self.clock_fell_back;
        let without_time = self.clusters.iter().find_map(|cluster| cluster.rows_without_time.first());
        if let Some(row) = without_time.filter(|_| is_set) {
            self.judge.fails("time", format!("a record has no time, and no header with it: {row:?}"));
        }
        self.judge_refused();
        self.judge_exchanges();
        for sink in 0..self.settings.sinks.len() {
            self.judge_losses(sink);
            self.judge_doubles(sink);
            self.judge_order(sink);
        }
    }

    /// Batches of a message in the topic of a sink.
    fn copies_of(&self, message: u32, sink: usize) -> Vec<&Entry> {
        let plan = &self.settings.sinks[sink];
        let name = plan.kafka_topic(&self.messages[message as usize].topic);
        let copies = self.clusters.iter().flat_map(|cluster| cluster.copies(message, sink as u8));
        copies.filter(|entry| entry.place.0 == name).collect()
    }

    fn judge_losses(&mut self, sink: usize) {
        let mut missing = Vec::new();
        for (number, message) in (0u32..).zip(&self.messages) {
            let Some((_, life)) = message.answered else { continue };
            // The promise counts that the sink had when the message was answered.
            let settings = &self.lives[life as usize - 1];
            let plan = &settings.sinks[sink];
            if !settings.takes(sink, &message.topic) {
                continue;
            }
            let copies = self.copies_of(number, sink);
            let there = copies.iter().any(|entry| !matches!(entry.state, EntryState::Lost | EntryState::DeletedEarly));
            let early = copies.iter().any(|entry| entry.state == EntryState::DeletedEarly);
            let lost = copies.iter().any(|entry| entry.state == EntryState::Lost);
            let excused = match plan.level {
                Level::Stored | Level::Replicated => false,
                // The row may be lost with its leader.
                Level::Leader => lost,
                // The row may be lost with its leader or its process.
                Level::Received => lost || self.process_ended_since(life, plan.buffer),
            };
            if !there
                && !excused
                && !self.judge.excused.contains(&number)
                && (early || !self.is_dead_lettered(number, sink as u8))
            {
                missing.push((number, early));
            }
        }
        let counted = self.counted(sink);
        if counted.rotten > 0 && !self.damaged {
            let text =
                format!("sink {sink}: {} rows were given up as unreadable, and nothing was damaged", counted.rotten);
            self.judge.fails("loss", text);
        }
        let allowed = counted.expired + counted.dropped + counted.rotten;
        let early = missing.iter().filter(|(_, early)| *early).count();
        if missing.len() as u64 > allowed || early > 0 {
            let text = format!(
                "sink {sink}: {} answered messages are missing, {early} of them deleted by retention before their time, \
                 {counted:?}: {:?}",
                missing.len(),
                missing.iter().take(8).collect::<Vec<_>>()
            );
            self.judge.fails("loss", text);
        }
    }

    /// Checks that messages that found no room (`when_full = "refuse"`) were refused as a whole, and are in no topic.
    fn judge_refused(&mut self) {
        let sinks = 0..self.settings.sinks.len();
        let is_somewhere = |number: u32| {
            sinks
                .clone()
                .any(|sink| !self.copies_of(number, sink).is_empty() || self.is_dead_lettered(number, sink as u8))
        };
        // An earlier attempt may have been taken.
        let mut refused =
            (0u32..).zip(&self.messages).filter(|(_, m)| m.refused_as == Some(QUOTA_EXCEEDED) && m.sends == 1);
        let wrong = refused.find(|(number, _)| is_somewhere(*number)).map(|(number, _)| number);
        if let Some(number) = wrong {
            self.judge.fails("refused", format!("message {number} was refused for want of room, and a sink has it"));
        }
    }

    fn process_ended_since(&self, life: u32, buffer: Buffer) -> bool {
        let ends = &self.judge.ends[(life as usize - 1).min(self.judge.ends.len())..];
        match buffer {
            Buffer::HybridSaved => ends.iter().any(|end| *end != End::Stopped) || self.judge.rows_left > 0,
            _ => !ends.is_empty(),
        }
    }

    /// Checks that copies beyond the ones that publishers asked for are counted as unknown outcomes of the sink.
    fn judge_doubles(&mut self, sink: usize) {
        let plan = &self.settings.sinks[sink];
        let in_memory = self.was_in_memory(sink);
        let (mut twice, mut which) = (0, Vec::new());
        for (number, message) in (0u32..).zip(&self.messages) {
            if !self.settings.takes(sink, &message.topic) {
                continue;
            }
            let mut by_topic: HashMap<u128, u64> = HashMap::new();
            let counts = |entry: &&Entry| entry.state != EntryState::Lost && !entry.forgotten;
            for entry in self.copies_of(number, sink).into_iter().filter(counts) {
                *by_topic.entry(entry.place.1).or_default() += 1;
            }
            let most = by_topic.values().copied().max().unwrap_or(0);
            let allowed = match (message.qos, plan.buffer) {
                (0, _) => 1,
                // Each process publishes the will until the log has noted that it was published. Without a disk the log has no
                // such note, and a note may have been damaged.
                (1, _) if message.is_will && (in_memory || self.judge.excused.contains(&number)) => {
                    self.judge.ends.len() as u64 + 1
                }
                (1, _) => u64::from(message.sends),
                // The packet id may be lost with the row.
                _ if self.judge.excused.contains(&number) => u64::from(message.sends),
                // A lost session cannot know of its exchanges; without a disk another process cannot either.
                (_, Buffer::Disk) if !in_memory => {
                    let sessions = message.attempts.iter().map(|(session, _)| session).collect::<HashSet<_>>();
                    sessions.len() as u64 + self.exchanges_refused(number)
                }
                (..) => message.attempts.len() as u64 + self.exchanges_refused(number),
            };
            if most > allowed.max(1) && !self.clusters[plan.cluster].hidden.contains(&(number, sink as u8)) {
                twice += most - allowed.max(1);
                which.push((number, message.qos, most, allowed));
            }
        }
        let counted = self.counted(sink);
        if twice > counted.unknown {
            for (number, ..) in which.iter().take(4) {
                let copies = self.copies_of(*number, sink).into_iter().map(|entry| {
                    let Entry { producer, epoch, first, time, life, late, state, place, .. } = entry;
                    let at = *time as f64 / S as f64;
                    format!(
                        "at {at} by process {life} (late: {late}) in {place:?}: {producer}.{epoch} {first}, {state:?}"
                    )
                });
                let copies: Vec<String> = copies.collect();
                self.note(|| format!("copies of message {number}: {copies:#?}"));
            }
            let text = format!(
                "sink {sink}: {twice} copies too many, {counted:?}: {:?}",
                which.iter().take(8).collect::<Vec<_>>()
            );
            self.judge.fails("double", text);
        }
    }

    /// Number of exchanges of a message at QoS 2 that one of its sinks has ended with a dead letter. A PUBREC of 0x80 tells a 5.0
    /// client of it; if that is lost, the repeat is a new message for all sinks [MQTT-4.3.3-9].
    fn exchanges_refused(&self, number: u32) -> u64 {
        if !self.devices[self.messages[number as usize].device].is_v5() {
            return 0;
        }
        let letters = |sink: usize| {
            let plan = &self.settings.sinks[sink];
            let topic = plan.dead_topic();
            let copies = self.clusters[plan.cluster].copies(number, sink as u8);
            let in_files = self.judge.filed.get(&(number, sink as u8)).copied().unwrap_or(0);
            copies.filter(|entry| entry.place.0 == topic).count() as u64 + u64::from(in_files)
        };
        (0..self.settings.sinks.len()).map(letters).max().unwrap_or(0)
    }

    /// Checks that first copies of one device's messages are in the order of sending.
    fn judge_order(&mut self, sink: usize) {
        let plan = &self.settings.sinks[sink];
        if !plan.is_ordered() {
            return;
        }
        let dead = plan.dead_topic();
        let mut newest: BTreeMap<(usize, &str, &str, u128), u32> = BTreeMap::new();
        let mut seen = HashSet::new();
        let mut wrong = None;
        let began_late = &self.clusters[plan.cluster].began_late;
        let judged = |entry: &&Entry| {
            let late = !began_late.is_empty() && began_late.contains(&(entry.place.0.clone(), entry.place.1));
            entry.state != EntryState::Lost && entry.place.0 != dead && !late
        };
        for entry in self.clusters[plan.cluster].entries.iter().filter(judged) {
            for row in entry.rows.iter().filter(|row| usize::from(row.sink) == sink) {
                let message = &self.messages[row.message as usize];
                if message.is_will || !seen.insert((row.message, entry.place.1)) {
                    continue;
                }
                // The order holds by client, or by key, which is the MQTT topic.
                let topic = if plan.partitioner == "client" { "" } else { message.topic.as_str() };
                let key = (message.device, topic, entry.place.0.as_str(), entry.place.1);
                let before = newest.entry(key).or_insert(0);
                if *before > row.message && !self.may_be_late(row.message, sink) {
                    wrong.get_or_insert(format!(
                        "sink {sink}, {:?}: message {} after {before}",
                        entry.place, row.message
                    ));
                }
                *before = (*before).max(row.message);
            }
        }
        if let Some(text) = wrong {
            self.judge.fails("order", text);
        }
    }

    /// Whether a message's first copy may come after younger ones: an earlier copy was lost with a leader or a topic, the
    /// message was refused or dropped and sent again, or the process that had it in memory ended.
    fn may_be_late(&self, number: u32, sink: usize) -> bool {
        let message = &self.messages[number as usize];
        let plan = &self.settings.sinks[sink];
        let gone = |entry: &&Entry| matches!(entry.state, EntryState::Lost | EntryState::Deleted);
        // A late request of a process that had the row in memory alone, and has ended.
        let orphan = |entry: &&Entry| entry.late && self.was_in_memory(sink);
        let copies = self.copies_of(number, sink);
        // The row was on its way to the dead letters when the process ended, and is sent once more.
        let refused = self.clusters[plan.cluster].refused_rows.contains(&(number, sink as u8))
            // Or the row was about to be refused, unsent, with all queued rows of a topic.
            || self.refused.contains(&(plan.cluster, plan.kafka_topic(&message.topic)));
        // If several processes had the row, any of them may have had it in memory alone, and lost it.
        let processes: HashSet<u32> = message.attempts.iter().map(|(_, life)| *life).collect();
        copies.iter().any(gone)
            || self.judge.excused.contains(&number)
            || (self.was_in_memory(sink) && processes.len() > 1)
            || copies.iter().any(orphan)
            || (refused && !self.judge.ends.is_empty())
            || (message.sends > 1 && (plan.expire_ms.is_some() || self.may_drop() || self.may_be_untaken(number)))
    }

    /// Whether some process had rows of the sink in memory alone.
    fn was_in_memory(&self, sink: usize) -> bool {
        self.lives.iter().any(|life| life.sinks[sink].buffer != Buffer::Disk)
    }

    /// Whether a message may have been refused, or have found no room where a later one did, with the refusal, or its dead letter, lost
    /// with the connection or the process.
    pub(super) fn may_be_untaken(&self, number: u32) -> bool {
        let found_no_room = |(_, life): &(u32, u32)| self.judge.full_in.contains(life);
        self.was_refused(number) || self.messages[number as usize].attempts.iter().any(found_no_room)
    }

    pub(crate) fn may_drop(&self) -> bool {
        let drops = |life: &Settings| life.spool.is_some_and(|spool| spool.when_full == WhenFull::DropOldest);
        self.lives.iter().any(drops)
    }

    /// Whether a message may have been refused, by one of its sinks and so for all of them. Its sender need not know: the answer
    /// may have been lost with the connection. A 3.1.1 client gets no refusal: the message goes to the dead letters.
    pub(super) fn was_refused(&self, number: u32) -> bool {
        let topic = &self.messages[number as usize].topic;
        let takes = |sink: u8| self.settings.takes(usize::from(sink), topic);
        let mut takers = (0u8..).zip(&self.settings.sinks).filter(|(sink, _)| takes(*sink));
        let of_sink = |(sink, plan): (u8, &SinkPlan)| {
            self.refused.contains(&(plan.cluster, plan.kafka_topic(topic))) || self.is_dead_lettered(number, sink)
        };
        takers.any(of_sink) || self.messages.iter().any(|m| m.refused_as == Some(QUOTA_EXCEEDED))
    }
}
