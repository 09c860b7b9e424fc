//! Kafka that takes requests and answers none, and a spool with room: publishers at `stored` go on.

use std::time::Duration;

use forebay::metrics::spec::{ClusterMetric, Layout, SinkMetric};

use super::spool::{acked, arrived, assert_all, ids, payload, send};
use super::world::World;

/// One sink of the defaults, beside a spool and with this memory.
fn config(buffer: &str) -> String {
    format!(
        r##"
[service]
shards = 1
[kafka.main]
bootstrap = "127.0.0.1:9092"
buffer_bytes = "{buffer}"
[spool]
bytes_max = "128MiB"
sync_interval = "0ms"
[[sink]]
name = "all"
kafka = "main"
filters = ["#"]
topic = "all"
"##
    )
}

#[test]
fn publishers_go_on_with_any_memory_while_kafka_answers_nothing() {
    for (buffer, bytes) in [("4MiB", 32_768), ("4MiB", 1_000_000), ("4MiB", 100), ("8MiB", 200_000), ("16MiB", 32_768)]
    {
        let mut world = World::new(&config(buffer));
        let device = world.device("d", 0);
        send(&mut world, device, 1, &payload(1, bytes));
        world.advance(Duration::from_secs(1));
        world.broker.silent = true;
        let count = u16::try_from((20 << 20) / bytes.max(20_000)).expect("few");
        for id in ids(count).into_iter().skip(1) {
            send(&mut world, device, id, &payload(id, bytes));
            if id % 16 == 0 {
                world.advance(Duration::from_millis(100));
            }
            let layout = Layout { sinks: 1, clusters: 1, listeners: 1, sources: 0, rules: 0, bridges: 0 };
            let used = world.values()[layout.cluster(0, ClusterMetric::BufferBytes)];
            let spool = world.sink_number(0, SinkMetric::SpoolBytes);
            let paused = world.table.wire(device).paused;
            assert!(!paused, "{buffer} and {bytes}: {id} waits, {used} bytes of memory, {spool} of the spool");
        }
        assert_all(&acked(&mut world, device), count, "each is answered");
        world.broker.silent = false;
        world.advance(Duration::from_secs(120));
        let mut arrived = arrived(&world);
        arrived.dedup();
        assert_all(&arrived, count, "in order");
        assert_eq!(world.sink_number(0, SinkMetric::BufferedRows), 0);
    }
}
