"""Starts real MQTT clients that publish numbered messages, each kind of client in a program of its own.

    paho       publisher.py               3.1, 3.1.1, 5.0
    mqttjs     ../node/publisher.mjs      3.1, 3.1.1, 5.0
    rumqttc    ../rumqttc/publisher.rs    3.1.1, 5.0
    mosquitto  mosquitto_pub -l           3.1, 3.1.1, 5.0; says by its exit status alone that all was acknowledged
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import message
from service import CACHE, ROOT

# Share of the clients, messages of one client relative to the others' (paho in Python is slow), clients per process, combinations.
KINDS = {
    "paho": (0.10, 0.5, 10, [("5.0", 1), ("3.1.1", 2), ("5.0", 2), ("3.1.1", 1), ("3.1", 1), ("5.0", 0), ("3.1.1", 0), ("3.1", 2)]),
    "mqttjs": (0.20, 1.0, 100, [("5.0", 1), ("3.1.1", 2), ("3.1", 1), ("5.0", 2), ("3.1.1", 1), ("5.0", 0), ("3.1.1", 0)]),
    "rumqttc": (0.25, 1.3, 100, [("3.1.1", 1), ("5.0", 2), ("5.0", 1), ("3.1.1", 2), ("3.1.1", 0), ("5.0", 0)]),
    "mosquitto": (0.45, 1.0, 1, [("5.0", 2), ("3.1.1", 1), ("3.1", 2), ("5.0", 1), ("3.1.1", 2), ("3.1", 1), ("5.0", 0), ("3.1.1", 0)]),
}
MOSQUITTO_VERSIONS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}
MOSQUITTO_MESSAGES_MAX = 60_000  # it queues all its input at once, and hands out packet ids without looking whether they are open


def plan(clients: int, messages: int) -> list[dict]:
    """`clients` clients of all kinds, versions and levels of QoS that share `messages` messages."""
    if clients < len(KINDS):
        raise SystemExit(f"at least {len(KINDS)} clients, one of each kind")
    specs = []
    rest = clients
    for kind, (share, weight, _, combinations) in KINDS.items():
        count = rest if kind == "mosquitto" else max(1, round(clients * share))
        rest -= count
        for n in range(count):
            version, qos = combinations[n % len(combinations)]
            # QoS 2 is exactly once for a kept session; QoS 1 is tried with both sorts.
            kept = qos == 2 or (qos == 1 and n % 2 == 0)
            specs.append({"id": f"{kind}-{n}", "kind": kind, "version": version, "qos": qos, "kept": kept, "weight": weight})
    total = sum(spec["weight"] for spec in specs)
    for spec in specs:
        spec["messages"] = max(1, int(messages * spec.pop("weight") / total))
    for n in range(messages - sum(spec["messages"] for spec in specs)):  # what rounding left over
        specs[-1 - n % len(specs)]["messages"] += 1
    if max(s["messages"] for s in specs if s["kind"] == "mosquitto") > MOSQUITTO_MESSAGES_MAX:
        raise SystemExit(f"more clients or fewer messages: mosquitto_pub can take {MOSQUITTO_MESSAGES_MAX} each")
    return specs


def rumqttc_program(name: str = "rumqttc_publisher") -> Path:
    """One of rumqttc's programs: beside the one that FOREBAY_RUMQTTC names, else the newest build of the example."""
    if given := os.environ.get("FOREBAY_RUMQTTC"):
        return Path(given).with_name(name)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    builds = list(target.glob(f"*/examples/{name}"))
    if not builds:
        raise SystemExit(f"{name} is not built: cargo build --example {name}")
    return max(builds, key=lambda p: p.stat().st_mtime)


class Publishers:
    """All the publishing programs of one run. `folder` takes job files and, in `clients/`, one log for each client."""

    def __init__(self, folder: Path, port: int, specs: list[dict]):
        self.folder, self.port = folder, port
        self.logs = folder / "clients"
        self.logs.mkdir(parents=True)
        self.processes: list[tuple[str, subprocess.Popen]] = []
        self.threads: list[threading.Thread] = []
        for kind, (_, _, per_process, _) in KINDS.items():
            mine = [spec for spec in specs if spec["kind"] == kind]
            for at in range(0, len(mine), per_process):
                self.start(kind, mine[at : at + per_process])

    def start(self, kind: str, specs: list[dict]) -> None:
        name = specs[0]["id"]
        if kind == "mosquitto":
            return self.start_mosquitto(specs[0])
        job = self.folder / f"job-{name}.json"
        job.write_text(json.dumps({"host": "127.0.0.1", "port": self.port, "logs": str(self.logs), "clients": specs}))
        command = {
            "paho": [sys.executable, ROOT / "tests/python/publisher.py", job],
            "mqttjs": ["node", ROOT / "tests/node/publisher.mjs", job],
            "rumqttc": [rumqttc_program(), job] if kind == "rumqttc" else None,
        }[kind]
        with open(self.folder / f"job-{name}.stderr", "wb") as err:
            environment = {"FOREBAY_NODE": str(CACHE / "node")} | os.environ
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=err, stderr=err, env=environment)
        self.processes.append((name, process))

    def start_mosquitto(self, spec: dict) -> None:
        """Lines in, one message each. Exit status 0 and no complaint: every one of them is acknowledged."""
        name, qos = spec["id"], spec["qos"]
        lines = self.folder / f"{name}.lines"
        lines.write_text("".join(message.payload_of(name, n, qos, 0) + "\n" for n in range(spec["messages"])))
        command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-i", name, "-V", MOSQUITTO_VERSIONS[spec["version"]]]
        command += ["-t", message.topic_of(name, 0), "-q", str(qos), "-l", *(["-c"] if spec["kept"] else [])]
        error_file = self.folder / f"{name}.stderr"
        with open(lines, "rb") as given, open(error_file, "wb") as err:
            process = subprocess.Popen(command, stdin=given, stdout=err, stderr=err)
        self.processes.append((name, process))

        def note() -> None:
            status = process.wait()
            said = error_file.read_text(errors="replace").strip()
            text = f"n {spec['messages']}\n"
            text += "all\nend\n" if status == 0 and not said else f"e mosquitto_pub ended with status {status}: {said[-300:]!r}\n"
            (self.logs / f"{name}.log").write_text(text)
            lines.unlink()

        self.threads.append(threading.Thread(target=note, daemon=True))
        self.threads[-1].start()

    def running(self) -> list[str]:
        return [name for name, process in self.processes if process.poll() is None]

    def wait(self, timeout_s: float) -> list[str]:
        """Returns complaints: programs that failed or did not end in time (those are ended)."""
        deadline = time.monotonic() + timeout_s
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.1)
        complaints = [f"{name}: not done after {timeout_s:.0f} s" for name in self.running()]
        self.kill()
        complaints += [f"{name}: status {p.returncode}" for name, p in self.processes if p.returncode not in (0, -9)]
        return complaints

    def kill(self) -> None:
        for _, process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for thread in self.threads:
            thread.join()
