#!/usr/bin/env python3
"""What one frozen broker of three costs those who have nothing to do with it.

    frozen.py                                   about two minutes: 20 s before, 30 s frozen, 15 s after
    frozen.py --freeze 10 --before 8 --judge    what a test may judge: who flowed, by counts
    frozen.py --p99-within 1.1 --out FOLDER     on a quiet machine: also by the p99 of `safe`; frozen.json has the figures, safe.csv
                                                each message's latency by its time since the freeze

A Kafka of three brokers is started, with three kinds of topics: `safe` has its replicas on brokers 1 and 2, `hit` has one of each
partition's two on broker 3, which is frozen (SIGSTOP) in the middle. Under load beside them: ten topics that do not exist (no automatic
creation) and ten that may not be written. For these the brokers run Kafka's StandardAuthorizer with `allow.everyone.if.no.acl.found=true`.
In plain text everybody is User:ANONYMOUS, the brokers too, so that one cannot be a super user, or nothing would be denied; a denial of WRITE
on a topic leaves the brokers alone, which need rights on the cluster. But without a super user a new cluster does not come up: its controllers
cannot hear each other before each has read the rules (AuthorizerNotReadyException). So it is started without, and the brokers one after the
other again with.

Each client publishes at QoS 1 over MQTT 5.0 at its own steady rate, whatever comes back (up to --window unanswered). Latency is from the
sending of a PUBLISH to its PUBACK, booked by the time of sending. The program is that of FOREBAY_BINARY, else the newest build.
"""

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, NewTopic, ResourcePatternType, ResourceType

import readers
from service import PREAMBLE, Service

FROZEN = 3
REPLICAS = {"safe": [[1, 2], [2, 1]] * 3, "hit": [[1, 3], [2, 3], [3, 1], [3, 2]] * 2}
PHASES = ("before", "frozen", "after")
SETTLING_S = 5
AUTHORIZER = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""

CONFIG = PREAMBLE + """\
[kafka.main]
bootstrap = "{bootstrap}"
buffer_bytes = "64MiB"

[[sink]]
name = "all"
kafka = "main"
filters = ["#"]
topic = "${{topic[0]}}"
key = "${{clientid}}"
linger = "{linger}"
"""


def field(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


def packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 16384
    return bytes([kind, len(body)] if len(body) < 128 else [kind, len(body) & 127 | 128, len(body) >> 7]) + body


class Client:
    def __init__(self, name: str, topic: str, run: "Run"):
        self.name, self.topic, self.run = name, topic, run
        self.open: dict[int, float] = {}
        self.latencies: list[tuple[float, float]] = []  # sent at, took; both in s
        self.reasons: Counter[int] = Counter()
        self.skipped = self.sent = self.closed = 0

    async def live(self) -> None:
        while not self.run.over:
            try:
                await self.connection()
            except (OSError, asyncio.IncompleteReadError):
                self.closed += 1
                await asyncio.sleep(0.5)

    async def connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.run.port)
        # 5.0, clean start, keep-alive 60 s, no properties.
        writer.write(packet(0x10, field(b"MQTT") + b"\x05\x02" + struct.pack(">H", 60) + b"\x00" + field(self.name.encode())))
        self.open.clear()
        listening = asyncio.create_task(self.listen(reader))
        try:
            await self.publish(writer, listening)
        finally:
            listening.cancel()
            writer.close()
        if listening.done() and not listening.cancelled() and (error := listening.exception()):
            raise error

    async def publish(self, writer: asyncio.StreamWriter, listening: asyncio.Task) -> None:
        options, number = self.run.options, 0
        payload = random.randbytes(options.size)
        step = 1 / options.rate
        due = time.monotonic() + random.random() * step
        while not self.run.over and not listening.done():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += step
            if len(self.open) >= options.window:
                self.skipped += 1
                continue
            number = number % 65535 + 1
            if number in self.open:
                self.skipped += 1
                continue
            self.open[number] = time.monotonic()
            self.sent += 1
            writer.write(packet(0x32, field(f"{self.topic}/{self.name}".encode()) + struct.pack(">H", number) + b"\x00" + payload))

    async def listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            kind, length = await reader.readexactly(2)
            if length & 128:
                length = length & 127 | (await reader.readexactly(1))[0] << 7
            body = await reader.readexactly(length)
            if kind == 0x40:
                number = struct.unpack(">H", body[:2])[0]
                self.reasons[body[2] if length > 2 else 0] += 1
                if (sent := self.open.pop(number, None)) is not None:
                    self.latencies.append((sent, time.monotonic() - sent))
            elif kind == 0xE0:
                raise ConnectionError("DISCONNECT")


