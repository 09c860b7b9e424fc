//! The command line of `back`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::subscriber::Manner;
use crate::flow::read::Kafka;

/// The load, and what is judged.
// clap names a group after its struct, and other jobs have Settings of their own.
#[derive(Args, Clone, Debug)]
#[group(id = "back")]
pub(crate) struct Settings {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub(crate) target: SocketAddr,
    /// Kafka's bootstrap servers.
    #[arg(long)]
    pub(crate) kafka: String,
    #[command(flatten)]
    topics: Topics,
    /// Subscribers with kept sessions.
    #[arg(long, default_value_t = 8)]
    kept: u32,
    /// Subscribers with sessions that are not kept.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    clean: u32,
    /// Records a second, into all topics together.
    #[arg(long, default_value_t = 400)]
    pub(crate) rate: u64,
    /// Bytes of a record's value, 40 at least.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(40..=100_000))]
    pub(crate) payload: u64,
    /// `window_messages` of both sources: how many may come again after a fault.
    #[arg(long, default_value_t = 200)]
    pub(crate) window: u64,
    /// Seconds in which records are written; with --control the orders say when it ends.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Takes orders on standard input, a line each: `target ADDRESS` (the service was started again there), `hurt NAME` and `well` (something
    /// is done to it, and over), `member kept|clean FILE` (another member of the group has ended, and this is what it printed), `end`.
    #[arg(long)]
    pub(crate) control: bool,
    /// Seconds after the last record in which all has to be with the subscribers, and committed.
    #[arg(long, default_value_t = 90)]
    pub(crate) patience: u64,
    /// Decides every draw.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Marks client identifiers and records of this run.
    #[arg(long, default_value_t = 1)]
    pub(crate) run: u32,
    /// The program that writes and reads Kafka.
    #[arg(long, default_value = "kcat")]
    pub(crate) kcat: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What the two sources read, and as which groups.
#[derive(Args, Clone, Debug)]
#[group(id = "back-topics")]
struct Topics {
    /// Kafka topic of the source for kept sessions on a disk; without it there are no such subscribers. The source publishes records
    /// as they are, with QoS 2, to kept/${key}/${partition}/${offset}.
    #[arg(long)]
    kept_topic: Option<String>,
    /// The same to clean/…, with no_subscriber = "wait", for sessions that end with their connections; each record has one subscriber.
    #[arg(long)]
    clean_topic: String,
    /// Consumer group of the first source.
    #[arg(long, default_value = "forebay-kept")]
    kept_group: String,
    /// Of the second one.
    #[arg(long, default_value = "forebay-clean")]
    clean_group: String,
}

/// What is written of a run.
#[derive(Args, Clone, Debug)]
#[group(id = "back-output")]
pub(crate) struct Output {
    /// Writes the report there as well.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Writes a JSON line each second there.
    #[arg(long)]
    pub(crate) timeline: Option<PathBuf>,
    /// Writes what each subscriber got there, a JSON line for each copy: what a verdict can be followed back to.
    #[arg(long)]
    pub(crate) copies: Option<PathBuf>,
}

/// A source, with the run's view of it.
pub(crate) struct Source {
    /// First level of its MQTT topics.
    pub(crate) name: &'static str,
    pub(crate) topic: String,
    pub(crate) group: String,
    /// First levels of its keys: `k0` and so on of kept sessions, `c0` and so on of the others.
    pub(crate) classes: Vec<String>,
}

const KEPT_CLASSES: u32 = 4;

impl Settings {
    pub(crate) fn sources(&self) -> Vec<Source> {
        let classes = |letter: char, count: u32| (0..count).map(|number| format!("{letter}{number}")).collect();
        let clean = Source {
            name: "clean",
            topic: self.topics.clean_topic.clone(),
            group: self.topics.clean_group.clone(),
            classes: classes('c', self.clean),
        };
        let kept = self.topics.kept_topic.clone().map(|topic| Source {
            name: "kept",
            topic,
            group: self.topics.kept_group.clone(),
            classes: classes('k', KEPT_CLASSES),
        });
        std::iter::once(clean).chain(kept).collect()
    }

    /// The manners of the subscribers: of kept sessions a quarter each is always connected, slow, breaks its connections, and stays away.
    pub(crate) fn manners(&self) -> Vec<Manner> {
        let clean = (0..self.clean).map(|number| Manner {
            name: format!("back-{}-clean-{number}", self.run),
            log: 0,
            v5: number % 2 == 1,
            kept: false,
            qos: if number % 4 == 2 { 2 } else { 1 },
            filter: format!("clean/c{number}/#"),
            slow_ms: [0, 300, 50, 0][number as usize % 4],
            breaks_ms: [0, 0, 10_000, 4_000][number as usize % 4],
            away_ms: [0, 0, 0, 1_000][number as usize % 4],
        });
        let kept = (0..self.kept).filter(|_| self.topics.kept_topic.is_some()).map(|number| Manner {
            name: format!("back-{}-kept-{number}", self.run),
            log: 1,
            v5: number / 2 % 2 == 1,
            kept: true,
            qos: 1 + (number % 2) as u8,
            filter: match number % 5 {
                0 | 1 => "kept/#".to_owned(),
                2 => format!("kept/k{}/#", number % KEPT_CLASSES),
                3 => "kept/+/+/0/+".to_owned(),
                _ => "kept/+/1/#".to_owned(),
            },
            slow_ms: [0, 300, 0, 0][number as usize / 2 % 4],
            breaks_ms: [0, 0, 3_000, 6_000][number as usize / 2 % 4],
            away_ms: [0, 0, 0, 3_000][number as usize / 2 % 4],
        });
        clean.chain(kept).collect()
    }

    pub(crate) fn reader(&self) -> Kafka {
        Kafka { kcat: self.kcat.clone(), bootstrap: self.kafka.clone(), patience: Duration::from_secs(60) }
    }
}
