//! UNSUBACK (section 3.11): only a server sends it.

use super::words::*;

#[rustfmt::skip]
pub(crate) const CASES: &[Row] = &[
    // From a client
    ("sent by a client", V5, Client, "B0 [ 0001 [] 00 ]", PROTOCOL, "section 2.1.2"),
    ("sent by a client", V311, Client, "B0 [ 0001 ]", PROTOCOL, "section 2.2.1"),
    ("sent by a client", V31, Client, "B0 [ 0001 ]", PROTOCOL, "section 2.2.1"),
    ("sent by a client, its length not there yet", V311, Client, "B0", PROTOCOL, "section 2.2.1"),
    ("sent by a client, announcing 256 MiB", V5, Client, "B0 FF FF FF 7F", PROTOCOL, "section 2.1.2"),
    ("sent by a client, reserved flag set", V5, Client, "B2 [ 0001 [] 00 ]", MALFORMED, "MQTT-2.1.3-1"),
    // Fixed header
    ("reserved flag 0 set", V5, Server, "B1 [ 0001 [] 00 ]", MALFORMED, "MQTT-2.1.3-1"),
    ("reserved flag 1 set, as in UNSUBSCRIBE", V311, Server, "B2 [ 0001 ]", MALFORMED, "MQTT-2.2.2-2"),
    ("reserved flag 3 set", V31, Server, "B8 [ 0001 ]", MALFORMED, "MQTT-2.2.2-2"),
    ("Remaining Length in two bytes where one is enough", V5, Server, "B0 84 00 0001 [] 00", MALFORMED, "MQTT-1.5.5-1"),
    ("Remaining Length of five bytes", V5, Server, "B0 80 80 80 80 01", MALFORMED, "section 1.5.5"),
    ("announces 256 MiB", V5, Server, "B0 FF FF FF 7F", TOO_LARGE, "MQTT-3.2.2-15"),
    // Lengths and Packet Identifier
    ("body empty", V5, Server, "B0 []", MALFORMED, "section 1.2"),
    ("half a Packet Identifier", V5, Server, "B0 [ 00 ]", MALFORMED, "section 1.2"),
    ("half a Packet Identifier", V311, Server, "B0 [ 00 ]", MALFORMED, "section 3.11.1"),
    ("a return code, which only 5.0 has", V311, Server, "B0 [ 0001 00 ]", MALFORMED, "section 3.11.1"),
    ("a return code, which only 5.0 has", V31, Server, "B0 [ 0001 00 ]", MALFORMED, "section 3.11.1"),
    ("Packet Identifier 0", V5, Server, "B0 [ 0000 [] 00 ]", PROTOCOL, "MQTT-2.2.1-3"),
    ("Packet Identifier 0", V311, Server, "B0 [ 0000 ]", PROTOCOL, "MQTT-2.3.1-1"),
    ("Packet Identifier 0", V31, Server, "B0 [ 0000 ]", PROTOCOL, "MQTT-2.3.1-1"),
    // Properties
    ("no property length", V5, Server, "B0 [ 0001 ]", MALFORMED, "section 1.2"),
    ("properties longer than the body", V5, Server, "B0 [ 0001 09 00 ]", MALFORMED, "section 1.2"),
    ("property length in two bytes where one is enough", V5, Server, "B0 [ 0001 80 00 00 ]", MALFORMED, "MQTT-1.5.5-1"),
    ("property length of five bytes", V5, Server, "B0 [ 0001 80 80 80 80 01 00 ]", MALFORMED, "section 1.5.5"),
    ("a Session Expiry Interval", V5, Server, "B0 [ 0001 [ 11 00000001 ] 00 ]", MALFORMED, "section 2.2.2.2"),
    ("a property that does not exist", V5, Server, "B0 [ 0001 [ 3D 00 ] 00 ]", MALFORMED, "section 2.2.2.2"),
    ("two Reason Strings", V5, Server, "B0 [ 0001 [ 1F {'a'} 1F {'b'} ] 00 ]", PROTOCOL, "section 3.2.2.3.9"),
    ("U+0000 in a Reason String", V5, Server, "B0 [ 0001 [ 1F {00} ] 00 ]", MALFORMED, "MQTT-1.5.4-2"),
    ("a User Property without a value", V5, Server, "B0 [ 0001 [ 26 {'k'} ] 00 ]", MALFORMED, "section 1.2"),
    // Codes
    ("no reason code", V5, Server, "B0 [ 0001 [] ]", PROTOCOL, "section 3.11.3"),
    ("a reason code that does not exist", V5, Server, "B0 [ 0001 [] 12 ]", PROTOCOL, "MQTT-3.11.3-2"),
    ("a granted QoS", V5, Server, "B0 [ 0001 [] 01 ]", PROTOCOL, "MQTT-3.11.3-2"),
    ("a reason code of SUBACK", V5, Server, "B0 [ 0001 [] 97 ]", PROTOCOL, "MQTT-3.11.3-2"),
    ("a reason code of DISCONNECT", V5, Server, "B0 [ 0001 [] 8B ]", PROTOCOL, "MQTT-3.11.3-2"),
    ("second reason code reserved", V5, Server, "B0 [ 0001 [] 11 FF ]", PROTOCOL, "MQTT-3.11.3-2"),
];
