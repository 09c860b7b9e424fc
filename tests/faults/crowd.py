#!/usr/bin/env python3
"""The kept subscribers of one round, as a process of their own that outlives the service: crowd.py JOB.json

They are told by lines on standard input, and answer `ask` with a line of JSON:

    target HOST:PORT   the service is there now; `targets HOST:PORT ...`: its instances, a connection goes to any of them
    cycle              a cycle begins: some leave for some cycles, some come back, some subscribe to more
    back               all come, stay, and acknowledge at once
    ask                how many have what
    ends               how often each of those who never leave was disconnected since it was last asked, and when each was last welcomed
    end                all sessions end; what was heard goes to the file of the job

The job: `seed`, `run`, `round`, `subscribers`, `wide`, `clients` and `topics` (of the publishers), `target` or `targets`, `port` (of real clients, always the same), `heard` (a file). With `silence_s` a client
sends PINGREQ when it has received nothing for a while, and closes a connection on which no answer comes within that time. `refusals`: codes that CONNACK may have, by version.
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
PING_S = 2.0  # with `silence_s`: nothing was received for this long


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
        """Nearly all are exact; few match much, the more of them the higher `wide`."""
        name, chance, wide = self.job["round"], self.chance.random(), self.job["wide"]
        client, topic = self.topic()
        if chance < 0.01 * wide:
            return [f"flow/{name}/#"]
        if chance < 0.04 * wide:
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
            tuple(self.job.get("refusals", {}).get("5.0" if v5 else "3.1.1", ())),
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
        self.left = self.served = False  # left: by the client itself
        self.heard_s, self.asked_s = time.monotonic(), 0.0  # asked_s: when an answer began to be awaited; 0: none is

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.asked_s = time.monotonic()
        self.member.receiver.greet()
        self.flush()

    def data_received(self, data: bytes) -> None:
        member, receiver = self.member, self.member.receiver
        was_greeted = receiver.greeted
        self.heard_s, self.asked_s = time.monotonic(), 0.0
        try:
            receiver.hear(data, time.monotonic_ns())
        except (Malformed, IndexError, UnicodeDecodeError) as error:
            receiver.fault("against the standard", str(error))
            return self.transport.abort()
        if receiver.greeted and not was_greeted:
            receiver.subscribe()
            self.served = True
            member.served()
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

    def keep_alive(self, silence_s: float) -> None:
        """Sends PINGREQ if nothing was received for long; closes the connection if an answer is overdue."""
        now = time.monotonic()
        if self.asked_s and now - self.asked_s > silence_s:
            self.transport.abort()
        elif not self.asked_s and now - self.heard_s > PING_S and not self.transport.is_closing():
            self.asked_s = now
            self.transport.write(b"\xc0\x00")

    def leave(self, orderly: bool) -> None:
        self.left = True
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
        self.lost_ms = 0.0  # when its connection ended against its will; 0: it has not, or it is served again
        self.waited_ms: list[float] = []  # from there until it was served again
        self.ends, self.welcome_s = 0, 0.0  # connections with a CONNACK that have ended so; when it came last

    def served(self) -> None:
        """CONNACK has come."""
        self.welcome_s = time.monotonic()
        if self.lost_ms:
            self.waited_ms.append(now_ms() - self.lost_ms)
            self.lost_ms = 0.0

    def is_unserved(self) -> bool:
        """Whether it waits for CONNACK; one that breaks its connections itself is between two of them at any time, and does not count."""
        return self.habits.kind != BREAKING and self.may_come.is_set() and not self.receiver.greeted

    async def live(self) -> None:
        """Connects again and again."""
        loop, crowd = asyncio.get_running_loop(), self.crowd
        while True:
            await self.may_come.wait()
            try:
                connecting = loop.create_connection(lambda: Link(self), *crowd.target(self.chance))
                _, self.link = await asyncio.wait_for(connecting, crowd.job.get("silence_s"))
            except OSError:  # the service is down, or not up yet
                await asyncio.sleep(self.chance.uniform(0.03, 0.15))
                continue
            tick = asyncio.create_task(self.tick()) if self.habits.per_tick else None
            if self.habits.kind == BREAKING:
                loop.call_later(self.chance.uniform(0.2, 4), self.break_off, self.link)
            await self.link.gone
            self.ends += self.link.served and not self.link.left
            if not self.link.left and not self.lost_ms:
                self.lost_ms = now_ms()
            was_served, self.link = self.link.served, None
            if tick:
                tick.cancel()
            if not was_served:
                await asyncio.sleep(self.chance.uniform(0.03, 0.15))

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
            self.away_for, self.lost_ms = self.chance.randint(2, 6), 0.0
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

    def __init__(self, job: dict):
        self.job, self.draw = job, Draw(job)
        self.turn_to(job.get("targets") or [job["target"]])
        payloads = Payloads(job["run"])
        manners = [self.draw.manner(number) for number in range(job["subscribers"])]
        self.members = [Member(self, Receiver(manner, payloads), self.draw.habits(manner)) for manner in manners]
        self.real = Real(job, payloads)

    def turn_to(self, targets: list[str]) -> None:
        self.targets = [(host, int(port)) for host, _, port in (target.rpartition(":") for target in targets)]

    def target(self, chance: random.Random) -> tuple[str, int]:
        return self.targets[0] if len(self.targets) == 1 else chance.choice(self.targets)

    async def keep_alive(self) -> None:
        """Of all: their connections end where nothing is answered."""
        while silence_s := self.job.get("silence_s"):
            began = time.monotonic()
            await asyncio.sleep(PING_S / 4)
            late_s = time.monotonic() - began - PING_S / 4  # this process has had no time, and not the service
            for member in self.members:
                if member.link:
                    member.link.keep_alive(silence_s + late_s)

    def state(self) -> dict:
        return {
            "subscribed": sum(not member.receiver.wanted for member in self.members) + self.real.ready(),
            "of": len(self.members) + self.real.count(),
            "connected": sum(member.receiver.greeted for member in self.members),
            "unserved": sum(member.is_unserved() for member in self.members),
            "copies": sum(len(member.receiver.heard.copies) for member in self.members) + self.real.copies(),
            "due": sum(len(member.receiver.due) + len(member.receiver.held) for member in self.members),
        }

    def ends(self) -> dict:
        steady = [member for member in self.members if member.habits.kind != BREAKING]
        found = {"ends": [member.ends for member in steady], "welcome_s": [member.welcome_s for member in steady]}
        for member in self.members:
            member.ends = 0
        return found

    async def follow(self, line: str) -> bool:
        """Does what a line says. `False`: that was all."""
        word, _, rest = line.strip().partition(" ")
        if word in ("target", "targets"):
            self.turn_to(rest.split())
        elif word == "cycle":
            for member in self.members:
                member.cycle()
        elif word == "back":
            for member in self.members:
                member.back()
        elif word == "ask":
            print(json.dumps(self.state()), flush=True)
        elif word == "ends":
            print(json.dumps(self.ends()), flush=True)
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
        await asyncio.wait_for(asyncio.gather(*(end_session(self.targets[0], heard.name) for heard in all_heard)), 60)
        with open(self.job["heard"], "w") as file:
            file.writelines(json.dumps(as_json(heard)) + "\n" for heard in all_heard)
        waited_ms = [round(ms) for member in self.members for ms in member.waited_ms]
        print(json.dumps(self.state() | {"waited_ms": waited_ms, "refused": sum(member.receiver.refused for member in self.members)}), flush=True)

    async def run(self) -> None:
        orders = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        self.tasks = [asyncio.create_task(of) for of in (*(member.live() for member in self.members), self.keep_alive())]
        await self.real.start()
        try:
            while (line := await orders.readline()) and await self.follow(line.decode()):
                pass
        finally:
            self.real.kill()


async def main() -> None:
    with open(sys.argv[1]) as file:
        job = json.load(file)
    await Crowd(job).run()


if __name__ == "__main__":
    asyncio.run(main())
