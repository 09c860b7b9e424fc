"""What kept subscribers got, against what was published and answered. No I/O. docs/internals/FAULTS.md has the rules:

- **J1** what was answered to its publisher (PUBACK, PUBREC) is there for each session that had a SUBACK for it before it was sent.
- **J2** QoS 2 is handed on once, also if its publisher sent it again because a kill took the answer (rule B8, unless that is only counted).
- **J3** first copies of one publisher's messages on one topic come in their order, for each QoS; so do all copies of one connection. Where the service has
  counted messages as dropped for want of room, the first copy of one may be of a later sending: then that is its place in the order.
- **J4** never more open than Receive Maximum, a packet identifier for one message at a time, DUP on what is sent again, nothing twice on a connection,
  nothing of QoS 1 long after it was acknowledged.
- **J8** with several instances a message of QoS 1 that its publisher sent once comes again on a later connection only: with DUP, or in a span in which a
  fault could end connections. What had been acknowledged for long comes again in such a span only.
- **J5** nothing comes that no filter asks for, or that was not sent; **J7** at the lower QoS, with the identifiers of all filters that match.
- **S** a session is there as long as it is promised.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Iterable, NamedTuple

from messages import Key, Run, topic_number

EXAMPLES_MAX = 10
# An acknowledgement that is so old when the connection ends is on the disk, if writes are not held: right after a start, with all clients
# coming back at once, it may not have been read for more than a second.
ACKNOWLEDGED_MS = 2_500
# In a span of a fault: what a client says may wait for a frozen instance until the client gives up, and what an instance writes for another leader in Kafka.
ACKNOWLEDGED_HURT_MS = 20_000
NEVER = 1 << 63


class Filter(NamedTuple):
    """A subscription."""

    text: str
    qos: int
    identifier: int = 0  # 0: none
    since_ns: int = 0  # when its SUBACK was there, on this machine's monotonic clock; NEVER: it was not

    def matches(self, topic: str) -> bool:
        wanted, levels = self.text.split("/"), topic.split("/")
        if wanted[-1] == "#":
            wanted.pop()
            return len(levels) >= len(wanted) and self._fits(wanted, levels)
        return len(levels) == len(wanted) and self._fits(wanted, levels)

    @staticmethod
    def _fits(wanted: list[str], levels: list[str]) -> bool:
        return all(want in ("+", level) for want, level in zip(wanted, levels))


class Copy(NamedTuple):
    """A PUBLISH that came."""

    connection: int  # counted by its client; -1: not known
    key: Key
    topic: str
    qos: int
    dup: bool = False
    acknowledged_ms: int = -1  # QoS 1: it had been acknowledged so long before that connection ended; -1: it had not
    came_ns: int = NEVER  # on this machine's monotonic clock; NEVER: not known


@dataclass
class Heard:
    """What one subscriber got."""

    name: str
    filters: list[Filter]
    copies: list[Copy] = field(default_factory=list)  # in their order
    handed_on: Counter[Key] = field(default_factory=Counter)  # of QoS 2
    faults: list[tuple[str, str]] = field(default_factory=list)  # what its client found itself, by kind


class Round(NamedTuple):
    """What was published, and how the generator chose."""

    run: Run
    name: str
    seed: int
    topics: int
    orders_ns: list[int]  # when each of the generator's marks was ordered, on this machine's monotonic clock
    b8: bool = True  # judged
    acknowledged_ms: int = ACKNOWLEDGED_MS
    rereads: bool = False  # after a kill messages come again from Kafka, at QoS 2, too: counted
    dropped: bool = False  # the service has counted messages for subscribers that it had no room for
    hurt: list[tuple[int, int]] | None = None  # several instances: spans of this machine's monotonic clock in which a fault could end connections
    answered_ms: int = 0  # how long nearly all publishers waited at most for an answer: as long an end of a copy may wait for Kafka

    def topic(self, key: Key) -> str:
        return f"flow/{self.name}/{key.client}/{topic_number(self.seed, self.topics, key)}"

    def since(self, filter: Filter) -> int | None:
        """From when on messages must reach a filter, on the generator's clock. `None`: never."""
        orders = zip(self.orders_ns, self.run.marks_ns, strict=True)
        return next((mark for ordered, mark in orders if ordered >= filter.since_ns), None)

    def is_hurt(self, ns: int) -> bool:
        """Whether a fault could have ended a connection shortly before."""
        return any(begin <= ns <= end + self.answered_ms * 1_000_000 for begin, end in self.hurt or ())

    def generators_ns(self, ns: int) -> int:
        """A time of this machine's monotonic clock on the generator's, or a little later."""
        orders = zip(self.orders_ns, self.run.marks_ns, strict=True)
        return ns + min((mark - ordered for ordered, mark in orders), default=0)


