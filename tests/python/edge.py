#!/usr/bin/env python3
"""What TLS, WebSocket and permissions cost: Forebay and mosquitto in turn, in one run; a JSON object a line. scripts/perf edge runs it.

  connect     CPU of the server a connection: TCP, TLS (full handshake, P-256), with a client certificate, WebSocket over TLS
  patterns    CPU of the server a message, patterns A and C: plain, TLS, and with an ACL of 8 rules
  guesses     p99 of a client's PUBACK while others try wrong passwords of argon2id, and without them
  idle        resident memory of a connection that says nothing, once for each transport
  reconnects  a fleet over TLS that comes back at once: until all are back, and the p99 of others
  kafka       Kafka over TLS and plain: CPU of pattern A, p99 of PUBACK (Forebay alone, with a real Apache Kafka)

The first three are taken round by round, the others once. Forebay's sink is one that answers (`forebay-bench kafka-sink`), mosquitto has no
subscriber. --small tries all of it in a minute or two; what it prints then are no measurements.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_load import CONNECTIONS_OF_PORT, Load, Server, room_for
from service import CACHE, ROOT, Service, binary

HEAD = b"\x00\x04MQTT\x04"
KAFKA = ROOT / "scripts/kafka"


def connect_packet(client: str, user: str = "", password: str = "") -> bytes:
    text = lambda value: len(value).to_bytes(2, "big") + value.encode()
    body = HEAD + bytes([0x02 | (0x80 if user else 0) | (0x40 if password else 0)]) + b"\x00\x00" + text(client)
    body += (text(user) if user else b"") + (text(password) if password else b"")
    assert len(body) < 128
    return bytes([0x10, len(body)]) + body


def publish_packet(topic: str, payload: bytes) -> bytes:
    """QoS 1."""
    body = len(topic).to_bytes(2, "big") + topic.encode() + b"\x00\x01" + payload
    assert 128 <= len(body) < 16_384
    return b"\x32" + bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body


class Run:
    def __init__(self, work: Path, asked: argparse.Namespace):
        self.work, self.asked = work, asked
        self.bench = os.environ.get("BENCH_BINARY") or str(binary().parent / "forebay-bench")
        self.load = Load(self.bench, work)
        ports = -(-room_for(asked.reconnects) // CONNECTIONS_OF_PORT)
        self.names = ("tcp", "tls", *(f"tls{number}" for number in range(2, ports + 1)), "mtls", "wss", "acl", "auth")
        make = lambda *command: subprocess.run(command, cwd=work, check=True, capture_output=True)
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
        make("openssl", "req", "-x509", *curve, "-days", "2", "-subj", "/CN=CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", "ca.key", "-out", "ca.pem")
        for name, more in (("server", "subjectAltName=DNS:localhost"), ("device", "extendedKeyUsage=clientAuth")):
            make("openssl", "req", "-new", *curve, "-subj", f"/CN={name}", "-addext", more, "-keyout", f"{name}.key", "-out", f"{name}.csr")
            make("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", f"{name}.pem")
        subprocess.run([binary(), "passwd", "passwords", "ada"], cwd=work, check=True, capture_output=True, input=b"secret\n")
        rules = "".join(f"topic write other/{number}/#\n" for number in range(7)) + "topic write dev/#\n"
        (work / "acl").write_text(rules)

    # ---- the two ------------------------------------------------------------------------------------------------------------------------

    def free_ports(self, count: int) -> list[int]:
        probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        ports = [probe.getsockname()[1] for probe in probes]
        [probe.close() for probe in probes]
        return ports

    def forebay(self) -> Server:
        return self.forebay_before(f'bootstrap = "{self.sink_address}"\n')

    def forebay_before(self, kafka: str) -> Server:
        """In front of this cluster."""
        ports = dict(zip(self.names, self.free_ports(len(self.names)), strict=True))
        config = f'[service]\nshards = 1\ndata_dir = "{self.work}/data"\n[control]\nbind = "127.0.0.1:0"\n'
        for name, port in ports.items():
            transport = {"mtls": "tls", "acl": "tcp", "auth": "tcp"}.get(name, name).rstrip("0123456789")
            config += f'[[listener]]\nbind = "127.0.0.1:{port}"\ntransport = "{transport}"\n'
            config += {"acl": 'auth = "acl"\n', "auth": 'auth = "auth"\n'}.get(name, "")
            if transport in ("tls", "wss"):
                config += f'[listener.tls]\ncert_file = "{self.work}/server.pem"\nkey_file = "{self.work}/server.key"\n'
                config += f'client_ca_file = "{self.work}/ca.pem"\n' if name == "mtls" else ""
        config += f'[auth.acl]\nchain = ["anonymous"]\nacl_file = "{self.work}/acl"\n[auth.auth]\nchain = ["password"]\npassword_file = "{self.work}/passwords"\n'
        config += f'[kafka.main]\n{kafka}[[sink]]\nname = "all"\nfilters = "dev/#"\ntopic = "dev"\n'
        shutil.rmtree(self.work / "data", ignore_errors=True)
        service = Service(self.work, config)
        service.start()
        return Server("forebay", ports, service.process)

    def mosquitto(self) -> Server:
        ports = dict(zip(self.names, self.free_ports(len(self.names)), strict=True))
        config = "per_listener_settings true\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        for name, port in ports.items():
            config += f"listener {port} 127.0.0.1\nallow_anonymous {'false' if name == 'auth' else 'true'}\n"
            if name.startswith("tls") or name in ("mtls", "wss"):
                config += f"certfile {self.work}/server.pem\nkeyfile {self.work}/server.key\n"
            config += f"cafile {self.work}/ca.pem\nrequire_certificate true\n" if name == "mtls" else ""
            config += "protocol websockets\n" if name == "wss" else ""
            config += f"acl_file {self.work}/acl\n" if name == "acl" else ""
            if name == "auth":
                subprocess.run(["mosquitto_passwd", "-b", "-c", str(self.work / "mosquitto.pw"), "ada", "secret"], check=True, capture_output=True)
                config += f"password_file {self.work}/mosquitto.pw\n"
        os.chmod(self.work, 0o755)
        [os.chmod(self.work / name, 0o644) for name in ("server.key", "acl", "mosquitto.pw")]
        (self.work / "mosquitto.conf").write_text(config)
        log = open(self.work / "mosquitto.log", "w")
        process = subprocess.Popen(["mosquitto", "-c", str(self.work / "mosquitto.conf")], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", ports["auth"]), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((self.work / "mosquitto.log").read_text()) from None
                time.sleep(0.05)
        return Server("mosquitto", ports, process)

    # ---- what is measured -------------------------------------------------------------------------------------------------------------------

    def guesses(self, server: Server) -> dict:
        calm = self.latencies(server)
        over, tried = threading.Event(), [0]

        def guess() -> None:
            while not over.is_set():
                try:
                    sock = socket.create_connection(("127.0.0.1", server.ports["auth"]), timeout=5)
                    sock.sendall(connect_packet(f"g-{tried[0]}", "ada", f"guess-{tried[0]}"))
                    tried[0] += 1
                    sock.settimeout(0.05)
                    try:
                        sock.recv(4)
                    except TimeoutError:
                        pass
                    sock.close()
                except OSError:
                    pass
                time.sleep(0.002)

        threads = [threading.Thread(target=guess, daemon=True) for _ in range(4)]
        [thread.start() for thread in threads]
        time.sleep(0.5)
        began = time.monotonic()
        first = tried[0]
        hurt = self.latencies(server)
        rate = (tried[0] - first) / (time.monotonic() - began)
        over.set()
        [thread.join() for thread in threads]
        return {"what": "guesses", "p99 us": {"without": calm, "with": hurt}, "guesses a second": round(rate)}

    def latencies(self, server: Server, wait: Callable[[], None] | None = None) -> float:
        """The p99 of 2,000 publishes, measured by a process of its own; or of all until `wait` returns."""
        code = (
            "import os,socket,sys,time\nsock=socket.create_connection(('127.0.0.1',int(sys.argv[1])))\nsock.setsockopt(6,1,1)\n"
            "sock.sendall(bytes.fromhex(sys.argv[2]));sock.recv(4)\nall=[]\npacket=bytes.fromhex(sys.argv[3])\n"
            "while not os.path.exists(sys.argv[4]) if sys.argv[4] else len(all)<2000:\n"
            "  t=time.perf_counter();sock.sendall(packet);sock.recv(4);all.append(time.perf_counter()-t);time.sleep(.001)\n"
            "all.sort();print(all[len(all)*99//100]*1e6)"
        )
        over = self.work / "over"
        over.unlink(missing_ok=True)
        arguments = [str(server.ports["tcp"]), connect_packet("steady").hex(), publish_packet("dev/x", b"x" * 121).hex(), str(over) if wait else ""]
        measuring = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
        try:
            if wait:
                wait()
                over.touch()
            found, _ = measuring.communicate(timeout=120)
        finally:
            measuring.kill()
        return round(float(found), 1)

    # ---- the run ----------------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def sink(self) -> Iterator[None]:
        """A Kafka that answers and keeps nothing."""
        sink = subprocess.Popen([self.bench, "kafka-sink", "--bind", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
        try:
            self.sink_address = next(word for word in sink.stdout.readline().split() if word.startswith("127.0.0.1:")).rstrip(".,;")
            yield
        finally:
            sink.terminate()
            sink.wait()

    def one(self, start: Callable[[], Server], *measures: Callable[[Server], dict], **more: object) -> None:
        server = start()
        try:
            for measure in measures:
                self.say({"server": server.name} | more | measure(server))
        finally:
            server.stop()

    @staticmethod
    def say(found: dict) -> None:
        print(json.dumps(found), flush=True)

    def run(self) -> None:
        asked, load = self.asked, self.load
        measures = (lambda server: load.connect(server, asked.seconds), lambda server: load.patterns(server, asked.scale), self.guesses)
        with self.sink():
            for number in range(asked.rounds):
                for start in (self.forebay, self.mosquitto):
                    self.one(start, *measures, round=number)
            for start in (self.forebay, self.mosquitto):
                self.say(load.idle(start, asked.idle))
            for start in (self.forebay, self.mosquitto):
                self.one(start, lambda server: load.reconnects(server, asked.reconnects, self.latencies))
        self.kafka()

    def kafka(self) -> None:
        folder = self.work / "kafka"
        command = lambda *words: subprocess.run([KAFKA, *words, "--dir", folder], check=True, capture_output=True, text=True).stdout
        try:
            command("start", "--tls", "--bench", "--partitions", "4")
            addresses = dict(line.removeprefix("export ").replace("'", "").split("=", 1) for line in command("env").splitlines() if "=" in line)
            clusters = {
                "plain": f'bootstrap = "{addresses["KAFKA_BOOTSTRAP"]}"\n',
                "TLS": f'bootstrap = "{addresses["KAFKA_TLS"]}"\n[kafka.main.tls]\nca_file = "{folder}/tls/ca.pem"\n',
            }
            for number in range(self.asked.rounds):
                for kind, cluster in clusters.items():
                    measure = lambda server, kind=kind: self.load.kafka(server, kind, self.asked.scale, self.asked.seconds)
                    self.one(lambda cluster=cluster: self.forebay_before(cluster), measure, round=number)
        finally:
            command("stop", "--delete")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of connects, and of publishes at a pace")
    parser.add_argument("--scale", type=float, default=1, help="of the patterns' messages")
    parser.add_argument("--idle", type=int, default=10_000, help="connections")
    parser.add_argument("--reconnects", type=int, default=50_000, help="connections; as many as descriptors allow")
    parser.add_argument("--small", action="store_true", help="tries all of it")
    asked = parser.parse_args()
    if asked.small:
        asked.rounds, asked.seconds, asked.scale, asked.idle, asked.reconnects = 1, 1, 0.02, 300, 600
    with tempfile.TemporaryDirectory(dir=CACHE / "runs") as work:
        Run(Path(work), asked).run()


if __name__ == "__main__":
    main()
