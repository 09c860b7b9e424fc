#!/usr/bin/env python3
"""What one client costs the others: p99 of 100 pairs while another client does its worst, beside p99 without it. scripts/perf neighbours runs it.

  replay     subscribes to all of 100,000 retained messages, reads them, and does it again
  bomb       the same with six filters that overlap, for ten clients that read nothing
  deaf       subscribes to everything and reads nothing
  window     subscribes to everything with Receive Maximum 1, and acknowledges ten messages a second
  fan-out    ten messages a second to 10,000 subscribers
  storm      subscribes to 100,000 filters, fifty in a packet, and unsubscribes from half of them
  levels     publishes to a topic of 65,535 levels
  wildcards  1,024 filters that all match one topic of ten levels, and a message to it every millisecond

The server is on the first CPU; the pairs, for root at a real-time priority, and the client at the lowest one, on the second. Prints a JSON object a line: of each kind, p99 of deliveries and PUBACKs without
it, with it, and the ratio; the middle one of --rounds.
"""

import argparse
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from service import NO_KAFKA, PREAMBLE, ROOT, Service, binary

sys.path.insert(0, str(ROOT / "tests/faults"))
from link import Link, connect, packet, publish, text  # noqa: E402

RETAINED = 100_000
PAIRS = """
name = "pairs"
duration = "{seconds}s"
[[group]]
name = "subscribers"
role = "subscribe"
clients = 100
topic = "pair/{{client}}"
qos = 1
[[group]]
name = "publishers"
clients = 100
topic = "pair/{{client}}"
qos = 1
rate = 2000
"""
CROWD = """
name = "crowd"
duration = "600s"
[[group]]
role = "subscribe"
clients = 10000
topic = "crowd"
[[group]]
topic = "crowd"
rate = 10
"""


def subscribe(filters: list[str], qos: int = 0, packet_id: int = 1) -> bytes:
    return packet(0x82, packet_id.to_bytes(2, "big") + b"\x00" + b"".join(text(each) + bytes([qos]) for each in filters))


class Worst:
    """A client that does its worst until it is ended."""

    def __init__(self, port: int):
        self.port = port

    def connected(self, name: str, properties: bytes = b"") -> Link:
        link = Link("tcp", self.port, random.Random(1))
        link.send(connect(name, properties=properties))
        link.answer()
        return link

    def read(self, link: Link, quiet_s: float) -> int:
        """All that comes, until nothing does for so long."""
        link.sock.settimeout(quiet_s)
        count = 0
        try:
            while more := link.sock.recv(1 << 18):
                count += len(more)
        except TimeoutError:
            pass
        return count

    def retain(self) -> None:
        """What `replay` and `bomb` ask for."""
        link = self.connected("keeper")
        for first in range(0, RETAINED, 100):
            each = (publish(f"kept/{number % 100}/{number}", b"k" * 100) for number in range(first, first + 100))
            link.send(b"".join(bytes([message[0] | 1]) + message[1:] for message in each))
        link.send(subscribe(["nothing"]))
        link.answer()

    def replay(self) -> None:
        link = self.connected("worst")
        while True:
            link.send(subscribe(["kept/#"]))
            assert self.read(link, 0.5) > RETAINED * 100, "not all came"

    def bomb(self) -> None:
        filters = ["#", "kept/#", "+/+/+", "kept/+/#", "+/#", "kept/+/+"]
        while True:
            links = [self.connected(f"worst-{number}") for number in range(10)]
            for link in links:
                link.sock.settimeout(0.2)
                try:
                    for packet_id in range(1, 30):
                        link.send(subscribe(filters, 1, packet_id))
                except (TimeoutError, OSError):
                    pass
            time.sleep(1)
            [link.vanish() for link in links]

    def deaf(self) -> None:
        link = self.connected("worst")
        link.send(subscribe(["#"], 1))
        signal.pause()

    def window(self) -> None:
        link = self.connected("worst", b"\x21\x00\x01")
        link.send(subscribe(["#"], 1))
        link.answer()
        link.sock.settimeout(1)
        while True:
            time.sleep(0.1)
            if link.answer():
                link.send(packet(0x40, b"\x00\x01"))

    def storm(self) -> None:
        for number in itertools.count():
            link = self.connected(f"worst-{number % 3}")
            link.sock.settimeout(5)
            for first in range(0, RETAINED, 50):
                names = [f"storm/{'+/' * (each % 12)}{each}/{'#' if each % 3 else 'x'}" for each in range(first, first + 50)]
                link.send(subscribe(names) + packet(0xA2, b"\x00\x02\x00" + b"".join(text(name) for name in names[::2])))
                link.answer(1 << 16)
            link.close()

    def levels(self) -> None:
        link = self.connected("worst")
        message = publish("/" * 65_535, qos=1)
        while True:
            link.send(message)
            link.answer()

    def wildcards(self) -> None:
        link = self.connected("worst")
        levels = [f"level-{number}" for number in range(10)]
        filters = ["/".join("+" if number >> at & 1 else level for at, level in enumerate(levels)) for number in range(1 << 10)]
        for first in range(0, len(filters), 64):
            link.send(subscribe(filters[first : first + 64]))
        self.read(link, 0.5)
        link.sock.setblocking(False)
        while True:
            time.sleep(0.001)
            link.send(publish("/".join(levels)))
            try:
                link.sock.recv(1 << 18)
            except BlockingIOError:
                pass


