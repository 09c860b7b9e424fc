"""Clients that do nothing but be connected to a listener: to see that they stay while it stays, and are told when it goes."""

import socket

PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"
ADMINISTRATIVE = 0x98


def connect(name: str) -> bytes:
    """MQTT 5.0, clean start, no keep-alive."""
    body = b"\x00\x04MQTT\x05\x02\x00\x00\x00" + len(name).to_bytes(2, "big") + name.encode()
    return bytes([0x10, len(body)]) + body


class Guests:
    """Some clients of one listener."""

    def __init__(self, port: int, names: list[str]):
        self.sockets = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in names]
        for sock, name in zip(self.sockets, names, strict=True):
            sock.sendall(connect(name))
        for sock in self.sockets:
            head = self.exactly(sock, 2)
            answer = self.exactly(sock, head[1])
            if head[0] != 0x20 or answer[1] != 0:
                raise ConnectionError(f"not welcome: {head + answer!r}")

    @staticmethod
    def exactly(sock: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = sock.recv(count - len(data))
            if not more:
                raise ConnectionError("closed")
            data += more
        return data

    def lost(self) -> int:
        """How many are not connected any more."""
        lost = 0
        for sock in self.sockets:
            try:
                sock.sendall(PINGREQ)
                lost += self.exactly(sock, 2) != PINGRESP
            except OSError:
                lost += 1
        return lost

    def not_told(self) -> int:
        """How many have not been sent DISCONNECT 0x98 and closed."""
        missing = 0
        for sock in self.sockets:
            try:
                head = self.exactly(sock, 2)
                missing += head[0] != 0xE0 or self.exactly(sock, head[1])[0] != ADMINISTRATIVE or sock.recv(1) != b""
            except OSError:
                missing += 1
            sock.close()
        return missing

    def leave(self) -> None:
        for sock in self.sockets:
            sock.close()
