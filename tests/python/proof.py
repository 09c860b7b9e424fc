#!/usr/bin/env python3
"""Proofs at full size, with the generator of bench/ as load and judge:

    moves   three brokers, replication 3: leaders move every few seconds, one broker after the other is killed with -9 and started again
    frozen  one broker of three frozen, with unknown and forbidden topics under load: frozen.py, with the ledgers watched beside it
    away    Kafka is away for minutes while messages are offered at a rate; memory, keep-alive, and what is delivered after
    slow    a proxy makes each round trip to Kafka longer; one partition must carry the rate without a backlog

Throughout each run /metrics is read several times a second, and every scrape's ledgers must balance (watch.py). Each writes summary.json and
summary.txt, the generator's timeline, /metrics once a second and the service's configuration and log into a folder. `scripts/proof` runs them
with release builds and at full size; perf/README.md says what each shows.
"""

import argparse
import gzip
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import movers
import readers
import watch
from confluent_kafka.admin import AdminClient
from service import ADDRESSES, ROOT, Service, binary

TOPIC = "proof"
SCRAPE_S = 0.15
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


LINE_S = 1.0  # between two lines of metrics.jsonl
# What a process may hold beside buffer_bytes and what it held at its start (crates/base/src/limits.rs): of each shard 1,024 receive buffers of
# 4 KiB, and what came of packets that are not taken yet (the gauge partial_bytes, PARTIAL_BYTES_MAX); of each connection a session, with
# the buffer that it may keep for the next packet (POOLED_TAIL_BYTES_MAX).
RECEIVE_BUFFERS_BYTES = 1_024 * 4_096
PARTIAL_BYTES_MAX = 64 << 20
CONNECTION_BYTES = 16 << 10


class Recorder(watch.Watch):
    """Looks at every scrape's ledgers and keeps one in each second: a line has the names whose values are others than in the line before."""

    def __init__(self, service: "Service | Remote", file: Path, every_s: float):
        super().__init__(service, every_s)
        self.began, self.file = time.monotonic(), open(file, "w")
        self.line_s, self.written = 0.0, {}

    def settled(self) -> None:
        super().settled()
        self.file.close()

    def look(self) -> None:
        before = self.scrapes.count
        super().look()
        now_s = time.monotonic() - self.began
        if self.scrapes.count == before or now_s < self.line_s:
            return
        self.line_s = now_s + LINE_S
        changed = {name: value for name, value in sorted(self.last.items()) if self.written.get(name) != value}
        self.written |= changed
        self.file.write(json.dumps({"s": round(now_s, 2)} | changed) + "\n")
        self.file.flush()


class Remote:
    """A service that somebody else started, by its control address."""

    def __init__(self, control: str):
        self.control = control

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.control + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except http.client.HTTPException as error:  # killed in the middle of an answer
            raise OSError(error) from error


def said(*command: object) -> str:
    """The first line that a program says, or nothing."""
    try:
        done = subprocess.run([str(word) for word in command], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        return next(iter((done.stdout + done.stderr).splitlines()), "")
    except OSError:
        return ""


def machine() -> dict[str, object]:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])
    return {
        "cpus": os.cpu_count(), "cpu": cpu[1] if cpu else os.uname().machine, "memory_gib": round(memory / 2**20), "kernel": os.uname().release,
        "load_before": os.getloadavg()[0],
    }  # fmt: skip


def versions() -> dict[str, str]:
    return {
        "forebay": said(binary(), "--version"), "commit": said("git", "rev-parse", "HEAD"), "kafka": os.environ.get("KAFKA_VERSION", "4.3.1"),
        "java": said("java", "-version"), "kcat": said("kcat", "-V"), "python": sys.version.split()[0],
    }  # fmt: skip


