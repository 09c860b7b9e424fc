//! A remote of a bridge that says anything: CONNACK, and answers to SUBSCRIBE and UNSUBSCRIBE. The fuzz target `remote` uses it.

use crate::asked::{Asked, Standing, Wanted};
use crate::login::{Greeted, Login, Versions};
use forebay_mqtt as mqtt;
use forebay_mqtt::any_packet::{MAXIMUM_PACKET_SIZE, read};
use forebay_mqtt::packet::{Packet, QoS, Sender, SubscriptionOptions, Version};

/// Lets the remote answer a client of one of the forms that CONNECT has, and judges all that the client says to that.
pub fn answers(form: u8, filters: &[&str], bytes: &[u8]) {
    let login = Login {
        versions: Versions::Any,
        says_bridge: true,
        client_id: "bridge".into(),
        username: None,
        password: None,
        clean_start: form & 4 != 0,
        session_expiry_s: 3600,
        keep_alive_s: 60,
        receive_maximum: 100,
        packet_bytes_max: MAXIMUM_PACKET_SIZE,
        in_flight_max: None,
        instance: "0123456789abcdef".into(),
    };
    let form = login.form(usize::from(form & 3), false);
    let mut connect = Vec::new();
    login.write(form, &mut connect);
    let frame = mqtt::frame::next_connect(&connect, MAXIMUM_PACKET_SIZE).expect("well-formed").expect("whole");
    let said = mqtt::decode::connect(frame).expect("well-formed");
    assert_eq!((said.version, said.is_bridge, frame.len), (form.version, form.is_bridge, connect.len()));
    // Bytes are read in two pieces as in one.
    let greeted = login.read(form, bytes);
    if let Ok(Some((_, len))) = &greeted {
        assert!(matches!(login.read(form, &bytes[..len - 1]), Ok(None)), "not whole");
        assert_eq!(login.read(form, &bytes[..*len]), greeted);
    }
    let Ok(Some((Greeted::Yes(granted), used))) = greeted else { return };
    assert!(granted.in_flight_max > 0 && granted.packet_size_max > 0 && granted.version == form.version);
    assert!(!(granted.session_present && login.clean_start));
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    let is_filter = |filter: &&&str| mqtt::topic::valid_filter(filter);
    let wanted = filters.iter().filter(is_filter).map(|filter| Wanted { filter: (*filter).into(), options });
    let mut asked = Asked::new(&wanted.collect::<Vec<_>>(), &["gone".into()]);
    let mut stream = &bytes[used..];
    loop {
        let mut out = Vec::new();
        asked.write(&granted, &mut out);
        said_by_client(granted.version, &out, granted.packet_size_max);
        assert!(asked.is_over() || asked.is_awaited());
        let Some((packet, len)) = read(granted.version, Sender::Server, stream) else { break };
        stream = &stream[len..];
        let taken = match packet {
            Packet::SubAck(suback) => asked.suback(&suback),
            Packet::UnsubAck(unsuback) => asked.unsuback(&unsuback),
            Packet::PingResp => {
                if asked.is_over() {
                    asked.ask_again();
                }
                Ok(())
            }
            _ => Ok(()),
        };
        if taken.is_err() {
            break;
        }
        assert!(!asked.is_over() || !asked.standings().contains(&Standing::Open));
    }
}

/// At most one packet, which the remote takes.
fn said_by_client(version: Version, bytes: &[u8], most: u32) {
    if bytes.is_empty() {
        return;
    }
    let (packet, len) = read(version, Sender::Client, bytes).expect("well-formed");
    assert_eq!(len, bytes.len(), "one at a time");
    assert!(len <= most as usize, "{len} of {most} bytes");
    let filters = match packet {
        Packet::Subscribe(subscribe) => subscribe.filters.count(),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters.count(),
        other => panic!("{other:?}"),
    };
    assert!((1..=8).contains(&filters));
}
