#!/usr/bin/env python3
"""What TLS, WebSocket and permissions cost: Forebay and mosquitto in turn, in one run; a JSON object a line. scripts/perf edge runs it.

  connect    CPU of the server a connection: full handshakes (P-256), CONNECT, and the end
  publish    CPU of the server a message: sixteen QoS 1 publishes in each write and TLS record, 100 bytes; plain, TLS, and with an ACL of 8 rules
  guesses    p99 of a client's PUBACK while others try wrong passwords of argon2id, and without them

Forebay's sink is one that answers (`forebay-bench kafka-sink`), mosquitto has no subscriber. Clients are Python on the other core; only the CPU and
memory of the server are measured.
"""

import argparse
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from service import ROOT, Service, binary

TICKS = os.sysconf("SC_CLK_TCK")
HEAD = b"\x00\x04MQTT\x04"


def connect_packet(client: str, user: str = "", password: str = "") -> bytes:
    text = lambda value: len(value).to_bytes(2, "big") + value.encode()
    body = HEAD + bytes([0x02 | (0x80 if user else 0) | (0x40 if password else 0)]) + b"\x00\x00" + text(client)
    body += (text(user) if user else b"") + (text(password) if password else b"")
    assert len(body) < 128
    return bytes([0x10, len(body)]) + body


def publishes(topic: str, count: int, begin: int, payload: bytes) -> bytes:
    out = b""
    for number in range(count):
        body = len(topic).to_bytes(2, "big") + topic.encode() + ((begin + number) % 65_535 + 1).to_bytes(2, "big") + payload
        assert len(body) < 16_384
        out += b"\x32" + (bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 0x7F | 0x80, len(body) >> 7])) + body
    return out


def exactly(sock: socket.socket, count: int) -> None:
    while count:
        got = len(sock.recv(count))
        if not got:
            raise ConnectionError("closed")
        count -= got


