//! The PROXY protocol: a TCP proxy's header about the connection that it relays, before the connection's first byte. Bytes in, a
//! header out; no socket. Version 1 is a line of text, version 2 is binary with fields after the addresses (TLVs), which are
//! skipped. Source: the HAProxy project's "The PROXY protocol, versions 1 & 2" (2020/03/05); its sections are named beside the
//! checks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use forebay_base::limits::PROXY_V2_BYTES_MAX;

/// The longest header of version 1, with its CRLF (section 2.1).
pub const V1_BYTES_MAX: usize = 107;
/// The first bytes of version 2 (section 2.2): no protocol that a listener may meet begins like this.
pub const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before its addresses.
const V2_HEAD: usize = 16;

/// The header that a listener expects before the first packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// No header: the connection begins with its first packet, and a header is refused.
    #[default]
    Nothing,
    /// A header of version 1.
    V1,
    /// A header of version 2.
    V2,
    /// A header of either version.
    Any,
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The header's length in bytes; the device's bytes follow.
    pub len: usize,
    /// The device's address. `None`: the header has none (UNKNOWN, LOCAL, a family without ports), and the address of the socket
    /// counts.
    pub source: Option<SocketAddr>,
}

/// Why the first bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PROXY header: {}", self.0)
    }
}

/// Parses the bytes received so far. `None`: the header is not whole yet.
///
/// # Errors
/// [`Malformed`], as soon as a byte is received that no header has there.
pub fn look(expect: Expect, bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some(first) = bytes.first() else { return Ok(None) };
    match (expect, first) {
        (Expect::Nothing, _) => Ok(Some(Header { len: 0, source: None })),
        (Expect::V1 | Expect::Any, b'P') => v1(bytes),
        (Expect::V2 | Expect::Any, b'\r') => v2(bytes, PROXY_V2_BYTES_MAX),
        (Expect::V1, b'\r') => Err(Malformed("version 2 where version 1 is expected")),
        (Expect::V2, b'P') => Err(Malformed("version 1 where version 2 is expected")),
        _ => Err(Malformed("missing")),
    }
}

/// Parses a header of version 1 (section 2.1).
fn v1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let start = b"PROXY ";
    let shared = start.len().min(bytes.len());
    if bytes[..shared] != start[..shared] {
        return Err(Malformed("not the word PROXY"));
    }
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    // The first carriage return or line feed decides: a verdict is never taken back.
    let end = window.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let end = match end.map(|at| (at, &window[at..])) {
        Some((at, [b'\r', b'\n', ..])) => at,
        None | Some((_, [b'\r'])) if bytes.len() < V1_BYTES_MAX => return Ok(None),
        None | Some((_, [b'\r'])) => return Err(Malformed("line longer than 107 bytes")),
        Some(_) => return Err(Malformed("line without CRLF")),
    };
    let line = std::str::from_utf8(&window[start.len()..end]).map_err(|_| Malformed("not text"))?;
    Ok(Some(Header { len: end + 2, source: v1_source(line)? }))
}

/// The source address in the line after `PROXY `.
fn v1_source(line: &str) -> Result<Option<SocketAddr>, Malformed> {
    let (family, rest) = line.split_once(' ').unwrap_or((line, ""));
    if family == "UNKNOWN" {
        // "the receiver must ignore anything presented before the CRLF is found".
        return Ok(None);
    }
    let mut words = rest.split(' ');
    let mut next = || words.next().ok_or(Malformed("too few words"));
    let [source, destination, source_port, destination_port] = [next()?, next()?, next()?, next()?];
    if words.next().is_some() {
        return Err(Malformed("too many words"));
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            _ => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        }
    };
    if !matches!(family, "TCP4" | "TCP6") {
        return Err(Malformed("neither TCP4, TCP6 nor UNKNOWN"));
    }
    let (source, _) = address(source).zip(address(destination)).ok_or(Malformed("not an address of its family"))?;
    let (port, _) = port(source_port).zip(port(destination_port)).ok_or(Malformed("not a port"))?;
    Ok(Some(SocketAddr::new(source, port)))
}

