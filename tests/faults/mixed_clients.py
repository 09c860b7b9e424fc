"""The clients of `mixed`: MQTT 5.0 in one thread with a loop of its own. They publish numbered messages, subscribe, break their connections, stay away, and note
what the server answers and sends; `mixed_judge.py` judges."""

import asyncio
import random
import threading
import time
from dataclasses import dataclass, field

from copies import NEVER, Filter
from link import connect, packet, publish, subscribe, text
from mixed_judge import Copy, Heard, Message, Will
from receiver import CONNACK, DISCONNECT, PINGRESP, PUBLISH, PUBREL, SUBACK, Published, packets, variable

PUBACK, PUBREC, PUBCOMP = 4, 5, 7
EXPIRY = b"\x11" + (3_600).to_bytes(4, "big")
PINGREQ = b"\xc0\x00"
LEAVE = b"\xe0\x00"
# A client sends PINGREQ every PING_S, and leaves a connection on which nothing came for SILENCE_S.
PING_S, SILENCE_S = 2.0, 7.0
CONNECT_S, CONNACK_S = 3.0, 13.0
# CONNACK that says to come again, or to another instance.
REFUSALS = {0x88, 0x89, 0x8B, 0x97, 0x9C, 0x9D, 0x9F}
FILLER = b" " + b"." * 60


@dataclass
class Plan:
    """What a client publishes: by turns to these topics."""

    lines: list[tuple[str, int, bool]]  # topic, QoS, whether it is retained
    rate: float
    window: int = 16
    origin: str = "client"


@dataclass
class Manner:
    """When a client goes and for how long, each between two bounds, and how likely without DISCONNECT."""

    stays_s: tuple[float, float] = (0, 0)
    away_s: tuple[float, float] = (0, 0)
    aborts: float = 0.5


STAYS = Manner()
BREAKS = Manner((2, 8), (0, 0.2))
AWAY = Manner((6, 15), (5, 20))
DIES = Manner((1.2, 4), (0.2, 2), 0.75)


class World:
    """What all clients share. Its fields are set by the scenario's thread, and looked at by the clients'."""

    def __init__(self, seed: int):
        self.seed = seed
        self.targets: list[str] = []
        self.remote: list[str] = []
        self.messages: dict[str, Message] = {}
        self.wills: list[Will] = []
        self.faults: list[tuple[str, str]] = []
        self.deleted_ns: list[int] = []  # when mqtt-sessions was deleted: sessions may be lost after that
        self.quiet: set[str] = set()  # clients that publish nothing for now
        self.is_still = False  # nobody publishes, goes or dies any more
        self.is_over = False
        self.clients: list[Client] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def add(self, *arguments, **more) -> "Client":
        client = Client(self, *arguments, **more)
        self.clients.append(client)
        return client

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(asyncio.gather(*(client.run() for client in self.clients)))

    def end(self) -> None:
        self.is_over = True
        if self.thread.is_alive():
            self.thread.join(30)

    def fault(self, kind: str, words: str) -> None:
        self.faults.append((kind, words))


@dataclass
class Sent:
    """A message on its way to the broker."""

    message: Message
    retain: bool
    is_released: bool = False  # PUBREC came


@dataclass
class State:
    """What a session has."""

    out: dict[int, Sent] = field(default_factory=dict)  # in the order of sending
    held: dict[int, Message] = field(default_factory=dict)