class Server:
    """One of the two, with a listener for each transport."""

    def __init__(self, name: str, ports: dict[str, int], process: subprocess.Popen):
        self.name, self.ports, self.process = name, ports, process

    def cpu_us(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1e6 / TICKS


class Run:
    def __init__(self, work: Path, asked: argparse.Namespace):
        self.work, self.asked = work, asked
        make = lambda *command: subprocess.run(command, cwd=work, check=True, capture_output=True)
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
        make("openssl", "req", "-x509", *curve, "-days", "2", "-subj", "/CN=CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", "ca.key", "-out", "ca.pem")
        for name, more in (("server", "subjectAltName=DNS:localhost"), ("device", "extendedKeyUsage=clientAuth")):
            make("openssl", "req", "-new", *curve, "-subj", f"/CN={name}", "-addext", more, "-keyout", f"{name}.key", "-out", f"{name}.csr")
            make("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", f"{name}.pem")
        subprocess.run([binary(), "passwd", "passwords", "ada"], cwd=work, check=True, capture_output=True, input=b"secret\n")
        rules = "".join(f"topic write other/{number}/#\n" for number in range(7)) + "topic write t/#\n"
        (work / "acl").write_text(rules)

    def context(self, with_certificate: bool) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.work / "ca.pem"))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if with_certificate:
            context.load_cert_chain(self.work / "device.pem", self.work / "device.key")
        return context

    def client(self, server: Server, transport: str, packet: bytes, contexts: dict[str, ssl.SSLContext]) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", server.ports[transport]), timeout=60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if transport in ("tls", "mtls", "wss"):
            sock = contexts[transport].wrap_socket(sock, server_hostname="localhost")
        if transport == "wss":
            sock.sendall(
                b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
            )
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(1)
            sock.sendall(bytes([0x82, 0x80 | len(packet)]) + bytes(4) + packet)
            exactly(sock, 6)
        else:
            sock.sendall(packet)
            exactly(sock, 4)
        return sock

    def contexts(self) -> dict[str, ssl.SSLContext]:
        return {"tls": self.context(False), "mtls": self.context(True), "wss": self.context(False)}

    # ---- the two ------------------------------------------------------------------------------------------------------------------------

    def free_ports(self, count: int) -> list[int]:
        probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        ports = [probe.getsockname()[1] for probe in probes]
        [probe.close() for probe in probes]
        return ports

    def forebay(self) -> Server:
        names = ("tcp", "tls", "mtls", "wss", "acl", "auth")
        ports = dict(zip(names, self.free_ports(len(names)), strict=True))
        config = f'[service]\nshards = 1\ndata_dir = "{self.work}/data"\n[control]\nbind = "127.0.0.1:0"\n'
        for name, port in ports.items():
            transport = {"mtls": "tls", "acl": "tcp", "auth": "tcp"}.get(name, name)
            config += f'[[listener]]\nbind = "127.0.0.1:{port}"\ntransport = "{transport}"\n'
            config += {"acl": 'auth = "acl"\n', "auth": 'auth = "auth"\n'}.get(name, "")
            if transport in ("tls", "wss"):
                config += f'[listener.tls]\ncert_file = "{self.work}/server.pem"\nkey_file = "{self.work}/server.key"\n'
                config += f'client_ca_file = "{self.work}/ca.pem"\n' if name == "mtls" else ""
        config += f'[auth.acl]\nchain = ["anonymous"]\nacl_file = "{self.work}/acl"\n[auth.auth]\nchain = ["password"]\npassword_file = "{self.work}/passwords"\n'
        config += f'[kafka.main]\nbootstrap = "{self.sink_address}"\n[[sink]]\nname = "all"\nfilters = "t/#"\ntopic = "t"\n'
        service = Service(self.work, config)
        service.start()
        self.service = service
        return Server("forebay", ports, service.process)

    def mosquitto(self) -> Server:
        names = ("tcp", "tls", "mtls", "wss", "acl", "auth")
        ports = dict(zip(names, self.free_ports(len(names)), strict=True))
        config = "per_listener_settings true\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        for name, port in ports.items():
            config += f"listener {port} 127.0.0.1\nallow_anonymous {'false' if name == 'auth' else 'true'}\n"
            if name in ("tls", "mtls", "wss"):
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

    def connect(self, server: Server) -> dict:
        found = {}
        for transport in ("tcp", "tls", "mtls"):
            before = server.cpu_us()
            for number in range(self.asked.connects):
                # A context of its own: no session is resumed.
                contexts = self.contexts() if number % 50 == 0 else contexts
                self.client(server, transport, connect_packet(f"c-{number}"), contexts).close()
            time.sleep(0.2)
            found[transport] = round((server.cpu_us() - before) / self.asked.connects, 1)
        return {"what": "connect", "server CPU us a connection": found, "connections": self.asked.connects}

    def publish(self, server: Server) -> dict:
        found = {}
        contexts = self.contexts()
        for transport in ("tcp", "tls", "acl"):
            socks = [self.client(server, transport, connect_packet(f"p-{transport}-{number}"), contexts) for number in range(8)]
            packets = publishes("t/x", 16, 0, b"x" * 100)
            before, sent = server.cpu_us(), 0
            while sent < self.asked.messages:
                for sock in socks:
                    sock.sendall(packets)
                for sock in socks:
                    exactly(sock, 16 * 4)
                sent += 16 * len(socks)
            time.sleep(0.2)
            found[transport] = round((server.cpu_us() - before) / sent, 3)
            [sock.close() for sock in socks]
        return {"what": "publish", "server CPU us a message": found, "messages": self.asked.messages}

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

    def latencies(self, server: Server) -> float:
        """The p99 of 2,000 publishes, measured by a process of its own."""
        code = (
            "import socket,sys,time\nsock=socket.create_connection(('127.0.0.1',int(sys.argv[1])))\nsock.setsockopt(6,1,1)\n"
            "sock.sendall(bytes.fromhex(sys.argv[2]));sock.recv(4)\nall=[]\npacket=bytes.fromhex(sys.argv[3])\n"
            "for _ in range(2000):\n  t=time.perf_counter();sock.sendall(packet);sock.recv(4);all.append(time.perf_counter()-t);time.sleep(.001)\n"
            "all.sort();print(all[1980]*1e6)"
        )
        arguments = [str(server.ports["tcp"]), connect_packet("steady").hex(), publishes("t/x", 1, 0, b"x" * 100).hex()]
        done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
        return round(float(done.stdout), 1)

    def run(self) -> None:
        bench = os.environ.get("BENCH_BINARY") or str(binary().parent / "forebay-bench")
        sink = subprocess.Popen([bench, "kafka-sink", "--bind", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
        try:
            self.sink_address = next(word for word in sink.stdout.readline().split() if word.startswith("127.0.0.1:")).rstrip(".,;")
            for number in range(self.asked.rounds):
                for start in (self.forebay, self.mosquitto):
                    server = start()
                    try:
                        for measure in (self.connect, self.publish, self.guesses):
                            print(json.dumps({"server": server.name, "round": number} | measure(server)), flush=True)
                    finally:
                        server.process.terminate()
                        server.process.wait(30)
        finally:
            sink.terminate()
            sink.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connects", type=int, default=500)
    parser.add_argument("--messages", type=int, default=200_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache/runs") as work:
        Run(Path(work), asked).run()


if __name__ == "__main__":
    main()
