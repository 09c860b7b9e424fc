#!/usr/bin/env python3
"""confluent-kafka against the embedded log: python3 embedded_clients.py HOST:PORT

Producers (idempotent, acks 1 and 0, every codec), an assigned consumer, offsets by time, topics and groups by the admin
client, subscribed consumers that share a topic, leave, and go on where the group was.
Exit status 0 if all of it holds, 1 with the reason if not.
"""

import sys
import time
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

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


def subscribed(address, group, topic):
    consumer = Consumer({
        "bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "session.timeout.ms": 10_000, "heartbeat.interval.ms": 500,
    })
    consumer.subscribe([topic])
    return consumer


def groups(address, run):
    topic, group = f"shared-{run}", f"group-{run}"
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(TIMEOUT_S)
    admin.create_partitions([NewPartitions(topic, 4)])[topic].result(TIMEOUT_S)
    produce(address, topic, COUNT)
    both = [subscribed(address, group, topic) for _ in range(2)]
    deadline = time.time() + TIMEOUT_S
    seen = set()
    # Until each has two partitions and all is read; a rebalance may show records again.
    while time.time() < deadline and (len(seen) < COUNT or [len(one.assignment()) for one in both] != [2, 2]):
        for one in both:
            message = one.poll(0.05)
            if message and not message.error():
                seen.add(message.value())
    check(len(seen) == COUNT, f"groups: {len(seen)} of {COUNT} seen")
    check([len(one.assignment()) for one in both] == [2, 2], "groups: not shared evenly")
    described = admin.describe_consumer_groups([group])[group].result(TIMEOUT_S)
    check(len(described.members) == 2, f"groups: {described.members}")
    ends = [TopicPartition(topic, n, both[0].get_watermark_offsets(TopicPartition(topic, n), TIMEOUT_S)[1]) for n in range(4)]
    for one in both:
        mine = {place.partition for place in one.assignment()}
        one.commit(offsets=[end for end in ends if end.partition in mine], asynchronous=False)
    for one in both:
        one.close()
    asked = [ConsumerGroupTopicPartitions(group)]
    kept = admin.list_consumer_group_offsets(asked)[group].result(TIMEOUT_S).topic_partitions
    check(sorted((place.partition, place.offset) for place in kept) == [(end.partition, end.offset) for end in ends], f"groups: {kept}")
    produce(address, topic, 10)
    again = subscribed(address, group, topic)
    fresh = []
    while time.time() < deadline + TIMEOUT_S and len(fresh) < 10:
        message = again.poll(0.1)
        if message and not message.error():
            fresh.append(message)
    check(len(fresh) == 10 and all(message.offset() >= ends[message.partition()].offset for message in fresh), "groups: did not go on")
    again.close()
    listed = admin.list_consumer_groups().result(TIMEOUT_S).valid
    check(group in [known.group_id for known in listed], "groups: not listed")
    admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)
    admin.delete_topics([topic])[topic].result(TIMEOUT_S)
    check(topic not in admin.list_topics(timeout=TIMEOUT_S).topics, "groups: the topic is still there")


def main():
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    address, run = sys.argv[1], uuid.uuid4().hex[:8]
    for part in [codecs, acks, places, groups]:
        try:
            part(address, run)
        except (AssertionError, KafkaException) as error:
            print(f"FAILED {part.__name__}: {error}")
            return 1
        print(f"ok {part.__name__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