class Client:
    """One of them."""

    def __init__(self, world: World, name: str, *, kept: bool = True, filters: list[tuple[str, int]] = (), manner: Manner = STAYS, plan: Plan | None = None, remote: bool = False, wills: str = ""):
        self.world, self.name, self.kept, self.filters, self.manner, self.plan, self.remote, self.wills = world, name, kept, list(filters), manner, plan, remote, wills
        self.chance = random.Random(f"{world.seed}/{name}")
        shares = {text.split("/")[1] for text, _ in filters if text.startswith("$share/")}
        plain = [Filter(text.split("/", 2)[2] if text.startswith("$share/") else text, qos) for text, qos in filters]
        self.heard = Heard(name, kept, plain, share="".join(shares), remote=remote)
        self.state, self.is_known = State(), False
        self.packet_id = self.number = self.will_number = self.refused = self.lost_sessions = 0
        self.connection, self.writer, self.will, self.is_subscribed = -1, None, None, False
        self.last_ns = 0  # of the last copy

    # ---- connections --------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while not self.world.is_over:
            wait_s = self.chance.uniform(0.05, 0.3)
            try:
                wait_s = await self.connected() or wait_s
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                wait_s = self.chance.uniform(0.1, 0.6)
            except Exception as error:  # what no server may say
                self.world.fault("M10: against the standard", f"{self.name}: {error!r}")
            await self.rest(wait_s)

    async def rest(self, seconds: float) -> None:
        """Until then, or all are to be there."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.world.is_over and not (self.world.is_still and left > 0.3):
            await asyncio.sleep(min(0.2, left))

    async def connected(self) -> float:
        """One connection. How long to stay away after it."""
        targets = self.world.remote if self.remote else self.world.targets
        if not targets:
            return 0.2
        host, _, port = self.chance.choice(targets).rpartition(":")
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), CONNECT_S)
        self.writer, self.input, will = writer, b"", b""
        if self.wills and not self.world.is_still:
            self.will_number += 1
            key = f"{self.name}!{self.will_number}"
            message = Message(key, self.name, self.will_number, f"{self.wills}/{self.name}", 1 + self.will_number % 2, time.monotonic_ns(), origin="will", kept=self.kept)
            self.world.messages[key] = message
            will = b"\x00" + text(message.topic) + text(key.encode() + FILLER)
        flags = (2 if not self.kept or not self.is_known else 0) | (message.qos << 3 if will else 0)
        try:
            writer.write(connect(self.name, properties=EXPIRY if self.kept else b"", will=will, flags=flags))
            code, present = await asyncio.wait_for(self.connack(reader), CONNACK_S)
            if code:
                self.refused += 1
                if code not in REFUSALS:
                    self.world.fault("M10: refused", f"{self.name}: CONNACK {code:#04x}")
                return 0.3 if code == 0x9F else 0.1
            now = time.monotonic_ns()
            if will:
                self.will = Will(message, self.name, self.kept, now)
                self.world.wills.append(self.will)
            self.welcome(present, now)
            return await self.serve(reader)
        finally:
            self.end()

    async def connack(self, reader: asyncio.StreamReader) -> tuple[int, bool]:
        head = await reader.readexactly(2)
        body = await reader.readexactly(head[1])
        if head[0] != CONNACK << 4:
            return 0x88, False
        return body[1], bool(body[0] & 1)

    def welcome(self, present: bool, now: int) -> None:
        self.connection += 1
        self.heard.online.append([now, NEVER])
        self.heard_ns = now
        if self.is_known and self.kept and not present:
            self.lost_sessions += 1
            if not any(deleted <= now for deleted in self.world.deleted_ns):
                self.world.fault("M10: session lost", f"{self.name} at {now / 1e9:.1f} s")
        if present and not (self.is_known and self.kept):
            self.world.fault("M10: session that cannot be", self.name)
        if not present:
            self.forget(now)
        self.is_known = True
        again = bytearray()
        for packet_id, sent in self.state.out.items():
            if sent.is_released:
                again += bytes([0x62, 2]) + packet_id.to_bytes(2, "big")
            else:
                sent.message.sends += 1
                again += self.packet(packet_id, sent, dup=True)
        if not self.is_subscribed and self.filters:
            body = b"".join(text(filter) + bytes([qos]) for filter, qos in self.filters)
            again += packet(0x82, b"\xff\xff" + b"\x00" + body)
        self.writer.write(again)

    def forget(self, now: int) -> None:
        """The session is another one."""
        self.state, self.is_subscribed = State(), False
        if self.heard.spans:
            self.heard.spans[-1][1] = min(self.heard.spans[-1][1], now)

    def end(self) -> None:
        now = time.monotonic_ns()
        if self.writer is not None:
            self.writer.transport.abort()
            self.writer = None
        if self.heard.online:
            self.heard.online[-1][1] = min(self.heard.online[-1][1], now)
        if self.will is not None:
            self.will.ended_ns, self.will = now, None
        if not self.kept:
            self.forget(now)

    async def serve(self, reader: asyncio.StreamReader) -> float:
        tasks = [asyncio.ensure_future(each) for each in (self.read(reader), self.ping(), self.go(), self.send())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            found = [task.result() for task in done]
            return max((each for each in found if each), default=0.0)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def ping(self) -> None:
        while True:
            await asyncio.sleep(PING_S)
            if time.monotonic_ns() - self.heard_ns > SILENCE_S * 1e9:
                return
            if self.writer.transport.get_write_buffer_size() > 1 << 20:
                return
            self.writer.write(PINGREQ)

    async def go(self) -> float:
        """Until its time is over, or all is."""
        manner = self.manner
        until = time.monotonic() + (self.chance.uniform(*manner.stays_s) if manner.stays_s[1] else 1e9)
        while time.monotonic() < until or self.world.is_still:
            await asyncio.sleep(0.1)
            if self.world.is_over:
                break
        if self.chance.random() >= manner.aborts or self.world.is_over:
            if self.will is not None:
                self.will.left = True
            self.writer.write(LEAVE)
            await self.writer.drain()
            await asyncio.sleep(0.2)
        return self.chance.uniform(*manner.away_s)

    # ---- what it publishes --------------------------------------------------------------------------------------------------------

    async def send(self) -> None:
        plan = self.plan
        if plan is None:
            return await asyncio.sleep(1e9)
        while True:
            await asyncio.sleep(self.chance.uniform(0.6, 1.4) / plan.rate)
            if self.world.is_still or self.name in self.world.quiet or len(self.state.out) >= plan.window:
                continue
            self.number += 1
            topic, qos, retain = plan.lines[self.number % len(plan.lines)]
            key = f"{self.name}/{self.number}"
            message = Message(key, self.name, self.number, topic, qos, time.monotonic_ns(), origin=plan.origin, kept=self.kept)
            self.world.messages[key] = message
            while True:
                self.packet_id = self.packet_id % 60_000 + 1
                if self.packet_id not in self.state.out:
                    break
            sent = self.state.out[self.packet_id] = Sent(message, retain)
            self.writer.write(self.packet(self.packet_id, sent, dup=False))

    @staticmethod
    def packet(packet_id: int, sent: Sent, dup: bool) -> bytes:
        data = bytearray(publish(sent.message.topic, sent.message.key.encode() + FILLER, qos=sent.message.qos, packet_id=packet_id, dup=dup))
        data[0] |= sent.retain
        return bytes(data)

    # ---- what it hears ------------------------------------------------------------------------------------------------------------

    async def read(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 16):
            self.heard_ns = time.monotonic_ns()
            data, end, self.out = self.input + data, 0, bytearray()
            for first, body, end in packets(data):
                if self.take(first, body):
                    return
            self.input = data[end:]
            if self.out:
                self.writer.write(self.out)

    def take(self, first: int, body: bytes) -> bool:
        """Whether it is the end."""
        kind, packet_id = first >> 4, int.from_bytes(body[:2], "big")
        if kind == PUBLISH:
            self.copy(first, body)
        elif kind == PUBREL:
            self.state.held.pop(packet_id, None)
            self.out += bytes([0x70, 2]) + body[:2]
        elif kind in (PUBACK, PUBREC, PUBCOMP):
            self.answer(kind, packet_id, body[2] if len(body) > 2 else 0)
        elif kind == SUBACK:
            length, begin = variable(body, 2)
            if list(body[begin + length :]) != [qos for _, qos in self.filters]:
                # A share is refused while Kafka does not answer for its group: the client comes back and subscribes again.
                return True
            self.is_subscribed = True
            self.heard.spans.append([self.heard_ns, NEVER])
        elif kind == DISCONNECT:
            return True
        elif kind != PINGRESP:
            self.world.fault("M10: against the standard", f"{self.name}: a packet of type {kind}")
        return False

    def answer(self, kind: int, packet_id: int, code: int) -> None:
        sent = self.state.out.get(packet_id)
        if kind == PUBREC and code < 0x80:
            self.out += bytes([0x62, 2]) + packet_id.to_bytes(2, "big")
        if sent is None:
            return
        if code >= 0x80 and kind != PUBCOMP:
            self.world.fault("M10: PUBLISH refused", f"{self.name}: {sent.message.key} {code:#04x}")
            del self.state.out[packet_id]
        elif kind == PUBCOMP:
            if sent.is_released:
                del self.state.out[packet_id]
        else:
            sent.message.answered_ns = sent.message.answered_ns or self.heard_ns
            sent.is_released = kind == PUBREC
            if kind == PUBACK:
                del self.state.out[packet_id]

    def copy(self, first: int, body: bytes) -> None:
        topic, qos, packet_id, _, payload = Published.of(first, body)
        key = key_of(payload)
        message = self.world.messages.get(key)
        if qos:
            self.out += bytes([0x40 if qos == 1 else 0x50, 2]) + packet_id.to_bytes(2, "big")
        self.last_ns = self.heard_ns
        if message is None or message.topic != topic:
            return self.world.fault("M10: never sent", f"{self.name}: {key!r:.60} on {topic}")
        if qos == 2:
            held = self.state.held.get(packet_id)
            if held is not None:
                if held is not message:
                    self.world.fault("M10: a packet identifier in use", f"{self.name}: {packet_id} of {held.key}, for {key}")
                return None
            self.state.held[packet_id] = message
        asked = min(self.heard.asked(topic) or 0, message.qos)
        if qos != asked:
            self.world.fault("M10: another QoS", f"{self.name}: {key} at {qos}, not {asked}")
        self.heard.copies.append(Copy(message, self.connection, self.heard_ns, qos))
        return None


def key_of(payload: bytes) -> str:
    return payload.partition(b" ")[0].decode(errors="replace")


async def look(address: str, filter: str, name: str, wait_s: float) -> dict[str, str]:
    """The retained messages that a new subscription gets: topic to key."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), CONNECT_S)
    found: dict[str, str] = {}
    try:
        writer.write(connect(name))
        head = await asyncio.wait_for(reader.readexactly(2), CONNACK_S)
        body = await reader.readexactly(head[1])
        if body[1]:
            raise ConnectionError(f"CONNACK {body[1]:#04x}")
        writer.write(subscribe(filter, 1))
        until, data = time.monotonic() + wait_s, b""
        while (left := until - time.monotonic()) > 0:
            try:
                more = await asyncio.wait_for(reader.read(1 << 16), left)
            except TimeoutError:
                break
            if not more:
                raise ConnectionError("closed")
            data, end = data + more, 0
            for first, body, end in packets(data):
                if first >> 4 == PUBLISH:
                    copy = Published.of(first, body)
                    if copy.qos:
                        writer.write(bytes([0x40, 2]) + copy.packet_id.to_bytes(2, "big"))
                    found[copy.topic] = key_of(copy.payload)
            data = data[end:]
        return found
    finally:
        writer.transport.abort()
