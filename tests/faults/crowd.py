#!/usr/bin/env python3
"""The kept subscribers of one round, as a process of their own that outlives the service: crowd.py JOB.json

They are told by lines on standard input, and answer `ask` with a line of JSON:

    target HOST:PORT   the service is there now
    cycle              a cycle begins: some leave for some cycles, some come back, some subscribe to more
    back               all come, stay, and acknowledge at once
    ask                how many have what
    end                all sessions end; what was heard goes to the file of the job

The job: `seed`, `run`, `round`, `subscribers`, `clients` and `topics` (of the publishers), `port` (of real clients, always the same), `heard` (a file).
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass

from copies import Filter
from guests import connect
from messages import Payloads
from real import Real
from receiver import Malformed, Manner, Receiver, as_json

STEADY, BREAKING, AWAY = "steady", "breaking", "away"
RECEIVE_MAXIMA = (1, 2, 5, 20, 200, 65_535)
# A client whose filter matches many topics could not keep up with less.
OF_WILDCARDS = (200, 65_535)
TICK_S = 0.05  # of who acknowledges slowly


@dataclass
class Habits:
    """How a subscriber comes and goes."""

    kind: str = STEADY
    per_tick: int | None = None  # it acknowledges so many at once; None: all


class Draw:
    """Who they are: drawn from the seed."""

    def __init__(self, job: dict):
        self.job, self.chance = job, random.Random(f"{job['seed']} {job['round']}")

    def topic(self) -> tuple[int, int]:
        return self.chance.randrange(self.job["clients"]), self.chance.randrange(self.job["topics"])

    def filters(self, qos: int) -> list[str]:
        """Nearly all are exact; few match much."""
        name, chance = self.job["round"], self.chance.random()
        client, topic = self.topic()
        if chance < 0.01:
            return [f"flow/{name}/#"]
        if chance < 0.04:
            return [f"+/{name}/+/{topic}"]
        if chance < 0.10:
            return [f"flow/{name}/{client}/#"]
        if chance < 0.20:
            return [f"flow/{name}/{client}/+", f"flow/{name}/{client}/{topic}"]
        found: set[str] = set()
        count = self.chance.randint(1, 3)
        while len(found) < count:
            found.add("flow/{}/{}/{}".format(name, *self.topic()))
        return sorted(found)

    def manner(self, number: int) -> Manner:
        v5, qos = number % 2 == 1, self.chance.choice((1, 2))
        with_identifiers = v5 and self.chance.random() < 0.3
        filters = [
            # One that overlaps another may ask for less.
            Filter(text, qos if self.chance.random() < 0.8 else 1, at if with_identifiers else 0)
            for at, text in enumerate(self.filters(qos), 1)
        ]
        maxima = OF_WILDCARDS if self.is_wide(filters) else RECEIVE_MAXIMA
        return Manner(
            f"kept-{self.job['round']}-{number}", v5, filters, self.chance.choice(maxima), self.chance.choice((0, 0, 8)), self.chance.random() < 0.5,
        )  # fmt: skip

    @staticmethod
    def is_wide(filters: list[Filter]) -> bool:
        return any(filter.text.endswith("#") or filter.text.startswith("+") for filter in filters)

    def habits(self, manner: Manner) -> Habits:
        kind = self.chance.choices((STEADY, BREAKING, AWAY), (5, 2, 3))[0]
        is_slow = self.chance.random() < 0.2 and not self.is_wide(manner.filters)
        return Habits(kind, self.chance.randint(1, 4) if is_slow else None)


class Link(asyncio.Protocol):
    """One connection of a member."""

    def __init__(self, member: "Member"):
        self.member, self.gone = member, asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.member.receiver.greet()
        self.flush()

    def data_received(self, data: bytes) -> None:
        member, receiver = self.member, self.member.receiver
        was_greeted = receiver.greeted
        try:
            receiver.hear(data, time.monotonic_ns())
        except (Malformed, IndexError, UnicodeDecodeError) as error:
            receiver.fault("against the standard", str(error))
            return self.transport.abort()
        if receiver.greeted and not was_greeted:
            receiver.subscribe()
        if member.habits.per_tick is None:
            receiver.answer(now_ms())
        self.flush()

    def flush(self) -> None:
        receiver = self.member.receiver
        if receiver.out and not self.transport.is_closing():
            self.transport.write(bytes(receiver.out))
        receiver.out.clear()

    def connection_lost(self, _: Exception | None) -> None:
        self.member.receiver.down(now_ms())
        if not self.gone.done():
            self.gone.set_result(None)

    def leave(self, orderly: bool) -> None:
        if orderly and self.member.receiver.greeted:
            self.transport.write(b"\xe0\x00")
            self.transport.close()
        else:
            self.transport.abort()


def now_ms() -> float:
    return time.monotonic_ns() / 1e6


class Member:
    """A subscriber, and how it comes and goes."""

    def __init__(self, crowd: "Crowd", receiver: Receiver, habits: Habits):
        self.crowd, self.receiver, self.habits = crowd, receiver, habits
        self.chance = random.Random(f"{crowd.job['seed']} {receiver.manner.name}")
        self.link: Link | None = None
        self.may_come = asyncio.Event()
        self.may_come.set()
        self.away_for = 0

    async def live(self) -> None:
        """Connects again and again."""
        loop, crowd = asyncio.get_running_loop(), self.crowd
        while True:
            await self.may_come.wait()
            try:
                _, self.link = await loop.create_connection(lambda: Link(self), *crowd.target)
            except OSError:  # the service is down, or not up yet
                await asyncio.sleep(self.chance.uniform(0.03, 0.15))
                continue
            tick = asyncio.create_task(self.tick()) if self.habits.per_tick else None
            if self.habits.kind == BREAKING:
                loop.call_later(self.chance.uniform(0.2, 4), self.break_off, self.link)
            await self.link.gone
            self.link = None
            if tick:
                tick.cancel()

    async def tick(self) -> None:
        """Acknowledges slowly."""
        while True:
            await asyncio.sleep(TICK_S)
            if self.link:
                self.receiver.answer(now_ms(), self.habits.per_tick)
                self.link.flush()

    def break_off(self, link: Link) -> None:
        if link is self.link and self.habits.kind == BREAKING:
            link.leave(self.chance.random() < 0.5)

    def cycle(self) -> None:
        """Who is away comes back some cycles later; who is there may leave, or subscribe to one topic more."""
        if self.away_for:
            self.away_for -= 1
            if not self.away_for:
                self.may_come.set()
        elif self.habits.kind == AWAY and self.chance.random() < 0.4:
            self.away_for = self.chance.randint(2, 6)
            self.may_come.clear()
            if self.link:
                self.link.leave(self.chance.random() < 0.5)
        elif self.link and self.receiver.greeted and not self.receiver.wanted and self.chance.random() < 0.02:
            self.subscribe_more()

    def subscribe_more(self) -> None:
        """To a topic that does not match any of its filters, so that each message can be attributed to one of them."""
        topic = "flow/{}/{}/{}".format(self.crowd.job["round"], *self.crowd.draw.topic())
        receiver = self.receiver
        if not any(filter.matches(topic) for filter in receiver.heard.filters):
            receiver.want([Filter(topic, self.chance.choice((1, 2)))])
            receiver.subscribe()
            self.link.flush()

    def back(self) -> None:
        self.habits, self.away_for = Habits(), 0
        self.may_come.set()
        if self.link:
            self.receiver.answer(now_ms())
            self.link.flush()


async def end_session(target: tuple[str, int], name: str) -> None:
    """A clean start, and the end of that."""
    reader, writer = await asyncio.open_connection(*target)
    writer.write(connect(name) + b"\xe0\x00")
    await reader.read()
    writer.close()


class Crowd:
    """All of them, and the real clients."""

    def __init__(self, job: dict, target: str):
        self.job, self.draw = job, Draw(job)
        self.turn_to(target)
        payloads = Payloads(job["run"])
        manners = [self.draw.manner(number) for number in range(job["subscribers"])]
        self.members = [Member(self, Receiver(manner, payloads), self.draw.habits(manner)) for manner in manners]
        self.real = Real(job, payloads)

    def turn_to(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.target = (host, int(port))

    def state(self) -> dict:
        return {
            "subscribed": sum(not member.receiver.wanted for member in self.members) + self.real.ready(),
            "of": len(self.members) + self.real.count(),
            "connected": sum(member.receiver.greeted for member in self.members),
            "copies": sum(len(member.receiver.heard.copies) for member in self.members) + self.real.copies(),
            "due": sum(len(member.receiver.due) + len(member.receiver.held) for member in self.members),
        }

    async def follow(self, line: str) -> bool:
        """Does what a line says. `False`: that was all."""
        word, _, rest = line.strip().partition(" ")
        if word == "target":
            self.turn_to(rest)
        elif word == "cycle":
            for member in self.members:
                member.cycle()
        elif word == "back":
            for member in self.members:
                member.back()
        elif word == "ask":
            print(json.dumps(self.state()), flush=True)
        elif word == "end":
            await self.end()
            return False
        else:
            raise ValueError(f"{line!r} is no order")
        return True

    async def end(self) -> None:
        await self.real.end()
        for task in self.tasks:
            task.cancel()
        for member in self.members:
            if member.link:
                member.link.leave(orderly=True)
        all_heard = [member.receiver.heard for member in self.members] + self.real.heard()
        await asyncio.wait_for(asyncio.gather(*(end_session(self.target, heard.name) for heard in all_heard)), 60)
        with open(self.job["heard"], "w") as file:
            file.writelines(json.dumps(as_json(heard)) + "\n" for heard in all_heard)
        print(json.dumps(self.state()), flush=True)

    async def run(self) -> None:
        orders = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        self.tasks = [asyncio.create_task(member.live()) for member in self.members]
        await self.real.start()
        try:
            while (line := await orders.readline()) and await self.follow(line.decode()):
                pass
        finally:
            self.real.kill()


async def main() -> None:
    with open(sys.argv[1]) as file:
        job = json.load(file)
    await Crowd(job, job["target"]).run()


if __name__ == "__main__":
    asyncio.run(main())
