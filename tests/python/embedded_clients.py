#!/usr/bin/env python3
"""confluent-kafka against the embedded log: python3 embedded_clients.py HOST:PORT

Producers (idempotent, acks 1 and 0, every codec), an assigned consumer, offsets by time, topics by the admin client.
Exit status 0 if all of it holds, 1 with the reason if not.
"""

import sys
import time
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

TIMEOUT_S = 30
COUNT = 2000


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def produce(address, topic, count, **settings):
    errors = []
    delivered = []

    def on_delivery(error, message):
        if error:
            errors.append(error)
        else:
            delivered.append((message.partition(), message.offset()))

    producer = Producer({"bootstrap.servers": address, "linger.ms": 5, **settings})
    for n in range(count):
        producer.produce(
            topic, key=f"key {n % 50}", value=f"value {n}", headers=[("n", str(n)), ("n", "twice")],
            on_delivery=on_delivery,
        )
        producer.poll(0)
    left = producer.flush(TIMEOUT_S)
    check(left == 0, f"{topic}: {left} messages without an answer, {settings}")
    check(not errors, f"{topic}: {errors[:3]}")
    check(len(delivered) == count, f"{topic}: {len(delivered)} of {count} delivered")
    return delivered


def consume(address, topic, partitions, count):
    consumer = Consumer({
        "bootstrap.servers": address, "group.id": "assigned", "enable.auto.commit": False, "check.crcs": True,
    })
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partitions)])
    messages = []
    deadline = time.monotonic() + TIMEOUT_S
    while len(messages) < count and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.2):
            check(not message.error(), f"{topic}: {message.error()}")
            messages.append(message)
    check(len(messages) == count, f"{topic}: {len(messages)} of {count} consumed")
    return consumer, messages


def codecs(address, run):
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        topic = f"codec-{codec}-{run}"
        delivered = produce(address, topic, COUNT, **{"compression.type": codec, "enable.idempotence": True})
        partitions = 1 + max(partition for partition, _ in delivered)
        consumer, messages = consume(address, topic, partitions, COUNT)
        values = sorted(int(message.value().split()[1]) for message in messages)
        check(values == list(range(COUNT)), f"{topic}: not each value once")
        check(messages[0].headers()[1] == ("n", b"twice"), f"{topic}: headers {messages[0].headers()}")
        in_order = {}
        for message in messages:
            number = int(message.value().split()[1])
            check(in_order.get(message.key(), -1) < number, f"{topic}: order of {message.key()}")
            in_order[message.key()] = number
        consumer.close()


def acks(address, run):
    for level in ["0", "1", "all"]:
        topic = f"acks-{level}-{run}"
        produce(address, topic, COUNT, **{"acks": level})
        partitions = len(AdminClient({"bootstrap.servers": address}).list_topics(topic, TIMEOUT_S).topics[topic].partitions)
        consume(address, topic, partitions, COUNT)[0].close()


def places(address, run):
    topic = f"places-{run}"
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(TIMEOUT_S)
    try:
        admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(TIMEOUT_S)
        raise AssertionError("a topic was made twice")
    except KafkaException as error:
        check(error.args[0].name() == "TOPIC_ALREADY_EXISTS", str(error))
    producer = Producer({"bootstrap.servers": address, "acks": "all"})
    base = int(time.time() * 1000) - 60_000
    for n in range(100):
        producer.produce(topic, value=str(n), partition=1, timestamp=base + n * 10)
    check(producer.flush(TIMEOUT_S) == 0, "places: not delivered")
    consumer, messages = consume(address, topic, 3, 100)
    check([message.offset() for message in messages] == list(range(100)), "places: offsets")
    place = TopicPartition(topic, 1)
    check(consumer.get_watermark_offsets(place, TIMEOUT_S) == (0, 100), "places: watermarks")
    for n in [0, 1, 37, 99]:
        found = consumer.offsets_for_times([TopicPartition(topic, 1, base + n * 10)], TIMEOUT_S)[0]
        check(found.offset == n, f"places: {found} for the time of record {n}")
    consumer.close()


def main():
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    address, run = sys.argv[1], uuid.uuid4().hex[:8]
    for part in [codecs, acks, places]:
        try:
            part(address, run)
        except (AssertionError, KafkaException) as error:
            print(f"FAILED {part.__name__}: {error}")
            return 1
        print(f"ok {part.__name__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
