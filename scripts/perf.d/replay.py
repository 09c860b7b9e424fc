#!/usr/bin/env python3
"""A replay of what a topic of `[broker]` has, beside kcat, which reads the same: seconds and records a second of each. Then a program writes 10,000 records a second for
half a minute, which come live to the client. Each topic of MQTT has to come without a gap and without a double: its payloads are consecutive numbers. `scripts/perf replay` runs it.

    replay.py BENCH RECORDS BOOTSTRAP"""

import subprocess
import sys
import threading
import time
from pathlib import Path

from runs import PREAMBLE, Service, cpu_s, folder, number, say, wait

PARTITIONS = 4
KEYS = 1_000
RATE = 10_000
LIVE_SECONDS = 30
CONFIG = f'[broker]\nmessages = "replay-messages"\nretained = "replay-retained"\nsessions = "replay-sessions"\npartitions = {PARTITIONS}\n'


class Writer:
    """Writes records with consecutive numbers for each key, from the number `written` on. What it was given last is in Kafka at its end."""

    def __init__(self, bootstrap: str, written: int) -> None:
        self.program = subprocess.Popen(
            ["kcat", "-P", "-q", "-b", bootstrap, "-t", "replay-messages", "-K", "|", "-X", "partitioner=murmur2", "-X", "linger.ms=5"], stdin=subprocess.PIPE
        )
        self.written = written

    def write(self, count: int) -> None:
        first, self.written = self.written, self.written + count
        lines = (f"past/{number % KEYS}|{number // KEYS}\n" for number in range(first, self.written))
        self.program.stdin.write("".join(lines).encode())
        self.program.stdin.flush()

    def end(self) -> None:
        self.program.stdin.close()
        assert self.program.wait() == 0


def read_all(lines, total: int, times: dict[str, float], past: int) -> None:
    """Reads lines of a topic and a number until there are so many; fails where one is not the next of its topic."""
    following: dict[bytes, int] = {}
    for count, line in enumerate(lines, 1):
        topic, _, payload = line.rstrip().partition(b" ")
        wanted = following.get(topic, 0)
        assert int(payload) == wanted, f"{topic}: {payload} in the place of {wanted}"
        following[topic] = wanted + 1
        if count == past:
            times["past"] = time.monotonic()
        if count == total:
            return
    raise AssertionError(f"{count} of {total}")


def write_live(writer: Writer, begun: float) -> None:
    for tick in range(LIVE_SECONDS * 10):
        writer.write(RATE // 10)
        time.sleep(max(0.0, begun + (tick + 1) / 10 - time.monotonic()))
    writer.end()


def main() -> None:
    records, bootstrap = int(sys.argv[2]), sys.argv[3]
    live = RATE * LIVE_SECONDS
    with folder() as work:
        service = Service(Path(work) / "broker", PREAMBLE.format(shards=1, folder=Path(work) / "broker") + f'[kafka.main]\nbootstrap = "{bootstrap}"\n' + CONFIG)
        service.start()
        try:
            wait("its topics are read", lambda: number(service, "forebay_source_partitions") == PARTITIONS)
            writer = Writer(bootstrap, 0)
            for _ in range(0, records, 100_000):
                writer.write(min(100_000, records - writer.written))
            writer.end()
            wait("all is written", lambda: number(service, "forebay_source_records_total") == records)
            begun = time.monotonic()
            kcat = subprocess.Popen(["kcat", "-C", "-q", "-b", bootstrap, "-t", "replay-messages", "-o", "beginning", "-e", "-f", "%k %s\n"], stdout=subprocess.PIPE)
            times: dict[str, float] = {}
            read_all(kcat.stdout, records, times, records)
            beside = times["past"] - begun
            host, _, port = service.addresses["mqtt"].rpartition(":")
            for qos in ("0", "1"):
                begun, cpu = time.monotonic(), cpu_s(service.process.pid)
                past = writer.written
                writer = Writer(bootstrap, past)
                client = subprocess.Popen(
                    ["mosquitto_sub", "-h", host, "-p", port, "-V", "mqttv5", "-q", qos, "-D", "subscribe", "user-property", "replay-from", "earliest", "-t", "past/#", "-F", "%t %p"],
                    stdout=subprocess.PIPE,
                )
                # What is written while the past is sent comes after it.
                producer = threading.Thread(target=write_live, args=(writer, begun))
                producer.start()
                read_all(client.stdout, past + live, times, past)
                producer.join()
                took, spent = times["past"] - begun, cpu_s(service.process.pid) - cpu
                client.kill()
                client.wait()
                say(
                    kind="replay", qos=int(qos), records=past, seconds=round(took, 2), records_s=round(past / took), kcat_s=round(records / beside),
                    live=live, cpu_us_per_message=round(spent / (past + live) * 1e6, 3), replayed=number(service, "forebay_replay_messages_total"),
                )
        finally:
            service.kill()


main()
