//! PINGREQ (section 3.12): only a client sends it. All it can have wrong is its two bytes.

use super::words::*;

#[rustfmt::skip]
pub(crate) const CASES: &[Row] = &[
    ("sent by a server", V5, Server, "C0 00", PROTOCOL, "section 2.1.2"),
    ("sent by a server", V311, Server, "C0 00", PROTOCOL, "section 2.2.1"),
    ("sent by a server", V31, Server, "C0 00", PROTOCOL, "section 2.2.1"),
    ("reserved flag 0 set", V5, Client, "C1 00", MALFORMED, "MQTT-2.1.3-1"),
    ("reserved flag 1 set, as in SUBSCRIBE", V5, Client, "C2 00", MALFORMED, "MQTT-2.1.3-1"),
    ("reserved flag 2 set", V5, Client, "C4 00", MALFORMED, "MQTT-2.1.3-1"),
    ("reserved flag 3 set", V5, Client, "C8 00", MALFORMED, "MQTT-2.1.3-1"),
    ("all reserved flags set", V5, Client, "CF 00", MALFORMED, "MQTT-2.1.3-1"),
    ("reserved flag 1 set, as in SUBSCRIBE", V311, Client, "C2 00", MALFORMED, "MQTT-2.2.2-2"),
    ("DUP, which 3.1 has elsewhere", V31, Client, "C8 00", MALFORMED, "MQTT-2.2.2-2"),
    ("reserved flags set, length not there yet", V311, Client, "C3", MALFORMED, "MQTT-2.2.2-2"),
    ("a body of one zero", V5, Client, "C0 [ 00 ]", MALFORMED, "section 3.12.1"),
    ("a body of one zero", V311, Client, "C0 [ 00 ]", MALFORMED, "section 3.12.1"),
    ("a body of one zero", V31, Client, "C0 [ 00 ]", MALFORMED, "section 3.12.1"),
    ("a Packet Identifier", V311, Client, "C0 [ 0001 ]", MALFORMED, "section 3.12.1"),
    ("a reason code and an empty property length", V5, Client, "C0 [ 00 [] ]", MALFORMED, "section 3.12.1"),
    ("a reason code and a User Property", V5, Client, "C0 [ 00 [ 26 { 'k' } { 'v' } ] ]", MALFORMED, "section 3.12.1"),
    ("a body of 127 bytes", V5, Client, "C0 [ 00x127 ]", MALFORMED, "section 3.12.1"),
    ("a body of 128 bytes", V311, Client, "C0 [ 00x128 ]", MALFORMED, "section 3.12.1"),
    ("announces 16 384 bytes", V5, Client, "C0 80 80 01", MALFORMED, "section 3.12.1"),
    ("announces 2 097 152 bytes", V5, Client, "C0 80 80 80 01", MALFORMED, "section 3.12.1"),
    ("announces 256 MiB", V5, Client, "C0 FF FF FF 7F", MALFORMED, "section 3.12.1"),
    ("announces 256 MiB", V31, Client, "C0 FF FF FF 7F", MALFORMED, "section 3.12.1"),
    ("length 0 in two bytes", V5, Client, "C0 80 00", MALFORMED, "MQTT-1.5.5-1"),
    ("length 0 in three bytes", V5, Client, "C0 80 80 00", MALFORMED, "MQTT-1.5.5-1"),
    ("length 0 in four bytes", V5, Client, "C0 80 80 80 00", MALFORMED, "MQTT-1.5.5-1"),
    ("length 0 in five bytes", V5, Client, "C0 80 80 80 80 00", MALFORMED, "section 1.5.5"),
    ("length of five bytes", V311, Client, "C0 FF FF FF FF 7F", MALFORMED, "section 2.2.3"),
    ("length without an end", V5, Client, "C0 FF FF FF FF FF", MALFORMED, "section 1.5.5"),
];
