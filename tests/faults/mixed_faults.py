"""What is done to the instances of `mixed`, and whether each fault was seen where the documents say so: at /readyz, in events and in `forebay check`."""

import os
import re
import signal
import subprocess
import time
from collections import Counter

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from fleet import Instance
from stand import Failed

SESSIONS, RETAINED, MESSAGES = "mqtt-sessions", "mqtt-retained", "mqtt-messages"
FREEZE_S, AWAY_S, KAFKA_S = (5, 30), (0, 10), 30.0
# How likely a kill takes two, and how likely one is killed while another fault lasts.
BOTH, BESIDE = 0.15, 0.3
# The rest between two faults, and every fourth time a long one, after which nothing of a fault is left.
REST_S, LONG_REST_S, LONG_REST = (3, 10), 30.0, 4
SERVICE_MANAGER_S = 1.0  # until it starts what has ended
# An instance that makes way may be ready late: it has no slots.
DIFFERS_S = 25.0
# All instances end when no broker has known the topic for 20 s, and look within a minute (docs/CLUSTER.md).
ENDED_WITHIN_S = 110.0
CHECK_S = 90
STANDS_OUT = re.compile(r'event="(instance_silent|slot_gone|instances_trouble)"')
KAFKA_AWAY = re.compile(r'event="(kafka_unreachable|kafka_broker_unreachable|session_log_trouble|instances_trouble|instance_silent)"')
FOREIGN = re.compile(r'event="session_log_lost"')


