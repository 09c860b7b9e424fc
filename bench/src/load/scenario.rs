//! The load: groups of clients with their rates, sizes and topics. Read from `bench/scenarios/*.toml` or from the command line;
//! every key is described in `bench/README.md`.

use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::endpoint::Kind;
use super::span::Span;
use crate::flow::payload::BYTES_MIN;
use crate::flow::plan::Weights;

/// A keep-alive longer than any round, so that no PINGREQ is sent. Not 0: rumqttd refuses such clients.
pub(crate) const LONG_KEEP_ALIVE_S: u16 = 3_600;

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
    /// Measured time. Groups with `messages` may end earlier.
    #[serde(default = "ten_seconds")]
    pub(crate) duration: Span,
    /// The load before it: sent and checked, but left out of latencies and rates.
    #[serde(default)]
    pub(crate) warmup: Span,
    /// Longest wait for answers and deliveries after the last message.
    #[serde(default = "ten_seconds")]
    pub(crate) drain: Span,
    #[serde(rename = "group")]
    pub(crate) groups: Vec<Group>,
}

/// Clients that do the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) clients: u32,
    /// New connections a second; 0: as fast as they are accepted.
    pub(crate) connect_rate: f64,
    /// Protocol version: 4 is 3.1.1, 5 is 5.0.
    pub(crate) version: u8,
    /// QoS: 0, 1, 2, or weights such as "1:2:1".
    pub(crate) qos: QosMix,
    /// Topic or filter; `{client}` is the client's number, `{client%N}` that number modulo N, `{group}` the group's name.
    pub(crate) topic: String,
    /// Payload bytes.
    pub(crate) payload: usize,
    pub(crate) contents: Contents,
    /// Messages a second of the whole group (open loop); 0: as fast as windows allow (closed loop).
    pub(crate) rate: f64,
    /// Time in which the rate grows from nothing.
    pub(crate) ramp: Span,
    /// Most unanswered messages of a client, QoS 1 and 2.
    pub(crate) window: u16,
    /// Messages in each write.
    pub(crate) per_write: u16,
    /// Messages of the whole group; of subscribers, where nothing is published: the number to wait for. 0: until the time is
    /// over.
    pub(crate) messages: u64,
    /// Pause of a client between an answer and its next message (closed loop).
    pub(crate) think: Span,
    /// Keep-alive in seconds; 0: off.
    pub(crate) keep_alive: u16,
    /// Whether sessions are clean; `false`: they are kept (3.1.1: clean session 0; 5.0: expiry interval of an hour).
    pub(crate) clean: bool,
    pub(crate) retain: bool,
    /// The transport of its connections, if the command line has a `--listener` for it; else that of `--target`.
    pub(crate) transport: Option<Kind>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

/// The role of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Publish,
    Subscribe,
    /// Connects, and then sends no more than its keep-alive requires.
    Idle,
    /// Connects, disconnects and connects again, over and over.
    Connect,
}

/// The contents of payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Contents {
    /// Number, time and check of each message, by which a run is judged.
    Numbered,
    /// The same bytes each time; deliveries are counted and not judged.
    Zeros,
    Random,
    Json,
}

/// Shares of the three QoS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum QosMix {
    One(u8),
    Weights(String),
}

impl QosMix {
    pub(crate) fn weights(&self) -> Result<Weights, String> {
        match self {
            Self::One(qos @ 0..=2) => Ok(Weights::only(usize::from(*qos), 3)),
            Self::One(_) => Err("QoS must be 0, 1 or 2".to_owned()),
            Self::Weights(text) => Weights::parse(text, 3),
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Weights(text.to_owned()), Self::One)
    }
}

fn ten_seconds() -> Span {
    Span::seconds(10)
}

