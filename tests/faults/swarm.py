"""Very many clients with kept sessions in one thread, over epoll, each of which knows how long it waited for CONNACK: they are connected, come back when their
connection ends, and may be told to connect elsewhere. Times are of this machine's monotonic clock."""

import errno
import random
import select
import socket
import time
from collections import Counter, deque
from typing import Callable, NamedTuple

from link import connect, subscribe
from receiver import Malformed, variable

# Connections being made at a time: more would overflow a listener's queue.
CONNECTING_MAX = 1_000
EXPIRY = b"\x11" + (3_600).to_bytes(4, "big")
TURN_S = 0.02
BACKOFF_S = (0.02, 0.1)
CONNACK, PUBLISH, PUBREL, SUBACK, DISCONNECT = 2, 3, 6, 9, 14


class Served(NamedTuple):
    """A CONNACK of success."""

    client: int
    at_ns: int
    since_asked_ns: int  # from its own CONNECT
    since_first_ns: int  # from the first CONNECT, or attempt to connect, since its last connection ended
    present: bool


class Conn:
    """A connection; `asked_ns` 0: it does not stand yet."""

    __slots__ = ("client", "sock", "address", "asked_ns", "input", "welcome", "code", "over")

    def __init__(self, client: "Client", sock: socket.socket, address: tuple[str, int]):
        self.client, self.sock, self.address = client, sock, address
        self.asked_ns, self.input, self.welcome, self.code, self.over = 0, b"", False, None, False


class Client:
    __slots__ = ("number", "name", "v5", "filter", "conn", "coming", "first_ns", "known", "subscribed", "ends")

    def __init__(self, number: int, name: str, filter: str | None):
        self.number, self.name, self.v5, self.filter = number, name, number % 2 == 1, filter
        self.conn: Conn | None = None  # with a CONNACK
        self.coming: Conn | None = None  # on its way
        self.first_ns, self.known, self.subscribed = 0, False, filter is None
        self.ends = 0  # connections with a CONNACK that the service has ended, but for takeovers

    def hello(self) -> bytes:
        return connect(self.name, properties=EXPIRY if self.v5 else None, flags=0, keep_alive_s=0)


