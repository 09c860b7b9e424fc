"""The parts of edge.py that `forebay-bench` measures: connections, idle memory, patterns, a fleet that reconnects, Kafka over TLS."""

import json
import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
# As many connections may come from one address to one port; the kernel has some 28,000 ports for them.
CONNECTIONS_OF_PORT = 25_000


class Server:
    """One of the two, with a listener for each transport."""

    def __init__(self, name: str, ports: dict[str, int], process: subprocess.Popen):
        self.name, self.ports, self.process = name, ports, process

    def cpu_us(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1e6 / TICKS

    def cpu_us_when_quiet(self) -> float:
        """Once it has done all that it has been sent: at QoS 0 nothing else says so."""
        used = -1.0
        while (now := self.cpu_us()) > used:
            used = now
            time.sleep(0.5)
        return used

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def room_for(connections: int) -> int:
    """As many connections as descriptors allow, once more may be had: root may have any number."""
    wanted = connections + 4_096
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 4_096)


class Load:
    """Runs the generator against a server."""

    def __init__(self, bench: str, work: Path):
        self.bench, self.work, self.runs = bench, work, 0

    def options(self, transport: str) -> list[str]:
        """Of a transport; a number behind it is another port of the same."""
        transport = transport.rstrip("0123456789")
        options = []
        if transport in ("tls", "mtls", "wss"):
            options += ["--tls", "--ca", str(self.work / "ca.pem"), "--server-name", "localhost"]
        if transport == "mtls":
            options += ["--certificate", str(self.work / "device.pem"), "--key", str(self.work / "device.key")]
        if transport == "wss":
            options += ["--websocket", "mqtt"]
        return options

    def start(self, server: Server, transport: str, *job: str) -> tuple[subprocess.Popen, Path]:
        self.runs += 1
        report = self.work / f"run-{self.runs}.json"
        where = ["--target", f"127.0.0.1:{server.ports[transport]}", "--pid", str(server.process.pid), "--quiet", "--json", str(report)]
        with open(self.work / "bench.log", "a") as log:
            process = subprocess.Popen([self.bench, *job, *where, *self.options(transport)], stdout=log, stderr=log)
        return process, report

    def run(self, server: Server, transport: str, *job: str, patience_s: float = 300) -> dict:
        process, report = self.start(server, transport, *job)
        try:
            process.wait(patience_s)
        finally:
            process.kill()
        return self.read(report)

    def read(self, report: Path) -> dict:
        if not report.exists():
            raise SystemExit(f"the generator wrote no report:\n{(self.work / 'bench.log').read_text()[-2_000:]}")
        found = json.loads(report.read_text())
        verdict = found["verdict"]
        if verdict["connects_failed"] or verdict["connections_lost"] or verdict["protocol_errors"]:
            raise SystemExit(f"not measured: {verdict['headline']}")
        return found

    def scenario(self, clients: int, seconds: float) -> str:
        """A file with clients that connect and say nothing."""
        file = self.work / f"idle-{clients}-{seconds:g}.toml"
        file.write_text(f'name = "idle"\nduration = "{seconds:g}s"\n[[group]]\nname = "idle"\nrole = "idle"\nclients = {clients}\nkeep_alive = 0\n')
        return str(file)

    # ---- what is measured -----------------------------------------------------------------------------------------------------------------

    def connect(self, server: Server, seconds: float) -> dict:
        """CPU of the server a connection: TCP, handshake, CONNECT, the end."""
        found = {}
        # A pace that both keep up with, and at which no client takes over its own connection before that.
        for transport, rate in (("tcp", 2_000), ("tls", 300), ("mtls", 300), ("wss", 300)):
            report = self.run(server, transport, "connect", "--clients", "200", "--rate", str(rate), "--duration", f"{seconds:g}s")
            found[transport] = round(report["processes"][0]["cpu_s"] * 1e6 / report["totals"]["connects"], 1)
        return {"what": "connect", "server CPU us a connection": found}

    def idle(self, start: Callable[[], Server], connections: int) -> dict:
        """Memory a connection that has sent CONNECT and nothing else; each transport in a process of its own."""
        found = {}
        connections = min(room_for(connections), CONNECTIONS_OF_PORT)
        for transport in ("tcp", "tls", "mtls", "wss"):
            server = start()
            try:
                # What the first connections make for all has no part in it.
                self.run(server, transport, "run", self.scenario(100, 1))
                used = self.run(server, transport, "run", self.scenario(connections, 3))["processes"][0]
                found[transport] = round((used["rss_bytes_end"] - used["rss_bytes_before"]) / connections)
            finally:
                server.stop()
        return {"server": server.name, "what": "idle", "resident bytes a connection": found, "connections": connections}

    def patterns(self, server: Server, scale: float) -> dict:
        """CPU of the server a message; a plain listener, TLS, and a plain one with an ACL of 8 rules."""
        found: dict[str, dict] = {}
        for pattern in ("A", "C"):
            for transport in ("tcp", "tls", "acl"):
                found.setdefault(pattern, {})[transport] = self.cost(server, transport, pattern, scale)
            plain = found[pattern]["tcp"]
            found[pattern] |= {"tls / tcp": round(found[pattern]["tls"] / plain, 3), "acl / tcp": round(found[pattern]["acl"] / plain, 3)}
        return {"what": "patterns", "server CPU us a message": found}

    def cost(self, server: Server, transport: str, pattern: str, scale: float) -> float:
        """CPU of the server a message, in us."""
        before = server.cpu_us_when_quiet()
        report = self.run(server, transport, "run", "--pattern", pattern, "--scale", f"{scale:g}")
        return round((server.cpu_us_when_quiet() - before) / report["totals"]["sent"], 3)

    def reconnects(self, server: Server, connections: int, latencies: Callable[..., float]) -> dict:
        """A fleet over TLS loses its connections and comes back at once: how long until all are back, and the p99 of a client of a plain
        listener meanwhile."""
        connections = room_for(connections)
        listeners = [name for name in server.ports if name.startswith("tls")]
        used = listeners[: -(-connections // CONNECTIONS_OF_PORT)]
        each = min(connections // len(used), CONNECTIONS_OF_PORT)
        fleet = [self.start(server, name, "run", self.scenario(each, 600)) for name in used]
        descriptors = Path(f"/proc/{server.process.pid}/fd")
        try:
            self.until(lambda: len(os.listdir(descriptors)) >= each * len(used))
            time.sleep(3)
            calm = latencies(server)
        finally:
            [process.kill() for process, _ in fleet]
            [process.wait() for process, _ in fleet]
        cpu, began, held_s = server.cpu_us(), time.monotonic(), 0.5
        fleet = [self.start(server, name, "run", self.scenario(each, held_s)) for name in used]
        ended: list[float] = []

        def wait() -> None:
            for process, _ in fleet:
                process.wait(300)
                ended.append(time.monotonic())

        try:
            storm = latencies(server, wait)
        finally:
            [process.kill() for process, _ in fleet]
        reports = [self.read(report) for _, report in fleet]
        return {
            "what": "reconnects", "connections": each * len(used), "s until all are back": round(max(ended) - began - held_s, 2),
            "us from TCP to CONNACK": {name: max(report["latency"]["connect"][f"{name}_us"] for report in reports) for name in ("p50", "p99", "max")},
            "server CPU us a connection": round((server.cpu_us() - cpu) / (each * len(used)), 1), "p99 us of another client": {"before": calm, "meanwhile": storm},
        }  # fmt: skip

    @staticmethod
    def until(is_so: Callable[[], bool], patience_s: float = 180) -> None:
        deadline = time.monotonic() + patience_s
        while not is_so():
            if time.monotonic() > deadline:
                raise SystemExit("the fleet did not connect in time")
            time.sleep(0.2)

    def kafka(self, server: Server, kind: str, scale: float, seconds: float) -> dict:
        """A service in front of a real Kafka: CPU a message of pattern A, and the p99 of a paced PUBACK, which waits for Kafka."""
        self.cost(server, "tcp", "A", scale / 20)
        cost = self.cost(server, "tcp", "A", scale)
        paced = self.run(server, "tcp", "pub", "--clients", "200", "--qos", "1", "--rate", "5000", "--duration", f"{seconds:g}s", "--topic", "dev/{client}/paced")
        return {
            "what": "kafka", "kafka": kind, "CPU us a message, pattern A": cost,
            "PUBACK us at 5,000 a second": {name: paced["latency"]["puback"][f"{name}_us"] for name in ("p50", "p99")},
        }  # fmt: skip
