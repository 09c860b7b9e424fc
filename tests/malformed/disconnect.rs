//! DISCONNECT (section 3.14): either end sends it in 5.0, only a client before.

use super::words::*;

#[rustfmt::skip]
pub(crate) const CASES: &[Row] = &[
    // Fixed header
    ("reserved flag 0 set", V5, Client, "E1 []", MALFORMED, "MQTT-3.14.1-1"),
    ("reserved flag 1 set, as in SUBSCRIBE", V5, Client, "E2 [ 00 [] ]", MALFORMED, "MQTT-3.14.1-1"),
    ("reserved flag 2 set", V5, Client, "E4 []", MALFORMED, "MQTT-3.14.1-1"),
    ("reserved flag 3 set", V311, Client, "E8 []", MALFORMED, "MQTT-3.14.1-1"),
    ("all reserved flags set", V31, Client, "EF []", MALFORMED, "MQTT-3.14.1-1"),
    ("Remaining Length in two bytes where one is enough", V5, Client, "E0 80 00", MALFORMED, "MQTT-1.5.5-1"),
    ("Remaining Length of five bytes", V5, Client, "E0 80 80 80 80 01", MALFORMED, "section 1.5.5"),
    ("announces 256 MiB", V5, Client, "E0 FF FF FF 7F", TOO_LARGE, "MQTT-3.2.2-15"),
    ("announces 256 MiB", V311, Client, "E0 FF FF FF 7F", MALFORMED, "section 3.14.1"),
    // Before 5.0
    ("a reason code, which only 5.0 has", V311, Client, "E0 [ 00 ]", MALFORMED, "section 3.14.1"),
    ("a reason code and properties, which only 5.0 has", V311, Client, "E0 [ 00 [] ]", MALFORMED, "section 3.14.1"),
    ("a body of one byte", V31, Client, "E0 [ 00 ]", MALFORMED, "section 3.14.1"),
    ("sent by a server, which only 5.0 has", V311, Server, "E0 []", PROTOCOL, "section 3.14"),
    ("sent by a server, which only 5.0 has", V31, Server, "E0 []", PROTOCOL, "section 3.14"),
    // Reason codes
    ("a reason code that does not exist", V5, Client, "E0 [ 03 ]", PROTOCOL, "MQTT-3.14.2-1"),
    ("reason code 255", V5, Client, "E0 [ FF [] ]", PROTOCOL, "MQTT-3.14.2-1"),
    ("a reason code of SUBACK", V5, Client, "E0 [ 01 ]", PROTOCOL, "MQTT-3.14.2-1"),
    ("a reason code of CONNACK", V5, Client, "E0 [ 84 ]", PROTOCOL, "MQTT-3.14.2-1"),
    ("a reason code of PUBREL", V5, Client, "E0 [ 92 ]", PROTOCOL, "MQTT-3.14.2-1"),
    ("a reason code of AUTH", V5, Client, "E0 [ 18 [] ]", PROTOCOL, "MQTT-3.14.2-1"),
    ("Session taken over, which a server says", V5, Client, "E0 [ 8E ]", PROTOCOL, "MQTT-3.14.2-1"),
    ("Server shutting down, which a server says", V5, Client, "E0 [ 8B [] ]", PROTOCOL, "MQTT-3.14.2-1"),
    ("Keep Alive timeout, which a server says", V5, Client, "E0 [ 8D ]", PROTOCOL, "MQTT-3.14.2-1"),
    ("Not authorized, which a server says", V5, Client, "E0 [ 87 ]", PROTOCOL, "MQTT-3.14.2-1"),
    ("Use another server, which a server says", V5, Client, "E0 [ 9C [ 1C {'b'} ] ]", PROTOCOL, "MQTT-3.14.2-1"),
    ("Disconnect with Will Message, which a client says", V5, Server, "E0 [ 04 ]", PROTOCOL, "MQTT-3.14.2-1"),
    // Properties
    ("properties shorter than their length", V5, Client, "E0 [ 00 05 11 ]", MALFORMED, "section 1.2"),
    ("property length in two bytes where one is enough", V5, Client, "E0 [ 00 80 00 ]", MALFORMED, "MQTT-1.5.5-1"),
    ("property length of five bytes", V5, Client, "E0 [ 00 80 80 80 80 01 ]", MALFORMED, "section 1.5.5"),
    ("property length that ends in a continuation", V5, Client, "E0 [ 00 FF ]", MALFORMED, "section 1.2"),
    ("bytes after the properties", V5, Client, "E0 [ 00 [] 00 ]", MALFORMED, "section 2.1.4"),
    ("a Topic Alias Maximum", V5, Client, "E0 [ 00 [ 22 0001 ] ]", MALFORMED, "section 2.2.2.2"),
    ("a Receive Maximum", V5, Client, "E0 [ 00 [ 21 0001 ] ]", MALFORMED, "section 2.2.2.2"),
    ("a property that does not exist", V5, Client, "E0 [ 00 [ 2B 00 ] ]", MALFORMED, "section 2.2.2.2"),
    ("two Session Expiry Intervals", V5, Client, "E0 [ 00 [ 11 00000001 11 00000002 ] ]", PROTOCOL, "section 3.1.2.11.2"),
    ("two Reason Strings", V5, Client, "E0 [ 00 [ 1F {'a'} 1F {'b'} ] ]", PROTOCOL, "section 3.2.2.3.9"),
    ("two Server References", V5, Server, "E0 [ 9D [ 1C {'a'} 1C {'b'} ] ]", PROTOCOL, "section 3.2.2.3.16"),
    ("a Session Expiry Interval from a server", V5, Server, "E0 [ 00 [ 11 00000001 ] ]", PROTOCOL, "MQTT-3.14.2-2"),
    ("two bytes of a Session Expiry Interval", V5, Client, "E0 [ 00 [ 11 0000 ] ]", MALFORMED, "section 1.2"),
    ("Reason String not UTF-8", V5, Client, "E0 [ 00 [ 1F {C3} ] ]", MALFORMED, "MQTT-1.5.4-1"),
    ("U+0000 in a Reason String", V5, Client, "E0 [ 00 [ 1F {00 'a'} ] ]", MALFORMED, "MQTT-1.5.4-2"),
    ("a User Property without a value", V5, Client, "E0 [ 00 [ 26 {'k'} ] ]", MALFORMED, "section 1.2"),
];
