"""The cases of `interop.py` that 3.1.1 and 5.0 have in common. That nothing comes is not waited for: something else comes that was
published after it."""

from interop_clients import PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBREC, PUBREL, Case
from link import connect

DENIED = "nosubscribe"  # the access control list grants everything else


def texts(messages: list) -> list[str]:
    return [message.payload.decode() for message in messages]


def basic(case: Case) -> None:
    """A second connection under the same name, a message at each QoS, a second CONNECT, another protocol."""
    case.paho("a").leave()
    client, topic = case.paho("a"), case.topic("t")
    assert not client.session_present
    assert client.subscribe(topic) == [2]
    for qos in range(3):
        client.publish(topic, f"at {qos}", qos)
    assert sorted((message.qos, message.payload) for message in client.take(3)) == [(0, b"at 0"), (1, b"at 1"), (2, b"at 2")]
    twice = case.hand("twice")
    twice.write(connect("twice", properties=b"" if case.is_5 else None))
    twice.expect_end(0x82)
    foreign = case.open()
    foreign.write(connect("foreign", properties=b"" if case.is_5 else None, protocol="MQXX"))
    foreign.expect_end()


def retained(case: Case) -> None:
    """What is retained comes to a new subscription with RETAIN, and not any more when an empty message has ended it."""
    client = case.paho("a")
    for qos in range(3):
        client.publish(case.topic(str(qos)), f"at {qos}", qos, retain=True)
    client.subscribe(case.topic("+"))
    came = sorted((message.qos, message.payload, message.retain) for message in client.take(3))
    assert came == [(0, b"at 0", True), (1, b"at 1", True), (2, b"at 2", True)], came
    for qos in range(3):
        client.publish(case.topic(str(qos)), "", qos, retain=True)
    assert [(message.payload, message.retain) for message in client.take(3)] == [(b"", False)] * 3
    client.unsubscribe(case.topic("+"))
    client.publish(case.topic("last"), "last", retain=True)
    client.subscribe(case.topic("+"))
    message = client.next()
    assert (message.payload, message.retain) == (b"last", True), message.payload
    client.publish(case.topic("last"), "", retain=True)
    assert client.next().payload == b""


def zero_length_client_id(case: Case) -> None:
    """5.0 assigns one; so does 3.1.1, unless the session were to be kept."""
    case.paho("").leave()
    client = case.open()
    reply = client.connect("", kept=True)
    if case.is_5:
        assert reply[1] == 0, reply.hex()
    else:
        assert reply == b"\x00\x02", reply.hex()
        client.expect_end()


def offline_queueing(case: Case) -> None:
    """A kept session gets what was published meanwhile, but for QoS 0."""
    away = case.hand("away", kept=True)
    away.subscribe(case.topic("+"))
    away.leave()
    publisher = case.paho("publisher")
    for qos in range(3):
        publisher.publish(case.topic(str(qos)), f"at {qos}", qos)
    back = case.paho("away", kept=True)
    assert back.session_present
    assert sorted((message.qos, message.payload) for message in back.take(2)) == [(1, b"at 1"), (2, b"at 2")]
    publisher.publish(case.topic("end"), "end")
    assert back.until("end") == []


def overlapping_subscriptions(case: Case) -> None:
    """One message for all filters of a client that match, at the highest QoS."""
    client = case.paho("a")
    assert client.subscribe(case.topic("#"), qos=2) + client.subscribe(case.topic("+"), qos=1) == [2, 1]
    for payload in ("both", "end"):
        client.publish(case.topic("t"), payload, 2)
    assert [(message.payload, message.qos) for message in client.until("end")] == [(b"both", 2)]


def keep_alive(case: Case) -> None:
    """A client that says nothing for one and a half times its keep-alive is disconnected, and its will published."""
    watcher, topic = case.paho("watcher"), case.topic("will")
    watcher.subscribe(topic)
    silent = case.hand("silent", keep_alive_s=1, will=(topic, "silent", b""))
    assert texts(watcher.take(1)) == ["silent"]
    silent.expect_end(0x8D)


