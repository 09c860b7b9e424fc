#!/usr/bin/env python3
"""What kept sessions are for Kafka with `[broker]`: groups and connections, the bytes that stay in the topic of sessions once it is cleaned, and how long an empty machine
takes until it serves them. `scripts/perf sessions` runs it.

    sessions.py BENCH BOOTSTRAP

FOREBAY_BINARY names the service. A line for 0, 1,000 and 100,000 sessions with two filters each. Exit status 1: groups or connections differ, more than 500 bytes a session, or more than 5 s."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from runs import PREAMBLE, Service, folder, number, python_of_tests, say, wait

COUNTS = (0, 1_000, 100_000)
BYTES_MAX, SERVED_S = 500, 5.0
# A log is put together five seconds after its last entry, and says nothing more then for the rest of a minute.
QUIET_S = 10
# Of a record in a batch of its own: what Kafka writes beside key and value, at most.
RECORD_BYTES = 61 + 20
CONFIG = """
[mqtt]
sessions_max = 200000
[kafka.main]
bootstrap = "{bootstrap}"
[broker]
name = "{name}"
messages = "{name}-messages"
retained = "{name}-retained"
sessions = "{name}-sessions"
partitions = 4
"""


def groups(bootstrap: str) -> int:
    text = "import sys; from confluent_kafka.admin import AdminClient; print(len(AdminClient({'bootstrap.servers': sys.argv[1]}).list_groups(timeout=30)))"
    return int(subprocess.run([python_of_tests(), "-c", text, bootstrap], check=True, capture_output=True, text=True).stdout)


def connections(service: Service, bootstrap: str) -> int:
    """Of the service to Kafka."""
    port = f":{int(bootstrap.rsplit(':', 1)[1]):04X}"
    inodes = set()
    for file in Path(f"/proc/{service.process.pid}/fd").iterdir():
        try:
            inodes.add(str(file.readlink()))
        except OSError:
            continue  # It is closed by now.
    lines = [line.split() for line in Path(f"/proc/{service.process.pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].endswith(port) and line[3] == "01" and f"socket:[{line[9]}]" in inodes for line in lines)


def stays(bootstrap: str, topic: str) -> int:
    """Bytes of the last record of each key, those of ended keys left out: what is left when the topic is cleaned."""
    read = ["kcat", "-C", "-e", "-q", "-o", "beginning", "-b", bootstrap, "-t", topic, "-f", "%p %K %S \n%k%s"]
    data, at, last = subprocess.run(read, check=True, capture_output=True).stdout, 0, {}
    while at < len(data):
        end = data.index(b"\n", at)
        partition, key, value = map(int, data[at:end].split())
        at = end + 1
        last[partition, data[at : at + key]] = None if value < 0 else key + value
        at += key + max(value, 0)
    return sum(bytes_of + RECORD_BYTES for bytes_of in last.values() if bytes_of is not None)


def quiet(service: Service) -> Callable[[], bool]:
    """The question whether the logs of sessions have written nothing for `QUIET_S`."""
    last = [None, time.monotonic()]

    def is_quiet() -> bool:
        written = number(service, "forebay_session_log_written_bytes_total")
        if written != last[0]:
            last[:] = written, time.monotonic()
        return time.monotonic() - last[1] > QUIET_S

    return is_quiet


def has_session(service: Service, client_id: str) -> bool:
    """Whether CONNACK says that its session is there. A connection that is closed, or answered with a code, is none."""
    name = client_id.encode()
    body = b"\x00\x04MQTT\x04\x00\x00\x00" + len(name).to_bytes(2, "big") + name
    with socket.create_connection(("127.0.0.1", service.mqtt_port), timeout=30) as client:
        client.sendall(bytes([0x10, len(body)]) + body)
        return client.recv(4) == b"\x20\x02\x01\x00"


def measure(bench: str, bootstrap: str, count: int) -> dict:
    name = f"perf-{count}"
    with folder() as work:
        service = Service(work, PREAMBLE.format(shards=2, folder=work) + CONFIG.format(bootstrap=bootstrap, name=name))
        before = groups(bootstrap)
        service.start()
        try:
            if count:
                job = ["kept", "--sessions", str(count), "--filter", "dev/{client}/{group}/cmd", "--filter", "all/{client}/{group}"]
                subprocess.run([bench, *job, "--target", service.addresses["mqtt"], "--pid", str(service.process.pid)], check=True, stdout=subprocess.DEVNULL)
            wait("the log of sessions to be put together", quiet(service))
            line = {"sessions": json.loads(service.get("/api/v1/status")[1])["sessions"], "groups": groups(bootstrap) - before, "connections": connections(service, bootstrap)}
            kept = stays(bootstrap, f"{name}-sessions")
            clients = json.loads(service.get("/api/v1/clients?limit=1000")[1])["clients"]
        finally:
            service.kill()
        for path in (work / "data", work / "spool"):
            shutil.rmtree(path, ignore_errors=True)
        began = time.monotonic()
        service.start()
        try:
            took = {"ready_s": round(time.monotonic() - began, 3)}
            for client in clients[:: max(1, len(clients) // 50)]:
                if not has_session(service, client["client_id"]):
                    raise SystemExit(f"the session of {client['client_id']} is not there")
            took["served_s"] = round(time.monotonic() - began, 3)
        finally:
            service.kill()
    return line | took | {"bytes": kept, "name": name}


def main() -> None:
    bench, bootstrap = sys.argv[1:]
    lines = [measure(bench, bootstrap, count) for count in COUNTS]
    none, *some = lines
    for line in lines:
        # What the topic has without sessions is not theirs.
        line["bytes_a_session"] = round((line["bytes"] - none["bytes"]) / max(1, line["sessions"]), 1)
        say(kind="sessions", **line)
    are_equal = all(line[of] == none[of] for line in some for of in ("groups", "connections"))
    if not are_equal or any(line["bytes_a_session"] > BYTES_MAX or line["served_s"] > SERVED_S for line in some):
        sys.exit(1)


main()
