//! The messages of a run: drawn from a seed, so that the judge can compute each message again.

/// Shares by weight, as in `1:2:1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weights(Vec<u32>);

impl Weights {
    /// Parses `count` whole numbers, separated by colons, at least one of them above 0.
    pub(crate) fn parse(text: &str, count: usize) -> Result<Self, String> {
        let parts: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
        match parts {
            Ok(parts) if parts.len() == count && parts.iter().any(|&part| part > 0) => Ok(Self(parts)),
            _ => Err(format!("expected {count} weights with colons between, not all 0")),
        }
    }

    /// Weights of which only one of `count` is not 0.
    pub(crate) fn only(index: usize, count: usize) -> Self {
        Self((0..count).map(|at| u32::from(at == index)).collect())
    }

    /// The one that has all the weight, if there is one.
    pub(crate) fn sole(&self) -> Option<usize> {
        let mut above = self.0.iter().enumerate().filter(|(_, part)| **part > 0);
        above.next().filter(|_| above.next().is_none()).map(|(index, _)| index)
    }

    /// Whether this one has a share.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(|&part| part > 0)
    }

    fn draw(&self, random: u64) -> usize {
        let sum: u64 = self.0.iter().copied().map(u64::from).sum();
        let mut left = random % sum;
        for (index, &part) in self.0.iter().enumerate() {
            match left.checked_sub(u64::from(part)) {
                Some(rest) => left = rest,
                None => return index,
            }
        }
        0
    }
}

/// The whole of a run's messages.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Decides every draw.
    pub(crate) seed: u64,
    /// The mark of this run's messages, by which those of another run are recognised.
    pub(crate) run: u32,
    /// Messages in all, spread evenly over the clients.
    pub(crate) messages: u64,
    /// Number of clients.
    pub(crate) clients: u32,
    /// Share of QoS 0, 1 and 2.
    pub(crate) qos: Weights,
    /// Share of clients that speak 3.1.1 and 5.0.
    pub(crate) versions: Weights,
    /// Payload in bytes.
    pub(crate) payload_bytes: usize,
    /// MQTT topics of each client.
    pub(crate) topics: u32,
    /// Name of a topic; `{client}` and `{topic}` are replaced by numbers.
    pub(crate) topic: String,
    /// The mean number of messages after which a client breaks its connection; 0: never.
    pub(crate) reconnect_every: u64,
}

impl Plan {
    /// Messages of one client: numbers 0 to this.
    pub(crate) fn messages_of(&self, client: u32) -> u64 {
        let clients = u64::from(self.clients);
        self.messages / clients + u64::from(u64::from(client) < self.messages % clients)
    }

    /// Messages of one client among the first `count` of all, which go to the clients in turn.
    pub(crate) fn share_of(&self, client: u32, count: u64) -> u64 {
        let clients = u64::from(self.clients);
        count / clients + u64::from(u64::from(client) < count % clients)
    }

    /// Quality of service of a message.
    pub(crate) fn qos(&self, client: u32, number: u64) -> u8 {
        qos(&self.qos, self.seed, client, number)
    }

    /// Whether a client speaks 5.0.
    pub(crate) fn is_v5(&self, client: u32) -> bool {
        self.versions.draw(self.random(2, client, 0)) == 1
    }

    /// The number of the topic, among its client's, of a message.
    pub(crate) fn topic_number(&self, client: u32, number: u64) -> u32 {
        if self.topics == 1 { 0 } else { (self.random(3, client, number) % u64::from(self.topics)) as u32 }
    }

    /// The name of a client's topic.
    pub(crate) fn topic_name(&self, client: u32, topic: u32) -> String {
        self.topic.replace("{client}", &client.to_string()).replace("{topic}", &topic.to_string())
    }

    /// The number of messages after which a client breaks its `connection`th connection, and whether with a DISCONNECT.
    pub(crate) fn break_after(&self, client: u32, connection: u64) -> Option<(u64, bool)> {
        let random = self.random(4, client, connection);
        // Drawn evenly from 1 to twice the mean.
        (self.reconnect_every > 0).then(|| (1 + random % (2 * self.reconnect_every), random >> 63 == 0))
    }

    /// A pseudo-random number that is always the same; `purpose` separates the draws.
    pub(crate) fn random(&self, purpose: u64, client: u32, number: u64) -> u64 {
        random(self.seed, purpose, client, number)
    }
}

/// The seed of runs that name none.
pub(crate) const SEED: u64 = 1;

/// Quality of service of a client's message.
pub(crate) fn qos(weights: &Weights, seed: u64, client: u32, number: u64) -> u8 {
    weights.draw(random(seed, 1, client, number)) as u8
}

fn random(seed: u64, purpose: u64, client: u32, number: u64) -> u64 {
    mix(seed ^ mix(purpose << 32 | u64::from(client)).wrapping_add(mix(number)))
}

/// The finishing step of SplitMix64.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
pub(crate) fn example() -> Plan {
    Plan {
        seed: 7,
        run: 42,
        messages: 103,
        clients: 10,
        qos: Weights(vec![1, 2, 1]),
        versions: Weights(vec![1, 1]),
        payload_bytes: 100,
        topics: 3,
        topic: "flow/{client}/{topic}".to_owned(),
        reconnect_every: 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept() {
        assert!(
            Weights::parse("1:2", 3).is_err() && Weights::parse("0:0", 2).is_err() && Weights::parse("1:x", 2).is_err()
        );
        let plan = example();
        let mut counts = [0; 3];
        for number in 0..40_000 {
            counts[usize::from(plan.qos(3, number))] += 1;
        }
        assert!(counts.iter().zip([10_000, 20_000, 10_000]).all(|(&got, want): (&i32, i32)| (got - want).abs() < 600));
    }

    #[test]
    fn every_message_has_one_client() {
        let plan = example();
        assert_eq!((0..10).map(|client| plan.messages_of(client)).sum::<u64>(), 103);
        assert_eq!((0..10).map(|client| plan.share_of(client, 57)).sum::<u64>(), 57);
        assert!((0..10).all(|client| plan.share_of(client, 103) == plan.messages_of(client)));
    }

    #[test]
    fn breaks_come_as_often_as_asked() {
        let plan = example();
        let sum: u64 = (0..1_000).filter_map(|n| plan.break_after(1, n)).map(|(after, _)| after).sum();
        assert!((18_000..22_000).contains(&sum), "{sum}");
        assert_eq!(Plan { reconnect_every: 0, ..plan }.break_after(1, 0), None);
    }
}