class Swarm:
    """See the module."""

    def __init__(self, prefix: str, count: int, filter_of: Callable[[int], str | None], seed: int):
        self.clients = [Client(number, f"{prefix}-{number}", filter_of(number)) for number in range(count)]
        self.chance = random.Random(seed)
        self.targets: list[tuple[str, int]] = []
        self.poll = select.epoll()
        self.conns: dict[int, Conn] = {}
        self.wanted: deque[tuple[Client, tuple[str, int] | None]] = deque()  # connections to be begun
        self.later: list[tuple[float, Client]] = []
        self.connecting = 0
        self.served: list[Served] = []
        self.codes: Counter[str] = Counter()  # what CONNACK and DISCONNECT said, and what else happened
        self.taken_over = 0  # connections that were ended by a takeover
        self.copies = 0

    # ---- orders of a scenario -----------------------------------------------------------------------------------------------------

    def point(self, addresses: list[str]) -> None:
        self.targets = [(host, int(port)) for host, _, port in (address.rpartition(":") for address in addresses)]

    def connect_all(self) -> None:
        for number, client in enumerate(self.clients):
            self.wanted.append((client, self.targets[number % len(self.targets)]))

    def take_over(self, client: Client) -> None:
        """It connects at another instance than the one that it is connected at."""
        others = [target for target in self.targets if target != client.conn.address]
        self.wanted.append((client, self.chance.choice(others)))

    def abandon(self, address: str) -> int:
        """Who is connected there, or is about to be, has seen that it does not answer: such clients connect elsewhere. How many."""
        host, _, port = address.rpartition(":")
        some = [conn for conn in self.conns.values() if conn.address == (host, int(port))]
        for conn in some:
            self.end(conn, "abandoned")
        return len(some)

    def settled(self) -> int:
        """Clients that are connected, subscribed, and on no other way."""
        return sum(client.conn is not None and client.coming is None and client.subscribed for client in self.clients)

    def is_settled(self) -> bool:
        return not self.wanted and not self.later and len(self.conns) == len(self.clients) and self.settled() == len(self.clients)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Serves them for this long, or until something holds. Whether it did."""
        deadline = time.monotonic() + seconds
        while True:
            if until():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.turn(min(TURN_S, left))

    def close(self) -> None:
        for conn in list(self.conns.values()):
            conn.sock.close()
        self.conns.clear()

    # ---- connections --------------------------------------------------------------------------------------------------------------

    def turn(self, wait_s: float) -> None:
        now = time.monotonic()
        if self.later:
            due = [client for at, client in self.later if at <= now]
            self.later = [(at, client) for at, client in self.later if at > now]
            self.wanted.extend((client, None) for client in due)
        while self.wanted and self.connecting < CONNECTING_MAX:
            self.begin(*self.wanted.popleft())
        for fd, events in self.poll.poll(0.001 if self.wanted else wait_s):
            conn = self.conns.get(fd)
            if conn is None:
                continue
            if not conn.asked_ns and events & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
                self.stands(conn)
            if not conn.over and events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self.read(conn)

    def begin(self, client: Client, address: tuple[str, int] | None) -> None:
        if client.coming or (address is None and client.conn):
            return
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn = client.coming = Conn(client, sock, address if address in self.targets else self.chance.choice(self.targets))
        client.first_ns = client.first_ns or time.monotonic_ns()
        self.conns[sock.fileno()] = conn
        self.connecting += 1
        result = sock.connect_ex(conn.address)
        if result not in (0, errno.EINPROGRESS):
            return self.end(conn, "not reached")
        self.poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def stands(self, conn: Conn) -> None:
        if conn.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return self.end(conn, "not reached")
        self.poll.modify(conn.sock.fileno(), select.EPOLLIN)
        conn.asked_ns = time.monotonic_ns()
        self.send(conn, conn.client.hello())

    def send(self, conn: Conn, data: bytes) -> None:
        """Little at a time: a full buffer is the end of a connection."""
        try:
            if conn.sock.send(data) == len(data):
                return
        except OSError:
            pass
        self.end(conn, "not written")

    def read(self, conn: Conn) -> None:
        try:
            data = conn.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            return self.end(conn, "closed")
        data, at = conn.input + data, 0
        try:
            while at + 2 <= len(data) and not conn.over:
                sized = variable(data, at + 1)
                if sized is None or sized[1] + sized[0] > len(data):
                    break
                length, begin = sized
                self.hear(conn, data[at], data[begin : begin + length])
                at = begin + length
        except (Malformed, IndexError) as error:
            self.end(conn, f"against the standard: {error}")
        conn.input = data[at:]

    def end(self, conn: Conn, why: str) -> None:
        """A connection is gone; its client comes back, unless it is connected elsewhere."""
        client, conn.over = conn.client, True
        self.conns.pop(conn.sock.fileno(), None)
        conn.sock.close()
        if client.coming is conn:
            client.coming = None
            self.connecting -= not conn.welcome
            self.codes[f"CONNECT {why}" if conn.code is None else f"CONNACK {conn.code:#04x}"] += 1
        elif client.conn is conn and client.coming is None:
            client.conn = None
            client.ends += 1
            self.codes[f"connection {why}" if conn.code is None else f"DISCONNECT {conn.code:#04x}"] += 1
        else:
            client.conn = None if client.conn is conn else client.conn
            self.taken_over += 1
            self.codes[f"taken over: {why}" if conn.code is None else f"taken over: DISCONNECT {conn.code:#04x}"] += 1
            return
        if client.coming or client.conn:
            return
        if conn.welcome:
            self.wanted.append((client, None))
        else:
            self.later.append((time.monotonic() + self.chance.uniform(*BACKOFF_S), client))

    # ---- packets ------------------------------------------------------------------------------------------------------------------

    def hear(self, conn: Conn, first: int, body: bytes) -> None:
        kind, client = first >> 4, conn.client
        if kind == CONNACK:
            self.connack(conn, body)
        elif kind == PUBLISH:
            self.publish(conn, first, body)
        elif kind == PUBREL:
            self.send(conn, b"\x70\x02" + body[:2])
        elif kind == SUBACK:
            client.subscribed = True
        elif kind == DISCONNECT:
            conn.code = body[0] if body else 0

    def connack(self, conn: Conn, body: bytes) -> None:
        client, now_ns = conn.client, time.monotonic_ns()
        if body[1]:
            conn.code = body[1]
            return
        # The connection that it had, if there is one, is the service's to end.
        client.conn, client.coming, conn.welcome = conn, None, True
        self.connecting -= 1
        present = bool(body[0] & 1)
        self.served.append(Served(client.number, now_ns, now_ns - conn.asked_ns, now_ns - client.first_ns, present or not client.known))
        client.known, client.first_ns = True, 0
        if client.filter and not (client.subscribed and present):
            client.subscribed = False
            self.send(conn, subscribe(client.filter, 1, properties=b"" if client.v5 else None))

    def publish(self, conn: Conn, first: int, body: bytes) -> None:
        qos, at = first >> 1 & 3, 2 + int.from_bytes(body[:2], "big")
        self.copies += 1
        if qos:
            self.send(conn, (b"\x40\x02" if qos == 1 else b"\x50\x02") + body[at : at + 2])


def milliseconds(ns: list[int]) -> list[float]:
    return [round(each / 1e6, 1) for each in ns]
