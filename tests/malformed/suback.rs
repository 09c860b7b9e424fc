//! SUBACK (section 3.9): only a server sends it.

use super::words::*;

#[rustfmt::skip]
pub(crate) const CASES: &[Row] = &[
    // From a client
    ("sent by a client", V5, Client, "90 [ 0001 [] 00 ]", PROTOCOL, "section 2.1.2"),
    ("sent by a client", V311, Client, "90 [ 0001 00 ]", PROTOCOL, "section 2.2.1"),
    ("sent by a client", V31, Client, "90 [ 0001 00 ]", PROTOCOL, "section 2.2.1"),
    ("sent by a client, its length not there yet", V5, Client, "90", PROTOCOL, "section 2.1.2"),
    ("sent by a client, announcing 256 MiB", V5, Client, "90 FF FF FF 7F", PROTOCOL, "section 2.1.2"),
    ("sent by a client, reserved flag set", V311, Client, "92 [ 0001 00 ]", MALFORMED, "MQTT-2.2.2-2"),
    // Fixed header
    ("reserved flag 0 set", V5, Server, "91 [ 0001 [] 00 ]", MALFORMED, "MQTT-2.1.3-1"),
    ("reserved flag 1 set, as in SUBSCRIBE", V5, Server, "92 [ 0001 [] 00 ]", MALFORMED, "MQTT-2.1.3-1"),
    ("reserved flag 3 set", V31, Server, "98 [ 0001 00 ]", MALFORMED, "MQTT-2.2.2-2"),
    ("Remaining Length in two bytes where one is enough", V5, Server, "90 84 00 0001 [] 00", MALFORMED, "MQTT-1.5.5-1"),
    ("Remaining Length of five bytes", V311, Server, "90 80 80 80 80 01", MALFORMED, "section 2.2.3"),
    ("announces 256 MiB", V5, Server, "90 FF FF FF 7F", TOO_LARGE, "MQTT-3.2.2-15"),
    // Packet Identifier
    ("body empty", V5, Server, "90 []", MALFORMED, "section 1.2"),
    ("half a Packet Identifier", V311, Server, "90 [ 00 ]", MALFORMED, "section 4.8"),
    ("Packet Identifier 0", V5, Server, "90 [ 0000 [] 00 ]", PROTOCOL, "MQTT-2.2.1-3"),
    ("Packet Identifier 0", V311, Server, "90 [ 0000 00 ]", PROTOCOL, "MQTT-2.3.1-1"),
    ("Packet Identifier 0", V31, Server, "90 [ 0000 00 ]", PROTOCOL, "MQTT-2.3.1-1"),
    // Properties
    ("no property length", V5, Server, "90 [ 0001 ]", MALFORMED, "section 1.2"),
    ("properties longer than the body", V5, Server, "90 [ 0001 09 00 ]", MALFORMED, "section 1.2"),
    ("property length in two bytes where one is enough", V5, Server, "90 [ 0001 80 00 00 ]", MALFORMED, "MQTT-1.5.5-1"),
    ("property length of five bytes", V5, Server, "90 [ 0001 80 80 80 80 01 00 ]", MALFORMED, "section 1.5.5"),
    ("a Subscription Identifier", V5, Server, "90 [ 0001 [ 0B 01 ] 00 ]", MALFORMED, "section 2.2.2.2"),
    ("a property that does not exist", V5, Server, "90 [ 0001 [ 3E 00 ] 00 ]", MALFORMED, "section 2.2.2.2"),
    ("two Reason Strings", V5, Server, "90 [ 0001 [ 1F {'a'} 1F {'b'} ] 00 ]", PROTOCOL, "section 3.2.2.3.9"),
    ("Reason String not UTF-8", V5, Server, "90 [ 0001 [ 1F {80} ] 00 ]", MALFORMED, "MQTT-1.5.4-1"),
    ("a User Property without a value", V5, Server, "90 [ 0001 [ 26 {'k'} ] 00 ]", MALFORMED, "section 1.2"),
    // Codes
    ("no reason code", V5, Server, "90 [ 0001 [] ]", PROTOCOL, "section 3.9.3"),
    ("no return code", V311, Server, "90 [ 0001 ]", PROTOCOL, "section 3.9.3"),
    ("no granted QoS", V31, Server, "90 [ 0001 ]", PROTOCOL, "section 3.9.3"),
    ("granted QoS 3", V5, Server, "90 [ 0001 [] 03 ]", PROTOCOL, "MQTT-3.9.3-2"),
    ("granted QoS 3", V311, Server, "90 [ 0001 03 ]", MALFORMED, "MQTT-3.9.3-2"),
    ("a failure, which 3.1 does not have", V31, Server, "90 [ 0001 80 ]", MALFORMED, "MQTT-3.9.3-2"),
    ("a reason code of 5.0", V311, Server, "90 [ 0001 87 ]", MALFORMED, "MQTT-3.9.3-2"),
    ("a reason code of UNSUBACK", V5, Server, "90 [ 0001 [] 11 ]", PROTOCOL, "MQTT-3.9.3-2"),
    ("a reason code of DISCONNECT", V5, Server, "90 [ 0001 [] 8E ]", PROTOCOL, "MQTT-3.9.3-2"),
    ("second reason code reserved", V5, Server, "90 [ 0001 [] 00 FF ]", PROTOCOL, "MQTT-3.9.3-2"),
    ("second return code reserved", V311, Server, "90 [ 0001 02 04 ]", MALFORMED, "MQTT-3.9.3-2"),
];
