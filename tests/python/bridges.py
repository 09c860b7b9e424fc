#!/usr/bin/env python3
"""mosquitto as a bridge to the service: `bridges.py FOLDER`, where both keep what they have.

A mosquitto has a connection to the service for each case, a version of MQTT and a direction (`topic CASE/# in|out|both 2`), all at the same time. At either
end a client of 5.0 gets all that there is. It has to get each message once, at its QoS, if the direction has it: one that comes back over a bridge with
`both`, or crosses one against its direction, comes once more than it should. Retained messages are set, changed and removed; whoever subscribes then has
to get what is true now, at both ends. Either end is stopped in order and started again, the service is killed with -9, too, and what was published at the
other end meanwhile has to come after that.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Callable, Iterator

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from service import NO_KAFKA, Service

HOST = "127.0.0.1"
PROGRAM = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") or "mosquitto"
PATIENCE_S = 60
KEPT_S = 3_600  # how long the sessions of the two listeners are
SETTLED_S = 1  # of silence: nothing more comes
VERSIONS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv50"}
# Where messages of a direction come from; they go to the other end.
SOURCES = {"in": ("forebay",), "out": ("mosquitto",), "both": ("forebay", "mosquitto")}
OTHER = {"forebay": "mosquitto", "mosquitto": "forebay"}
CASES = {f"{version}-{direction}": direction for version in VERSIONS for direction in SOURCES}
SERVICE = """\
[service]
shards = 2
pin = false
data_dir = "{folder}/data"
[control]
bind = "127.0.0.1:0"
[[listener]]
bind = "127.0.0.1:{port}"
transport = "tcp"
[spool]
bytes_max = "256MiB"
"""
MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location {folder}/
log_dest file {folder}/mosquitto.log
log_type error
log_type warning
log_type notice
log_type information
connection_messages true
"""
CONNECTION = """\
connection {case}
remote_clientid {case}
address 127.0.0.1:{port}
bridge_protocol_version {version}
topic {case}/# {direction} 2
cleansession false
restart_timeout 1
"""


