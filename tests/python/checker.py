#!/usr/bin/env python3
"""Judges a run: what the clients sent and were told, against what stands in Kafka.

The promises (names as in the reliability notes):
  I1  every message that was acknowledged (QoS 1: PUBACK; QoS 2: PUBREC) stands in Kafka.
  I2  a message of QoS 2 stands there exactly once, one of QoS 0 at most once; one of QoS 1 twice only if its client connected again.
  I3  in each partition the first copies of one client's messages stand in the order of sending.
  I4  nothing is invented or altered: checksum, key, headers, counter and QoS are those of a message that was sent.
  P   a key sits in the partition that Kafka's Java producer would choose.
  R   the reader itself missed nothing: offsets run from 0 to the end of each partition, each once.

`judge` takes plain values and does no I/O, so its own tests can hand it every kind of fault. As a program it judges a kept run again:
    checker.py RUN_DIRECTORY
"""

import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Iterable, NamedTuple

import message


class Record(NamedTuple):
    """One record as a consumer read it."""

    partition: int
    offset: int
    key: bytes
    headers: tuple[tuple[str, bytes], ...]
    value: bytes
    topic: str = message.KAFKA_TOPIC


@dataclass
class Told:
    """What one client did and was told; see `read_log` for the file it comes from."""

    qos: int
    sent: int = 0  # counters 0 to sent-1 were handed to the library
    acknowledged: set[int] = field(default_factory=set)
    connects: int = 0  # 0: this client's library does not say
    finished: bool = False  # said by the client itself at its orderly end
    lost_connections: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    counts: Counter = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def fault(self, kind: str, text: str) -> None:
        self.counts[f"fault: {kind}"] += 1
        if len(self.faults[kind]) < 10:
            self.faults[kind].append(text)

    @property
    def passed(self) -> bool:
        return not self.faults

    def text(self) -> str:
        lines = [f"  {name:<48} {self.counts[name]:>12,}" for name in sorted(self.counts)]
        for kind, examples in sorted(self.faults.items()):
            lines.append(f"  FAULT {kind}, for example:")
            lines += [f"    {example}" for example in examples]
        return "\n".join(lines)


def judge(
    clients: dict[str, Told],
    records: Iterable[Record],
    ends: dict[str, dict[int, int]],
    *,
    header: str | None = "client",
    by_level: bool = False,
    crashed: bool = False,
    cut: bool = False,
) -> Verdict:
    """`ends`: for every topic and partition the offset after its last record. `by_level`: each level has a topic of its own. `header`: name of the record header that must hold the
    client id. `crashed`: the service was killed during the run without a disk buffer, so doubles are counted, not judged. `cut`: connections were cut on
    purpose; whoever loses one must still be told the truth about its messages of QoS 1 and 2."""
    verdict = Verdict()
    copies: dict[str, Counter] = {client: Counter() for client in clients}
    last_first: dict[tuple[str, str, int], int] = {}  # (client, topic, partition) → counter of the newest first copy
    next_offset = {(topic, partition): 0 for topic in ends for partition in ends[topic]}
    home: dict[bytes, int] = {}  # key → partition it belongs to

    for record in sorted(records, key=lambda r: (r.topic, r.partition, r.offset)):
        verdict.counts["records"] += 1
        log = (record.topic, record.partition)
        where = f"{record.topic} partition {record.partition} offset {record.offset}"

        if log not in next_offset:
            verdict.fault("R: a partition that the topic does not have", where)
            continue
        if record.offset != next_offset[log]:
            verdict.fault("R: the reader skipped or repeated", f"{where}, expected offset {next_offset[log]}")
        next_offset[log] = record.offset + 1

        if record.key not in home:
            home[record.key] = message.partition_of(record.key, len(ends[record.topic]))
        if home[record.key] != record.partition:
            verdict.fault("P: key in a wrong partition", f"{where}: {record.key!r} belongs to {home[record.key]}")

        sent = message.parse(record.value)
        if sent is None:
            verdict.fault("I4: altered value", f"{where}: {record.value[:120]!r}")
            continue
        told = clients.get(sent.client)
        if told is None or not 0 <= sent.counter < told.sent or sent.qos != told.qos:
            verdict.fault("I4: invented message", f"{where}: {sent}")
            continue
        if record.key != message.topic_of(sent.client, sent.level).encode():
            verdict.fault("I4: wrong key", f"{where}: {sent} under {record.key!r}")
        if record.topic != message.kafka_topic_of(sent.level, by_level):
            verdict.fault("I4: wrong topic", f"{where}: {sent}")
        if header is not None and record.headers != ((header, sent.client.encode()),):
            verdict.fault("I4: wrong headers", f"{where}: {sent} with {record.headers!r}")

        copies[sent.client][sent.counter] += 1
        if copies[sent.client][sent.counter] == 1:
            place = (sent.client, *log)
            if sent.counter < last_first.get(place, -1):
                verdict.fault("I3: order", f"{where}: {sent} stands behind counter {last_first[place]}")
            last_first[place] = max(sent.counter, last_first.get(place, -1))

    for (topic, partition), read in next_offset.items():
        if read != ends[topic][partition]:
            verdict.fault("R: the reader stopped early", f"{topic} partition {partition} at {read} of {ends[topic][partition]}")

    for client, told in clients.items():
        _judge_client(verdict, client, told, copies[client], crashed, cut)
    return verdict


