//! Dead letters of a sink or a bridge.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::problem::Fault;
use super::reader::Table;
use super::resolved::{DeadLetters, DeadLettersFile, Sink};
use super::values;
use forebay_kafka::topic_name::kafka_topic;
use forebay_rule::template::Template;

/// The word for no file, not even the shared one, in the place of a file's name.
const OFF: &str = "none";

/// Whether a sink is configured without dead letters: neither a topic nor a file.
pub(super) fn is_off(table: &Table<'_>) -> bool {
    table.text("dead_letters_file") == Some(OFF)
}

/// Reads the keys of one sink or bridge; `topic` is the sink's own.
pub(super) fn read(table: &Table<'_>, topic: Option<&Template>) -> Option<DeadLetters> {
    let to = table.find("dead_letters_topic", values::non_empty);
    if let Some(name) = &to {
        let spot = table.spot("dead_letters_topic");
        if let Err(error) = kafka_topic(name.as_bytes()) {
            table.source.report(&spot, Fault::new(format!("\"{name}\" is not a valid Kafka topic: it {error}")));
        }
        if topic.and_then(Template::as_literal) == Some(name) {
            let fault = Fault::new("is the sink's own topic, which would reject the same records again");
            table.source.report(&spot, fault.hint("use a separate topic for dead letters"));
        }
    }
    let path = table.find("dead_letters_file", values::non_empty).filter(|path| path != OFF);
    let bytes_max = table.read("dead_letters_file_bytes_max", values::size);
    let files = u32::try_from(table.read("dead_letters_files_max", values::integer)).unwrap_or(1);
    if to.is_none() && path.is_none() {
        return None;
    }
    let file = path.map(|path| DeadLettersFile { path: PathBuf::from(path), bytes_max, files });
    Some(DeadLetters { topic: to, file })
}

/// Reports two sinks with one file: they would cut each other's lines, and rename it under each other.
pub(super) fn check_files(tables: &[Table<'_>]) {
    let mut seen = HashMap::new();
    for table in tables.iter().filter(|table| table.has("dead_letters_file")) {
        let Some(path) = table.text("dead_letters_file").filter(|path| *path != OFF) else { continue };
        let spot = table.spot("dead_letters_file");
        if let Some(earlier) = seen.insert(path.to_owned(), spot.clone()) {
            let what = format!("is already the file of another sink, on {}", table.source.where_is(&earlier));
            table.source.report(&spot, Fault::new(what).hint("use a separate file for each sink"));
        }
    }
}

/// Reports a file of a bridge that a sink or another bridge has.
pub(super) fn check_files_of_bridges(tables: &[Table<'_>], sinks: &[Sink]) {
    let of_sinks = sinks.iter().filter_map(|sink| sink.dead_letters.as_ref()?.file.as_ref());
    let mut seen: HashSet<PathBuf> = of_sinks.map(|file| file.path.clone()).collect();
    for table in tables {
        let Some(path) = table.text("dead_letters_file").filter(|path| *path != OFF) else { continue };
        if !seen.insert(PathBuf::from(path)) {
            let fault = Fault::new("is already the file of a sink or of another bridge");
            table.source.report(&table.spot("dead_letters_file"), fault.hint("use a separate file for each"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::parse;

    const SINK: &str = "filters = '#'\ntopic = 't'\n";

    fn read(keys: &[&str]) -> Result<crate::Config, String> {
        let sink = |(number, keys)| format!("[[sink]]\nname = 's{number}'\n{SINK}{keys}\n");
        let text: String = keys.iter().enumerate().map(sink).collect();
        parse(&text, "test.toml").map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_topic_a_file_both_or_none() {
        let config = read(&["", "dead_letters_topic = 'd'", "dead_letters_file = 'f'\ndead_letters_files_max = 3"]);
        let sinks = config.expect("a configuration").sinks;
        assert_eq!((&sinks[0].dead_letters, sinks[0].no_dead_letters), (&None, false));
        let dead = sinks[1].dead_letters.as_ref().expect("dead letters");
        assert_eq!((dead.topic.as_deref(), &dead.file), (Some("d"), &None));
        let file = sinks[2].dead_letters.as_ref().and_then(|dead| dead.file.as_ref()).expect("a file");
        assert_eq!((&*file.path, file.bytes_max, file.files), (Path::new("f"), 64 << 20, 3));
    }

    #[test]
    fn sinks_without_any_share_a_file_unless_they_switch_it_off() {
        let keys = ["", "dead_letters_file = 'none'", "dead_letters_topic = 'd'", "dead_letters_file = 'none'", ""];
        let mut config = read(&keys).expect("a configuration");
        config.share_dead_letters_file();
        let shared = Path::new("./forebay-data/dead-letters.jsonl");
        let file = |sink: &crate::Sink| Some(sink.dead_letters.as_ref()?.file.as_ref()?.path.clone());
        let files: Vec<_> = config.sinks.iter().map(file).collect();
        assert_eq!([&files[0], &files[4]], [&Some(shared.to_owned()); 2]);
        assert_eq!(files[1..4], [None, None, None]);
        assert_eq!(config.sinks[1].dead_letters, None);
    }

    #[test]
    fn what_cannot_work_is_said() {
        for (keys, what) in [
            (&["dead_letters_topic = 't'"][..], "is the sink's own topic"),
            (&["dead_letters_topic = 'a b'"], "is not a valid Kafka topic"),
            (&["dead_letters_file = ''"], "must not be empty"),
            (&["dead_letters_file = 'f'", "dead_letters_file = 'f'"], "is already the file of another sink, on line 5"),
        ] {
            let said = read(keys).expect_err(what);
            assert!(said.contains(what), "{said}");
        }
    }
}
