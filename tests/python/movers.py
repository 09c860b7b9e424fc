"""Moves the leaders of a topic about, with two admin requests of Kafka written by hand: neither librdkafka's admin client nor kcat can
reassign replicas, and each of Kafka's Java tools costs a second of CPU, every few seconds, on a machine that is being measured."""

import socket
import struct
from typing import Iterator

ALTER_PARTITION_REASSIGNMENTS = (45, 0)
ELECT_LEADERS = (43, 2)
PREFERRED = 0
ELECTION_NOT_NEEDED = 84
TIMEOUT_MS = 5_000


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def array(items: list[bytes]) -> bytes:
    return varint(len(items) + 1) + b"".join(items)


def text(value: str) -> bytes:
    return varint(len(value.encode()) + 1) + value.encode()


def int32s(values: list[int]) -> bytes:
    return array([struct.pack(">i", value) for value in values])


class Reader:
    """Takes an answer apart."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, form: str) -> int:
        (value,) = struct.unpack_from(f">{form}", self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take("B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 128:
                return value

    def text(self) -> str:
        length = max(self.varint() - 1, 0)
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def items(self) -> Iterator[int]:
        yield from range(self.varint() - 1)

    def tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            length = self.varint()
            self.at += length


def ask(broker: str, kind: tuple[int, int], body: bytes) -> Reader:
    """One request on a connection of its own; any broker takes it and hands it to the controller."""
    host, _, port = broker.rpartition(":")
    header = struct.pack(">hhih", *kind, 1, len("movers")) + b"movers\0"
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_MS / 1000 + 2) as connection:
        connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        stream = connection.makefile("rb")
        (length,) = struct.unpack(">i", stream.read(4))
        answer = Reader(stream.read(length))
    answer.take("i")
    answer.tags()
    answer.take("i")  # throttled for so long
    return answer


def reorder(broker: str, topic: str, replicas: dict[int, list[int]]) -> None:
    """Gives each partition its replicas in this order; the first is the preferred leader. The set stays, so no data moves."""
    partitions = [struct.pack(">i", partition) + int32s(order) + b"\0" for partition, order in replicas.items()]
    answer = ask(broker, ALTER_PARTITION_REASSIGNMENTS, struct.pack(">i", TIMEOUT_MS) + array([text(topic) + array(partitions) + b"\0"]) + b"\0")
    errors = {answer.take("h")}
    answer.text()
    for _ in answer.items():
        answer.text()
        for _ in answer.items():
            answer.take("i")
            errors.add(answer.take("h"))
            answer.text()
            answer.tags()
        answer.tags()
    if errors != {0}:
        raise RuntimeError(f"reassignment of {topic}: errors {sorted(errors)}")


def elect(broker: str, topic: str, partitions: list[int]) -> int:
    """Makes preferred leaders the leaders; returns how many partitions got another one."""
    body = bytes([PREFERRED]) + array([text(topic) + int32s(partitions) + b"\0"]) + struct.pack(">i", TIMEOUT_MS) + b"\0"
    answer = ask(broker, ELECT_LEADERS, body)
    if error := answer.take("h"):
        raise RuntimeError(f"election: error {error}")
    moved = 0
    for _ in answer.items():
        answer.text()
        for _ in answer.items():
            answer.take("i")
            moved += answer.take("h") == 0
            answer.text()
            answer.tags()
        answer.tags()
    return moved