def free_port() -> int:
    """One that both can be started on again: they have to be known to each other."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        return held.getsockname()[1]


def wait(done: Callable[[], bool], what: str, told: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S} s: {what} {told()}")
        time.sleep(0.05)


class Mosquitto:
    def __init__(self, folder: Path, port: int, service_port: int):
        self.folder, self.port, self.process = folder, port, None
        folder.mkdir(parents=True)
        config = MOSQUITTO.format(port=port, folder=folder)
        for case, direction in CASES.items():
            version = VERSIONS[case.partition("-")[0]]
            config += CONNECTION.format(case=case, port=service_port, version=version, direction=direction)
        (folder / "mosquitto.conf").write_text(config)

    def start(self) -> None:
        self.process = subprocess.Popen([PROGRAM, "-c", self.folder / "mosquitto.conf"], stdin=subprocess.DEVNULL)
        wait(self.is_reached, "mosquitto listens")

    def is_reached(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex((HOST, self.port)) == 0

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def connects(self) -> int:
        """How often a bridge has connected since the first start."""
        return (self.folder / "mosquitto.log").read_text(errors="replace").count("Connecting bridge ")

    def tail(self) -> str:
        return "\n".join((self.folder / "mosquitto.log").read_text(errors="replace").splitlines()[-40:])


class Client:
    """A client of 5.0 at one end that has subscribed, and what it was sent: topic, payload, QoS, and RETAIN as it was published. `got`: what it has
    heard before; its session is kept. Without it, it is new and gets what is retained."""

    def __init__(self, port: int, wanted: str, got: list | None = None):
        self.lock, self.got, self.wanted, self.told = threading.Lock(), [] if got is None else got, wanted, threading.Event()
        name, is_kept = ("", False) if got is None else ("ear", True)
        self.client = client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5, reconnect_on_failure=False)
        options = SubscribeOptions(2, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND if is_kept else 0)
        client.on_connect = lambda *_: client.subscribe(wanted, options=options)
        client.on_subscribe = client.on_unsubscribe = lambda *_: self.told.set()
        client.on_message = self.take
        kept = Properties(PacketTypes.CONNECT)
        kept.SessionExpiryInterval = KEPT_S if is_kept else 0
        client.connect(HOST, port, clean_start=not is_kept, properties=kept)
        client.loop_start()
        assert self.told.wait(PATIENCE_S), f"no SUBACK for {wanted}"

    def unsubscribe(self) -> None:
        self.told.clear()
        self.client.unsubscribe(self.wanted)
        assert self.told.wait(PATIENCE_S), f"no UNSUBACK for {self.wanted}"

    def take(self, _client, _userdata, message) -> None:
        with self.lock:
            self.got.append((message.topic, message.payload.decode(), message.qos, message.retain))

    def all(self) -> list[tuple[str, str, int, bool]]:
        with self.lock:
            return list(self.got)

    def payloads(self) -> Counter:
        return Counter(payload for _, payload, _, _ in self.all())

    def publish(self, topic: str, payload: str, qos: int, retain: bool = False) -> None:
        sent = self.client.publish(topic, payload, qos, retain)
        sent.wait_for_publish(PATIENCE_S)
        assert sent.is_published(), f"{topic} at QoS {qos} is not acknowledged"

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Run:
    def __init__(self, folder: Path):
        self.ports = {end: free_port() for end in OTHER}
        config = SERVICE.format(folder=folder / "forebay", port=self.ports["forebay"]) + NO_KAFKA
        self.service = Service(folder / "forebay", config)
        self.mosquitto = Mosquitto(folder / "mosquitto", self.ports["mosquitto"], self.ports["forebay"])
        self.clients: dict[str, Client] = {}
        self.heard: dict[str, list] = {end: [] for end in OTHER}
        # What is retained at both ends: by case and source, the payload.
        self.retained: dict[str, str] = {}
        self.probes = 0

    def start(self, *ends: str) -> None:
        for end in ends:
            (self.service if end == "forebay" else self.mosquitto).start()
            self.start_client(end)

    def start_client(self, end: str) -> None:
        self.clients[end] = Client(self.ports[end], "#", self.heard[end])

    def leave(self, end: str) -> None:
        self.clients.pop(end).close()

    def crossings(self) -> Iterator[tuple[str, str]]:
        """Each case with each of its sources."""
        for case, direction in CASES.items():
            for source in SOURCES[direction]:
                yield case, source

    def link(self) -> None:
        """Waits until every bridge passes messages on, in each of its directions."""
        for case, source in self.crossings():
            self.probes += 1
            payload, far = f"probe-{self.probes}", self.clients[OTHER[source]]

            def crosses(case=case, source=source, payload=payload, far=far) -> bool:
                self.clients[source].publish(f"{case}/probe", payload, 1)
                time.sleep(0.1)
                return payload in far.payloads()

            wait(crosses, f"{case} passes on what comes from {source}", lambda: self.mosquitto.tail())

    def flow(self, label: str) -> None:
        """Messages at each QoS, each once where it belongs."""
        self.link()
        sent = [(case, source, qos) for case, source in self.crossings() for qos in (0, 1, 2)]
        against = [(case, OTHER[source], 2) for case, source in self.crossings() if CASES[case] != "both"]
        for case, source, qos in sent + against:
            self.clients[source].publish(f"{case}/{label}", f"{label} {case} {source} {qos}", qos)
        for case, source, qos in sent:
            payload = f"{label} {case} {source} {qos}"
            wait(lambda payload=payload, source=source: all(payload in self.clients[end].payloads() for end in OTHER), payload)
        # What comes back over a bridge was sent before this, which goes there and back.
        self.link()
        self.link()
        for end, client in self.clients.items():
            wanted = Counter((f"{label} {case} {source} {qos}", qos) for case, source, qos in sent)
            wanted.update((f"{label} {case} {source} {qos}", qos) for case, source, qos in against if source == end)
            came = Counter((payload, qos) for topic, payload, qos, _ in client.all() if topic.endswith(f"/{label}"))
            assert came == wanted, f"at {end}, {label}: missing {wanted - came}, too much {came - wanted}"

    def retain(self, label: str, qos: int) -> None:
        """Retains another message for each case and source."""
        for case, source in self.crossings():
            self.set(case, source, f"{label} {qos}", qos)

    def set(self, case: str, source: str, payload: str, qos: int) -> None:
        topic = f"{case}/retained/{source}"
        self.clients[source].publish(topic, payload, qos, retain=True)
        self.retained[topic] = payload
        if not payload:
            del self.retained[topic]

    def retained_at(self, end: str) -> dict[str, str]:
        """What someone gets who subscribes now."""
        client = Client(self.ports[end], "+/retained/#")
        count = -1
        while count < len(client.all()):
            count = len(client.all())
            time.sleep(SETTLED_S)
        client.close()
        return {topic: payload for topic, payload, _, retain in client.all() if retain}

    def check_retained(self, when: str) -> None:
        self.link()
        for end in OTHER:
            seen = {}

            def is_right(end=end, seen=seen) -> bool:
                seen.clear()
                seen.update(self.retained_at(end))
                return seen == self.retained

            def wrong(seen=seen) -> list:
                topics = sorted(topic for topic in seen | self.retained if seen.get(topic) != self.retained.get(topic))
                return [(topic, seen.get(topic), "not", self.retained.get(topic)) for topic in topics]

            wait(is_right, f"{when}: what is retained at {end} is what was published:", wrong)

    def unheard(self) -> None:
        """mosquitto has no subscribers of its own, and says so where it acknowledges (0x10): finding M1."""
        before = self.mosquitto.connects()
        self.clients["mosquitto"].unsubscribe()
        self.leave("mosquitto")
        topics = [f"{case}/retained/forebay" for case, source in self.crossings() if source == "forebay"]
        for topic in topics:
            self.retained[topic] = f"unheard {topic}"
            for qos in (1, 2):
                self.clients["forebay"].publish(topic, self.retained[topic], qos, retain=True)
        wait(lambda: self.retained_at("mosquitto") == self.retained, "what nobody has subscribed to is retained", self.mosquitto.tail)
        self.start_client("mosquitto")
        self.flow("after-unheard")
        assert self.mosquitto.connects() == before, f"bridges were disconnected: {self.mosquitto.tail()}"

    def waits_for(self, down: str, case: str) -> bool:
        """Whether messages for an end that is away wait. In 5.0 mosquitto 2.0 asks the service for a session that ends with its connection (no Session
        Expiry Interval, whatever `cleansession` says): then it gets what is retained, and nothing else, when it is back."""
        return down == "forebay" or not case.startswith("5.0")

    def away(self, down: str, stop: Callable[[], object], label: str) -> None:
        """One end is stopped, messages are published at the other one, and it is started again."""
        there = OTHER[down]
        self.leave(down)
        stop()
        crossings = [(case, source) for case, source in self.crossings() if source == there]
        for number, (case, source) in enumerate(crossings):
            for qos in (1, 2):
                self.clients[source].publish(f"{case}/{label}", f"{label} {case} {source} {qos}", qos)
            # With `both` mosquitto, when it is back, tells the service what it had from there, and the values change places; so they do between two
            # mosquittos.
            if CASES[case] != "both" or down == "forebay":
                is_removed = number % 3 == 2 and self.waits_for(down, case)
                self.set(case, source, "" if is_removed else f"{label} retained", 1 + number % 2)
        self.start(down)
        for case, source in crossings:
            for qos in (1, 2) if self.waits_for(down, case) else ():
                payload = f"{label} {case} {source} {qos}"
                wait(lambda payload=payload: payload in self.clients[down].payloads(), f"{payload} has crossed", self.mosquitto.tail)
        self.check_retained(label)
        came = self.clients[down].payloads()
        twice = [payload for payload, count in came.items() if payload.startswith(f"{label} ") and payload.endswith(" 2") and count > 1]
        assert not twice, f"more than once at QoS 2: {twice}"
        self.flow(f"after-{label}")

    def all(self) -> None:
        self.start("forebay", "mosquitto")
        self.flow("first")
        for qos, label in enumerate(("one", "two", "three")):
            self.retain(label, qos)
            self.check_retained(label)
        self.unheard()
        self.away("mosquitto", self.mosquitto.stop, "mosquitto-stopped")
        self.away("forebay", self.service.stop, "forebay-stopped")
        self.away("forebay", self.service.kill, "forebay-killed")
        for case, source in self.crossings():
            self.set(case, source, "", 1)
        self.check_retained("removed")

    def end(self) -> None:
        for client in self.clients.values():
            client.close()
        self.mosquitto.kill()
        self.service.kill()


def main(folder: Path) -> int:
    run = Run(folder)
    try:
        run.all()
    finally:
        run.end()
    print(f"{len(CASES)} bridges of mosquitto: {', '.join(CASES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
