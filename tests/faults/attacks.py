#!/usr/bin/env python3
"""What hostile clients do, through every transport: attacks.py TRANSPORT=PORT... --seconds S --seed N

The kinds are the weakness classes of MQTT brokers: memory, CPU or connections taken before and after CONNECT, packets that no client sends, and
what TLS and WebSocket add to that. Prints, as JSON, how often each kind was tried through each transport, and what went against the rules: a
connection that should have been closed and was not.
"""

import argparse
import base64
import json
import os
import random
import socket
import ssl
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable

PATIENCE_S = 20.0  # for the end of a connection that has to be closed
HELD_S = 1.0


def varint(value: int) -> bytes:
    out = b""
    while True:
        value, low = value >> 7, value & 0x7F
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def text(value: str | bytes) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return len(value).to_bytes(2, "big") + value


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + varint(len(body)) + body


def connect(client: str | bytes, *, user: str = "", password: str = "", properties: bytes = b"", will: bytes = b"", flags: int = 0x02) -> bytes:
    """MQTT 5.0. `will`: its properties, topic and payload."""
    flags |= (0x80 if user else 0) | (0x40 if password else 0) | (0x04 if will else 0)
    body = text("MQTT") + bytes([5, flags, 0, 30]) + varint(len(properties)) + properties + text(client) + will
    return packet(0x10, body + (text(user) if user else b"") + (text(password) if password else b""))


