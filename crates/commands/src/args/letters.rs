//! Options of `forebay dead-letters`.

use clap::{Args, Subcommand};

use super::AskArgs;

/// `forebay dead-letters`
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum LettersCommand {
    /// List the topics and files that dead letters go to; or the letters of one topic, the newest first
    List(LettersListArgs),
    /// Show one dead letter of a topic, with its headers and its whole value
    Show(LettersShowArgs),
    /// Send records of dead letters again, to the topic that each was for; the letters stay where they are
    Send(LettersSendArgs),
}

/// Options of `forebay dead-letters list`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct LettersListArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Kafka cluster of the topic: NAME of a `[kafka.NAME]`, or `embedded`
    #[arg(value_name = "CLUSTER", requires = "topic")]
    pub kafka: Option<String>,

    /// Dead-letter topic
    #[arg(value_name = "TOPIC")]
    pub topic: Option<String>,

    /// Only those since then: `earliest`, a time (RFC 3339), or an age as in -1h
    #[arg(long, value_name = "TIME", requires = "topic", allow_hyphen_values = true)]
    pub since: Option<String>,

    /// Only those with this reason
    #[arg(long, value_name = "REASON", requires = "topic")]
    pub reason: Option<String>,

    /// Print at most this number of letters
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub limit: u32,

    /// Go on where an earlier list has ended, as it says
    #[arg(long, value_name = "CURSOR", requires = "topic")]
    pub cursor: Option<String>,
}

/// Options of `forebay dead-letters show`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct LettersShowArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Kafka cluster of the topic
    #[arg(value_name = "CLUSTER")]
    pub kafka: String,

    /// Dead-letter topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,

    /// The letter: its partition and offset
    #[arg(value_name = "PARTITION:OFFSET", value_parser = place)]
    pub letter: (i32, i64),
}

/// Options of `forebay dead-letters send`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct LettersSendArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Kafka cluster of the topic
    #[arg(value_name = "CLUSTER")]
    pub kafka: String,

    /// Dead-letter topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,

    /// Letters to send again: the partition and offset of each
    #[arg(value_name = "PARTITION:OFFSET", value_parser = place, required_unless_present = "up_to")]
    pub letters: Vec<(i32, i64)>,

    /// Send all of a partition up to this offset that were not sent again
    #[arg(long, value_name = "PARTITION:OFFSET", value_parser = place, conflicts_with = "letters")]
    pub up_to: Option<(i32, i64)>,

    /// With --up-to: only those with this reason
    #[arg(long, value_name = "REASON", requires = "up_to", conflicts_with = "letters")]
    pub reason: Option<String>,

    /// With --up-to: send at most this number in a second
    #[arg(long, value_name = "N", requires = "up_to", conflicts_with = "letters", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub per_second: Option<u32>,

    /// Send letters once more that were sent again before
    #[arg(long, conflicts_with = "up_to")]
    pub repeat: bool,

    /// Only say what would become of each
    #[arg(long)]
    pub dry_run: bool,
}

/// A letter's place on the command line.
fn place(text: &str) -> Result<(i32, i64), String> {
    let place =
        text.split_once(':').and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
    place
        .filter(|(partition, offset)| *partition >= 0 && *offset >= 0)
        .ok_or_else(|| "write PARTITION:OFFSET, as in 0:17".to_owned())
}
