use proptest::prelude::*;
use serde_json::json;

use super::*;
use forebay_guard::auth::{Method, Settings};

fn admission(by: By) -> Admission {
    let policy = Arc::new(Policy::load(&Settings::new("devices", &[Method::Anonymous])).unwrap());
    Admission { by, ..Admission::anonymous(policy) }
}

fn header(client: Option<Client>) -> Header {
    let (front, listener) = ("eu-1".into(), "0.0.0.0:1883".into());
    let (waited, stood_still, stamp, owner) = Default::default();
    Header {
        source: "203.0.113.7:4711".parse().ok(),
        front,
        generation: 7,
        listener,
        waited,
        stood_still,
        stamp,
        owner,
        client,
    }
}

fn full() -> Client {
    let claim = json!({ "pub": ["a/#", "dev/${clientid}/up"], "sub": ["s"] });
    let grants = Grants::read(&claim).unwrap().with_roles(vec!["reader".into()]);
    Client {
        identity: Some("ada".into()),
        client_id: Some("c1".into()),
        expires_s: Some(1_800_000_000),
        grants: Some(Arc::new(grants)),
        data: Some(Box::from(&b"\x00v=proof"[..])),
        ..Client::of(&admission(By::Token(u64::MAX - 7)))
    }
}

fn written(header: &Header) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(header.write(&mut bytes));
    bytes
}

/// A header with this value in the place of its field's contents.
fn with_value(value: &[u8]) -> Vec<u8> {
    let (mut tlvs, mut bytes) = (Vec::new(), Vec::new());
    assert!(fields::put(TYPE, value, &mut tlvs) && proxy::write_v2(None, &tlvs, &mut bytes));
    bytes
}

/// The fields that every header has, and more.
fn with_fields(version: u8, more: &[(u8, &[u8])]) -> Vec<u8> {
    let mut value = vec![version];
    for (kind, field) in [(FRONT, &b"a"[..]), (GENERATION, &[0; 4]), (LISTENER, b"l")].iter().chain(more) {
        assert!(fields::put(*kind, field, &mut value));
    }
    with_value(&value)
}

#[test]
fn what_a_front_says_is_what_the_owner_reads() {
    let id = Arc::new(CertificateId::new(b"issuer", b"\x01\x02"));
    let all = [By::Nothing, By::Line(1), By::Scram(2), By::Token(3), By::Operator, By::Certificate(id)];
    let mut headers: Vec<_> = all.into_iter().map(|by| header(Some(Client::of(&admission(by))))).collect();
    headers.extend([header(None), header(Some(full())), Header { source: None, ..header(None) }]);
    headers.push(Header { waited: Duration::from_millis(9_700), ..header(None) });
    let stood_still = Duration::from_millis(9_600);
    headers.push(Header { waited: Duration::from_millis(9_700), stood_still, stamp: Some(77), ..header(None) });
    headers.push(Header { owner: "eu-2".into(), ..header(None) });
    headers.push(Header { source: "[2001:db8::7]:65535".parse().ok(), ..header(Some(full())) });
    for header in headers {
        let bytes = written(&header);
        for len in 0..bytes.len() {
            assert!(matches!(Header::read(&bytes[..len]), Ok(None)), "{len} of {header:?}");
        }
        let (read, len) = Header::read(&[&bytes[..], b"\x10\x0f"].concat()).unwrap().expect("whole");
        assert_eq!((format!("{read:?}"), len), (format!("{header:?}"), bytes.len()));
    }
}

#[test]
fn an_admission_is_the_same_at_the_owner() {
    let front = Admission { identity: Some("ada".into()), ..admission(By::Line(9)) };
    let there = Client::of(&front).admission(Arc::clone(&front.policy));
    assert_eq!(format!("{there:?}"), format!("{front:?}"));
}

#[test]
fn the_bytes_are_pinned() {
    let header = Header { source: None, ..header(Some(Client::of(&admission(By::Line(1))))) };
    let field = [
        &[1][..], // version
        &[1, 0, 4, b'e', b'u', b'-', b'1'],
        &[2, 0, 4, 0, 0, 0, 7],
        &[3, 0, 12],
        b"0.0.0.0:1883",
        &[4, 0, 7],
        b"devices",
        &[5, 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 1],
    ]
    .concat();
    let len = u8::try_from(field.len()).unwrap();
    let head = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00"[..], &[len + 3, 0xE0, 0, len]].concat();
    assert_eq!(written(&header), [head, field].concat());
}

#[test]
fn later_versions_and_unknown_fields() {
    let is_taken = |bytes: &[u8]| Header::read(bytes).map(|whole| whole.is_some());
    assert_eq!(is_taken(&with_fields(VERSION, &[])), Ok(true));
    // Optional fields are passed over; required ones that are not known refuse the header.
    assert_eq!(is_taken(&with_fields(VERSION, &[(OPTIONAL, b"x"), (0xFF, b"")])), Ok(true));
    for kind in [0, KINDS as u8, OPTIONAL - 1] {
        assert!(is_taken(&with_fields(VERSION, &[(kind, b"x")])).is_err(), "{kind}");
    }
    for version in [0, VERSION + 1, u8::MAX] {
        let why = is_taken(&with_fields(version, &[])).unwrap_err();
        assert!(why.to_string().contains("version"), "{why}");
    }
}

