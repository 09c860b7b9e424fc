"""Three instances of `[broker]` with all that a broker has at once, under all that can happen to it by chance: shares, clean sessions, retained messages, wills, QoS 2, a source
under a rule that republishes, and a bridge. `mixed_clients.py` is the clients, `mixed_judge.py` the judge."""

import asyncio
import os
import random
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from datetime import datetime

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

import readers  # tests/python: found by way of stand
from fleet import AFTERMATH_S, Fleet, Instance
from mixed_clients import AWAY, BREAKS, DIES, FILLER, STAYS, Plan, World, look
from mixed_faults import Faults
from mixed_judge import Judge, Message, Run
from stand import Failed, free_ports

KINDS = ("routes", "freeze", "kafka", "kill", "sessions", "foreign")
RECORDS, KEYS = "records", 4
TOPICS = ("mqtt-messages", "mqtt-mixed")
# Filters of the route to mqtt-mixed, by turns: a rolling change goes from one to the other.
ROUTES = ('["nobody/#"]', '["flow/+/1", "work/one/#", "fed/#", "state/1", "state/2", "wills/#"]')
MORE = """
[[broker.route]]
filters = {routes}
topic = "mqtt-mixed"
[[source]]
name = "records"
topic = "records"
offset_reset = "earliest"
no_subscriber = "wait"
commit_interval = "500ms"
[[rule]]
name = "feed"
sql = '''SELECT value, key FROM "$bridges/kafka_consumer:records"'''
[[rule.republish]]
topic = "fed/${{key}}"
payload = "${{value}}"
qos = 2
[bridge.remote]
url = "mqtt://127.0.0.1:{remote}"
client_id = "fleet"
keep_alive = "4s"
reconnect_backoff = "100ms"
reconnect_backoff_max = "1s"
queue_messages_max = 1000000
[[bridge.remote.out]]
filters = "out/#"
qos = 1
[[bridge.remote.in]]
filters = "in/#"
qos = 1
"""
MOSQUITTO = "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
SUBSCRIBED_WITHIN_S, SETTLED_WITHIN_S, STILL_S = 60.0, 180.0, 5.0
RETAINED_WITHIN_S = 30.0
# MOVES matches events of an instance that was held up, which may have begun MOVED_BEFORE_S earlier: `session_timeout`, and a little.
MOVES = re.compile(r'^(\S+Z) .*event="(?:instance_silent|slot_gone|instances_trouble|share_trouble|kafka_unreachable)"', re.M)
MOVED_BEFORE_S = 15.0


class Readiness(threading.Thread):
    """Asks each instance for /readyz, points all clients at those that are ready, as a balancer does, and keeps what each has said."""

    EVERY_S, WITHIN_S = 0.4, 1.0

    def __init__(self, instances: list[Instance], world: World):
        super().__init__(daemon=True)
        self.instances, self.world, self.over = instances, world, threading.Event()
        self.said: dict[str, list[tuple[int, int, str]]] = {instance.name: [] for instance in instances}  # when, status, words; each change

    def ask(self, instance: Instance) -> tuple[int, str]:
        if not instance.alive():
            return 0, "gone"
        try:
            if "control" not in instance.addresses:
                instance.ready(instance.begin)  # reads the addresses in its log
            if "control" not in instance.addresses:
                return 0, "starts"
            with urllib.request.urlopen(instance.addresses["control"] + "/readyz", timeout=self.WITHIN_S) as answer:
                return answer.status, answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode().strip()
        except (OSError, KeyError, ValueError) as error:
            return 0, type(error).__name__

    def run(self) -> None:
        while not self.over.wait(self.EVERY_S):
            ready = []
            for instance in self.instances:
                status, words = self.ask(instance)
                said = self.said[instance.name]
                if not said or said[-1][1:] != (status, words):
                    said.append((time.monotonic_ns(), status, words))
                if status == 200:
                    ready.append(instance.address)
            self.world.targets = ready or [instance.address for instance in self.instances]

    def now(self, instance: Instance) -> int:
        said = self.said[instance.name]
        return said[-1][1] if said else 0

    def has_said(self, name: str, status: int, words: str, since_ns: int) -> bool:
        """Whether it has said this since then."""
        return any(code == status and words in text for ns, code, text in self.said[name] if ns >= since_ns)


