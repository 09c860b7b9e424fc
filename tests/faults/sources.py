"""Records of Kafka on their way to subscribers, while the service, brokers and other members of the groups come and go. `forebay-bench back` writes, subscribes
and judges (bench/src/back/judge.rs)."""

import os
import signal
import subprocess
import time

import proof  # tests/python: found by way of stand
import readers
from scenarios import Scenario
from stand import ROOT, Failed, Load

PARTITIONS = 4
WINDOW = 200
SOURCE = """
[[source]]
name = "{name}"
topic = "{name}"
mqtt_topic = "{name}/${{key}}/${{partition}}/${{offset}}"
payload = "${{value}}"
qos = 2
offset_reset = "earliest"
no_subscriber = "{no_subscriber}"
group_instance = "one"
commit_interval = "500ms"
window_messages = {window}
"""
# Nothing may be dropped: each missing copy is a fault.
DELIVERY = """
[delivery]
queue_messages_max = 1000000
queue_bytes_max = "1GiB"
"""
CONSOLE = "org.apache.kafka.tools.consumer.ConsoleConsumer"
SESSION_S = 6  # of a member that is killed
JOINED_WITHIN_S = 90  # the service is removed from a group after 45 s without a word
ENDED_WITHIN_S = 30
CHECKS = {
    "each record is with each subscriber, as it was, in order (K1, K2, K4)": ("K1:", "K2:", "K4:"),
    "what comes again does so after a fault, and no more of it than windows and commits allow (K3)": ("K3:",),
    "no offset was committed above what a subscriber had, and none went back (K5, K6)": ("K5:", "K6:"),
    "the groups are where the logs end, within --patience s (K7)": ("K7:",),
    "sessions are there as promised, and nothing is said against the standard (S)": ("S:", "against"),
    "Kafka has what was written (K8)": ("K8:",),
}  # fmt: skip


class Back(Load):
    """The one generator of a run."""

    def __init__(self, stand: "Sources", number: int, target: str):
        options = stand.options
        self.stand, self.name, self.topic = stand, f"r{number}", ""
        self.folder = stand.work / self.name
        self.folder.mkdir()
        self.report_file, self.timeline = self.folder / "report.json", self.folder / "timeline.jsonl"
        command = [
            proof.generator(), "back", "--control", "--target", target, "--kafka", stand.bootstrap, "--clean-topic", "clean", "--run", number, "--seed", options.seed,
            "--rate", options.rate, "--payload", options.payload, "--window", WINDOW, "--patience", options.patience,
            "--json", self.report_file, "--timeline", self.timeline, "--copies", self.folder / "copies.jsonl",
        ]  # fmt: skip
        if "kept" in stand.sources:
            command += ["--kept-topic", "kept"]
        with open(self.folder / "generator.txt", "w") as out:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=out, text=True)


class Member:
    """A console consumer of Kafka's own in a source's group; what it prints is kept."""

    def __init__(self, stand: "Sources", source: str, number: int):
        self.source, self.file = source, stand.load.folder / f"member-{number}.txt"
        command = [
            ROOT / "scripts/kafka", "tool", CONSOLE, "--dir", stand.kafka_dir, "--bootstrap-server", stand.bootstrap, "--topic", source, "--group", f"forebay-{source}",
            "--from-beginning", "--command-property", f"session.timeout.ms={SESSION_S * 1000}", "--command-property", "auto.commit.interval.ms=500",
        ]  # fmt: skip
        for key, value in (("partition", "true"), ("offset", "true"), ("key", "true"), ("value", "false")):
            command += ["--formatter-property", f"print.{key}={value}"]
        with open(self.file, "w") as out, open(self.file.with_suffix(".log"), "w") as log:
            # In a group of its own: the script is not the consumer.
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=log, start_new_session=True)

    def printed(self) -> int:
        return self.file.read_bytes().count(b"\n")

    def end(self, how: signal.Signals) -> None:
        """Ends it, and waits until all of it is gone."""
        deadline = time.monotonic() + ENDED_WITHIN_S
        try:
            os.killpg(self.process.pid, how)
            while time.monotonic() < deadline:
                self.process.poll()
                os.killpg(self.process.pid, 0)
                time.sleep(0.05)
            raise Failed(f"a console consumer does not end: {self.file.with_suffix('.log').read_text()[-500:]}")
        except ProcessLookupError:
            self.process.wait()