impl Default for Group {
    fn default() -> Self {
        Self {
            name: String::new(),
            role: Role::Publish,
            clients: 1,
            connect_rate: 0.0,
            version: 4,
            qos: QosMix::One(0),
            topic: "bench/{client}".to_owned(),
            payload: 100,
            contents: Contents::Numbered,
            rate: 0.0,
            ramp: Span::default(),
            window: 64,
            per_write: 1,
            messages: 0,
            think: Span::default(),
            keep_alive: 60,
            clean: true,
            retain: false,
            transport: None,
            username: None,
            password: None,
        }
    }
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// The errors of the file, or impossible values.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Names groups that have no name, and refuses impossible values.
    ///
    /// # Errors
    /// The group, and why.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if self.groups.is_empty() || self.groups.len() > 1_000 {
            bail!("a scenario needs between 1 and 1,000 groups");
        }
        for (index, group) in self.groups.iter_mut().enumerate() {
            if group.name.is_empty() {
                group.name = format!("group-{index}");
            }
            group.check().map_err(|why| anyhow::anyhow!("group {}: {why}", group.name))?;
        }
        Ok(())
    }
}

impl Group {
    fn check(&self) -> Result<(), String> {
        let problem = if self.clients == 0 {
            "clients must be at least 1".to_owned()
        } else if !matches!(self.version, 4 | 5) {
            "version must be 4 (3.1.1) or 5".to_owned()
        } else if self.per_write == 0 || self.window < self.per_write {
            "window must be at least per_write, and per_write at least 1".to_owned()
        } else if !(self.rate >= 0.0 && self.connect_rate >= 0.0) {
            "rates must not be negative".to_owned()
        } else if self.role == Role::Publish && self.contents == Contents::Numbered && self.payload < BYTES_MIN {
            format!("numbered payloads need {BYTES_MIN} bytes; contents = \"zeros\" can be shorter")
        } else if self.payload > 1 << 24 || self.topic.len() > 60_000 {
            "payload or topic is too long".to_owned()
        } else {
            return self.qos.weights().map(drop);
        };
        Err(problem)
    }

    /// Topic or filter of one client.
    pub(crate) fn topic_of(&self, client: u32) -> String {
        let mut topic = self.topic.replace("{client}", &client.to_string()).replace("{group}", &self.name);
        while let Some((before, rest)) = topic.split_once("{client%") {
            let Some((modulus, after)) = rest.split_once('}') else { break };
            let Some(part) = modulus.parse().ok().and_then(|n: u32| client.checked_rem(n)) else { break };
            topic = format!("{before}{part}{after}");
        }
        topic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_mistakes_are_named() {
        let scenario = Scenario::parse("name = 'x'\n[[group]]\nclients = 3\nqos = '1:2:1'\nramp = '500ms'").unwrap();
        let group = &scenario.groups[0];
        assert_eq!((group.name.as_str(), group.window, scenario.duration), ("group-0", 64, Span::seconds(10)));
        assert_eq!(group.ramp.ns(), 500_000_000);
        for (text, says) in [
            ("name = 'x'\n[[group]]\nclients = 0", "at least 1"),
            ("name = 'x'\n[[group]]\npayload = 8", "40 bytes"),
            ("name = 'x'\n[[group]]\nqos = 3", "QoS must be"),
            ("name = 'x'\n[[group]]\nwindow = 4\nper_write = 8", "per_write"),
            ("name = 'x'\n[[group]]\nwindows = 4", "unknown field"),
        ] {
            let error = format!("{:?}", Scenario::parse(text).unwrap_err());
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn topics_are_filled_in() {
        let topic = |text: &str| Group { name: "g".into(), topic: text.into(), ..Group::default() }.topic_of(7);
        assert_eq!(topic("{group}/{client}/x"), "g/7/x");
        assert_eq!(topic("a/{client%4}/{client%5}"), "a/3/2");
        assert_eq!(topic("a/{client%0}"), "a/{client%0}");
    }

    #[test]
    fn the_scenarios_that_come_with_it_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            names.push(Scenario::read(&entry.unwrap().path()).unwrap().name);
        }
        names.sort();
        names.dedup();
        assert!(names.len() >= 10, "{names:?}");
    }
}
