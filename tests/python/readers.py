"""Reads a whole topic with a stock consumer into a file, and that file into records.

    java       Kafka's own console consumer; needs group coordination, so a real Kafka
    kcat       librdkafka 2.0.2 of Debian 12, by assignment
    confluent  librdkafka 2.16 from PyPI, by assignment
"""

import subprocess
import time
from pathlib import Path
from typing import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from checker import Record
from service import ROOT

TIMEOUT_S = 30


def create_topic(bootstrap: str, topic: str, partitions: int, replicas: int = -1) -> None:
    """`replicas` -1: the broker's default, which brokers before 2.4 do not take."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})  # lives until the answer is there
    admin.create_topics([NewTopic(topic, partitions, replicas)])[topic].result(TIMEOUT_S)


def ends(bootstrap: str, topic: str) -> dict[int, int]:
    """Partition → offset after its last record, as the servers say it; {} if there is no such topic."""
    until = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return _ends(bootstrap, topic)
        except KafkaException:  # a topic just made has no leader yet, a broker just started no listener
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _ends(bootstrap: str, topic: str) -> dict[int, int]:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    found = admin.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
    if found.error is not None:
        return {}
    asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in found.partitions}
    return {tp.partition: answer.result(TIMEOUT_S).offset for tp, answer in admin.list_offsets(asked).items()}


def leader(bootstrap: str, topic: str) -> int:
    """The broker that leads the first partition of a topic."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    return admin.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions[0].leader


def dump(reader: str, bootstrap: str, topic: str, count: int, file: Path, kafka_dir: Path | None = None) -> None:
    """Reads `count` records, all there are, into `file`."""
    if reader == "java":
        command = [ROOT / "scripts/kafka", "consume", topic, "--dir", kafka_dir, "--max-messages", str(count), "--timeout-ms", "20000"]
    elif reader == "kcat":
        command = ["kcat", "-C", "-q", "-b", bootstrap, "-t", topic, "-o", "beginning", "-e", "-f", "%p\t%o\t%h\t%k\t%s\n"]
    else:
        return _dump_confluent(bootstrap, topic, file)
    with open(file, "wb") as out, open(file.with_suffix(".stderr"), "wb") as err:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=900)
    if done.returncode != 0:
        raise RuntimeError(f"{reader} ended with status {done.returncode}: {file.with_suffix('.stderr').read_text()[-500:]}")


def _dump_confluent(bootstrap: str, topic: str, file: Path) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "enable.partition.eof": True})
    partitions = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    waiting = set(partitions)
    deadline = time.monotonic() + TIMEOUT_S
    with open(file, "w") as out:
        while waiting:
            found = consumer.consume(10_000, timeout=0.2)  # returns early only when it has that many
            if found:
                deadline = time.monotonic() + TIMEOUT_S
            elif time.monotonic() > deadline:
                raise RuntimeError(f"nothing came for {TIMEOUT_S} s, partitions {sorted(waiting)} not at their end")
            for m in found:
                if m.error() is None:
                    headers = ",".join(f"{name}={value.decode()}" for name, value in m.headers() or ())
                    out.write(f"{m.partition()}\t{m.offset()}\t{headers}\t{(m.key() or b'').decode()}\t{m.value().decode()}\n")
                elif m.error().code() == KafkaError._PARTITION_EOF:
                    waiting.discard(m.partition())
                else:
                    raise RuntimeError(str(m.error()))
    consumer.close()


def parse(reader: str, file: Path, topic: str) -> Iterator[Record]:
    """Payloads, keys and headers of the flow test hold no tab, line feed, comma, colon or equals sign; a record that does parses wrongly
    and is then judged as altered."""
    mark = b":" if reader == "java" else b"="
    with open(file, "rb") as lines:
        for line in lines:
            fields = line.rstrip(b"\n").split(b"\t", 5 if reader == "java" else 4)
            if reader == "java":
                if not line.startswith((b"CreateTime:", b"LogAppendTime:")) or len(fields) != 6:
                    continue  # its closing words; a record that is missed thereby shows as a gap in the offsets
                fields = [fields[1].removeprefix(b"Partition:"), fields[2].removeprefix(b"Offset:"), *fields[3:]]
            partition, offset, headers, key, value = fields
            pairs = () if headers in (b"", b"NO_HEADERS") else tuple(_pair(h, mark) for h in headers.split(b","))
            yield Record(int(partition), int(offset), key, pairs, value, topic)


def _pair(header: bytes, mark: bytes) -> tuple[str, bytes]:
    name, _, value = header.partition(mark)
    return name.decode(), value


def kafka_env(folder: Path) -> dict[str, str]:
    """The settings of a cluster made by scripts/kafka."""
    return dict(line.split("=", 1) for line in (folder / "cluster").read_text().splitlines())


def kafka(*arguments: object) -> str:
    """Runs scripts/kafka; its own words go to our standard error."""
    return subprocess.run(
        [ROOT / "scripts/kafka", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