class Sources(Scenario):
    """Two sources and a dozen subscribers, while the service is killed, restarted and frozen, brokers are killed and frozen, and Java members come, go and die."""

    name = "sources"
    plain = {"rate": 400, "cycles": 10, "round": 1_000, "brokers": 3}
    short = {"rate": 200, "cycles": 2, "round": 1_000, "brokers": 1}
    long = plain | {"cycles": 1_000, "seconds": 600.0}
    FAULTS = ("kill", "member", "broker_killed", "stop", "frozen", "member_killed", "broker_frozen", "kill", "kill_beside_member", "frozen_beside_member")

    def prepare(self) -> None:
        self.sources = ("kept", "clean") if self.spooled else ("clean",)
        self.start_kafka()
        for name in self.sources:
            readers.create_topic(self.bootstrap, name, PARTITIONS)
        text = DELIVERY
        for name in self.sources:
            # What no kept session gets waits for nobody.
            text += SOURCE.format(name=name, window=WINDOW, no_subscriber="drop" if name == "kept" else "wait")
        self.start_service(more=text)
        self.members: list[Member] = []
        self.undo.append(self.end_members)

    def begin_round(self) -> Load:
        self.rounds += 1
        self.load = Back(self, self.rounds, self.target)
        return self.load

    def drop_topic(self, topic: str) -> None:
        """They go with the cluster."""

    def end_members(self) -> None:
        for member in self.members:
            member.end(signal.SIGKILL)

    # ---- faults -------------------------------------------------------------------------------------------------------------------

    def hurt(self) -> None:
        self.flow(self.chance.uniform(0.5, 4))
        name = self.FAULTS[(self.cycle - 1) % len(self.FAULTS)]
        self.counts[f"fault: {name}"] += 1
        getattr(self, name)()

    def begin(self, name: str) -> None:
        self.look()
        self.load.order(f"hurt {name}")

    def well(self) -> None:
        self.load.order("well")

    def kill(self) -> None:
        """A third of the times also into its start."""
        for _ in range(self.chance.choice((1, 1, 2))):
            self.begin("kill9")
            self.service.kill()
            self.spawn()
            time.sleep(self.chance.uniform(0, 0.2))
        self.service.wait_ready()
        self.well()

    def stop(self) -> None:
        self.begin("restart")
        status = self.service.stop()
        self.counts[f"ended with status {status}"] += 1
        self.restart()
        self.well()

    def frozen(self) -> None:
        self.freeze(self.chance.uniform(1, 4))

    def freeze(self, seconds: float) -> None:
        self.begin("freeze")
        self.service.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.service.process.send_signal(signal.SIGCONT)
        self.well()

    def broker_killed(self) -> None:
        self.of_broker("kill9", "start", self.chance.uniform(2, 5), "--broker")

    def broker_frozen(self) -> None:
        self.of_broker("freeze", "thaw", self.chance.uniform(2, 8))

    def of_broker(self, begin: str, end: str, seconds: float, *words: str) -> None:
        broker = self.chance.randint(1, self.options.brokers)
        self.begin("broker")
        self.kafka(begin, broker)
        self.flow(seconds)
        self.kafka(end, *words, broker)
        self.well()

    def member(self) -> None:
        self.of_member(signal.SIGTERM)

    def member_killed(self) -> None:
        self.of_member(signal.SIGKILL)

    def kill_beside_member(self) -> None:
        self.of_member(signal.SIGTERM, self.kill)

    def frozen_beside_member(self) -> None:
        """It comes while the service says nothing, and gets all partitions once that has been removed."""
        self.begin("freeze")
        self.service.process.send_signal(signal.SIGSTOP)
        try:
            member = self.join()
        finally:
            self.service.process.send_signal(signal.SIGCONT)
        self.well()
        self.flow(2)
        self.part(member, signal.SIGTERM)

    def of_member(self, how: signal.Signals, meanwhile=None) -> None:
        self.begin("member comes")
        member = self.join()
        self.well()
        self.flow(self.chance.uniform(1, 4))
        if meanwhile:
            meanwhile()
            self.flow(2)
        self.part(member, how)

    def join(self) -> Member:
        """Until it prints what it reads."""
        member = Member(self, self.chance.choice(self.sources), sum(self.counts[f"members of {name}"] for name in self.sources))
        self.counts[f"members of {member.source}"] += 1
        self.members.append(member)
        deadline = time.monotonic() + JOINED_WITHIN_S
        while not member.printed():
            if time.monotonic() > deadline:
                raise Failed(f"a console consumer has read nothing after {JOINED_WITHIN_S} s: {member.file.with_suffix('.log').read_text()[-500:]}")
            time.sleep(0.1)
        return member

    def part(self, member: Member, how: signal.Signals) -> None:
        self.begin("member goes")
        member.end(how)
        self.load.order(f"member {member.source} {member.file}")
        self.members.remove(member)
        # Only then do others get its partitions.
        self.flow(SESSION_S + 2 if how == signal.SIGKILL else 1)
        self.well()

    # ---- the verdict --------------------------------------------------------------------------------------------------------------

    def add(self, report: dict) -> None:
        self.counts.update(report["verdict"]["counts"])
        self.counts.update({"settled": report["settled"], "sent": report["sent"]["all"], "QoS 2, sent again while its identifier was held": report["held_again"]})
        self.counts.update({f"connections: {name}": count for name, count in report["connections"].items()})
        self.counts["load_s"] += report["wall_s"]
        self.add_faults(report["verdict"])
        self.hurts = report["hurts"]

    def judge(self) -> None:
        self.judge_service()
        known = tuple(begin for begins in CHECKS.values() for begin in begins)
        for words, begins in CHECKS.items():
            self.checks[words] = self.rounds > 0 and not any(kind.startswith(begins) for kind in self.faults)
        self.checks["nothing else is wrong"] = all(kind.startswith(known) for kind in self.faults)
        most = self.watch.scrapes.most
        self.checks["no message was dropped or given up"] = most["deliveries_queue_full"] + most["source_messages_lost"] + most["source_messages_no_subscriber"] == 0
        names = ("records", "copies expected", "copies received", "copies again, with DUP", "copies again, without DUP", "records that other members had", "offsets sampled")
        names += ("offsets committed before a kept session's client had acknowledged", "first copies behind younger ones after a session's end")
        self.facts |= {name: self.counts[name] for name in (*names, "records that the producer wrote twice", "records that the producer wrote behind younger ones")}
        self.facts["what was done"] = {name.removeprefix("fault: "): count for name, count in sorted(self.counts.items()) if name.startswith("fault: ")}
        self.facts["seconds of each"] = {name: round(sum(hurt["to_s"] - hurt["from_s"] for hurt in self.hurts if hurt["name"] == name), 1) for name in sorted({hurt["name"] for hurt in self.hurts})}
