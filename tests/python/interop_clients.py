"""The clients of `interop.py`: Eclipse Paho, and one that writes its packets by hand for what Paho would not do. Whatever they wait for comes, or
the case fails after PATIENCE_S."""

import queue
import random
import ssl
import sys
import time
from pathlib import Path
from typing import NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))
from link import Link, connect, packet, properties_of, publish, subscribe, text  # noqa: E402

PATIENCE_S = 60
KEPT_S = 3_600  # how long a session is kept in 5.0
RUN = f"{time.time_ns():x}"  # so that a service can be asked again
DRIPPED_MAX = 300  # bytes of a packet that go out one by one: a frame and a record each
CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 5, 6, 7, 9, 13, 14
PINGREQ = b"\xc0\x00"


class Way(NamedTuple):
    """How the service is reached."""

    name: str
    transport: str
    port: int
    tls: ssl.SSLContext | None
    drips: bool  # through a proxy that passes on each byte by itself


def properties(packet_type: int, given: dict) -> Properties | None:
    """As Paho takes them, by its names."""
    made = Properties(packet_type)
    for name, value in given.items():
        setattr(made, name, value)
    return made if given else None


class Paho:
    """A connected client, which never reconnects by itself. `kept`: it continues its session, or begins one that is kept for an hour.
    `given`: properties of CONNECT."""

    def __init__(self, way: Way, is_5: bool, name: str, *, kept: bool = False, keep_alive_s: int = 60, **given):
        self.is_5, self.messages, self.told, self.ended = is_5, queue.Queue(), queue.Queue(), queue.Queue()
        self.published: dict[int, mqtt.ReasonCode] = {}
        version = {"protocol": mqtt.MQTTv5} if is_5 else {"protocol": mqtt.MQTTv311, "clean_session": not kept}
        transport = "websockets" if way.transport in ("ws", "wss") else "tcp"
        self.client = client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, transport=transport, reconnect_on_failure=False, **version)
        if transport == "websockets":
            client.ws_set_options(path="/mqtt")
        if way.tls:
            client.tls_set_context(way.tls)
        self.listen()
        if is_5:
            given = {"SessionExpiryInterval": KEPT_S if kept else 0} | given
            client.connect("localhost", way.port, keep_alive_s, clean_start=not kept, properties=properties(PacketTypes.CONNECT, given))
        else:
            client.connect("localhost", way.port, keep_alive_s)
        client.loop_start()
        self.flags, reason, self.properties = self.told.get(timeout=PATIENCE_S)
        assert not reason.is_failure, reason

    def listen(self) -> None:
        client = self.client
        client.on_connect = lambda _client, _data, flags, reason, given: self.told.put((flags, reason, given))
        client.on_subscribe = lambda _client, _data, _id, codes, _given: self.told.put([code.value for code in codes])
        client.on_unsubscribe = client.on_subscribe
        client.on_message = lambda _client, _data, message: self.messages.put(message)
        client.on_publish = lambda _client, _data, packet_id, reason, _given: self.published.update({packet_id: reason.value})
        client.on_disconnect = lambda _client, _data, _flags, reason, _given: self.ended.put(reason.value)

    @property
    def session_present(self) -> bool:
        return self.flags.session_present

    def subscribe(self, *filters: str, qos: int = 2, identifier: int = 0, **options) -> list[int]:
        """The reason codes. `options` as Paho's SubscribeOptions has them."""
        given = {"SubscriptionIdentifier": identifier} if identifier else {}
        wanted = [(filter, SubscribeOptions(qos, **options) if self.is_5 else qos) for filter in filters]
        self.client.subscribe(wanted, properties=properties(PacketTypes.SUBSCRIBE, given))
        return self.told.get(timeout=PATIENCE_S)

    def unsubscribe(self, *filters: str) -> list[int]:
        self.client.unsubscribe(list(filters))
        return self.told.get(timeout=PATIENCE_S)

    def send(self, topic: str, payload: str, qos: int = 1, retain: bool = False, **given) -> mqtt.MQTTMessageInfo:
        """Publishes, and does not wait."""
        return self.client.publish(topic, payload, qos, retain, properties=properties(PacketTypes.PUBLISH, given))

    def publish(self, topic: str, payload: str, qos: int = 1, retain: bool = False, **given) -> int:
        """Publishes, and waits until it is acknowledged: the reason code, with QoS 0 0."""
        sent = self.send(topic, payload, qos, retain, **given)
        sent.wait_for_publish(PATIENCE_S)
        assert sent.is_published(), f"{payload!r} at QoS {qos} is not acknowledged"
        return self.published.get(sent.mid, 0)

    def next(self) -> mqtt.MQTTMessage:
        return self.messages.get(timeout=PATIENCE_S)

    def take(self, count: int) -> list[mqtt.MQTTMessage]:
        return [self.next() for _ in range(count)]

    def until(self, payload: str) -> list[mqtt.MQTTMessage]:
        """What comes before this one."""
        came = []
        while (message := self.next()).payload != payload.encode():
            came.append(message)
        return came

    def expect_end(self, reason: int) -> None:
        """The service ends the connection, for this reason."""
        ended = self.ended.get(timeout=PATIENCE_S)
        assert ended == reason, f"disconnected with {ended:#04x}, not {reason:#04x}"

    def leave(self, reason: int = 0, **given) -> None:
        """DISCONNECT, with this reason code and these properties in 5.0."""
        if self.is_5:
            code = mqtt.ReasonCode(PacketTypes.DISCONNECT, identifier=reason)
            self.client.disconnect(code, properties(PacketTypes.DISCONNECT, given))
        else:
            self.client.disconnect()
        self.client.loop_stop()


