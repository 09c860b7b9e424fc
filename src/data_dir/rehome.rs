//! Moves records when the number of shards changes and no message waits for Kafka: kept sessions, their open packet ids and their queued
//! messages go to the shards that own their clients now, retained messages to the shards of their topics.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use crate::broker::queues::{Kept, move_queue};
use crate::broker::retained::topic as retained_topic;
use crate::broker::router::owner;
use crate::buffer::Report;
use crate::config::{Config, DataDirId};
use crate::session::client_id;
use crate::spool::{Log, Recovered, Settings, State};

use super::aside::set_aside;
use super::files::Files;
use super::{Found, FoundShard, make};

/// Sink, topic and partition that have had a row.
type HadBy = (String, String, i32);
/// Open packet ids, each with the sinks, topics and partitions that have had its row.
pub(super) type OpenIds = Vec<(u16, Vec<HadBy>)>;

/// A kept session being moved.
#[derive(Debug, PartialEq, Eq)]
struct Moving {
    /// The session's previous shard and its number there.
    was: (usize, u64),
    payload: Vec<u8>,
    open: OpenIds,
}

/// All records being moved.
#[derive(Debug)]
struct All {
    /// Sessions by their new shard.
    homes: Vec<Vec<Moving>>,
    /// Messages queued for sessions, and the progress of their queues, with their previous shard.
    queued: Vec<(usize, Vec<u8>)>,
    /// Messages for shared subscriptions, with their previous shard and their numbers there.
    for_shares: Vec<((usize, u64), Vec<u8>)>,
}

impl All {
    /// Distributes messages for shared subscriptions. Those of one subscription go to one shard, any one: from there they are handed over
    /// to the shards of its members. A message in flight between two shards belongs to the first as long as that has it.
    fn place_for_shares(&mut self) {
        let was: HashSet<_> = self.for_shares.iter().map(|(was, _)| *was).collect();
        for (of, payload) in std::mem::take(&mut self.for_shares) {
            let Some(Ok(Kept::ForShare(message))) = Kept::decode(&payload) else { continue };
            if message.from.is_some_and(|from| was.contains(&from)) {
                continue;
            }
            let mut payload = Vec::new();
            message.without_from().encode(&mut payload);
            let to = owner(message.text, self.homes.len());
            self.homes[to].push(Moving { was: of, payload, open: OpenIds::new() });
        }
    }
}

/// The number of moved records, and reports on shards with damage.
#[derive(Debug, Default)]
pub(super) struct Moved<'a> {
    pub(super) sessions: usize,
    pub(super) retained: usize,
    pub(super) queued: usize,
    pub(super) reports: Vec<(&'a FoundShard, Report)>,
}

/// Moves everything readable to the configured number of shards; damaged segments are set aside.
///
/// # Errors
/// The error, in words for people; nothing has changed then.
pub(super) fn rehome<'a>(
    config: &Config,
    data_dir: &Path,
    directory: DataDirId,
    found: &'a Found,
) -> Result<Moved<'a>, String> {
    let (from, to) = (found.shards.len(), config.service.shards);
    let homes = (0..to).map(|_| Vec::new()).collect();
    let mut moving = All { homes, queued: Vec::new(), for_shares: Vec::new() };
    let (mut queued, mut written_ms, mut reports) = (0, 0, Vec::new());
    for found in &found.shards {
        let (sorted, state) = (found.sorted()?, &found.recovered.state);
        written_ms = found.recovered.written_ms.max(written_ms);
        found.records(|number, payload| {
            let was = (found.shard, number);
            if !sorted.takes_up(number) {
                return;
            }
            match Kept::decode(payload) {
                Some(Ok(Kept::ForShare(_))) => moving.for_shares.push((was, payload.to_vec())),
                Some(kept) => {
                    queued += usize::from(matches!(kept, Ok(Kept::Message { .. })));
                    moving.queued.push((found.shard, payload.to_vec()));
                }
                None => {
                    // Records without a client were sorted out before.
                    let Some(home) = client(payload) else { return };
                    let open = open_ids(state, number);
                    moving.homes[owner(home, to)].push(Moving { was, payload: payload.to_vec(), open });
                }
            }
        })?;
        let report = found.report_of(sorted);
        if report.is_damaged() {
            reports.push((found, report));
        }
    }
    let all = moving.homes.iter().flatten();
    let retained = all.filter(|moving| retained_topic(&moving.payload).is_some()).count();
    let sessions = moving.homes.iter().map(Vec::len).sum::<usize>() - retained;
    moving.place_for_shares();
    queued += moving.homes.iter().map(Vec::len).sum::<usize>() - retained - sessions;
    reports.iter().for_each(|(shard, report)| set_aside(data_dir, shard, report));
    make(data_dir, (directory, to), |shard, folder| {
        write(config, directory, (shard, folder), &moving, written_ms).map_err(|error| {
            format!("kept sessions of {from} shards cannot be moved to {to}: {}: {error}", folder.display())
        })
    })?;
    Ok(Moved { sessions, retained, queued, reports })
}