/// Parses a decimal port without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Parses the bytes of a connection that begins with a header of version 2 of at most `max` bytes (section 2.2). `None`: the
/// header is not whole yet.
///
/// # Errors
/// As [`look`].
pub fn v2(bytes: &[u8], max: usize) -> Result<Option<Header>, Malformed> {
    let shared = V2_SIGNATURE.len().min(bytes.len());
    if bytes[..shared] != V2_SIGNATURE[..shared] {
        return Err(Malformed("not the signature of version 2"));
    }
    let local = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(byte) if byte >> 4 != 2 => return Err(Malformed("version neither 1 nor 2")),
        Some(_) => return Err(Malformed("command neither LOCAL nor PROXY")),
    };
    let Some(family) = bytes.get(13) else { return Ok(None) };
    if family >> 4 > 3 || family & 15 > 2 {
        return Err(Malformed("unknown family or transport"));
    }
    let Some(&[high, low]) = bytes.get(14..V2_HEAD) else { return Ok(None) };
    let len = V2_HEAD + usize::from(u16::from_be_bytes([high, low]));
    if len < V2_HEAD + if local { 0 } else { addresses(*family) } {
        return Err(Malformed("shorter than its addresses"));
    }
    if len > max {
        return Err(Malformed("longer than is taken"));
    }
    let Some(header) = bytes.get(V2_HEAD..len) else { return Ok(None) };
    let source = if local { None } else { v2_source(family >> 4, header) };
    Ok(Some(Header { len, source }))
}

/// Bytes of the addresses of a family.
const fn addresses(family: u8) -> usize {
    match family >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    }
}

/// The fields after the addresses of a whole header of version 2: type, length, value (section 2.2.7).
#[must_use]
pub fn tlvs(header: &[u8]) -> &[u8] {
    let family = header.get(13).copied().unwrap_or_default();
    header.get(V2_HEAD + addresses(family)..).unwrap_or_default()
}

/// Appends a header of version 2 with these TLVs after the addresses; the destination is left open. Returns false and appends
/// nothing if the header would be too long.
pub fn write_v2(source: Option<SocketAddr>, tlvs: &[u8], out: &mut Vec<u8>) -> bool {
    let mut ends = Vec::with_capacity(36);
    let family = match source.map(|source| source.ip()) {
        None => 0x00,
        Some(IpAddr::V4(ip)) => {
            ends.extend_from_slice(&ip.octets());
            ends.extend_from_slice(&[0; 4]);
            0x11
        }
        Some(IpAddr::V6(ip)) => {
            ends.extend_from_slice(&ip.octets());
            ends.extend_from_slice(&[0; 16]);
            0x21
        }
    };
    if let Some(source) = source {
        ends.extend_from_slice(&source.port().to_be_bytes());
        ends.extend_from_slice(&[0; 2]);
    }
    let Ok(len) = u16::try_from(ends.len() + tlvs.len()) else { return false };
    out.extend_from_slice(V2_SIGNATURE);
    out.extend_from_slice(&[0x21, family]);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&ends);
    out.extend_from_slice(tlvs);
    true
}

