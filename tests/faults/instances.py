"""Several instances hurt under kept subscribers: an instance killed or frozen, a broker of Kafka killed; and instances that come and go."""

import time
from collections import Counter
from pathlib import Path

import events
from brokers import BrokersKilled
from fleet import Fleet, Instance
from kept import Subscribers
from stand import Failed, Load, quantiles

# How likely a kill takes two, and how likely one is killed again into its start.
BOTH, AGAIN = 0.15, 0.25
# Every fifth cycle begins with this long without a fault: nothing may come again without DUP then.
QUIET_CYCLE, QUIET_S = 5, 35.0
# Until a balancer has seen that an instance does not answer.
NOTICED_S = 2.0


class Instances(BrokersKilled, Fleet, Subscribers):
    """Three instances, by chance: one is killed with -9 (or two at once, or again into its start) and started, one is frozen for 1 to --freeze s; with --brokers 3 one of
    Kafka's brokers is killed now and then."""

    name = "instances"
    LOGS_IN_KAFKA = True
    plain = Subscribers.plain | {"real": False, "brokers": 3, "cycles": 6, "round": 6, "subscribers": 200, "freeze": 20.0, "ready_within": 30.0, "insist": False, "qos": "0:1:1"}
    short = plain | {"cycles": 3, "round": 3, "subscribers": 100, "freeze": 8.0, "away": 3.0}
    long = plain | {"cycles": 10_000, "seconds": 1_200.0, "subscribers": 2_000, "clients": 2_000, "rate": 5_000, "wide": 0.0, "freeze": 60.0, "away": 20.0}
    needs = ()
    dropped = None  # messages for subscribers that were dropped and counted, by reason, when all was at rest

    def run(self) -> None:
        self.hurt_s = 0.0
        super().run()

    def is_more(self) -> bool:
        """Time of a verdict does not count."""
        return self.cycle < self.options.cycles and self.hurt_s < self.options.seconds

    def hurt(self) -> None:
        began = time.monotonic()
        if self.options.brokers >= 3:
            self.tend_brokers()
        if self.cycle % QUIET_CYCLE == 0:
            self.flow(QUIET_S)
        kinds = {1: self.kill_some, 2: self.freeze_one}
        kinds.get(self.cycle, self.chance.choice((self.kill_some, self.freeze_one)))()
        self.flow(self.chance.uniform(0.5, 8))
        self.crowd.order("cycle")
        self.hurt_s += time.monotonic() - began

    def kill_some(self) -> None:
        some = self.chance.sample(self.instances, 2 if self.chance.random() < BOTH else 1)
        span = self.fault_begins(f"kill -9 of {' and '.join(instance.name for instance in some)}")
        self.look()
        for instance in some:
            instance.kill()
        self.kills += len(some)
        self.point()
        self.flow(self.chance.uniform(0, self.options.away))
        for instance in some:
            if self.chance.random() < AGAIN:
                instance.spawn()
                self.flow(self.chance.uniform(0, 3))
                instance.kill()
                self.nested += 1
            self.ready_s.append(self.started(instance))
        self.point()
        self.load.mark("after kill -9")
        self.fault_ends(span)

    def freeze_one(self) -> None:
        instance, seconds = self.chance.choice(self.instances), self.chance.uniform(1, self.options.freeze)
        span = self.fault_begins(f"{instance.name} frozen for {seconds:.1f} s")
        instance.freeze()
        self.counts["instances frozen"] += 1
        self.flow(min(NOTICED_S, seconds))
        self.point()
        self.flow(max(0.0, seconds - NOTICED_S))
        instance.thaw()
        self.point()
        self.fault_ends(span)

    def tend_brokers(self) -> None:
        before = self.down
        super().tend_brokers()
        if self.down and not before:
            self.of_broker = self.fault_begins(f"broker {self.down} of Kafka killed")
        elif before and not self.down:
            self.fault_ends(self.of_broker)

    def before_end(self) -> None:
        self.wait_shared()
        super().before_end()

    def note_dropped(self) -> None:
        self.dropped = dict(sum((instance.dropped() for instance in self.instances), Counter()))

    def judge(self) -> None:
        super().judge()
        self.facts |= {
            "instances frozen": self.counts["instances frozen"], "s under faults": round(self.hurt_s),
            "copies again at QoS 1, of messages that were sent once": self.counts["copies again, of a message sent once"],
            "ms until a subscriber was served again": quantiles(self.waited_ms),
            "CONNACKs that refused subscribers": self.counts["CONNACKs that refused subscribers"],
            "dropped and counted, by reason": self.dropped,
            "times that a log was full": self.log().count('event="slot_full"'),
        }  # fmt: skip