KINDS = ("replay", "bomb", "deaf", "window", "fan-out", "storm", "levels", "wildcards")


class Run:
    def __init__(self, work: Path, seconds: int):
        self.work, self.bench = work, os.environ.get("BENCH_BINARY") or str(binary().parent / "forebay-bench")
        (work / "pairs.toml").write_text(PAIRS.format(seconds=seconds))
        (work / "crowd.toml").write_text(CROWD)

    def server(self, kind: str) -> tuple[Service, int]:
        """A fresh one, with what the kind asks for."""
        service = Service(self.work, PREAMBLE.format(shards=1, folder=self.work) + NO_KAFKA)
        service.start()
        port = service.mqtt_port
        os.sched_setaffinity(service.process.pid, {0})
        if kind in ("replay", "bomb"):
            Worst(port).retain()
        return service, port

    def pairs(self, port: int) -> dict[str, float]:
        out = self.work / "pairs.json"
        # What the other client's work costs on this CPU is not to be measured: the pairs have it whenever they want it.
        first = ["chrt", "-f", "10"] if os.geteuid() == 0 else []
        bench = [self.bench, "run", str(self.work / "pairs.toml"), "--target", f"127.0.0.1:{port}", "--json", str(out)]
        command = ["taskset", "-c", "1", *first, *bench]
        subprocess.run(command, check=True, capture_output=True)
        found = json.loads(out.read_text())["latency"]
        return {kind: found[kind]["p99_us"] for kind in ("delivery", "puback")}

    def worst(self, kind: str, port: int) -> subprocess.Popen:
        command = [sys.executable, __file__, "--worst", kind, "--port", str(port)]
        if kind == "fan-out":
            command = [self.bench, "run", str(self.work / "crowd.toml"), "--target", f"127.0.0.1:{port}"]
        began = subprocess.Popen(["taskset", "-c", "1", "nice", "-n", "19", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(3)
        return began

    def measure(self, kind: str) -> tuple[dict, dict, int]:
        service, port = self.server(kind)
        try:
            calm = self.pairs(port)
            worst = self.worst(kind, port)
            hurt = self.pairs(port)
            if worst.poll() is not None:
                raise SystemExit(f"{kind} ended: {worst.stderr.read().decode()}")
            worst.kill()
            worst.wait()
            rss = next(line for line in Path(f"/proc/{service.process.pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
            return calm, hurt, int(rss.split()[1])
        finally:
            service.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--worst", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worst:
        return getattr(Worst(asked.port), asked.worst)()
    with tempfile.TemporaryDirectory() as work:
        run = Run(Path(work), asked.seconds)
        for kind in asked.kinds.split(","):
            rounds = [run.measure(kind) for _ in range(asked.rounds)]
            line: dict = {"what": "neighbours", "kind": kind, "most resident MiB": max(rss for *_, rss in rounds) // 1024}
            for name in ("delivery", "puback"):
                ratios = sorted(hurt[name] / max(calm[name], 1) for calm, hurt, _ in rounds)
                line[f"p99 of {name}, us"] = {
                    "without": statistics.median(calm[name] for calm, *_ in rounds),
                    "with": statistics.median(hurt[name] for _, hurt, _ in rounds),
                    "ratio": round(statistics.median(ratios), 2), "ratios": [round(ratio, 2) for ratio in ratios],
                }  # fmt: skip
            print(json.dumps(line), flush=True)
    return None


if __name__ == "__main__":
    main()
