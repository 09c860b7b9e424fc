//! The patterns of `docs/BENCHMARKS.md`, as scenarios.

use clap::ValueEnum;

use crate::load::scenario::{Group, LONG_KEEP_ALIVE_S, QosMix, Role, Scenario};
use crate::load::span::Span;

/// A pattern of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Pattern {
    /// 100 connections, QoS 0, 16 messages a write.
    #[value(name = "A")]
    A,
    /// 100 connections, QoS 1, 16 messages a write, window 64.
    #[value(name = "B")]
    B,
    /// 200 connections, QoS 1, one message in flight each.
    #[value(name = "C")]
    C,
    /// 5,000 connections, QoS 1, one message in flight each.
    #[value(name = "D2")]
    D2,
    /// 5,000 messages a second over 200 connections, QoS 1.
    #[value(name = "L")]
    L,
    /// 20,000 messages a second over 2,000 connections, QoS 1.
    #[value(name = "R20k")]
    R20k,
    /// One publisher, 200 subscribers of its topic, QoS 0.
    #[value(name = "F")]
    F,
    /// One publisher, 1,000 subscribers of its topic, QoS 0.
    #[value(name = "T1")]
    T1,
    /// The same at QoS 1.
    #[value(name = "T2")]
    T2,
    /// 1,000 publishers, 40,000 messages a second, 16 a write, one subscriber of all their topics, QoS 1.
    #[value(name = "T3")]
    T3,
    /// 1,000 publishers with one message in flight, each with a subscriber of its own, QoS 1.
    #[value(name = "T4")]
    T4,
    /// T3 to a kept session.
    #[value(name = "T5")]
    T5,
}

impl Pattern {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D2 => "D2",
            Self::L => "L",
            Self::R20k => "R20k",
            Self::F => "F",
            Self::T1 => "T1",
            Self::T2 => "T2",
            Self::T3 => "T3",
            Self::T4 => "T4",
            Self::T5 => "T5",
        }
    }

    /// The scenario; `scale` 1.0 is a round of about two seconds or less on one core.
    pub(crate) fn scenario(self, scale: f64) -> Scenario {
        let base = Group {
            name: "publishers".into(),
            topic: "dev/{client}/telemetry".into(),
            keep_alive: LONG_KEEP_ALIVE_S,
            ..Group::default()
        };
        let one = |clients, messages, window, per_write, qos| Group {
            clients,
            messages: (f64::from(messages) * scale) as u64,
            window,
            per_write,
            qos: QosMix::One(qos),
            ..base.clone()
        };
        let paced = |clients, rate| Group { clients, rate, qos: QosMix::One(1), window: 16, ..base.clone() };
        let to = |clients, topic: &str, qos| Group {
            name: "subscribers".into(),
            role: Role::Subscribe,
            clients,
            topic: topic.into(),
            qos: QosMix::One(qos),
            ..base.clone()
        };
        let fan_out = |clients, messages, qos| {
            let publisher = Group { topic: "fan/out".into(), ..one(1, messages, 64, 1, qos) };
            vec![to(clients, "fan/out", qos), publisher]
        };
        let (description, groups) = match self {
            Self::A => ("100 connections, QoS 0, 16 messages a write", vec![one(100, 2_000_000, 64, 16, 0)]),
            Self::B => ("100 connections, QoS 1, 16 messages a write, window 64", vec![one(100, 1_000_000, 64, 16, 1)]),
            Self::C => ("200 connections, QoS 1, one in flight each", vec![one(200, 100_000, 1, 1, 1)]),
            Self::D2 => ("5,000 connections, QoS 1, one in flight each", vec![one(5_000, 100_000, 1, 1, 1)]),
            Self::L => ("5,000 messages a second over 200 connections, QoS 1", vec![paced(200, 5_000.0)]),
            Self::R20k => ("20,000 messages a second over 2,000 connections, QoS 1", vec![paced(2_000, 20_000.0)]),
            Self::F => ("one publisher, 200 subscribers, QoS 0", fan_out(200, 5_000, 0)),
            Self::T1 => ("one publisher, 1,000 subscribers, QoS 0", fan_out(1_000, 2_000, 0)),
            Self::T2 => ("one publisher, 1,000 subscribers, QoS 1", fan_out(1_000, 500, 1)),
            Self::T3 | Self::T5 => {
                // At full speed they would be faster than one subscriber reads.
                let publishers =
                    Group { topic: "fan/in/{client}".into(), rate: 40_000.0, ..one(1_000, 200_000, 16, 16, 1) };
                let is_kept = self == Self::T5;
                let subscriber = Group { clean: !is_kept, ..to(1, "fan/in/+", 1) };
                let description = if is_kept {
                    "1,000 publishers, one subscriber with a kept session, QoS 1, 40,000 messages a second, 16 a write"
                } else {
                    "1,000 publishers, one subscriber, QoS 1, 40,000 messages a second, 16 a write"
                };
                (description, vec![subscriber, publishers])
            }
            Self::T4 => {
                let publishers = Group { topic: "pair/{client}".into(), ..one(1_000, 100_000, 1, 1, 1) };
                ("1,000 pairs, QoS 1, one in flight each", vec![to(1_000, "pair/{client}", 1), publishers])
            }
        };
        let paced = matches!(self, Self::L | Self::R20k);
        Scenario {
            name: self.name().to_owned(),
            description: description.to_owned(),
            duration: if paced { Span(std::time::Duration::from_secs_f64(4.0 * scale)) } else { Span::seconds(60) },
            warmup: Span::default(),
            drain: Span::seconds(20),
            groups,
        }
    }
}
