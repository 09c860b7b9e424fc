//! UNSUBSCRIBE (section 3.10): only a client sends it; its flags are 0010.

use super::words::*;

#[rustfmt::skip]
pub(crate) const CASES: &[Row] = &[
    // Fixed header
    ("sent by a server", V5, Server, "A2 [ 0001 [] {'a'} ]", PROTOCOL, "section 2.1.2"),
    ("flags 0000 instead of 0010", V5, Client, "A0 [ 0001 [] {'a'} ]", MALFORMED, "MQTT-3.10.1-1"),
    ("RETAIN instead of the fixed flag", V5, Client, "A1 [ 0001 [] {'a'} ]", MALFORMED, "MQTT-3.10.1-1"),
    ("RETAIN beside the fixed flag", V311, Client, "A3 [ 0001 {'a'} ]", MALFORMED, "MQTT-3.10.1-1"),
    ("flags of QoS 3", V5, Client, "A6 [ 0001 [] {'a'} ]", MALFORMED, "MQTT-3.10.1-1"),
    ("DUP, which only 3.1 has", V5, Client, "AA [ 0001 [] {'a'} ]", MALFORMED, "MQTT-3.10.1-1"),
    ("DUP, which only 3.1 has", V311, Client, "AA [ 0001 {'a'} ]", MALFORMED, "MQTT-3.10.1-1"),
    ("flags 0000 instead of QoS 1", V31, Client, "A0 [ 0001 {'a'} ]", MALFORMED, "MQTT-3.10.1-1"),
    ("Remaining Length in two bytes where one is enough", V5, Client, "A2 86 00 0001 [] {'a'}", MALFORMED, "MQTT-1.5.5-1"),
    ("Remaining Length of five bytes", V5, Client, "A2 80 80 80 80 01", MALFORMED, "section 1.5.5"),
    ("announces 256 MiB", V311, Client, "A2 FF FF FF 7F", TOO_LARGE, "section 2.2.3"),
    // Packet Identifier
    ("body empty", V5, Client, "A2 []", MALFORMED, "section 1.2"),
    ("half a Packet Identifier", V31, Client, "A2 [ 01 ]", MALFORMED, "section 4.8"),
    ("Packet Identifier 0", V5, Client, "A2 [ 0000 [] {'a'} ]", PROTOCOL, "MQTT-2.2.1-3"),
    ("Packet Identifier 0", V311, Client, "A2 [ 0000 {'a'} ]", PROTOCOL, "MQTT-2.3.1-1"),
    ("Packet Identifier 0", V31, Client, "A2 [ 0000 {'a'} ]", PROTOCOL, "MQTT-2.3.1-1"),
    // Properties
    ("no property length", V5, Client, "A2 [ 0001 ]", MALFORMED, "section 1.2"),
    ("properties longer than the body", V5, Client, "A2 [ 0001 20 {'a'} ]", MALFORMED, "section 1.2"),
    ("property length in two bytes where one is enough", V5, Client, "A2 [ 0001 80 00 {'a'} ]", MALFORMED, "MQTT-1.5.5-1"),
    ("property length of five bytes", V5, Client, "A2 [ 0001 FF FF FF FF 7F {'a'} ]", MALFORMED, "section 1.5.5"),
    ("a Subscription Identifier", V5, Client, "A2 [ 0001 [ 0B 01 ] {'a'} ]", MALFORMED, "section 2.2.2.2"),
    ("a Reason String", V5, Client, "A2 [ 0001 [ 1F {'r'} ] {'a'} ]", MALFORMED, "section 2.2.2.2"),
    ("a property that does not exist", V5, Client, "A2 [ 0001 [ 3F 00 ] {'a'} ]", MALFORMED, "section 2.2.2.2"),
    ("a User Property without a value", V5, Client, "A2 [ 0001 [ 26 {'k'} ] {'a'} ]", MALFORMED, "section 1.2"),
    // Topic Filters
    ("no Topic Filter", V5, Client, "A2 [ 0001 [] ]", PROTOCOL, "MQTT-3.10.3-2"),
    ("no Topic Filter", V311, Client, "A2 [ 0001 ]", PROTOCOL, "MQTT-3.10.3-2"),
    ("no Topic Filter", V31, Client, "A2 [ 0001 ]", PROTOCOL, "MQTT-3.10.3-2"),
    ("Topic Filter empty", V5, Client, "A2 [ 0001 [] {} ]", MALFORMED, "MQTT-4.7.3-1"),
    ("Topic Filter empty", V311, Client, "A2 [ 0001 {} ]", MALFORMED, "MQTT-4.7.3-1"),
    ("Topic Filter longer than the body", V5, Client, "A2 [ 0001 [] 0009 'a' ]", MALFORMED, "section 1.2"),
    ("Subscription Options, which only SUBSCRIBE has", V5, Client, "A2 [ 0001 [] {'a'} 00 ]", MALFORMED, "section 1.2"),
    ("a requested QoS, which only SUBSCRIBE has", V311, Client, "A2 [ 0001 {'a'} 01 ]", MALFORMED, "section 4.8"),
    ("# not in the last level", V5, Client, "A2 [ 0001 [] {'#/a'} ]", MALFORMED, "MQTT-4.7.1-1"),
    ("# behind a letter", V311, Client, "A2 [ 0001 {'a#'} ]", MALFORMED, "MQTT-4.7.1-2"),
    ("+ behind a letter", V5, Client, "A2 [ 0001 [] {'a/b+'} ]", MALFORMED, "MQTT-4.7.1-2"),
    ("+ before a letter", V31, Client, "A2 [ 0001 {'+a'} ]", MALFORMED, "MQTT-4.7.1-3"),
    ("U+0000 in a Topic Filter", V5, Client, "A2 [ 0001 [] {00} ]", MALFORMED, "MQTT-1.5.4-2"),
    ("Topic Filter not UTF-8", V311, Client, "A2 [ 0001 {C0 80} ]", MALFORMED, "MQTT-1.5.3-1"),
    ("second Topic Filter malformed", V5, Client, "A2 [ 0001 [] {'a'} {'b#'} ]", MALFORMED, "MQTT-4.7.1-1"),
    ("second Topic Filter cut", V311, Client, "A2 [ 0001 {'a'} 0002 'b' ]", MALFORMED, "section 4.8"),
    ("Share Name empty", V5, Client, "A2 [ 0001 [] {'$share//a'} ]", FILTER_INVALID, "MQTT-4.8.2-1"),
    ("no filter after the Share Name", V5, Client, "A2 [ 0001 [] {'$share/g'} ]", FILTER_INVALID, "MQTT-4.8.2-2"),
    ("Share Name +", V5, Client, "A2 [ 0001 [] {'$share/+/a'} ]", FILTER_INVALID, "MQTT-4.8.2-2"),
    ("# misplaced in a Shared Subscription", V5, Client, "A2 [ 0001 [] {'$share/g/#/a'} ]", MALFORMED, "MQTT-4.7.1-1"),
];
