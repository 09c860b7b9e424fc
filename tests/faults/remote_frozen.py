"""Messages of mosquitto by a bridge to Kafka, which is frozen: the remote keeps what is not answered, the bridge keeps its connection, and all is there once."""

import shutil
import subprocess
import time

import watch  # tests/python: found by way of stand
from scenarios import Scenario
from stand import Failed, free_ports

KEEP_ALIVE_S = 8  # mosquitto gives up a client that says nothing for half as long again
# Neither what waits for the bridge nor what is on its way to it has a bound here, so that the bridge's own bounds are met.
MOSQUITTO = """
user root
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
"""
IN = """
[bridge.plant]
url = "mqtt://127.0.0.1:{port}"
client_id = "forebay"
version = "5.0"
keep_alive = "{keep_alive}s"
reconnect_backoff = "50ms"
reconnect_backoff_max = "500ms"
[[bridge.plant.in]]
filters = "flow/#"
qos = 2
"""


class BridgesFrozen(Scenario):
    """Kafka is frozen for --freeze s while mosquitto's messages come in: at QoS 1 in one round, at QoS 2 in the next, as mosquitto passes on one of QoS 2 later
    than one of QoS 1 that came after it."""

    name = "bridges-frozen"
    plain = {"rate": 150, "cycles": 2, "round": 1, "clients": 10, "window": 20, "payload": 8_000, "freeze": 60.0, "reconnect_every": 0, "buffer": "4MiB", "shards": 1}
    short = plain | {"rate": 400, "freeze": 14.0}
    long = plain | {"cycles": 10}

    def prepare(self) -> None:
        # One shard has the least memory that there may be: with `--spool none` it is full, and the connection to the remote is not read.
        self.options.shards = 1
        if self.spooled:
            self.options.buffer = "32MiB"  # batches on their way to a Kafka that is frozen are in memory, with a spool as well
        self.start_kafka()
        (port,) = free_ports(1)
        config = self.work / "mosquitto.conf"
        config.write_text(MOSQUITTO.format(port=port))
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "mosquitto"
        self.remote = subprocess.Popen([program, "-c", config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.undo.append(self.remote.kill)
        self.start_service(more=IN.format(port=port, keep_alive=KEEP_ALIVE_S))
        self.target = f"127.0.0.1:{port}"  # of the load
        self.wait_until(lambda numbers: numbers.get("bridge_connected"), "the bridge connects")

    def numbers(self) -> dict:
        try:
            return watch.read(self.service.get("/metrics")[1])
        except OSError:
            return {}

    def wait_until(self, is_so, what: str, patience_s: float = 30) -> None:
        deadline = time.monotonic() + patience_s
        while not is_so(self.numbers()):
            if time.monotonic() > deadline:
                raise Failed(f"not within {patience_s} s: {what}; the log:\n{self.service.tail()}")
            time.sleep(0.1)

    def begin_round(self):
        self.options.qos = "0:1:0" if self.rounds % 2 == 0 else "0:0:1"
        return super().begin_round()

    def hurt(self) -> None:
        self.flow(2)
        before = self.numbers().get("bridge_settled_messages", 0)
        self.kafka("freeze", 1)
        try:
            self.flow(self.options.freeze)
        finally:
            self.kafka("thaw", 1)
        self.load.mark("Kafka back")
        numbers = self.numbers()
        self.counts["answered while Kafka was frozen"] += numbers.get("bridge_settled_messages", 0) - before
        self.flow(2)

    def wait_drained(self) -> None:
        """Until nothing of the remote is open here and nothing more comes."""
        deadline = time.monotonic() + self.options.patience
        seen, still = -1, 0
        while still < 4 and time.monotonic() < deadline and self.load.process.poll() is None:
            time.sleep(0.5)
            numbers = self.numbers()
            received = numbers.get("bridge_received_bytes", 0)
            is_still = numbers and received == seen and numbers["sink_buffered_records"] == 0 and numbers["bridge_unsettled_messages"] == 0
            seen, still = received, still + 1 if is_still else 0
        self.drained = self.drained and still >= 4

    def judge(self) -> None:
        super().judge()
        most = self.watch.scrapes.most
        self.checks["the connection to the remote was kept (G5)"] = most["bridge_connects"] == 1 and self.numbers().get("bridge_connected") == 1
        if self.options.spool == "none":
            self.checks["it was not read meanwhile"] = most["connections_paused"] > 0
        else:
            self.checks["the remote was answered meanwhile"] = self.counts["answered while Kafka was frozen"] > 0
        self.facts["seconds frozen, each time"] = self.options.freeze
