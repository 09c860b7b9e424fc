"""A subscriber with a kept session, as the standard wants it: bytes in, bytes out, no socket. It keeps over connections which packet identifiers of
QoS 2 it has, and notes what it got, and what a server may not do, as far as one client can tell (`copies.py` judges the rest)."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from copies import NEVER, Copy, Filter, Heard
from link import packet, text, varint
from messages import Key, Payloads, Wrong

CONNACK, PUBLISH, PUBREL, SUBACK, PINGRESP, DISCONNECT = 2, 3, 6, 9, 13, 14
BEFORE_5_MAX = 64  # unacknowledged messages that a client gets before 5.0 (docs/SUBSCRIPTIONS.md)
EXPIRY_S = 3_600
FAULTS_MAX = 20


@dataclass
class Manner:
    """What kind of client it is."""

    name: str
    v5: bool
    filters: list[Filter]
    receive_maximum: int = 65_535  # 5.0
    aliases: int = 0  # Topic Alias Maximum
    at_release: bool = False  # it hands a message of QoS 2 on at PUBREL instead of at PUBLISH
    refusals: tuple[int, ...] = ()  # what CONNACK may say: it comes again later

    @property
    def open_max(self) -> int:
        return self.receive_maximum if self.v5 else BEFORE_5_MAX


class Malformed(Exception):
    """What no server may say: the connection is to be closed."""


def variable(data: bytes, at: int) -> tuple[int, int] | None:
    """A variable byte integer and what is behind it; `None`: not all of it is there."""
    value = 0
    for shift in range(4):
        if at + shift >= len(data):
            return None
        byte = data[at + shift]
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, at + shift + 1
    raise Malformed("a length of more than four bytes")


def packets(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yields each packet that is complete: its first byte, its body, and the offset of the next one."""
    at = 0
    while at + 2 <= len(data) and (sized := variable(data, at + 1)) and sum(sized) <= len(data):
        first, (length, begin) = data[at], sized
        at = begin + length
        yield first, data[begin:at], at


class Published(NamedTuple):
    """The parts of a PUBLISH. `packet_id`: 0 at QoS 0. `properties`: without their length; before 5.0 none."""

    topic: str
    qos: int
    packet_id: int
    properties: bytes
    payload: bytes

    @classmethod
    def of(cls, first: int, body: bytes, v5: bool = True) -> "Published":
        at = 2 + int.from_bytes(body[:2], "big")
        topic, qos, packet_id, size = body[2:at].decode(), first >> 1 & 3, 0, 0
        if qos:
            packet_id, at = int.from_bytes(body[at : at + 2], "big"), at + 2
        if v5:
            size, at = variable(body, at)
        return cls(topic, qos, packet_id, body[at : at + size], body[at + size :])