class Writer(threading.Thread):
    """Writes keyed, numbered records into the source's topic."""

    def __init__(self, world: World, bootstrap: str, rate: float):
        super().__init__(daemon=True)
        self.world, self.rate, self.over = world, rate, threading.Event()
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "message.timeout.ms": 600_000, "log_level": 0})
        self.numbers: Counter[str] = Counter()

    def run(self) -> None:
        while not self.over.wait(1 / self.rate):
            self.producer.poll(0)
            if self.world.is_still:
                continue
            name = f"k{sum(self.numbers.values()) % KEYS}"
            self.numbers[name] += 1
            message = Message(f"{name}/{self.numbers[name]}", name, self.numbers[name], f"fed/{name}", 2, time.monotonic_ns(), origin="source")
            self.world.messages[message.key] = message
            self.producer.produce(RECORDS, message.key.encode() + FILLER, name, on_delivery=lambda error, _, message=message: self.delivered(error, message))

    @staticmethod
    def delivered(error, message: Message) -> None:
        if error is None:
            message.answered_ns = time.monotonic_ns()

    def end(self) -> None:
        self.over.set()
        self.join()
        self.producer.flush(30)


class Mixed(Faults, Fleet):
    """Three instances under everything at once: rolling changes of routes in both directions, SIGSTOP of 5 to 30 s, Kafka away for 30 s, kill -9, `mqtt-sessions` deleted, foreign
    records in each internal topic; --kinds says which of them."""

    name = "mixed"
    plain = {"cycles": 10_000, "seconds": 120.0, "round": 10_000, "brokers": 1, "insist": False, "qos": "0:1:1"}
    short = plain | {"seconds": 60.0}
    long = plain | {"seconds": 600.0}
    needs = ()

    # ---- what is there ------------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        options = self.options
        self.kinds = [kind.strip() for kind in (options.kinds or ",".join(KINDS)).split(",")]
        if unknown := set(self.kinds) - set(KINDS):
            raise Failed(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
        self.say(f"seed {options.seed}, kinds {', '.join(self.kinds)}")
        self.chance = random.Random(options.seed)
        self.begin_faults()
        self.world = World(options.seed)
        self.remote_port = free_ports(1)[0]
        self.start_remote()
        self.world.remote = [f"127.0.0.1:{self.remote_port}"]
        self.start_kafka()
        readers.create_topic(self.bootstrap, RECORDS, KEYS)
        self.start_service()
        self.readiness = Readiness(self.instances, self.world)
        self.undo.append(self.readiness.over.set)
        self.readiness.start()
        self.writer = Writer(self.world, self.bootstrap, 20)
        self.looked: list[tuple[str, Message | None, str, int]] = []

    def start_remote(self) -> None:
        file = self.work / "mosquitto.conf"
        file.write_text(MOSQUITTO.format(port=self.remote_port))
        path = os.environ["PATH"] + ":/usr/sbin"
        with open(self.work / "mosquitto.log", "w") as log:
            self.remote = subprocess.Popen(["mosquitto", "-c", str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"PATH": path})
        self.undo.append(self.remote.kill)

    def begin_fleet(self, some: list[Instance]) -> None:
        self.direction = 0
        for instance in self.instances:
            instance.plain = instance.text
            instance.text = self.text_of(instance)
        super().begin_fleet(some)

    def text_of(self, instance: Instance) -> str:
        return instance.plain + MORE.format(routes=ROUTES[self.direction], remote=self.remote_port)

    def people(self) -> None:
        """All clients."""
        add = self.world.add
        for number in range(6):
            lines = [(f"flow/p{number}/{topic}", qos, False) for topic in (0, 1) for qos in (1, 2)]
            add(f"p{number}", kept=number < 3, plan=Plan(lines, 14), manner=BREAKS if number in (2, 5) else STAYS)
        for name, qos in (("one", 1), ("two", 2)):
            add(f"work-{name}", plan=Plan([(f"work/{name}/{number}", qos, False) for number in range(6)], 20))
        for number in range(2):
            add(f"state-{number}", plan=Plan([(f"state/{2 * number + at}", 1 + at, True) for at in (0, 1)], 8, window=1))
        add("out", plan=Plan([("out/a", 1, False), ("out/b", 2, False)], 16))
        add("in", plan=Plan([("in/a", 1, False), ("in/b", 2, False)], 16, origin="bridge"), remote=True)
        for number in range(6):
            add(f"w{number}", kept=number < 3, manner=DIES, wills="wills")
        for qos in (1, 2):
            add(f"stays-{qos}", filters=[("flow/#", qos)])
            add(f"breaks-{qos}", filters=[("flow/+/0", qos)], manner=BREAKS)
            add(f"away-{qos}", filters=[("flow/+/1", qos)], manner=AWAY)
            add(f"clean-{qos}", kept=False, filters=[("flow/+/1", qos)], manner=BREAKS)
        add("clean-stays", kept=False, filters=[("flow/+/0", 2)])
        for number, kept in enumerate((True, True, False)):
            add(f"one-{number}", kept=kept, filters=[("$share/one/work/one/#", 1)], manner=AWAY if number == 1 else BREAKS if number == 2 else STAYS)
            add(f"two-{number}", kept=kept, filters=[("$share/two/work/two/#", 2)])
        self.watcher = add("wills", filters=[("wills/#", 2)])
        add("fed", filters=[("fed/#", 2)])
        add("came-in", filters=[("in/#", 1)])
        add("came-out", filters=[("out/#", 1)], remote=True)

    # ---- the run ------------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.prepare()
        self.people()
        self.publishers = {client.name for client in self.world.clients if client.plan}
        self.world.quiet = set(self.publishers)
        self.world.thread.start()
        self.undo.append(self.world.end)
        subscribers = [client for client in self.world.clients if client.filters]
        self.until("all have subscribed", SUBSCRIBED_WITHIN_S, lambda: all(client.is_subscribed for client in subscribers if not client.manner.away_s[1]))
        self.flow(1)
        self.world.quiet = set()
        self.writer.start()
        self.rounds, self.cycle, self.flow_began = 1, 0, time.monotonic()
        self.flow(5)
        while self.is_more():
            self.cycle += 1
            self.hurt()
        self.counts["load_s"] += time.monotonic() - self.flow_began
        self.rest()
        self.watch.settled()
        self.judge_foreign()
        self.verdict()

    def until(self, what: str, patience_s: float, is_so) -> bool:
        """Waits until it is so; a fault if it is not."""
        deadline = time.monotonic() + patience_s
        while not is_so():
            if time.monotonic() > deadline:
                self.world.fault("M9: not in time", f"after {patience_s:g} s not so: {what}; ready: {[self.readiness.now(instance) for instance in self.instances]}, slots {self.shares()}")
                self.say(f"not so after {patience_s:g} s: {what}")
                return False
            self.flow(0.2)
        return True

    def rest(self) -> None:
        """Stops publishing, brings all clients back, and waits until they have received everything."""
        world = self.world
        world.is_still = True
        self.say("at rest: waiting until everything that was published is answered, and with those who have asked for it")
        self.writer.end()
        self.until("all are connected", SETTLED_WITHIN_S, lambda: all(client.writer is not None for client in world.clients))
        self.until("all is answered", SETTLED_WITHIN_S, lambda: not any(client.state.out for client in world.clients))
        is_quiet = lambda: time.monotonic_ns() - max(client.last_ns for client in world.clients) > STILL_S * 1e9
        self.drained = self.until("nothing comes any more", SETTLED_WITHIN_S, lambda: is_quiet() and not self.sums()["stored_messages"] and not self.sums()["sink_buffered_records"])
        self.look_at_retained()
        world.end()

    def look_at_retained(self) -> None:
        """What a new subscription gets at each instance while those topics are at rest."""
        world = self.world
        publishers = [client for client in world.clients if client.name.startswith("state-")]
        world.quiet = world.quiet | {client.name for client in publishers}
        self.until("retained messages are answered", 60, lambda: not any(client.state.out for client in publishers))
        wanted = {topic: self.newest(client, topic) for client in publishers for topic, _, _ in client.plan.lines}
        for instance in self.instances:
            deadline, found = time.monotonic() + RETAINED_WITHIN_S, {}
            while True:
                try:
                    found = asyncio.run_coroutine_threadsafe(look(instance.address, "state/#", f"look-{instance.name}", 2.0), world.loop).result(30)
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    found = {}
                got = {topic: world.messages.get(found.get(topic, "")) for topic in wanted}
                is_right = all(message is None or (got[topic] is not None and got[topic].number >= message.number) for topic, message in wanted.items())
                if is_right or time.monotonic() > deadline:
                    break
                self.flow(1)
            now = time.monotonic_ns()
            self.looked += [(topic, message, f"{instance.name} at {now / 1e9:.1f} s", now) for topic, message in got.items()]
        world.quiet = world.quiet - {client.name for client in publishers}

    def newest(self, client, topic: str) -> Message | None:
        for number in range(client.number, 0, -1):
            message = self.world.messages.get(f"{client.name}/{number}")
            if message and message.topic == topic and message.answered_ns:
                return message
        return None

    # ---- the verdict --------------------------------------------------------------------------------------------------------------

    def read_kafka(self) -> dict[str, Counter]:
        """How often each message is in which topic."""
        found: dict[str, Counter] = {}
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "unused", "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0})
        known = consumer.list_topics(timeout=30).topics
        places = [TopicPartition(topic, partition, OFFSET_BEGINNING) for topic in (*TOPICS, RECORDS) if topic in known for partition in known[topic].partitions]
        consumer.assign(places)
        left, deadline = len(places), time.monotonic() + 120
        while left and time.monotonic() < deadline:
            for record in consumer.consume(10_000, timeout=0.5):
                if record.error() is not None:
                    if record.error().code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(record.error())
                    left -= 1
                    continue
                key = (record.value() or b"").partition(b" ")[0].decode(errors="replace")
                found.setdefault(key, Counter())[record.topic()] += 1
        consumer.close()
        if left:
            raise Failed("the topics cannot be read to their ends")
        return found

    def moves_ns(self) -> list[tuple[int, int]]:
        """Spans in which slots and partitions move though nothing was done: a machine that other work keeps busy holds an instance or Kafka up."""
        apart = time.time_ns() - time.monotonic_ns()
        found = [round(datetime.fromisoformat(at).timestamp() * 1e9) - apart for at in MOVES.findall(self.log())]
        return [(at - round(MOVED_BEFORE_S * 1e9), at + round(AFTERMATH_S * 1e9)) for at in found]

    def verdict(self) -> None:
        world = self.world
        run = Run(world.messages, self.hurt_ns() + self.moves_ns(), self.deleted(), self.read_kafka())
        judge = Judge(run)
        self.counts.update(f"in {topic}" for topics in run.in_kafka.values() for topic in topics)
        judge.kafka()
        for client in world.clients:
            judge.subscriber(client.heard)
        for share in ("one", "two"):
            judge.share([client.heard for client in world.clients if client.heard.share == share])
        for topic, message, where, ns in self.looked:
            judge.retained(topic, message, where, ns)
        judge.wills(world.wills, self.watcher.heard)
        for kind, words in world.faults:
            judge.verdict.fault(kind, words)
        self.counts.update(judge.counts)
        self.counts["settled"] = judge.counts["answered"]
        self.counts["CONNACKs that refused"] = sum(client.refused for client in world.clients)
        self.counts["connections"] = sum(client.connection + 1 for client in world.clients)
        self.add_faults({"faults": judge.verdict.faults})

    def judge(self) -> None:
        self.judge_service()
        words = {
            "M1": "what was answered is in Kafka and with all kept sessions", "M2": "QoS 2 is once", "M3": "messages are in order", "M4": "shares have each message",
            "M5": "retained messages are right at rest", "M6": "wills come, once", "M7": "records of the source come", "M8": "messages over the bridge come",
            "M9": "nothing was silent, and all was well again in time", "M10": "sessions, packets and refusals are as they should be",
        }  # fmt: skip
        for number, text in words.items():
            self.checks[f"{text} ({number})"] = not any(kind.startswith(f"{number}:") for kind in self.faults)
        self.checks["something was judged"] = self.counts["copies expected"] > 0 and self.counts["retained looked at"] > 0 and self.counts["wills expected"] > 0
        self.checks["no message was dropped for want of room"] = self.watch.scrapes.most["deliveries_queue_full"] == 0
        names = ("published", "answered", "copies expected", "copies received", "missing", "doubled at QoS 2", "out of order", "retained looked at", "retained wrong", "wills expected", "wills missing",
                 "wills taken back", "connections", "CONNACKs that refused")  # fmt: skip
        self.facts |= {"seed": self.options.seed, "kinds": ", ".join(self.kinds), "cycles": self.cycle, "what was done": dict(self.done)}
        self.facts |= {name: self.counts[name] for name in names}
        self.facts["messages by topic of Kafka"] = {topic: self.counts[f"in {topic}"] for topic in TOPICS}
        self.facts["source records missing"] = self.faults.get("M7: record of a source missing", {"count": 0})["count"]
        self.facts["bridge missing"] = self.faults.get("M8: missing over the bridge", {"count": 0})["count"]
        self.facts["allowed"] = {name.removeprefix("allowed: "): count for name, count in sorted(self.counts.items()) if name.startswith("allowed: ")}
        self.facts["events"] = dict(Counter(re.findall(r' (?:WARN|ERROR) .*?event="(\w+)"', self.log())).most_common(20))