def _judge_client(verdict: Verdict, client: str, told: Told, copies: Counter, crashed: bool, cut: bool) -> None:
    level = f"QoS {told.qos}"
    verdict.counts[f"{level}: sent"] += told.sent
    verdict.counts[f"{level}: acknowledged"] += len(told.acknowledged)
    verdict.counts[f"{level}: in Kafka"] += len(copies)
    for text in told.errors:
        verdict.fault("client error", f"{client}: {text}")
    verdict.counts["connections lost"] += told.lost_connections
    if told.lost_connections and not crashed and not cut:
        verdict.fault("connection lost", f"{client}: {told.lost_connections} times")
    if not told.finished and not crashed:
        verdict.fault("client did not finish", f"{client}: {len(told.acknowledged)} of {told.sent} acknowledged")

    # A QoS 0 client that ended in order has put all it sent into the socket, and the service reads a socket to its end.
    whole = told.finished and not crashed and not told.lost_connections
    owed = told.acknowledged if told.qos > 0 else range(told.sent) if whole else ()
    for counter in owed:
        if counter not in copies:
            verdict.fault(f"I1: lost at {level}", f"{client} {counter}")

    for counter, times in copies.items():
        if times == 1:
            continue
        verdict.counts[f"{level}: doubled"] += 1
        resent = told.qos == 1 and told.connects != 1  # [MQTT-4.4.0-1]: only after connecting again, or the client does not say
        if not crashed and not resent:
            verdict.fault(f"I2: doubled at {level}", f"{client} {counter}: {times} copies")


def read_log(path: Path, qos: int) -> Told:
    """The log that a publisher keeps, one line per event:
    `c` connected, `x TEXT` connection lost, `s N` handed message N to the library, `a N` acknowledged, `e TEXT` error, `end` all done and closed in order.
    A program that does not speak of single messages has `n N` (it was given messages 0 to N-1) and `all` (it stated, by its exit status,
    that every one of them is acknowledged) instead."""
    told = Told(qos)
    text = path.read_text()
    for line in text[: text.rfind("\n") + 1].splitlines():  # a program that was killed may leave half a line
        word, _, rest = line.partition(" ")
        if word == "s":
            if int(rest) != told.sent:
                told.errors.append(f"its log numbers message {rest} after {told.sent - 1}")
            told.sent = int(rest) + 1
        elif word == "a":
            told.acknowledged.add(int(rest))
        elif word == "c":
            told.connects += 1
        elif word == "x":
            told.lost_connections += 1
        elif word == "n":
            told.sent = int(rest)
        elif word == "all":
            told.acknowledged = set(range(told.sent)) if qos > 0 else set()
        elif word == "e":
            told.errors.append(rest)
        elif word == "end":
            told.finished = True
        else:
            told.errors.append(f"its log has a line {line!r}")
    return told


def read_clients(run: Path) -> dict[str, Told]:
    clients = {}
    for client in json.loads((run / "plan.json").read_text())["clients"]:
        log = run / "clients" / f"{client['id']}.log"
        told = read_log(log, client["qos"]) if log.exists() else Told(client["qos"], errors=["it wrote no log"])
        if told.finished and told.sent != client["messages"]:
            told.errors.append(f"sent {told.sent} of the planned {client['messages']}")
        clients[client["id"]] = told
    return clients


def judge_run(run: Path) -> Verdict:
    """What the run left in its directory: plan, clients' logs, ends and records of each topic."""
    import readers  # only here: the tests of `judge` need no Kafka library

    plan = json.loads((run / "plan.json").read_text())
    ends = {topic: {int(p): end for p, end in found.items()} for topic, found in json.loads((run / "ends.json").read_text()).items()}
    records = chain.from_iterable(readers.parse(plan["reader"], run / f"{topic}.records", topic) for topic in ends)
    return judge(read_clients(run), records, ends, header=plan.get("header"), by_level=plan.get("by_level", False), cut=plan.get("cut", False))


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    verdict = judge_run(Path(sys.argv[1]))
    print(verdict.text())
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