#[test]
fn what_is_malformed_is_refused() {
    let other_field = {
        let mut bytes = Vec::new();
        assert!(proxy::write_v2(None, &[TYPE + 1, 0, 1, b'x'], &mut bytes));
        bytes
    };
    let mut cut_off = with_fields(VERSION, &[]);
    *cut_off.last_mut().unwrap() = 0;
    let torn = [&[VERSION][..], &[FRONT, 0, 9, b'a']].concat();
    let both: &[(u8, &[u8])] = &[(AUTH, b"a"), (BY, &[NOTHING])];
    let with = |kind, value: &[u8]| {
        let all: Vec<_> = both.iter().copied().chain([(kind, value)]).collect();
        with_fields(VERSION, &all)
    };
    assert!(Header::read(&with_fields(VERSION, both)).is_ok());
    for (what, bytes) in [
        ("a CONNECT", b"\x10\x0f".to_vec()),
        ("a header of version 1", b"PROXY UNKNOWN\r\n".to_vec()),
        ("no field of ours", other_field),
        ("nothing in it", with_value(&[])),
        ("a version alone", with_value(&[VERSION])),
        ("a field that is cut off", with_value(&torn)),
        ("a field twice", with_fields(VERSION, &[(FRONT, b"b")])),
        ("rights and no auth", with_fields(VERSION, &[(IDENTITY, b"ada")])),
        ("auth and no way", with_fields(VERSION, &[(AUTH, b"a")])),
        ("an unknown way", with_fields(VERSION, &[(AUTH, b"a"), (BY, &[9])])),
        ("no way", with_fields(VERSION, &[(AUTH, b"a"), (BY, &[])])),
        ("nothing, and more", with_fields(VERSION, &[(AUTH, b"a"), (BY, &[NOTHING, 0])])),
        ("a print that is cut off", with_fields(VERSION, &[(AUTH, b"a"), (BY, &[LINE, 1, 2])])),
        ("a certificate that is cut off", with_fields(VERSION, &[(AUTH, b"a"), (BY, &[CERTIFICATE, 5, 1])])),
        ("an identity that is no text", with(IDENTITY, b"\xff")),
        ("a short number", with(EXPIRES, &[0; 7])),
        ("a long number", with(EXPIRES, &[0; 9])),
        ("grants that are no JSON", with(GRANTS, b"{")),
        ("grants that are not understood", with(GRANTS, b"{\"rules\":[{}],\"all\":true,\"roles\":[]}")),
        ("longer than is taken", with(DATA, &[0; LINK_HEADER_BYTES_MAX - 40])),
    ] {
        assert!(Header::read(&bytes).is_err(), "{what}");
    }
}

#[test]
fn a_header_that_is_too_long_is_not_written() {
    let client = Client { data: Some(vec![0; LINK_HEADER_BYTES_MAX].into()), ..full() };
    let mut bytes = b"before".to_vec();
    assert!(!header(Some(client)).write(&mut bytes));
    let client = Client { data: Some(vec![0; 1 << 17].into()), ..full() };
    assert!(!header(Some(client)).write(&mut bytes) && bytes == b"before");
    // The grants of the largest token fit.
    let most: Vec<_> = (0..256)
        .map(|n| json!({ "permission": "allow", "action": "subscribe", "topic": format!("t/{n:029}") }))
        .collect();
    let grants = Some(Arc::new(Grants::read(&json!(most)).unwrap()));
    assert!(header(Some(Client { grants, ..full() })).write(&mut bytes));
}

proptest! {
    #[test]
    fn any_client_comes_through(
        identity in proptest::option::of(".{0,40}"), client_id in proptest::option::of(".{0,40}"), expires_s: Option<u64>,
        data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        print: u64, kind in 0..4usize, names in proptest::array::uniform3(".{0,40}"), generation: i32,
        v6: [u8; 16], port: u16,
    ) {
        let [front, auth, listener] = names.map(Box::from);
        let by = [By::Line(print), By::Scram(print), By::Token(print), By::Nothing][kind].clone();
        let grants = full().grants.filter(|_| print % 2 == 0);
        let (identity, client_id, data) = (identity.map(Into::into), client_id.map(Into::into), data.map(Into::into));
        let client = Client { auth, by, identity, client_id, expires_s, grants, data };
        let source = Some(SocketAddr::from((v6, port)));
        let (waited, stood_still, stamp, owner) = Default::default();
        let client = Some(client);
        let header = Header { source, front, generation, listener, waited, stood_still, stamp, owner, client };
        let bytes = written(&header);
        let (read, len) = Header::read(&bytes).unwrap().expect("whole");
        prop_assert_eq!(len, bytes.len());
        prop_assert_eq!(format!("{read:?}"), format!("{header:?}"));
    }

    /// Any bytes: no panic, no length beyond them, and a verdict that more bytes do not change.
    #[test]
    fn any_bytes_get_a_verdict_that_stands(
        at in 0..400usize, with: u8, cut in 0..400usize, rest in proptest::collection::vec(any::<u8>(), 0..60), is_value: bool,
    ) {
        let bytes = if is_value {
            with_value(&[&[VERSION][..], &rest].concat())
        } else {
            let mut bytes = written(&header(Some(full())));
            let at = at % bytes.len();
            bytes[at] = with;
            bytes
        };
        let verdict = Header::read(&bytes).map(|whole| whole.map(|(header, len)| (format!("{header:?}"), len)));
        if let Ok(Some((_, len))) = &verdict {
            prop_assert!(*len <= bytes.len());
        }
        let earlier = Header::read(&bytes[..cut.min(bytes.len())]).map(|whole| whole.map(|(header, len)| (format!("{header:?}"), len)));
        if earlier != Ok(None) {
            prop_assert_eq!(earlier, verdict);
        }
    }
}
