#!/usr/bin/env python3
"""The matrix of clients: `matrix.py CA tcp=PORT tls=PORT ws=PORT wss=PORT`, the ports of one service.

A participant is a library in one MQTT version over one transport. Each publishes MESSAGES numbered messages at each QoS and subscribes
at each QoS; it has to get every message of every participant, its own among them, once, in order, at the lower one of both QoS. A topic is
PUBLISHER/QOS/GRANTED: who publishes on it, at which QoS, and at which QoS everyone has subscribed to it.

The participants of one library share a program: `participants.py`, `../node/participant.mjs`, `../rumqttc/participant.rs`. It gets a job, JSON
in its argument, and prints `ready` when all of its participants have subscribed. From then on its input says what they publish, and
its output what they get, a line each: PARTICIPANT TOPIC QOS NUMBER. `alias PARTICIPANT` says that a message had an alias for a topic. Any
other line is a fault. At the end of its input it waits until what it published is acknowledged, disconnects in order and ends.

The messages of a run are fewer bytes than the service keeps for a client that does not read, so none may be dropped, not even at QoS 0.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Callable

import publishers
from service import CACHE, ROOT

MESSAGES = 5  # of one publisher on one topic
LEVELS = (0, 1, 2)
PATIENCE_S = 60  # without a line of any participant
FAULTS_SHOWN = 40
VERSIONS = ("3.1", "3.1.1", "5.0")
TRANSPORTS = ("tcp", "tls", "ws", "wss")
# The versions and transports of each library. Debian's mosquitto has no WebSocket, gmqtt neither. rumqttc's TLS (0.25) needs rustls-webpki 0.102, which
# has vulnerabilities that are only repaired in 0.103, or OpenSSL: `scripts/test supply` would refuse either.
LIBRARIES = {
    "paho": (VERSIONS, TRANSPORTS),
    "aiomqtt": (("3.1.1", "5.0"), TRANSPORTS),
    "gmqtt": (("3.1.1", "5.0"), ("tcp", "tls")),
    "mqtt.js": (VERSIONS, TRANSPORTS),
    "rumqttc": (("3.1.1", "5.0"), ("tcp", "ws")),
    "mosquitto": (VERSIONS, ("tcp", "tls")),
}

# What one participant got: for each topic QoS and number of its messages.
Got = dict[str, list[tuple[int, int]]]


def command(library: str) -> list:
    if library == "mqtt.js":
        return ["node", ROOT / "tests/node/participant.mjs"]
    if library == "rumqttc":
        return [publishers.rumqttc_program("rumqttc_participant")]
    return [sys.executable, ROOT / "tests/python/participants.py", library]


def plan() -> dict[str, list[dict]]:
    """The participants of each library, without their ports. A name has at most 17 bytes in 3.1, which allows client IDs of 23."""
    return {
        library: [{"name": f"{library}-{v}-{t}", "version": v, "transport": t} for v in versions for t in transports]
        for library, (versions, transports) in LIBRARIES.items()
    }


def topics(participants: list[str]) -> list[str]:
    """What they publish on."""
    return [f"{name}/{qos}/{granted}" for name in participants for qos in LEVELS for granted in LEVELS]


def judge(participants: list[str], heard: dict[str, Got]) -> list[str]:
    """What is wrong, a line each."""
    published = topics(participants)
    faults = []
    for name in participants:
        got = heard.get(name, {})
        if not got:
            faults.append(f"{name}: got nothing")
            continue
        for topic in published:
            faults += [f"{name}: of {topic}: {fault}" for fault in faults_of(topic, got.get(topic, []))]
        faults += [f"{name}: got {topic}, on which nothing was published" for topic in sorted(got.keys() - set(published))]
    return faults


def faults_of(topic: str, got: list[tuple[int, int]]) -> list[str]:
    """What is wrong with the messages of one topic."""
    qos = min(map(int, topic.split("/")[1:]))
    numbers = [number for _, number in got]
    found = {
        "missing": [number for number in range(MESSAGES) if number not in numbers],
        "more than once": sorted({number for number in numbers if numbers.count(number) > 1}),
        "never published": sorted(set(numbers) - set(range(MESSAGES))),
        f"not at QoS {qos}": [number for at, number in got if at != qos],
        "not in order": numbers if sorted(numbers) != numbers else [],
    }
    return [f"{fault}: {' '.join(map(str, which))}" for fault, which in found.items() if which]


class Heard:
    """What the programs have said."""

    def __init__(self, participants: list[str]):
        self.changed = threading.Condition()
        self.got: dict[str, Got] = {name: defaultdict(list) for name in participants}
        self.left = len(participants) * len(topics(participants)) * MESSAGES
        self.ready = 0
        self.lines = 0
        self.aliased: set[str] = set()
        self.faults: list[str] = []

    def take(self, library: str, line: str) -> None:
        words = line.split()
        with self.changed:
            self.lines += 1
            if words == ["ready"]:
                self.ready += 1
                self.changed.notify()
            elif len(words) == 2 and words[0] == "alias":
                self.aliased.add(words[1])
            elif len(words) == 4 and words[0] in self.got and words[2].isdigit() and words[3].isdigit():
                self.take_message(words[0], words[1], int(words[2]), int(words[3]))
            else:
                self.fault(f"{library} said: {line.strip()}")

    def take_message(self, name: str, topic: str, qos: int, number: int) -> None:
        of_topic = self.got[name][topic]
        if all(number != other for _, other in of_topic):
            self.left -= 1
            if self.left == 0:
                self.changed.notify()
        of_topic.append((qos, number))

    def fault(self, text: str) -> None:
        with self.changed:
            self.faults.append(text)
            self.changed.notify()

    def wait(self, done: Callable[[], bool], what: str) -> None:
        """Until it is done, something is wrong, or nothing more comes; the last is a fault."""
        with self.changed:
            while not done() and not self.faults:
                before = self.lines
                self.changed.wait(PATIENCE_S)
                if self.lines == before and not done() and not self.faults:
                    self.faults.append(f"{what}: nothing more came for {PATIENCE_S} s")


class Program:
    """The participants of one library."""

    def __init__(self, library: str, job: dict, heard: Heard):
        self.library, self.heard = library, heard
        self.names = [client["name"] for client in job["clients"]]
        self.is_ending = False
        environment = {"FOREBAY_NODE": str(CACHE / "node")} | os.environ
        self.process = subprocess.Popen(
            [*command(library), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            process_group=0,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        for line in self.process.stdout:
            self.heard.take(self.library, line)
        if not self.is_ending:
            self.heard.fault(f"{self.library} ended before its end")

    def publish(self) -> None:
        """All that its participants publish."""
        with suppress(BrokenPipeError):  # its reader says so
            for number in range(MESSAGES):
                for topic in topics(self.names):
                    name, qos, _ = topic.split("/")
                    self.process.stdin.write(f"{name} {topic} {qos} {number}\n")
            self.process.stdin.flush()

    def end(self) -> None:
        self.is_ending = True
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def wait(self) -> None:
        how = "did not end: not all that it published is acknowledged, or it could not disconnect"
        with suppress(subprocess.TimeoutExpired):
            how = f"ended with status {self.process.wait(PATIENCE_S)}"
        if self.process.returncode != 0:
            self.heard.fault(f"{self.library} {how}")
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # with what it has started
            self.process.wait()
        self.reader.join(PATIENCE_S)


def main(ca: str, ports: dict[str, int]) -> int:
    clients = plan()
    participants = [client["name"] for of_library in clients.values() for client in of_library]
    heard = Heard(participants)
    programs = []
    for library, of_library in clients.items():
        job = {"ca": ca, "filters": {f"+/+/{granted}": granted for granted in LEVELS}}
        job["clients"] = [client | {"port": ports[client["transport"]]} for client in of_library]
        programs.append(Program(library, job, heard))
    heard.wait(lambda: heard.ready == len(programs), "subscribing")
    if not heard.faults:
        for program in programs:
            program.publish()
        heard.wait(lambda: heard.left == 0, "publishing")
    for program in programs:
        program.end()
    for program in programs:
        program.wait()
    faults = heard.faults + judge(participants, heard.got)
    takers = {name for name in participants if name.startswith(("mqtt.js-5.0-", "gmqtt-5.0-"))}
    faults += [f"{name} takes topic aliases, and was sent none" for name in sorted(takers - heard.aliased)]
    if faults:
        more = [f"and {len(faults) - FAULTS_SHOWN} more"] if len(faults) > FAULTS_SHOWN else []
        print("\n".join(faults[:FAULTS_SHOWN] + more))
        return 1
    each = len(topics(participants)) * MESSAGES
    print(f"{len(participants)} participants, each with {each} messages, once, in order and at the right QoS")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], {name: int(port) for name, port in (word.split("=") for word in sys.argv[2:])}))