class Verdict:
    """Counts, and faults with examples by kind."""

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.faults: dict[str, dict] = {}

    def fault(self, kind: str, text: str) -> None:
        found = self.faults.setdefault(kind, {"count": 0, "examples": []})
        found["count"] += 1
        if len(found["examples"]) < EXAMPLES_MAX:
            found["examples"].append(text)


class Lines:
    """First copies of one subscriber, by publisher, topic and QoS: the newest number, and which sending of its message the last one can be of."""

    def __init__(self, round: Round):
        self.round = round
        self.newest: dict[tuple, tuple[int, int]] = {}

    def take(self, line: tuple, copy: Copy) -> tuple[int, bool, bool]:
        """The next one: the newest number before it, whether this one's is behind that, and whether the order of all sendings allows it. It does where the
        service had no room for an earlier sending, and there was another one, after those of what has come before."""
        (newest, place), until_ns = self.newest.get(line, (-1, -1)), self.round.generators_ns(copy.came_ns)
        sendings = self.round.run.messages[copy.key].sendings
        later = next((sending.place for sending in sendings if sending.place > place and sending.ns <= until_ns), None)
        if later is not None:
            place = later
        elif sendings:
            place = max(place, sendings[0].place)
        self.newest[line] = (max(newest, copy.key.number), place)
        return newest, copy.key.number <= newest, self.round.dropped and later is not None