def publish(topic: str | bytes, payload: bytes = b"x", *, qos: int = 0, packet_id: int = 1, properties: bytes = b"") -> bytes:
    body = text(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + varint(len(properties)) + properties + payload
    return packet(0x30 | qos << 1, body)


class Link:
    """A connection through one transport. `raw` goes out as it is, `send` as the transport wants it."""

    def __init__(self, transport: str, port: int, chance: random.Random, upgrade: bool = True):
        self.web, self.chance = transport in ("ws", "wss"), chance
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if transport in ("tls", "wss"):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        if self.web and upgrade:
            self.raw(self.request())
            head = b""
            while b"\r\n\r\n" not in head:
                more = self.sock.recv(4096)
                if not more:
                    raise ConnectionError("no upgrade")
                head += more

    @staticmethod
    def request(more: str = "") -> bytes:
        key = base64.b64encode(os.urandom(16)).decode()
        return (
            f"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n{more}\r\n"
        ).encode()

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    @staticmethod
    def frame(data: bytes, opcode: int = 2, fin: bool = True, length: int | None = None) -> bytes:
        """Masked with zeros, which is a mask like any other."""
        length = len(data) if length is None else length
        head = bytes([(0x80 if fin else 0) | opcode])
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 1 << 16:
            head += bytes([0x80 | 126]) + length.to_bytes(2, "big")
        else:
            head += bytes([0x80 | 127]) + length.to_bytes(8, "big")
        return head + bytes(4) + data

    def send(self, data: bytes) -> None:
        self.raw(self.frame(data) if self.web else data)

    def dripped(self, data: bytes) -> None:
        """A byte each time."""
        for byte in data:
            self.send(bytes([byte]))

    def answer(self, count: int = 1) -> bytes:
        """Some of what comes."""
        try:
            return self.sock.recv(max(count, 4096))
        except (TimeoutError, OSError):
            return b""

    def is_closed(self, within_s: float = PATIENCE_S) -> bool:
        """Whether the service ends it in time."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self.sock.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                if not self.sock.recv(1 << 16):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False

    def close(self) -> None:
        try:
            self.sock.close()
        except OSError:
            pass

    def vanish(self) -> None:
        """Reset, without a word of TLS or WebSocket."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
        except OSError:
            pass


class Attacker:
    def __init__(self, ports: dict[str, int], seed: int):
        self.ports, self.chance = ports, random.Random(seed)
        self.name = f"attacker-{seed}"
        self.tried: Counter[str] = Counter()
        self.wrong: list[str] = []

    def open(self, upgrade: bool = True) -> Link:
        return Link(self.transport, self.ports[self.transport], self.chance, upgrade)

    def connected(self, client: str | None = None, **more: object) -> Link:
        link = self.open()
        link.send(connect(client or f"{self.name}-{self.chance.randrange(1 << 30)}", **more))
        link.answer()
        return link

    def must_close(self, link: Link, what: str) -> None:
        if not link.is_closed():
            self.wrong.append(f"{what} over {self.transport}: not closed within {PATIENCE_S:g} s")
        link.close()

    # ---- before CONNECT ---------------------------------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Class 1: 256 MiB announced and not sent."""
        links = [self.open() for _ in range(50)]
        for link in links:
            link.send(b"\x10\xff\xff\xff\x7f")
        time.sleep(HELD_S)
        [link.close() for link in links]

    def lengths(self) -> None:
        """Classes 2 and 6: lengths of properties and strings beyond the packet, variable integers of five bytes."""
        length = self.chance.choice([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff\x01", b"\x80\x80\x80\x80\x01"])
        link = self.open()
        link.send(packet(0x10, text("MQTT") + b"\x05\x02\x00\x1e" + length + b"\x26\xff\xff"))
        self.must_close(link, "a length that is none")

    def properties(self) -> None:
        """Class 3: 5,000 user properties, with a password that is wrong."""
        some = (b"\x26" + text("a") + text("b")) * 5_000
        link = self.open()
        link.send(connect("x", user="device-1", password="guess", properties=some))
        self.must_close(link, "a refused CONNECT")

    def silence(self) -> None:
        """Class 20: connections that say nothing, or nearly nothing."""
        links = [self.open(upgrade=self.chance.random() < 0.5) for _ in range(100)]
        for link in links:
            if self.chance.random() < 0.5:
                link.send(b"\x10")
        time.sleep(2 * HELD_S)
        [self.chance.choice([link.close, link.vanish])() for link in links]

    def rubbish(self) -> None:
        """Random bytes, as they are and in the transport's form."""
        link = self.open(upgrade=self.chance.random() < 0.5)
        rubbish = self.chance.randbytes(self.chance.randrange(1, 5_000))
        (link.raw if self.chance.random() < 0.5 else link.send)(b"\x11" + rubbish)
        link.answer()
        link.vanish()

    # ---- with CONNECT -----------------------------------------------------------------------------------------------------------------

    def mutated(self) -> None:
        """Packets as clients send them, with a byte changed, cut or doubled."""
        good = connect("mutant") + publish("attack/m", b"x" * 50, qos=1) + publish("attack/m", qos=2, packet_id=2) + b"\x62\x02\x00\x02\xc0\x00"
        for _ in range(20):
            data = bytearray(good)
            for _ in range(self.chance.randrange(1, 4)):
                at = self.chance.randrange(len(data))
                self.chance.choice([lambda: data.__setitem__(at, self.chance.randrange(256)), lambda: data.__delitem__(at), lambda: data.insert(at, data[at])])()
            link = self.open()
            self.chance.choice([link.send, link.dripped])(bytes(data))
            link.vanish()

    def not_a_clients(self) -> None:
        """Classes 4 and 5: an empty topic, and packets that only a server sends."""
        for bad in (publish(""), *(packet(first, b"\x00\x00\x00") for first in (0x20, 0x90, 0xB0, 0xD0))):
            link = self.connected()
            link.send(bad)
            self.must_close(link, f"a packet {bad[:1].hex()}")

    def levels(self) -> None:
        """Class 13: a topic of 65,535 slashes, filters of 30,000 levels."""
        link = self.connected()
        link.send(publish("/" * 65_535, qos=1))
        link.send(packet(0x82, b"\x00\x07\x00" + text("+/" * 30_000 + "+") + b"\x00"))
        link.answer()
        link.close()

    def unreleased(self) -> None:
        """Class 14: QoS 2 without PUBREL, until the service has had enough."""
        link = self.connected(properties=b"\x11\x00\x00\x00\x00")
        try:
            for packet_id in range(1, 60_000):
                link.send(publish("attack/q2", qos=2, packet_id=packet_id))
        except OSError:
            pass
        link.close()

    def wills(self) -> None:
        """Class 15: wills that are malformed, and wills that are large."""
        bad = [b"\x05\x01\x02" + text("attack/will") + text("x"), varint(0) + text("") + text("x"), varint(0) + text("attack/w") + b"\xff\xff"]
        for will in bad:
            link = self.open()
            link.send(connect("will", will=will))
            self.must_close(link, "a malformed will")
        link = self.connected(will=varint(0) + text("attack/will") + text(b"w" * 60_000))
        link.vanish()

    def takeovers(self) -> None:
        """Class 9: one client identifier, again and again."""
        links = []
        for _ in range(30):
            link = self.open()
            link.send(connect("the-one", flags=self.chance.choice([0, 2])) + publish("attack/t", qos=1))
            links.append(link)
        [link.vanish() for link in links]

    def wildcards(self) -> None:
        """Class 17: identities of wildcards, separators and controls."""
        for name in ("+", "#", "a/b", "$share", "x\u0001", "%c", "../../etc"):
            link = self.open()
            link.send(connect(name, user=name, password="x") + publish(f"attack/{name}".replace("+", "").replace("#", ""), qos=1))
            link.answer()
            link.close()

    def deaf(self) -> None:
        """Classes 10 and 18: publishes and reads no answer."""
        link = self.connected()
        link.sock.settimeout(HELD_S)
        chunk = b"".join(publish("attack/deaf", b"d" * 200, qos=1, packet_id=packet_id) for packet_id in range(1, 200))
        try:
            while True:
                link.send(chunk)
        except (TimeoutError, OSError):
            pass
        link.vanish()

    def large(self) -> None:
        """Packets beyond the limit, and packets that stay half sent."""
        links = [self.connected() for _ in range(20)]
        for link in links:
            try:
                link.send(b"\x30" + varint(900_000) + text("attack/half") + b"\x00" + b"h" * 400_000)
            except OSError:
                pass
        link = self.connected()
        try:
            link.send(b"\x30" + varint(200 << 20) + text("attack/large") + b"\x00")
        except OSError:
            pass
        self.must_close(link, "a packet of 200 MiB")
        [link.vanish() for link in links]

    def guesses(self) -> None:
        """Passwords that are wrong, for users that there are and are not."""
        links = [self.open() for _ in range(20)]
        for number, link in enumerate(links):
            link.send(connect(f"guess-{number}", user=self.chance.choice(["device-1", "nobody"]), password=str(self.chance.random())))
        time.sleep(HELD_S)
        [link.close() for link in links]

    # ---- what TLS and WebSocket add -----------------------------------------------------------------------------------------------------

    def handshakes(self) -> None:
        """TLS begun and left, plain bytes for a TLS port, a ClientHello for a plain one."""
        port = self.ports[self.transport]
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        hello = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        try:
            hello.do_handshake()
        except ssl.SSLWantReadError:
            pass
        data = outgoing.read()
        for _ in range(30):
            sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
            sock.sendall(self.chance.choice([data, data[: self.chance.randrange(len(data))], b"\x16\x03\x01\x40\x00" + b"x" * 100, connect("plain"), b"GET / HTTP/1.1\r\n\r\n"]))
            if self.chance.random() < 0.3:
                sock.settimeout(0.2)
                try:
                    sock.recv(4096)
                except OSError:
                    pass
            sock.close()

    def upgrades(self) -> None:
        """Requests that are too long, wrong, or never end."""
        if self.transport not in ("ws", "wss"):
            return self.rubbish()
        for request in (
            Link.request(f"X: {'x' * 9_000}\r\n"), Link.request("A: b\r\n" * 100), b"POST /mqtt HTTP/1.1\r\n\r\n", b"GET /mqtt HTTP/1.0\r\n\r\n",
            Link.request().replace(b": 13", b": 12"), Link.request().replace(b"GET /mqtt", b"GET /other"),
        ):  # fmt: skip
            link = self.open(upgrade=False)
            link.raw(request)
            self.must_close(link, "a request that is refused")

    def frames(self) -> None:
        """Frames of 2^63 bytes, without a mask, of text, in fragments of a byte, and pings without end."""
        if self.transport not in ("ws", "wss"):
            return self.rubbish()
        for bad in (b"\x82\xff" + b"\xff" * 8, b"\x82\x05hello", Link.frame(b"text", opcode=1), b"\x80\x80" + bytes(4), Link.frame(b"x", opcode=9, fin=False)):
            link = self.open()
            link.raw(bad)
            self.must_close(link, f"a frame {bad[:2].hex()}")
        link = self.open()
        for byte in connect("fragments")[:40]:
            link.raw(Link.frame(bytes([byte]), opcode=2, fin=False) if byte == 0x10 else Link.frame(bytes([byte]), opcode=0, fin=False))
        link.vanish()
        link = self.open()
        link.sock.settimeout(HELD_S)
        try:
            for _ in range(200):
                link.raw(Link.frame(b"p" * 125, opcode=9) * 100)
        except OSError:
            pass
        link.vanish()

    KINDS: tuple[Callable, ...] = (
        announce, lengths, properties, silence, rubbish, mutated, not_a_clients, levels, unreleased, wills, takeovers, wildcards, deaf, large,
        guesses, handshakes, upgrades, frames,
    )  # fmt: skip

    def run(self, seconds: float, part: int, parts: int) -> None:
        """Its part of the kinds once, whatever time that takes; then all of them, until the time is over."""
        deadline = time.monotonic() + seconds
        kinds = self.KINDS[part::parts]
        while kinds:
            for kind in self.chance.sample(kinds, len(kinds)):
                if kinds is self.KINDS and time.monotonic() > deadline:
                    break
                self.transport = self.chance.choice(list(self.ports))
                try:
                    kind(self)
                except OSError:  # the service has closed it first
                    self.tried["closed in the middle"] += 1
                self.tried[f"{kind.__name__} over {self.transport}"] += 1
            kinds = self.KINDS if time.monotonic() < deadline else ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ports", nargs="+", metavar="TRANSPORT=PORT")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", type=int, default=0, help="of so many --parts: each begins with kinds of its own")
    parser.add_argument("--parts", type=int, default=1)
    asked = parser.parse_args()
    ports = {name: int(port) for name, _, port in (each.partition("=") for each in asked.ports)}
    attacker = Attacker(ports, asked.seed)
    attacker.run(asked.seconds, asked.part, asked.parts)
    json.dump({"tried": attacker.tried, "wrong": attacker.wrong}, sys.stdout)


if __name__ == "__main__":
    main()
