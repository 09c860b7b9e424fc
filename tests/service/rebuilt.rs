//! Finding K1: the cluster is rebuilt under its address, and gives out the producer IDs of the old one again.

use forebay::embedded::{EmbeddedLog, Settings};
use forebay::mqtt::packet::Version;
use kafka_protocol::messages::InitProducerIdRequest;

use crate::away::Absent;
use crate::device::Device;
use crate::kafka_client::{Batch, Client};
use crate::process::metric;
use crate::records::read;
use crate::support;

/// A cluster at this address, of topics with one partition.
fn build(kafka: &Absent, dir: &tempfile::TempDir) -> EmbeddedLog {
    kafka.arrive_with(|| {
        let mut settings = Settings::new(kafka.address(), dir.path());
        settings.partitions_default = 1;
        settings
    })
}

#[test]
fn finding_k1_what_a_rebuilt_cluster_acknowledges_is_there() {
    let kafka = Absent::new();
    let (first, second) = (support::temp_dir(), support::temp_dir());
    let log = build(&kafka, &first);
    let service = kafka.service();
    let mut device = Device::connect(service.mqtt(), Version::V311, "device");
    (1..=8).for_each(|n| device.deliver(n, "t", format!("old {n}").as_bytes()));
    assert_eq!(read(log.local_addr(), "all").len(), 8);
    log.stop();

    let log = build(&kafka, &second);
    // Another producer is given the ID that Forebay has from the old cluster, and writes more batches than that has.
    let mut other = Client::connect(log.local_addr());
    other.metadata(&["all"]);
    let id = other.call(&InitProducerIdRequest::default().with_transactional_id(None), 4).producer_id.0;
    assert_eq!(id, 0, "the first one of each cluster");
    for sequence in 0..10 {
        let batch = Batch::of(&[b"other"]).by(id, 0, sequence).bytes();
        assert_eq!(other.produce("all", 0, &batch).error_code, 0);
    }
    (1..=5).for_each(|n| device.deliver(n, "t", format!("new {n}").as_bytes()));
    let records = read(log.local_addr(), "all");
    let texts: Vec<_> = records.iter().map(|record| record.text()).collect();
    let expected: Vec<_> = (0..10).map(|_| "other".to_owned()).chain((1..=5).map(|n| format!("new {n}"))).collect();
    assert_eq!(texts, expected, "all that was acknowledged is there, once");
    assert_eq!(metric(&service, "sink_kafka_data_losses_total"), 0);
    let (_, events) = service.get("/api/v1/events?kind=kafka_cluster_changed").expect("an answer");
    assert!(events.contains("kafka_cluster_changed"), "{events}");
    log.stop();
}
