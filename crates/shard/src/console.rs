//! Outputs of rules on their way to the log: for rules with `console`, at most ten lines a second for each rule on a shard.

use forebay_rule::program::Output;
use forebay_runtime::seam::WallMs;

/// Lines of a rule in a second.
const LINES_A_SECOND: usize = 10;
/// Bytes of an output that are printed.
const OUTPUT_BYTES_MAX: usize = 4 << 10;

/// The outputs of rules with `console`.
#[derive(Debug, Default)]
pub(super) struct Console {
    /// The paces, by the rule's index in the configuration.
    paces: Vec<Pace>,
    /// Outputs of the message at hand, each with its rule. `None`: the output is left out.
    noted: Vec<(u16, Option<String>)>,
}

/// The lines printed by a rule.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    second: i64,
    lines: usize,
    /// Outputs that were left out since the last line.
    left_out: u64,
}

impl Console {
    /// Notes an output of the message at hand, which may not be taken yet.
    #[cold]
    pub(super) fn note(&mut self, rule: u16, output: &Output<'_>, now: WallMs) {
        let is_shown = self.has_room(rule, now.0 / 1_000);
        self.noted.push((rule, is_shown.then(|| text(output))));
    }

    fn has_room(&mut self, rule: u16, second: i64) -> bool {
        let place = usize::from(rule);
        if self.paces.len() <= place {
            self.paces.resize(place + 1, Pace::default());
        }
        let pace = &mut self.paces[place];
        if pace.second != second {
            *pace = Pace { second, lines: 0, ..*pace };
        }
        let noted = self.noted.iter().filter(|(of, text)| *of == rule && text.is_some()).count();
        pace.lines + noted < LINES_A_SECOND
    }

    /// Begins with a message, or the one at hand was not taken: its rules are evaluated again.
    pub(super) fn forget(&mut self) {
        self.noted.clear();
    }

    /// The number of noted outputs.
    pub(super) const fn noted(&self) -> usize {
        self.noted.len()
    }

    /// Drops the outputs of a failed rule, those after the first `noted`.
    pub(super) fn forget_from(&mut self, noted: usize) {
        self.noted.truncate(noted);
    }

    /// Prints the noted outputs, as the message is taken.
    pub(super) fn print<'n>(&mut self, name: impl Fn(u16) -> Option<&'n str>) {
        for (rule, text) in self.noted.drain(..) {
            let pace = &mut self.paces[usize::from(rule)];
            match text {
                None => pace.left_out += 1,
                Some(output) => {
                    pace.lines += 1;
                    let left_out = std::mem::take(&mut pace.left_out);
                    tracing::info!(rule = name(rule), output, left_out, "output of a rule");
                }
            }
        }
    }
}

fn text(output: &Output<'_>) -> String {
    let mut bytes = Vec::new();
    if let Err(failure) = output.write(&mut bytes) {
        return format!("cannot be written: {}", failure.reason);
    }
    // The output is JSON, which is UTF-8.
    let mut text = String::from_utf8(bytes).unwrap_or_default();
    if text.len() > OUTPUT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(OUTPUT_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes one of rule `rule` that would print, or not, and takes it.
    fn printed(console: &mut Console, rule: u16, second: i64) -> bool {
        let is_shown = console.has_room(rule, second);
        console.noted.push((rule, is_shown.then(String::new)));
        console.print(|_| None);
        is_shown
    }

    #[test]
    fn a_rule_prints_ten_lines_a_second_and_counts_the_rest() {
        let mut console = Console::default();
        let shown = (0..15).filter(|_| printed(&mut console, 1, 7)).count();
        assert_eq!((shown, console.paces[1].left_out), (LINES_A_SECOND, 5));
        // Another rule has lines of its own.
        assert!(printed(&mut console, 0, 7));
        assert!(printed(&mut console, 1, 8), "another second");
        assert_eq!(console.paces[1].left_out, 0, "the line has told it");
    }

    #[test]
    fn outputs_of_one_message_count_together_and_not_before_it_is_taken() {
        let mut console = Console::default();
        let note = |console: &mut Console| {
            let is_shown = console.has_room(0, 7);
            console.noted.push((0, is_shown.then(String::new)));
            is_shown
        };
        assert_eq!((0..12).filter(|_| note(&mut console)).count(), LINES_A_SECOND);
        console.forget();
        assert_eq!((0..12).filter(|_| note(&mut console)).count(), LINES_A_SECOND);
        console.print(|_| None);
        assert_eq!(console.paces[0].left_out, 2);
    }
}
