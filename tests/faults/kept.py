"""kill -9 under kept subscribers: what was answered to its publisher reaches each of them, of QoS 2 once, in order. `crowd.py` is the subscribers,
`copies.py` the judge."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import copies
import events
import messages
import receiver
import watch  # tests/python: found by way of stand
from brokers import BrokersKilled
from generator import Orders
from scenarios import Kill9, Scenario
from stand import Failed, Load, Skipped, free_ports

# Nothing may be dropped: each missing copy is a fault. Real clients always come back to the same port. What everybody may read is asked for
# all the same: a start does not know it before a client is back.
LISTENER = 'auth = "all"'
MORE = """
[delivery]
queue_messages_max = 1000000
queue_bytes_max = "1GiB"
[[listener]]
bind = "127.0.0.1:{port}"
auth = "all"
[auth.all]
chain = "anonymous"
acl_file = "{acl}"
"""
SUBSCRIBED_WITHIN_S = 60
# Every so many cycles the service has more time, so that its clients come to rest before it is killed.
LONG_CYCLE, LONGER_S = 3, 3.0
# What the service's log says of a message that it dropped for want of room.
DROPPED = re.compile('event="message_dropped".*reason="(too many messages wait|the shard has no room)')
# A round is over when nothing has come for so long, and nothing waits.
STILL_S = 1.0
COUNTED = {
    "messages answered": "messages answered", "copies expected": "copies expected", "copies received": "copies received",
    "copies missing": "missing", "copies doubled at QoS 2": "doubled at QoS 2", "copies out of order": "out of order",
    "copies late, of a later sending": "late, of a later sending by their publishers", "copies again, with DUP": "repeats with DUP", "copies again, without DUP": "repeats by publishers",
    "copies of unanswered messages": "copies of messages that were not answered",
    "QoS 2 published again across a kill (B8)": "QoS 2 published again across a kill (B8)",
}  # fmt: skip


class Crowd(Orders):
    """One round's subscribers."""

    def __init__(self, folder: Path, job: dict):
        folder.mkdir()
        self.folder = folder
        self.heard_file, self.words_file = folder / "heard.jsonl", folder / "crowd.txt"
        file = folder / "crowd.json"
        file.write_text(json.dumps(job | {"heard": str(self.heard_file)}))
        command = [sys.executable, Path(__file__).with_name("crowd.py"), file]
        with open(self.words_file, "w") as words:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, text=True)

    def ended(self) -> Exception:
        return Failed(f"the subscribers have ended: {self.words_file.read_text()[-2000:]}")

    def state(self) -> dict:
        self.order("ask")
        return self.read()

    def ends(self) -> dict:
        self.order("ends")
        return self.read()

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise self.ended()
        return json.loads(line)

    def end(self) -> list[copies.Heard]:
        self.order("end")
        last = self.read()
        self.waited_ms, self.refused = last["waited_ms"], last["refused"]
        self.process.wait(60)
        with open(self.heard_file) as lines:
            return [receiver.from_json(json.loads(line)) for line in lines]

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Subscribers(Kill9):
    """kill -9 as in `kill9`, under --subscribers kept sessions: some are always there, some break their connections, some stay away for cycles; a dozen are real clients."""

    name = "subscribers"
    plain = {"rate": 200, "clients": 40, "per_write": 2, "reconnect_every": 100}
    short = plain | {"cycles": 3, "round": 3, "subscribers": 100}
    long = plain | {"cycles": 200, "round": 25}
    needs = ("spool",)
    TOPICS = 2
    MORE = MORE
    REREADS = False
    LOGS_IN_KAFKA = False  # of sessions

    def prepare(self) -> None:
        self.options.events = True  # they say what was answered
        self.crowd: Crowd | None = None
        self.port = free_ports(1)[0]
        self.still_s: list[float] = []
        self.waited_ms: list[int] = []  # subscribers, from the end of a connection that the service ended
        super().prepare()

    def start_service(self, **settings: object) -> None:
        acl = self.work / "acl"
        acl.write_text("topic readwrite #\n")
        super().start_service(listener=LISTENER, more=self.MORE.format(port=self.port, acl=acl), **settings)

    def begin_round(self) -> Load:
        options, name = self.options, f"r{self.rounds + 1}"
        job = self.crowd_manners() | {
            "seed": options.seed, "run": self.rounds + 1, "round": name, "subscribers": options.subscribers, "clients": options.clients, "topics": self.TOPICS, "wide": options.wide,
            "port": self.port, "target": self.target, "real": options.real,
        }  # fmt: skip
        self.crowd = Crowd(self.work / f"crowd-{name}", job)
        self.undo.append(self.crowd.kill)
        deadline = time.monotonic() + SUBSCRIBED_WITHIN_S
        while (state := self.crowd.state())["subscribed"] < state["of"]:
            if time.monotonic() > deadline:
                raise Failed(f"{state['subscribed']} of {state['of']} have subscribed after {SUBSCRIBED_WITHIN_S} s")
            time.sleep(0.1)
        self.say(f"{state['of']} have subscribed")
        return super().begin_round()

    def crowd_manners(self) -> dict:
        """What else its job says."""
        return {}

    def spawn(self) -> None:
        super().spawn()
        if self.crowd:
            self.crowd.order(f"target {self.target}")

    def hurt(self) -> None:
        if self.cycle % LONG_CYCLE == 0:
            self.flow(LONGER_S)
        super().hurt()
        self.crowd.order("cycle")

    def before_end(self) -> None:
        self.crowd.order("back")

    def judge_round(self, load: Load, report: dict) -> None:
        """Waits until nothing is left for any subscriber, and judges what they got."""
        verdict = copies.Verdict()
        waiting = self.wait_still()
        if waiting:
            verdict.fault("J12: not at rest", waiting)
        self.note_dropped()
        crowd, self.crowd = self.crowd, None
        heard = crowd.end()
        self.waited_ms += crowd.waited_ms
        self.counts["CONNACKs that refused subscribers"] += crowd.refused
        found = messages.read_events(events.read(load.events.read_bytes()))
        # A group may wait for the one before it.
        acknowledged_ms = copies.ACKNOWLEDGED_MS + 2 * self.options.hold_writes
        answered_ms = max((of["p99"] // 1_000 for of in report["latency_us"].values()), default=0) if self.LOGS_IN_KAFKA else 0
        round = copies.Round(
            found, load.name, load.seed, self.TOPICS, load.marked_ns, self.options.b8, acknowledged_ms, self.REREADS, self.has_dropped(), self.hurt_ns(), answered_ms
        )
        judge = copies.Judge(round, verdict)
        for each in heard:
            judge.subscriber(each)
        if not verdict.faults and not self.options.keep:
            shutil.rmtree(crowd.folder)
        into = report["verdict"]
        into["counts"] |= verdict.counts
        into["faults"] |= verdict.faults
        into["passed"] = into["passed"] and not verdict.faults

    def hurt_ns(self) -> list[tuple[int, int]] | None:
        """With several instances: in which spans faults could end connections."""
        return None

    def note_dropped(self) -> None:
        """Looks at what was dropped, before the sessions of the round are ended."""

    def log(self) -> str:
        """What the service has said."""
        return self.service.log_file.read_text(errors="replace")

    def waiting(self) -> int:
        """Messages that the service has for subscribers."""
        return watch.read(self.service.get("/metrics")[1])["stored_messages"]

    def has_dropped(self) -> bool:
        """Whether the service had no room for some message; one that was killed between two looks at its counters has said so in its log, if at all."""
        return self.watch.scrapes.most["deliveries_queue_full"] > 0 or bool(DROPPED.search(self.log()))

    def wait_still(self) -> str:
        """Until all are connected and have acknowledged all. What is left, in words, if it takes longer than --patience."""
        begin = time.monotonic()
        seen, since = -1, begin
        while True:
            state, now = self.crowd.state(), time.monotonic()
            stored = self.waiting()
            if state["copies"] != seen:
                seen, since = state["copies"], now
            is_still = state["connected"] == self.options.subscribers and not state["due"] and not stored and now - since >= STILL_S
            if is_still or now - begin > self.options.patience:
                self.still_s.append(round(now - begin, 1))
                return "" if is_still else f"after {self.options.patience} s: {state}, stored messages {stored}"
            time.sleep(0.25)

    def judge(self) -> None:
        super().judge()
        self.facts["subscribers"] = self.options.subscribers
        self.facts |= {words: self.counts[name] for name, words in COUNTED.items()}
        self.facts["s until all had all, after each round's end"] = self.still_s
        broken = [kind for kind in self.faults if kind.startswith("J")]
        self.checks["what was answered is with the subscribers, of QoS 2 once, in order (J1 to J7)"] = self.counts["copies expected"] > 0 and not broken
        self.checks["no message for them was dropped"] = not self.has_dropped()


class Machine(BrokersKilled, Subscribers):
    """As `subscribers`, with `[broker]`: each kill takes the data directory, too, and the next start is an empty machine. Messages since the last commit come again.
    With --brokers 3 a broker is killed with -9 now and then, and started again some cycles later."""

    name = "machine"
    plain = Subscribers.plain | {"real": False}
    short = plain | {"cycles": 3, "round": 3, "subscribers": 100}
    long = plain | {"cycles": 100, "round": 10, "brokers": 3, "subscribers": 2_000, "wide": 0, "rate": 5_000, "clients": 2_000, "qos": "0:1:1"}
    needs = ()
    # Room for all that waits: nothing may be dropped.
    MORE = MORE + '[broker]\nkafka = "main"\nsessions_bytes_max = "8GiB"\n'
    REREADS = True
    LOGS_IN_KAFKA = True

    @classmethod
    def made(cls, options, program: Path | None = None) -> Scenario:
        if options.spool == "stored":
            raise Skipped("machine takes the disk away, and what `stored` answers with it: it needs --spool none or replicated")
        return super().made(options, program)

    def kill(self) -> None:
        super().kill()
        shutil.rmtree(self.data, ignore_errors=True)

    def judge_round(self, load: Load, report: dict) -> None:
        super().judge_round(load, report)
        # The generator takes a service without a spool for one whose sessions end with it; and a publisher's QoS 2 is once while the process lives.
        into = report["verdict"]
        for allowed in ("S: session claimed that cannot be", "I2: doubled at QoS 2"):
            into["counts"][f"allowed: {allowed}"] = into["faults"].pop(allowed, {"count": 0})["count"]
        into["passed"] = not into["faults"]
