//! Rows that rules feed. A rule is evaluated while room is asked for, and each of its outputs is rendered at once, into the reservation's memory:
//! nothing is left of it when the rows are written.

use crate::config::OnError;
use crate::kafka::producer::Producer;
use crate::rule::column::Row as Output;
use crate::rule::failure::{Clause, Code, Failure, Reason};
use crate::rule::message::{Given, Id, Message as RuleMessage};
use crate::rule::program::{self, Input};
use crate::rules::Rules as Guarantees;
use crate::runtime::seam::WallMs;

use super::super::outlets::{Objection, Outlets};
use super::super::rules::{Address, Outcome, RULE, RulePlan, Rules};
use super::super::sinks::{Message, Plan, header_bytes};
use super::{Asking, Fed, RENDERED_KEPT, Reservation, Reserved, Text, To, Told, Unreserved, Wait, Workspace};

/// The most rows that the rules of one message may make.
const ROWS_MAX: usize = 1_024;
/// Steps of a rule that cost what a packet costs.
const STEPS_A_PACKET: u64 = 64;
/// The most data that the rules of one message may render, headers of the device among it.
const RENDERED_MAX: usize = 8 << 20;
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

/// What the rows that rules have made of a message take of one sink.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    sink: u16,
    cluster: usize,
    is_spooled: bool,
    rows: usize,
    bytes: usize,
    /// Whether the sink has refused one of them, and keeps the message as a dead letter.
    has_letter: bool,
}

/// What the rows before another one take.
#[derive(Clone, Copy, Default)]
pub(super) struct Before {
    /// Of the sink's share of the memory.
    pub(super) share: usize,
    /// Of the disk buffer.
    pub(super) spool: usize,
}

/// Why an output is not asked about any further.
enum Stop {
    /// The rule fails for the message.
    Failed(Failure),
    /// The reservation is decided: no destination gets the message, or nothing is reserved.
    Ended(Result<(), Unreserved>),
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
        let Rules { plans, fed, arena, machine, guarantees, random, memory_max, spool_max } = rules;
        let guarantees = *guarantees;
        self.outlets.workspace.outputs_owe = guarantees.waits_for_outputs();
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
        let (mut mixed, mut steps) = (0, 0);
        for place in from..self.outlets.workspace.matched.len() {
            let number = self.outlets.workspace.matched[place] & !RULE;
            let Some(Some(rule)) = plans.get(usize::from(number)) else { continue };
            let mark = Mark::of(&self.outlets.workspace, *waits);
            let (mut stop, mut outputs) = (None, 0);
            let outcome = rule.program.evaluate(&mut input, |output| {
                outputs += 1;
                for sink in &rule.sinks {
                    let Some(Some(plan)) = fed.get(usize::from(*sink)) else { return Err(NO_SINK) };
                    let most = (memory_max.get(plan.cluster).copied().unwrap_or(usize::MAX), *spool_max);
                    let row = Output::new(output);
                    let of = Message { output: Some(&row), ..*message };
                    let asked = self.ask_row((*sink, plan, most), &of, &row, (asking.told, guarantees), waits);
                    asked.map_err(|why| match why {
                        Stop::Failed(failure) => failure,
                        Stop::Ended(ended) => {
                            stop = Some(ended);
                            ENDED
                        }
                    })?;
                }
                Ok(())
            });
            let outcome = match outcome {
                _ if stop.is_some() => Outcome::Passed(outputs),
                Ok(program::Outcome::Passed(_)) => Outcome::Passed(outputs),
                Ok(program::Outcome::Filtered) => Outcome::Filtered,
                Err(failure) => {
                    *waits = mark.restore(&mut self.outlets.workspace);
                    Outcome::Failed(failure)
                }
            };
            // A rule counts as a packet, and each of its rows as another, also where that ends the message's way here.
            let taken = input.steps();
            let cost = (taken - std::mem::replace(&mut steps, taken)) / STEPS_A_PACKET;
            self.outlets.workspace.cost += 1 + cost as u32 + outputs * rule.sinks.len() as u32;
            let compared = input.mixed_comparisons();
            self.outlets.workspace.outcomes.push((number, outcome, compared - std::mem::replace(&mut mixed, compared)));
            if let Some(ended) = stop {
                return ended;
            }
            if matches!(outcome, Outcome::Failed(_)) && !guarantees.may_skip(rule.on_error == OnError::Skip) {
                self.fail(number, rule, message, asking, waits)?;
            }
            if self.is_refused {
                break;
            }
        }
        Ok(())
    }

    /// Renders the row of an output, and asks for room for it.
    fn ask_row(
        &mut self,
        (sink, plan, (memory_max, spool_max)): (u16, &Plan, (usize, usize)),
        of: &Message<'_>,
        output: &Output<'_, '_>,
        (told, guarantees): (Told, &dyn Guarantees),
        waits: &mut Option<Wait>,
    ) -> Result<(), Stop> {
        let outlets = &mut *self.outlets;
        let is_spooled = outlets.buffer.as_ref().is_some_and(|buffer| buffer.keeps(plan.cluster, plan.sink));
        let work = &mut outlets.workspace;
        let rows: usize = work.sums.iter().map(|sum| sum.rows).sum();
        if rows >= ROWS_MAX {
            return Err(Stop::Failed(limit("the rules make more records than a message may")));
        }
        let rendered = render(plan, of, work);
        if let Some(failure) = output.failure() {
            return Err(Stop::Failed(failure));
        }
        if work.rendered.len() > RENDERED_MAX {
            return Err(Stop::Failed(limit("the rules make more data than a message may")));
        }
        let (bytes, row) = match rendered {
            Ok((bytes, topic, made)) => {
                work.rows.push(made);
                (bytes, Ok((bytes, topic, work.rows.len() as u32 - 1)))
            }
            Err(objection) => (0, Err(objection)),
        };
        let in_cluster = |sum: &&Sum| sum.cluster == plan.cluster;
        let memory: usize = work.sums.iter().filter(in_cluster).map(|sum| sum.memory()).sum();
        let spool: usize = work.sums.iter().filter(|sum| sum.is_spooled).map(|sum| sum.spool()).sum();
        // A message's only row may be as large as any.
        let is_too_much = memory + bytes + Producer::BATCH_ROOM > memory_max || is_spooled && spool + bytes > spool_max;
        if guarantees.is_too_much(rows > 0 && is_too_much) {
            return Err(Stop::Failed(limit("the rules make more data of a message than its buffers take at a time")));
        }
        let found = work.sums.iter().position(|sum| sum.sink == sink);
        let at = found.unwrap_or_else(|| {
            let (cluster, rows, bytes) = (plan.cluster, 0, 0);
            work.sums.push(Sum { sink, cluster, is_spooled, rows, bytes, has_letter: false });
            work.sums.len() - 1
        });
        let sum = &mut work.sums[at];
        if of.qos == 2 && plan.keeps_packet_ids && sum.rows >= ROWS_OF_EXCHANGE_MAX {
            return Err(Stop::Failed(limit(
                "the rule makes more records of a message of QoS 2 than the disk buffer takes",
            )));
        }
        let (before, has_letter) = (Before { share: sum.memory(), spool }, sum.has_letter);
        sum.rows += 1;
        sum.bytes += bytes;
        if has_letter && row.is_err() {
            // One letter has the message whole.
            return Ok(());
        }
        let asked = self.ask(sink, of, told, Some(Fed { plan, row, before }));
        let (to, bytes, room) = asked.map_err(|why| Stop::Ended(Err(why)))?;
        let is_letter = matches!(to, To::DeadLetters(..));
        if is_letter && has_letter {
            return Ok(());
        }
        self.outlets.workspace.sums[at].has_letter |= is_letter;
        let beside = if matches!(to, To::Topic { .. }) { Producer::BATCH_ROOM } else { 0 };
        self.push(Reserved { sink, to, bytes: bytes + beside }, before.share + bytes, room, waits);
        if self.is_refused { Err(Stop::Ended(Ok(()))) } else { Ok(()) }
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
            OnError::Reject if asking.told == Told::Code && !self.is_repeat => return Err(Unreserved::RuleFailed),
            OnError::Reject => !self.is_repeat,
            OnError::DeadLetter | OnError::Skip => false,
        };
        let Some(sink) = rule.letters else {
            // Without letters `"dead-letter"` is not to be had; nobody else goes without the message for that.
            return if alone { Err(Unreserved::RuleFailed) } else { Ok(()) };
        };
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
            self.push(Reserved { sink, to, bytes: 0 }, 0, Ok(()), waits);
            return Ok(());
        }
        let to = To::DeadLetters(Objection::RuleFailed(number), place);
        let bytes = place.bytes();
        self.push(Reserved { sink, to, bytes }, bytes, room, waits);
        Ok(())
    }
}

