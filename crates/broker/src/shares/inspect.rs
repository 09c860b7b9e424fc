//! Shared subscriptions as the control plane reports them.

use forebay_metrics::inspect::{Part as Page, Share as Row};
use forebay_mqtt::topic::split_shared;
use forebay_runtime::seam::Monotonic;
use forebay_session::SessionKey;

use super::super::Broker;
use super::part::Part;
use super::{ShareNumber, Shares};
use crate::out::Out;
use crate::words::Search;

impl Broker {
    /// Shares with members or messages here, from this number on. There are at most [`forebay_base::limits::SHARES_MAX`].
    pub fn shares(&self, io: &dyn Out, from: u32, limit: usize, search: Option<&str>) -> Page<Row> {
        let shares = &self.delivery.shares;
        let search = search.map(Search::new);
        let fits = |(number, part): &(&ShareNumber, &Part)| {
            number.get() >= from
                && search.as_ref().is_none_or(|search| {
                    of(part).is_some_and(|(name, filter)| search.is_in(name) || search.is_in(filter))
                })
        };
        let mut found: Vec<_> = shares.parts.iter().filter(fits).collect();
        found.sort_unstable_by_key(|(number, _)| **number);
        let next = found.get(limit).map(|(number, _)| number.get());
        let row = |(number, part): &(&ShareNumber, &Part)| {
            let (name, filter) = of(part)?;
            Some(Row {
                number: number.get(),
                name: name.to_owned(),
                filter: filter.to_owned(),
                strategy: shares.strategy.as_str(),
                members: part.members(),
                online: part.online(),
                kept: part.kept(),
                queued: part.queued(),
                oldest_s: part.oldest().map(|since| io.now().since(since).as_secs()),
            })
        };
        Page { rows: found.iter().take(limit).filter_map(row).collect(), next }
    }
}

impl Shares {
    /// Appends the members of shares that get messages of a topic, or of the share with this text, until there are `max`.
    pub fn add_members(&mut self, topic: Option<&str>, text: Option<&str>, max: usize, keys: &mut Vec<SessionKey>) {
        let mut numbers = Vec::new();
        match (text, topic) {
            (Some(text), _) => {
                let all = self.parts.iter().filter(|(_, part)| **part.share.text() == *text);
                numbers.extend(all.map(|(number, _)| *number));
            }
            (None, Some(topic)) => _ = self.known.matching(topic, |share| numbers.push(share.number())),
            (None, None) => {}
        }
        let parts = numbers.iter().filter_map(|number| self.parts.get(number));
        let room = max.saturating_sub(keys.len());
        keys.extend(parts.flat_map(Part::sessions).take(room));
    }
}

/// Share name and topic filter.
fn of(part: &Part) -> Option<(&str, &str)> {
    split_shared(part.share.text())
}

impl Part {
    fn members(&self) -> usize {
        self.members.len()
    }

    fn sessions(&self) -> impl Iterator<Item = SessionKey> {
        self.members.keys().copied()
    }

    /// The time at which the oldest of all lines' first messages was received.
    fn oldest(&self) -> Option<Monotonic> {
        let of_one = self.members.values().filter(|_| self.is_keyed).map(|member| &member.line);
        of_one.chain([&self.line]).filter_map(|line| Some(line.get(0)?.since())).min()
    }
}
