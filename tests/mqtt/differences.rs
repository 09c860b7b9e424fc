//! Where mqtt-protocol-core 0.7.9 takes what we refuse: the sentences (those of 5.0 and their numbers in 3.1.1), and why
//! ours is the right verdict.

/// One difference.
pub(crate) struct Difference {
    /// The sentences that the packet breaks.
    pub(crate) clauses: &'static [&'static str],
    /// Why we refuse it.
    pub(crate) why: &'static str,
}

#[rustfmt::skip]
pub(crate) const ONLY_WE_REFUSE: &[Difference] = &[
    Difference { clauses: &["MQTT-2.1.3-1", "MQTT-2.2.2-2", "MQTT-3.6.1-1", "MQTT-3.8.1-1", "MQTT-3.10.1-1", "MQTT-3.14.1-1", "MQTT-3.15.1-1"],
        why: "it drops the flags of the first byte unread; the standard has them checked" },
    Difference { clauses: &["section 2.1.2", "section 2.2.1", "section 3.14", "MQTT-3.3.4-6", "MQTT-3.14.2-2"],
        why: "its packet parsers do not know who sends; its connection checks only part of it" },
    Difference { clauses: &["MQTT-1.5.5-1"],
        why: "it takes a Variable Byte Integer in more bytes than it needs" },
    Difference { clauses: &["MQTT-1.5.4-2", "MQTT-1.5.3-2"],
        why: "it takes U+0000 in a string" },
    Difference { clauses: &["MQTT-2.2.1-3", "MQTT-2.3.1-1"],
        why: "it takes Packet Identifier 0 in PUBLISH, SUBSCRIBE, UNSUBSCRIBE and their answers, not in the acknowledgements" },
    Difference { clauses: &["MQTT-3.1.2-3", "MQTT-3.1.2-11", "MQTT-3.1.2-12", "MQTT-3.1.2-13", "MQTT-3.1.2-14", "MQTT-3.1.2-15"],
        why: "it does not look at the reserved Connect Flag, nor at will flags that contradict each other" },
    Difference { clauses: &["MQTT-3.1.3-8"],
        why: "it takes an empty Client Identifier for a kept session, which has to be answered with return code 2" },
    Difference { clauses: &["section 3.1.2.11.10"],
        why: "it takes Authentication Data without a method" },
    Difference { clauses: &["MQTT-3.2.2-1", "section 3.2.2.1", "MQTT-3.2.2-6", "MQTT-3.2.2-4"],
        why: "it looks at one acknowledge flag of eight, and not at what it means in a refusal" },
    Difference { clauses: &["MQTT-3.3.1-2"],
        why: "it takes DUP at QoS 0" },
    Difference { clauses: &["MQTT-3.3.2-2", "MQTT-3.3.2-14", "MQTT-4.7.0-1"],
        why: "its decoder takes wildcards in topic names (its builders do not)" },
    Difference { clauses: &["section 3.3.2.1", "MQTT-4.7.3-1"],
        why: "it takes empty topic names and filters; that a PUBLISH without a name has an alias its connection checks later" },
    Difference { clauses: &["section 1.2"],
        why: "it takes a PUBLISH that ends before its property length" },
    Difference { clauses: &["section 3.4.1", "section 3.5.1", "section 3.6.1", "section 3.7.1"],
        why: "it takes a reason code in an acknowledgement of 3.1.1" },
    Difference { clauses: &["MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.1-3", "MQTT-4.8.2-2"],
        why: "it does not look at where a filter has its wildcards" },
    Difference { clauses: &["MQTT-3.8.3-4"],
        why: "it takes No Local on a Shared Subscription, and 5.0's options in a SUBSCRIBE of 3.1.1" },
    Difference { clauses: &["section 3.8.2.1.2"],
        why: "it takes two Subscription Identifiers in a SUBSCRIBE" },
    Difference { clauses: &["MQTT-3.14.2-1", "MQTT-3.15.2-1"],
        why: "it takes reason codes in DISCONNECT and AUTH from the end that may not say them" },
];

/// The difference that explains a packet refused by us for `clause` and taken by the other.
pub(crate) fn explained(clause: &str) -> Option<&'static Difference> {
    ONLY_WE_REFUSE.iter().find(|difference| difference.clauses.contains(&clause))
}
