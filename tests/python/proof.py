#!/usr/bin/env python3
"""Proofs at full size, with the generator of bench/ as load and judge:

    moves   three brokers, replication 3: leaders move every few seconds, one broker after the other is killed with -9 and started again
    away    Kafka is away for minutes while messages are offered at a rate; memory, keep-alive, and what is delivered after
    slow    a proxy makes each round trip to Kafka longer; one partition must carry the rate without a backlog

Each writes summary.json, summary.txt, the generator's report and timeline, /metrics over time and the service's configuration into a folder.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import movers
import readers
import watch
from confluent_kafka.admin import AdminClient
from service import ROOT, Service, binary

TOPIC = "proof"
CONFIG = """\
[service]
shards = {shards}
pin = false
data_dir = "{folder}/data"
[control]
bind = "127.0.0.1:0"
[[listener]]
bind = "127.0.0.1:0"
[kafka.main]
bootstrap = "{bootstrap}"
buffer_bytes = "{buffer}"
[[sink]]
name = "all"
kafka = "main"
filters = "flow/#"
topic = "{topic}"
acknowledge = "{level}"
"""


def generator() -> Path:
    """BENCH_BINARY, else the newest of the builds that are there."""
    if given := os.environ.get("BENCH_BINARY"):
        return Path(given)
    builds = [p for profile in ("debug", "fast", "release") if (p := ROOT / "target" / profile / "forebay-bench").exists()]
    if not builds:
        raise SystemExit("there is no build of the generator: run cargo build --workspace, or name one in BENCH_BINARY")
    return max(builds, key=lambda p: p.stat().st_mtime)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Recorder(watch.Watch):
    """Keeps every look at /metrics as a line."""

    def __init__(self, service: Service, file: Path):
        super().__init__(service)
        self.began, self.file = time.monotonic(), open(file, "w")

    def look(self) -> None:
        super().look()
        self.file.write(json.dumps({"s": round(time.monotonic() - self.began, 2)} | dict(sorted(self.last.items()))) + "\n")
        self.file.flush()


class Proof:
    """What all three have in common."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.folder = options, options.folder
        self.began = time.monotonic()
        self.work = self.folder / "work"  # Kafka's data and the service's: removed at the end
        self.kafka_dir = self.work / "kafka"
        self.bootstrap = self.service_bootstrap = ""
        self.service: Service | None = None
        self.load: subprocess.Popen | None = None
        self.helpers: list[subprocess.Popen] = []
        self.facts: dict[str, object] = {}
        self.checks: dict[str, bool] = {}

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def kafka(self, *arguments: object) -> str:
        return readers.kafka(*arguments, "--dir", self.kafka_dir)

    def start_kafka(self, *more: object, partitions: int) -> None:
        self.bootstrap = self.kafka("start", "--auto-create", "false", "--partitions", 1, *more)
        readers.create_topic(self.service_bootstrap or self.bootstrap, TOPIC, partitions)
        self.service_bootstrap = self.service_bootstrap or self.bootstrap
        self.say(f"Apache Kafka at {self.bootstrap}; topic {TOPIC} with {partitions} partitions")

    def start_service(self) -> None:
        options = self.options
        text = CONFIG.format(
            folder=self.work, shards=options.shards, bootstrap=self.service_bootstrap, buffer=options.buffer, topic=TOPIC, level=options.level
        )
        self.service = Service(self.work, text)
        self.service.start()
        self.recorder = Recorder(self.service, self.folder / "metrics.jsonl")
        self.recorder.start()
        self.say(f"{self.service.program} at {self.service.addresses['mqtt']}, acknowledge {options.level}")

    def start_load(self, *more: object) -> None:
        options = self.options
        command = [
            *(generator(), "flow", "--target", self.service.addresses["mqtt"], "--kafka", self.service_bootstrap, "--kafka-topic", TOPIC),
            *("--messages", options.messages, "--clients", options.clients, "--rate", options.rate, "--window", options.window),
            *("--per-write", options.per_write, "--keep-alive", options.keep_alive, "--timeout", options.timeout, "--seed", options.seed),
            *("--pid", f"forebay={self.service.process.pid}", "--json", self.folder / "report.json"),
            *("--timeline", self.folder / "timeline.jsonl", "--topics", 2, *more),
        ]
        with open(self.folder / "generator.txt", "w") as out:
            self.load = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=out)
        self.say(f"{options.messages:,} messages at {options.rate or 'full speed'} a second from {options.clients} clients")

    def progress(self) -> dict:
        """The newest line of the generator's timeline."""
        try:
            lines = (self.folder / "timeline.jsonl").read_text().splitlines()
            return json.loads(lines[-1])
        except (OSError, IndexError, ValueError):
            return {"s": 0, "sent": 0, "settled": 0, "behind": 0}

    def sending(self) -> bool:
        return self.load.poll() is None and self.progress()["settled"] < self.options.messages

    def disturb(self) -> None:
        """What happens while messages flow."""

    def go(self) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.work.mkdir()
        try:
            self.run()
            self.disturb()
            self.say("waiting for the generator, and for what it finds in Kafka")
            self.load.wait(self.options.timeout + 600)
            self.recorder.settled()
            self.judge()
            self.service.stop()
            return self.summarise()
        finally:
            self.clean_up()

    def judge(self) -> None:
        report = json.loads((self.folder / "report.json").read_text())
        self.report = report
        faults = watch.ledger(self.recorder.last)
        self.checks["the generator's verdict"] = report["verdict"]["passed"]
        self.checks["all messages sent and answered"] = report["settled"] == self.options.messages
        self.checks["the service's ledger balances at the end"] = not faults
        if faults:
            self.facts["ledger"] = faults

    def summarise(self) -> bool:
        report, passed = self.report, all(self.checks.values())
        summary = {
            "proof": self.options.proof, "passed": passed, "checks": self.checks, "facts": self.facts,
            "options": {name: str(value) for name, value in vars(self.options).items()},
            "machine": f"{os.cpu_count()} CPUs, Linux {os.uname().release}", "date": time.strftime("%Y-%m-%d"),
            "program": str(binary().relative_to(ROOT) if binary().is_relative_to(ROOT) else binary()), "report": report, "metrics": self.recorder.summary(),
        }  # fmt: skip
        (self.folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        puback, forebay = report["latency_us"]["puback"], report["processes"][0]
        lines = [
            f"{'PASSED' if passed else 'FAILED'}: {self.options.proof}",
            *(f"  {'yes' if ok else 'NO '} {name}" for name, ok in self.checks.items()),
            *(f"  {name}: {value}" for name, value in self.facts.items()),
            f"  {report['settled']:,} messages in {report['wall_s']:.1f} s; PUBACK p50 {puback['p50']} µs, p99 {puback['p99']} µs, longest {puback['max']} µs",
            f"  Forebay: {forebay['cpu_us_per_message']:.2f} µs of CPU a message, {forebay['rss_bytes_max'] / 2**20:.0f} MiB at most",
            (self.folder / "generator.txt").read_text(),
        ]
        (self.folder / "summary.txt").write_text("\n".join(lines))
        print("\n".join(lines))
        return passed

    def clean_up(self) -> None:
        for process in [self.load, *self.helpers]:
            if process and process.poll() is None:
                process.kill()
                process.wait()
        if self.service:
            self.service.kill()
            for name in ("forebay.toml", "forebay.log"):
                (self.folder / name).write_bytes((self.work / name).read_bytes())
        if (self.kafka_dir / "cluster").exists():
            self.kafka("stop", "--delete")
        subprocess.run(["rm", "-rf", self.work], check=True)

    def run(self) -> None:
        raise NotImplementedError


class Moves(Proof):
    def run(self) -> None:
        self.start_kafka("--brokers", 3, partitions=self.options.partitions)
        self.start_service()
        more = ["--may-lose"] if self.options.level == "leader" else []
        self.start_load("--reconnect-every", self.options.reconnect_every, *more)

    def disturb(self) -> None:
        self.moves = self.kills = 0
        killer = threading.Thread(target=self.kill_in_turn, daemon=True)
        killer.start()
        while self.sending():
            time.sleep(self.options.move_every)
            self.move()
        killer.join()
        self.facts |= {"leaders moved by election": self.moves, "brokers killed with -9": self.kills}
        self.checks["brokers were killed and leaders moved"] = self.kills > 0 and self.moves > 0

    def topic(self) -> dict:
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return admin.list_topics(TOPIC, timeout=20).topics[TOPIC].partitions

    def move(self) -> None:
        """Another replica of each partition becomes its leader."""
        for broker in random.sample(self.bootstrap.split(","), 3):
            try:
                orders = {}
                for number, partition in self.topic().items():
                    others = [replica for replica in partition.replicas if replica != partition.leader]
                    orders[number] = sorted(others, key=lambda replica: replica not in partition.isrs) + [partition.leader]
                orders = {number: order for number, order in orders.items() if len(order) == 3}
                movers.reorder(broker, TOPIC, orders)
                self.moves += movers.elect(broker, TOPIC, list(orders))
                return
            except (OSError, RuntimeError, KeyError, movers.struct.error) as error:
                self.say(f"no move by {broker}: {error}")  # that broker is down, or the controller is being elected
            except Exception as error:  # KafkaException has no type of its own to name
                self.say(f"no move: {error}")
                return

    def kill_in_turn(self) -> None:
        broker = 0
        while self.sending():
            time.sleep(self.options.kill_every - self.options.down)
            if not self.sending():
                return
            broker = broker % 3 + 1
            self.kafka("kill9", broker)
            self.kills += 1
            self.say(f"broker {broker} killed; {self.progress()['settled']:,} messages settled")
            time.sleep(self.options.down)
            self.kafka("start", "--broker", broker)
            self.wait_in_sync()

    def wait_in_sync(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if all(len(partition.isrs) == 3 for partition in self.topic().values()):
                    return
            except Exception:  # a broker that is not there yet
                pass
            time.sleep(0.3)
        self.say("the replicas are not in sync after 60 s")

    def judge(self) -> None:
        super().judge()
        counts = self.report["verdict"]["counts"]
        lost = sum(count for name, count in counts.items() if name.endswith("answered and not in Kafka"))
        noticed = self.recorder.last["sink_acknowledged_lost"]
        self.facts |= {"answered and not in Kafka": lost, "times that the service noticed a loss": noticed}
        if self.options.level == "leader":  # what one lost leader takes with it is many messages and one time
            self.checks["what is lost was noticed and counted"] = lost == 0 or noticed > 0
        else:
            self.checks["nothing answered is lost"] = lost == 0 and noticed == 0


class Away(Proof):
    def run(self) -> None:
        self.start_kafka(partitions=self.options.partitions)
        self.start_service()
        self.start_load()

    def disturb(self) -> None:
        options = self.options
        time.sleep(options.before)
        before = self.recorder.last.copy()
        self.kafka("stop")
        gone = self.progress()
        self.say(f"Kafka is away; {gone['settled']:,} messages settled")
        time.sleep(options.minutes * 60)
        self.facts["due and not sent when Kafka came back"] = self.progress()["behind"]
        back = self.recorder.last.copy()
        self.kafka("start")
        returned = time.monotonic()
        self.say(f"Kafka is back; {self.progress()['settled']:,} messages settled")
        while self.sending() and (self.progress()["behind"] > options.rate or time.monotonic() - returned < 3):
            time.sleep(0.3)
        self.facts["seconds until nothing was overdue"] = round(time.monotonic() - returned, 1)
        after = self.recorder.last.copy()

        def size(begin: dict, end: dict) -> float:
            return (end["sink_delivered"] - begin["sink_delivered"]) / max(end["sink_batches"] - begin["sink_batches"], 1)

        self.facts |= {"records a batch before": round(size({"sink_delivered": 0, "sink_batches": 0}, before), 1), "records a batch after": round(size(back, after), 1)}

    def judge(self) -> None:
        super().judge()
        report, most = self.report, self.recorder.most
        rss_mib = report["processes"][0]["rss_bytes_max"] / 2**20
        self.facts |= {
            "resident MiB at most": round(rss_mib), "buffered bytes at most": most["kafka_buffer_bytes"], "bound of the buffer": most["kafka_buffer_bytes_max"],
            "connections stalled at most": most["stalled_connections"], "pings": report["pings"],
        }  # fmt: skip
        self.checks["memory under its ceiling"] = rss_mib <= self.options.ceiling and most["kafka_buffer_bytes"] <= most["kafka_buffer_bytes_max"]
        self.checks["keep-alive honoured: no connection lost"] = report["connections"]["lost"] == 0 and self.recorder.last["keep_alive_timeouts"] == 0
        self.checks["batches grew"] = self.facts["records a batch after"] > self.facts["records a batch before"]


class Slow(Proof):
    def run(self) -> None:
        proxy = free_port()
        self.service_bootstrap = f"127.0.0.1:{proxy}"
        # Clients are told the proxy's address (a second line of the same property wins): all of them come through it.
        port = free_port()
        command = [sys.executable, Path(__file__).with_name("proxy.py"), proxy, f"127.0.0.1:{port}", self.options.delay]
        self.helpers.append(subprocess.Popen([str(word) for word in command]))
        self.start_kafka("--port", port, "--config", f"advertised.listeners=PLAINTEXT://127.0.0.1:{proxy}", partitions=1)
        self.start_service()
        self.start_load()

    def judge(self) -> None:
        super().judge()
        lines = [json.loads(line) for line in (self.folder / "timeline.jsonl").read_text().splitlines()]
        warm = [line["behind"] for line in lines if line["s"] > self.options.warm]
        self.facts |= {
            "round trip made longer by ms": self.options.delay, "overdue at most after the first seconds": max(warm, default=0),
            "rows buffered at most": self.recorder.most["sink_buffered_rows"], "seconds from the last message to the last answer": self.report["drain_s"],
        }  # fmt: skip
        self.checks["the delay was there"] = self.report["latency_us"]["puback"]["p50"] >= self.options.delay * 1000
        self.checks["no backlog: at most half a second's messages overdue"] = bool(warm) and max(warm) < self.options.rate / 2
        self.checks["the rate was carried"] = self.report["wall_s"] - self.report["drain_s"] < self.options.messages / self.options.rate * 1.02 + 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    proofs = parser.add_subparsers(dest="proof", required=True)
    sizes = {"moves": (1_000_000, 6_000, 200), "away": (0, 20_000, 500), "slow": (300_000, 5_000, 100)}
    for name, (messages, rate, clients) in sizes.items():
        proof = proofs.add_parser(name)
        proof.add_argument("folder", type=Path, help="where results go; must not have a part named work")
        proof.add_argument("--messages", type=int, default=messages)
        proof.add_argument("--rate", type=int, default=rate, help=f"messages a second, default {rate}")
        proof.add_argument("--clients", type=int, default=clients)
        proof.add_argument("--window", type=int, default=64)
        proof.add_argument("--per-write", type=int, default=1)
        proof.add_argument("--keep-alive", type=int, default=20)
        proof.add_argument("--timeout", type=int, default=1_800, help="seconds for sending")
        proof.add_argument("--seed", type=int, default=1)
        proof.add_argument("--shards", type=int, default=2)
        proof.add_argument("--buffer", default="64MiB", help="memory for records on their way")
        proof.add_argument("--level", default="replicated", choices=["leader", "replicated"])
        proof.add_argument("--partitions", type=int, default=6)
        if name == "moves":
            proof.add_argument("--move-every", type=float, default=4, metavar="SECONDS")
            proof.add_argument("--kill-every", type=float, default=15, metavar="SECONDS")
            proof.add_argument("--down", type=float, default=4, metavar="SECONDS", help="how long a killed broker stays down")
            proof.add_argument("--reconnect-every", type=int, default=1_000, metavar="MESSAGES")
        elif name == "away":
            proof.add_argument("--minutes", type=float, default=5)
            proof.add_argument("--before", type=float, default=20, metavar="SECONDS", help="of flow before Kafka goes")
            proof.add_argument("--after", type=float, default=60, metavar="SECONDS", help="of offered messages after it is back")
            proof.add_argument("--ceiling", type=float, default=192, metavar="MIB", help="most resident memory of the service")
        else:
            proof.add_argument("--delay", type=float, default=50, metavar="MS", help="added to each round trip")
            proof.add_argument("--warm", type=float, default=3, metavar="SECONDS", help="not judged at the start")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    if options.proof == "away" and not options.messages:
        options.messages = int(options.rate * (options.before + options.minutes * 60 + options.after))
    made = {"moves": Moves, "away": Away, "slow": Slow}[options.proof]
    return 0 if made(options).go() else 1


if __name__ == "__main__":
    sys.exit(main())
