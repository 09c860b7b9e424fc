"""Clients that change instances: by takeovers under load, and because theirs was killed or stands still. How long they wait is judged."""

import time
from typing import NamedTuple

from fleet import SLOTS, Fleet
from stand import Failed, quantiles
from swarm import Served, Swarm, milliseconds

CONNECTED_WITHIN_S = 180.0


class Waits(NamedTuple):
    """Of some clients until they were served, in ms; `lost`: of how many the session was gone; `missing`: how many were not served at all."""

    count: int
    asked: dict | None  # from their own CONNECT
    first: dict | None  # from their first attempt after their connection had ended
    begin: dict | None  # from what was done to their instance
    lost: int
    missing: int


def waits(served: list[Served], begin_ns: int, clients: set[int]) -> Waits:
    """Of these clients, by their last CONNACK after `begin_ns`; the longest of each if it had several."""
    own = [each for each in served if each.client in clients and each.at_ns >= begin_ns]
    found = {each.client for each in own}
    last = {each.client: each.at_ns for each in own}
    spans = milliseconds([each.since_asked_ns for each in own]), milliseconds([each.since_first_ns for each in own])
    begin = milliseconds([at_ns - begin_ns for at_ns in last.values()])
    return Waits(len(own), quantiles(spans[0]), quantiles(spans[1]), quantiles(begin), sum(not each.present for each in own), len(clients - found))


def within(waited: Waits, of: str, bound_ms: float) -> bool:
    """All were served, with their sessions, and none waited longer."""
    spans = getattr(waited, of)
    return waited.count > 0 and not waited.missing and not waited.lost and spans["max"] <= bound_ms


