//! PINGRESP (section 3.13): only a server sends it.

use super::words::*;

#[rustfmt::skip]
pub(crate) const CASES: &[Row] = &[
    ("sent by a client", V5, Client, "D0 00", PROTOCOL, "section 2.1.2"),
    ("sent by a client", V311, Client, "D0 00", PROTOCOL, "section 2.2.1"),
    ("sent by a client", V31, Client, "D0 00", PROTOCOL, "section 2.2.1"),
    ("sent by a client, its length not there yet", V5, Client, "D0", PROTOCOL, "section 2.1.2"),
    ("sent by a client, with a body", V5, Client, "D0 [ 00 ]", PROTOCOL, "section 2.1.2"),
    ("sent by a client, announcing 256 MiB", V311, Client, "D0 FF FF FF 7F", PROTOCOL, "section 2.2.1"),
    ("reserved flag 0 set", V5, Server, "D1 00", MALFORMED, "MQTT-2.1.3-1"),
    ("reserved flag 1 set, as in SUBSCRIBE", V5, Server, "D2 00", MALFORMED, "MQTT-2.1.3-1"),
    ("reserved flag 2 set", V5, Server, "D4 00", MALFORMED, "MQTT-2.1.3-1"),
    ("reserved flag 3 set", V5, Server, "D8 00", MALFORMED, "MQTT-2.1.3-1"),
    ("all reserved flags set", V5, Server, "DF 00", MALFORMED, "MQTT-2.1.3-1"),
    ("reserved flag 1 set, as in SUBSCRIBE", V311, Server, "D2 00", MALFORMED, "MQTT-2.2.2-2"),
    ("DUP, which 3.1 has elsewhere", V31, Server, "D8 00", MALFORMED, "MQTT-2.2.2-2"),
    ("reserved flags set, length not there yet", V311, Server, "D3", MALFORMED, "MQTT-2.2.2-2"),
    ("a body of one zero", V5, Server, "D0 [ 00 ]", MALFORMED, "section 3.13.1"),
    ("a body of one zero", V311, Server, "D0 [ 00 ]", MALFORMED, "section 3.13.1"),
    ("a body of one zero", V31, Server, "D0 [ 00 ]", MALFORMED, "section 3.13.1"),
    ("a Packet Identifier", V311, Server, "D0 [ 0001 ]", MALFORMED, "section 3.13.1"),
    ("a reason code and an empty property length", V5, Server, "D0 [ 00 [] ]", MALFORMED, "section 3.13.1"),
    ("a reason code and a User Property", V5, Server, "D0 [ 00 [ 26 { 'k' } { 'v' } ] ]", MALFORMED, "section 3.13.1"),
    ("a body of 127 bytes", V5, Server, "D0 [ 00x127 ]", MALFORMED, "section 3.13.1"),
    ("a body of 128 bytes", V311, Server, "D0 [ 00x128 ]", MALFORMED, "section 3.13.1"),
    ("announces 16 384 bytes", V5, Server, "D0 80 80 01", MALFORMED, "section 3.13.1"),
    ("announces 2 097 152 bytes", V5, Server, "D0 80 80 80 01", MALFORMED, "section 3.13.1"),
    ("announces 256 MiB", V5, Server, "D0 FF FF FF 7F", MALFORMED, "section 3.13.1"),
    ("announces 256 MiB", V31, Server, "D0 FF FF FF 7F", MALFORMED, "section 3.13.1"),
    ("length 0 in two bytes", V5, Server, "D0 80 00", MALFORMED, "MQTT-1.5.5-1"),
    ("length 0 in three bytes", V5, Server, "D0 80 80 00", MALFORMED, "MQTT-1.5.5-1"),
    ("length 0 in four bytes", V5, Server, "D0 80 80 80 00", MALFORMED, "MQTT-1.5.5-1"),
    ("length 0 in five bytes", V5, Server, "D0 80 80 80 80 00", MALFORMED, "section 1.5.5"),
    ("length of five bytes", V311, Server, "D0 FF FF FF FF 7F", MALFORMED, "section 2.2.3"),
    ("length without an end", V5, Server, "D0 FF FF FF FF FF", MALFORMED, "section 1.5.5"),
];
