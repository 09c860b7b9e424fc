"""The cases of `interop.py` that only 5.0 has (see `interop_cases.py`)."""

import time
from itertools import count

from interop_cases import DENIED, texts
from interop_clients import DISCONNECT, KEPT_S, PATIENCE_S, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBREC, PUBREL, Case, Hand, Paho, expiry

# What the service is configured with (`tests/clients.rs`).
KEEP_ALIVE_MAX_S = 60
RECEIVE_MAXIMUM = 20
PACKET_BYTES_MAX = 4_096


def alias_of(message) -> int | None:
    return getattr(message.properties, "TopicAlias", None)


def session_expiry(case: Case) -> None:
    """0 ends a session with its connection; DISCONNECT can make it longer or end it; and it expires."""

    def next_one(expiry_s: int = 1) -> Hand:
        return case.hand("a", kept=True, expiry_s=expiry_s)

    next_one(0).leave()
    client = next_one()
    assert not client.session_present
    client.leave(expiry(KEPT_S))
    time.sleep(2.5)
    client = next_one()
    assert client.session_present, "DISCONNECT made it longer"
    client.leave(expiry(0))
    client = next_one()
    assert not client.session_present, "DISCONNECT ended it"
    deadline = time.monotonic() + PATIENCE_S
    for pause_s in count(2):
        client.leave()
        time.sleep(pause_s)
        client = next_one()
        if not client.session_present:
            return
        assert time.monotonic() < deadline, "it does not expire"


def assigned_client_id(case: Case) -> None:
    """The session of an assigned identifier can be continued."""
    client = case.paho("", kept=True)
    name = client.properties.AssignedClientIdentifier
    assert name
    client.leave()
    again = Paho(case.way, True, name, kept=True)
    case.clients.append(again)
    assert again.session_present and not hasattr(again.properties, "AssignedClientIdentifier")


