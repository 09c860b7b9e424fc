//! Numbers of bindings, for `/metrics`.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::lock;
use forebay_metrics::collector::{Extra, Number};
use forebay_metrics::spec::{Kind, Spec};

const fn counter(name: &'static str, label: (&'static str, &'static str), help: &'static str) -> Spec {
    Spec { name, label: Some(label), help, kind: Kind::Counter }
}

/// The length of [`NUMBERS`], as a literal: if the type of [`Numbers`] asked for it, the compiler (1.95) would find a cycle
/// through `counter` with optimizations.
const COUNT: usize = 9;

/// The numbers, in the order of [`Of`].
pub const NUMBERS: [Spec; COUNT] = [
    counter(
        "binding_creates",
        ("result", "done"),
        "Messages that applications have published by a binding, by what became of them: the remote has acknowledged it, or, at QoS 0, it was written.",
    ),
    counter("binding_creates", ("result", "failed"), "The remote does not have it."),
    counter(
        "binding_creates",
        ("result", "unknown"),
        "It was sent, and not acknowledged within 10 s: the remote may have it.",
    ),
    counter("binding_calls", ("result", "done"), "Calls of the application, by how it has answered: with 2xx."),
    counter("binding_calls", ("result", "refused"), "With another status, or not within 60 s."),
    counter(
        "binding_calls",
        ("result", "unreachable"),
        "It could not be reached, or the connection broke before an answer.",
    ),
    counter(
        "binding_failed_messages",
        ("fate", "dead_letter"),
        "Messages that the application has refused after all retries, by what became of them: a dead letter.",
    ),
    counter("binding_failed_messages", ("fate", "dropped"), "Acknowledged, and gone."),
    counter("binding_failed_messages", ("fate", "kept"), "Not acknowledged: the remote has it still."),
];

/// The index of one of [`NUMBERS`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    CreateDone,
    CreateFailed,
    CreateUnknown,
    CallDone,
    CallRefused,
    CallUnreachable,
    Letter,
    Dropped,
    Kept,
}

/// The numbers of all bindings, by the names of their components.
#[derive(Debug, Default)]
pub struct Numbers(Mutex<BTreeMap<String, [u64; COUNT]>>);

impl Numbers {
    pub(super) fn count(&self, binding: &str, of: Of) {
        let mut all = lock(&self.0);
        match all.get_mut(binding) {
            Some(numbers) => numbers[of as usize] += 1,
            None => all.entry(binding.to_owned()).or_default()[of as usize] += 1,
        }
    }

    /// Shows these bindings from now on, and no others.
    pub(super) fn show<'a>(&self, bindings: impl Iterator<Item = &'a str>) {
        let mut all = lock(&self.0);
        let mut before = std::mem::take(&mut *all);
        *all = bindings.map(|name| (name.to_owned(), before.remove(name).unwrap_or_default())).collect();
    }
}

impl Extra for Numbers {
    fn read(&self) -> Vec<Number> {
        let all = lock(&self.0);
        let of = |(at, spec): (usize, &Spec)| -> Vec<Number> {
            let number = |(name, numbers): (&String, &[u64; COUNT])| Number {
                spec: *spec,
                labels: vec![("binding", name.clone())],
                value: numbers[at] as f64,
            };
            all.iter().map(number).collect()
        };
        NUMBERS.iter().enumerate().flat_map(of).collect()
    }
}