class Faults:
    """A part of Mixed."""

    def begin_faults(self) -> None:
        self.done: Counter[str] = Counter()
        self.respawn: dict[str, float] = {}  # by name: when one that has ended is started
        self.stopping: set[str] = set()  # instances that end by an order
        self.may_end = ""  # why instances may end by themselves
        self.kill_at = float("inf")
        self.deletions: list[list[int]] = []
        self.foreign: dict[str, int] = {}  # sizes of the logs when the first foreign records were written

    def log_sizes(self) -> dict[str, int]:
        return {instance.name: instance.log_file.stat().st_size for instance in self.instances}

    def new_log(self, instance: Instance, sizes: dict[str, int]) -> str:
        return instance.log_file.read_bytes()[sizes[instance.name] :].decode(errors="replace")

    def silent(self, words: str) -> None:
        self.world.fault("M9: silent", words)
        self.say(f"silent: {words}")

    # ---- time passes --------------------------------------------------------------------------------------------------------------

    def flow(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            self.look()
            self.tend()
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))
            if time.monotonic() >= end:
                return

    def tend(self) -> None:
        """Starts what has ended, as a service manager does, and kills one where that is due."""
        now = time.monotonic()
        if now >= self.kill_at:
            self.kill_at = float("inf")
            if others := [instance for instance in self.instances if instance.answers() and instance.name not in self.stopping]:
                self.kill_one(self.chance.choice(others), 1.0, "killed beside it")
        for instance in self.instances:
            if instance.process is None or instance.alive() or instance.name in self.stopping:
                continue
            if instance.name not in self.respawn:
                self.ended(instance)
                self.respawn[instance.name] = now + SERVICE_MANAGER_S
            if now >= self.respawn[instance.name]:
                del self.respawn[instance.name]
                instance.spawn()

    def ended(self, instance: Instance) -> None:
        status, last = instance.process.returncode, instance.tail(3)
        self.counts["instances that ended by themselves"] += 1
        self.say(f"{instance.name} has ended with status {status}: {last[-300:]}")
        if status != 1 or not self.may_end:
            self.world.fault("M9: an instance ended", f"{instance.name} with status {status}, beside {self.may_end or 'nothing that allows it'}: {last[-600:]}")
        elif " ERROR " not in instance.tail(30):
            self.silent(f"{instance.name} ended without an error in its log")

    # ---- faults -------------------------------------------------------------------------------------------------------------------

    def hurt(self) -> None:
        kind = self.kinds[(self.cycle - 1) % len(self.kinds)] if self.cycle <= len(self.kinds) else self.chance.choice(self.kinds)
        if len(self.kinds) > 1 and kind != "sessions" and self.chance.random() < BESIDE:
            self.kill_at = time.monotonic() + self.chance.uniform(1, 12)
        self.done[kind] += 1
        span = self.fault_begins(kind)
        getattr(self, f"of_{kind}")()
        self.kill_at = float("inf")
        began = time.monotonic()
        self.until("all instances are ready and have their slots", 180, lambda: all(self.readiness.now(instance) == 200 for instance in self.instances) and self.is_shared() and len(self.shares()) == 3)
        self.say(f"{kind}: well again {time.monotonic() - began:.1f} s after its end")
        self.fault_ends(span)
        self.may_end = ""
        self.flow(LONG_REST_S if self.cycle % LONG_REST == 0 or kind == "sessions" else self.chance.uniform(*REST_S))
        self.look_at_retained()

    def kill_one(self, instance: Instance, away_s: float, words: str = "kill -9") -> None:
        self.say(f"{words}: {instance.name}, away for {away_s:.1f} s")
        self.done[words] += 1
        instance.kill()
        self.respawn[instance.name] = time.monotonic() + away_s

    def of_kill(self) -> None:
        sizes = self.log_sizes()
        some = self.chance.sample(self.instances, 2 if self.chance.random() < BOTH else 1)
        away_s = self.chance.uniform(*AWAY_S)
        for instance in some:
            self.kill_one(instance, away_s)
        self.flow(away_s + 1)
        self.until("what was killed is back", 90, lambda: all(instance.alive() and self.readiness.now(instance) == 200 for instance in some))
        if not any("slot_taken" in self.new_log(instance, sizes) for instance in self.instances):
            self.silent("after a kill no instance has said slot_taken")

    def of_freeze(self) -> None:
        sizes, seconds = self.log_sizes(), self.chance.uniform(*FREEZE_S)
        instance = self.chance.choice(self.instances)
        self.say(f"SIGSTOP: {instance.name} for {seconds:.1f} s")
        instance.freeze()
        try:
            self.flow(seconds)
        finally:
            instance.thaw()
        starts = instance.starts
        self.flow(5)
        if instance.starts == starts and not STANDS_OUT.search(self.new_log(instance, sizes)):
            self.silent(f"{instance.name} stood still for {seconds:.1f} s and does not say so")

    def of_kafka(self) -> None:
        sizes, is_killed = self.log_sizes(), self.chance.random() < 0.5
        self.say(f"Kafka {'killed' if is_killed else 'frozen'} for {KAFKA_S} s")
        self.kafka(*(("kill9", 1) if is_killed else ("freeze", 1)))
        began = time.monotonic()
        check = self.begin_check(self.instances[0])
        self.flow(KAFKA_S)
        self.kafka(*(("start", "--broker", 1) if is_killed else ("thaw", 1)))
        self.flow(2)
        for instance in self.instances:
            if instance.spawned < began and not KAFKA_AWAY.search(self.new_log(instance, sizes)):
                self.silent(f"{instance.name} does not say that Kafka was away")
        status, text = self.end_check(check)
        if status == 0:
            self.silent(f"check finds nothing while Kafka is away: {text[-300:]}")

    def of_routes(self) -> None:
        """The last name first, as docs/CLUSTER.md says."""
        sizes = self.log_sizes()
        self.direction = 1 - self.direction
        self.say(f"rolling change of routes, to {'two topics' if self.direction else 'one topic'}")
        for instance in self.instances:
            instance.text = self.text_of(instance)
        for instance in reversed(self.instances):
            self.stop(instance)
            until = time.monotonic() + DIFFERS_S
            self.flow(1)
            while time.monotonic() < until and self.readiness.now(instance) != 200:
                self.flow(0.2)
            if instance is self.instances[1]:
                # Two of three have the new routes now.
                self.until("the two that agree have all slots", 90, lambda: self.slots_of(self.instances[0]) == 0 or self.instances[0].name in self.respawn)
        if not any("instances_trouble" in self.new_log(instance, sizes) for instance in self.instances):
            self.silent("no instance has said that routes differ")

    def slots_of(self, instance: Instance) -> int:
        return instance.figures_now()["broker_slots_here"]

    def stop(self, instance: Instance) -> None:
        """A restart in order."""
        self.until(f"{instance.name} is there", 90, lambda: instance.alive() and instance.name not in self.respawn)
        self.stopping.add(instance.name)
        instance.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 60
        while instance.alive() and time.monotonic() < until:
            self.flow(0.1)
        if instance.alive():
            self.world.fault("M9: not in time", f"{instance.name} does not end within 60 s of SIGTERM: {instance.tail(5)}")
            instance.kill()
        elif instance.process.returncode:
            self.world.fault("M9: an instance ended", f"{instance.name} with status {instance.process.returncode} after SIGTERM: {instance.tail(3)}")
        instance.spawn()
        self.stopping.discard(instance.name)

    def of_sessions(self) -> None:
        """All instances say so, are not ready, and end; they are started at once, or when all have ended."""
        sizes, began_ns, at_once = self.log_sizes(), time.monotonic_ns(), self.chance.random() < 0.5
        self.say(f"{SESSIONS} deleted; instances are started {'at once' if at_once else 'when all have ended'}")
        self.may_end = "the deletion of mqtt-sessions"
        starts = {instance.name: instance.starts for instance in self.instances}
        self.deletions.append([began_ns, 1 << 63])
        self.world.deleted_ns.append(began_ns)
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})  # lives until the answer is there
        admin.delete_topics([SESSIONS])[SESSIONS].result(30)
        has_ended = lambda instance: instance.starts > starts[instance.name] or not instance.alive()
        self.held = set() if at_once else {instance.name for instance in self.instances}
        until = time.monotonic() + ENDED_WITHIN_S
        while not all(has_ended(instance) for instance in self.instances) and time.monotonic() < until:
            self.flow(0.2)
            for name in self.held:
                if name in self.respawn:
                    self.respawn[name] = float("inf")
        self.facts.setdefault("s until all had ended, mqtt-sessions deleted", []).append(round((time.monotonic_ns() - began_ns) / 1e9, 1))
        for instance in self.instances:
            log = self.new_log(instance, sizes)
            if not has_ended(instance):
                self.silent(f"{instance.name} goes on {ENDED_WITHIN_S:g} s after {SESSIONS} was deleted, ready: {self.readiness.now(instance)}")
                self.kill_one(instance, 0, "killed, as it did not end")
            elif SESSIONS not in log or " ERROR " not in log:
                self.silent(f"{instance.name} does not name {SESSIONS} when it ends")
            if not any(ns >= began_ns and code != 200 for ns, code, _ in self.readiness.said[instance.name]):
                self.silent(f"{instance.name} was ready all the time though {SESSIONS} was deleted")
        for name in self.respawn:
            self.respawn[name] = min(self.respawn[name], time.monotonic() + SERVICE_MANAGER_S)
        self.until("all are ready after the deletion", 120, lambda: all(self.readiness.now(instance) == 200 for instance in self.instances))
        subscribers = [client for client in self.world.clients if client.filters and not client.remote and not client.manner.away_s[1]]
        late = lambda: [client for client in subscribers if not (client.is_subscribed and client.heard.spans[-1][0] > began_ns)]
        if not self.until("all have subscribed anew", 90, lambda: not late()):
            words = ", ".join(f"{client.name} (connected: {client.writer is not None}, connections {client.connection + 1}, refused {client.refused})" for client in late())
            self.world.fault("M9: not in time", f"without SUBACK: {words}")
        self.deletions[-1][1] = time.monotonic_ns()

    def deleted(self) -> list[tuple[int, int]]:
        return [(begin, min(end, time.monotonic_ns())) for begin, end in self.deletions]

    def of_foreign(self) -> None:
        """Records of another program: garbage, tombstones, keys that nobody uses, and in the log of sessions also keys that are in use."""
        sizes, before = self.log_sizes(), self.sums()
        self.may_end = "foreign records in mqtt-sessions"
        chance, producer = self.chance, Producer({"bootstrap.servers": self.bootstrap, "log_level": 0})
        garbage = lambda most: chance.randbytes(chance.randint(1, most))
        known = self.some_keys(partition := chance.randrange(64))
        where = [(SESSIONS, partition, key, chance.choice((None, garbage(60)))) for key in chance.sample(known, min(2, len(known)))]
        where += [(SESSIONS, chance.randrange(64), chance.choice((None, b"", garbage(20), b"FBt" + garbage(20), b"FBs" + garbage(9))), chance.choice((None, b"", garbage(300)))) for _ in range(3)]
        keys = (None, b"", b"#", b"a/+/b", b"$SYS/broker/x", b"\xff\xfe\x00", b"foreign/t", garbage(20))
        where += [(topic, -1, key, chance.choice((None, b"", garbage(200)))) for topic in (RETAINED, MESSAGES) for key in keys if topic == MESSAGES or key]
        for topic, at, key, value in where:
            headers = [("mqtt-qos", garbage(3)), ("mqtt-retain", b"maybe"), ("mqtt-copy-of", garbage(20)), ("mqtt-message-expiry-s", b"never")]
            more = {"partition": at} if at >= 0 else {}
            producer.produce(topic, value, key, headers=headers if chance.random() < 0.5 else [], **more)
        if producer.flush(30):
            raise Failed("the foreign records are not in Kafka")
        self.say(f"foreign records: {len(where)}")
        self.foreign = self.foreign or sizes
        self.flow(12)
        after = self.sums()
        bad = sum(after[name] - before[name] for name in after if name.startswith("source_bad_records"))
        self.counts["bad records counted"] += max(bad, 0)
        self.counts["batches of others passed over"] += after["session_log_passed_over"]

    def judge_foreign(self) -> None:
        """An instance finds a record between its own with the next one that it writes to that slot: until the end of the run some have."""
        if self.foreign and not any(FOREIGN.search(self.new_log(instance, self.foreign)) for instance in self.instances) and not self.counts["batches of others passed over"]:
            self.silent("no instance has said anything of foreign records in mqtt-sessions")
        if self.foreign and not self.counts["bad records counted"]:
            self.silent("no instance has counted foreign records in mqtt-messages")

    def some_keys(self, partition: int) -> list[bytes]:
        """Keys of the newest records of a partition of the log of sessions."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "unused", "enable.auto.commit": False, "log_level": 0})
        place = TopicPartition(SESSIONS, partition)
        low, high = consumer.get_watermark_offsets(place, timeout=30)
        place.offset = max(low, high - 50)
        consumer.assign([place])
        found = [record.key() for record in consumer.consume(50, timeout=2) if record.error() is None and record.key()]
        consumer.close()
        return sorted(set(found))

    # ---- forebay check ------------------------------------------------------------------------------------------------------------

    def begin_check(self, instance: Instance) -> subprocess.Popen:
        command = [str(self.program), "check", str(instance.config_file)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"NO_COLOR": "1"})

    def end_check(self, check: subprocess.Popen) -> tuple[int, str]:
        try:
            text, _ = check.communicate(timeout=CHECK_S)
        except subprocess.TimeoutExpired:
            check.kill()
            return 0, "it does not end"
        return check.returncode, text