class Receiver:
    """See the module. Times are milliseconds of one clock."""

    def __init__(self, manner: Manner, payloads: Payloads):
        self.manner, self.payloads = manner, payloads
        self.heard = Heard(manner.name, [])
        self.wanted: list[Filter] = []  # what has no SUBACK yet
        self.out = bytearray()
        self.connection, self.ended_ms = -1, []  # counted; when each ended
        self.greeted = self.known = False
        self.refused = 0
        self.subscribed: dict[int, list[Filter]] = {}  # what has a SUBACK to come, by packet identifier
        self.held: dict[int, Key] = {}  # QoS 2: packet identifiers that it has had and that are not released
        self.acknowledged: dict[Key, tuple[int, float]] = {}  # QoS 1: on which connection, and when
        self.begin()
        self.want(manner.filters)

    def begin(self) -> None:
        self.input, self.open, self.topics = b"", {}, {}
        self.due: deque[tuple[int, int, Key | None]] = deque()  # what is to be answered: with which packet

    def fault(self, kind: str, words: str) -> None:
        if len(self.heard.faults) < FAULTS_MAX:
            self.heard.faults.append((kind, f"{words} on connection {self.connection}"))

    # ---- what it says -------------------------------------------------------------------------------------------------------------

    def greet(self) -> None:
        """CONNECT."""
        manner, properties = self.manner, b""
        if manner.v5:
            properties = b"\x11" + EXPIRY_S.to_bytes(4, "big") + b"\x21" + manner.receive_maximum.to_bytes(2, "big")
            properties += b"\x22" + manner.aliases.to_bytes(2, "big")
        flags = 2 if manner.v5 and not self.known else 0
        body = text("MQTT") + bytes([5 if manner.v5 else 4, flags, 0, 0])
        body += (varint(len(properties)) + properties if manner.v5 else b"") + text(manner.name)
        self.begin()
        self.connection += 1
        self.out = bytearray(packet(0x10, body))

    def want(self, filters: list[Filter]) -> None:
        """What it subscribes to from now on."""
        self.wanted += filters
        # They may match as soon as the server has read them, and have to from the SUBACK on.
        self.heard.filters += [filter._replace(since_ns=NEVER) for filter in filters]

    def subscribe(self) -> None:
        """SUBSCRIBE for all that has no SUBACK."""
        for packet_id, identifier in enumerate(sorted({filter.identifier for filter in self.wanted}), 1):
            some = self.subscribed[packet_id] = [filter for filter in self.wanted if filter.identifier == identifier]
            body = packet_id.to_bytes(2, "big")
            if self.manner.v5:
                properties = b"\x0b" + varint(identifier) if identifier else b""
                body += varint(len(properties)) + properties
            body += b"".join(text(filter.text) + bytes([filter.qos]) for filter in some)
            self.out += packet(0x82, body)

    def answer(self, now_ms: float, most: int | None = None) -> None:
        """Acknowledges what came, the oldest first."""
        for _ in range(len(self.due) if most is None else min(most, len(self.due))):
            kind, packet_id, key = self.due.popleft()
            self.out += bytes([kind, 2]) + packet_id.to_bytes(2, "big")
            if kind == 0x40:
                self.open.pop(packet_id, None)
                self.acknowledged[key] = (self.connection, now_ms)
            elif kind == 0x70:
                self.open.pop(packet_id, None)

    def down(self, now_ms: float) -> None:
        """The connection is gone."""
        self.ended_ms += [now_ms] * (self.connection + 1 - len(self.ended_ms))
        self.greeted = False
        self.subscribed.clear()

    # ---- what it hears ------------------------------------------------------------------------------------------------------------

    def hear(self, data: bytes, now_ns: int) -> None:
        """Takes bytes of the server; `now_ns` on the machine's monotonic clock.

        Raises Malformed."""
        data, end = self.input + data if self.input else data, 0
        for first, body, end in packets(data):
            self.packet(first, body, now_ns)
        self.input = data[end:]

    def packet(self, first: int, body: bytes, now_ns: int) -> None:
        kind = first >> 4
        if kind == CONNACK:
            self.connack(body)
        elif not self.greeted:
            raise Malformed(f"a packet of type {kind} before CONNACK")
        elif kind == PUBLISH:
            self.publish(first, body, now_ns)
        elif kind == PUBREL:
            self.pubrel(int.from_bytes(body[:2], "big"))
        elif kind == SUBACK:
            self.suback(body, now_ns)
        elif kind not in (PINGRESP, DISCONNECT):
            raise Malformed(f"a packet of type {kind}")

    def connack(self, body: bytes) -> None:
        if body[1] in self.manner.refusals and not self.greeted:
            self.refused += 1
            return
        if self.greeted or body[1]:
            raise Malformed("a second CONNACK" if self.greeted else f"CONNACK {body[1]:#04x}")
        self.greeted = True
        if self.known and not body[0] & 1:
            self.fault("S: session lost", "no session")
            self.held.clear()
        self.known = True

    def suback(self, body: bytes, now_ns: int) -> None:
        filters = self.subscribed.pop(int.from_bytes(body[:2], "big"), None)
        codes = body[2:]
        if self.manner.v5:
            length, begin = variable(body, 2)
            codes = body[begin + length :]
        if filters is None or list(codes) != [filter.qos for filter in filters]:
            raise Malformed(f"SUBACK {body.hex()}")
        self.wanted = [filter for filter in self.wanted if filter not in filters]
        known = [filter.text for filter in filters]
        self.heard.filters = [filter._replace(since_ns=now_ns) if filter.text in known else filter for filter in self.heard.filters]

    def publish(self, first: int, body: bytes, now_ns: int) -> None:
        topic, qos, packet_id, properties, payload = Published.of(first, body, self.manner.v5)
        topic, identifiers = self.properties(properties, topic)
        try:
            key, _ = self.payloads.read(payload)
        except Wrong as why:
            return self.fault("I4: foreign or altered", f"{why} on {topic}")
        wanted = sorted(filter.identifier for filter in self.heard.filters if filter.identifier and filter.matches(topic))
        if self.manner.v5 and sorted(identifiers) != wanted:
            self.fault("J7: identifiers", f"{key} on {topic}: {identifiers}, not {wanted}")
        self.note(Copy(self.connection, key, topic, qos, bool(first & 8), came_ns=now_ns), packet_id)

    def properties(self, data: bytes, topic: str) -> tuple[str, list[int]]:
        """The topic, also if an alias says it, and the Subscription Identifiers."""
        at, identifiers = 0, []
        while at < len(data):
            if data[at] == 0x0B:
                identifier, at = variable(data, at + 1)
                identifiers.append(identifier)
            elif data[at] == 0x23:
                alias, at = int.from_bytes(data[at + 1 : at + 3], "big"), at + 3
                if not 0 < alias <= self.manner.aliases:
                    raise Malformed(f"topic alias {alias}")
                topic = self.topics.setdefault(alias, topic) if not topic else topic
                self.topics[alias] = topic
            else:
                raise Malformed(f"PUBLISH with property {data[at]:#04x}")
        return topic, identifiers

    def note(self, copy: Copy, packet_id: int) -> None:
        """A copy has come: it is noted, and an acknowledgement is due."""
        key, heard = copy.key, self.heard
        if copy.qos == 0:
            return heard.copies.append(copy)
        if packet_id in self.open:
            self.fault("J4: a packet identifier in use", f"{packet_id} of {self.open[packet_id]}, for {key}")
        self.open[packet_id] = key
        if len(self.open) > self.manner.open_max:
            self.fault("J4: more than Receive Maximum", f"{len(self.open)} open, at most {self.manner.open_max}")
        if copy.qos == 1:
            if key in self.acknowledged:
                connection, at_ms = self.acknowledged[key]
                if connection < len(self.ended_ms):
                    copy = copy._replace(acknowledged_ms=round(self.ended_ms[connection] - at_ms))
            self.due.append((0x40, packet_id, key))
        else:
            self.receive(copy, packet_id)
            self.due.append((0x50, packet_id, key))
        heard.copies.append(copy)

    def receive(self, copy: Copy, packet_id: int) -> None:
        """QoS 2: under an identifier that it has it is a repeat, whatever it is."""
        held = self.held.get(packet_id)
        if held is None:
            self.held[packet_id] = copy.key
            if not self.manner.at_release:
                self.heard.handed_on[copy.key] += 1
        elif held != copy.key:
            self.fault("J4: a packet identifier in use", f"{packet_id} of {held}, not released, for {copy.key}")
        elif not copy.dup:
            self.fault("J4: sent again without DUP", f"{copy.key} under packet identifier {packet_id}")

    def pubrel(self, packet_id: int) -> None:
        key = self.held.pop(packet_id, None)
        if key is not None and self.manner.at_release:
            self.heard.handed_on[key] += 1
        self.due.append((0x70, packet_id, None))


def as_json(heard: Heard) -> dict:
    """For a file."""
    handed_on = Counter({f"{key.client} {key.number}": count for key, count in heard.handed_on.items()})
    return {"name": heard.name, "filters": heard.filters, "copies": heard.copies, "handed_on": handed_on, "faults": heard.faults}


def from_json(found: dict) -> Heard:
    """What `as_json` made."""
    copies = [Copy(connection, Key(*key), *rest) for connection, key, *rest in found["copies"]]
    handed_on = Counter({Key(*map(int, key.split())): count for key, count in found["handed_on"].items()})
    return Heard(found["name"], [Filter(*filter) for filter in found["filters"]], copies, handed_on, [tuple(fault) for fault in found["faults"]])