def server_keep_alive(case: Case) -> None:
    assert case.paho("a", keep_alive_s=2 * KEEP_ALIVE_MAX_S).properties.ServerKeepAlive == KEEP_ALIVE_MAX_S
    assert not hasattr(case.paho("b", keep_alive_s=KEEP_ALIVE_MAX_S // 2).properties, "ServerKeepAlive")


def receive_maximum_of_the_client(case: Case) -> None:
    """No more than so many unacknowledged messages come; the next one comes for an acknowledgement."""
    topic, watcher = case.topic("t"), case.paho("watcher")
    client = case.hand("client", given=b"\x21\x00\x02")
    watcher.subscribe(topic)
    client.subscribe(topic, 1)
    for number in range(3):
        watcher.publish(topic, f"{number}")
    watcher.take(3)
    first, second = client.expect_publish(), client.expect_publish()
    client.write(PINGREQ)
    client.expect(PINGRESP)
    client.answer_with(PUBACK, first.packet_id)
    assert [first.payload, second.payload, client.expect_publish().payload] == ["0", "1", "2"]


def receive_maximum_of_the_service(case: Case) -> None:
    """It is told, and one message more ends the connection."""
    assert case.paho("told").properties.ReceiveMaximum == RECEIVE_MAXIMUM
    client = case.hand("client")
    for packet_id in range(1, RECEIVE_MAXIMUM + 2):
        client.publish(case.topic("t"), "x", qos=2, packet_id=packet_id)
    kind, body = PUBREC, b""
    while kind == PUBREC:
        first, body = client.next()
        kind = first >> 4
    assert (kind, body[0]) == (DISCONNECT, 0x93), f"a packet of type {kind} with {body.hex()}"


def maximum_packet_size(case: Case) -> None:
    """The client gets nothing larger than it takes; a larger one than the service takes ends the connection."""
    topic, client = case.topic("t"), case.paho("client", MaximumPacketSize=150)
    publisher = case.paho("publisher")
    assert publisher.properties.MaximumPacketSize == PACKET_BYTES_MAX
    client.subscribe(topic)
    for payload in ("small", "x" * 150, "end"):
        publisher.publish(topic, payload)
    assert texts(client.until("end")) == ["small"]
    publisher.send(topic, "x" * PACKET_BYTES_MAX, 0)
    publisher.expect_end(0x95)


def topic_aliases_of_the_client(case: Case) -> None:
    """They hold for a connection; 0, more than the maximum, and one without a topic end it."""
    topic, client = case.topic("t"), case.paho("client")
    most = client.properties.TopicAliasMaximum
    client.subscribe(topic)
    client.publish(topic, "with its topic", TopicAlias=most)
    client.publish("", "by its alias", TopicAlias=most)
    assert [(message.topic, message.payload) for message in client.take(2)] == [(topic, b"with its topic"), (topic, b"by its alias")]
    for name, number, reason in ((topic, 0, 0x94), (topic, most + 1, 0x94), ("", most, 0x82)):
        wrong = case.hand("wrong")
        wrong.publish(name, "wrong", properties=b"\x23" + number.to_bytes(2, "big"))
        wrong.expect_end(reason)


def topic_aliases_of_the_service(case: Case) -> None:
    """For a client that takes some: the first message has alias and topic, the next ones the alias alone."""
    topic, publisher = case.topic("t"), case.paho("publisher")
    takes, takes_none = case.paho("takes", TopicAliasMaximum=1), case.paho("takes none")
    for client in (takes, takes_none):
        client.subscribe(topic)
    for qos in (1, 1, 0):
        publisher.publish(topic, "x", qos)
    came = takes.take(3)
    assert [message.topic for message in came] == [topic, "", ""]
    assert [alias_of(message) for message in came] == [1, 1, 1]
    assert [(message.topic, alias_of(message)) for message in takes_none.take(3)] == [(topic, None)] * 3


def user_properties(case: Case) -> None:
    """They come in order, with duplicates, at each QoS."""
    topic, client, pairs = case.topic("t"), case.paho("a"), [("unit", "C"), ("site", "north"), ("unit", "K")]
    client.subscribe(topic)
    for qos in range(3):
        client.publish(topic, "x", qos, UserProperty=pairs)
    for message in client.take(3):
        assert message.properties.UserProperty == pairs, message.properties


def payload_format(case: Case) -> None:
    topic, client = case.topic("t"), case.paho("a")
    client.subscribe(topic)
    for qos in range(3):
        client.publish(topic, "{}", qos, PayloadFormatIndicator=1, ContentType="application/json")
    for message in client.take(3):
        assert (message.properties.PayloadFormatIndicator, message.properties.ContentType) == (1, "application/json"), message.properties


def publication_expiry(case: Case) -> None:
    """What has expired while its subscriber was away does not come; of the others the interval has become shorter."""
    topic, away, publisher = case.topic("t"), case.hand("away", kept=True), case.paho("publisher")
    away.subscribe(topic)
    away.leave()
    for qos in (1, 2):
        publisher.publish(topic, "short", qos, MessageExpiryInterval=1)
        publisher.publish(topic, "long", qos, MessageExpiryInterval=KEPT_S)
    time.sleep(2.5)
    back = case.paho("away", kept=True)
    for message in back.take(2):
        assert (message.payload, message.dup) == (b"long", False), message.properties
        assert message.properties.MessageExpiryInterval < KEPT_S, message.properties
    publisher.publish(topic, "end")
    assert back.until("end") == []


def no_local(case: Case) -> None:
    topic, one, other = case.topic("t"), case.paho("one"), case.paho("other")
    one.subscribe(topic, noLocal=True)
    other.subscribe(topic, noLocal=True)
    one.publish(topic, "of one")
    other.publish(topic, "of other")
    assert texts(one.take(1) + other.take(1)) == ["of other", "of one"]


def retain_as_published(case: Case) -> None:
    topic, as_published, usual = case.topic("t"), case.paho("as published"), case.paho("usual")
    as_published.subscribe(topic, retainAsPublished=True)
    usual.subscribe(topic)
    for retain in (False, True):
        usual.publish(topic, "x", retain=retain)
    assert [message.retain for message in as_published.take(2)] == [False, True]
    assert [message.retain for message in usual.take(2)] == [False, False]
    usual.publish(topic, "", retain=True)


def retain_handling(case: Case) -> None:
    """0: with each SUBSCRIBE, 1: only if the subscription is new, 2: not at all."""
    topic, client = case.topic("t"), case.paho("a")
    client.publish(topic, "retained", retain=True)

    def came(handling: int) -> list[bool]:
        """RETAIN of what comes before a live message."""
        client.subscribe(topic, retainHandling=handling)
        client.publish(topic, "live")
        return [message.retain for message in client.until("live")]

    client.subscribe(topic, retainHandling=1)
    assert client.next().retain, "a new subscription"
    assert came(1) == [], "an old one"
    client.subscribe(topic, retainHandling=0)
    assert client.next().retain, "an old one"
    client.unsubscribe(topic)
    assert came(2) == [], "a new one"
    client.publish(topic, "", retain=True)
    assert not client.next().payload


def subscription_identifiers(case: Case) -> None:
    """Those of all filters that match, in one message."""
    topic, one, both = case.topic("t"), case.paho("one"), case.paho("both")
    one.subscribe(topic, identifier=268_435_455)
    both.subscribe(topic, identifier=2)
    both.subscribe(case.topic("#"), identifier=3)
    both.publish(topic, "x")
    assert one.next().properties.SubscriptionIdentifier == [268_435_455]
    assert sorted(both.next().properties.SubscriptionIdentifier) == [2, 3]
    both.publish(topic, "end")
    assert both.until("end") == []


def request_response(case: Case) -> None:
    requests, replies, asks, replies_to = case.topic("requests"), case.topic("replies"), case.paho("asks"), case.paho("replies")
    asks.subscribe(replies)
    replies_to.subscribe(requests)
    asks.publish(requests, "request", ResponseTopic=replies, CorrelationData=b"\x00\xff")
    request = replies_to.next().properties
    assert (request.ResponseTopic, request.CorrelationData) == (replies, b"\x00\xff")
    replies_to.publish(request.ResponseTopic, "response", CorrelationData=request.CorrelationData)
    response = asks.next()
    assert (response.payload, response.properties.CorrelationData) == (b"response", b"\x00\xff")


def shared_subscriptions(case: Case) -> None:
    """Each message goes to one member, and to everyone else who has subscribed."""
    topic, members, other = case.topic("t"), [case.paho("1"), case.paho("2")], case.paho("other")
    for member in members:
        member.subscribe(f"$share/members/{topic}", case.topic("all"))
    other.subscribe(topic)
    payloads = [f"{number}" for number in range(10)]
    for payload in payloads:
        other.publish(topic, payload)
    assert texts(other.take(10)) == payloads
    # Whatever has no room yet follows, so it is waited for.
    came: list[str] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(came) < 10 and time.monotonic() < deadline:
        time.sleep(0.05)
        came += [text for member in members for text in texts([member.messages.get() for _ in range(member.messages.qsize())])]
    other.publish(case.topic("all"), "end")
    came += [text for member in members for text in texts(member.until("end"))]
    assert sorted(came) == payloads, came


def will_properties(case: Case) -> None:
    """A DISCONNECT with reason code 0x04 publishes the will, with its properties."""
    topic, watcher = case.topic("will"), case.paho("watcher")
    watcher.subscribe(topic)
    leaves = case.hand("leaves", will=(topic, "will", b"\x26\x00\x01a\x00\x012\x26\x00\x01c\x00\x013"))
    leaves.write(b"\xe0\x01\x04")  # with this reason code
    message = watcher.next()
    assert (message.payload, message.properties.UserProperty) == (b"will", [("a", "2"), ("c", "3")]), message.properties


def will_delay(case: Case) -> None:
    """The will waits for its delay or for the end of the session, whichever is first; a client that returns takes it back."""
    topic, watcher = case.topic("will"), case.paho("watcher")
    watcher.subscribe(topic)

    def lost(name: str, delay_s: int, expiry_s: int) -> float:
        """When it was lost."""
        client = case.hand(name, kept=True, expiry_s=expiry_s, will=(topic, name, b"\x18" + delay_s.to_bytes(4, "big")))
        begin = time.monotonic()
        client.vanish()
        return begin

    lost("returns", 2, KEPT_S)
    assert case.paho("returns", kept=True).session_present
    for name, delay_s, expiry_s, wait_s in (("delay", 2, KEPT_S, 2), ("session", KEPT_S, 2, 2), ("no session", KEPT_S, 0, 0)):
        begin = lost(name, delay_s, expiry_s)
        assert texts(watcher.take(1)) == [name]
        assert time.monotonic() - begin >= wait_s, f"{name}: too early"


def reason_codes(case: Case) -> None:
    """Of what matches nothing, of what is denied, of identifiers that are not in use, and of a client that is taken over."""
    client, by_hand = case.paho("a"), case.hand("by hand")
    for topic, reason in ((case.topic("nowhere"), 0x10), (DENIED, 0x87)):
        assert client.publish(topic, "x") == reason
        by_hand.publish(topic, "x", qos=2, packet_id=9)  # Paho does not hand on what a PUBREC says
        assert by_hand.expect(PUBREC)[2] == reason
        if reason < 0x80:
            by_hand.answer_with(PUBREL, 9)
            by_hand.expect(PUBCOMP)
    by_hand.answer_with(PUBREL, 9)
    assert by_hand.expect(PUBCOMP)[:3] == b"\x00\x09\x92"
    case.paho("a")
    client.expect_end(0x8E)


CASES = [
    session_expiry,
    will_delay,
    publication_expiry,
    assigned_client_id,
    server_keep_alive,
    receive_maximum_of_the_client,
    receive_maximum_of_the_service,
    maximum_packet_size,
    topic_aliases_of_the_client,
    topic_aliases_of_the_service,
    user_properties,
    payload_format,
    no_local,
    retain_as_published,
    retain_handling,
    subscription_identifiers,
    request_response,
    shared_subscriptions,
    will_properties,
    reason_codes,
]
