//! Answers since marks that a script has set: whether the service went on, and how soon.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The span from one mark to the next.
#[derive(Debug)]
struct Span {
    name: String,
    /// The service's process at the beginning; answers of earlier ones, still in the sockets, do not count.
    generation: u32,
    at_ns: u64,
    end_ns: Option<u64>,
    first_ns: Option<u64>,
    last_ns: u64,
    longest_ns: u64,
    answers: u64,
    clients: u64,
    /// The time from a message's sending to its answer, in microseconds.
    waited: Histogram<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    spans: Vec<Span>,
    /// The number of the last span in which a client got an answer, by client.
    answered_in: Vec<usize>,
}

impl Marks {
    pub(crate) fn put(&mut self, name: &str, now_ns: u64, generation: u32) {
        self.close(now_ns);
        self.spans.push(Span {
            name: name.to_owned(),
            generation,
            at_ns: now_ns,
            end_ns: None,
            first_ns: None,
            last_ns: now_ns,
            longest_ns: 0,
            answers: 0,
            clients: 0,
            waited: Histogram::new(2).expect("two digits are taken"),
        });
    }

    /// Counts a PUBACK or PUBREC of the service's process `generation`, `waited_ns` after its message was sent.
    pub(crate) fn answer(&mut self, now_ns: u64, waited_ns: u64, client: u32, generation: u32) {
        let number = self.spans.len();
        let Some(span) = self.spans.last_mut().filter(|span| span.generation == generation) else { return };
        // Answers that were read just before the mark have a slightly older time.
        let now_ns = now_ns.max(span.last_ns);
        span.first_ns.get_or_insert(now_ns);
        span.longest_ns = span.longest_ns.max(now_ns.saturating_sub(span.last_ns));
        span.last_ns = now_ns;
        span.answers += 1;
        // The histogram grows with its values: thousands of marks cost little.
        let _ = span.waited.record(waited_ns / 1_000);
        let client = client as usize;
        if self.answered_in.len() <= client {
            self.answered_in.resize(client + 1, 0);
        }
        if self.answered_in[client] != number {
            self.answered_in[client] = number;
            span.clients += 1;
        }
    }

    /// The times of all marks, in nanoseconds.
    pub(crate) fn times_ns(&self) -> Vec<u64> {
        self.spans.iter().map(|span| span.at_ns).collect()
    }

    /// Ends the last span; also at the end of a run.
    pub(crate) fn close(&mut self, now_ns: u64) {
        if let Some(span) = self.spans.last_mut().filter(|span| span.end_ns.is_none()) {
            span.longest_ns = span.longest_ns.max(now_ns.saturating_sub(span.last_ns));
            span.end_ns = Some(now_ns);
        }
    }

    /// The report. Times in milliseconds; the first answer from the mark on, the longest silence within the span.
    pub(crate) fn report(&self) -> Value {
        let ms = |ns: u64| ns / 1_000_000;
        let spans = self.spans.iter().map(|span| {
            json!({
                "name": span.name, "start": span.generation, "at_ms": ms(span.at_ns), "ended_ms": span.end_ns.map(ms),
                "first_answer_ms": span.first_ns.map(|first| ms(first - span.at_ns)), "silence_ms": ms(span.longest_ns),
                "answers": span.answers, "clients": span.clients,
                "p50_us": span.waited.value_at_quantile(0.5), "p99_us": span.waited.value_at_quantile(0.99),
                "max_us": span.waited.max(),
            })
        });
        spans.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_knows_its_first_answer_its_silence_and_its_clients() {
        let mut marks = Marks::default();
        marks.answer(1_000_000, 0, 0, 0);
        marks.put("up", 5_000_000, 1);
        marks.answer(6_000_000, 9_000, 0, 0);
        for (at_ms, client) in [(9, 3), (10, 3), (30, 4)] {
            marks.answer(at_ms * 1_000_000, 1_000 * at_ms, client, 1);
        }
        marks.put("frozen", 80_000_000, 1);
        marks.close(90_000_000);
        marks.put("well", 95_000_000, 1);
        marks.answer(94_000_000, 0, 4, 1);
        let report = marks.report();
        assert_eq!(report[0]["first_answer_ms"], 4, "answers of an earlier start do not count");
        assert_eq!((&report[0]["answers"], &report[0]["clients"]), (&json!(3), &json!(2)));
        assert_eq!((&report[0]["p50_us"], &report[0]["max_us"]), (&json!(10), &json!(30)));
        assert_eq!((&report[0]["silence_ms"], &report[0]["ended_ms"]), (&json!(50), &json!(80)));
        assert_eq!((&report[1]["first_answer_ms"], &report[1]["silence_ms"]), (&Value::Null, &json!(10)));
        assert_eq!(report[2]["first_answer_ms"], 0, "read at the same time as the mark");
    }
}
