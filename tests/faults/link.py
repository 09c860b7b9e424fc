"""A hostile client's end of a connection, through any transport, and packets as it writes them."""

import base64
import os
import random
import socket
import ssl
import struct
import time

PATIENCE_S = 20.0  # for the end of a connection that has to be closed


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


def properties_of(given: bytes | None) -> bytes:
    """As a packet has them. `None`: before 5.0, where none has any."""
    return b"" if given is None else varint(len(given)) + given


def connect(
    client: str | bytes,
    *,
    user: str = "",
    password: str = "",
    properties: bytes | None = b"",
    will: bytes = b"",
    flags: int = 0x02,
    keep_alive_s: int = 30,
    protocol: str = "MQTT",
) -> bytes:
    """MQTT 5.0; 3.1.1 if `properties` is `None`. `will`: its properties, topic and payload."""
    flags |= (0x80 if user else 0) | (0x40 if password else 0) | (0x04 if will else 0)
    body = text(protocol) + bytes([4 if properties is None else 5, flags]) + keep_alive_s.to_bytes(2, "big")
    body += properties_of(properties) + text(client) + will
    return packet(0x10, body + (text(user) if user else b"") + (text(password) if password else b""))


def publish(
    topic: str | bytes, payload: bytes = b"x", *, qos: int = 0, packet_id: int = 1, properties: bytes | None = b"", dup: bool = False
) -> bytes:
    """`properties`: as in `connect`."""
    body = text(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + properties_of(properties) + payload
    return packet(0x30 | dup << 3 | qos << 1, body)


def subscribe(filter: str, qos: int, *, packet_id: int = 1, properties: bytes | None = b"") -> bytes:
    """`properties`: as in `connect`. `qos`: of 5.0 all options."""
    return packet(0x82, packet_id.to_bytes(2, "big") + properties_of(properties) + text(filter) + bytes([qos]))


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
