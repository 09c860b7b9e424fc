//! What is drawn for a storm before it begins: the options of its sinks.

pub(super) const CONFIG: &str = r##"
[[listener]]
bind = "127.0.0.1:1883"
[[listener]]
bind = "127.0.0.1:1884"
[kafka.main]
bootstrap = "127.0.0.1:9092"
request_timeout = "5s"
connect_timeout = "500ms"
[kafka.away]
bootstrap = "127.0.0.2:9092"
request_timeout = "1s"
connect_timeout = "500ms"
[[sink]]
name = "all"
kafka = "main"
filters = ["#"]
topic = "all"
batch_bytes = "1KiB"
record_bytes_max = "2KiB"
[[sink]]
name = "odd"
kafka = "away"
filters = ["+/odd"]
topic = "odd-${topic[0]}"
batch_bytes = "4KiB"
record_bytes_max = "2KiB"
[[sink]]
name = "again"
kafka = "main"
filters = ["+/odd"]
topic = "all"
key = ""
linger = "20ms"
batch_bytes = "2KiB"
record_bytes_max = "2KiB"
"##;

/// Where a storm's sinks put what Kafka refuses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dead {
    Nowhere,
    Topic,
    File,
}

/// What is drawn for a storm beside its troubles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    pub(super) dead: Dead,
    pub(super) expire_after: bool,
    pub(super) answer_timeout: bool,
    pub(super) by_client: bool,
    pub(super) max_inflight: u8,
    /// Topics may be forbidden for a while: only with dead letters, where that is answered like any other refusal.
    pub(super) forbids: bool,
    /// Nobody may read what a log holds.
    pub(super) unreadable: bool,
    /// The listener whose answers say where messages stand.
    pub(super) receipts: Option<u32>,
}

impl Draw {
    pub(super) fn new(rng: &mut fastrand::Rng) -> Self {
        let dead = [Dead::Nowhere, Dead::Topic, Dead::File][rng.usize(..3)];
        Self {
            dead,
            expire_after: rng.u8(..4) == 0,
            answer_timeout: rng.u8(..4) == 0,
            by_client: rng.bool(),
            max_inflight: rng.u8(1..=5),
            forbids: dead != Dead::Nowhere && rng.u8(..3) == 0,
            unreadable: rng.u8(..4) == 0,
            receipts: None,
        }
    }

    /// Not drawn: every other storm has one.
    pub(super) fn receipts(seed: u64) -> Option<u32> {
        seed.is_multiple_of(2).then_some((seed / 2 % 2) as u32)
    }

    /// The configuration.
    pub(super) fn text(&self) -> String {
        let mut text = CONFIG.to_owned();
        for (sink, topic) in [("all", "dead"), ("odd", "dead-odd"), ("again", "dead")] {
            // The ledgers count each message in each sink, those of QoS 0 too.
            let mut keys =
                format!("name = \"{sink}\"\nqos0_when_full = \"wait\"\nmax_inflight = {}\n", self.max_inflight);
            match self.dead {
                Dead::Nowhere => {}
                Dead::Topic => keys += &format!("dead_letters_topic = \"{topic}\"\n"),
                Dead::File => keys += &format!("dead_letters_file = \"{sink}\"\n"),
            }
            if self.expire_after {
                keys += "expire_after = \"1s\"\n";
            }
            if self.by_client && sink != "again" {
                keys += "partitioner = \"client\"\n";
            }
            text = text.replace(&format!("name = \"{sink}\"\n"), &keys);
        }
        if let Some(listener) = self.receipts {
            let bind = format!("188{}\"\n", 3 + listener);
            text = text.replace(&bind, &format!("{bind}receipts = true\n"));
        }
        if self.answer_timeout {
            text = text.replace("1884\"\n", "1884\"\nanswer_timeout = \"2s\"\n");
        }
        text
    }
}
