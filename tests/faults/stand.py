"""What every scenario stands on: Apache Kafka, the service, the generator that outlives it, and the record at the end.

The generator (`forebay-bench flow --control`) is told by lines on its standard input where the service is and when something was done to it.
Each start of the service has a port of its own, so that an answer's start is known for certain. A scenario goes in rounds, each with a
generator, a Kafka topic and a verdict of its own, so that a long run needs no more room than a short one.
"""

import argparse
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/python"))

import proof  # noqa: E402
import readers  # noqa: E402
import watch  # noqa: E402
from generator import Orders  # noqa: E402
from service import CACHE, Service, binary  # noqa: E402

PARTITIONS = 6
READY_S = 60  # for one start of the service
SPOOLS = ("none", "replicated", "stored")
# What a sink and the service say in each mode.
SPOOL = """
[spool]
bytes_max = "{spool_bytes}"
when_full = "{when_full}"
append = "{append}"
"""
SINK = {
    "none": 'acknowledge = "replicated"',
    "replicated": 'buffer = "disk"\nacknowledge = "replicated"',
    "stored": 'buffer = "disk"\nacknowledge = "stored"',
    "received": 'acknowledge = "received"',  # promises nothing over a kill: to see the judge say so
}
CONFIG = """\
[service]
shards = {shards}
pin = false
data_dir = "{data}"
drain_grace = "{grace}s"
[control]
bind = "127.0.0.1:0"
[[listener]]
bind = "127.0.0.1:{port}"
{listener}
[kafka.main]
bootstrap = "{bootstrap}"
buffer_bytes = "{buffer}"
{cluster}
{spool}
{more}
[[sink]]
name = "all"
kafka = "main"
filters = "{filters}"
topic = "faults-${{topic[1]}}"
{sink}
"""


class Failed(Exception):
    """The run cannot go on, or cannot be judged."""


class Skipped(Exception):
    """This machine or this build cannot do it."""


