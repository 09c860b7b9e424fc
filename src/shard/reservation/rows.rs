//! Rows that rules feed. A rule is evaluated while room is asked for, and each of its outputs is rendered at once, into the reservation's memory:
//! nothing is left of it when the rows are written.

use crate::config::OnError;
use crate::kafka::producer::Producer;
use crate::record::varint;
use crate::rule::column::Row as Output;
use crate::rule::failure::{Clause, Code, Failure, Reason};
use crate::rule::message::{Given, Id, Message as RuleMessage};
use crate::rule::program::{self, Input};
use crate::runtime::seam::WallMs;

use super::super::outlets::{Objection, Outlets};
use super::super::rules::{Address, Outcome, RULE, RulePlan, Rules};
use super::super::sinks::{Message, Plan};
use super::{Asking, Fed, Reservation, Reserved, Text, To, Told, Unreserved, Wait, Workspace};

/// The most rows that the rules of one message may make.
const ROWS_MAX: usize = 1_024;
/// The most rows of one message of QoS 2 in a sink that keeps its packet identifier with each.
const ROWS_OF_EXCHANGE_MAX: usize = 64;

/// A place in [`Workspace::rendered`].
type Span = (u32, u32);

/// A row of a rule, rendered.
#[derive(Clone, Copy)]
pub(super) struct Made {
    pub(super) key: Option<Span>,
    /// `None` is Kafka's null.
    pub(super) value: Option<Span>,
    /// Its headers in [`Workspace::made_headers`].
    pub(super) headers: Span,
    pub(super) time: Option<WallMs>,
    /// Values of `headers_from` that cannot be a header.
    pub(super) left_out: u64,
}

/// What the rows that rules have made of a message take of one sink, or of all.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    rows: usize,
    bytes: usize,
}

/// Why an output is not asked about any further.
enum Stop {
    /// The rule fails for the message.
    Failed(Failure),
    /// No destination gets the message, whatever the rest of the rules make of it.
    Ended,
    Unreserved(Unreserved),
}

