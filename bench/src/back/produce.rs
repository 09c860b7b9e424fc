//! Writes numbered records by kcat (librdkafka, acks=all, Java's partitioner): a client that is independent of Forebay. It is not
//! idempotent, as librdkafka 2.0.2 gives up for good where leaders move ("rewound sequence number"): records that it sends again
//! may be in Kafka twice, or late.
//!
//! A record is a line `KEY|NAME RUN KEY NUMBER FILL`; keys are `CLASS/N`, and each has its own numbers from 0.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, bail};

use crate::flow::plan::mix;

/// Keys of each class.
pub(crate) const KEYS: u64 = 8;

/// A producer into one Kafka topic.
pub(crate) struct Producer {
    name: String,
    run: u32,
    classes: Vec<String>,
    payload_bytes: usize,
    child: Child,
    input: Option<ChildStdin>,
    /// The next numbers, by class and key.
    numbers: Vec<u64>,
    pub(crate) written: u64,
    lines: Vec<u8>,
}

/// The destination of records.
pub(crate) struct To<'a> {
    pub(crate) kcat: &'a str,
    pub(crate) bootstrap: &'a str,
    pub(crate) topic: &'a str,
}

impl Producer {
    /// # Errors
    /// There is no kcat.
    pub(crate) fn new(
        name: &str,
        run: u32,
        classes: Vec<String>,
        payload_bytes: usize,
        to: &To<'_>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(to.kcat);
        command.args(["-P", "-q", "-b", to.bootstrap, "-t", to.topic, "-K", "|"]);
        for setting in [
            "acks=all",
            "max.in.flight.requests.per.connection=1",
            "retries=1000000",
            "partitioner=murmur2_random",
            "linger.ms=5",
            "message.timeout.ms=600000",
            "topic.metadata.refresh.interval.ms=2000",
        ] {
            command.args(["-X", setting]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{} (on Debian: apt-get install kcat)", to.kcat))?;
        let input = child.stdin.take();
        let numbers = vec![0; classes.len() * KEYS as usize];
        let name = name.to_owned();
        Ok(Self { name, run, classes, payload_bytes, child, input, numbers, written: 0, lines: Vec::new() })
    }

    /// Writes `count` more records.
    ///
    /// # Errors
    /// kcat has ended.
    pub(crate) fn write(&mut self, count: u64) -> anyhow::Result<()> {
        self.lines.clear();
        for _ in 0..count {
            let place = (mix(self.written ^ u64::from(self.run)) % self.numbers.len() as u64) as usize;
            let class = &self.classes[place / KEYS as usize];
            let key = format!("{class}/{}", place as u64 % KEYS);
            let value = value(&self.name, self.run, &key, self.numbers[place], self.payload_bytes);
            writeln!(self.lines, "{key}|{value}")?;
            self.numbers[place] += 1;
            self.written += 1;
        }
        self.input.as_mut().context("kcat")?.write_all(&self.lines).context("kcat has ended")
    }

    /// Waits until all records are in Kafka.
    ///
    /// # Errors
    /// They are not.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        self.input = None;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("kcat, writing {}: {status}", self.name) }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of a record: every byte is known in advance.
pub(crate) fn value(name: &str, run: u32, key: &str, number: u64, bytes: usize) -> String {
    let mut value = format!("{name} {run} {key} {number} ");
    let mut word = mix(u64::from(run) ^ mix(number));
    while value.len() < bytes {
        word = mix(word);
        value.push(char::from(b'a' + (word % 26) as u8));
    }
    value
}

/// The number in a value, if the value is one that was written for this key.
pub(crate) fn number(value: &[u8], name: &str, run: u32, key: &str, bytes: usize) -> Option<u64> {
    let found = std::str::from_utf8(value).ok()?;
    let number = found.split(' ').nth(3)?.parse().ok()?;
    (found == self::value(name, run, key, number, bytes)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_altered_value_is_seen() {
        let value = value("kept", 7, "k1/3", 12, 100);
        assert_eq!(value.len(), 100);
        let of = |bytes: &[u8]| number(bytes, "kept", 7, "k1/3", 100);
        assert_eq!(of(value.as_bytes()), Some(12));
        for at in 0..100 {
            let mut bytes = value.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(of(&bytes), None, "byte {at}");
        }
        assert_eq!(number(value.as_bytes(), "kept", 7, "k1/4", 100), None, "another key");
    }
}