class Run:
    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options, self.folder = options, folder
        self.over, self.port = False, 0
        self.service: Service | None = None
        self.clients: dict[str, list[Client]] = {}
        self.marks: list[float] = []
        self.gauges: dict[str, list[float]] = defaultdict(list)
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def start(self) -> None:
        options = self.options
        kafka_dir = self.folder / "kafka"
        bootstrap = readers.kafka("start", "--dir", kafka_dir, "--brokers", 3, "--auto-create", "false")
        for broker in (1, 2, 3) if options.forbidden else ():
            with open(kafka_dir / f"{broker}.properties", "a") as properties:
                properties.write(AUTHORIZER)
            readers.kafka("restart", broker, "--dir", kafka_dir)
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        one = {"min.insync.replicas": "1"}
        forbidden = [f"forbidden{n}" for n in range(options.forbidden)]
        topics = [NewTopic(name, len(replicas), replica_assignment=replicas, config=one) for name, replicas in REPLICAS.items()]
        topics += [NewTopic(name, 2, 2, config=one) for name in forbidden]
        for answer in admin.create_topics(topics).values():
            answer.result(readers.TIMEOUT_S)
        denials = [
            AclBinding(ResourceType.TOPIC, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", AclOperation.WRITE, AclPermissionType.DENY)
            for name in forbidden
        ]
        for answer in admin.create_acls(denials).values() if denials else ():
            answer.result(readers.TIMEOUT_S)
        self.service = Service(self.folder, CONFIG.format(folder=self.folder, bootstrap=bootstrap, shards=options.shards, linger=options.linger))
        self.service.start()
        self.port = self.service.mqtt_port
        self.say(f"Kafka at {bootstrap}, {self.service.program} ready")
        self.clients = {name: [Client(f"{name}-{n}", name, self) for n in range(options.clients)] for name in REPLICAS}
        self.clients["unknown"] = [Client(f"unknown-{n}", f"unknown{n}", self) for n in range(options.unknown)]
        self.clients["forbidden"] = [Client(f"forbidden-{n}", f"forbidden{n}", self) for n in range(options.forbidden)]

    async def measure(self) -> None:
        living = [asyncio.create_task(client.live()) for group in self.clients.values() for client in group]
        await asyncio.sleep(SETTLING_S)
        watching = asyncio.create_task(self.watch())
        for phase in PHASES:
            if phase != "before":
                await asyncio.to_thread(readers.kafka, "freeze" if phase == "frozen" else "thaw", FROZEN, "--dir", self.folder / "kafka")
            self.marks.append(time.monotonic())
            self.say(phase)
            await asyncio.sleep({"before": self.options.before, "frozen": self.options.freeze, "after": self.options.after}[phase])
        self.marks.append(time.monotonic())
        self.over = True
        watching.cancel()
        for task in living:
            task.cancel()
        await asyncio.gather(*living, watching, return_exceptions=True)

    async def watch(self) -> None:
        wanted = re.compile(r"^forebay_(kafka_slow_partitions|kafka_connections_replaced\w*|connections_paused|kafka_buffer_bytes)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
        while True:
            _, text = await asyncio.to_thread(self.service.get, "/metrics")
            sums: Counter[str] = Counter()
            for name, value in wanted.findall(text):
                sums[name] += float(value)
            for name, value in sums.items():
                self.gauges[name].append(value)
            await asyncio.sleep(1)

    def took(self, group: str, phase: int) -> list[float]:
        begin, end = self.marks[phase], self.marks[phase + 1]
        return sorted(took for client in self.clients[group] for sent, took in client.latencies if begin <= sent < end)

    def figures(self, group: str, phase: int) -> dict[str, float]:
        """What one kind of client saw in one phase; times in ms, of those that were answered."""
        took = self.took(group, phase)
        quantile = lambda q: round(1000 * took[min(len(took) - 1, int(q * len(took)))], 3) if took else None
        length = self.marks[phase + 1] - self.marks[phase]
        times = {"p50_ms": quantile(0.5), "p99_ms": quantile(0.99), "p999_ms": quantile(0.999), "max_ms": quantile(1)}
        return {"answered": len(took), "per_s": round(len(took) / length, 1)} | times

    def summary(self) -> dict:
        groups = {}
        for group, clients in self.clients.items():
            phases = {phase: self.figures(group, index) for index, phase in enumerate(PHASES)}
            before, frozen = phases["before"]["p99_ms"], phases["frozen"]["p99_ms"]
            answers = sum((client.reasons for client in clients), Counter())
            groups[group] = {
                "phases": phases,
                "p99_frozen_to_before": round(frozen / before, 3) if before and frozen else None,
                "sent": sum(client.sent for client in clients),
                "answers": {f"{reason:#04x}": count for reason, count in answers.items()},
                "open": sum(len(client.open) for client in clients),
                "closed": sum(client.closed for client in clients),
                "not_sent": sum(client.skipped for client in clients),
            }
        slow = self.gauges["kafka_slow_partitions"]
        return {
            "program": str(self.service.program),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
            "options": {name: value for name, value in vars(self.options).items() if name != "out"},
            "groups": groups,
            "at_most": {name: max(values) for name, values in self.gauges.items()},
            "slow_partitions_at_the_end": slow[-1] if slow else None,
        }

    def faults(self, groups: dict) -> list[str]:
        """What `--judge` and `--p99-within` do not accept."""
        faults = []
        offered = self.options.clients * self.options.rate
        for group, phase in (("safe", "frozen"), ("safe", "after"), ("hit", "after")):
            if (per_s := groups[group]["phases"][phase]["per_s"]) < 0.8 * offered:
                faults.append(f"{group} {phase}: {per_s} of {offered} answered a second")
        ratio, most = groups["safe"]["p99_frozen_to_before"], self.options.p99_within
        if most and (ratio is None or ratio > most):
            faults.append(f"safe: p99 while frozen is {ratio} times that before, {most} at the most")
        return faults

    def report(self) -> bool:
        summary = self.summary()
        groups = summary["groups"]
        print(f"{'group':10} {'phase':8} {'answered':>9} {'a second':>9} {'p50 ms':>9} {'p99 ms':>9} {'p99.9 ms':>9} {'max ms':>9}")
        for group, seen in groups.items():
            for phase, figures in seen["phases"].items():
                times = " ".join(f"{figures[name]:9.1f}" for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms") if figures["answered"])
                print(f"{group:10} {phase:8} {figures['answered']:9} {figures['per_s']:9.1f} {times}")
            rest = {name: value for name, value in seen.items() if name != "phases"}
            print(f"{group:10} {rest}")
        print(f"at the most: {summary['at_most']}; slow partitions at the end {summary['slow_partitions_at_the_end']}")
        summary["faults"] = faults = self.faults(groups)
        for fault in faults:
            print(f"FAULT: {fault}")
        if out := self.options.out:
            out.mkdir(parents=True, exist_ok=True)
            (out / "frozen.json").write_text(json.dumps(summary, indent=2) + "\n")
            with open(out / "safe.csv", "w") as file:
                file.write("sent_s,took_ms\n")
                took = sorted(pair for client in self.clients["safe"] for pair in client.latencies)
                file.writelines(f"{sent - self.marks[1]:.4f},{1000 * took:.3f}\n" for sent, took in took)
        return not faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=float, default=20, help="seconds")
    parser.add_argument("--freeze", type=float, default=30, help="seconds")
    parser.add_argument("--after", type=float, default=15, help="seconds")
    parser.add_argument("--clients", type=int, default=16, help="of `safe`, and as many of `hit`")
    parser.add_argument("--rate", type=float, default=20, help="messages a second and client")
    parser.add_argument("--size", type=int, default=200, help="bytes of a payload")
    parser.add_argument("--window", type=int, default=2000, help="unanswered messages of a client at the most")
    parser.add_argument("--unknown", type=int, default=10)
    parser.add_argument("--forbidden", type=int, default=10)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--linger", default="5ms")
    parser.add_argument("--judge", action="store_true", help="exit with 1 unless `safe` flowed all the while and `hit` again after")
    parser.add_argument("--p99-within", type=float, help="exit with 1 also unless the p99 of `safe` while frozen is at most so many times that before")
    parser.add_argument("--out", type=Path, help="folder for frozen.json and safe.csv")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="forebay-frozen-"))
    run = Run(options, folder)
    try:
        run.start()
        asyncio.run(run.measure())
        fine = run.report()
    finally:
        if run.service:
            run.service.kill()
        for command in (("thaw", FROZEN), ("stop", "--delete")):
            try:
                readers.kafka(*command, "--dir", folder / "kafka")
            except Exception as error:
                print(f"{command}: {error}", file=sys.stderr)
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if fine or not (options.judge or options.p99_within) else 1


if __name__ == "__main__":
    sys.exit(main())
