//! The embedded log by itself: `cargo run --example embedded_log -- 127.0.0.1:9092 ./log-data [partitions]`.
//! Any Kafka client can then be pointed at the address. Ends on Ctrl-C or SIGTERM, with everything synced.

use std::error::Error;

use forebay::embedded::{EmbeddedLog, Settings};
use signal_hook::consts::{SIGINT, SIGTERM};

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    let mut arguments = std::env::args().skip(1);
    let (Some(bind), Some(dir)) = (arguments.next(), arguments.next()) else {
        return Err("usage: embedded_log ADDRESS DIRECTORY [PARTITIONS]".into());
    };
    let mut settings = Settings::new(bind.parse()?, dir);
    if let Some(partitions) = arguments.next() {
        settings.partitions_default = partitions.parse()?;
    }
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let log = EmbeddedLog::start(settings)?;
    println!("embedded log on {}", log.local_addr());
    signals.forever().next();
    let counters = log.counters();
    log.stop();
    for (name, value) in counters.snapshot() {
        println!("{name} {value}");
    }
    Ok(())
}