class Judge:
    """One subscriber after the other."""

    def __init__(self, round: Round, verdict: Verdict):
        self.round, self.verdict = round, verdict
        self.by_topic: dict[str, list[Key]] = defaultdict(list)
        self.topics: dict[Key, str] = {}
        for key in sorted(round.run.messages):
            self.topics[key] = round.topic(key)
            self.by_topic[self.topics[key]].append(key)
        answered = sum(message.answered for message in round.run.messages.values())
        self.verdict.counts.update({"messages published": len(round.run.messages), "messages answered": answered})

    def subscriber(self, heard: Heard) -> None:
        self.verdict.counts["copies received"] += len(heard.copies)
        for kind, text in heard.faults:
            self.verdict.fault(kind, f"{heard.name}: {text}")
        self.owed(heard, {copy.key for copy in heard.copies if copy.qos < 2} | set(heard.handed_on))
        self.handed_on_once(heard)
        seen: set[Key] = set()
        first = Lines(self.round)
        here: dict[tuple, int] = {}  # newest number by connection, publisher, topic and QoS
        last: dict[Key, int] = {}  # the connection of a message's last copy
        for copy in heard.copies:
            self.copy(heard, copy, seen, first, here)
            if self.round.hurt is not None:
                self.comes_again(heard, copy, last)

    def is_owed(self, heard: Heard, topic: str, sent_ns: int) -> bool:
        """Whether a message was sent after a filter of this subscriber that matches had its SUBACK."""
        sinces = (self.round.since(filter) for filter in heard.filters if filter.matches(topic))
        return any(since is not None and since <= sent_ns for since in sinces)

    def topics_of(self, heard: Heard) -> Iterable[tuple[str, list[Key]]]:
        """Topics that its filters may match, with their messages."""
        texts = {filter.text for filter in heard.filters}
        if any("+" in text or "#" in text for text in texts):
            return self.by_topic.items()
        return [(text, self.by_topic[text]) for text in sorted(texts) if text in self.by_topic]

    def owed(self, heard: Heard, got: set[Key]) -> None:
        """J1."""
        counts = self.verdict.counts
        for topic, keys in self.topics_of(heard):
            sinces = [self.round.since(filter) for filter in heard.filters if filter.matches(topic)]
            since = min((since for since in sinces if since is not None), default=None)
            if since is None:
                continue
            for key in keys:
                message = self.round.run.messages[key]
                if message.qos == 0 or message.first_ns < since:
                    continue
                counts["copies of unanswered messages"] += key in got and not message.answered
                if not message.answered:
                    continue
                counts["copies expected"] += 1
                if key not in got:
                    counts["copies missing"] += 1
                    self.verdict.fault(f"J1: missing, published at QoS {message.qos}", f"{heard.name}: {self.words(key)} on {topic}, sent {message.sends} times")

    def handed_on_once(self, heard: Heard) -> None:
        """J2."""
        for key, count in heard.handed_on.items():
            message = self.round.run.messages.get(key)
            if count < 2 or message is None:
                continue
            if not self.round.b8 and count <= 1 + message.crossed:
                self.verdict.counts["QoS 2 published again across a kill (B8)"] += count - 1
                continue
            if self.round.rereads:
                self.verdict.counts["copies again, from Kafka"] += count - 1
                continue
            self.verdict.counts["copies doubled at QoS 2"] += 1
            self.verdict.fault("J2: doubled at QoS 2", f"{heard.name}: {self.words(key)} handed on {count} times, sent {message.sends} times")

    def copy(self, heard: Heard, copy: Copy, seen: set[Key], first: Lines, here: dict) -> None:
        """J3, J4, J5 and J7 of one copy."""
        key, message = copy.key, self.round.run.messages.get(copy.key)
        text = f"{heard.name}: {self.words(key)} at QoS {copy.qos}{', DUP' if copy.dup else ''} on connection {copy.connection}"
        if message is None or copy.topic != self.topics[key]:
            return self.verdict.fault("J5: never sent", f"{text}: on {copy.topic}")
        asked = max((filter.qos for filter in heard.filters if filter.matches(copy.topic)), default=None)
        if asked is None:
            return self.verdict.fault("J5: not asked for", f"{text}: on {copy.topic}")
        if copy.qos != min(asked, message.qos):
            self.verdict.fault("J7: another QoS", f"{text}: published at {message.qos}, asked for at {asked}")
        counts = self.verdict.counts
        line = (key.client, copy.topic, message.qos)
        if key in seen and self.round.rereads:
            counts["copies again, from Kafka"] += 1
            return None
        if key in seen:
            counts["copies again, with DUP" if copy.dup else "copies again, without DUP"] += 1
            if message.sends == 1 and copy.connection >= 0 and not copy.dup and not self.round.is_hurt(copy.came_ns):
                self.verdict.fault("J4: sent again without DUP", text)
        else:
            seen.add(key)
            if (self.round.rereads or self.round.hurt is not None) and not self.is_owed(heard, copy.topic, message.first_ns):
                # What was published before its SUBSCRIBE and is read again comes to who has subscribed by then.
                counts["copies from before SUBSCRIBE, from Kafka"] += 1
                return None
            self.comes_first(line, copy, first, text)
        if message.sends == 1 and copy.connection >= 0:
            self.ascends("J3: order on a connection", (copy.connection, *line), key, here, text)
            bound_ms = ACKNOWLEDGED_HURT_MS if self.round.is_hurt(copy.came_ns) else self.round.acknowledged_ms
            if copy.acknowledged_ms > bound_ms + self.round.answered_ms:
                self.verdict.fault("J4: sent again long after it was acknowledged", f"{text}: {copy.acknowledged_ms} ms before its connection ended")

    def comes_again(self, heard: Heard, copy: Copy, last: dict[Key, int]) -> None:
        """J8."""
        message, before = self.round.run.messages.get(copy.key), last.get(copy.key)
        last[copy.key] = copy.connection
        if before is None or message is None or message.sends > 1 or copy.qos != 1:
            return
        self.verdict.counts["copies again, of a message sent once"] += 1
        if before == copy.connection:
            self.verdict.fault("J8: again on its connection", f"{heard.name}: {self.words(copy.key)} on connection {before}")

    def comes_first(self, line: tuple, copy: Copy, first: Lines, text: str) -> None:
        """J3 of a message's first copy."""
        before, is_late, is_again = first.take(line, copy)
        if is_late and is_again:
            self.verdict.counts["copies late, of a later sending"] += 1
        elif is_late:
            self.verdict.counts["copies out of order"] += 1
            self.verdict.fault("J3: order", f"{text}: behind message {before}")

    def ascends(self, kind: str, line: tuple, key: Key, newest: dict, text: str) -> None:
        before = newest.get(line, -1)
        if key.number <= before:
            self.verdict.counts["copies out of order"] += 1
            self.verdict.fault(kind, f"{text}: behind message {before}")
        newest[line] = max(before, key.number)

    @staticmethod
    def words(key: Key) -> str:
        return f"client {key.client} message {key.number}"