class Proof:
    """What all of them have in common."""

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
        self.about = {"machine": machine(), "versions": versions()}

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
        self.record(self.service)
        self.say(f"{self.service.program} at {self.service.addresses['mqtt']}, acknowledge {options.level}")

    def record(self, service: "Service | Remote") -> None:
        self.recorder = Recorder(service, self.folder / "metrics.jsonl", self.options.scrape_every)
        self.recorder.look()
        self.at_start = self.recorder.last.copy()
        self.recorder.start()

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
            self.stop_service()
            return self.summarise()
        finally:
            self.clean_up()

    def stop_service(self) -> None:
        self.service.stop()

    def judge(self) -> None:
        report = json.loads((self.folder / "report.json").read_text())
        self.report = report
        faults = watch.ledger(self.recorder.last)
        self.checks["the generator's verdict"] = report["verdict"]["passed"]
        self.checks["all messages sent and answered"] = report["settled"] == self.options.messages
        self.checks["the service's ledger balances at the end"] = not faults
        if faults:
            self.facts["ledger"] = faults

    def judge_scrapes(self) -> None:
        scrapes = self.recorder.scrapes
        self.facts["ledgers"] = str(scrapes)
        self.checks["the ledgers balance at every scrape"] = scrapes.count > 0 and not scrapes.out_of_balance
        if scrapes.faults:
            self.facts["out of balance"] = scrapes.faults

    def summarise(self) -> bool:
        self.judge_scrapes()
        passed = all(self.checks.values())
        program = binary()
        summary = {
            "proof": self.options.proof, "passed": passed, "checks": self.checks, "facts": self.facts,
            "options": {name: str(value) for name, value in vars(self.options).items() if name != "folder"},
            "date": time.strftime("%Y-%m-%d"), "program": program.name, "profile": program.parent.name, **self.about,
            "report": self.report, "metrics": self.recorder.summary(),
        }  # fmt: skip
        (self.folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        lines = [
            f"{'PASSED' if passed else 'FAILED'}: {self.options.proof}",
            *(f"  {'yes' if ok else 'NO '} {name}" for name, ok in self.checks.items()),
            *(f"  {name}: {value}" for name, value in self.facts.items()),
            *self.words(),
        ]
        (self.folder / "summary.txt").write_text("\n".join(lines).rstrip() + "\n")
        print("\n".join(lines))
        return passed

    def words(self) -> list[str]:
        """What the generator has to say."""
        report = self.report
        puback, forebay = report["latency_us"]["puback"], report["processes"][0]
        return [
            f"  {report['settled']:,} messages in {report['wall_s']:.1f} s; PUBACK p50 {puback['p50']} µs, p99 {puback['p99']} µs, longest {puback['max']} µs",
            f"  Forebay: {forebay['cpu_us_per_message']:.2f} µs of CPU a message, {forebay['rss_bytes_max'] / 2**20:.0f} MiB at most",
            (self.folder / "generator.txt").read_text(),
        ]

    def clean_up(self) -> None:
        for process in [self.load, *self.helpers]:
            if process and process.poll() is None:
                process.kill()
                process.wait()
        if self.service:
            self.service.kill()
            shutil.copyfile(self.work / "forebay.log", self.folder / "forebay.log")
            # Where the record was taken is nobody's concern.
            text = (self.work / "forebay.toml").read_text()
            (self.folder / "forebay.toml").write_text(text.replace(str(self.work), self.work.name))
        if (self.kafka_dir / "cluster").exists():
            self.kafka("stop", "--delete")
        shutil.rmtree(self.work)
        self.compress()

    def compress(self) -> None:
        """What grows with the time of a run; the report stands in summary.json."""
        for name in ("metrics.jsonl", "timeline.jsonl", "forebay.log", "safe.csv", "frozen.txt"):
            if (file := self.folder / name).exists():
                file.with_name(name + ".gz").write_bytes(gzip.compress(file.read_bytes(), 9, mtime=0))
                file.unlink()
        if (self.folder / "summary.json").exists():
            for name in ("report.json", "generator.txt", "frozen.json", "frozen.txt.gz"):
                (self.folder / name).unlink(missing_ok=True)

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
        while self.sending() and self.kills < (self.options.kills or self.kills + 1):
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
        noticed = self.recorder.last["sink_kafka_data_losses"]
        self.facts |= {"answered and not in Kafka": lost, "times that the service noticed a loss": noticed}
        counted = self.recorder.last.get("sink_kafka_lost_records")
        if counted is not None:  # a lower bound for all messages; the judge knows those of QoS 1 and 2
            self.facts["messages that the service counted as lost"] = counted
        if self.options.level == "leader":  # what one lost leader takes with it is many messages and one time
            self.checks["what is lost was noticed and counted"] = lost == 0 or (noticed > 0 and counted != 0)
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
        before, gone, began = self.recorder.last.copy(), self.progress(), time.monotonic()
        stopping = threading.Thread(target=self.kafka, args=("stop",), daemon=True)
        stopping.start()
        self.say(f"Kafka goes away; {gone['settled']:,} messages settled")
        self.watch_absence(gone, began)
        stopping.join()
        self.held = back = self.recorder.last.copy()
        self.kafka("start")
        returned = time.monotonic()
        self.say(f"Kafka is back; {self.progress()['settled']:,} messages settled")
        while self.sending() and (self.progress()["behind"] > options.rate or time.monotonic() - returned < 3):
            time.sleep(0.3)
        self.facts["seconds until nothing was overdue"] = round(time.monotonic() - returned, 1)
        after = self.recorder.last.copy()
        drained_s = max(time.monotonic() - returned, 0.001)
        self.facts["delivered a second from Kafka's start until then"] = round((after["sink_records_out_delivered"] - back["sink_records_out_delivered"]) / drained_s)

        def size(begin: dict, end: dict) -> float:
            return (end["sink_records_out_delivered"] - begin["sink_records_out_delivered"]) / max(end["sink_batches"] - begin["sink_batches"], 1)

        self.facts |= {"records a batch before": round(size({"sink_records_out_delivered": 0, "sink_batches": 0}, before), 1), "records a batch after": round(size(back, after), 1)}

    def judge(self) -> None:
        super().judge()
        report, most, last = self.report, self.recorder.most, self.recorder.last
        start_bytes, bound = self.at_start["process_resident_memory_bytes"], self.at_start["kafka_buffer_bytes_max"]
        base = start_bytes + self.options.shards * RECEIVE_BUFFERS_BYTES + self.options.clients * CONNECTION_BYTES
        held, held_ceiling = self.held["process_resident_memory_bytes"], base + bound + self.held["partial_packet_bytes"]
        ceiling = base + bound + self.options.shards * PARTIAL_BYTES_MAX
        rss = max(report["processes"][0]["rss_bytes_max"], most["process_resident_memory_bytes"])
        mib = lambda count: round(count / 2**20, 1)
        self.facts |= {
            "resident MiB at the start, before any client": mib(start_bytes),
            "resident MiB at the end of Kafka's absence, ceiling": [mib(held), mib(held_ceiling)],
            "resident MiB at most, ceiling": [mib(rss), mib(ceiling)],
            "buffered MiB at the end of Kafka's absence, at most, bound": [mib(self.held["kafka_buffer_bytes"]), mib(most["kafka_buffer_bytes"]), mib(bound)],
            "MiB of packets not taken yet, at most": mib(most["partial_packet_bytes"]),
            "connections stalled at most": most["connections_paused"], "pings": report["pings"],
        }  # fmt: skip
        self.checks["memory under its ceiling while Kafka is away"] = held <= held_ceiling
        self.checks["memory under its ceiling throughout"] = rss <= ceiling and most["kafka_buffer_bytes"] <= bound
        self.checks["publishers were held: memory was full and connections left unread"] = most["connections_paused"] > 0
        closed = ("connections_closed_keep_alive_timeout", "connections_closed_answer_timeout", "connections_closed_partial_packets")
        lost = report["connections"]["lost"] + sum(last[name] for name in closed)
        self.checks["keep-alive honoured: no connection lost"] = lost == 0
        self.checks["every PINGREQ answered by the end"] = report["pings"]["sent"] == report["pings"]["answered"]
        self.checks["batches grew"] = self.facts["records a batch after"] > self.facts["records a batch before"]

    def watch_absence(self, gone: dict, began: float) -> None:
        """What went on while Kafka was away: in the whole time, and until the first connection was left unread."""
        full_s, at_full = None, gone
        while (away_s := time.monotonic() - began) < self.options.minutes * 60:
            if full_s is None:
                at_full = self.progress()
                if self.recorder.last["connections_paused"]:
                    full_s = round(away_s, 1)
            time.sleep(min(0.5, max(self.options.minutes * 60 - away_s, 0)))
        now, sent = self.progress(), lambda line, name: line.get(name, 0) - gone.get(name, 0)
        self.facts |= {
            "seconds away until a connection was left unread": full_s,
            "while away: sent, answered": [sent(now, "sent"), sent(now, "settled")],
            "while away: PINGREQ, PINGRESP until then": [sent(at_full, "pings"), sent(at_full, "pongs")],
            "while away: PINGREQ, PINGRESP in all": [sent(now, "pings"), sent(now, "pongs")],
            "due and not sent when Kafka came back": now["behind"],
        }


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
            "rows buffered at most": self.recorder.most["sink_buffered_records"], "seconds from the last message to the last answer": self.report["drain_s"],
        }  # fmt: skip
        self.checks["the delay was there"] = self.report["latency_us"]["puback"]["p50"] >= self.options.delay * 1000
        self.checks["no backlog: at most half a second's messages overdue"] = bool(warm) and max(warm) < self.options.rate / 2
        self.checks["the rate was carried"] = self.report["wall_s"] - self.report["drain_s"] < self.options.messages / self.options.rate * 1.02 + 1