def will(case: Case) -> None:
    """Not after DISCONNECT; if the connection is lost, it is published."""
    watcher, topic = case.paho("watcher"), case.topic("will")
    watcher.subscribe(topic)
    case.hand("orderly", will=(topic, "of the orderly one", b"")).leave()
    case.hand("lost", will=(topic, "of the lost one", b"")).vanish()
    assert texts(watcher.take(1)) == ["of the lost one"]


def redelivery(case: Case) -> None:
    """What a subscriber has not acknowledged comes again on its next connection, with DUP and under the same packet identifier; of QoS 2
    what it has not completed."""
    publisher, client = case.paho("publisher"), case.hand("client", kept=True)
    client.subscribe(case.topic("+"))
    for qos in (1, 2):
        publisher.publish(case.topic(str(qos)), f"at {qos}", qos)
    first = sorted(client.expect_publish() for _ in range(2))
    assert [(came.payload, came.qos, came.dup) for came in first] == [("at 1", 1, False), ("at 2", 2, False)], first
    client.vanish()

    client = case.hand("client", kept=True)
    assert client.session_present
    again = sorted(client.expect_publish() for _ in range(2))
    assert again == [came._replace(dup=True) for came in first], again
    client.answer_with(PUBACK, first[0].packet_id)
    client.answer_with(PUBREC, first[1].packet_id)
    released = client.expect(PUBREL)[:2]
    assert int.from_bytes(released, "big") == first[1].packet_id
    client.vanish()

    client = case.hand("client", kept=True)
    assert client.expect(PUBREL)[:2] == released
    client.answer_with(PUBCOMP, first[1].packet_id)
    publisher.publish(case.topic("1"), "end", 1)
    assert client.expect_publish().payload == "end"


def publisher_repeats(case: Case) -> None:
    """A QoS 2 message that its publisher sends again on its next connection is published once."""
    watcher, topic = case.paho("watcher"), case.topic("t")
    watcher.subscribe(topic)
    client = case.hand("client", kept=True)
    client.publish(topic, "once", qos=2, packet_id=7)
    assert client.expect(PUBREC)[:2] == b"\x00\x07"
    client.vanish()
    client = case.hand("client", kept=True)
    assert client.session_present
    client.publish(topic, "once", qos=2, packet_id=7, dup=True)
    assert client.expect(PUBREC)[:2] == b"\x00\x07"
    client.answer_with(PUBREL, 7)
    assert client.expect(PUBCOMP)[:2] == b"\x00\x07"
    client.publish(topic, "end", qos=2, packet_id=7)
    assert texts(watcher.until("end")) == ["once"]


def subscribe_failure(case: Case) -> None:
    """Of a filter that may not be read; the others of the packet are granted."""
    client, topic = case.paho("a"), case.topic("t")
    assert client.subscribe(DENIED, topic) == [0x87 if case.is_5 else 0x80, 2]
    client.publish(topic, "granted")
    assert texts(client.take(1)) == ["granted"]


def dollar_topics(case: Case) -> None:
    """A filter that begins with a wildcard does not match a topic that begins with `$`."""
    level = case.base.replace("/", "-")
    wild, named, publisher = case.paho("wild"), case.paho("named"), case.paho("publisher")
    wild.subscribe(f"+/{level}")
    named.subscribe(f"$interop/{level}")
    publisher.publish(f"$interop/{level}", "hidden")
    publisher.publish(f"open/{level}", "end")
    assert wild.until("end") == []
    assert texts(named.take(1)) == ["hidden"]


def unsubscribe(case: Case) -> None:
    """Nothing comes of a filter that was given up; 5.0 says whether there was one."""
    client, publisher = case.paho("client"), case.paho("publisher")
    client.subscribe(*(case.topic(name) for name in "abc"))
    codes = client.unsubscribe(case.topic("a"), case.topic("other"))
    assert codes == ([0, 0x11] if case.is_5 else []), codes
    for name in "abc":
        publisher.publish(case.topic(name), name)
    assert texts(client.take(2)) == ["b", "c"]


def ping(case: Case) -> None:
    client = case.hand("a")
    client.write(PINGREQ)
    assert client.expect(PINGRESP) == b""


CASES = [
    basic,
    retained,
    zero_length_client_id,
    offline_queueing,
    overlapping_subscriptions,
    keep_alive,
    will,
    redelivery,
    publisher_repeats,
    subscribe_failure,
    dollar_topics,
    unsubscribe,
    ping,
]
