"""Messages from one instance to another by a bridge, and from there to Kafka, while both are killed and frozen and the link between them breaks. The first has the
publishers, the second the sink; each has a spool. `forebay-bench flow` publishes and judges: what the first has answered is in Kafka, once at QoS 2."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import watch  # tests/python: found by way of stand
from scenarios import Scenario
from stand import CONFIG, SINK, SPOOL, Bridge, Failed, Load, free_ports

WINDOW = 32  # of the bridge: less than that of the publishers, so that what it sends again is never behind what they may have sent after it
OUT = """
[bridge.second]
url = "mqtt://127.0.0.1:{wire}"
client_id = "first"
keep_alive = "4s"
inflight_max = {window}
reconnect_backoff = "50ms"
reconnect_backoff_max = "500ms"
queue_messages_max = 1000000
queue_bytes_max = "1GiB"
[[bridge.second.out]]
filters = "flow/#"
"""
IN = """
[bridge.first]
url = "mqtt://127.0.0.1:{wire}"
client_id = "second"
keep_alive = "4s"
receive_maximum = {window}
reconnect_backoff = "50ms"
reconnect_backoff_max = "500ms"
[[bridge.first.in]]
filters = "flow/#"
qos = 2
"""
BACK = """
[bridge.back]
url = "mqtt://127.0.0.1:{port}"
client_id = "back"
keep_alive = "4s"
inflight_max = 32
reconnect_backoff = "50ms"
reconnect_backoff_max = "500ms"
queue_messages_max = 1000000
queue_bytes_max = "1GiB"
[[bridge.back.out]]
filters = "flow/#"
"""
DELIVERY = """
[delivery]
queue_messages_max = 1000000
queue_bytes_max = "1GiB"
"""
# What MQTT allows over a fault: QoS 1 comes again with the next connection.
ALLOWED = ("I2: doubled at QoS 1",)


class Bridges(Scenario):
    """Two instances with a bridge from the first to the second, which are killed, frozen and cut off from each other."""

    name = "bridges"
    plain = {"rate": 400, "cycles": 10, "round": 10, "clients": 20, "payload": 64}
    short = {"rate": 300, "cycles": 6, "round": 6, "clients": 10, "payload": 64}
    long = plain | {"cycles": 250, "round": 25}
    needs = ("spool",)  # sessions of a bridge outlive kill -9 with one alone
    goes_out, circle = True, False
    FAULTS = ("kill_first", "kill_second", "cut", "freeze_second", "kill_both", "freeze_first", "kill_first", "deaf", "kill_second", "blackhole")

    def prepare(self) -> None:
        self.start_kafka()
        listens, behind, beside = free_ports(3)
        command = [sys.executable, Path(__file__).with_name("wire.py"), str(listens), f"127.0.0.1:{behind}"]
        self.wire = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        self.undo.append(self.wire.kill)
        link = (OUT if self.goes_out else IN).format(wire=listens, window=WINDOW)
        # The first has no sink for what is published; the bridge connects to the port that stays.
        back = BACK.format(port=beside)
        beside = f'[[listener]]\nbind = "127.0.0.1:{beside if self.goes_out else behind}"\n'
        self.start_service(filters="nothing/#", more=DELIVERY + (link if self.goes_out else "") + (beside if self.circle or not self.goes_out else ""))
        self.start_second((back if self.circle else "") if self.goes_out else link, behind)
        self.wait_bridge()

    def start_second(self, more: str, behind: int) -> None:
        options, folder = self.options, self.work / "second"
        folder.mkdir()
        values = {"shards": options.shards, "grace": 10, "buffer": options.buffer, "spool_bytes": options.spool_bytes, "listener": "", "cluster": "", "more": more, "filters": "flow/#", "when_full": options.when_full, "append": options.append}
        text = CONFIG.format(data=folder / "data", port="{port}", bootstrap=self.bootstrap, sink=SINK[options.spool], **(values | {"spool": SPOOL.format(**values)}))
        self.second = Bridge(folder, text, self.program, self.environment, [])
        self.second.ports = [behind] if self.goes_out else free_ports(1)
        self.undo.append(self.second.kill)
        self.second.spawn()
        self.second.wait_ready()

    def begin_round(self) -> Load:
        # A message at QoS 0 waits for none of the others and overtakes them, which the judge of orders knows nothing of: `bridges-qos0` has them.
        return self.begin("0:1:1")

    def begin(self, qos: str) -> Load:
        self.options.qos = qos
        return super().begin_round()

    # ---- faults -------------------------------------------------------------------------------------------------------------------

    def tell(self, order: str) -> None:
        self.wire.stdin.write(order + "\n")
        self.wire.stdin.flush()

    def hurt(self) -> None:
        self.flow(self.chance.uniform(0.2, 2))
        name = self.FAULTS[(self.cycle - 1) % len(self.FAULTS)]
        self.counts[f"fault: {name}"] += 1
        getattr(self, name)()
        self.load.mark("well")

    def kill_first(self) -> None:
        self.look()
        self.service.kill()
        self.counts["killed"] += 1
        time.sleep(self.chance.uniform(0, 0.5))
        self.restart()

    def kill_second(self) -> None:
        self.second.kill()
        self.counts["killed"] += 1
        self.flow(self.chance.uniform(0, 1.5))
        self.second.spawn()
        self.second.wait_ready()

    def kill_both(self) -> None:
        self.second.kill()
        self.counts["killed"] += 1
        self.kill_first()
        self.second.spawn()
        self.second.wait_ready()

    def freeze_first(self) -> None:
        self.freeze(self.service)

    def freeze_second(self) -> None:
        self.freeze(self.second)

    def freeze(self, which: Bridge) -> None:
        """Sometimes for longer than the bridge waits for an answer."""
        which.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(self.chance.choice((0.5, 2, 5.5)))
        finally:
            which.process.send_signal(signal.SIGCONT)

    def cut(self) -> None:
        for _ in range(3):
            self.tell(f"cut {self.chance.randint(1, 20_000)}")
            self.flow(0.4)
        self.tell("well")

    def deaf(self) -> None:
        self.of_link("deaf")

    def blackhole(self) -> None:
        self.of_link("blackhole")

    def of_link(self, order: str) -> None:
        self.tell(order)
        self.flow(2)
        self.tell("well cut")

    # ---- the verdict --------------------------------------------------------------------------------------------------------------

    def numbers(self, which: Bridge) -> dict:
        try:
            return watch.read(which.get("/metrics")[1])
        except OSError:
            return {}

    def wait_bridge(self) -> None:
        of = self.service if self.goes_out else self.second
        deadline = time.monotonic() + 30
        while not self.numbers(of).get("bridge_connected"):
            if time.monotonic() > deadline:
                raise Failed(f"the bridge does not connect; its log:\n{of.tail()}")
            time.sleep(0.1)

    def left(self) -> int | None:
        """What the two have and Kafka does not; `None`: one says nothing."""
        first, second = self.numbers(self.service), self.numbers(self.second)
        if not first or not second:
            return None
        names = ("bridge_open_messages", "bridge_queued_messages", "deliveries_queued", "deliveries_in_flight", "bridge_unsettled_messages", "sink_buffered_records")
        return sum(of.get(name, 0) for of in (first, second) for name in names)

    def wait_drained(self) -> None:
        deadline = time.monotonic() + self.options.patience
        empty = 0
        while empty < 3 and time.monotonic() < deadline and self.load.process.poll() is None:
            time.sleep(0.5)
            empty = empty + 1 if self.left() == 0 else 0
        self.drained = self.drained and empty >= 3

    def before_end(self) -> None:
        self.tell("well")

    def judge_round(self, load, report: dict) -> None:
        """What MQTT allows is counted, and is no fault."""
        verdict = report["verdict"]
        for kind in ALLOWED:
            if fault := verdict["faults"].pop(kind, None):
                self.counts[f"allowed: {kind}"] += fault["count"]
        verdict["passed"] = not verdict["faults"]

    def judge(self) -> None:
        super().judge()
        first, second = self.numbers(self.service), self.numbers(self.second)
        faults = sum(count for name, count in self.counts.items() if name.startswith("fault: "))
        again = self.counts["allowed: I2: doubled at QoS 1"]
        self.checks["what comes again at QoS 1 is what was on its way when a fault came"] = again <= faults * 4 * WINDOW
        self.checks["no message was dropped at QoS 1 or 2"] = all(of.get("deliveries_queue_full", 0) == 0 for of in (first, second))
        self.facts |= {"killed": self.counts["killed"], "again at QoS 1": again}
        self.facts["what was done"] = {name.removeprefix("fault: "): count for name, count in sorted(self.counts.items()) if name.startswith("fault: ")}


class BridgesIn(Bridges):
    """The same with the bridge at the second instance, which takes the messages of the first."""

    name = "bridges-in"
    goes_out = False


class BridgesCircle(Bridges):
    """The same with a bridge of the second instance that sends everything back: it goes out no more."""

    name = "bridges-circle"
    short = Bridges.short | {"cycles": 3, "round": 3, "rate": 150}
    circle = True


class BridgesQos0(Bridges):
    """The same at QoS 0: of what is published while a fault lasts, messages may be missing; of the others none is, and none comes twice."""

    name = "bridges-qos0"
    plain = Bridges.plain | {"reconnect_every": 0}
    short = Bridges.short | {"cycles": 5, "round": 5, "reconnect_every": 0}
    SETTLED_S = 1.0  # bridge and publishers are back; what they had on their way arrives

    def begin_round(self) -> Load:
        self.in_faults = 0  # messages sent from before a fault until all is well again
        return self.begin("1:0:0")

    def wait_flow(self, patience_s: float = 30) -> None:
        """Nothing is answered at QoS 0: until something was sent, and the sink has it."""
        self.wait_line(lambda line: line["sent"], patience_s)
        deadline = time.monotonic() + patience_s
        while not self.numbers(self.second).get("sink_records_out_delivered"):
            if time.monotonic() > deadline:
                raise Failed(f"nothing is in Kafka after {patience_s} s; the log of the second:\n{self.second.tail()}")
            time.sleep(0.1)

    def wait_line(self, is_there, patience_s: float = 30) -> dict:
        """Until the generator's newest line is one that is wanted."""
        deadline = time.monotonic() + patience_s
        while not is_there(line := self.load.progress()):
            if time.monotonic() > deadline or self.load.process.poll() is not None:
                raise Failed(f"the generator says nothing: {self.load.words()[-2000:]}")
            time.sleep(0.1)
        return line

    def hurt(self) -> None:
        self.flow(2 * self.SETTLED_S)
        before = self.load.progress()  # of a second ago at most, so what was sent meanwhile is among those that may be missing
        super().hurt()
        self.wait_bridge()
        self.flow(self.SETTLED_S)
        self.wait_bridge()
        self.wait_line(lambda line: line["connected"] == self.options.clients)
        self.flow(self.SETTLED_S)
        now = self.load.progress()["s"]
        after = self.wait_line(lambda line: line["s"] > now)
        self.in_faults += after["sent"] - before["sent"]

    def judge_round(self, load, report: dict) -> None:
        verdict = report["verdict"]
        verdict["faults"].pop("I1: lost at QoS 0", None)
        counts = verdict["counts"]
        missing = counts.get("QoS 0: sent", 0) - counts.get("QoS 0: in Kafka", 0)
        self.counts.update({"missing at QoS 0": missing, "sent in faults": self.in_faults})
        self.checks["what is missing at QoS 0 was sent while a fault lasted"] = missing <= self.in_faults and self.checks.get(
            "what is missing at QoS 0 was sent while a fault lasted", True
        )
        verdict["passed"] = not verdict["faults"]

    def judge(self) -> None:
        super().judge()
        self.facts |= {name: self.counts[name] for name in ("missing at QoS 0", "sent in faults")}
