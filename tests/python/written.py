#!/usr/bin/env python3
"""Writes what the tests of the consumer read, with librdkafka: python3 written.py BOOTSTRAP TOPIC WHAT [ARGUMENT]

    create COUNT  no records: makes the topic, with so many partitions
    delete        deletes the topic
    codecs        500 records of each codec; value `CODEC N …`, key N, header `n`
    transactions  three records each: committed, aborted, committed, aborted; value `committed N` or `aborted N`
    plain COUNT   that many records, value N
    trim OFFSET   no records: deletes those before this offset of partition 0"""

import sys

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


def create(bootstrap: str, topic: str, partitions: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, int(partitions), replication_factor=1)]).values():
        future.result(60)


def delete(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.delete_topics([topic]).values():
        future.result(60)


def codecs(bootstrap: str, topic: str) -> None:
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 200, "batch.num.messages": 500})
        for n in range(500):
            producer.produce(topic, f"{codec} {n} {'and so on ' * 20}", key=str(n), headers=[("n", str(n).encode())], partition=0)
        assert producer.flush(60) == 0


def transactions(bootstrap: str, topic: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{topic}-writer"})
    producer.init_transactions(60)
    for turn in range(4):
        producer.begin_transaction()
        word = "aborted" if turn % 2 else "committed"
        for n in range(3):
            producer.produce(topic, f"{word} {turn * 3 + n}", partition=0)
        assert producer.flush(60) == 0
        producer.abort_transaction(60) if turn % 2 else producer.commit_transaction(60)


def plain(bootstrap: str, topic: str, count: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for n in range(int(count)):
        producer.produce(topic, str(n), partition=0)
    assert producer.flush(60) == 0


def trim(bootstrap: str, topic: str, offset: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.delete_records([TopicPartition(topic, 0, int(offset))]).values():
        future.result(60)


if __name__ == "__main__":
    _, to, name, what, *arguments = sys.argv
    what = {"create": create, "delete": delete, "codecs": codecs, "transactions": transactions, "plain": plain, "trim": trim}[what]
    what(to, name, *arguments)
