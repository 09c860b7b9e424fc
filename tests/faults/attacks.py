#!/usr/bin/env python3
"""What hostile clients do, through every transport: attacks.py TRANSPORT=PORT... --seconds S --seed N

The kinds are the weakness classes of MQTT brokers (docs/internals/FAULTS.md numbers them): memory, CPU or connections taken before and after
CONNECT, packets that no client sends, and what TLS and WebSocket add to that. Prints, as JSON, how often each kind was tried through each transport, and what went against the rules: a
connection that should have been closed and was not.
"""

import argparse
import json
import random
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable

from link import PATIENCE_S, Link, connect, packet, publish, text, varint

HELD_S = 1.0


class Attacker:
    def __init__(self, ports: dict[str, int], seed: int):
        self.ports, self.chance = ports, random.Random(seed)
        self.name = f"attacker-{seed}"
        self.tried: Counter[str] = Counter()
        self.turns = Counter({kind.__name__: seed // 10 + place for place, kind in enumerate(self.KINDS)})
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
        five = b"\x80\x80\x80\x80\x01"
        filters = text("attack/#") + b"\x00"
        will = five + text("attack/will") + text("x")
        bad = (b"\x30" + five + b"xxxx", packet(0x30, text("attack/v") + five), packet(0x82, b"\x00\x01" + b"\x06\x0b" + five + filters), packet(0x82, b"\x00\x01" + five + filters))
        for each in bad:
            link = self.connected()
            link.send(each)
            self.must_close(link, f"five bytes of a variable integer in {each[:1].hex()}")
        link = self.open()
        link.send(connect("will", will=will))
        self.must_close(link, "five bytes of a variable integer in a will")

    def cut(self) -> None:
        """Class 7: a packet that is longer than its frame, or than all that comes; and frames of a byte each."""
        link = self.open()
        link.send(connect("cut")[:-1])
        self.must_close(link, "a CONNECT without its last byte")
        link = self.open()
        link.dripped(connect(f"{self.name}-dripped"))
        link.dripped(publish("attack/cut", b"x" * 60, qos=1)[:-1])
        link.vanish()

    def refused(self) -> None:
        """Class 12: a CONNECT that is refused, and a client that then says nothing and does not close."""
        level = packet(0x10, text("MQTT") + b"\x09\x02\x00\x1e\x00" + text("x"))
        reserved = packet(0x10, text("MQTT") + b"\x05\x03\x00\x1e\x00" + text("x"))
        for bad in (level, reserved, connect("x", user="nobody", password="x"), connect("\u0000")):
            link = self.open()
            link.send(bad)
            self.must_close(link, "a refused CONNECT")

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

    def subscriptions(self) -> None:
        """Class 8: many subscribe, unsubscribe, publish and go at the same time, with the same filters."""
        filters = [text(f"attack/s/{number}/+") for number in range(20)] + [text("attack/#"), text("+/s/#")]
        links = [self.connected() for _ in range(8)]
        for _ in range(20):
            for link in links:
                some = self.chance.sample(filters, 5)
                subscribe = packet(0x82, b"\x00\x07\x00" + b"".join(each + bytes([self.chance.randrange(3)]) for each in some))
                unsubscribe = packet(0xA2, b"\x00\x08\x00" + b"".join(self.chance.sample(filters, 3)))
                link.send(self.chance.choice([subscribe + unsubscribe, unsubscribe + subscribe, subscribe]))
                link.send(publish(f"attack/s/{self.chance.randrange(20)}/x", qos=0))
            if self.chance.random() < 0.3:
                self.chance.choice([Link.close, Link.vanish])(links.pop())
                links.append(self.connected())
        [link.vanish() for link in links]

    def acknowledgements(self) -> None:
        """Class 16: acknowledgements of what was never sent, twice, of another kind, and with codes that there are not."""
        link = self.connected()
        link.send(packet(0x82, b"\x00\x01\x00" + text("attack/ack") + b"\x02"))
        link.send(publish("attack/ack", qos=2, packet_id=7))
        for first in (0x40, 0x50, 0x62, 0x70):
            for packet_id in (1, 7, 65_535):
                link.send(packet(first, packet_id.to_bytes(2, "big")) * 2)
        link.answer()
        link.send(packet(0x40, b"\x00\x01\xff\x00"))
        self.must_close(link, "an acknowledgement with a reason code that there is not")

    def deaf_subscriber(self) -> None:
        """Class 18: subscribers that read nothing, and a publisher for them. One reads nothing at QoS 1, and its session stays for a while."""
        for qos in (0, 1):
            deaf = self.connected(properties=b"\x11\x00\x00\x00\x05", flags=0x02)
            deaf.send(packet(0x82, b"\x00\x01\x00" + text("attack/loud") + bytes([qos])))
            loud = self.connected()
            loud.sock.settimeout(HELD_S)
            try:
                for packet_id in range(1, 2_000):
                    loud.send(publish("attack/loud", b"l" * 1_000, qos=qos, packet_id=packet_id))
                    if qos and packet_id % 500 == 0:
                        loud.answer(1 << 16)
            except (TimeoutError, OSError):
                pass
            loud.close()
            deaf.vanish()

    def replays(self) -> None:
        """Class 10: retained messages, asked for again and again by clients that do not read them; filters that match each in many ways."""
        publisher = self.connected()
        for number in range(300):
            # One byte for the first packet: PUBLISH with RETAIN.
            message = publish(f"attack/kept/{number % 20}/{number}", b"k" * 2_000)
            publisher.send(bytes([message[0] | 1]) + message[1:])
        publisher.close()
        links = [self.connected() for _ in range(10)]
        filters = [text(name) + b"\x01" for name in ("#", "attack/#", "+/+/+/+", "attack/+/#", "+/kept/#", "attack/kept/+/+")]
        for link in links:
            link.sock.settimeout(HELD_S)
            try:
                for packet_id in range(1, 30):
                    link.send(packet(0x82, packet_id.to_bytes(2, "big") + b"\x00" + b"".join(filters)))
            except (TimeoutError, OSError):
                pass
        [link.vanish() for link in links]

    def windows(self) -> None:
        """Class 10: subscribers that take one message at a time and acknowledge none, or half of an exchange."""
        links = []
        for qos, said in ((1, b""), (2, b""), (2, packet(0x50, b"\x00\x01"))):
            link = self.connected(properties=b"\x21\x00\x01\x11\x00\x00\x00\x05")
            link.send(packet(0x82, b"\x00\x01\x00" + text("attack/window") + bytes([qos])) + said)
            links.append(link)
        publisher = self.connected()
        publisher.sock.settimeout(HELD_S)
        try:
            for packet_id in range(1, 1_000):
                publisher.send(publish("attack/window", b"w" * 500, qos=self.chance.choice([1, 2]), packet_id=packet_id))
                if packet_id % 200 == 0:
                    publisher.answer(1 << 16)
        except (TimeoutError, OSError):
            pass
        [link.vanish() for link in [*links, publisher]]

    def storm(self) -> None:
        """Class 8: thousands of filters, of all forms, until no more are granted, and again from the beginning."""
        link = self.connected()
        link.sock.settimeout(HELD_S)
        try:
            for first in range(0, 2_000, 50):
                names = [f"attack/{'+/' * (number % 12)}{number}/{'#' if number % 3 else 'x'}" for number in range(first, first + 50)]
                link.send(packet(0x82, b"\x00\x01\x00" + b"".join(text(name) + b"\x01" for name in names)))
                link.send(packet(0xA2, b"\x00\x02\x00" + b"".join(text(name) for name in names[::2])))
        except (TimeoutError, OSError):
            pass
        link.vanish()

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
        for request in (
            Link.request(f"X: {'x' * 9_000}\r\n"), Link.request("A: b\r\n" * 100), b"POST /mqtt HTTP/1.1\r\n\r\n", b"GET /mqtt HTTP/1.0\r\n\r\n",
            Link.request().replace(b": 13", b": 12"), Link.request().replace(b"GET /mqtt", b"GET /other"),
        ):  # fmt: skip
            link = self.open(upgrade=False)
            link.raw(request)
            self.must_close(link, "a request that is refused")

    def frames(self) -> None:
        """Frames of 2^63 bytes, without a mask, of text, in fragments of a byte, and pings without end."""
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
        announce, lengths, cut, refused, properties, silence, rubbish, mutated, not_a_clients, levels, unreleased, wills, takeovers, subscriptions,
        storm, acknowledgements, wildcards, deaf, deaf_subscriber, replays, windows, large, guesses, handshakes, upgrades, frames,
    )  # fmt: skip
    # What only a WebSocket has.
    WEB = ("upgrades", "frames")

    def next_transport(self, kind: str) -> str:
        """Each kind goes through one transport after the other; where it begins hangs on the seed."""
        transports = [name for name in self.ports if kind not in self.WEB or name in ("ws", "wss")]
        self.turns[kind] += 1
        return transports[self.turns[kind] % len(transports)]

    def run(self, seconds: float, part: int, parts: int) -> None:
        """Its part of the kinds once, whatever time that takes; then all of them, until the time is over."""
        deadline = time.monotonic() + seconds
        kinds = self.KINDS[part::parts]
        while kinds:
            for kind in self.chance.sample(kinds, len(kinds)):
                if kinds is self.KINDS and time.monotonic() > deadline:
                    break
                self.transport = self.next_transport(kind.__name__)
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