impl Sum {
    /// Memory of the cluster.
    const fn memory(&self) -> usize {
        self.bytes + self.rows * Producer::BATCH_ROOM
    }

    /// Bytes in the disk buffer.
    const fn spool(&self) -> usize {
        self.bytes + self.rows * crate::buffer::ROW_COST as usize
    }
}

/// What a reservation held before a rule was evaluated.
struct Mark {
    sinks: usize,
    rows: usize,
    headers: usize,
    rendered: usize,
    needs: smallvec::SmallVec<[usize; 4]>,
    sums: smallvec::SmallVec<[Sum; 4]>,
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
/// A change of the configuration has taken a sink and left the rule, which does not happen.
const NO_SINK: Failure = limit("a sink of the rule is not there");

const fn limit(what: &'static str) -> Failure {
    Failure {
        reason: Reason { code: Code::Limit, what, found: None },
        clause: Clause::Output,
        place: crate::rule::sql::Place { start: 0, end: 0 },
    }
}

/// Renders a row: the memory that it takes, its topic, and the rest.
fn render(plan: &Plan, of: &Message<'_>, work: &mut Workspace) -> Result<(usize, Text, Made), Objection> {
    // [`RENDERED_MAX`] and a row more.
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
            headers_bytes += header_bytes(name.len(), value.len());
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

impl Workspace {
    /// Begins with a message where there are rules.
    pub(super) fn forget_rows(&mut self) {
        if self.rendered.capacity() > RENDERED_KEPT {
            self.rendered.shrink_to(RENDERED_KEPT);
        }
        self.outcomes.clear();
        self.rows.clear();
        self.made_headers.clear();
        self.sums.clear();
    }
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

    /// The cost of rules since this was last asked, in packets.
    pub(in crate::shard) fn take_cost_of_rules(&mut self) -> u32 {
        std::mem::take(&mut self.workspace.cost)
    }
}