class Frozen(Proof):
    """frozen.py as it is: it starts Kafka, service and load, and judges. From here its service's ledgers are watched."""

    def run(self) -> None:
        options = self.options
        command = [sys.executable, Path(__file__).with_name("frozen.py"), "--out", self.folder, "--judge", *options.more]
        environment = os.environ | {"TMPDIR": str(self.work), "PYTHONUNBUFFERED": "1"}
        with open(self.folder / "frozen.txt", "w") as out:
            self.load = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
        self.record(Remote(self.control()))
        self.say("the service is there, its ledgers are watched")

    def control(self) -> str:
        while self.load.poll() is None:
            for log in self.work.glob("*/forebay.log"):
                if found := ADDRESSES["control"].search(log.read_text(errors="replace")):
                    try:
                        if Remote(found[1]).get("/readyz")[0] == 200:
                            return found[1]
                    except OSError:
                        pass
            time.sleep(0.1)
        raise SystemExit("frozen.py ended before its service stood:\n" + (self.folder / "frozen.txt").read_text()[-2000:])

    def judge(self) -> None:
        self.text = (self.folder / "frozen.txt").read_text()
        self.checks["the verdict of frozen.py"] = self.load.returncode == 0
        self.report = json.loads((self.folder / "frozen.json").read_text())

    def words(self) -> list[str]:
        return self.text.splitlines()

    def stop_service(self) -> None:
        """frozen.py has done it."""

    def clean_up(self) -> None:
        if self.load and self.load.poll() is None:
            self.load.send_signal(signal.SIGINT)  # then it stops what it started
            try:
                self.load.wait(60)
            except subprocess.TimeoutExpired:
                self.load.kill()
        for cluster in self.work.glob("*/kafka/cluster"):  # only if frozen.py was ended
            readers.kafka("stop", "--delete", "--dir", cluster.parent)
        super().clean_up()


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
        proof.add_argument("--window", type=int, default=4_096 if name == "away" else 64)
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
            proof.add_argument("--kills", type=int, default=0, help="how many; 0: until all is sent")
            proof.add_argument("--down", type=float, default=4, metavar="SECONDS", help="how long a killed broker stays down")
            proof.add_argument("--reconnect-every", type=int, default=1_000, metavar="MESSAGES")
        elif name == "away":
            proof.add_argument("--minutes", type=float, default=5)
            proof.add_argument("--before", type=float, default=20, metavar="SECONDS", help="of flow before Kafka goes")
            proof.add_argument("--after", type=float, default=60, metavar="SECONDS", help="of offered messages after it is back")
        else:
            proof.add_argument("--delay", type=float, default=50, metavar="MS", help="added to each round trip")
            proof.add_argument("--warm", type=float, default=3, metavar="SECONDS", help="not judged at the start")
        proof.add_argument("--scrape-every", type=float, default=SCRAPE_S, metavar="S", help=f"between scrapes, default {SCRAPE_S}")
    proof = proofs.add_parser("frozen", epilog="What else is given goes to frozen.py.")
    proof.add_argument("folder", type=Path, help="where results go")
    proof.add_argument("--scrape-every", type=float, default=0.05, metavar="S")
    proof.add_argument("--timeout", type=int, default=600, help="seconds, and 600 more")
    options, more = parser.parse_known_args()
    if more and options.proof != "frozen":
        parser.error(f"unknown: {' '.join(more)}")
    options.more = more
    options.folder = options.folder.resolve()
    if options.proof == "away" and not options.messages:
        options.messages = int(options.rate * (options.before + options.minutes * 60 + options.after))
    made = {"moves": Moves, "frozen": Frozen, "away": Away, "slow": Slow}[options.proof]
    return 0 if made(options).go() else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that an end from outside cleans up too
    sys.exit(main())
