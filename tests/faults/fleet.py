"""Several instances of `[broker]` on one Kafka: the service of a scenario is all of them, and a client may connect at each."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import watch  # tests/python: found by way of stand
from scenarios import Scenario
from stand import Bridge, Failed, Load, Skipped, free_ports

SLOTS = 64
# Until each instance has its part of the slots.
SHARED_WITHIN_S = 90
# A client sends PINGREQ when it has received nothing for half of the first, and closes a connection on which an answer takes longer than the second.
KEEP_ALIVE_S, SILENCE_S = 4, 5
# CONNACK for a client that has waited too long for the instance that serves it, or that comes too often in a short time, by version.
REFUSALS = {"5.0": [0x88, 0x9F], "3.1.1": [3]}
# Slots may still move, and connections end with them, until this long after the end of a fault.
AFTERMATH_S = 20.0
MESSAGES = "mqtt-messages"
CONFIG = """\
[service]
shards = {shards}
pin = false
data_dir = "{data}"
[control]
bind = "127.0.0.1:0"
[[listener]]
bind = "127.0.0.1:{{port}}"
[kafka.main]
bootstrap = "{bootstrap}"
buffer_bytes = "{buffer}"
[delivery]
queue_messages_max = 1000000
queue_bytes_max = "1GiB"
[broker]
name = "{name}"
partitions = 6
sessions_bytes_max = "{sessions}"
[broker.link]
bind = "127.0.0.1:{link}"
"""


class Instance(Bridge):
    """One of them: always on the same ports."""

    def __init__(self, stand: "Fleet", name: str):
        port, link = free_ports(2)
        folder, options = stand.work / name, stand.options
        text = CONFIG.format(shards=options.shards, data=folder / "data", bootstrap=stand.bootstrap, buffer=options.buffer, name=name, link=link, sessions=options.sessions)
        super().__init__(folder, text, stand.program, stand.environment, stand.wrap)
        self.name, self.ports, self.frozen = name, [port], False
        self.dropped_before = Counter()  # messages for subscribers that its processes before have dropped

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports[0]}"

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.frozen = False

    def kill(self) -> None:
        self.dropped_before = self.dropped()
        super().kill()
        self.frozen = False

    def dropped(self) -> Counter:
        """The messages for subscribers that its processes have dropped and counted, by reason. What one counted that was frozen when it was killed is not known."""
        now = self.figures_now()
        return self.dropped_before + Counter({result: now[f"deliveries_{result}"] for result in watch.DROPPED})

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def answers(self) -> bool:
        """It is there, and not frozen."""
        return self.alive() and not self.frozen

    def figures_now(self) -> Counter:
        """Its metrics; empty: it does not answer."""
        try:
            return watch.read(self.get("/metrics")[1]) if self.answers() else Counter()
        except OSError:
            return Counter()


class Watches:
    """What is watched of all of them, as of one."""

    def __init__(self, instances: list[Instance], every_s: float):
        self.all = [watch.Watch(instance, every_s) for instance in instances]
        self.over = self  # who ends them sets it

    def start(self) -> None:
        for one in self.all:
            one.start()

    def set(self) -> None:
        for one in self.all:
            one.over.set()

    def join(self) -> None:
        for one in self.all:
            one.join()

    def settled(self) -> None:
        self.set()
        for one in self.all:
            one.settled()

    @property
    def scrapes(self) -> watch.Scrapes:
        together = watch.Scrapes()
        for one in self.all:
            together.count += one.scrapes.count
            together.out_of_balance += one.scrapes.out_of_balance
            together.faults += [f"{one.service.name}: {fault}" for fault in one.scrapes.faults]
            for name, value in one.scrapes.most.items():
                together.most[name] = max(together.most[name], value)
        return together


class Fleet(Scenario):
    """See the module. Before other scenarios in the list of bases."""

    NAMES = ("a", "b", "c")
    FIRST = 3  # how many of them are started at once
    in_short = False
    WATCH_EVERY_S = 1.0

    @classmethod
    def made(cls, options, program: Path | None = None) -> Scenario:
        if options.spool != "none":
            raise Skipped("several instances have their sessions in Kafka: they need --spool none")
        return super().made(options, program)

    def start_service(self, **_: object) -> None:
        self.instances = [Instance(self, name) for name in self.NAMES]
        self.service = self.instances[0]
        self.spans_ns: list[list[int | None]] = []  # of faults: when each began, and when it was over
        self.options.keep_alive = KEEP_ALIVE_S
        self.begin_fleet(self.instances[: self.FIRST])
        self.watch = Watches(self.instances, self.WATCH_EVERY_S)
        self.watch.start()

    def begin_fleet(self, some: list[Instance]) -> None:
        """Starts these, and waits until each has its part of the slots."""
        began = time.monotonic()
        for instance in some:
            instance.spawn()
        for instance in some:
            instance.wait_ready()
        self.wait_shared()
        self.target = self.instances[0].address
        self.say(f"{self.program}: {len(some)} instances have their slots after {time.monotonic() - began:.2f} s")

    # ---- who serves what ----------------------------------------------------------------------------------------------------------

    def living(self) -> list[Instance]:
        return [instance for instance in self.instances if instance.answers()]

    def shares(self) -> list[int]:
        """How many slots each living instance serves."""
        return [instance.figures_now()["broker_slots_here"] for instance in self.living()]

    def is_shared(self) -> bool:
        shares = self.shares()
        return bool(shares) and sum(shares) == SLOTS and min(shares) >= SLOTS // len(shares)

    def wait_shared(self, patience_s: float = SHARED_WITHIN_S) -> float:
        """Until each living instance has its part of the slots. Seconds that took."""
        began = time.monotonic()
        while not self.is_shared():
            if time.monotonic() - began > patience_s:
                raise Failed(f"after {patience_s} s the living instances have {self.shares()} slots; the log of the first:\n{self.living()[0].tail()}")
            self.pass_time(0.1)
        return time.monotonic() - began

    def pass_time(self, seconds: float) -> None:
        """Waits; a scenario with clients of its own serves them meanwhile."""
        time.sleep(seconds)

    def point(self, some: list[Instance] | None = None) -> None:
        """Points all clients at these instances (the living ones), as a balancer would."""
        order = " ".join(["targets", *(instance.address for instance in (self.living() if some is None else some))])
        for told in (self.load, getattr(self, "crowd", None)):
            if told:
                told.order(order)

    def started(self, instance: Instance) -> float:
        """Starts it after its end, and waits until it is ready. Seconds that took."""
        instance.spawn()
        while not instance.ready(instance.begin):
            if not instance.alive():
                raise Failed(f"instance {instance.name} ended at its start with status {instance.process.returncode}; its log:\n{instance.tail()}")
            if time.monotonic() - instance.spawned > SHARED_WITHIN_S:
                raise Failed(f"instance {instance.name} is not ready after {SHARED_WITHIN_S} s; its log:\n{instance.tail()}")
            self.flow(0.02)
        return time.monotonic() - instance.spawned

    # ---- faults -------------------------------------------------------------------------------------------------------------------

    def fault_begins(self, name: str) -> list[int | None]:
        span = [time.monotonic_ns(), None]
        self.spans_ns.append(span)
        self.say(name)
        if self.load:
            self.load.mark(name)
        return span

    @staticmethod
    def fault_ends(span: list[int | None]) -> None:
        span[1] = time.monotonic_ns()

    def hurt_ns(self) -> list[tuple[int, int]]:
        now, more = time.monotonic_ns(), round(AFTERMATH_S * 1e9)
        return [(begin, (now if end is None else end) + more) for begin, end in self.spans_ns]

    # ---- what the stand does with one service -------------------------------------------------------------------------------------

    def topic_of(self, _: str) -> str:
        return MESSAGES

    def drop_topic(self, _: str) -> None:
        """All rounds go through one topic."""

    def begin_round(self) -> Load:
        # Clients try them all, and leave one that does not answer.
        self.flow_options = ["--silence", SILENCE_S, "--order-by-qos"]
        for instance in self.living()[1:]:
            self.flow_options += ["--also", instance.address]
        self.target = self.living()[0].address
        return super().begin_round()

    def crowd_manners(self) -> dict:
        """Of subscribers, where there are some."""
        return {"targets": [instance.address for instance in self.living()], "silence_s": SILENCE_S, "refusals": REFUSALS}

    def look(self) -> None:
        self.rss_kib = max(self.rss_kib, *(instance.status("VmHWM") for instance in self.instances))

    def flow(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            self.look()
            for instance in self.instances:
                if instance.process and not instance.alive() and instance.process.returncode != -signal.SIGKILL:
                    raise Failed(f"instance {instance.name} has ended with status {instance.process.returncode}; its log:\n{instance.tail()}")
            self.pass_time(min(0.1, max(0.0, end - time.monotonic())))
            if time.monotonic() >= end:
                return

    def sums(self) -> Counter:
        """The metrics of all living ones, added up."""
        return sum((instance.figures_now() for instance in self.living()), Counter())

    def wait_drained(self) -> None:
        deadline = time.monotonic() + self.options.patience
        empty = 0
        while empty < 2 and time.monotonic() < deadline and self.load.process.poll() is None:
            self.pass_time(0.5)
            empty = 0 if self.sums()["sink_buffered_records"] else empty + 1
        self.drained = self.drained and empty >= 2

    def log(self) -> str:
        return "".join(instance.log_file.read_text(errors="replace") for instance in self.instances if instance.log_file.exists())

    def waiting(self) -> int:
        return self.sums()["stored_messages"]

    def judge_service(self) -> None:
        super().judge_service()
        lines = [line for line in self.log().splitlines() if " ERROR " in line or "panicked" in line]
        self.facts["errors in the logs"] = len(lines)
        self.facts["of them"] = lines[:5]
        self.checks["no instance panicked"] = not any("panicked" in line for line in lines)

    def clean_up(self) -> None:
        for instance in getattr(self, "instances", []):
            if instance is not self.service:
                instance.kill()
        super().clean_up()