def free_ports(count: int) -> list[int]:
    """Free, and below those that the kernel gives to clients: nobody connects to itself while the service is away."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, low)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Bridge(Service):
    """The service, started again and again; each time on the next of its ports."""

    def __init__(self, folder: Path, text: str, program: Path, environment: dict[str, str], wrap: list[str]):
        super().__init__(folder, text, program)
        self.text, self.environment, self.wrap = text, environment, wrap
        self.ports, self.starts, self.begin = free_ports(8), 0, 0
        self.spawned = 0.0

    def get(self, path: str) -> tuple[int, str]:
        try:
            return super().get(path)
        except (http.client.HTTPException, KeyError, ValueError) as error:  # killed in the middle of an answer, or not up yet
            raise OSError(error) from error

    def spawn(self) -> str:
        """Starts it, and does not wait. The address at which it will listen."""
        port = self.ports[self.starts % len(self.ports)]
        self.starts += 1
        self.addresses = {}
        self.config_file.write_text(self.text.replace("{port}", str(port)))
        self.begin = self.log_file.stat().st_size if self.log_file.exists() else 0
        self.spawned = time.monotonic()
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [*self.wrap, str(self.program), "run", "--config", str(self.config_file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"NO_COLOR": "1"} | self.environment,
            )  # fmt: skip
        return f"127.0.0.1:{port}"

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_ready(self, patience_s: float = READY_S) -> float:
        """Seconds from its start until it was ready."""
        deadline = time.monotonic() + patience_s
        while not self.ready(self.begin):
            if not self.alive():
                raise Failed(f"the service ended at its start with status {self.process.returncode}; its log:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise Failed(f"the service was not ready after {patience_s} s; its log:\n{self.tail()}")
            time.sleep(0.01)
        return time.monotonic() - self.spawned

    def status(self, name: str) -> int:
        """A figure in KiB of /proc/PID/status."""
        try:
            text = Path(f"/proc/{self.process.pid}/status").read_text()
            return int(next(line for line in text.splitlines() if line.startswith(name + ":")).split()[1])
        except (OSError, StopIteration, AttributeError):
            return 0


class Load(Orders):
    """One round's generator."""

    def __init__(self, stand: "Stand", number: int, target: str):
        options = stand.options
        self.stand, self.name = stand, f"r{number}"
        self.topic = stand.topic_of(self.name)
        self.run, self.seed = number, options.seed + number
        self.marked_ns: list[int] = []  # when, on this machine's monotonic clock
        self.folder = stand.work / self.name
        self.folder.mkdir()
        self.report_file, self.timeline, self.events = (self.folder / name for name in ("report.json", "timeline.jsonl", "events.bin"))
        command = [
            proof.generator(), "flow", "--control", "--target", target, "--kafka", stand.bootstrap, "--kafka-topic", self.topic,
            "--topic", f"flow/{self.name}/{{client}}/{{topic}}", "--topics", 2, "--messages", 1 << 40, "--clients", options.clients,
            "--qos", options.qos, "--rate", options.rate, "--window", options.window, "--per-write", options.per_write,
            "--payload", options.payload, "--reconnect-every", options.reconnect_every, "--keep-alive", options.keep_alive,
            "--run", self.run, "--seed", self.seed, "--timeout", options.timeout, "--patience", options.patience, "--settle", 2,
            "--json", self.report_file, "--timeline", self.timeline,
        ]  # fmt: skip
        if stand.spooled:
            command.append("--spooled")
        if options.insist:
            command.append("--insist")
        command += stand.flow_options
        if options.events:
            command += ["--events", self.events]
        with open(self.folder / "generator.txt", "w") as out:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=out, text=True)

    def mark(self, name: str) -> None:
        self.marked_ns.append(time.monotonic_ns())
        super().mark(name)

    def ended(self) -> Exception:
        return Failed(f"the generator has ended: {self.words()[-2000:]}")

    def words(self) -> str:
        return (self.folder / "generator.txt").read_text(errors="replace")

    def progress(self) -> dict:
        """The newest whole line of the timeline, which has one a second."""
        try:
            return json.loads(self.timeline.read_text().rstrip("\n").rpartition("\n")[2])
        except (OSError, ValueError):
            return {"s": 0, "sent": 0, "settled": 0, "answers": 0, "connected": 0}

    def end(self) -> dict:
        """Nothing new is sent; what is open is answered, what the service still has goes to Kafka, it is read, and the report is here."""
        self.order("end")
        self.stand.wait_drained()
        self.process.stdin.close()  # now Kafka is read
        try:
            self.process.wait(self.stand.options.timeout + 900)
        except subprocess.TimeoutExpired:
            raise Failed("the generator does not end") from None
        if not self.report_file.exists():
            raise Failed(f"the generator ended with status {self.process.returncode}: {self.words()[-2000:]}")
        return json.loads(self.report_file.read_text())