def ends_between(found: list[events.Event]) -> list[Counter[int]]:
    """How often each publisher lost its connection between two marks of the generator, in their order."""
    spans: list[Counter[int]] = [Counter()]
    for event in found:
        if event.kind == events.MARK:
            spans.append(Counter())
        elif event.kind == events.LOST:
            spans[-1][event.client] += 1
    return spans


class Growth(Instances):
    """Two instances become three, and two again (SIGTERM), under load; then all are killed with -9 at once and started."""

    name = "growth"
    plain = Instances.plain | {"cycles": 1, "round": 1, "brokers": 1, "subscribers": 300, "clients": 100, "reconnect_every": 0}
    short = plain | {"subscribers": 100, "clients": 40}
    long = plain | {"brokers": 3, "subscribers": 1_000, "clients": 500, "rate": 500, "wide": 0.005}
    FIRST = 2
    REST_S = 5.0  # a connection may be closed some time after its slot has moved
    SERVED_WITHIN_S = 5.0

    def prepare(self) -> None:
        self.steps: list[dict] = []
        super().prepare()

    def hurt(self) -> None:
        *_, last = self.instances
        self.flow(3)
        self.step("2 to 3 instances", lambda: self.started(last))
        self.step("3 to 2 instances", lambda: self.leave(last))
        self.step("all killed and started", self.kill_all)
        self.hurt_s = 1.0

    def step(self, name: str, does) -> None:
        self.crowd.ends()
        span, began = self.fault_begins(name), time.monotonic()
        since = does() if name.startswith("all") else (does(), began)[1]
        self.point()
        self.wait_shared()
        shared_s = time.monotonic() - began
        self.wait_connected()
        self.flow(self.REST_S)
        self.fault_ends(span)
        found = self.crowd.ends()
        self.steps.append({"name": name, "ends": found["ends"], "shared_s": round(shared_s, 1), "served_s": [round(at - since, 3) for at in found["welcome_s"]]})

    def wait_connected(self) -> None:
        deadline = time.monotonic() + self.options.patience
        while unserved := self.crowd.state()["unserved"]:
            if time.monotonic() > deadline:
                raise Failed(f"{unserved} of {self.options.subscribers} subscribers are not connected after {self.options.patience} s")
            self.flow(0.1)

    def leave(self, instance: Instance) -> None:
        """SIGTERM; a balancer sends nobody there any more."""
        self.point([other for other in self.living() if other is not instance])
        status = instance.stop()
        if status:
            raise Failed(f"instance {instance.name} ended with status {status} after SIGTERM; its log:\n{instance.tail()}")
        instance.process = None

    def kill_all(self) -> float:
        """When the last one was ready."""
        living = self.living()
        for instance in living:
            instance.process.kill()
        for instance in living:
            instance.kill()
        self.kills += len(living)
        for instance in living:
            instance.spawn()
        self.started_s = time.monotonic()
        for instance in living:
            instance.wait_ready()
        self.facts["s until all were ready, from the start"] = round(time.monotonic() - self.started_s, 2)
        self.ready_s.append(time.monotonic() - self.started_s)
        self.load.mark("after kill -9")
        return time.monotonic()

    def judge_round(self, load: Load, report: dict) -> None:
        found = list(events.read(Path(load.events).read_bytes()))
        *before, killed, ready = ends_between(found)
        self.publishers = [*before, killed + ready]
        super().judge_round(load, report)

    def judge(self) -> None:
        super().judge()
        for step in self.steps:
            ends = Counter(step["ends"])
            self.facts[f"{step['name']}: subscribers by how often they were disconnected"] = dict(sorted(ends.items()))
            self.facts[f"{step['name']}: s until all slots were shared out"] = step["shared_s"]
            self.checks[f"{step['name']}: each subscriber was disconnected at most once"] = bool(ends) and max(ends) <= 1
        most = [max(span.values(), default=0) for span in self.publishers]
        self.facts["most that a publisher was disconnected, between marks"] = most
        self.checks["each publisher was disconnected at most once a step"] = max(most) <= 1
        last = self.steps[-1]["served_s"]
        self.facts["s from ready to CONNACK, all killed and started"] = quantiles(last)
        self.checks[f"all killed: everybody is served {self.SERVED_WITHIN_S:g} s after the instances were ready"] = bool(last) and max(last) <= self.SERVED_WITHIN_S