impl Reservation<'_> {
    /// Evaluates the rules that match the message, from a place among what matched, and asks for room for what they yield. `waits`: what the
    /// message waits for already.
    #[inline(never)]
    pub(super) fn ask_rules(
        &mut self,
        from: usize,
        message: &Message<'_>,
        asking: &Asking<'_>,
        waits: &mut Option<Wait>,
    ) -> Result<(), Unreserved> {
        let Some(mut rules) = self.outlets.rules.take() else { return Ok(()) };
        let asked = self.evaluate(&mut rules, from, message, asking, waits);
        self.outlets.rules = Some(rules);
        asked
    }

    fn evaluate(
        &mut self,
        rules: &mut Rules,
        from: usize,
        message: &Message<'_>,
        asking: &Asking<'_>,
        waits: &mut Option<Wait>,
    ) -> Result<(), Unreserved> {
        let Rules { plans, fed, arena, machine, random, bytes_max } = rules;
        let address = asking.peer.map(Address::of);
        let of = RuleMessage {
            context: *message,
            id: Id::Number(random.u128(..)),
            peerhost: address.as_ref().map(Address::host),
            peername: address.as_ref().map(Address::whole),
            node: &machine.node,
            given: Given::default(),
        };
        let around = machine.around(asking.wall.0, random.u64(..));
        let mut input = Input::new(&of, &around, arena);
        let mut mixed = 0;
        for place in from..self.outlets.workspace.matched.len() {
            let number = self.outlets.workspace.matched[place] & !RULE;
            let Some(rule) = plans.get(usize::from(number)) else { continue };
            let mark = Mark::of(&self.outlets.workspace, *waits);
            let (mut stop, mut outputs) = (None, 0);
            let outcome = rule.program.evaluate(&mut input, |output| {
                outputs += 1;
                for sink in rule.sinks.iter().filter(|sink| !asking.already_taken_by.contains(sink)) {
                    let Some(Some(plan)) = fed.get(usize::from(*sink)) else { continue };
                    let bytes_max = bytes_max.get(plan.cluster).copied().unwrap_or(usize::MAX);
                    let row = Output::new(output);
                    let of = Message { output: Some(&row), ..*message };
                    let asked = self.ask_row((*sink, plan, bytes_max), &of, &row, asking.told, waits);
                    asked.map_err(|why| match why {
                        Stop::Failed(failure) => failure,
                        other => {
                            stop = Some(other);
                            ENDED
                        }
                    })?;
                }
                Ok(())
            });
            match stop {
                None | Some(Stop::Failed(_)) => {}
                Some(Stop::Ended) => return Ok(()),
                Some(Stop::Unreserved(why)) => return Err(why),
            }
            let outcome = match outcome {
                Ok(program::Outcome::Passed(_)) => Outcome::Passed(outputs),
                Ok(program::Outcome::Filtered) => Outcome::Filtered,
                Err(failure) => {
                    *waits = mark.restore(&mut self.outlets.workspace);
                    Outcome::Failed(failure)
                }
            };
            let compared = input.mixed_comparisons();
            self.outlets.workspace.outcomes.push((number, outcome, compared - std::mem::replace(&mut mixed, compared)));
            if matches!(outcome, Outcome::Failed(_)) {
                self.fail(number, rule, message, asking, waits)?;
            }
            if self.is_refused {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Renders the row of an output, and asks for room for it.
    fn ask_row(
        &mut self,
        (sink, plan, bytes_max): (u16, &Plan, usize),
        of: &Message<'_>,
        output: &Output<'_, '_>,
        told: Told,
        waits: &mut Option<Wait>,
    ) -> Result<(), Stop> {
        let work = &mut self.outlets.workspace;
        let all = work.sums.iter().fold(Sum::default(), |all, (_, of)| all.and(*of));
        if all.rows >= ROWS_MAX {
            return Err(Stop::Failed(limit("the rules make more records than a message may")));
        }
        let rendered = render(plan, of, work);
        if let Some(failure) = output.failure() {
            return Err(Stop::Failed(failure));
        }
        let (bytes, row) = match rendered {
            Ok((bytes, topic, made)) => {
                work.rows.push(made);
                (bytes, Ok((bytes, topic, work.rows.len() as u32 - 1)))
            }
            Err(objection) => (0, Err(objection)),
        };
        let sum = match work.sums.iter_mut().find(|(of, _)| *of == sink) {
            Some((_, sum)) => sum,
            None => {
                work.sums.push((sink, Sum::default()));
                &mut work.sums.last_mut().expect("pushed above").1
            }
        };
        let before = *sum;
        *sum = before.and(Sum { rows: 1, bytes });
        // A message's only row may be as large as any.
        if all.rows > 0 && all.bytes + bytes > bytes_max {
            return Err(Stop::Failed(limit(
                "the rules make more data of a message than Kafka's buffer takes at a time",
            )));
        }
        if of.qos == 2 && plan.keeps_packet_ids && before.rows >= ROWS_OF_EXCHANGE_MAX {
            return Err(Stop::Failed(limit(
                "the rule makes more records of a message of QoS 2 than the disk buffer takes",
            )));
        }
        let (to, bytes, room) = self.ask(sink, of, told, Some(Fed { plan, row, before })).map_err(Stop::Unreserved)?;
        let beside = if matches!(to, To::Topic { .. }) { Producer::BATCH_ROOM } else { 0 };
        self.push(Reserved { sink, to }, bytes + beside, room, waits);
        if self.is_refused { Err(Stop::Ended) } else { Ok(()) }
    }

    /// Asks for the place of a message for which a rule has failed.
    #[cold]
    fn fail(
        &mut self,
        number: u16,
        rule: &RulePlan,
        message: &Message<'_>,
        asking: &Asking<'_>,
        waits: &mut Option<Wait>,
    ) -> Result<(), Unreserved> {
        let alone = match rule.on_error {
            OnError::Skip => return Ok(()),
            OnError::Reject if asking.told == Told::Code && !self.is_repeat => return Err(Unreserved::RuleFailed),
            OnError::Reject => !self.is_repeat,
            OnError::DeadLetter => false,
        };
        let Some(sink) = rule.letters.first().copied() else { return Err(Unreserved::RuleFailed) };
        if asking.already_taken_by.contains(&sink) {
            // The letter is there since before a crash, with the rows of the sink.
            return Ok(());
        }
        let outlets = &mut *self.outlets;
        let plan = &outlets.plans[usize::from(sink)];
        let Some(place) = plan.place(message) else { return Err(Unreserved::RuleFailed) };
        let room = place.room(&outlets.letters, &outlets.upstreams[plan.cluster].producer, sink);
        let goes_without = room.is_err() && plan.goes_without(message);
        self.is_refused = alone;
        if goes_without {
            if alone {
                return Err(Unreserved::RuleFailed);
            }
            let to = To::Nowhere(crate::metrics::spec::RefusalReason::NoRoom);
            self.push(Reserved { sink, to }, 0, Ok(()), waits);
            return Ok(());
        }
        let to = To::DeadLetters(Objection::RuleFailed(number), place);
        self.push(Reserved { sink, to }, place.bytes(), room, waits);
        Ok(())
    }
}

impl Sum {
    const fn and(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, bytes: self.bytes + other.bytes }
    }

    /// Room that a row of these bytes needs after the others, in the disk buffer and in the sink's share.
    pub(super) const fn with(self, bytes: usize) -> usize {
        self.bytes + self.rows * (crate::buffer::ROW_COST as usize + Producer::BATCH_ROOM) + bytes
    }
}

/// What a reservation held before a rule was evaluated.
struct Mark {
    sinks: usize,
    rows: usize,
    headers: usize,
    rendered: usize,
    needs: smallvec::SmallVec<[usize; 4]>,
    sums: smallvec::SmallVec<[(u16, Sum); 4]>,
    waits: Option<Wait>,
}

impl Mark {
    fn of(work: &Workspace, waits: Option<Wait>) -> Self {
        Self {
            sinks: work.sinks.len(),
            rows: work.rows.len(),
            headers: work.made_headers.len(),
            rendered: work.rendered.len(),
            needs: work.needs.iter().copied().collect(),
            sums: work.sums.iter().copied().collect(),
            waits,
        }
    }

    /// Takes back what came after it: outputs of a rule that has failed do not count.
    fn restore(self, work: &mut Workspace) -> Option<Wait> {
        work.sinks.truncate(self.sinks);
        work.rows.truncate(self.rows);
        work.made_headers.truncate(self.headers);
        work.rendered.truncate(self.rendered);
        work.needs.clear();
        work.needs.extend(self.needs);
        work.sums.clear();
        work.sums.extend(self.sums);
        self.waits
    }
}

/// Ends an evaluation; it is no failure of the rule.
const ENDED: Failure = limit("ended");

const fn limit(what: &'static str) -> Failure {
    Failure {
        reason: Reason { code: Code::Limit, what, found: None },
        clause: Clause::Output,
        place: crate::rule::sql::Place { start: 0, end: 0 },
    }
}

/// Renders a row: the memory that it takes, its topic, and the rest.
fn render(plan: &Plan, of: &Message<'_>, work: &mut Workspace) -> Result<(usize, Text, Made), Objection> {
    // A message makes at most 4 MiB of rows and literals.
    let end = |rendered: &Vec<u8>| rendered.len() as u32;
    let time = plan.time(of).map_err(Objection::Absent)?;
    if let Some(from) = &plan.headers_from {
        from.bound(of).map_err(Objection::Absent)?;
    }
    let topic = Text::of(&plan.topic, of, &mut work.rendered).map_err(Objection::Absent)?;
    let start = end(&work.rendered);
    let key = plan.key.as_ref().is_some_and(|key| key.render(of, &mut work.rendered).is_ok());
    let middle = end(&work.rendered);
    let has_value = plan.write_value(of, &mut work.rendered).map_err(Objection::Absent)?;
    let value = (middle, end(&work.rendered));
    let first = work.made_headers.len() as u32;
    let (mut headers_bytes, mut left_out) = (0, 0);
    if !plan.is_bare(of) {
        work.headers.clear();
        let ranges = plan.render_headers(of, &mut work.headers);
        for (name, value) in plan.headers(of, &work.headers, &ranges) {
            let start = end(&work.rendered);
            work.rendered.extend_from_slice(name);
            let middle = end(&work.rendered);
            work.rendered.extend_from_slice(value);
            work.made_headers.push((start, middle, end(&work.rendered)));
            let len = |len: usize| varint::len(len as i64) + len;
            headers_bytes += len(name.len()) + len(value.len());
        }
        left_out = ranges.left_out;
    }
    let made = Made {
        key: key.then_some((start, middle)),
        value: has_value.then_some(value),
        headers: (first, work.made_headers.len() as u32),
        time,
        left_out,
    };
    let (key, value) = (middle - start, if has_value { value.1 - value.0 } else { 0 });
    let bytes = crate::kafka::producer::row_bytes_max(key as usize, value as usize, headers_bytes, 0);
    Ok((bytes, topic, made))
}

/// The bytes of a place in what was rendered.
pub(super) fn span(rendered: &[u8], (from, to): Span) -> &[u8] {
    rendered.get(from as usize..to as usize).unwrap_or_default()
}

impl Made {
    /// Name and value of each header, out of all headers and what was rendered.
    pub(super) fn headers<'a>(
        &self,
        all: &'a [(u32, u32, u32)],
        rendered: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        let headers = all.get(self.headers.0 as usize..self.headers.1 as usize).unwrap_or_default();
        headers.iter().map(|(start, middle, end)| (span(rendered, (*start, *middle)), span(rendered, (*middle, *end))))
    }
}

impl Outlets {
    /// Whether there are outcomes of rules, which nobody has counted.
    pub(in crate::shard) fn has_outcomes(&self) -> bool {
        !self.workspace.outcomes.is_empty()
    }
}
