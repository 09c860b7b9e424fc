"""What the clients of `mixed` got, against what was published and answered. No I/O. docs/internals/FAULTS.md has the rules:

- **M1** what was answered is in Kafka, and with each kept session that had a SUBACK before it was sent; a connection of a session that is not kept has no gap.
- **M2** QoS 2 is one record, and is handed on once; nothing comes twice on a connection that was sent once.
- **M3** first copies of one publisher's messages of one QoS on one topic come in their order.
- **M4** of a share: what was answered comes to some member, at QoS 2 once, unless partitions move meanwhile.
- **M5** a new subscription gets the newest retained message that was answered, or a later one.
- **M6** the will of each client that ends without DISCONNECT comes, once, and of no other.
- **M7**, **M8** records of a source, and messages of a bridge, come at least once.
- **M10** nothing comes that was not sent or not asked for, and no session is gone but with its topic.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from copies import NEVER, Filter, Verdict

S = 1_000_000_000
# A client has received everything that was sent SETTLED_NS or longer ago, if it was connected meanwhile.
SETTLED_NS = 10 * S
# A message may still be on its way ON_ITS_WAY_NS after it was sent, when mqtt-sessions is deleted.
ON_ITS_WAY_NS = 10 * S
# A will is in the log WILL_LOGGED_NS after CONNACK at the latest, beside the time that Kafka takes (docs/CLUSTER.md: milliseconds).
WILL_LOGGED_NS = S
# A message of QoS 2 may have been on its way to a member of a share if the member's connection ended within UNDER_WAY_NS of its sending.
UNDER_WAY_NS = 30 * S


@dataclass(slots=True, eq=False)
class Message:
    """What was published, and what became of it at its publisher."""

    key: str
    publisher: str
    number: int
    topic: str
    qos: int
    sent_ns: int
    answered_ns: int = 0  # 0: it was not
    sends: int = 1
    origin: str = "client"  # or "source", "bridge"
    kept: bool = True  # its publisher's session

    @property
    def line(self) -> tuple[str, str, int]:
        return self.publisher, self.topic, self.qos


class Copy(NamedTuple):
    """A PUBLISH that was handed on."""

    message: Message
    connection: int
    came_ns: int
    qos: int


@dataclass
class Heard:
    """What one subscriber got."""

    name: str
    kept: bool
    filters: list[Filter]  # without $share
    share: str = ""
    remote: bool = False  # at the remote of the bridge
    copies: list[Copy] = field(default_factory=list)
    spans: list[list[int]] = field(default_factory=list)  # of its session: SUBACK, and the CONNACK that had it lost
    online: list[list[int]] = field(default_factory=list)  # its connections

    def asked(self, topic: str) -> int | None:
        return max((filter.qos for filter in self.filters if filter.matches(topic)), default=None)


@dataclass(slots=True)
class Will:
    """Of one connection."""

    message: Message
    client: str
    kept: bool
    granted_ns: int  # CONNACK
    ended_ns: int = NEVER
    left: bool = False  # by DISCONNECT


@dataclass
class Run:
    """All that is known of a run."""

    messages: dict[str, Message]
    hurt: list[tuple[int, int]]  # spans in which a fault could be felt
    deleted: list[tuple[int, int]] = field(default_factory=list)  # spans: mqtt-sessions was deleted, and all clients were back
    in_kafka: dict[str, Counter] | None = None  # by key: records in each topic of Kafka; None: not read

    def __post_init__(self) -> None:
        merged: list[list[int]] = []
        for begin, end in sorted(self.hurt):
            if merged and begin <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([begin, end])
        self.merged = merged
        self.begins = [begin for begin, _ in merged]

    def span_of(self, ns: int) -> list[int] | None:
        place = bisect_right(self.begins, ns) - 1
        return self.merged[place] if place >= 0 and ns <= self.merged[place][1] else None

    def is_hurt(self, ns: int) -> bool:
        return self.span_of(ns) is not None

    def excused(self, ns: int, heard: Heard | None = None) -> bool:
        """Whether a message that was sent then may have gone with `mqtt-sessions`: of this subscriber also what waited for it."""
        for deleted, back in self.deleted:
            span = self.span_of(deleted)
            begin = min(deleted, span[0] if span else deleted)
            if heard is not None and heard.kept:
                back = max([back, *(since for since, _ in heard.spans if since > deleted)][:2])
                begin = min(begin, self.settled(heard, begin))
            if begin - ON_ITS_WAY_NS <= ns <= back:
                return True
        return False

    @staticmethod
    def settled(heard: Heard, before: int) -> int:
        """Until when a subscriber had been connected for long, at the latest `before`."""
        last = [min(down, before) for up, down in heard.online if min(down, before) - up >= SETTLED_NS]
        return max(last, default=0)


class Judge:
    """See the module."""

    def __init__(self, run: Run, verdict: Verdict | None = None):
        self.run, self.verdict = run, verdict or Verdict()
        self.counts = self.verdict.counts
        self.waits: list[tuple[int, int]] | None = None
        self.by_topic: dict[str, list[Message]] = defaultdict(list)
        for message in run.messages.values():
            self.by_topic[message.topic].append(message)
        self.counts["published"] = len(run.messages)
        self.counts["answered"] = sum(message.answered_ns > 0 for message in run.messages.values())

    def allow(self, name: str) -> None:
        self.counts[f"allowed: {name}"] += 1

    # ---- Kafka --------------------------------------------------------------------------------------------------------------------

    def kafka(self) -> None:
        """M1 and M2 of the topics; of messages that clients of the instances have published."""
        for message in self.run.messages.values():
            if message.origin != "client":
                continue
            count = sum(self.run.in_kafka.get(message.key, Counter()).values())
            if not count and message.answered_ns:
                if message.qos == 2 and self.run.excused(message.sent_ns):
                    self.allow("answered at QoS 2, gone with mqtt-sessions before it was in its topic")
                else:
                    self.verdict.fault("M1: answered and not in Kafka", self.words(message))
            if message.qos == 2 and count > 1:
                if self.run.excused(message.sent_ns):
                    self.allow("QoS 2 twice in Kafka, mqtt-sessions deleted")
                else:
                    self.counts["doubled at QoS 2"] += 1
                    self.verdict.fault("M2: QoS 2 twice in Kafka", f"{self.words(message)}: {dict(self.run.in_kafka[message.key])}")

    # ---- subscribers --------------------------------------------------------------------------------------------------------------

    def subscriber(self, heard: Heard) -> None:
        self.counts["copies received"] += len(heard.copies)
        for copy in heard.copies:
            if heard.asked(copy.message.topic) is None:
                self.verdict.fault("M10: not asked for", f"{heard.name}: {self.words(copy.message)}")
        if heard.share:
            return
        if heard.kept:
            self.owed(heard)
            self.once(heard)
            self.order(heard, heard.copies)
        else:
            by: dict[int, list[Copy]] = defaultdict(list)
            for copy in heard.copies:
                by[copy.connection].append(copy)
            for copies in by.values():
                self.order(heard, copies)
                self.gaps(heard, copies)
        self.twice_on_connection(heard)

    def kind(self, message: Message, heard: Heard) -> str:
        if message.origin == "source":
            return "M7: record of a source missing"
        if message.origin == "bridge" or heard.remote:
            return "M8: missing over the bridge"
        return f"M1: missing, QoS {message.qos}"

    def expected(self, heard: Heard):
        """What is owed to a kept session."""
        for topic, messages in self.by_topic.items():
            if heard.asked(topic):
                for message in messages:
                    if message.answered_ns and any(since <= message.sent_ns < lost for since, lost in heard.spans):
                        yield message

    def owed(self, heard: Heard) -> None:
        got = {copy.message.key for copy in heard.copies}
        for message in self.expected(heard):
            self.counts["copies expected"] += 1
            if message.key in got:
                continue
            if self.run.excused(message.sent_ns, heard):
                self.allow("missing, mqtt-sessions deleted")
            else:
                self.counts["missing"] += 1
                self.verdict.fault(self.kind(message, heard), f"{heard.name}: {self.words(message)}")

    def once(self, heard: Heard) -> None:
        """M2."""
        times = Counter(copy.message.key for copy in heard.copies if copy.qos == 2 and copy.message.origin != "will")
        came = {copy.message.key: copy.came_ns for copy in heard.copies}
        for key, count in times.items():
            if count == 1:
                continue
            message = self.run.messages[key]
            if self.run.excused(message.sent_ns, heard) or self.run.excused(came[key]):
                self.allow("QoS 2 again, mqtt-sessions deleted")
            elif message.origin == "source" and (self.run.in_kafka or {}).get(key, Counter())["records"] >= count:
                self.allow("record that its producer wrote twice")
            elif message.origin == "source" and self.run.is_hurt(came[key]):
                self.allow("record of a source again, in a fault")
            else:
                self.counts["doubled at QoS 2"] += 1
                self.verdict.fault("M2: doubled at QoS 2", f"{heard.name}: {self.words(message)}, {count} times")

    def order(self, heard: Heard, copies: list[Copy]) -> None:
        """M3."""
        seen: set[str] = set()
        newest: dict[tuple, Message] = {}
        for copy in copies:
            message = copy.message
            if message.key in seen:
                continue
            seen.add(message.key)
            before = newest.get(message.line)
            if before is None or before.number < message.number:
                newest[message.line] = message
                continue
            words = f"{heard.name}: {self.words(message)} behind message {before.number}"
            if not message.answered_ns:
                self.allow("late, not answered when its connection ended")  # docs/CLUSTER.md: batches on their way when an instance froze or lost the slot
            elif message.origin == "bridge" or heard.remote:
                self.allow("late over the bridge, where order is not promised")
            elif message.qos == 1 and message.sends > 1 and not self.had_subscribed(heard, message):
                self.allow("late, of a later sending, to who had not subscribed before the first")
            elif self.run.excused(message.sent_ns, heard):
                self.allow("late, mqtt-sessions deleted")
            elif self.topics(message) != self.topics(before):
                self.allow("late over a change of routes")  # docs/CLUSTER.md: two topics of Kafka are read at the same time
            else:
                self.counts["out of order"] += 1
                self.verdict.fault("M3: order", words)

    @staticmethod
    def had_subscribed(heard: Heard, message: Message) -> bool:
        return heard.kept and any(since <= message.sent_ns < lost for since, lost in heard.spans)

    def topics(self, message: Message) -> set[str]:
        return set((self.run.in_kafka or {}).get(message.key, ()))

    def gaps(self, heard: Heard, copies: list[Copy]) -> None:
        """Of one connection of a session that is not kept: between its first and its last message of a line it has all that were answered."""
        lines: dict[tuple, list[Message]] = defaultdict(list)
        for copy in copies:
            lines[copy.message.line].append(copy.message)
        for line, got in lines.items():
            have, first, last = {message.number for message in got}, min(message.number for message in got), max(message.number for message in got)
            for message in self.by_topic[line[1]]:
                if message.line == line and first < message.number < last and message.answered_ns:
                    self.counts["copies expected"] += 1
                    if message.number in have:
                        continue
                    if self.run.excused(message.sent_ns):
                        self.allow("gap, mqtt-sessions deleted")
                    else:
                        self.counts["missing"] += 1
                        self.verdict.fault("M1: gap on a connection", f"{heard.name}: {self.words(message)}, between {first} and {last}")

    def twice_on_connection(self, heard: Heard) -> None:
        seen: set[tuple[int, str]] = set()
        for copy in heard.copies:
            place = (copy.connection, copy.message.key)
            if place in seen and copy.message.sends == 1 and copy.message.origin == "client" and not heard.remote:
                self.counts["twice on a connection"] += 1
                if self.run.excused(copy.came_ns):
                    self.allow("again on a connection, mqtt-sessions deleted")
                else:
                    self.verdict.fault("M2: again on its connection", f"{heard.name}: {self.words(copy.message)}")
            seen.add(place)

    # ---- shares, retained messages, wills -----------------------------------------------------------------------------------------

    def share(self, members: list[Heard]) -> None:
        """M4."""
        first = members[0]
        since = min((span[0] for member in members for span in member.spans), default=NEVER)
        times: Counter[str] = Counter()
        came: dict[str, int] = {}
        for member in members:
            for copy in member.copies:
                times[copy.message.key] += 1
                came[copy.message.key] = max(came.get(copy.message.key, 0), copy.came_ns)
        ends = [down for member in members if not member.kept for _, down in member.online]
        for topic, messages in self.by_topic.items():
            asked = first.asked(topic)
            if not asked:
                continue
            for message in messages:
                is_taken_along = any(message.sent_ns <= end <= message.sent_ns + UNDER_WAY_NS for end in ends)
                self.of_share(first, message, min(asked, message.qos), times[message.key], (since, came.get(message.key, 0), is_taken_along))

    def of_share(self, member: Heard, message: Message, qos: int, count: int, when: tuple[int, int, bool]) -> None:
        since, came_ns, is_taken_along = when
        words = f"{member.share}: {self.words(message)}"
        if message.answered_ns and message.sent_ns >= since:
            self.counts["copies expected"] += 1
            if not count and self.run.excused(message.sent_ns):
                self.allow("missing at a share, mqtt-sessions deleted")
            elif not count and qos == 2 and is_taken_along:
                self.allow("QoS 2 at a share, gone with the session of a member")  # docs/SUBSCRIPTIONS.md
            elif not count:
                self.counts["missing"] += 1
                self.verdict.fault("M4: missing at a share", words)
        if qos == 2 and count > 1:
            if self.run.is_hurt(came_ns):
                self.allow("QoS 2 again at a share, partitions moved")
            else:
                self.counts["doubled at QoS 2"] += 1
                self.verdict.fault("M4: QoS 2 again at a share", f"{words}, {count} times")

    def retained(self, topic: str, got: Message | None, where: str, before_ns: int = NEVER) -> None:
        """M5: what a new subscription got at rest."""
        self.counts["retained looked at"] += 1
        answered = [message for message in self.by_topic[topic] if message.answered_ns and message.sent_ns < before_ns]
        newest = max(answered, key=lambda message: message.number, default=None)
        if newest is None or (got is not None and got.number >= newest.number):
            return
        if newest.qos == 2 and self.run.excused(newest.sent_ns):
            return self.allow("retained, gone with mqtt-sessions")
        self.counts["retained wrong"] += 1
        self.verdict.fault("M5: retained is not the newest", f"{where}: {topic} has {got and got.number}, answered was {newest.number}")

    def wills(self, wills: list[Will], heard: Heard) -> None:
        """M6."""
        times = Counter(copy.message.key for copy in heard.copies)
        came = {copy.message.key: copy.came_ns for copy in heard.copies}
        for will in wills:
            count, ended, text = times[will.message.key], min(will.ended_ns, NEVER), f"of {will.client}, {will.message.key}"
            if ended == NEVER:
                continue
            if will.left:
                self.counts["wills taken back"] += 1
                if count and not self.run.is_hurt(ended) and not self.run.is_hurt(will.granted_ns):
                    self.verdict.fault("M6: will of a client that has left", text)
                elif count:
                    self.allow("will of a client that left in a fault")
                continue
            self.counts["wills expected"] += 1
            if not count:
                self.will_missing(will, heard, text)
            elif count > 1 and self.run.is_hurt(came[will.message.key]):
                self.allow("will again, in a fault")
            elif count > 1:
                self.verdict.fault("M6: will twice", f"{text}, {count} times")

    def will_missing(self, will: Will, heard: Heard, text: str) -> None:
        if self.run.excused(will.ended_ns, heard) or self.run.excused(will.granted_ns):
            self.allow("will missing, mqtt-sessions deleted")
        elif not will.kept and (will.ended_ns - will.granted_ns < WILL_LOGGED_NS + self.kafka_takes(will.granted_ns) or self.run.is_hurt(will.granted_ns)):
            self.allow("will missing, of a session that was not kept and had just begun")
        else:
            self.counts["wills missing"] += 1
            self.verdict.fault("M6: will missing", f"{text}, welcomed at {will.granted_ns / S:.1f} s, ended at {will.ended_ns / S:.1f} s, Kafka took {self.kafka_takes(will.granted_ns) / S:.1f} s")

    def kafka_takes(self, ns: int) -> int:
        """The longest that a publisher at QoS 2 has waited for an answer about then."""
        if self.waits is None:
            self.waits = sorted((message.sent_ns, message.answered_ns) for message in self.run.messages.values() if message.qos == 2 and message.answered_ns and message.origin == "client")
        begin, end = bisect_right(self.waits, (ns - 3 * S, 0)), bisect_right(self.waits, (ns + S, 0))
        return max((answered - sent for sent, answered in self.waits[begin:end]), default=0)

    @staticmethod
    def words(message: Message) -> str:
        answered = f"answered after {(message.answered_ns - message.sent_ns) / S:.1f} s" if message.answered_ns else "not answered"
        return f"{message.key} at QoS {message.qos} on {message.topic}, {answered}, sent {message.sends} times at {message.sent_ns / S:.1f} s"
