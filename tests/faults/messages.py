"""The generator's messages, as its plan and payloads say them (bench/src/flow/plan.rs, payload.rs), written apart from it; and what its events say
became of each."""

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Iterable, NamedTuple

import events

MASK = (1 << 64) - 1
STEP = 0x9E37_79B9_7F4A_7C15
HEADER = struct.Struct("<4sIIIQQQ")
MAGIC = b"FLOW"


class Key(NamedTuple):
    """Which message: its client, and its number there."""

    client: int
    number: int


class Wrong(Exception):
    """The payload is not from this run."""


def mix(value: int) -> int:
    """The finishing step of SplitMix64."""
    z = (value + STEP) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB) & MASK
    return z ^ (z >> 31)


def topic_number(seed: int, topics: int, key: Key) -> int:
    """Which of its client's topics a message goes to."""
    if topics == 1:
        return 0
    return mix(seed ^ ((mix(3 << 32 | key.client) + mix(key.number)) & MASK)) % topics


def payload(run: int, key: Key, qos: int, sent_ns: int, length: int) -> bytes:
    """What the generator sends."""
    seed = mix(mix(run << 32 | key.client) ^ (qos << 32 | length))
    check = mix(mix(seed ^ key.number) ^ sent_ns)
    words = -(-(length - HEADER.size) // 8)
    fill = b"".join((((check + STEP * (at + 1)) & MASK) ^ check).to_bytes(8, "little") for at in range(words))
    return HEADER.pack(MAGIC, run, key.client, qos, key.number, sent_ns, check) + fill[: length - HEADER.size]


class Payloads:
    """Reads payloads of a run; each message's is worked out once."""

    def __init__(self, run: int):
        self.run = run
        self.known: dict[Key, tuple[int, bytes]] = {}

    def read(self, data: bytes) -> tuple[Key, int]:
        """Which message it is, and the QoS at which that was published.

        Raises Wrong: no message of this run, or not as it was sent."""
        if len(data) < HEADER.size:
            raise Wrong("foreign")
        magic, run, client, qos, number, sent_ns, _ = HEADER.unpack_from(data)
        if magic != MAGIC or run != self.run:
            raise Wrong("foreign")
        key = Key(client, number)
        known = self.known.get(key)
        if known is None:
            known = self.known[key] = (qos, payload(run, key, qos, sent_ns, len(data)))
        if known != (qos, data):
            raise Wrong(f"altered: client {client} message {number}")
        return key, qos


class Sending(NamedTuple):
    """One time that a message was sent."""

    place: int  # among all that its client has sent
    ns: int  # on the generator's clock


@dataclass(slots=True)
class Published:
    """One message, as its publisher sent it and was answered."""

    qos: int
    first_ns: int  # on the generator's clock
    start: int  # of the service, to which it was sent last
    sends: int = 1
    crossed: int = 0  # sent again to a later start of the service, without an answer until then
    answered: bool = False
    sendings: list[Sending] = field(default_factory=list)


class Run(NamedTuple):
    """All messages of a round, and the times of the orders that the generator was given, in their order."""

    messages: dict[Key, Published]
    marks_ns: list[int]


def read_events(found: Iterable[events.Event]) -> Run:
    """What the generator wrote with --events."""
    run, start, sent = Run({}, []), {}, Counter()
    for event in found:
        key = Key(event.client, event.number)
        if event.kind == events.MARK:
            run.marks_ns.append(event.ns)
        elif event.kind == events.CONNACK:
            start[event.client] = event.number
        elif event.kind == events.PUBLISH:
            here, known = start[event.client], run.messages.get(key)
            sent[event.client] += 1
            if known is None:
                run.messages[key] = Published(event.detail & 3, event.ns, here, sendings=[Sending(sent[event.client], event.ns)])
                continue
            known.sendings.append(Sending(sent[event.client], event.ns))
            known.sends += 1
            known.crossed += here != known.start and not known.answered
            known.start = here
        elif event.kind in (events.PUBACK, events.PUBREC) and event.detail < 0x80:
            run.messages[key].answered = True
    return run
