//! Connections to Kafka cut at every byte of what Kafka answers.

use forebay::embedded::faults::{Fault, Script, Step};
use kafka_protocol::messages::ApiKey;

use crate::faults::Bench;

/// The first exchange of a service, cut at each byte in turn: of ApiVersions, of Metadata, of InitProducerId.
#[test]
fn the_way_to_kafka_cut_at_every_byte() {
    let whole = {
        let mut bench = Bench::start("", |_| {});
        bench.deliver(&mut bench.device(), "whole");
        [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::InitProducerId].map(|api| (api, bench.script.answer_bytes(api)))
    };
    let script = Script::new();
    for (api, len) in whole {
        assert!(len > 8, "{api:?}");
        (0..=len).for_each(|cut| script.add(Step::new(api, Fault::CutAnswer(cut))));
    }
    let mut bench = Bench::with_script(&script, "", |_| {});
    bench.deliver(&mut bench.device(), "through");
    // Metadata was whole before each of its bytes was: then it is asked for when it is wanted.
    assert_eq!(bench.script.left(), 0);
    assert_eq!(bench.metric("kafka_malformed_responses_total"), 0, "what is not whole is not read");
    bench.check("all");
}

/// Each Produce answer cut one byte later than the last: the batch is there, the answer is not, and it is there once.
#[test]
fn produce_answers_cut_at_every_byte() {
    let mut bench = Bench::start("", |_| {});
    let mut device = bench.device();
    bench.deliver(&mut device, "whole");
    let len = bench.script.answer_bytes(ApiKey::Produce);
    assert!(len > 8);
    for cut in 0..=len {
        bench.on_produce(Fault::CutAnswer(cut));
        bench.deliver(&mut device, &format!("{cut}"));
    }
    assert_eq!(bench.script.left(), 0);
    // The last was whole; two requests may have stood on one connection.
    assert!(bench.metric("sink_batches_failed_total{reason=\"no_response\"}") >= len as u64);
    assert_eq!(bench.metric("sink_possible_duplicates_total"), 0);
    bench.check("all");
}