class Stand:
    """Kafka, service and load of one scenario."""

    def __init__(self, scenario: str, options: argparse.Namespace, program: Path | None = None):
        self.scenario, self.options = scenario, options
        self.program = program or binary()
        self.spooled = options.spool in ("replicated", "stored")
        self.began, self.date = time.monotonic(), time.strftime("%Y-%m-%d")
        base = Path(os.environ.get("FOREBAY_TEST_DIR") or CACHE / "runs")
        base.mkdir(parents=True, exist_ok=True)
        self.work = Path(tempfile.mkdtemp(prefix=f"faults-{scenario}.", dir=base))
        self.data = self.work / "data"
        self.kafka_dir = self.work / "kafka"
        self.bootstrap = self.service_bootstrap = ""
        self.environment: dict[str, str] = {"FOREBAY_TEST_WRONG_RULE": options.broken} if getattr(options, "broken", None) else {}
        self.wrap: list[str] = []  # put before the service's command
        self.service: Bridge | None = None
        self.load: Load | None = None
        self.rounds = 0
        self.checks: dict[str, bool] = {}
        self.facts: dict[str, object] = {}
        self.counts: Counter[str] = Counter()
        self.faults: dict[str, dict] = {}
        self.marks: list[dict] = []
        self.latency_us: dict[str, dict] = {}
        self.rss_kib = 0
        self.interrupted, self.drained = False, True
        self.flow_options: list[str] = []
        self.undo: list = []  # what a scenario has set up beside these, taken back in reverse
        self.about = {"machine": proof.machine(), "versions": proof.versions()}

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    # ---- Kafka --------------------------------------------------------------------------------------------------------------------

    def kafka(self, *arguments: object) -> str:
        return readers.kafka(*arguments, "--dir", self.kafka_dir)

    def start_kafka(self, *more: object) -> None:
        self.bootstrap = self.kafka("start", "--auto-create", "false", "--partitions", 1, "--brokers", self.options.brokers, *more)
        self.service_bootstrap = self.service_bootstrap or self.bootstrap
        self.say(f"Apache Kafka at {self.bootstrap}")

    # ---- the service --------------------------------------------------------------------------------------------------------------

    def start_service(self, **settings: object) -> None:
        """The first start, and the wait for it; the load's first target."""
        options = self.options
        level = getattr(options, "level", None) or options.spool
        values = {"shards": options.shards, "grace": 10, "buffer": options.buffer, "spool_bytes": options.spool_bytes, "listener": "", "cluster": "", "more": "", "filters": "flow/#", "when_full": options.when_full, "append": options.append} | settings
        spool = SPOOL.format(**values) if self.spooled else ""
        text = CONFIG.format(data=self.data, port="{port}", bootstrap=self.service_bootstrap, sink=SINK[level], **(values | {"spool": spool}))
        self.service = Bridge(self.work, text, self.program, self.environment, self.wrap)
        self.target = self.service.spawn()
        ready_s = self.service.wait_ready()
        self.watch = watch.Watch(self.service, 0.25)
        self.watch.start()
        self.say(f"{self.program} ready after {ready_s:.2f} s, spool: {options.spool}")

    def restart(self) -> float:
        """Starts it after its end, tells the load, waits until it is ready. Seconds that took."""
        self.spawn()
        return self.service.wait_ready()

    def spawn(self) -> None:
        """Starts it after its end, and tells all clients where."""
        self.target = self.service.spawn()
        if self.load:
            self.load.order(f"target {self.target}")

    def look(self) -> None:
        """Notes what the service holds; before it is killed, and now and then."""
        self.rss_kib = max(self.rss_kib, self.service.status("VmHWM"))

    # ---- rounds -------------------------------------------------------------------------------------------------------------------

    def topic_of(self, round: str) -> str:
        """Makes the Kafka topic in which a round's messages are judged."""
        topic = f"faults-{round}"
        readers.create_topic(self.bootstrap, topic, PARTITIONS)
        return topic

    def begin_round(self) -> Load:
        self.rounds += 1
        self.load = Load(self, self.rounds, self.target)
        self.load.mark("begin")
        return self.load

    def wait_flow(self, patience_s: float = 30) -> None:
        """Until answers come."""
        deadline = time.monotonic() + patience_s
        while not self.load.progress().get("answers"):
            if self.load.process.poll() is not None:
                raise Failed(f"the generator has ended: {self.load.words()[-2000:]}")
            if time.monotonic() > deadline:
                raise Failed(f"no answers after {patience_s} s; the service's log:\n{self.service.tail()}")
            time.sleep(0.1)

    def end_round(self) -> dict:
        """Waits until all is answered and judged, and adds it up."""
        load = self.load
        self.look()
        self.say(f"round {self.rounds}: waiting for answers, and for what stands in Kafka")
        try:
            report = load.end()
        finally:
            self.load = None
            if load.process.poll() is None:
                load.process.kill()
        self.judge_round(load, report)
        self.add(report)
        verdict = report["verdict"]
        words = "passed" if verdict["passed"] else f"FAILED: {', '.join(verdict['faults'])}"
        self.say(f"round {self.rounds}: {words}; {report['settled']:,} messages settled in {report['wall_s']:.1f} s")
        if verdict["passed"] and not self.options.keep:
            shutil.rmtree(load.folder)
        self.drop_topic(load.topic)
        return report

    def judge_round(self, load: Load, report: dict) -> None:
        """What else is judged of a round: its faults go to the verdict of the report."""

    def wait_drained(self) -> None:
        """Until the service has no row left, twice a second apart; what is answered may be on its way for long."""
        deadline = time.monotonic() + self.options.patience
        empty = 0
        while empty < 2 and time.monotonic() < deadline and self.load.process.poll() is None:
            time.sleep(0.5)
            try:
                rows = watch.read(self.service.get("/metrics")[1])["sink_buffered_records"]
            except OSError:
                continue
            empty = 0 if rows else empty + 1
        self.drained = self.drained and empty >= 2

    def drop_topic(self, topic: str) -> None:
        if self.options.keep:
            return
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        admin.delete_topics([topic])[topic].result(30)

    def add(self, report: dict) -> None:
        verdict, connections = report["verdict"], report["connections"]
        self.counts.update(verdict["counts"])
        self.counts.update({"settled": report["settled"], "sent": report["sent"]["all"], "given up": report["given_up"]})
        self.counts.update({f"sent again: {name}": count for name, count in report["sent_again"].items()})
        self.counts.update({f"connections: {name}": connections[name] for name in ("accepted", "lost", "broken_by_clients", "attempts_failed")})
        self.counts.update({f"refused {code}": count for code, count in report["refused"].items()})
        self.counts["PUBCOMP with an unknown id"] += report["pubcomp_unknown_id"]
        self.add_faults(verdict)
        for kind, found in report["latency_us"].items():
            self.latency_us.setdefault(kind, {"p50": [], "p99": [], "max": []})
            for name, values in self.latency_us[kind].items():
                values.append(found[name])
        self.marks += [mark | {"round": self.rounds} for mark in report["marks"]]
        self.counts["load_s"] += report["wall_s"]

    def add_faults(self, verdict: dict) -> None:
        for kind, fault in verdict["faults"].items():
            known = self.faults.setdefault(kind, {"count": 0, "examples": []})
            known["count"] += fault["count"]
            known["examples"] = (known["examples"] + fault["examples"])[:10]

    # ---- the end ------------------------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """What holds for every scenario."""
        of_kafka = [kind for kind in self.faults if not kind.startswith("J")]  # J: of subscribers
        self.checks["what the clients were told is in Kafka (I1 to I4, S)"] = not of_kafka and self.rounds > 0
        self.judge_service()

    def judge_service(self) -> None:
        """What it says of itself."""
        scrapes = self.watch.scrapes
        self.facts["ledgers"] = str(scrapes)
        self.checks["the ledgers balance at every scrape (I8)"] = scrapes.count > 0 and not scrapes.out_of_balance
        if scrapes.faults:
            self.facts["out of balance"] = scrapes.faults
        gauges = ("spool_full", "spool_write_failing", "spool_io_errors", "spool_corruptions", "spool_truncated_bytes", "sink_records_in_recovery", "connections_paused", "sink_possible_duplicates")
        self.facts["most of"] = {name: scrapes.most[name] for name in gauges if scrapes.most[name]}
        self.checks["the service counts nothing acknowledged as lost (I8)"] = scrapes.most["sink_kafka_data_losses"] == 0
        self.checks["the service kept no row back (I7)"] = self.drained
        self.facts["resident MiB at most"] = round(self.rss_kib / 1024, 1)

    def answered_within(self, name: str, bound_s: float, what: str) -> None:
        """I7: after each mark of this name answers came within the bound. Spans too short to say are passed over."""
        spans = [mark for mark in self.marks if mark["name"] == name]
        firsts = [mark["first_answer_ms"] for mark in spans if mark["first_answer_ms"] is not None]
        late = [m for m in spans if (m["first_answer_ms"] or 0) > bound_s * 1000]
        late += [m for m in spans if m["first_answer_ms"] is None and m["ended_ms"] - m["at_ms"] > bound_s * 1000]
        self.facts[f"ms until an answer, {what}"] = quantiles(firsts)
        self.checks[f"answers within {bound_s:g} s, {what} (I7)"] = bool(spans) and not late

    def clean_up(self) -> None:
        if self.load and self.load.process.poll() is None:
            self.load.process.kill()
            self.load.process.wait()
        if self.service:
            if hasattr(self, "watch"):
                self.watch.over.set()
                self.watch.join()
            self.service.kill()
        if (self.kafka_dir / "cluster").exists():
            self.kafka("stop", "--delete")
        for undo in reversed(self.undo):
            undo()
        failed = not self.checks or not all(self.checks.values())
        expected = self.interrupted or getattr(self.options, "caught", False)
        if self.options.keep or (failed and not expected):
            self.say(f"kept for a look at it: {self.work}")
        else:
            shutil.rmtree(self.work, ignore_errors=True)


def quantiles(values: list) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]
    return {"count": len(ordered), "p50": at(0.5), "p99": at(0.99), "max": ordered[-1]}
