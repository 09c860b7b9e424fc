//! The verdict: missing and repeated deliveries, and a line of text about them.

use std::collections::HashMap;

use super::client::{Client, State};
use super::scenario::{Contents, Role};
use super::shared::{Prepared, Shared};
use super::stats::Stats;
use super::streams::Streams;
use super::verify;
use crate::outcome::Verdict;

/// Pairs of filters and topics beyond which only counts are compared.
const PAIRS_MAX: usize = 20_000_000;

/// Judges a run by what its clients saw.
pub(crate) fn of(shared: &Shared, stats: &Stats, clients: &[&Client]) -> Verdict {
    let mut verdict = Verdict {
        altered: stats.altered,
        foreign: stats.foreign,
        unanswered: stats.given_up + clients.iter().map(|client| u64::from(client.open)).sum::<u64>(),
        refused: stats.refused + stats.subscriptions_refused,
        connections_lost: stats.connections_lost,
        connects_failed: stats.connects_failed,
        protocol_errors: stats.protocol_errors,
        unsent: unsent(shared, clients),
        ..Verdict::default()
    };
    if stats.unmatched > 0 {
        verdict.notes.push(format!("{} answers matched no open message", stats.unmatched));
    }
    verdict.notes.extend(stats.first_error.as_ref().map(|error| format!("first error: {error}")));
    let unread = clients.iter().filter(|client| client.state == State::Ending).count();
    if unread > 0 {
        verdict.notes.push(format!("{unread} publishers had no answer to their last PINGREQ"));
    }
    for (receiver, owed) in receivers(shared, clients) {
        verdict.doubled += receiver.doubled;
        verdict.disordered += receiver.disordered;
        for (publisher, sent) in owed {
            let distinct = receiver.distinct(publisher);
            verdict.lost += sent.saturating_sub(distinct);
            // Members of a shared subscription see a double only together.
            verdict.doubled += distinct.saturating_sub(sent);
        }
    }
    settle(&mut verdict, unread as u64);
    verdict
}

/// Writes the headline for the verdict.
pub(crate) fn settle(verdict: &mut Verdict, unread: u64) {
    let wrong = [
        (verdict.lost, "lost"),
        (verdict.unanswered, "without an answer"),
        (verdict.doubled, "doubled"),
        (verdict.disordered, "out of order"),
        (verdict.altered, "altered"),
        (verdict.foreign, "foreign"),
        (verdict.refused, "refused"),
        (verdict.unsent, "due and not sent"),
        (verdict.connections_lost, "connections lost"),
        (verdict.connects_failed, "connects failed"),
        (verdict.protocol_errors, "protocol errors"),
        (unread, "publishers not confirmed"),
    ];
    let wrong: Vec<String> =
        wrong.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    verdict.passed = wrong.is_empty();
    verdict.headline = if verdict.passed { "PASSED".to_owned() } else { format!("FAILED: {}", wrong.join(", ")) };
}

fn unsent(shared: &Shared, clients: &[&Client]) -> u64 {
    let owed = |client: &&&Client| {
        let prepared = &shared.groups[usize::from(client.group)];
        prepared.group.role == Role::Publish && prepared.schedule.is_some()
    };
    clients.iter().filter(owed).map(|client| client.due.saturating_sub(client.number)).sum()
}

/// The number of due deliveries: for each subscriber (or shared subscription) all messages that its filter matches.
pub(crate) fn expected(shared: &Shared, clients: &[&Client]) -> u64 {
    receivers(shared, clients).flat_map(|(_, owed)| owed).map(|(_, sent)| sent).sum()
}

/// An upper bound of deliveries by now, for the wait at the end of a run: exact if all publishers have the same number of receivers.
pub(crate) fn deliveries_at_most(shared: &Shared) -> u64 {
    shared.sum(|c| &c.sent).saturating_mul(shared.fan)
}

/// The most receivers of a publisher; a shared subscription is one.
pub(crate) fn fan(groups: &[Prepared]) -> u64 {
    let of = |role| groups.iter().filter(move |p| p.group.role == role).map(|p| &p.group);
    let mut filters: Vec<String> =
        of(Role::Subscribe).flat_map(|group| (0..group.clients).map(|client| group.topic_of(client))).collect();
    let plain = |filter: &&String| verify::shared(filter).is_none();
    let mut shared: Vec<String> = filters.iter().filter(|filter| !plain(filter)).cloned().collect();
    shared.sort_unstable();
    shared.dedup();
    filters.retain(|filter| plain(&filter));
    filters.extend(shared);
    let publishers: usize = of(Role::Publish).map(|group| group.clients as usize).sum();
    if filters.len() * publishers > PAIRS_MAX {
        return filters.len() as u64;
    }
    let topics = of(Role::Publish).flat_map(|group| (0..group.clients).map(|client| group.topic_of(client)));
    let receivers = |topic: String| filters.iter().filter(|filter| verify::matches(filter, &topic)).count() as u64;
    topics.map(receivers).max().unwrap_or(0)
}

/// Publishers, each with the number of messages that it sent.
type Owed = Vec<(usize, u64)>;

/// The messages at each receiver, and those that were due; shared subscriptions count as one.
fn receivers<'a>(shared: &'a Shared, clients: &'a [&'a Client]) -> impl Iterator<Item = (Streams, Owed)> + 'a {
    let mut publishers = Vec::new();
    for client in clients {
        let prepared = &shared.groups[usize::from(client.group)];
        if prepared.group.role == Role::Publish && prepared.group.contents == Contents::Numbered {
            let base = shared.publishers.base(usize::from(client.group)).unwrap_or(0);
            publishers.push((base + client.index as usize, prepared.group.topic_of(client.index), client.number));
        }
    }
    let mut merged: HashMap<String, Streams> = HashMap::new();
    let mut single = Vec::new();
    for client in clients {
        let Some(streams) = &client.streams else { continue };
        let filter = shared.groups[usize::from(client.group)].group.topic_of(client.index);
        if verify::shared(&filter).is_none() {
            single.push((filter, streams.as_ref().clone()));
        } else if let Some(sum) = merged.get_mut(&filter) {
            sum.share(streams);
        } else {
            merged.insert(filter, streams.as_ref().clone());
        }
    }
    let all: Vec<_> = single.into_iter().chain(merged).collect();
    let judged = all.len() * publishers.len() <= PAIRS_MAX;
    all.into_iter().map(move |(filter, streams)| {
        let owed = publishers.iter().filter(|(_, topic, _)| judged && verify::matches(&filter, topic));
        (streams, owed.map(|(number, _, sent)| (*number, *sent)).collect())
    })
}