class Moves(Fleet):
    """What both have: a swarm, and publishers beside it."""

    needs = ()
    plain = {"brokers": 3, "cycles": 1, "round": 1, "insist": False, "qos": "0:1:1", "reconnect_every": 0, "ready_within": 30.0}
    SUBSCRIBING = 20  # clients of the swarm that subscribe, each to the topic of one publisher
    PATIENCE_S = 90.0

    def prepare(self) -> None:
        self.swarm: Swarm | None = None
        super().prepare()
        # `every`: one client in this many subscribes.
        every = max(1, self.options.subscribers // self.SUBSCRIBING)
        filter_of = lambda number: f"flow/r1/{number // every % self.options.clients}/0" if number % every == 0 else None
        self.swarm = Swarm(f"swarm-{self.options.seed}", self.options.subscribers, filter_of, self.options.seed)
        self.undo.append(self.swarm.close)
        self.swarm.point([instance.address for instance in self.living()])
        self.swarm.connect_all()
        began = time.monotonic()
        if not self.swarm.run(CONNECTED_WITHIN_S, self.swarm.is_settled):
            raise Failed(f"{self.swarm.settled()} of {self.options.subscribers} clients are connected after {CONNECTED_WITHIN_S} s: {dict(self.swarm.codes)}")
        self.say(f"{self.options.subscribers} clients are connected after {time.monotonic() - began:.1f} s")

    def pass_time(self, seconds: float) -> None:
        if self.swarm:
            self.swarm.run(seconds)
        else:
            time.sleep(seconds)

    def point(self, some=None) -> None:
        super().point(some)
        if self.swarm:
            self.swarm.point([instance.address for instance in (self.living() if some is None else some)])

    def wait_flow(self, patience_s: float = 30) -> None:
        self.flow(1)
        super().wait_flow(patience_s)

    def rate_now(self, began: dict) -> int:
        """Messages a second since then, as publishers were answered."""
        now = self.load.progress()
        return round((now["settled"] - began["settled"]) / max(now["s"] - began["s"], 0.001))

    def judge(self) -> None:
        super().judge()
        self.facts |= {"clients that are only connected": self.options.subscribers, "messages that they got": self.swarm.copies, "what they were told": dict(sorted(self.swarm.codes.items()))}


class Takeovers(Moves):
    """Clients that are connected at one instance connect at another, under load."""

    name = "takeovers"
    plain = Moves.plain | {"subscribers": 300, "clients": 100, "rate": 2_000, "takeovers": 1_000, "window": 500}
    short = plain | {"subscribers": 100, "rate": 500, "takeovers": 300, "brokers": 1}
    long = plain | {"brokers": 1, "shards": 1, "subscribers": 1_000, "clients": 50, "per_write": 32, "rate": 20_000, "takeovers": 10_000}
    PER_S = 100
    P99_MS, MAX_MS = 100.0, 1_000.0
    PENDING_MAX = 64

    def hurt(self) -> None:
        swarm = self.swarm
        self.flow(2)
        began, begin_ns, progress = time.monotonic(), time.monotonic_ns(), self.load.progress()
        swarm.taken_over, before = 0, sum(client.ends for client in swarm.clients)
        done = 0
        while done < self.options.takeovers:
            due = min(self.options.takeovers, int((time.monotonic() - began) * self.PER_S))
            for _ in range(due - done):
                # Bound on what is on its way: else a slow service would be judged by the queue of this client.
                swarm.run(10, lambda: swarm.connecting + len(swarm.wanted) < self.PENDING_MAX)
                client = swarm.chance.choice(swarm.clients)
                if client.conn and not client.coming and all(other is not client for other, _ in swarm.wanted):
                    swarm.take_over(client)
                    done += 1
            self.flow(0.01)
        self.facts["messages a second meanwhile"] = self.rate_now(progress)
        self.facts["takeovers a second"] = round(done / (time.monotonic() - began))
        swarm.run(self.PATIENCE_S, swarm.is_settled)
        served = [each for each in swarm.served if each.at_ns >= begin_ns]
        self.waited = waits(served, begin_ns, {each.client for each in served})
        self.made, self.left_open = len(served), len(swarm.conns) - len(swarm.clients)
        self.ended = sum(client.ends for client in swarm.clients) - before

    def judge(self) -> None:
        super().judge()
        asked = self.waited.asked or {"p99": 1e9, "max": 1e9}
        self.facts |= {"takeovers": self.made, "ms from CONNECT to CONNACK": self.waited.asked, "connections that were taken over": self.swarm.taken_over}
        self.checks["all takeovers were made, each with its session"] = self.made >= self.options.takeovers and not self.waited.lost
        self.checks[f"p99 is at most {self.P99_MS:g} ms"] = asked["p99"] <= self.P99_MS
        self.checks[f"all took less than {self.MAX_MS:g} ms"] = asked["max"] < self.MAX_MS
        self.checks["each ended the connection before it, and no other"] = self.swarm.taken_over == self.made and not self.left_open and not self.ended


class InstanceLost(Moves):
    """One of three is killed with -9, and started; then another one is frozen. Its clients connect at the others at once."""

    name = "instance-lost"
    plain = Moves.plain | {"subscribers": 1_500, "clients": 40, "rate": 200}
    short = plain | {"subscribers": 300, "brokers": 1}
    long = plain | {"subscribers": 12_000, "rate": 1_000}
    KILLED_MS, FROZEN_MS = 3_000.0, 15_000.0
    NOTICED_S = 2.0  # until clients have seen that their instance does not answer
    FREEZE_S = 30.0

    def hurt(self) -> None:
        self.waited: dict[str, Waits] = {}
        first, second = self.chance.sample(self.instances, 2)
        self.flow(2)
        self.measure("killed", first, self.kill_one)
        span = self.fault_begins(f"{first.name} starts")
        self.started(first)
        self.point()
        self.wait_shared()
        self.fault_ends(span)
        self.wait_settled()
        self.measure("frozen", second, self.freeze_one)
        second.thaw()
        self.point()
        self.wait_shared()
        self.wait_settled()

    def measure(self, name: str, instance, does) -> None:
        """How long the clients waited that `does` has disconnected."""
        swarm = self.swarm
        begin_ns, before = time.monotonic_ns(), [client.ends for client in swarm.clients]
        span = self.fault_begins(f"{instance.name} {name}")
        does(instance)
        self.wait_served()
        self.wait_settled()
        self.fault_ends(span)
        touched = {client.number for client, ends in zip(swarm.clients, before) if client.ends > ends}
        self.waited[name] = waits(swarm.served, begin_ns, touched)
        self.facts[f"{name}: clients that were disconnected"] = len(touched)
        self.facts[f"{name}: open files of the others"] = [instance.open_files() for instance in self.living()]

    def kill_one(self, instance) -> None:
        instance.kill()
        self.point()

    def freeze_one(self, instance) -> None:
        instance.freeze()
        self.swarm.run(self.NOTICED_S)
        self.point()
        self.swarm.abandon(instance.address)

    def wait_served(self) -> None:
        """Until others have the slots of the instance: until then not all of its clients may have lost their connections."""
        deadline = time.monotonic() + self.FREEZE_S
        while sum(self.shares()) < SLOTS and time.monotonic() < deadline:
            self.swarm.run(0.25)
        self.swarm.run(1)

    def wait_settled(self) -> None:
        if not self.swarm.run(self.PATIENCE_S, self.swarm.is_settled):
            raise Failed(f"{self.swarm.settled()} of {len(self.swarm.clients)} clients are served after {self.PATIENCE_S} s: {dict(self.swarm.codes)}")

    def judge(self) -> None:
        super().judge()
        for name, bound_ms in (("killed", self.KILLED_MS), ("frozen", self.FROZEN_MS)):
            waited = self.waited.get(name, Waits(0, None, None, None, 0, 0))
            self.facts[f"{name}: ms from each CONNECT to its CONNACK"] = waited.asked
            self.facts[f"{name}: ms from a client's first attempt until it was served"] = waited.first
            self.facts[f"{name}: ms from the fault until a client was served"] = waited.begin
            self.checks[f"{name}: who came back was served within {bound_ms / 1000:g} s of its first attempt, with its session"] = within(waited, "first", bound_ms)