/// Source address and port of the two families that have them; the destination's fields are between the two.
fn v2_source(family: u8, header: &[u8]) -> Option<SocketAddr> {
    let port = |at: usize| Some(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?]));
    match family {
        1 => Some(SocketAddr::new(IpAddr::from(*header.first_chunk::<4>()?), port(8)?)),
        2 => Some(SocketAddr::new(IpAddr::from(*header.first_chunk::<16>()?), port(32)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2: version and command, family and transport, addresses and TLVs.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap();
        [&V2_SIGNATURE[..], &[command, family], &len.to_be_bytes(), rest].concat()
    }

    fn binary_of(source: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
        let (family, ip) = match source.ip() {
            IpAddr::V4(ip) => (0x11, ip.octets().to_vec()),
            IpAddr::V6(ip) => (0x21, ip.octets().to_vec()),
        };
        let destination = vec![9; ip.len()];
        binary(0x21, family, &[&ip[..], &destination, &source.port().to_be_bytes(), &[7, 91], tlvs].concat())
    }

    fn line_of(source: SocketAddr) -> Vec<u8> {
        let (family, to) = if source.is_ipv4() { ("TCP4", "10.0.0.1") } else { ("TCP6", "::1") };
        format!("PROXY {family} {} {to} {} 1883\r\n", source.ip(), source.port()).into_bytes()
    }

    /// Headers, each with its source.
    fn well_formed() -> Vec<(Vec<u8>, Option<SocketAddr>)> {
        let (v4, v6) = ("203.0.113.7:4711".parse().unwrap(), "[2001:db8::7]:65535".parse().unwrap());
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_BYTES_MAX - 16)).into_bytes();
        assert_eq!(longest.len(), V1_BYTES_MAX);
        let unix = binary(0x21, 0x31, &[b'/'; 216]);
        vec![
            (line_of(v4), Some(v4)),
            (line_of(v6), Some(v6)),
            (b"PROXY TCP4 255.255.255.255 255.255.255.255 0 65535\r\n".to_vec(), "255.255.255.255:0".parse().ok()),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 whatever\r\n".to_vec(), None),
            (longest, None),
            (binary_of(v4, b""), Some(v4)),
            (binary_of(v6, b""), Some(v6)),
            (binary_of(v4, &[4, 0, 1, 0, 0xEE, 0, 2, 1, 2]), Some(v4)),
            (binary_of(v4, &[0; PROXY_V2_BYTES_MAX - 28]), Some(v4)),
            // A connection relayed from datagrams: the address is valid all the same.
            (binary(0x21, 0x12, &[203, 0, 113, 7, 9, 9, 9, 9, 0x12, 0x67, 0, 0]), Some(v4)),
            // The proxy's own health checks.
            (binary(0x20, 0x00, b""), None),
            (binary(0x20, 0x11, &[1; 12]), None),
            (binary(0x20, 0x11, b""), None),
            (binary(0x21, 0x00, &[1; 5]), None),
            (unix, None),
        ]
    }

    const MALFORMED: &[(&str, &[u8])] = &[
        ("a CONNECT", b"\x10\x0f"),
        ("another word", b"PROXX"),
        ("lower case", b"proxy TCP4"),
        ("a line feed alone", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"),
        ("a carriage return alone", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX"),
        ("a line feed within", b"PROXY UNKNOWN a\nb\r\n"),
        ("a carriage return within", b"PROXY UNKNOWN a\rb\r\n"),
        ("no family", b"PROXY \r\n"),
        ("an unknown family", b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"),
        ("too few words", b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"),
        ("too many words", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"),
        ("two spaces", b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n"),
        ("a space at the end", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n"),
        ("a leading zero in an address", b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n"),
        ("a leading zero in a port", b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"),
        ("a port with a sign", b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n"),
        ("a port of 65536", b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n"),
        ("a destination port of 65536", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"),
        ("IPv6 in TCP4", b"PROXY TCP4 ::1 ::1 1 2\r\n"),
        ("IPv4 in TCP6", b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n"),
        ("families mixed", b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n"),
        ("a host name", b"PROXY TCP4 localhost 1.2.3.4 1 2\r\n"),
        ("not text", b"PROXY TCP4 \xff.2.3.4 1.2.3.4 1 2\r\n"),
        ("the signature torn", b"\r\n\r\n\0\r\nQUIX"),
        ("version 1 in binary", b"\r\n\r\n\0\r\nQUIT\n\x11"),
        ("version 3", b"\r\n\r\n\0\r\nQUIT\n\x31"),
        ("command 2", b"\r\n\r\n\0\r\nQUIT\n\x22"),
        ("family 4", b"\r\n\r\n\0\r\nQUIT\n\x21\x41"),
        ("transport 3", b"\r\n\r\n\0\r\nQUIT\n\x21\x13"),
        ("shorter than IPv4", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0b"),
        ("shorter than IPv6", b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x23"),
        ("shorter than a path", b"\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\xd7"),
        ("longer than is taken", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"),
    ];

    #[test]
    fn headers_are_read_when_they_are_whole_and_not_before() {
        for (header, source) in well_formed() {
            for len in 0..header.len() {
                assert_eq!(look(Expect::Any, &header[..len]), Ok(None), "{len} of {header:02x?}");
            }
            let whole = Ok(Some(Header { len: header.len(), source }));
            assert_eq!(look(Expect::Any, &header), whole);
            assert_eq!(
                look(Expect::Any, &[&header[..], b"\x10\x0f\x00"].concat()),
                whole,
                "what follows is not its own"
            );
            let (right, wrong) = if header[0] == b'P' { (Expect::V1, Expect::V2) } else { (Expect::V2, Expect::V1) };
            assert_eq!(look(right, &header), whole);
            assert!(look(wrong, &header[..1]).is_err(), "at its first byte");
        }
    }

    #[test]
    fn what_is_malformed_is_refused_with_the_byte_that_makes_it_so() {
        for (what, bytes) in MALFORMED {
            assert!(look(Expect::Any, bytes).is_err(), "{what}");
            // Headers that become malformed here do so at that byte; a line is judged at its end.
            if bytes[0] == b'\r' {
                assert_eq!(look(Expect::Any, &bytes[..bytes.len() - 1]), Ok(None), "{what}");
            }
        }
        let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
        assert_eq!(look(Expect::V1, &endless[..V1_BYTES_MAX - 1]), Ok(None));
        assert!(look(Expect::V1, &endless[..V1_BYTES_MAX]).is_err());
        let late = [&endless[..V1_BYTES_MAX - 1], b"\r\n"].concat();
        assert!(look(Expect::V1, &late).is_err(), "its CRLF is the 108th byte");
    }

    #[test]
    fn where_none_is_expected_none_is_read() {
        assert_eq!(look(Expect::Nothing, b"PROXY UNKNOWN\r\n"), Ok(Some(Header { len: 0, source: None })));
    }

    #[test]
    fn a_header_with_a_field_of_our_own_is_read_as_any_other() {
        for source in ["203.0.113.7:4711".parse().ok(), "[2001:db8::7]:65535".parse().ok(), None] {
            let mut header = b"before".to_vec();
            assert!(write_v2(source, b"\xE0\x00\x05value", &mut header));
            let header = header.split_off(6);
            assert_eq!(look(Expect::V2, &header), Ok(Some(Header { len: header.len(), source })));
            assert_eq!(tlvs(&header), b"\xE0\x00\x05value");
        }
        let mut header = Vec::new();
        assert!(!write_v2(None, &[0; 65_536], &mut header) && header.is_empty());
        assert!(write_v2(None, &[0; 65_535], &mut header));
        assert_eq!(v2(&header, usize::MAX), Ok(Some(Header { len: V2_HEAD + 65_535, source: None })));
        assert!(v2(&header, V2_HEAD + 65_534).is_err());
    }

    proptest! {
        #[test]
        fn what_a_proxy_writes_is_what_is_read(
            v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>(), port: u16, is_v6: bool, is_line: bool,
            tlvs in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let ip = if is_v6 { IpAddr::from(v6) } else { IpAddr::from(v4) };
            let source = SocketAddr::new(ip, port);
            let header = if is_line { line_of(source) } else { binary_of(source, &tlvs) };
            let whole = Some(Header { len: header.len(), source: Some(source) });
            prop_assert_eq!(look(Expect::Any, &header), Ok(whole));
        }

        /// Random bytes cause no panic, no length beyond the bytes, and a verdict within the bound that more bytes do not change.
        #[test]
        fn any_bytes_get_a_verdict_that_stands(
            start in 0..4usize, rest in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n')], 0..300),
            cut in 0..300usize,
        ) {
            let start: &[u8] = [&b""[..], b"PROXY ", b"PROXY UNKNOWN ", &V2_SIGNATURE[..]][start];
            let bytes = [start, &rest].concat();
            let verdict = look(Expect::Any, &bytes);
            if let Ok(Some(header)) = verdict {
                prop_assert!(header.len <= bytes.len());
            }
            let earlier = look(Expect::Any, &bytes[..cut.min(bytes.len())]);
            if earlier != Ok(None) {
                prop_assert_eq!(earlier, verdict);
            }
        }
    }
}
