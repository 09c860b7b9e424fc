"""The numbered message of the flow test: what every publisher writes and the checker reads.

A payload is one line of text, so that a program that publishes lines can send it too:

    CLIENT COUNTER QOS LEVEL PADDING CRC

CLIENT names the publisher, COUNTER numbers its messages from 0, LEVEL is the last level of the MQTT topic (`flow/CLIENT/LEVEL`), PADDING
makes sizes differ, CRC is the CRC-32 (as zlib computes it) of everything before the last space, in eight hexadecimal digits. So each
message says where it belongs, and one that was altered, cut or put under another key shows itself.

The same format is written by `tests/node/publisher.mjs` and `tests/rumqttc/publisher.rs`.
"""

import zlib
from typing import NamedTuple

LEVELS = 3  # MQTT topics per client; the keys, and so the partitions, of one client differ


class Message(NamedTuple):
    client: str
    counter: int
    qos: int
    level: int


KAFKA_TOPIC = "flow"


def kafka_topics(by_level: bool) -> list[str]:
    """The Kafka topics of a run: one, or by the template `flow-${topic[2]}` one for each level."""
    return [f"{KAFKA_TOPIC}-{level}" for level in range(LEVELS)] if by_level else [KAFKA_TOPIC]


def kafka_topic_of(level: int, by_level: bool) -> str:
    return f"{KAFKA_TOPIC}-{level}" if by_level else KAFKA_TOPIC


def topic_of(client: str, level: int) -> str:
    return f"flow/{client}/{level}"


def payload_of(client: str, counter: int, qos: int, level: int) -> str:
    body = f"{client} {counter} {qos} {level} {'.' * (counter * 7 % 64)}"
    return f"{body} {zlib.crc32(body.encode()):08x}"


def parse(payload: bytes) -> Message | None:
    """The message in `payload`, or None if these are not the bytes that a publisher sent."""
    body, _, crc = payload.rpartition(b" ")
    if len(crc) != 8 or crc != b"%08x" % zlib.crc32(body):
        return None
    fields = body.split(b" ")
    if len(fields) != 5:
        return None
    try:
        return Message(fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]))
    except ValueError:
        return None


def murmur2(data: bytes) -> int:
    """The hash that Kafka's Java producer places keyed records with (`org.apache.kafka.common.utils.Utils.murmur2`), unsigned."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % partitions
