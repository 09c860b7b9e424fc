//! AUTH (section 3.15): either end sends it, in 5.0 only.

use super::words::*;

#[rustfmt::skip]
pub(crate) const CASES: &[Row] = &[
    // Fixed header
    ("in 3.1.1, where type 15 is reserved", V311, Client, "F0 [ 18 [ 15 {'m'} ] ]", MALFORMED, "section 2.2.1"),
    ("in 3.1, where type 15 is reserved", V31, Client, "F0 [ 18 [ 15 {'m'} ] ]", MALFORMED, "section 2.2.1"),
    ("in 3.1.1, its length not there yet", V311, Client, "F0", MALFORMED, "section 2.2.1"),
    ("in 3.1.1, from a server", V311, Server, "F0 []", MALFORMED, "section 2.2.1"),
    ("reserved flag 0 set", V5, Client, "F1 [ 18 [ 15 {'m'} ] ]", MALFORMED, "MQTT-3.15.1-1"),
    ("reserved flag 1 set, as in SUBSCRIBE", V5, Client, "F2 [ 18 [ 15 {'m'} ] ]", MALFORMED, "MQTT-3.15.1-1"),
    ("reserved flag 2 set", V5, Client, "F4 [ 18 [ 15 {'m'} ] ]", MALFORMED, "MQTT-3.15.1-1"),
    ("reserved flag 3 set", V5, Client, "F8 [ 18 [ 15 {'m'} ] ]", MALFORMED, "MQTT-3.15.1-1"),
    ("Remaining Length in two bytes where one is enough", V5, Client, "F0 86 00 18 [ 15 {'m'} ]", MALFORMED, "MQTT-1.5.5-1"),
    ("Remaining Length of five bytes", V5, Client, "F0 80 80 80 80 01", MALFORMED, "section 1.5.5"),
    ("announces 256 MiB", V5, Client, "F0 FF FF FF 7F", TOO_LARGE, "MQTT-3.2.2-15"),
    // Reason codes
    ("the short form of success, which a server says", V5, Client, "F0 []", PROTOCOL, "MQTT-3.15.2-1"),
    ("success, which a server says", V5, Client, "F0 [ 00 [ 15 {'m'} ] ]", PROTOCOL, "MQTT-3.15.2-1"),
    ("Re-authenticate, which a client says", V5, Server, "F0 [ 19 [ 15 {'m'} ] ]", PROTOCOL, "MQTT-3.15.2-1"),
    ("a reason code that does not exist", V5, Client, "F0 [ 1A [ 15 {'m'} ] ]", PROTOCOL, "MQTT-3.15.2-1"),
    ("a reason code of CONNACK", V5, Client, "F0 [ 8C [ 15 {'m'} ] ]", PROTOCOL, "MQTT-3.15.2-1"),
    ("a reason code of DISCONNECT", V5, Server, "F0 [ 8E [ 15 {'m'} ] ]", PROTOCOL, "MQTT-3.15.2-1"),
    ("reason code 255", V5, Client, "F0 [ FF [ 15 {'m'} ] ]", PROTOCOL, "MQTT-3.15.2-1"),
    // Properties
    ("a reason code without a property length", V5, Client, "F0 [ 18 ]", MALFORMED, "section 1.2"),
    ("no Authentication Method", V5, Client, "F0 [ 18 [] ]", PROTOCOL, "section 3.15.2.2.2"),
    ("no Authentication Method, other properties there", V5, Client, "F0 [ 19 [ 26 {'k'} {'v'} ] ]", PROTOCOL, "section 3.15.2.2.2"),
    ("Authentication Data without a method", V5, Client, "F0 [ 18 [ 16 {'d'} ] ]", PROTOCOL, "section 3.1.2.11.10"),
    ("two Authentication Methods", V5, Client, "F0 [ 18 [ 15 {'m'} 15 {'m'} ] ]", PROTOCOL, "section 3.1.2.11.9"),
    ("two Authentication Data", V5, Client, "F0 [ 18 [ 15 {'m'} 16 {'d'} 16 {'e'} ] ]", PROTOCOL, "section 3.1.2.11.10"),
    ("two Reason Strings", V5, Client, "F0 [ 18 [ 15 {'m'} 1F {'a'} 1F {'b'} ] ]", PROTOCOL, "section 3.2.2.3.9"),
    ("properties shorter than their length", V5, Client, "F0 [ 18 09 15 {'m'} ]", MALFORMED, "section 1.2"),
    ("property length in two bytes where one is enough", V5, Client, "F0 [ 18 84 00 15 {'m'} ]", MALFORMED, "MQTT-1.5.5-1"),
    ("property length of five bytes", V5, Client, "F0 [ 18 80 80 80 80 01 ]", MALFORMED, "section 1.5.5"),
    ("bytes after the properties", V5, Client, "F0 [ 18 [ 15 {'m'} ] 00 ]", MALFORMED, "section 2.1.4"),
    ("a Session Expiry Interval", V5, Client, "F0 [ 18 [ 15 {'m'} 11 00000001 ] ]", MALFORMED, "section 2.2.2.2"),
    ("a property that does not exist", V5, Client, "F0 [ 18 [ 15 {'m'} 14 00 ] ]", MALFORMED, "section 2.2.2.2"),
    ("Authentication Method not UTF-8", V5, Client, "F0 [ 18 [ 15 {F8} ] ]", MALFORMED, "MQTT-1.5.4-1"),
    ("U+0000 in the Authentication Method", V5, Client, "F0 [ 18 [ 15 {'m' 00} ] ]", MALFORMED, "MQTT-1.5.4-2"),
    ("Authentication Data longer than the properties", V5, Client, "F0 [ 18 [ 15 {'m'} 16 0100 'd' ] ]", MALFORMED, "section 1.2"),
];
