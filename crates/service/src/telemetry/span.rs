//! Spans: operations of the control plane with their begin, end and trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

/// Limit of ended spans that wait for their export; further ones are dropped and counted.
const SPANS_QUEUED_MAX: usize = 2_048;

/// Trace ID and parent span ID (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub(super) trace: u128,
    pub(super) span: u64,
}

impl TraceContext {
    /// Reads a `traceparent` header; `None`: it is not valid.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.trim().split('-');
        let mut hex = |length: usize| {
            let part = parts.next()?;
            let is_hex = part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            (part.len() == length && is_hex).then(|| u128::from_str_radix(part, 16).ok()).flatten()
        };
        let (version, trace, span, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        // A later version may append fields, which are ignored.
        let ends = version != 0 || parts.next().is_none();
        let span = u64::try_from(span).ok()?;
        (version != 0xff && ends && trace != 0 && span != 0).then_some(Self { trace, span })
    }
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer.
    Number(i64),
    /// A boolean.
    Flag(bool),
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Number(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

/// The queue of ended spans; without telemetry, spans are discarded.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Queue>>);

#[derive(Debug)]
pub(super) struct Queue {
    letters: SyncSender<Letter>,
    pub(super) dropped: AtomicU64,
}

/// A message to the exporter.
#[derive(Debug)]
pub(super) enum Letter {
    /// A span has ended.
    Ended(Box<Span>),
    /// The service stops: send the remaining spans, and end.
    Stop,
}

impl Tracer {
    /// A tracer that discards spans.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// A tracer with a queue, and the queue's receiver.
    pub(super) fn new() -> (Self, Arc<Queue>, Receiver<Letter>) {
        let (letters, taken) = sync_channel(SPANS_QUEUED_MAX);
        let queue = Arc::new(Queue { letters, dropped: AtomicU64::new(0) });
        (Self(Some(Arc::clone(&queue))), queue, taken)
    }

    /// Ends the queue. May wait for the exporter to make room.
    pub(super) fn stop(&self) {
        if let Some(queue) = &self.0 {
            let _ = queue.letters.send(Letter::Stop);
        }
    }

    /// Begins a span at the beginning of a trace, or under another span.
    #[must_use]
    pub fn span(&self, name: impl Into<String>, parent: Option<TraceContext>) -> Span {
        self.span_since(name, parent, SystemTime::now())
    }

    /// Like [`Self::span`], for a span that began earlier.
    #[must_use]
    pub fn span_since(&self, name: impl Into<String>, parent: Option<TraceContext>, began: SystemTime) -> Span {
        let trace = parent.map_or_else(|| fastrand::u128(1..), |parent| parent.trace);
        Span {
            context: TraceContext { trace, span: fastrand::u64(1..) },
            parent: parent.map(|parent| parent.span),
            name: name.into(),
            is_server: false,
            began_ns: unix_ns(began),
            ended_ns: 0,
            attributes: Vec::new(),
            failed: None,
        }
    }

    /// Ends a span now and queues it.
    pub fn end(&self, mut span: Span) {
        let Some(queue) = &self.0 else { return };
        span.ended_ns = unix_ns(SystemTime::now()).max(span.began_ns);
        if queue.letters.try_send(Letter::Ended(Box::new(span))).is_err() {
            queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A span in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub(super) context: TraceContext,
    pub(super) parent: Option<u64>,
    pub(super) name: String,
    is_server: bool,
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) failed: Option<String>,
}

impl Span {
    /// The span's context, for its children.
    #[must_use]
    pub const fn context(&self) -> TraceContext {
        self.context
    }

    /// Marks the span as the server side of a request.
    #[must_use]
    pub const fn of_server(mut self) -> Self {
        self.is_server = true;
        self
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }

    /// Marks the span as failed.
    #[must_use]
    pub fn failed(mut self, why: impl Into<String>) -> Self {
        self.failed = Some(why.into());
        self
    }

    /// `SPAN_KIND_INTERNAL` or `SPAN_KIND_SERVER`.
    pub(super) const fn kind(&self) -> u8 {
        if self.is_server { 2 } else { 1 }
    }
}

/// Nanoseconds since 1970.
pub(super) fn unix_ns(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let valid = format!("00-{trace}-{span}-01");
        let context = TraceContext { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: 0x00f0_67aa_0ba9_02b7 };
        assert_eq!(TraceContext::parse(&valid), Some(context));
        assert_eq!(TraceContext::parse(&format!("01-{trace}-{span}-01-more")), Some(context));
        for bad in [
            String::new(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            valid.to_uppercase(),
            format!("00-{trace}-+{}-01", &span[1..]),
        ] {
            assert_eq!(TraceContext::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn more_spans_than_the_queue_holds_are_counted() {
        let (tracer, queue, letters) = Tracer::new();
        (0..SPANS_QUEUED_MAX + 3).for_each(|_| tracer.end(tracer.span("x", None)));
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
        assert_eq!(letters.try_iter().count(), SPANS_QUEUED_MAX);
        Tracer::off().end(Tracer::off().span("x", None));
    }
}