def expiry(seconds: int) -> bytes:
    """Session Expiry Interval."""
    return b"\x11" + seconds.to_bytes(4, "big")


class Hand(Link):
    """A client whose packets the case writes. Through a proxy that drips, over TLS and WebSocket, each byte is a record or frame of its own."""

    def __init__(self, way: Way, is_5: bool):
        super().__init__(way.transport, way.port, random.Random(0))
        self.sock.settimeout(PATIENCE_S)
        self.is_5, self.drips, self.frames, self.packets = is_5, way.drips, b"", b""

    def connect(
        self, name: str, *, kept: bool = False, expiry_s: int = KEPT_S, will: tuple[str, str, bytes] | None = None, given: bytes = b"", **more
    ) -> bytes:
        """CONNECT: flags, reason code and properties of the CONNACK. `kept`: as of `Paho`, in 5.0 for `expiry_s`; `will`: topic, payload and
        properties of 5.0; `given`: the packet's."""
        given += expiry(expiry_s) if kept else b""
        if will:
            topic, payload, of_will = will
            more["will"] = properties_of(of_will if self.is_5 else None) + text(topic) + text(payload)
        self.write(connect(name, properties=given if self.is_5 else None, flags=0 if kept else 2, **more))
        return self.expect(CONNACK)

    def publish(self, topic: str, payload: str, **more) -> None:
        self.write(publish(topic, payload.encode(), **{"properties": b"" if self.is_5 else None} | more))

    def subscribe(self, filter: str, qos: int = 2, given: bytes = b"") -> int:
        """The reason code."""
        self.write(subscribe(filter, qos, properties=given if self.is_5 else None))
        return self.expect(SUBACK)[-1]

    def answer_with(self, kind: int, packet_id: int) -> None:
        """PUBACK, PUBREC, PUBREL or PUBCOMP."""
        self.write(packet(kind << 4 | 2 * (kind == PUBREL), packet_id.to_bytes(2, "big")))

    def write(self, data: bytes) -> None:
        (self.dripped if self.drips and len(data) < DRIPPED_MAX else self.send)(data)

    def leave(self, given: bytes = b"") -> None:
        """DISCONNECT; the service has seen it then, which it may not yet have when Paho's `leave` returns. `given`: properties of 5.0."""
        self.write(packet(0xE0, b"\x00" + properties_of(given) if given else b""))
        self.expect_end()

    def expect(self, kind: int) -> bytes:
        """The body of the next packet, which is of this type."""
        first, body = self.next()
        assert first >> 4 == kind, f"a packet of type {first >> 4} with {body.hex()}, not {kind}"
        return body

    def expect_publish(self) -> "Came":
        first, body = self.next()
        assert first >> 4 == PUBLISH, f"a packet of type {first >> 4} with {body.hex()}"
        length = 2 + int.from_bytes(body[:2], "big")
        packet_id = int.from_bytes(body[length : length + 2], "big") if first & 6 else 0
        rest = body[length + 2 * bool(first & 6) :]
        if self.is_5:
            rest = rest[1 + rest[0] :]  # no case has more than 127 bytes of properties
        return Came(body[2:length].decode(), rest.decode(), first >> 1 & 3, bool(first & 8), packet_id)

    def expect_end(self, *reasons: int) -> None:
        """The service ends the connection; in 5.0 first with DISCONNECT and one of these reason codes."""
        if self.is_5 and reasons:
            reason = self.expect(DISCONNECT)[0]
            assert reason in reasons, f"disconnected with {reason:#04x}"
        try:
            first, body = self.next()
        except TimeoutError:
            raise
        except OSError:
            return
        raise AssertionError(f"a packet of type {first >> 4} with {body.hex()}, not the end")

    def next(self) -> tuple[int, bytes]:
        """The next one: its first byte and its body. Raises OSError at the end of the connection."""
        first = self.take(1)[0]
        length, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            length, shift = length | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return first, self.take(length)

    def take(self, count: int) -> bytes:
        """Of MQTT."""
        while len(self.packets) < count:
            self.packets += self.payload() if self.web else self.some()
        found, self.packets = self.packets[:count], self.packets[count:]
        return found

    def payload(self) -> bytes:
        """Of the next WebSocket frame, which a server does not mask."""
        opcode, length = self.framed(2)
        assert not length & 0x80, "a masked frame"
        if length > 125:
            length = int.from_bytes(self.framed(2 if length == 126 else 8), "big")
        payload = self.framed(length)
        if opcode & 0x0F == 8:
            raise ConnectionError(f"WebSocket closed: {payload.hex()}")
        return payload if opcode & 0x0F < 3 else b""

    def framed(self, count: int) -> bytes:
        while len(self.frames) < count:
            self.frames += self.some()
        found, self.frames = self.frames[:count], self.frames[count:]
        return found

    def some(self) -> bytes:
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionError("the end of the connection")
        return data


class Came(NamedTuple):
    """A PUBLISH."""

    topic: str
    payload: str
    qos: int
    dup: bool
    packet_id: int


class Case:
    """What a case uses: clients of its version over its way, and names and topics that no other one has."""

    def __init__(self, way: Way, version: str, name: str):
        self.way, self.is_5, self.base = way, version == "5.0", f"{RUN}/{name}/{way.name}/{version}"
        self.clients = []

    def topic(self, *levels: str) -> str:
        return "/".join([self.base, *levels])

    def paho(self, name: str, **more) -> Paho:
        """See `Paho`. An empty name is sent as it is."""
        client = Paho(self.way, self.is_5, name and self.topic(name), **more)
        self.clients.append(client)
        return client

    def hand(self, name: str, **more) -> Hand:
        """See `Hand.connect`; connected."""
        client = self.open()
        reply = client.connect(self.topic(name), **more)
        assert reply[1] == 0, f"refused with {reply[1]:#04x}"
        client.session_present = bool(reply[0])
        return client

    def open(self) -> Hand:
        """Not connected yet."""
        client = Hand(self.way, self.is_5)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.leave() if isinstance(client, Paho) else client.close()