pub(super) fn open_ids(state: &State, session: u64) -> OpenIds {
    let lane = |(number, _): &(u64, u64)| {
        let lane = state.lane(*number)?;
        Some((lane.sink.to_string(), lane.topic.to_string(), lane.partition))
    };
    let of_session = state.open_ids().filter(|(of, ..)| *of == session);
    of_session.map(|(_, id, lanes)| (id, lanes.iter().filter_map(lane).collect())).collect()
}

fn write(
    config: &Config,
    directory: DataDirId,
    (shard, folder): (usize, &Path),
    moving: &All,
    written_ms: i64,
) -> io::Result<()> {
    let sessions = &moving.homes[shard];
    let (Some(spool), false) = (config.spool, sessions.is_empty()) else { return Ok(()) };
    let settings = Settings {
        shard: u32::try_from(shard).unwrap_or(u32::MAX),
        segment_bytes: spool.segment_bytes,
        segments_max: spool.segments_max,
        sink_bytes_max: spool.sink_bytes_max,
        data_dir_id: directory.number(),
        seed: fastrand::u64(..),
    };
    let mut log = Log::new(settings, Recovered::default());
    let mut files = Files::new(folder).written_at(written_ms);
    let mut numbers = HashMap::new();
    for session in sessions {
        let number = files.put(&mut log, |log| log.session(None, &session.payload))?;
        for (packet_id, already_taken_by) in &session.open {
            let already_taken_by: Vec<_> = already_taken_by
                .iter()
                .map(|(sink, topic, partition)| (log.sink(sink), topic.as_str(), *partition))
                .collect();
            files.put(&mut log, |log| log.opened(number, *packet_id, &already_taken_by))?;
        }
        numbers.insert(session.was, number);
    }
    for (was_on, payload) in &moving.queued {
        let number = |session: u64| numbers.get(&(*was_on, session)).copied();
        if let Some(Ok(kept)) = Kept::decode(payload)
            && let Some(payload) = move_queue(&kept, number)
        {
            files.put(&mut log, |log| log.session(None, &payload))?;
        }
    }
    files.settle(&mut log)
}

/// The key that determines the shard of a kept session or of a retained message: its client id, or its topic.
pub(super) fn client(payload: &[u8]) -> Option<&str> {
    retained_topic(payload).or_else(|| client_id(payload).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::queues::ForShare;

    #[test]
    fn a_message_of_a_share_that_two_shards_have_is_moved_once() {
        type Of = (usize, u64);
        let was: [(Of, Option<Of>); 4] =
            [((0, 6), None), ((1, 9), Some((0, 6))), ((1, 10), Some((0, 7))), ((2, 3), Some((1, 10)))];
        let for_shares = was.map(|(was, from)| (was, ForShare::example("$share/g/t", from))).to_vec();
        let mut all = All { homes: vec![Vec::new(), Vec::new()], queued: Vec::new(), for_shares };
        all.place_for_shares();
        let home = &all.homes[owner("$share/g/t", 2)];
        assert_eq!(home.iter().map(|moving| moving.was).collect::<Vec<_>>(), [(0, 6), (1, 10)]);
        assert!(home.iter().all(|moving| moving.payload == ForShare::example("$share/g/t", None)));
    }
}
